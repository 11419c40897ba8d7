"""Invitations, enrolments, vetting, suspensions and the record: what is refused, and that refusing changes nothing."""

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from amana.access.models import Invitation, SignedAction
from amana.access.models import Person as PersonRow
from amana.client.keyfile import PersonKeys, intake_key_fields
from amana.protocol.action import sign_action
from amana.protocol.case import intake_key_id
from amana.protocol.encoding import random_id
from amana.protocol.sealing import Identity
from amana.protocol.signing import SigningKey
from tests.support.newcomers import (
    bring,
    enrolment,
    invitation,
    invite,
    new_keys,
    vetting,
    withdraw,
)
from tests.support.officers import Officers
from tests.support.organisation import Organisation, Person, organisation_in
from tests.support.postgres import fresh_database


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def organisation(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Organisation]:
    with ExitStack() as stack:
        url = None
        if request.param == "postgresql":
            url = stack.enter_context(fresh_database(request.getfixturevalue("postgres")))
        folder = tmp_path_factory.mktemp("people")
        yield stack.enter_context(organisation_in(folder, url))


@pytest.fixture
def administrators(organisation: Organisation) -> list[Person]:
    return [organisation.as_person(one).sign_in() for one in organisation.of_role("administrator")]


def assert_problem(answer: Any, status: int, slug: str) -> None:
    assert (answer.status_code, answer.get_json()["type"]) == (status, slug)


def count(organisation: Organisation, table: Any) -> int:
    with organisation.services.database.reading() as session:
        return session.scalar(sa.select(sa.func.count()).select_from(table)) or 0


def newcomer(organisation: Organisation, administrator: Person) -> PersonKeys:
    """Let somebody enrol as a reviewer of the chemical desk."""
    keys, token = new_keys(), invite(administrator)
    assert bring(organisation, token, enrolment(organisation, keys, token)).status_code == 201
    return keys


# Invitations and enrolments


@pytest.mark.parametrize(
    ("role", "desks"),
    [
        ("reviewer", ("chemical", "general")),
        ("lead", ("general",)),
        ("custodian", ()),
        ("administrator", ()),
        ("auditor", ()),
        ("partner", ()),
    ],
)
def test_the_invited_come_with_their_keys_and_wait_for_the_officers(
    organisation: Organisation, administrators: list[Person], role: str, desks: tuple[str, ...]
) -> None:
    token, keys = invite(administrators[0], role, desks), new_keys(role)
    document = enrolment(organisation, keys, token, role, desks)
    assert bring(organisation, token, document).get_json() == {"id": keys.id}
    waiting = administrators[1].get("/v1/enrolments").get_json()["enrolments"]
    [shown] = [one for one in waiting if one["id"] == keys.id]
    assert (shown["kind"], shown["enrolment"], shown["vetting"]) == ("new", document, None)
    assert (
        organisation.as_person(keys).offer(organisation.as_person(keys).assertion()).status_code
        == 401
    )
    used = [
        one["used_by"] for one in administrators[0].get("/v1/invitations").get_json()["invitations"]
    ]
    assert keys.id in used


def test_whoever_the_officers_list_works_and_waits_no_more(
    organisation: Organisation, administrators: list[Person]
) -> None:
    keys = newcomer(organisation, administrators[0])
    waiting = administrators[0].get("/v1/enrolments").get_json()["enrolments"]
    officers = Officers(organisation)
    officers.accept(waiting, keys.id)
    person = organisation.as_person(keys).sign_in()
    assert person.get("/v1/cases").status_code == 200
    officers.remove(keys.id)
    assert person.get("/v1/cases").status_code == 401
    waiting = administrators[0].get("/v1/enrolments").get_json()["enrolments"]
    assert keys.id not in [one["id"] for one in waiting]


def test_an_invitation_works_once_in_time_and_for_what_it_says(
    organisation: Organisation, administrators: list[Person]
) -> None:
    token = invite(administrators[0])
    keys = new_keys()
    wrong = [
        (random_id(), enrolment(organisation, keys, token)),
        (token, enrolment(organisation, keys, random_id())),
        (token, enrolment(organisation, keys, token, desks=("general",))),
        (token, enrolment(organisation, keys, token, desks=("chemical", "general"))),
        (token, enrolment(organisation, keys, token, "lead")),
        (token, enrolment(organisation, keys, token, "administrator", ())),
        ("rubbish", enrolment(organisation, keys, token)),
    ]
    before = count(organisation, PersonRow)
    answers = {bring(organisation, *one).get_data() for one in wrong}
    for one in wrong:
        assert_problem(bring(organisation, *one), 403, "invitation-refused")
    assert len(answers) == 1
    assert count(organisation, PersonRow) == before
    assert bring(organisation, token, enrolment(organisation, keys, token)).status_code == 201
    other = new_keys()
    again = bring(organisation, token, enrolment(organisation, other, token))
    assert_problem(again, 403, "invitation-refused")
    late = invite(administrators[0], days=1)
    organisation.clock.turn(days=2)
    try:
        document = enrolment(organisation, other, late)
        assert_problem(bring(organisation, late, document), 403, "invitation-refused")
    finally:
        organisation.clock.turn(days=-2)


def test_nobody_comes_with_a_withdrawn_invitation(
    organisation: Organisation, administrators: list[Person]
) -> None:
    first, second = administrators
    made, token = invitation(first, days=1)
    assert withdraw(second, made).status_code == 204
    keys = new_keys()
    answer = bring(organisation, token, enrolment(organisation, keys, token))
    assert_problem(answer, 403, "invitation-refused")
    known = {one["id"]: one for one in first.get("/v1/invitations").get_json()["invitations"]}
    assert known[made]["expires_on"] < organisation.clock().date().isoformat()
    assert_problem(withdraw(first, made), 409, "invitation-over")
    record = first.get(f"/v1/record?person={second.keys.id}").get_json()
    assert record["actions"][0]["action"] == "withdraw-invite"


def test_an_invitation_that_was_used_or_is_none_cannot_be_withdrawn(
    organisation: Organisation, administrators: list[Person]
) -> None:
    by = administrators[0]
    (made, token), keys = invitation(by), new_keys()
    assert bring(organisation, token, enrolment(organisation, keys, token)).status_code == 201
    assert_problem(withdraw(by, made), 409, "invitation-over")
    assert_problem(withdraw(by, random_id()), 404, "not-found")
    other, _ = invitation(by)
    path = f"/v1/invitations/{other}/withdrawal"
    answer = by.act("withdraw-invite", path, invitation=made)
    assert_problem(answer, 422, "action-refused")


def test_an_enrolment_that_its_own_keys_did_not_sign_is_refused(
    organisation: Organisation, administrators: list[Person]
) -> None:
    token, keys, other = invite(administrators[0]), new_keys(), new_keys()
    good = enrolment(organisation, keys, token)
    faults: list[dict[str, Any]] = [
        {"sig": enrolment(organisation, other, token)["sig"]},
        {"id": other.id},
        {"signing_key": other.signing.public},
        {"intake_key": str(other.intake_recipient)},
        {**intake_key_fields(other)},
        {"intake_key": None, "intake_key_sig": None},
        {"intake_key_sig": None},
        {"made_on": "yesterday"},
        {"v": 2},
        {"role": "officer"},
        {"desks": ["chemical", "chemical"]},
        {"more": 1},
    ]
    for fault in faults:
        answer = bring(organisation, token, {**good, **fault})
        assert answer.status_code in {403, 422}, fault
        assert answer.get_json()["type"] in {"enrolment-refused", "invitation-refused"}
    elsewhere = enrolment(organisation, keys, token, deployment="elsewhere")
    assert_problem(bring(organisation, token, elsewhere), 422, "enrolment-refused")
    assert bring(organisation, token, good).status_code == 201


def test_a_key_that_is_known_is_refused(
    organisation: Organisation, administrators: list[Person]
) -> None:
    listed = organisation.desks["chemical"][0]
    enrolled = newcomer(organisation, administrators[0])
    fresh = new_keys()
    taken = [
        listed,
        enrolled,
        PersonKeys(listed.id, "reviewer", fresh.signing, fresh.intake),
        PersonKeys(fresh.id, "reviewer", listed.signing, fresh.intake),
        PersonKeys(fresh.id, "reviewer", fresh.signing, listed.intake),
        PersonKeys(fresh.id, "reviewer", fresh.signing, enrolled.intake),
        PersonKeys(fresh.id, "reviewer", enrolled.signing, fresh.intake),
    ]
    token = invite(administrators[0])
    for keys in taken:
        document = enrolment(organisation, keys, token)
        assert_problem(bring(organisation, token, document), 409, "key-known")
    assert bring(organisation, token, enrolment(organisation, fresh, token)).status_code == 201


@pytest.mark.parametrize(
    ("body", "slug"),
    [
        ({"role": "reviewer", "desks": [], "days": 7}, "desks-do-not-fit"),
        ({"role": "auditor", "desks": ["chemical"], "days": 7}, "desks-do-not-fit"),
        ({"role": "reviewer", "desks": ["nowhere"], "days": 7}, "desk-unknown"),
        ({"role": "reviewer", "desks": ["general", "chemical"], "days": 7}, "desk-unknown"),
        ({"role": "officer", "desks": [], "days": 7}, "unprocessable-entity"),
        ({"role": "auditor", "desks": [], "days": 31}, "unprocessable-entity"),
        ({"role": "auditor", "desks": [], "days": 0}, "unprocessable-entity"),
        ({"role": "auditor", "desks": [], "days": True}, "unprocessable-entity"),
    ],
)
def test_an_invitation_that_makes_no_sense_is_refused(
    organisation: Organisation, administrators: list[Person], body: dict[str, Any], slug: str
) -> None:
    before = count(organisation, Invitation)
    assert_problem(administrators[0].act("invite", "/v1/invitations", **body), 422, slug)
    assert count(organisation, Invitation) == before


def test_of_an_invitation_only_the_hash_is_kept(
    organisation: Organisation, administrators: list[Person]
) -> None:
    token = invite(administrators[0])
    with organisation.services.database.reading() as session:
        for row in session.scalars(sa.select(Invitation)):
            assert token not in str(vars(row))
        for action in session.scalars(sa.select(SignedAction)):
            assert token.encode() not in action.document + (action.body or b"")


# Decisions about people


def decide(by: Person, kind: str, path: str, person: str, **body: Any) -> Any:
    return by.act(kind, f"/v1/people/{person}/{path}", person=person, **body)


def test_a_suspension_ends_every_session_within_one_request(
    organisation: Organisation, administrators: list[Person]
) -> None:
    keys = organisation.desks["general"][1]
    here, there = (organisation.as_person(keys).sign_in() for _ in range(2))
    answer = decide(administrators[0], "suspend", "suspension", keys.id, reason="lost device")
    assert answer.status_code == 201
    for person in (here, there):
        assert person.get("/v1/cases").status_code == 401
    assert_problem(here.offer(here.assertion()), 403, "suspended")
    again = decide(administrators[1], "suspend", "suspension", keys.id, reason="again")
    assert_problem(again, 409, "suspended-already")
    first = decide(administrators[0], "reinstate", "reinstatement", keys.id, reason="found")
    assert first.get_json() == {"reinstated": False, "consents": 1}
    twice = decide(administrators[0], "reinstate", "reinstatement", keys.id, reason="found")
    assert_problem(twice, 409, "consent-given")
    assert_problem(here.offer(here.assertion()), 403, "suspended")
    second = decide(administrators[1], "reinstate", "reinstatement", keys.id, reason="found")
    assert second.get_json() == {"reinstated": True, "consents": 2}
    assert here.get("/v1/cases").status_code == 401
    assert here.sign_in().get("/v1/cases").status_code == 200
    none = decide(administrators[0], "reinstate", "reinstatement", keys.id, reason="found")
    assert_problem(none, 409, "not-suspended")


def test_an_act_is_the_administrators_own_for_this_person_and_once(
    organisation: Organisation, administrators: list[Person]
) -> None:
    keys = newcomer(organisation, administrators[0])
    by, path = administrators[0], f"/v1/people/{keys.id}/suspension"
    body = {"person": keys.id, "reason": "x"}

    def send(**changes: Any) -> Any:
        now = organisation.directory.version
        fields = {"action": "suspend", "body": body, "directory": now, **changes}
        return by.post(path, {**body, "action": by.action(None, **fields)})

    faults: list[dict[str, Any]] = [
        {"action": "confirm"},
        {"body": {**body, "reason": "y"}},
        {"body": {**body, "person": administrators[1].keys.id}},
        {"actor": administrators[1].keys.id},
        {"key": administrators[1].keys.signing},
        {"deployment": "elsewhere"},
        {"case": "a" * 32},
        {"made_at": organisation.clock() - timedelta(minutes=6)},
    ]
    for fault in faults:
        assert_problem(send(**fault), 422, "action-refused")
    assert_problem(send(directory=organisation.directory.version + 1), 409, "action-outdated")
    now = organisation.directory.version
    action = by.action(None, action="suspend", body=body, directory=now)
    assert by.post(path, {**body, "action": action}).status_code == 201
    with organisation.services.database.reading() as session:
        stored = session.get(SignedAction, action["nonce"])
        assert stored is not None
        assert stored.case is None
    answer = decide(by, "reinstate", "reinstatement", keys.id, reason="x")
    assert answer.status_code == 200
    replayed = by.post(path, {**body, "action": action})
    assert_problem(replayed, 409, "action-replayed")


@pytest.mark.parametrize(
    ("change", "slug"),
    [
        ({"vouchers": ["Dr. A", "Dr. A"]}, "vouchers-invalid"),
        ({"vouchers": ["Dr. A"]}, "unprocessable-entity"),
        ({"vouchers": ["Dr. A", ""]}, "unprocessable-entity"),
        ({"vetted_on": "2999-01-01"}, "vetting-days"),
        ({"valid_until": "2001-01-01"}, "vetting-days"),
        ({"valid_until": "2206-01-01"}, "vetting-days"),
        ({"valid_until": "soon"}, "unprocessable-entity"),
        ({"conflicts": ["a,b"]}, "unprocessable-entity"),
        ({"languages": ["arabic!"]}, "unprocessable-entity"),
    ],
)
def test_a_vetting_that_makes_no_sense_is_refused(
    organisation: Organisation, administrators: list[Person], change: dict[str, Any], slug: str
) -> None:
    person = organisation.desks["chemical"][1].id
    body = {**vetting(organisation), **change}
    assert_problem(decide(administrators[0], "vet", "vetting", person, **body), 422, slug)


def test_what_vetting_found_is_shown_to_administrators_and_stands_in_no_directory(
    organisation: Organisation, administrators: list[Person]
) -> None:
    keys = organisation.desks["chemical"][1]
    found = vetting(organisation)
    assert decide(administrators[0], "vet", "vetting", keys.id, **found).status_code == 204
    declared = organisation.as_person(keys).sign_in()
    assert declared.act("recuse", "/v1/conflicts", conflicts=["person:42"]).status_code == 204
    known = administrators[1].get("/v1/people").get_json()["people"]
    [shown] = [one for one in known if one["id"] == keys.id]
    assert shown["languages"] == ["ar", "en"]
    assert shown["conflicts"] == ["person:42", "place:SY-07"]
    assert shown["valid_until"] == found["valid_until"]
    public = str(organisation.directory.document) + str(organisation.directory.readers)
    assert "SY-07" not in public
    assert "Dr. A" not in public


def test_whose_access_ends_soon_is_told_and_a_review_lets_it_go_on(tmp_path: Path) -> None:
    with organisation_in(tmp_path) as organisation:
        first, second = (
            organisation.as_person(one) for one in organisation.of_role("administrator")
        )
        reader = organisation.as_person(organisation.desks["chemical"][0]).sign_in()
        first.sign_in()
        second.sign_in()
        working = sorted(one.keys.id for one in (first, second))
        told = first.get("/v1/access-reviews").get_json()
        assert told == {"due": [], "administrators": working}
        organisation.clock.turn(days=77)
        first.sign_in()
        due = {one["id"]: one for one in first.get("/v1/access-reviews").get_json()["due"]}
        assert due.keys() == organisation.directory.people.keys()
        assert due[reader.keys.id]["standing"] == "active"
        for person in (reader, second):
            assert decide(first, "confirm", "confirmation", person.keys.id).status_code == 204
        organisation.clock.turn(days=30)
        assert_problem(first.offer(first.assertion()), 403, "access-lapsed")
        second.sign_in()
        reader.sign_in()
        standing = {
            one["id"]: one["standing"] for one in second.get("/v1/people").get_json()["people"]
        }
        assert standing[first.keys.id] == "lapsed"


def test_a_new_intake_key_waits_for_the_officers_and_is_then_the_listed_one(
    organisation: Organisation, administrators: list[Person]
) -> None:
    keys = organisation.desks["chemical"][1]
    person = organisation.as_person(keys).sign_in()
    new = PersonKeys(keys.id, keys.role, keys.signing, Identity.generate())
    forged = PersonKeys(keys.id, keys.role, SigningKey.generate(), new.intake)
    for fields in (intake_key_fields(forged), {**intake_key_fields(new), "intake_key": "x"}):
        assert person.replace_key(new, **fields).status_code == 422
    for known in (keys, organisation.desks["chemical"][0]):
        mine = PersonKeys(keys.id, keys.role, keys.signing, known.intake)
        answer = person.replace_key(mine)
        assert_problem(answer, 409, "key-known")
    another = intake_key_id(new.intake_recipient)
    assert_problem(person.replace_key(new, replaces=another), 409, "key-not-listed")
    assert person.replace_key(new).status_code == 204
    waiting = administrators[0].get("/v1/enrolments").get_json()["enrolments"]
    [shown] = [one for one in waiting if one["id"] == keys.id]
    assert (shown["kind"], shown["intake_key"]) == ("replacement", str(new.intake_recipient))
    Officers(organisation).accept([shown], keys.id)
    listed = {one.id: one.intake_key for one in organisation.directory.readers_of("chemical")}
    assert str(listed[keys.id]) == str(new.intake_recipient)
    waiting = administrators[0].get("/v1/enrolments").get_json()["enrolments"]
    assert keys.id not in [one["id"] for one in waiting]
    person.sign_in()
    with organisation.services.database.reading() as session:
        row = session.get(PersonRow, keys.id)
        assert row is not None
        assert row.intake_key == intake_key_id(new.intake_recipient)


# The record


def test_the_record_tells_who_could_open_what_on_a_day_and_who_did(tmp_path: Path) -> None:
    with organisation_in(tmp_path) as organisation:
        lead, reader = organisation.desks["chemical"]
        first = organisation.send()
        yesterday = organisation.clock().date().isoformat()
        organisation.clock.turn(days=1)
        second = organisation.send(readers={lead.id: lead.intake_recipient})
        today = organisation.clock().date().isoformat()
        person = organisation.as_person(reader).sign_in()
        assert person.open(first.case).status_code == 201
        auditor = organisation.as_person(organisation.of_role("auditor")[0]).sign_in()
        rows = {one["id"]: one for one in auditor.get("/v1/record").get_json()["people"]}
        assert (rows[lead.id]["could_open"], rows[lead.id]["opened"]) == (2, 0)
        assert (rows[reader.id]["could_open"], rows[reader.id]["opened"]) == (1, 1)
        before = auditor.get(f"/v1/record?day={yesterday}").get_json()["people"]
        assert {one["id"]: one["could_open"] for one in before} == {lead.id: 1, reader.id: 1}
        assert {one["opened"] for one in before} == {0}
        found = auditor.get(f"/v1/record?person={reader.id}").get_json()
        assert [one["case"] for one in found["could_open"]] == [first.case]
        assert [one["case"] for one in found["opened"]] == [first.case]
        assert sorted(one["action"] for one in found["actions"]) == ["claim", "open"]
        assert (found["day"], found["next"]) == (today, None)
        held = auditor.get(f"/v1/record?person={lead.id}").get_json()["could_open"]
        assert [one["case"] for one in held] == [first.case, second.case]
        unknown = auditor.get(f"/v1/record?person={'a' * 32}")
        assert_problem(unknown, 404, "not-found")
        for query in ("day=soon", "person=x", "cursor=x&person=" + lead.id, "role=lead"):
            assert auditor.get(f"/v1/record?{query}").status_code == 422


def test_the_cases_of_those_who_are_gone_come_back_to_the_lead(tmp_path: Path) -> None:
    with organisation_in(tmp_path) as organisation:
        lead, reader = organisation.desks["chemical"]
        made = organisation.send()
        other = organisation.send()
        person = organisation.as_person(reader).sign_in()
        leading = organisation.as_person(lead).sign_in()
        assert person.open(made.case).status_code == leading.open(other.case).status_code == 201
        assert leading.get("/v1/returned-cases").get_json() == {"cases": []}
        administrator = organisation.as_person(organisation.administrator).sign_in()
        decide(administrator, "suspend", "suspension", reader.id, reason="left")
        [returned] = leading.get("/v1/returned-cases").get_json()["cases"]
        assert (returned["case"], returned["claimed_by"]) == (made.case, reader.id)
        elsewhere = organisation.as_person(organisation.desks["general"][0]).sign_in()
        assert elsewhere.get("/v1/returned-cases").get_json() == {"cases": []}


def test_an_action_of_another_deployment_is_refused(
    organisation: Organisation, administrators: list[Person]
) -> None:
    by = administrators[0]
    body = {"role": "auditor", "desks": [], "days": 1}
    action = sign_action(
        by.keys.signing,
        deployment="elsewhere",
        directory=organisation.directory.version,
        action="invite",
        case=None,
        actor=by.keys.id,
        body=body,
        made_at=organisation.clock(),
    )
    answer = by.post("/v1/invitations", {**body, "action": action})
    assert_problem(answer, 422, "action-refused")
