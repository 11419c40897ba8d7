"""The door to everything of staff: a token of ours, of somebody who is in the directory at this moment."""

from collections.abc import Iterator
from pathlib import Path

import jwt
import pytest
import time_machine

from amana.access.roles import PERMISSIONS, Actor, Permission
from amana.api.problems import MEDIA_TYPE
from amana.directory.models import DirectoryFile
from amana.ops.demo import DEPLOYMENT
from amana.protocol.assertion import sign_assertion
from amana.protocol.encoding import b64, random_id
from tests.support.organisation import Organisation, Person, organisation_in


@pytest.fixture(scope="module")
def organisation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Organisation]:
    with organisation_in(tmp_path_factory.mktemp("organisation")) as made:
        yield made


@pytest.fixture
def person(organisation: Organisation) -> Person:
    return organisation.as_person(organisation.desks["chemical"][0]).sign_in()


def assert_not_signed_in(answer: object) -> None:
    assert answer.status_code == 401  # type: ignore[attr-defined]
    assert answer.content_type == MEDIA_TYPE  # type: ignore[attr-defined]
    assert answer.headers["WWW-Authenticate"] == "Bearer"  # type: ignore[attr-defined]
    assert answer.get_json()["type"] == "not-signed-in"  # type: ignore[attr-defined]


def forged(organisation: Organisation, key: bytes | None = None, **changes: object) -> str:
    """Make a token as the server does, but for the changes."""
    secret = b64(key or organisation.services.secrets.tokens)
    with organisation.app.app_context():
        claims = jwt.decode(
            organisation.as_person(organisation.desks["chemical"][0])
            .sign_in()
            .headers["Authorization"]
            .removeprefix("Bearer "),
            options={"verify_signature": False},
        )
    return jwt.encode({**claims, **changes}, secret, algorithm="HS256")


def test_a_token_lets_its_person_in(person: Person) -> None:
    assert person.get("/v1/cases").status_code == 200


def test_a_token_carries_an_id_and_nothing_of_its_person(person: Person) -> None:
    token = person.headers["Authorization"].removeprefix("Bearer ")
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims["sub"] == person.keys.id
    assert set(claims) <= {"sub", "iat", "nbf", "exp", "jti", "type", "fresh", "csrf"}
    assert claims["exp"] - claims["iat"] == 600
    assert jwt.get_unverified_header(token)["typ"] == "at+jwt"


def test_every_faulty_token_gets_the_same_answer(organisation: Organisation) -> None:
    keys = organisation.desks["chemical"][0]
    assertion = sign_assertion(keys.signing, keys.id, DEPLOYMENT, organisation.clock())
    tokens = {
        "none": "",
        "not a token": "Bearer rubbish",
        "other scheme": "Basic cmVhZGVyOnNlY3JldA==",
        "an assertion": f"Bearer {assertion}",
        "of another server": f"Bearer {forged(organisation, bytes(range(32)))}",
        "unsigned": f"Bearer {jwt.encode({'sub': keys.id}, None, algorithm='none')}",
        "of nobody": f"Bearer {forged(organisation, sub=random_id())}",
        "of an odd person": f"Bearer {forged(organisation, sub=7)}",
        "refreshing": f"Bearer {forged(organisation, type='refresh')}",
    }
    client = organisation.app.test_client()
    bodies = set()
    for token in tokens.values():
        answer = client.get("/v1/cases", headers={"Authorization": token} if token else {})
        assert_not_signed_in(answer)
        bodies.add(answer.get_data())
    assert len(bodies) == 1


def test_a_refused_sign_in_tells_no_more_than_a_missing_token(organisation: Organisation) -> None:
    anyone = organisation.as_person(organisation.desks["chemical"][0])
    answer = anyone.offer("rubbish")
    assert_not_signed_in(answer)
    assert answer.get_data() == anyone.get("/v1/cases").get_data()


def test_a_token_is_over_after_ten_minutes(person: Person) -> None:
    with time_machine.travel(person.organisation.clock().timestamp() + 595, tick=False):
        assert person.get("/v1/cases").status_code == 200
    with time_machine.travel(person.organisation.clock().timestamp() + 660, tick=False):
        assert_not_signed_in(person.get("/v1/cases"))


def test_a_token_ends_with_its_person(tmp_path: Path) -> None:
    with organisation_in(tmp_path) as organisation:
        person = organisation.as_person(organisation.desks["general"][1]).sign_in()
        assert person.get("/v1/cases").status_code == 200
        with organisation.services.database.transaction() as session:
            name = "versions/1/desks/general.json"
            file = session.get(DirectoryFile, name)
            assert file is not None
            others = organisation.desks["general"][:1]
            kept = [one for one in _readers(file.content) if one["id"] == others[0].id]
            file.content = _desk(kept)
        organisation.services.caches.clear()
        assert_not_signed_in(person.get("/v1/cases"))


def _readers(content: bytes) -> list[dict[str, object]]:
    import json

    readers: list[dict[str, object]] = json.loads(content)["readers"]
    return readers


def _desk(readers: list[dict[str, object]]) -> bytes:
    from amana.protocol.encoding import canonical

    return canonical({"v": 1, "desk": "general", "readers": readers})


def test_an_administrator_signs_in_and_may_neither_list_nor_open(
    organisation: Organisation,
) -> None:
    made = organisation.send()
    administrator = organisation.as_person(organisation.administrator).sign_in()
    for answer in (administrator.get("/v1/cases"), administrator.open(made.case)):
        assert answer.status_code == 403
        assert answer.get_json()["type"] == "not-allowed"


def test_every_permission_is_held_by_somebody_who_reads_and_by_no_administrator() -> None:
    assert set(PERMISSIONS) == set(Permission)
    for permission, roles in PERMISSIONS.items():
        assert roles
        nobody = Actor("x", frozenset({"administrator", "auditor", "custodian"}), frozenset(), "")
        assert not nobody.may(permission)
