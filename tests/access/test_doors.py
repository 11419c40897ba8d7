"""The door to everything of staff: a token of ours, of somebody who is in the directory at this moment."""

from base64 import urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
import sqlalchemy as sa
import time_machine

from amana.access import models
from amana.access.roles import PERMISSIONS, Actor, Permission
from amana.api.problems import MEDIA_TYPE
from amana.api.secrets import load_secrets, rotate_tokens
from amana.app import create_app
from amana.client.keyfile import PersonKeys
from amana.directory.models import DirectoryFile
from amana.protocol.directory import sign_intake_key
from amana.protocol.dpop import make_proof
from amana.protocol.encoding import random_id
from amana.protocol.signing import SigningKey
from tests.support.officers import Officers
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
    assert answer.headers["WWW-Authenticate"] == 'DPoP algs="EdDSA"'  # type: ignore[attr-defined]
    assert answer.get_json()["type"] == "not-signed-in"  # type: ignore[attr-defined]


def forged(
    person: Person,
    key: bytes | None = None,
    header: dict[str, str] | None = None,
    **changes: object,
) -> str:
    """Make a token as the server does, but for the changes."""
    name, secret = person.organisation.services.secrets.tokens.current()
    claims = jwt.decode(person.token, options={"verify_signature": False})
    headers = {"typ": "at+jwt", "kid": name, **(header or {})}
    return jwt.encode({**claims, **changes}, key or secret, algorithm="HS256", headers=headers)


def nested() -> str:
    return f"{urlsafe_b64encode(b'[' * 1500).decode()}.e30.x"


def test_a_token_lets_its_person_in(person: Person) -> None:
    assert person.get("/v1/cases").status_code == 200


def test_a_token_carries_an_id_and_nothing_of_its_person(person: Person) -> None:
    claims = jwt.decode(person.token, options={"verify_signature": False})
    assert claims["sub"] == person.keys.id
    assert set(claims) == {"sub", "iat", "nbf", "exp", "jti", "type", "fresh", "cnf"}
    assert claims["exp"] - claims["iat"] == 600
    assert claims["cnf"] == {"jkt": person.jkt}
    assert jwt.get_unverified_header(person.token)["typ"] == "at+jwt"


def test_every_faulty_token_gets_the_same_answer(person: Person) -> None:
    proof = person.proof("GET", "/v1/cases", person.token)
    tokens = {
        "not a token": "DPoP rubbish",
        "other scheme": f"Bearer {person.token}",
        "two schemes": f"DPoP {person.token}, Basic cmVhZGVyOnNlY3JldA==",
        "an assertion": f"DPoP {person.assertion()}",
        "a proof": f"DPoP {proof}",
        "of another server": f"DPoP {forged(person, bytes(range(32)))}",
        "under a key unknown here": f"DPoP {forged(person, header={'kid': '00000000'})}",
        "of another kind": f"DPoP {forged(person, header={'typ': 'JWT'})}",
        "unsigned": f"DPoP {jwt.encode({'sub': person.keys.id}, None, algorithm='none')}",
        "of nobody": f"DPoP {forged(person, sub=random_id())}",
        "of an odd person": f"DPoP {forged(person, sub=7)}",
        "of another session": f"DPoP {forged(person, jti=random_id())}",
        "bound to another key": f"DPoP {forged(person, cnf={'jkt': 'A' * 43})}",
        "bound to no key": f"DPoP {forged(person, cnf=None)}",
        "nested beyond the stack": f"DPoP {nested()}",
        "refreshing": f"DPoP {forged(person, type='refresh')}",
    }
    bodies = set()
    for token in tokens.values():
        given = token.removeprefix("DPoP ")
        headers = {"Authorization": token, "DPoP": person.proof("GET", "/v1/cases", given)}
        answer = person.client.get("/v1/cases", headers=headers)
        assert_not_signed_in(answer)
        bodies.add(answer.get_data())
    answer = person.client.get("/v1/cases")
    assert_not_signed_in(answer)
    assert bodies == {answer.get_data()}
    assert (
        person.client.get("/v1/cases", headers=person.signed("GET", "/v1/cases")).status_code == 200
    )


def test_the_forger_of_these_tests_makes_good_tokens(person: Person) -> None:
    token = forged(person)
    headers = {
        "Authorization": f"DPoP {token}",
        "DPoP": person.proof("GET", "/v1/cases", token),
    }
    assert person.client.get("/v1/cases", headers=headers).status_code == 200


def test_a_stolen_token_opens_nothing_without_a_proof_for_this_request(person: Person) -> None:
    thief = person.organisation.as_person(person.keys)
    other = person.organisation.as_person(person.organisation.desks["chemical"][1]).sign_in()
    late = person.organisation.clock() + timedelta(seconds=61)
    early = person.organisation.clock() - timedelta(seconds=61)
    address, token = "http://localhost/v1/cases", person.token
    now = person.organisation.clock()
    proofs = {
        "none": None,
        "by another key": thief.proof("GET", "/v1/cases", token),
        "for another method": person.proof("POST", "/v1/cases", token),
        "for another address": person.proof("GET", "/v1/cases/x", token),
        "for another host": make_proof(person.dpop, "GET", "http://evil/v1/cases", now, token),
        "for another token": person.proof("GET", "/v1/cases", other.token),
        "for no token": person.proof("GET", "/v1/cases"),
        "old": make_proof(person.dpop, "GET", address, early, token),
        "from the future": make_proof(person.dpop, "GET", address, late, token),
        "too long": "a" * 2049,
        "nested beyond the stack": nested(),
    }
    for name, proof in proofs.items():
        headers = {"Authorization": f"DPoP {token}", **({"DPoP": proof} if proof else {})}
        assert_not_signed_in(person.client.get("/v1/cases", headers=headers)), name
    good = [
        ("Authorization", f"DPoP {token}"),
        *[("DPoP", person.proof("GET", "/v1/cases", token))] * 2,
    ]
    assert_not_signed_in(person.client.get("/v1/cases", headers=good))


def test_a_proof_names_the_path_that_a_proxy_took_off(organisation: Organisation) -> None:
    config = replace(organisation.services.config, base_path="/desk")
    app = create_app(replace(organisation.services, config=config))
    person = organisation.as_person(organisation.desks["chemical"][0])
    client, now = app.test_client(), organisation.clock()

    def proof(method: str, url: str, token: str | None = None) -> str:
        return make_proof(person.dpop, method, url, now, token)

    def sign_in(url: str) -> Any:
        body, headers = {"assertion": person.assertion()}, {"DPoP": proof("POST", url)}
        return client.post("/v1/sessions", json=body, headers=headers)

    for url in ("http://localhost/v1/sessions", "http://localhost/other/v1/sessions"):
        assert_not_signed_in(sign_in(url))
    answer = sign_in("http://localhost/desk/v1/sessions")
    assert answer.status_code == 201
    token = answer.get_json()["access_token"]
    for url, status in (("/desk/v1/cases", 200), ("/v1/cases", 401), ("/deskv1/cases", 401)):
        made = proof("GET", f"http://localhost{url}", token)
        headers = {"Authorization": f"DPoP {token}", "DPoP": made}
        assert client.get("/v1/cases", headers=headers).status_code == status


def test_signing_out_ends_all_sessions_at_once(organisation: Organisation) -> None:
    keys = organisation.desks["general"][0]
    here, there = (organisation.as_person(keys).sign_in() for _ in range(2))
    other = organisation.as_person(organisation.desks["general"][1]).sign_in()
    left = here.client.delete("/v1/sessions", headers=here.signed("DELETE", "/v1/sessions"))
    assert left.status_code == 204
    assert_not_signed_in(here.get("/v1/cases"))
    assert_not_signed_in(there.get("/v1/cases"))
    assert other.get("/v1/cases").status_code == 200


def test_a_new_key_of_tokens_signs_nobody_out_and_a_second_one_ends_the_first(
    tmp_path: Path,
) -> None:
    with organisation_in(tmp_path) as organisation:
        keys = organisation.desks["chemical"][0]
        before = organisation.as_person(keys).sign_in()
        # Another process of the same installation, which read the keys before they changed.
        other = create_app(
            replace(organisation.services, secrets=load_secrets(secrets_of(organisation)))
        )
        rotate_tokens(secrets_of(organisation))
        after = organisation.as_person(keys).sign_in()
        assert (
            jwt.get_unverified_header(after.token)["kid"]
            != jwt.get_unverified_header(before.token)["kid"]
        )
        for person in (before, after):
            assert person.get("/v1/cases").status_code == 200
            headers = person.signed("GET", "/v1/cases")
            assert other.test_client().get("/v1/cases", headers=headers).status_code == 200
        rotate_tokens(secrets_of(organisation))
        assert_not_signed_in(before.get("/v1/cases"))
        assert after.get("/v1/cases").status_code == 200


def secrets_of(organisation: Organisation) -> Path:
    return organisation.services.config.secrets


def test_whoever_does_not_stand_as_they_must_is_let_in_nowhere(tmp_path: Path) -> None:
    with organisation_in(tmp_path) as organisation:
        keys = organisation.desks["chemical"][0]
        person = organisation.as_person(keys).sign_in()
        today = organisation.clock().date()
        faults: dict[str, dict[str, object]] = {
            "access-lapsed": {"confirmed_on": today - timedelta(days=91)},
            "access-dormant": {"last_active_on": today - timedelta(days=91)},
            "access-expired": {"valid_until": today - timedelta(days=1)},
        }
        for slug, values in faults.items():
            with organisation.services.database.transaction() as session:
                row = session.get(models.Person, keys.id)
                assert row is not None
                kept = {name: getattr(row, name) for name in values}
                for name, value in values.items():
                    setattr(row, name, value)
            assert_not_signed_in(person.get("/v1/cases"))
            refused = person.offer(person.assertion())
            assert (refused.status_code, refused.get_json()["type"]) == (403, slug)
            with organisation.services.database.transaction() as session:
                session.execute(
                    sa.update(models.Person).where(models.Person.id == keys.id).values(**kept)
                )
            assert person.get("/v1/cases").status_code == 200


def exchange_key(described: Any, new: PersonKeys) -> None:
    """Give one person another signing key, wherever a description of the directory names them."""
    if isinstance(described, dict) and described.get("id") == new.id:
        described["signing_key"] = new.signing.public
        if "intake_key_sig" in described:
            described["intake_key_sig"] = sign_intake_key(new.signing, new.id, new.intake_recipient)
    for below in described.values() if isinstance(described, dict) else described:
        if isinstance(below, dict | list):
            exchange_key(below, new)


def test_a_session_ends_when_the_officers_replace_the_key_that_began_it(tmp_path: Path) -> None:
    with organisation_in(tmp_path) as organisation:
        old = organisation.desks["chemical"][0]
        thief = organisation.as_person(old).sign_in()
        new = replace(old, signing=SigningKey.generate())
        Officers(organisation).publish(lambda description: exchange_key(description, new))
        assert_not_signed_in(thief.get("/v1/cases"))
        assert_not_signed_in(thief.offer(thief.assertion()))
        assert organisation.as_person(new).sign_in().get("/v1/cases").status_code == 200
        # Their own return must not bring the thief back.
        assert_not_signed_in(thief.get("/v1/cases"))


def test_no_address_tells_browsers_what_they_may_do(organisation: Organisation) -> None:
    client = organisation.app.test_client()
    for path in ("/v1/cases", "/v1/sessions", "/v1/enrolments", "/v1/people", "/v1/directory"):
        answer = client.options(path, headers={"Origin": "https://evil.example"})
        assert (answer.status_code, answer.get_json()["type"]) == (405, "method-not-allowed")
        assert "OPTIONS" not in answer.headers["Allow"]


def test_no_answer_speaks_to_other_sites_or_sets_a_cookie(person: Person) -> None:
    origin = {"Origin": "https://evil.example", "Access-Control-Request-Method": "GET"}
    asked = person.client.options("/v1/cases", headers=origin)
    assert asked.status_code == 405
    for answer in (asked, person.get("/v1/cases", **origin), person.offer(person.assertion())):
        assert not [name for name, _ in answer.headers if name.startswith("Access-Control")]
        assert "Set-Cookie" not in answer.headers


BODIES: dict[str, tuple[bytes, str, int, str]] = {
    "no JSON": (b"rubbish", "application/json", 400, "json-invalid"),
    "empty": (b"", "application/json", 400, "json-invalid"),
    "a name twice": (b'{"assertion":"a","assertion":"b"}', "application/json", 400, "json-invalid"),
    "nested deep": (
        b'{"assertion":' + b"[" * 17 + b"]" * 17 + b"}",
        "application/json",
        400,
        "json-invalid",
    ),
    "nested beyond the stack": (b"[" * 60_000, "application/json", 400, "json-invalid"),
    "a fraction": (b'{"assertion":1.5}', "application/json", 400, "json-invalid"),
    "not a number": (b'{"assertion":NaN}', "application/json", 400, "json-invalid"),
    "in UTF-16": ('{"assertion":"a"}'.encode("utf-16"), "application/json", 400, "json-invalid"),
    "another charset": (b"{}", "application/json; charset=latin-1", 415, "wrong-media-type"),
    "another parameter": (b"{}", "application/json; profile=x", 415, "wrong-media-type"),
    "a form": (b"assertion=a", "application/x-www-form-urlencoded", 415, "wrong-media-type"),
    "no type": (b"{}", "", 415, "wrong-media-type"),
    "too large": (
        b'{"assertion":"' + b"a" * 70_000 + b'"}',
        "application/json",
        413,
        "request-entity-too-large",
    ),
    "an unknown field": (
        b'{"assertion":"a","role":"lead"}',
        "application/json",
        422,
        "unprocessable-entity",
    ),
}


@pytest.mark.parametrize("fault", BODIES)
def test_a_body_that_could_be_read_in_two_ways_is_refused(
    organisation: Organisation, fault: str
) -> None:
    body, media_type, status, slug = BODIES[fault]
    person = organisation.as_person(organisation.desks["chemical"][0])
    headers = {"DPoP": person.proof("POST", "/v1/sessions")}
    answer = person.client.post("/v1/sessions", data=body, content_type=media_type, headers=headers)
    assert (answer.status_code, answer.get_json()["type"]) == (status, slug)


def test_no_kind_of_token_stands_for_another(person: Person) -> None:
    assertion, proof = person.assertion(), person.proof("POST", "/v1/sessions")
    for other in (person.token, proof):
        assert_not_signed_in(person.offer(other))
    for other in (person.token, assertion):
        body, headers = {"assertion": assertion}, {"DPoP": other}
        assert_not_signed_in(person.client.post("/v1/sessions", json=body, headers=headers))
        headers = {"Authorization": f"DPoP {person.token}", "DPoP": other}
        assert_not_signed_in(person.client.get("/v1/cases", headers=headers))
    assert person.offer(assertion).status_code == 201


def test_a_refused_sign_in_tells_no_more_than_a_missing_token(organisation: Organisation) -> None:
    anyone = organisation.as_person(organisation.desks["chemical"][0])
    assert_not_signed_in(anyone.offer(nested()[:2040]))
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


def test_every_permission_is_held_and_no_administrator_reads() -> None:
    assert set(PERMISSIONS) == set(Permission)
    assert all(PERMISSIONS.values())
    nobody = Actor("x", frozenset({"administrator", "auditor", "custodian"}), frozenset(), "")
    for permission in (Permission.LIST_CASES, Permission.OPEN_CASE, Permission.REWRAP_GRANT):
        assert not nobody.may(permission)
