"""Review days come: leads are told and prolong, readers and witnesses hear of the end, and what expires is destroyed."""

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from amana.consent.models import Destruction
from amana.custody.models import Event
from amana.intake import models
from amana.intake.models import Grant, State, UploadedObject
from amana.intake.retention import (
    PERIOD_LIMITS,
    RETENTION,
    Allows,
    Periods,
    Step,
    next_step,
    review_day,
    then,
)
from amana.ops.maintenance import maintain
from amana.protocol.case import intake_key_id, seal_grant
from amana.protocol.encoding import b64, random_id
from amana.protocol.sealing import Identity
from amana.retention import service
from amana.review.models import Note
from tests.support.casework import decide_case
from tests.support.organisation import Organisation, Person, organisation_in
from tests.support.statements import Witness
from tests.support.testimonies import Made

SHORT = {
    "open_days": 30,
    "set_aside_days": 30,
    "kept_days": 365,
    "unused_days": 30,
    "notice_days": 14,
}


@pytest.fixture
def own(database_url: str, tmp_path: Path) -> Iterator[Organisation]:
    with organisation_in(tmp_path, database_url) as made:
        yield made


def problem(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.get_json()["type"]


def lead_and_reader(own: Organisation) -> tuple[Person, Person]:
    lead, reader = (own.as_person(one).sign_in() for one in own.desks["chemical"])
    return lead, reader


def set_periods(own: Organisation, **periods: int) -> None:
    administrator = own.as_person(own.administrator).sign_in()
    found = administrator.get("/v1/rules").get_json()
    rules = {**found["rules"], "retention": {**SHORT, **periods}}
    done = administrator.act("rule", "/v1/rules", rules=rules, replaces=found["version"])
    assert done.status_code == 201, done.get_json()


def row(own: Organisation, case: str) -> models.Testimony:
    with own.services.database.reading() as session:
        found = session.get(models.Testimony, case)
        assert found is not None
        session.expunge(found)
        return found


def later(own: Organisation, person: Person, **by: float) -> Person:
    own.clock.turn(**by)
    return person.sign_in()


def prolong(person: Person, case: str, until: date, reason: str = "proceedings") -> Any:
    path = f"/v1/cases/{case}/prolongations"
    return person.act("prolong", path, case, until=until.isoformat(), reason=reason)


def declined(own: Organisation, reader: Person, **options: Any) -> Made:
    made = own.send(files=(b"a photo",), **options)
    decide_case(reader, made, "decline")
    return made


# The rules, in the database's words


@settings(max_examples=25, suppress_health_check=list(HealthCheck), deadline=None)
@given(data=st.data())
def test_the_database_finds_exactly_the_cases_whose_day_has_come(
    own: Organisation, data: st.DataObject
) -> None:
    today = date(2026, 11, 24)
    periods = Periods(
        **{
            name: data.draw(st.integers(least, least + 60))
            for name, (least, _) in PERIOD_LIMITS.items()
        }
    )
    near = st.integers(-450, 5).map(lambda days: today + timedelta(days=days))
    database, made = own.services.database, {}
    with database.transaction() as session:
        for _ in range(data.draw(st.integers(1, 20))):
            state = data.draw(st.sampled_from(State))
            kept = state in RETENTION
            one = models.Testimony(
                case=random_id(),
                state=state,
                desk="chemical",
                language="ar",
                flags="",
                control=random_id(),
                directory=1,
                digest=bytes(32),
                paid=0,
                policy=b"x",
                labels=b"",
                manifest=b"",
                account=b"",
                declared=b"",
                object_count=1,
                size=1,
                announced_on=today,
                received_on=None if state is State.ARRIVING else today,
                receipt=None if state is State.ARRIVING else "{}",
                kept_since=data.draw(near) if kept else None,
                allows=data.draw(st.sampled_from(Allows)),
                prolonged_until=data.draw(st.none() | near) if kept else None,
                ends_on=data.draw(st.none() | near) if kept else None,
            )
            session.add(one)
            made[one.case] = one
    with database.reading() as session:
        found = {
            follows: set(
                session.scalars(
                    sa.select(models.Testimony.case).where(
                        service.past_review(periods, today, [follows]),
                        models.Testimony.case.in_(list(made)),
                    )
                )
            )
            for follows in service.Then
        }
    for case, one in made.items():
        kept_as = service.kept_as_noted(one)
        day = review_day(kept_as, periods)
        come = day is not None and day <= today
        assert come == (next_step(kept_as, periods, today) is not Step.KEEP)
        for follows, cases in found.items():
            assert (case in cases) == (come and then(kept_as) is follows)


# What expires


def test_a_declined_case_is_told_to_end_and_then_destroyed_as_after_a_withdrawal(
    own: Organisation,
) -> None:
    lead, reader = lead_and_reader(own)
    set_periods(own)
    made = declined(own, reader)
    witness = Witness(own, made)
    own.clock.turn(days=29)
    assert maintain(own.services).done["cases_announced_to_expire"] == 0
    own.clock.turn(days=1)
    report = maintain(own.services)
    assert report.failed == ()
    assert report.done["cases_announced_to_expire"] == 1
    assert report.done["cases_expired"] == 0
    assert maintain(own.services).done["cases_announced_to_expire"] == 0
    ends = own.clock().date() + timedelta(days=14)
    for person in (lead, reader):
        told = person.sign_in().get("/v1/cases").get_json()
        assert told["expiring"] == [{"case": made.case, "ends_on": ends.isoformat()}]
    assert (
        own.as_person(own.desks["general"][0]).sign_in().get("/v1/cases").get_json()["expiring"]
        == []
    )
    assert witness.status()["ends_on"] == ends.isoformat()
    need = {one.kind: one for one in maintain(own.services).needs_a_person}["cases-expiring"]
    assert (need.count, need.about) == (1, (lead.keys.id,))

    own.clock.turn(days=13)
    assert maintain(own.services).done["cases_expired"] == 0
    own.clock.turn(days=1)
    done = maintain(own.services).done
    assert (done["cases_expired"], done["cases_destroyed"]) == (1, 1)
    done = maintain(own.services).done
    assert (done["cases_expired"], done["cases_destroyed"]) == (0, 0)

    gone = row(own, made.case)
    assert (gone.state, gone.policy, gone.manifest, gone.account) == ("expired", b"", b"", b"")
    with own.services.database.reading() as session:
        for table in (Grant, UploadedObject, Note):
            query = sa.select(table).where(table.case == made.case)
            assert session.scalars(query).all() == []
        tombstone = session.get(Destruction, made.case)
        assert tombstone is not None
        assert (tombstone.reason, tombstone.destroyed_on) == ("expired", own.clock().date())
        events = session.scalars(sa.select(Event.event).where(Event.case == made.case)).all()
    assert any(b'"kind":"testimony-expired"' in one for one in events)
    assert any(b'"because":"expired"' in one for one in events)
    assert own.services.blobs.size(f"{made.case}/1") is None

    # A lead who kept the case key gives it to nobody any more, neither as a first nor as a second reader.
    name = intake_key_id(reader.keys.intake_recipient)
    grant = b64(seal_grant(Identity.generate(), reader.keys.intake_recipient))
    for second in (False, True):
        answer = lead.sign_in().hand_over(
            made.case, reader.keys.id, second=second, intake_key=name, grant=grant
        )
        assert problem(answer) == (410, "case-expired")
    with own.services.database.reading() as session:
        assert session.scalars(sa.select(Grant).where(Grant.case == made.case)).all() == []

    told = reader.sign_in().get("/v1/cases").get_json()
    assert told["expired"] == [{"case": made.case, "expired_on": own.clock().date().isoformat()}]
    assert (told["expiring"], told["withdrawn"]) == ([], [])
    status = witness.status()
    assert (status["state"], status["policies"], status["withdrawal"]) == ("expired", [], None)
    assert status["expiry"] == {
        "expired_on": ends.isoformat(),
        "destroyed_on": ends.isoformat(),
        "backups_until": (ends + timedelta(days=35)).isoformat(),
    }
    assert [one["reader"] for one in status["opened"]] == [reader.keys.id]
    for kind in ("withdraw", "take-back"):
        assert problem(witness.change(kind)) == (410, "case-expired")
    assert problem(witness.say(witness.statement("withdraw"))) == (410, "case-expired")
    assert problem(reader.open(made.case)) == (404, "not-found")


def test_a_maintenance_that_did_not_run_for_years_still_tells_first(own: Organisation) -> None:
    _, reader = lead_and_reader(own)
    made = declined(own, reader)
    own.clock.turn(days=3000)
    done = maintain(own.services).done
    assert (done["cases_announced_to_expire"], done["cases_expired"]) == (1, 0)
    assert row(own, made.case).ends_on == own.clock().date() + timedelta(days=30)
    own.clock.turn(days=30)
    assert maintain(own.services).done["cases_expired"] == 1


@pytest.mark.parametrize(
    ("decision", "scopes", "years", "end"),
    [
        ("decline", {"review": "allow", "archive": "allow"}, 2, "expired"),
        ("refer", {"review": "allow"}, 2, "referred"),
        ("refer", {"review": "allow"}, 6, "expired"),
        ("accept", {"review": "allow"}, 6, "expired"),
        ("accept", {"review": "allow", "archive": "ask"}, 6, "expired"),
        ("accept", {"review": "allow", "archive": "allow"}, 60, "accepted"),
    ],
)
def test_what_becomes_of_a_decided_case(
    own: Organisation, decision: str, scopes: dict[str, str], years: int, end: str
) -> None:
    _, reader = lead_and_reader(own)
    made = own.send(scopes=scopes)
    decide_case(reader, made, decision)
    own.clock.turn(days=365 * years)
    maintain(own.services)
    own.clock.turn(days=30)
    maintain(own.services)
    assert row(own, made.case).state == end


def test_what_is_not_decided_is_shown_to_its_lead_and_never_destroyed(own: Organisation) -> None:
    lead, reader = lead_and_reader(own)
    set_periods(own)
    waiting, claimed = own.send(), own.send()
    assert reader.claim(claimed.case).status_code == 204
    own.clock.turn(days=29)
    assert lead.sign_in().get("/v1/retention").get_json() == {"cases": []}
    later(own, lead, days=1)
    found = lead.get("/v1/retention").get_json()["cases"]
    assert {one["case"] for one in found} == {waiting.case, claimed.case}
    assert {(one["then"], one["ends_on"]) for one in found} == {("look", None)}
    assert problem(reader.sign_in().get("/v1/retention")) == (403, "not-allowed")
    other = own.as_person(own.desks["general"][0]).sign_in()
    assert other.get("/v1/retention").get_json() == {"cases": []}
    need = {one.kind: one for one in maintain(own.services).needs_a_person}["review-days-past"]
    assert (need.count, need.about) == (2, (lead.keys.id,))
    own.clock.turn(days=4000)
    assert maintain(own.services).done["cases_announced_to_expire"] == 0
    assert row(own, waiting.case).state == "received"


# Who keeps it longer


def test_a_lead_prolongs_with_a_signed_word_and_within_a_year(own: Organisation) -> None:
    lead, reader = lead_and_reader(own)
    set_periods(own)
    made = declined(own, reader)
    case, today = made.case, own.clock().date()
    shown = reader.get(f"/v1/cases/{case}/retention").get_json()
    assert (shown["review_on"], shown["then"], shown["prolonged_until"]) == (
        (today + timedelta(days=30)).isoformat(),
        "expire",
        None,
    )
    later(own, lead, days=31)
    today = own.clock().date()
    maintain(own.services)
    assert row(own, case).ends_on is not None

    year = today + timedelta(days=365)
    assert problem(prolong(reader.sign_in(), case, year)) == (403, "not-allowed")
    outsider = own.as_person(own.desks["general"][0]).sign_in()
    assert problem(prolong(outsider, case, year)) == (404, "not-found")
    for wrong in (today, today - timedelta(days=1), year + timedelta(days=1)):
        assert problem(prolong(lead, case, wrong)) == (422, "prolong-days")
    assert prolong(lead, case, year, "whatever").status_code == 422
    body = {"until": "someday", "reason": "other"}
    path = f"/v1/cases/{case}/prolongations"
    assert lead.act("prolong", path, case, **body).status_code == 422
    signed = lead.action(case, action="prolong", body={**body, "until": today.isoformat()})
    moved = {"action": signed, "until": year.isoformat(), "reason": "other"}
    assert problem(lead.post(path, moved)) == (422, "action-refused")
    for unknown in (random_id(), "x", "%00"):
        assert prolong(lead, unknown, year).status_code in (404, 422)

    done = prolong(lead, case, year)
    assert done.status_code == 201, done.get_json()
    assert (done.get_json()["review_on"], done.get_json()["ends_on"]) == (year.isoformat(), None)
    assert problem(prolong(lead, case, year)) == (422, "prolong-days")
    with own.services.database.reading() as session:
        events = session.scalars(sa.select(Event.event).where(Event.case == case)).all()
    assert any(b'"action":"prolong"' in one for one in events)
    own.clock.turn(days=364)
    assert maintain(own.services).done["cases_announced_to_expire"] == 0
    own.clock.turn(days=1)
    assert maintain(own.services).done["cases_announced_to_expire"] == 1


def test_a_lead_may_keep_what_was_never_sealed_to_them(own: Organisation) -> None:
    lead, reader = lead_and_reader(own)
    readers = own.directory.readers_of("chemical")
    made = own.send(readers={one.id: one.intake_key for one in readers if one.id == reader.keys.id})
    decide_case(reader, made)
    assert lead.get(f"/v1/cases/{made.case}").status_code == 404
    assert lead.get(f"/v1/cases/{made.case}/retention").status_code == 200
    until = own.clock().date() + timedelta(days=365)
    assert problem(prolong(lead, made.case, until)) == (422, "prolong-days")
    set_periods(own)
    assert prolong(lead, made.case, until).status_code == 201


def test_nothing_is_kept_longer_than_its_consent(own: Organisation) -> None:
    lead, reader = lead_and_reader(own)
    set_periods(own, set_aside_days=300)
    made = declined(own, reader)
    witness = Witness(own, made)
    assert witness.consent({"review": "deny"}).status_code == 200
    until = own.clock().date() + timedelta(days=300)
    assert problem(prolong(lead, made.case, until)) == (422, "consent-allows-nothing")
    own.clock.turn(days=30)
    assert maintain(own.services).done["cases_announced_to_expire"] == 1
    # Who allows something again keeps it for as long as the others, once the delay is over.
    assert witness.consent({"review": "allow"}).status_code == 200
    own.clock.turn(days=6)
    maintain(own.services)
    assert row(own, made.case).ends_on is not None
    own.clock.turn(days=1)
    maintain(own.services)
    assert (row(own, made.case).ends_on, row(own, made.case).allows) == (None, "uses")
    assert lead.sign_in().get("/v1/retention").get_json() == {"cases": []}


def test_a_prolongation_counts_no_more_when_the_consent_is_gone(own: Organisation) -> None:
    lead, reader = lead_and_reader(own)
    set_periods(own)
    made = declined(own, reader)
    until = own.clock().date() + timedelta(days=365)
    assert prolong(lead, made.case, until).status_code == 201
    own.clock.turn(days=30)
    assert maintain(own.services).done["cases_announced_to_expire"] == 0
    assert Witness(own, made).consent({}).status_code == 200
    assert maintain(own.services).done["cases_announced_to_expire"] == 1


def test_longer_periods_keep_what_was_told_to_end(own: Organisation) -> None:
    _, reader = lead_and_reader(own)
    set_periods(own)
    made = declined(own, reader)
    own.clock.turn(days=30)
    assert maintain(own.services).done["cases_announced_to_expire"] == 1
    set_periods(own, set_aside_days=100)
    own.clock.turn(days=14)
    assert maintain(own.services).done["cases_expired"] == 0
    assert row(own, made.case).ends_on is None
    own.clock.turn(days=56)
    assert maintain(own.services).done["cases_announced_to_expire"] == 1


# Others who act at the same time


def test_a_withdrawal_is_not_undone_by_an_expiry_and_has_its_own_day(own: Organisation) -> None:
    _, reader = lead_and_reader(own)
    set_periods(own)
    made = declined(own, reader)
    witness = Witness(own, made)
    own.clock.turn(days=30)
    maintain(own.services)
    own.clock.turn(days=13)
    assert witness.change("withdraw").status_code == 200
    assert row(own, made.case).ends_on is None
    own.clock.turn(days=1)
    # Listed before it was withdrawn, looked at after.
    with own.services.database.transaction() as session:
        assert service.take_step(session, made.case, own.services.today()) is None
    assert maintain(own.services).done["cases_destroyed"] == 0
    assert witness.status()["state"] == "withdrawn"
    assert witness.change("take-back").get_json()["state"] == "received"
    assert row(own, made.case).kept_since == own.clock().date()


def test_a_case_whose_policies_are_damaged_is_kept_and_keeps_no_other(own: Organisation) -> None:
    _, reader = lead_and_reader(own)
    set_periods(own)
    damaged, other = declined(own, reader), declined(own, reader)
    with own.services.database.transaction() as session:
        found = session.get(models.Testimony, damaged.case)
        assert found is not None
        found.policy = found.policy[:-10] + b"x" * 10
    own.clock.turn(days=30)
    report = maintain(own.services)
    assert (report.done["cases_announced_to_expire"], report.failed) == (1, ())
    own.clock.turn(days=30)
    assert maintain(own.services).done["cases_expired"] == 1
    assert row(own, damaged.case).state == "declined"
    assert row(own, other.case).state == "expired"


@pytest.mark.parametrize(
    "change",
    [
        {"notice_days": 13},
        {"set_aside_days": 29},
        {"kept_days": 364},
        {"unused_days": True},
        {"open_days": "30"},
        {"more": 1},
    ],
)
def test_periods_out_of_their_limits_are_refused(own: Organisation, change: dict[str, Any]) -> None:
    administrator = own.as_person(own.administrator).sign_in()
    rules = administrator.get("/v1/rules").get_json()["rules"]
    assert rules["retention"] == vars(Periods())
    for wrong in ({**SHORT, **change}, {}, None):
        body = {**rules, "retention": wrong}
        answer = administrator.act("rule", "/v1/rules", rules=body, replaces=0)
        assert answer.status_code == 422
    del rules["retention"]
    answer = administrator.act("rule", "/v1/rules", rules=rules, replaces=0)
    assert answer.status_code == 422
