"""The edges of what is decided about people: the last day, the key of somebody else, the act that nobody signed."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from amana.access.models import Invitation, KeyReplacement, SignedAction, Suspension
from amana.access.models import Person as PersonRow
from amana.client.keyfile import PersonKeys, intake_key_fields
from amana.custody.models import Event
from amana.protocol.case import intake_key_id
from amana.protocol.encoding import random_id
from amana.protocol.sealing import Identity
from tests.support.decisions import decide, newcomer, shown, waiting
from tests.support.newcomers import (
    bring,
    enrolment,
    invitation,
    invite,
    new_keys,
    vetting,
)
from tests.support.officers import Officers
from tests.support.organisation import Organisation, Person, organisation_in


def assert_problem(answer: Any, status: int, slug: str) -> None:
    assert (answer.status_code, answer.get_json()["type"]) == (status, slug)


def replacing(person: Person, identity: Identity) -> Any:
    keys = person.keys
    new = PersonKeys(keys.id, keys.role, keys.signing, identity)
    return person.replace_key(new)


def everything(organisation: Organisation) -> list[Any]:
    """Return every row that a decision about people could change."""
    tables = (PersonRow, Invitation, KeyReplacement, Suspension, SignedAction, Event)
    with organisation.services.database.reading() as session:
        return [
            sorted(map(repr, session.execute(sa.select(*table.__table__.columns))))
            for table in tables
        ]


# Coming in


def test_an_invitation_works_on_its_last_day_and_not_on_the_next(
    organisation: Organisation, administrators: list[Person]
) -> None:
    tokens = [invite(administrators[0], days=3) for _ in range(2)]
    keys = [new_keys() for _ in tokens]
    documents = [enrolment(organisation, *one) for one in zip(keys, tokens, strict=True)]
    before = organisation.clock.now
    organisation.clock.turn(days=3)
    try:
        assert bring(organisation, tokens[0], documents[0]).status_code == 201
        organisation.clock.turn(days=1)
        late = bring(organisation, tokens[1], documents[1])
        assert_problem(late, 403, "invitation-refused")
    finally:
        organisation.clock.now = before


def test_the_keys_of_custodians_and_partners_are_known_too(
    organisation: Organisation, administrators: list[Person]
) -> None:
    partner = newcomer(organisation, administrators[0], "partner", ())
    Officers(organisation).accept(waiting(administrators[0], partner.id), partner.id)
    organisation.as_person(partner).sign_in()
    custodian = organisation.of_role("custodian")[0]
    token, fresh = invite(administrators[0]), new_keys()
    for known in (custodian, partner):
        keys = PersonKeys(fresh.id, "reviewer", fresh.signing, known.intake)
        document = enrolment(organisation, keys, token)
        assert_problem(bring(organisation, token, document), 409, "key-known")


def test_an_enrolment_is_an_event_of_custody(
    organisation: Organisation, administrators: list[Person]
) -> None:
    keys = newcomer(organisation, administrators[0])
    with organisation.services.database.reading() as session:
        events = session.scalars(sa.select(Event.event)).all()
    [event] = [one for one in events if keys.id.encode() in one and b'"enrolment"' in one]
    assert b'"sha256"' in event


# Waiting for the officers


def test_a_suspended_newcomer_waits_only_when_reinstated(
    organisation: Organisation, administrators: list[Person]
) -> None:
    keys = newcomer(organisation, administrators[0])
    assert waiting(administrators[0], keys.id)
    decide(administrators[0], "suspend", "suspension", keys.id, reason="a doubt")
    assert not waiting(administrators[0], keys.id)
    for by in administrators:
        decide(by, "reinstate", "reinstatement", keys.id, reason="no doubt")
    assert waiting(administrators[0], keys.id)


def test_the_new_key_of_the_suspended_and_of_leavers_does_not_wait(
    organisation: Organisation, administrators: list[Person]
) -> None:
    officers = Officers(organisation)
    keys = newcomer(organisation, administrators[0])
    officers.accept(waiting(administrators[0], keys.id), keys.id)
    person = organisation.as_person(keys).sign_in()
    assert replacing(person, Identity.generate()).status_code == 204
    assert [one["kind"] for one in waiting(administrators[0], keys.id)] == ["replacement"]
    decide(administrators[0], "suspend", "suspension", keys.id, reason="lost device")
    assert not waiting(administrators[0], keys.id)
    for by in administrators:
        decide(by, "reinstate", "reinstatement", keys.id, reason="found")
    assert waiting(administrators[0], keys.id)
    officers.remove(keys.id)
    assert not waiting(administrators[0], keys.id)
    assert shown(administrators[0], keys.id)["standing"] == "gone"
    organisation.clock.turn(days=85)
    try:
        due = administrators[0].sign_in().get("/v1/access-reviews").get_json()["due"]
        assert keys.id not in [one["id"] for one in due]
    finally:
        organisation.clock.turn(days=-85)


def test_a_new_key_that_somebody_else_holds_or_asked_for_is_refused(
    organisation: Organisation, administrators: list[Person]
) -> None:
    first, second = (organisation.as_person(one).sign_in() for one in organisation.desks["general"])
    enrolled = newcomer(organisation, administrators[0])
    assert_problem(replacing(first, enrolled.intake), 409, "key-known")
    new = Identity.generate()
    assert replacing(first, new).status_code == 204
    assert_problem(replacing(second, new), 409, "key-known")
    assert replacing(first, new).status_code == 204
    later = Identity.generate()
    assert replacing(first, later).status_code == 204
    [one] = waiting(administrators[0], first.keys.id)
    assert one["intake_key"] == str(later.recipient)


def test_a_key_that_was_replaced_never_comes_back_to_anybody(
    organisation: Organisation, administrators: list[Person]
) -> None:
    keys, colleague = organisation.desks["general"]
    person = organisation.as_person(keys).sign_in()
    dropped, new = organisation.directory.intake_key(keys.id), Identity.generate()
    assert replacing(person, new).status_code == 204
    Officers(organisation).accept(waiting(administrators[0], keys.id), keys.id)
    assert str(dropped) not in organisation.directory.intake_keys()
    # Two versions later it is as known as on the first day.
    Officers(organisation).publish(lambda _: None)
    for one in (keys, colleague):
        by = organisation.as_person(one).sign_in()
        assert_problem(replacing(by, keys.intake), 409, "key-known")
    token, fresh = invite(administrators[0]), new_keys()
    theirs = PersonKeys(fresh.id, "reviewer", fresh.signing, keys.intake)
    answer = bring(organisation, token, enrolment(organisation, theirs, token))
    assert_problem(answer, 409, "key-known")
    assert replacing(person, Identity.generate()).status_code == 204


# What was not signed as it must be


ABOUT = {"person": ""}
ACTS = {
    "invite": ("/v1/invitations", {"role": "auditor", "desks": [], "days": 7}),
    "vet": ("/v1/people/{}/vetting", ABOUT),
    "suspend": ("/v1/people/{}/suspension", {**ABOUT, "reason": "x"}),
    "reinstate": ("/v1/people/{}/reinstatement", {**ABOUT, "reason": "x"}),
    "confirm": ("/v1/people/{}/confirmation", ABOUT),
    "withdraw-invite": ("/v1/invitations/{}/withdrawal", {"invitation": ""}),
    "recuse": ("/v1/conflicts", {"conflicts": ["place:x"]}),
    "replace-key": ("/v1/key-replacements", {}),
}


@pytest.mark.parametrize("kind", ACTS)
def test_nothing_is_decided_without_the_signature_of_who_decides(
    organisation: Organisation, administrators: list[Person], kind: str
) -> None:
    by, other = administrators
    path, body = ACTS[kind]
    if kind in {"recuse", "replace-key"}:
        by, other = (organisation.as_person(x).sign_in() for x in organisation.desks["chemical"])
    if kind == "replace-key":
        new = PersonKeys(by.keys.id, "reviewer", by.keys.signing, Identity.generate())
        listed = organisation.directory.intake_key(by.keys.id)
        assert listed is not None
        body = {**intake_key_fields(new), "replaces": intake_key_id(listed)}
    if "invitation" in body:
        made, _ = invitation(other)
        path, body = path.format(made), {"invitation": made}
    if "person" in body:
        person = newcomer(organisation, administrators[0]).id
        path, body = path.format(person), {**body, "person": person}
        if kind == "vet":
            body = {**body, **vetting(organisation)}
        if kind == "reinstate":
            decide(other, "suspend", "suspension", person, reason="x")
    now = {"directory": organisation.directory.version}
    good = {"action": kind, "body": body, **now}
    wrong: list[dict[str, Any]] = [
        {**good, "key": other.keys.signing},
        {**good, "actor": other.keys.id},
        {**good, "action": "grant"},
        {**good, "body": {**body, "more": 1}},
        {**good, "deployment": "elsewhere"},
        {**good, "made_at": organisation.clock() - timedelta(minutes=6)},
        {**good, "made_at": organisation.clock() + timedelta(minutes=6)},
    ]
    before = everything(organisation)
    for fields in wrong:
        answer = by.post(path, {**body, "action": by.action(None, **fields)})
        assert_problem(answer, 422, "action-refused")
    older = by.action(None, **{**good, "directory": now["directory"] - 1})
    assert by.post(path, {**body, "action": older}).status_code in {409, 422}
    assert by.post(path, {**body, "action": {}}).status_code == 422
    assert everything(organisation) == before
    action = by.action(None, **good)
    assert by.post(path, {**body, "action": action}).status_code in {200, 201, 204}
    after = everything(organisation)
    again = by.post(path, {**body, "action": action})
    assert again.status_code == 409
    assert everything(organisation) == after


def test_nobody_vouches_for_themselves_or_for_whom_they_vet(
    organisation: Organisation, administrators: list[Person]
) -> None:
    by, keys = administrators[0], newcomer(organisation, administrators[0])
    for voucher in (by.keys.id, keys.id, by.keys.id.upper()):
        body = {**vetting(organisation), "vouchers": ["Dr. A", voucher]}
        answer = decide(by, "vet", "vetting", keys.id, **body)
        assert_problem(answer, 422, "vouchers-invalid")
    assert waiting(by, keys.id)[0]["vetting"] is None


@pytest.mark.parametrize(
    "second", ["Dr. A", "dr. a", "Dr. A ", " Dr. A", " ", "Dr.\x00B", "Dr.\nB"]
)
def test_two_vouchers_are_two_people_with_names(
    organisation: Organisation, administrators: list[Person], second: str
) -> None:
    keys = newcomer(organisation, administrators[0])
    body = {**vetting(organisation), "vouchers": ["Dr. A", second]}
    assert decide(administrators[0], "vet", "vetting", keys.id, **body).status_code == 422
    assert waiting(administrators[0], keys.id)[0]["vetting"] is None


@pytest.mark.parametrize("reason", ["", " ", "a\x00b", "a\nb", "a\x1b[2J", "x" * 1001])
def test_a_reason_is_one_line_that_says_something(
    organisation: Organisation, administrators: list[Person], reason: str
) -> None:
    keys = newcomer(organisation, administrators[0])
    answer = decide(administrators[0], "suspend", "suspension", keys.id, reason=reason)
    assert_problem(answer, 422, "unprocessable-entity")
    assert shown(administrators[0], keys.id)["standing"] == "pending"


def test_a_vetting_as_large_as_it_may_be_has_room(
    organisation: Organisation, administrators: list[Person]
) -> None:
    keys = newcomer(organisation, administrators[0])
    large = {
        "vouchers": ["ä" * 200, "ö" * 200],
        "languages": [f"ab{one}-abcdefgh-abcdefgh-abcdefgh" for one in "abcdefghijklmnop"],
        "specialities": [f"{n:064}" for n in range(15)],
        "conflicts": [f"{n:064}" for n in range(200)],
    }
    body = {**vetting(organisation), **large}
    assert decide(administrators[0], "vet", "vetting", keys.id, **body).status_code == 204
    found = shown(administrators[0], keys.id)
    assert {name: found[name] for name in large if name != "vouchers"} == {
        name: value for name, value in large.items() if name != "vouchers"
    }


@pytest.mark.parametrize(
    "larger",
    [
        {"languages": [f"ab-{n:08}" for n in range(17)]},
        {"specialities": [f"{n}" for n in range(16)]},
        {"specialities": ["x" * 65]},
        {"conflicts": [f"{n}" for n in range(201)]},
        {"vouchers": ["Dr. A", "x" * 201]},
    ],
)
def test_a_larger_vetting_is_refused(
    organisation: Organisation, administrators: list[Person], larger: dict[str, Any]
) -> None:
    keys = newcomer(organisation, administrators[0])
    body = {**vetting(organisation), **larger}
    answer = decide(administrators[0], "vet", "vetting", keys.id, **body)
    assert_problem(answer, 422, "unprocessable-entity")


def test_a_later_vetting_takes_no_conflict_away_and_none_has_too_many(
    organisation: Organisation, administrators: list[Person]
) -> None:
    keys = organisation.desks["general"][1]
    person = organisation.as_person(keys).sign_in()
    first = [f"place:{n:03}" for n in range(199)]
    assert person.act("recuse", "/v1/conflicts", conflicts=first).status_code == 204
    body = {**vetting(organisation), "conflicts": ["person:1"]}
    assert decide(administrators[0], "vet", "vetting", keys.id, **body).status_code == 204
    assert shown(administrators[0], keys.id)["conflicts"] == ["person:1", *first]
    more = person.act("recuse", "/v1/conflicts", conflicts=["person:2"])
    assert_problem(more, 422, "too-many-codes")
    body = {**vetting(organisation), "conflicts": ["person:2"]}
    refused = decide(administrators[0], "vet", "vetting", keys.id, **body)
    assert_problem(refused, 422, "too-many-codes")
    assert person.act("recuse", "/v1/conflicts", conflicts=["person:1"]).status_code == 204
    assert shown(administrators[0], keys.id)["conflicts"] == ["person:1", *first]


# Administrators who were put out


def test_the_word_of_an_administrator_who_was_put_out_counts_no_more(tmp_path: Path) -> None:
    with organisation_in(tmp_path) as organisation:
        honest, bad = (
            organisation.as_person(one).sign_in() for one in organisation.of_role("administrator")
        )
        keys = newcomer(organisation, honest, "administrator", ())
        Officers(organisation).accept(waiting(honest, keys.id), keys.id)
        third = organisation.as_person(keys).sign_in()
        reader = organisation.desks["chemical"][1].id
        token = invite(bad)
        decide(honest, "suspend", "suspension", reader, reason="a doubt")
        assert decide(bad, "reinstate", "reinstatement", reader, reason="x").status_code == 200
        decide(honest, "suspend", "suspension", bad.keys.id, reason="stolen key")

        document = enrolment(organisation, new_keys(), token)
        assert_problem(bring(organisation, token, document), 403, "invitation-refused")

        consent = decide(third, "reinstate", "reinstatement", reader, reason="x")
        assert consent.get_json() == {"reinstated": False, "consents": 1}
        assert shown(honest, reader)["standing"] == "suspended"
        again = decide(third, "reinstate", "reinstatement", reader, reason="x")
        assert_problem(again, 409, "consent-given")

        for by in (honest, third):
            decide(by, "reinstate", "reinstatement", bad.keys.id, reason="found")
        # Who agreed before agrees again, now that there are two who may.
        consent = decide(third, "reinstate", "reinstatement", reader, reason="x")
        assert consent.get_json() == {"reinstated": True, "consents": 2}
        assert shown(honest, reader)["standing"] == "active"
        assert bring(organisation, token, document).status_code == 201
        missing = decide(honest, "reinstate", "reinstatement", random_id(), reason="x")
        assert_problem(missing, 404, "not-found")


def test_the_desks_are_told_in_numbers(tmp_path: Path) -> None:
    with organisation_in(tmp_path) as organisation:
        made = [organisation.send() for _ in range(3)]
        reader = organisation.as_person(organisation.desks["chemical"][1]).sign_in()
        assert reader.open(made[0].case).status_code == 201
        administrator = organisation.as_person(organisation.administrator).sign_in()
        told = {one["id"]: one for one in administrator.get("/v1/desks").get_json()["desks"]}
        chemical, general = told["chemical"], told["general"]
        assert (chemical["waiting"], chemical["in_review"], chemical["readers"]) == (2, 1, 2)
        assert (general["waiting"], general["in_review"]) == (0, 0)
        assert chemical["leads"] == [organisation.desks["chemical"][0].id]
        assert all(one.case not in str(told) for one in made)


def statements(organisation: Organisation, ask: Any) -> int:
    """Return how many statements SQLAlchemy sends while somebody asks."""
    engine, seen = organisation.services.database.engine, []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    sa.event.listen(engine, "before_cursor_execute", note)
    answer = ask()
    sa.event.remove(engine, "before_cursor_execute", note)
    assert answer.status_code == 200
    return len(seen)


@pytest.mark.parametrize("path", ["/v1/people", "/v1/enrolments", "/v1/access-reviews"])
def test_more_people_are_no_more_statements(
    organisation: Organisation, administrators: list[Person], path: str
) -> None:
    first, second = administrators[:2]
    newcomer(organisation, first)
    suspended = newcomer(organisation, first)
    assert decide(second, "suspend", "suspension", suspended.id, reason="a test").status_code == 201
    before = statements(organisation, lambda: first.get(path))
    for _ in range(3):
        newcomer(organisation, first)
    assert statements(organisation, lambda: first.get(path)) == before <= 4
