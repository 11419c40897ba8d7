"""Openings and what is served under them: signed, fresh, once, by the reader themselves, of their own desk; else nothing."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from amana.access.models import SignedAction
from amana.access.roles import Actor
from amana.api.problems import MEDIA_TYPE
from amana.client.keyfile import PersonKeys
from amana.custody.models import Event
from amana.directory.models import DirectoryFile, DirectoryVersion
from amana.protocol.case import intake_key_id, open_grant
from amana.protocol.consent import parse_chain
from amana.protocol.directory import sign_intake_key
from amana.protocol.encoding import b64, canonical, random_id, sha256_hex, unb64
from amana.protocol.sealing import Kind, open_sealed, seal
from amana.protocol.signing import SigningKey
from amana.review import service
from amana.review.models import Note
from tests.support.organisation import Organisation, Person, organisation_in, organisation_on
from tests.support.questions import ask
from tests.support.statements import Witness
from tests.support.testimonies import Made

FILES = (b"a voice" * 30_000, b"a photo")
SERVED = ("grants", "manifest", "objects/0", "objects/1")


@pytest.fixture(params=["sqlite", "postgresql"], scope="module")
def organisation(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Organisation]:
    folder = tmp_path_factory.mktemp("organisation")
    with organisation_on(request.param, request, folder) as made:
        yield made


@pytest.fixture(scope="module")
def made(organisation: Organisation) -> Made:
    return organisation.send(files=FILES)


@pytest.fixture
def reader(organisation: Organisation) -> Person:
    return organisation.as_person(organisation.desks["chemical"][0]).sign_in()


@pytest.fixture
def outsider(organisation: Organisation) -> Person:
    return organisation.as_person(organisation.desks["general"][0]).sign_in()


def assert_problem(answer: Any, status: int, slug: str) -> None:
    assert (answer.status_code, answer.get_json().get("type")) == (status, slug)
    assert answer.content_type == MEDIA_TYPE


def rows(organisation: Organisation, model: Any) -> list[Any]:
    with organisation.services.database.reading() as session:
        return list(session.scalars(sa.select(model)))


def test_a_reader_opens_what_the_server_cannot(organisation: Organisation, reader: Person) -> None:
    made = organisation.send(files=FILES)
    opening = reader.open(made.case)
    assert opening.status_code == 201
    [grant] = reader.get(f"/v1/cases/{made.case}/grants").get_json()["grants"]
    assert grant["reader"] == reader.keys.id
    assert reader.keys.intake is not None
    key = open_grant(unb64(grant["grant"]), reader.keys.intake, made.case)
    sealed = reader.get(f"/v1/cases/{made.case}/manifest").get_data()
    manifest = json.loads(open_sealed(sealed, key, Kind.MANIFEST))
    account = reader.get(f"/v1/cases/{made.case}/objects/0").get_data()
    assert open_sealed(account, key, Kind.ACCOUNT) == b'{"synthetic":true}'
    for number, content in enumerate(FILES, start=1):
        sealed = reader.get(f"/v1/cases/{made.case}/objects/{number}").get_data()
        assert sha256_hex(sealed) == manifest["objects"][number]["sealed_sha256"]
        assert open_sealed(sealed, key, Kind.FILE) == content


def test_a_claim_moves_the_case_on_and_an_opening_is_recorded_as_it_was_signed(
    organisation: Organisation, reader: Person
) -> None:
    made = organisation.send()
    assert reader.get(f"/v1/cases/{made.case}").get_json()["state"] == "received"
    assert reader.claim(made.case).status_code == 204
    assert reader.get(f"/v1/cases/{made.case}").get_json()["state"] == "in-review"
    action = reader.action(made.case)
    opening = reader.open(made.case, action).get_json()
    assert opening["opening"] == action["nonce"]
    [stored] = [one for one in rows(organisation, SignedAction) if one.nonce == action["nonce"]]
    assert (stored.nonce, stored.actor) == (action["nonce"], reader.keys.id)
    assert stored.document == canonical(action)
    events = [json.loads(one.event) for one in rows(organisation, Event) if one.case == made.case]
    assert {"v": 1, "kind": "action", "case": made.case, "action": action} in events


def test_the_queue_shows_a_case_to_its_readers_alone(
    made: Made, reader: Person, outsider: Person
) -> None:
    def listed(person: Person, query: str = "") -> set[str]:
        answer = person.get(f"/v1/cases{query}")
        assert answer.status_code == 200
        return {one["case"] for one in answer.get_json()["cases"]}

    assert made.case in listed(reader)
    assert made.case in listed(reader, "?desk=chemical&limit=100")
    assert made.case not in listed(outsider)
    assert_problem(outsider.get("/v1/cases?desk=chemical"), 403, "not-allowed")


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=101", "limit=x", "state=arriving", "state=x", "who=1", "cursor=x"]
)
def test_a_query_out_of_its_form_is_refused(reader: Person, query: str) -> None:
    answer = reader.get(f"/v1/cases?{query}")
    assert answer.status_code == 422
    assert answer.content_type == MEDIA_TYPE


def test_a_case_of_another_desk_is_as_unknown_as_one_that_never_was(
    made: Made, outsider: Person
) -> None:
    unknown = random_id()
    for path in ("", *(f"/{one}" for one in SERVED)):
        there = outsider.get(f"/v1/cases/{made.case}{path}")
        nowhere = outsider.get(f"/v1/cases/{unknown}{path}")
        assert_problem(there, 404, "not-found")
        assert there.get_data() == nowhere.get_data()
    assert_problem(outsider.open(made.case), 404, "not-found")


@pytest.mark.parametrize("case", ["x", "%00", "a" * 33, "%2e%2e", "A" * 32, "a" * 31 + "%00"])
def test_what_cannot_be_a_case_is_not_found(reader: Person, case: str) -> None:
    assert_problem(reader.get(f"/v1/cases/{case}"), 404, "not-found")
    assert_problem(reader.get(f"/v1/cases/{case}/manifest"), 404, "not-found")


@pytest.mark.parametrize("path", SERVED)
def test_without_an_opening_nothing_sealed_is_served(
    organisation: Organisation, reader: Person, path: str
) -> None:
    made = organisation.send(files=FILES[1:])
    assert reader.claim(made.case).status_code == 204
    assert_problem(reader.get(f"/v1/cases/{made.case}/{path}"), 403, "opening-needed")


def test_the_opening_of_a_colleague_opens_nothing(
    organisation: Organisation, reader: Person
) -> None:
    made = organisation.send(files=FILES[1:])
    colleague = organisation.as_person(organisation.desks["chemical"][1]).sign_in()
    assert colleague.open(made.case).status_code == 201
    # Also not to who holds a grant of it: the case is the colleague's.
    for path in SERVED[1:]:
        assert_problem(reader.get(f"/v1/cases/{made.case}/{path}"), 403, "not-assigned")
    assert_problem(reader.get(f"/v1/cases/{made.case}/grants"), 403, "opening-needed")
    assert_problem(reader.claim(made.case), 409, "claimed-already")
    assert_problem(reader.open(made.case), 403, "not-assigned")


def test_the_opening_of_another_case_opens_nothing(
    organisation: Organisation, reader: Person
) -> None:
    first, second = organisation.send(), organisation.send()
    assert reader.open(first.case).status_code == 201
    assert reader.claim(second.case).status_code == 204
    assert_problem(reader.get(f"/v1/cases/{second.case}/manifest"), 403, "opening-needed")


def test_an_opening_works_for_twelve_hours_by_the_servers_clock(
    organisation: Organisation, reader: Person
) -> None:
    made = organisation.send()
    began = organisation.clock()
    try:
        assert reader.open(made.case).status_code == 201
        organisation.clock.turn(hours=11, minutes=59)
        reader.sign_in()
        assert reader.get(f"/v1/cases/{made.case}/manifest").status_code == 200
        organisation.clock.turn(minutes=1)
        for path in ("grants", "manifest", "objects/0"):
            assert_problem(reader.get(f"/v1/cases/{made.case}/{path}"), 403, "opening-needed")
        organisation.clock.turn(hours=12)
        reader.sign_in()
        assert reader.open(made.case).status_code == 201
        assert reader.get(f"/v1/cases/{made.case}/manifest").status_code == 200
    finally:
        organisation.clock.now = began


def test_a_case_that_was_not_sealed_to_a_reader_does_not_exist_for_them(
    organisation: Organisation, reader: Person
) -> None:
    """The witness kept this reader of the desk out: not even the policy or ciphertext is theirs."""
    colleague = organisation.directory.readers_of("chemical")
    others = {one.id: one.intake_key for one in colleague if one.id != reader.keys.id}
    made = organisation.send(readers=others)
    assert_problem(reader.open(made.case), 404, "not-found")
    for path in ("", *(f"/{one}" for one in SERVED)):
        assert_problem(reader.get(f"/v1/cases/{made.case}{path}"), 404, "not-found")


def test_sealing_anew_shows_ones_grant_and_nothing_else_of_the_case(
    organisation: Organisation, reader: Person
) -> None:
    made = organisation.send(files=FILES)
    path = f"/v1/cases/{made.case}"
    opening = reader.action(made.case)
    assert_problem(reader.post(f"{path}/re-wrappings", {"action": opening}), 422, "action-refused")
    assert_problem(reader.get(f"{path}/grants"), 403, "opening-needed")
    assert reader.act("re-wrap", f"{path}/re-wrappings", case=made.case).status_code == 204
    [grant] = reader.get(f"{path}/grants").get_json()["grants"]
    assert grant["reader"] == reader.keys.id
    assert reader.get(path).get_json()["state"] == "received"
    assert reader.claim(made.case).status_code == 204
    for served in ("manifest", "objects/0", "objects/1"):
        assert_problem(reader.get(f"{path}/{served}"), 403, "opening-needed")


def test_what_is_sealed_to_each_key_is_counted_also_before_it_arrived(
    organisation: Organisation, reader: Person
) -> None:
    def counted() -> dict[str, int]:
        keys = reader.get("/v1/intake-keys").get_json()["intake_keys"]
        assert [one["intake_key"] for one in keys] == [intake_key_id(reader.keys.intake_recipient)]
        return {name: keys[0][name] for name in ("open", "arriving", "elsewhere")}

    organisation.send()
    before = counted()
    organisation.announce(organisation.seal(files=FILES))
    after = counted()
    assert after == {**before, "arriving": before["arriving"] + 1}
    with organisation.services.database.reading() as session:
        moved = Actor(reader.keys.id, frozenset({"reviewer"}), frozenset({"general"}), "")
        [elsewhere] = service.held_keys(session, moved)
    assert elsewhere.elsewhere == after["open"] + after["arriving"]
    assert (elsewhere.open, elsewhere.arriving) == (after["elsewhere"], 0)


Fault = Callable[[Person, Made], dict[str, Any]]


def moved(**by: float) -> Fault:
    return lambda reader, made: reader.action(
        made.case, made_at=reader.organisation.clock() + timedelta(**by)
    )


def changed(**fields: Any) -> Fault:
    """Sign it well, then change it."""
    return lambda reader, made: {**reader.action(made.case), **fields}


FAULTS: dict[str, Fault] = {
    "by an unknown key": lambda reader, made: reader.action(made.case, key=SigningKey.generate()),
    "by a colleague": lambda reader, made: reader.action(
        made.case, actor=reader.organisation.desks["chemical"][1].id
    ),
    "by a colleague's key": lambda reader, made: reader.action(
        made.case, key=reader.organisation.desks["chemical"][1].signing
    ),
    "of another case": lambda reader, _made: reader.action(random_id()),
    "of no case": lambda reader, made: reader.action(made.case, case=None),
    "of another kind": lambda reader, made: reader.action(made.case, action="claim"),
    "of another installation": lambda reader, made: reader.action(made.case, deployment="other"),
    "with a body": lambda reader, made: reader.action(made.case, body={"reason": "x"}),
    "of six minutes ago": moved(minutes=-6),
    "of six minutes from now": moved(minutes=6),
    "of yesterday": moved(days=-1),
    "changed in its nonce": changed(nonce=random_id()),
    "changed in its time": changed(made_at="2026-11-23T00:00:00Z"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_an_opening_that_is_not_ones_own_act_here_and_now_is_refused(
    organisation: Organisation, reader: Person, made: Made, fault: str
) -> None:
    reader.claim(made.case)
    before = len(rows(organisation, SignedAction))
    assert_problem(reader.open(made.case, FAULTS[fault](reader, made)), 422, "action-refused")
    assert len(rows(organisation, SignedAction)) == before


@pytest.mark.parametrize("version", [0, 2, 2**53 - 1])
def test_an_opening_under_another_directory_than_todays_is_to_be_signed_anew(
    reader: Person, made: Made, version: int
) -> None:
    action = reader.action(made.case, directory=version)
    assert_problem(reader.open(made.case, action), 409, "action-outdated")


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2},
        {"extra": 1},
        {"sig": ""},
        {"sig": None},
        {"nonce": "x"},
        {"directory": "1"},
        {"directory": -1},
        {"made_at": "now"},
        {"made_at": "2026-02-30T00:00:00Z"},
        {"action": "destroy"},
        {"actor": []},
        {"body_sha256": "00"},
    ],
)
def test_what_is_no_action_is_refused(reader: Person, made: Made, change: dict[str, Any]) -> None:
    answer = reader.open(made.case, {**reader.action(made.case), **change})
    assert answer.status_code == 422
    assert answer.content_type == MEDIA_TYPE


def test_an_action_is_accepted_once(organisation: Organisation, reader: Person, made: Made) -> None:
    action = reader.action(made.case)
    assert reader.open(made.case, action).status_code == 201
    assert_problem(reader.open(made.case, action), 409, "action-replayed")
    assert [x.nonce for x in rows(organisation, SignedAction)].count(action["nonce"]) == 1
    recorded = [one for one in rows(organisation, Event) if action["nonce"].encode() in one.event]
    assert len(recorded) == 1


def test_a_key_that_was_replaced_signs_no_opening_not_even_under_the_version_that_had_it(
    tmp_path: Path,
) -> None:
    with organisation_in(tmp_path) as organisation:
        made = organisation.send()
        old = organisation.desks["chemical"][0]
        new = replace(old, signing=SigningKey.generate())
        publish_second_version(organisation, new)
        person = organisation.as_person(new).sign_in()
        by_old_key = person.action(made.case, key=old.signing, directory=1)
        assert_problem(person.open(made.case, by_old_key), 422, "action-refused")
        assert person.open(made.case, person.action(made.case, directory=2)).status_code == 201


def publish_second_version(organisation: Organisation, changed: PersonKeys) -> None:
    """Put a version into the database in which one reader has another signing key."""

    def rewrite(name: str, content: bytes) -> bytes:
        document = json.loads(content)
        if name == "directory.json":
            document["version"] = 2
        for one in document.get("readers", []):
            if one["id"] == changed.id:
                one["signing_key"] = changed.signing.public
                one["intake_key_sig"] = sign_intake_key(
                    changed.signing, changed.id, changed.intake_recipient
                )
        return canonical(document)

    with organisation.services.database.transaction() as session:
        first = sa.select(DirectoryFile).where(DirectoryFile.name.startswith("versions/1/"))
        for file in session.scalars(first).all():
            name = file.name.removeprefix("versions/1/")
            session.add(
                DirectoryFile(name=f"versions/2/{name}", content=rewrite(name, file.content))
            )
        session.add(DirectoryVersion(version=2, published_on=organisation.clock().date()))


# Objects


@pytest.fixture
def opened(reader: Person, made: Made) -> Callable[..., Any]:
    assert reader.open(made.case).status_code == 201
    return lambda n, **headers: reader.get(f"/v1/cases/{made.case}/objects/{n}", **headers)


@pytest.mark.parametrize("n", [0, 1])
def test_an_object_comes_whole_as_bytes_to_keep_and_not_to_show(
    opened: Callable[..., Any], made: Made, n: int
) -> None:
    sealed = (made.submission.account, *made.sealed)[n]
    answer = opened(n)
    assert answer.status_code == 200
    assert answer.get_data() == sealed
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Content-Disposition"] == "attachment"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert answer.headers["ETag"] == f'"{sha256_hex(sealed)}"'
    assert answer.headers["Content-Length"] == str(len(sealed))


@pytest.mark.parametrize("n", [0, 1])
@pytest.mark.parametrize(
    ("text", "start", "end"),
    [("bytes=0-9", 0, 10), ("bytes=1000-", 1000, None), ("bytes=-7", -7, None)],
)
def test_a_range_of_an_object_is_served(
    opened: Callable[..., Any], made: Made, n: int, text: str, start: int, end: int | None
) -> None:
    sealed = (made.submission.account, *made.sealed)[n]
    answer = opened(n, Range=text)
    assert answer.status_code == 206
    assert answer.get_data() == sealed[start:end]
    first = start % len(sealed)
    last = (end or len(sealed)) - 1
    assert answer.headers["Content-Range"] == f"bytes {first}-{last}/{len(sealed)}"


def test_a_range_behind_the_end_is_answered_with_the_size(
    opened: Callable[..., Any], made: Made
) -> None:
    size = len(made.sealed[0])
    answer = opened(1, Range=f"bytes={size}-")
    assert_problem(answer, 416, "range-not-satisfiable")
    assert answer.headers["Content-Range"] == f"bytes */{size}"


def test_a_range_of_something_else_is_answered_with_the_whole(
    opened: Callable[..., Any], made: Made
) -> None:
    etag = f'"{sha256_hex(made.sealed[0])}"'
    assert opened(1, Range="bytes=5-", **{"If-Range": etag}).status_code == 206
    for other in ('"00"', f"W/{etag}", "Mon, 23 Nov 2026 00:00:00 GMT"):
        answer = opened(1, Range="bytes=5-", **{"If-Range": other})
        assert (answer.status_code, len(answer.get_data())) == (200, len(made.sealed[0]))


@pytest.mark.parametrize("n", ["3", "64", "9" * 30])
def test_an_object_that_was_never_announced_is_not_found(
    opened: Callable[..., Any], n: str
) -> None:
    assert_problem(opened(n), 404, "not-found")


# Decisions, and taking them back


def reasoned(made: Made, text: bytes = b"because") -> str:
    return b64(seal(text, made.case_key.recipient, Kind.NOTE))


def decide(person: Person, made: Made, decision: str = "accept") -> Any:
    path = f"/v1/cases/{made.case}/decisions"
    return person.act("decide", path, made.case, decision=decision, reason=reasoned(made))


def reopen(person: Person, made: Made, **body: Any) -> Any:
    path = f"/v1/cases/{made.case}/reopenings"
    return person.act("reopen", path, made.case, **{"reason": reasoned(made), **body})


def resume(person: Person, made: Made) -> Any:
    return person.act("resume", f"/v1/cases/{made.case}/resumptions", made.case)


def test_a_decision_is_taken_back_by_the_first_reader_with_a_sealed_reason(
    organisation: Organisation, reader: Person
) -> None:
    made = organisation.send()
    assert reader.claim(made.case).status_code == 204
    assert_problem(reopen(reader, made), 409, "state-forbids")
    assert decide(reader, made).status_code == 201
    assert_problem(reopen(reader, made, reason=""), 422, "reason-missing")
    assert_problem(reopen(reader, made, reason=b64(b"because")), 422, "sealed-plaintext")
    missing = reader.act("reopen", f"/v1/cases/{made.case}/reopenings", made.case)
    assert_problem(missing, 422, "unprocessable-entity")
    assert reader.get(f"/v1/cases/{made.case}").get_json()["state"] == "accepted"
    colleague = organisation.as_person(organisation.desks["chemical"][1]).sign_in()
    assert_problem(reopen(colleague, made), 403, "not-assigned")
    assert reader.hand_over(made.case, colleague.keys.id, second=True).status_code == 204
    assert colleague.claim(made.case).status_code == 204
    assert_problem(reopen(colleague, made), 403, "not-assigned")
    answer = reopen(reader, made)
    assert (answer.status_code, answer.get_json()) == (201, {"state": "in-review"})
    assert decide(reader, made, "decline").status_code == 201
    reasons = [one for one in rows(organisation, Note) if one.case == made.case]
    assert len(reasons) == 3


def test_a_decided_case_that_nobody_has_is_taken_up_by_who_may_have_it(
    organisation: Organisation, reader: Person
) -> None:
    made = organisation.send()
    colleague = organisation.as_person(organisation.desks["chemical"][1]).sign_in()
    outsider = organisation.as_person(organisation.desks["general"][0]).sign_in()
    assert reader.claim(made.case).status_code == 204
    assert decide(reader, made).status_code == 201
    assert_problem(colleague.claim(made.case), 409, "claimed-already")
    assert reader.release(made.case).status_code == 204
    assert_problem(reader.get(f"/v1/cases/{made.case}/manifest"), 403, "not-assigned")
    assert_problem(outsider.claim(made.case), 404, "not-found")
    assert colleague.claim(made.case).status_code == 204
    # Reading what was decided moves nothing; what it is to be again is said aloud.
    assert colleague.open(made.case).status_code == 201
    assert colleague.get(f"/v1/cases/{made.case}").get_json()["state"] == "accepted"
    assert reopen(colleague, made).status_code == 201


def test_a_case_whose_witness_was_asked_goes_on_by_its_first_reader(
    organisation: Organisation, reader: Person
) -> None:
    made = organisation.send(scopes={"review": "allow", "contact": "allow"})
    assert reader.claim(made.case).status_code == 204
    assert_problem(resume(reader, made), 409, "state-forbids")
    assert ask(reader, made).status_code == 201
    assert reader.get(f"/v1/cases/{made.case}").get_json()["state"] == "waiting"
    colleague = organisation.as_person(organisation.desks["chemical"][1]).sign_in()
    assert_problem(resume(colleague, made), 403, "not-assigned")
    assert resume(reader, made).get_json() == {"state": "in-review"}
    # Without going on first it can be asked again, decided, or given back.
    assert ask(reader, made).status_code == 201
    assert ask(reader, made).status_code == 201
    assert reader.release(made.case).status_code == 204
    assert reader.get(f"/v1/cases/{made.case}").get_json()["state"] == "received"


def test_the_chain_of_policies_is_told_with_the_case(
    organisation: Organisation, reader: Person
) -> None:
    made = organisation.send()
    assert Witness(organisation, made).consent({"review": "allow"}).status_code == 200
    told = reader.get(f"/v1/cases/{made.case}").get_json()["policies"]
    assert [one.policy.seq for one in parse_chain(told)] == [0, 1]
    assert unb64(told[0]["policy"]) == made.submission.policy
