"""The record of a day is that of its end, page after page; and every case of who is gone comes back to its lead."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from amana.access.models import Person as PersonRow
from amana.access.standing import DORMANT_DAYS, REVIEW_DAYS, Standing
from amana.consent.destroying import destroy_due
from amana.ops.maintenance import maintain
from amana.people import record
from amana.protocol.case import intake_key_id, open_grant, seal_grant
from amana.protocol.encoding import b64, unb64
from tests.support.decisions import decide
from tests.support.newcomers import vetting
from tests.support.officers import Officers
from tests.support.organisation import Organisation, Person, organisation_in
from tests.support.server import amana
from tests.support.statements import Witness


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Organisation]:
    with organisation_in(tmp_path) as organisation:
        yield organisation


@pytest.fixture
def database(tmp_path: Path, database_url: str) -> Iterator[Organisation]:
    with organisation_in(tmp_path, database_url) as organisation:
        yield organisation


def staff(organisation: Organisation, role: str) -> list[Person]:
    return [organisation.as_person(one).sign_in() for one in organisation.of_role(role)]


def day_of(organisation: Organisation) -> str:
    return organisation.clock().date().isoformat()


def test_who_was_suspended_or_listed_is_told_as_of_the_end_of_the_day(own: Organisation) -> None:
    reader = own.desks["chemical"][1].id
    own.send()
    days = []

    def told() -> list[tuple[bool, bool]]:
        auditor = staff(own, "auditor")[0]
        found = []
        for day in days:
            people = auditor.get(f"/v1/record?day={day}").get_json()["people"]
            found += [(one["suspended"], one["listed"]) for one in people if one["id"] == reader]
        return found

    days.append(day_of(own))
    own.clock.turn(days=1)
    days.append(day_of(own))
    decide(staff(own, "administrator")[0], "suspend", "suspension", reader, reason="x")
    own.clock.turn(days=1)
    days.append(day_of(own))
    for by in staff(own, "administrator"):
        assert decide(by, "reinstate", "reinstatement", reader, reason="x").status_code == 200
    own.clock.turn(days=1)
    days.append(day_of(own))
    Officers(own).remove(reader)
    assert told() == [(False, True), (True, True), (False, True), (False, False)]


def paged(by: Person, path: str) -> list[dict[str, Any]]:
    """Return all pages of a record."""
    pages = [by.get(path).get_json()]
    mark = "&" if "?" in path else "?"
    while pages[-1]["next"] is not None:
        answer = by.get(f"{path}{mark}cursor={pages[-1]['next']}")
        assert answer.status_code == 200, answer.get_json()
        pages.append(answer.get_json())
    return pages


def whole(by: Person, path: str, name: str) -> list[dict[str, Any]]:
    return [one for page in paged(by, path) for one in page[name]]


@pytest.mark.parametrize("size", [1, 2, 100])
def test_all_that_somebody_opened_and_signed_is_told_however_many_pages_it_takes(
    database: Organisation, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(record, "PAGE", size)
    own = database
    reader = own.as_person(own.desks["chemical"][1]).sign_in()
    cases = []
    for seconds in (0, 0, 60, 60, 60):
        own.clock.turn(seconds=seconds)
        cases.append(own.send().case)
        assert reader.open(cases[-1]).status_code == 201
    assert reader.open(cases[0]).status_code == 201
    auditor = staff(own, "auditor")[0]
    path = f"/v1/record?person={reader.keys.id}"
    opened = whole(auditor, path, "opened")
    assert sorted(one["case"] for one in opened) == sorted(cases)
    instants = [one["opened_at"] for one in opened]
    assert instants == sorted(instants, reverse=True)
    acted = whole(auditor, path, "actions")
    assert len(acted) == 11
    assert {(one["action"], one["case"]) for one in acted} == {
        (action, case) for action in ("claim", "open") for case in cases
    }
    assert sorted(one["case"] for one in whole(auditor, path, "could_open")) == sorted(cases)
    assert len(paged(auditor, path)) == max(1, -(-11 // size))
    for cursor in ("x", "...x", "a.b", "." * 3 + "MjAyNi0xMS0yNi5h", "." * 4):
        assert auditor.get(f"{path}&cursor={cursor}").status_code == 422


def test_who_was_put_out_let_back_and_confirmed_is_told_with_by_whom_and_why(
    database: Organisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "PAGE", 2)
    own = database
    first, second = staff(own, "administrator")
    one, other = (keys.id for keys in own.desks["chemical"])
    expected = []

    def does(by: Person, kind: str, path: str, person: str, reason: str | None = None) -> None:
        body = {} if reason is None else {"reason": reason}
        assert decide(by, kind, path, person, **body).status_code < 300
        made_at = own.clock().isoformat()
        expected.insert(0, (kind, person, by.keys.id, reason, made_at))
        own.clock.turn(seconds=1)

    does(first, "suspend", "suspension", one, 'a doubt, "person":"' + other)
    yesterday = day_of(own)
    own.clock.turn(days=1)
    first, second = staff(own, "administrator")
    does(second, "reinstate", "reinstatement", one, "no doubt")
    does(first, "reinstate", "reinstatement", one, "agreed")
    does(first, "confirm", "confirmation", other)
    does(first, "confirm", "confirmation", second.keys.id)
    vet = vetting(own)
    assert decide(first, "vet", "vetting", other, **vet).status_code == 204

    def told(path: str) -> list[tuple[Any, ...]]:
        names = ("action", "person", "by", "reason", "made_at")
        rows = whole(staff(own, "auditor")[0], path, "decisions")
        return [tuple(row[name] for name in names) for row in rows]

    assert told("/v1/record") == expected
    assert told(f"/v1/record?person={one}") == expected[2:]
    assert told(f"/v1/record?person={other}") == [expected[1]]
    assert (
        told(f"/v1/record?person={one}&day={yesterday}")
        == told(f"/v1/record?day={yesterday}")
        == expected[-1:]
    )
    people = [len(page["people"]) for page in paged(first.sign_in(), "/v1/record")]
    assert not any(people[1:])
    signed = whole(second.sign_in(), f"/v1/record?person={first.keys.id}", "actions")
    assert [(row["action"], row["person"]) for row in signed] == [
        ("vet", other),
        ("confirm", second.keys.id),
        ("confirm", other),
        ("reinstate", one),
        ("suspend", one),
    ]
    with own.served() as url:
        key = own.folder / "demo" / "administrators" / f"{second.keys.id}.key"
        here = ("--server", url, "--root", own.folder / "demo" / "root.json", "--key", key)
        here = (*here, "--day", "9999-12-31")
        own.clock.follow()
        as_json = json.loads(amana("admin", "record", *here, "--json").stdout)
        assert len(as_json["decisions"]) == len(expected)
        shown = amana("admin", "record", "--person", one, *here).stdout
        for kind, person, by, reason, _ in expected[2:]:
            assert f"{kind} of {person}\n  by {by}\n  because: {reason}\n" in shown
        shown = amana("admin", "record", "--person", first.keys.id, *here).stdout
        assert all(row["action"] in shown and row["person"] in shown for row in signed)


def test_the_record_of_a_person_comes_in_pages_and_ends_with_the_day(
    own: Organisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "PAGE", 2)
    reader = own.as_person(own.desks["chemical"][1])
    first = [own.send().case for _ in range(3)]
    yesterday = day_of(own)
    assert reader.sign_in().open(first[0]).status_code == 201
    own.clock.turn(days=1)
    second = [own.send().case for _ in range(2)]
    assert reader.sign_in().open(second[0]).status_code == 201
    auditor = staff(own, "auditor")[0]

    def pages(query: str) -> list[list[str]]:
        path = f"/v1/record?person={reader.keys.id}{query}"
        return [[one["case"] for one in page["could_open"]] for page in paged(auditor, path)]

    ordered = sorted(first) + sorted(second)
    assert pages("") == [ordered[:2], ordered[2:4], ordered[4:]]
    assert pages(f"&day={yesterday}") == [ordered[:2], ordered[2:3]]
    path = f"/v1/record?person={reader.keys.id}&day={yesterday}"
    earlier = auditor.get(path).get_json()
    assert [one["case"] for one in earlier["opened"]] == [first[0]]
    assert sorted(one["action"] for one in earlier["actions"]) == ["claim", "open"]
    assert {one["case"] for one in earlier["actions"]} == {first[0]}
    today = auditor.get(f"/v1/record?person={reader.keys.id}").get_json()
    assert [one["case"] for one in today["opened"]] == [second[0], first[0]]


def test_what_a_colleague_handed_on_could_be_opened_from_that_day_and_what_is_destroyed_is_told(
    own: Organisation,
) -> None:
    lead, reader = (own.as_person(one).sign_in() for one in own.desks["chemical"])
    made = own.send(readers={lead.keys.id: lead.keys.intake_recipient})
    arrived = day_of(own)
    own.clock.turn(days=1)
    assert lead.sign_in().open(made.case).status_code == 201
    [mine] = lead.get(f"/v1/cases/{made.case}/grants").get_json()["grants"]
    assert lead.keys.intake is not None
    key = open_grant(unb64(mine["grant"]), lead.keys.intake, made.case)
    given = seal_grant(key, reader.keys.intake_recipient)
    name = intake_key_id(reader.keys.intake_recipient)
    handed = lead.hand_over(made.case, reader.keys.id, intake_key=name, grant=b64(given))
    assert handed.status_code == 204
    handed_on = day_of(own)

    def could_open(day: str) -> dict[str, int]:
        auditor = staff(own, "auditor")[0]
        people = auditor.get(f"/v1/record?day={day}").get_json()["people"]
        return {one["id"]: one["could_open"] for one in people}

    def held(day: str) -> list[tuple[str, str | None, str | None]]:
        auditor = staff(own, "auditor")[0]
        path = f"/v1/record?person={reader.keys.id}&day={day}"
        answer = auditor.get(path)
        if answer.status_code == 404:
            return []
        return [
            (one["case"], one["handed_on"], one["destroyed_on"])
            for one in answer.get_json()["could_open"]
        ]

    assert could_open(arrived) == {lead.keys.id: 1}
    assert could_open(handed_on) == {lead.keys.id: 1, reader.keys.id: 1}
    assert held(arrived) == []
    assert held(handed_on) == [(made.case, handed_on, None)]
    assert Witness(own, made).change("withdraw").status_code == 200
    own.clock.turn(days=30)
    assert destroy_due(own.services) == 1
    assert destroy_due(own.services) == 0
    assert could_open(handed_on) == {lead.keys.id: 1, reader.keys.id: 1}
    assert could_open(arrived) == {lead.keys.id: 1}
    assert held(handed_on) == [(made.case, handed_on, day_of(own))]
    assert held(arrived) == []


def test_the_first_and_the_last_day_of_the_calendar_have_a_record(own: Organisation) -> None:
    reader = own.desks["chemical"][1].id
    case = own.send().case
    auditor = staff(own, "auditor")[0]
    assert auditor.get("/v1/record?day=0001-01-01").get_json()["people"] == []
    last = auditor.get(f"/v1/record?day=9999-12-31&person={reader}").get_json()
    assert [one["case"] for one in last["could_open"]] == [case]
    people = auditor.get("/v1/record?day=9999-12-31").get_json()["people"]
    assert reader in [one["id"] for one in people]


def test_a_case_comes_back_when_its_last_reader_is_gone_and_to_its_own_lead(
    own: Organisation,
) -> None:
    lead, reader = (own.as_person(one).sign_in() for one in own.desks["chemical"])
    other = own.as_person(own.desks["general"][0]).sign_in()
    left, taken_over, handed_on, unopened = (own.send().case for _ in range(4))
    for person, case in (
        (reader, left),
        (reader, taken_over),
        (lead, handed_on),
    ):
        assert person.claim(case).status_code == 204
    assert reader.release(taken_over).status_code == 204
    assert lead.hand_over(handed_on, reader.keys.id).status_code == 204
    for person, case in ((lead, taken_over), (reader, handed_on)):
        assert person.claim(case).status_code == 204
    Officers(own).remove(reader.keys.id)
    cases = lead.get("/v1/returned-cases").get_json()["cases"]
    assert {(one["case"], one["claimed_by"]) for one in cases} == {
        (left, reader.keys.id),
        (handed_on, reader.keys.id),
    }
    assert unopened not in str(cases)
    assert other.get("/v1/returned-cases").get_json() == {"cases": []}
    assert reader.get("/v1/returned-cases").status_code == 401


def lose_standing(own: Organisation, person: str, standing: str) -> None:
    """Put somebody out, or let their access end by itself yesterday."""
    yesterday = own.clock().date() - timedelta(days=1)
    if standing == "suspended":
        decide(staff(own, "administrator")[0], "suspend", "suspension", person, reason="left")
        return
    columns, days = {
        "lapsed": (("confirmed_on",), REVIEW_DAYS),
        "dormant": (("first_seen_on", "last_active_on"), DORMANT_DAYS),
        "expired": (("valid_until",), 0),
    }[standing]
    values = dict.fromkeys(columns, yesterday - timedelta(days=days))
    with own.services.database.transaction() as session:
        session.execute(sa.update(PersonRow).where(PersonRow.id == person).values(values))


@pytest.mark.parametrize("standing", [one for one in Standing if one is not Standing.ACTIVE])
def test_a_lead_sees_what_who_does_not_stand_left_also_when_it_was_taken_back(
    own: Organisation, standing: str
) -> None:
    lead, reader = (own.as_person(one).sign_in() for one in own.desks["chemical"])
    elsewhere = own.as_person(own.desks["general"][0])
    claimed, unopened = own.send().case, own.send().case
    assert reader.claim(claimed).status_code == 204
    path = f"/v1/leavers/{reader.keys.id}"
    assert lead.get(path).status_code == 404
    assert lead.get("/v1/returned-cases").get_json() == {"cases": []}
    lose_standing(own, reader.keys.id, standing)

    def is_told_what_they_could_open() -> None:
        told = lead.sign_in().get(path).get_json()
        assert sorted(one["case"] for one in told["could_open"]) == sorted((claimed, unopened))
        assert elsewhere.sign_in().get(path).status_code == 404

    is_told_what_they_could_open()
    [case] = lead.get("/v1/returned-cases").get_json()["cases"]
    assert (case["case"], case["claimed_by"]) == (claimed, reader.keys.id)
    assert maintain(own.services).done["cases_taken_back_from_leavers"] == 0
    own.clock.turn(days=4)
    assert maintain(own.services).done["cases_taken_back_from_leavers"] == 1
    is_told_what_they_could_open()
    assert lead.get("/v1/returned-cases").get_json() == {"cases": []}
    assert lead.claim(claimed).status_code == 204


def test_a_lead_is_told_what_a_leaver_could_open_at_their_desks_and_nothing_of_others(
    own: Organisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "PAGE", 2)
    lead, reader = (own.as_person(one).sign_in() for one in own.desks["chemical"])
    other = own.as_person(own.desks["general"][0]).sign_in()
    cases = sorted(own.send().case for _ in range(3))
    own.send("general")
    path = f"/v1/leavers/{reader.keys.id}"
    assert lead.get(path).status_code == 404, "who works there is no leaver"
    decide(staff(own, "administrator")[0], "suspend", "suspension", reader.keys.id, reason="left")
    first = lead.get(path).get_json()
    assert [one["case"] for one in first["could_open"]] == cases[:2]
    rest = lead.get(f"{path}?cursor={first['next']}").get_json()
    assert ([one["case"] for one in rest["could_open"]], rest["next"]) == (cases[2:], None)
    assert other.get(path).status_code == 404, "a lead of another desk is told nothing"
    for unknown in (other.keys.id, "a" * 32, "x"):
        assert lead.get(f"/v1/leavers/{unknown}").status_code == 404
    assert lead.get(f"{path}?cursor=x").status_code == 422
    with own.served() as url:
        key = own.folder / "demo" / "reviewers" / f"{lead.keys.id}.key"
        here = ("--server", url, "--root", own.folder / "demo" / "root.json", "--key", key)
        command = ("reviewer", "returned", "--person", reader.keys.id, *here)
        told = json.loads(amana(*command, "--json").stdout)
        assert [one["case"] for one in told["could_open"]] == cases
        shown = amana(*command).stdout
        assert all(case in shown for case in cases)
        assert amana("reviewer", "returned", "--person", "x", *here, check=2).stderr.startswith(
            "bad-id: "
        )
