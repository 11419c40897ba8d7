"""A case finds its reader, and nobody else gets it: through the real routes, on both databases."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from amana.access.actions import Act
from amana.access.service import actor_of
from amana.client.keyfile import PersonKeys
from amana.intake.retention import Periods
from amana.ops.maintenance import maintain
from amana.protocol.case import intake_key_id, open_grant, seal_grant
from amana.protocol.encoding import b64, random_id, unb64
from amana.protocol.note import own_notes, seal_note
from amana.protocol.sealing import Identity
from amana.routing import service
from tests.support.decisions import decide
from tests.support.officers import Officers
from tests.support.organisation import Organisation, Person, organisation_in
from tests.support.postgres import fresh_database
from tests.support.testimonies import Made

RULES = {
    "claim_days": 3,
    "urgent_claim_days": 1,
    "cap_per_day": 10,
    "duty": {},
    "retention": vars(Periods()),
}


@pytest.fixture
def own(database_url: str, tmp_path: Path) -> Iterator[Organisation]:
    with organisation_in(tmp_path, database_url) as made:
        yield made


def problem(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.get_json()["type"]


def of(own: Organisation, keys: PersonKeys) -> Person:
    return own.as_person(keys).sign_in()


def lead_and_reader(own: Organisation) -> tuple[Person, Person]:
    lead, reader = (of(own, one) for one in own.desks["chemical"])
    assert own.directory.desk("chemical").leads == (lead.keys.id,)
    return lead, reader


def administrator(own: Organisation) -> Person:
    return of(own, own.administrator)


def queue(person: Person) -> dict[str, dict[str, Any]]:
    return {one["case"]: one for one in person.get("/v1/cases").get_json()["cases"]}


def assignments(person: Person, case: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = person.get(f"/v1/cases/{case}").get_json()["assignments"]
    return found


def vet(own: Organisation, person: PersonKeys, **fields: Any) -> None:
    day = own.clock().date()
    body = {
        "vouchers": ["One", "Two"],
        "vetted_on": str(day),
        "valid_until": str(day.replace(year=day.year + 1)),
        "languages": [],
        "specialities": [],
        "conflicts": [],
        **fields,
    }
    done = decide(administrator(own), "vet", "vetting", person.id, **body)
    assert done.status_code == 204, done.get_json()


def key_of(made: Made, person: Person) -> Identity:
    """Fetch a grant as its holder, and open it."""
    person.act("re-wrap", f"/v1/cases/{made.case}/re-wrappings", made.case)
    [grant] = person.get(f"/v1/cases/{made.case}/grants").get_json()["grants"]
    assert person.keys.intake is not None
    return open_grant(unb64(grant["grant"]), person.keys.intake, made.case)


def test_what_arrives_is_offered_to_one_reader_with_the_reason(own: Organisation) -> None:
    lead, reader = lead_and_reader(own)
    vet(own, reader.keys, languages=["ar"])
    made = own.send()
    assert queue(reader)[made.case]["assigned"] == "offered"
    assert queue(lead)[made.case]["assigned"] == "nobody"
    [assignment] = assignments(lead, made.case)
    assert (assignment["reader"], assignment["by"]) == (reader.keys.id, "routing")
    verdicts = assignment["explanation"]["verdicts"]
    assert verdicts == {reader.keys.id: "chosen", lead.keys.id: "less-fitting"}
    # A verdict may tell of a colleague's conflict, so only the lead is told.
    assert [one["explanation"] for one in assignments(reader, made.case)] == [None]
    assert reader.claim(made.case).status_code == 204
    assert queue(reader)[made.case]["assigned"] == "mine"
    assert queue(lead)[made.case]["assigned"] == "another"
    counts = reader.get("/v1/case-counts").get_json()["counts"]
    assert counts == {"in-review": 1}


def test_of_two_claims_at_once_one_wins(own: Organisation) -> None:
    people = lead_and_reader(own)
    for _ in range(5):
        made = own.send()
        start = threading.Barrier(len(people))
        answers: list[int] = []

        def claim(person: Person, case: str = made.case, begin: Any = start) -> None:
            begin.wait()
            answers.append(person.claim(case).status_code)  # noqa: B023

        threads = [threading.Thread(target=claim, args=(one,)) for one in people]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(answers) == [204, 409]
        [assignment] = assignments(people[0], made.case)
        assert assignment["claimed_on"] is not None


def test_a_flagged_case_waits_for_a_trained_reader_and_its_lead_is_told(own: Organisation) -> None:
    lead, reader = lead_and_reader(own)
    takes = {one.id: one.takes for one in own.directory.readers_of("chemical")}
    assert "sexual_violence" in takes[lead.keys.id]
    assert "sexual_violence" not in takes[reader.keys.id]
    made = own.send(
        flags=("sexual_violence",),
        readers={
            one.id: one.intake_key
            for one in own.directory.readers_of("chemical")
            if "sexual_violence" in one.takes
        },
    )
    assert queue(lead)[made.case]["assigned"] == "offered"
    assert made.case not in queue(reader)
    recused = lead.act(
        "recuse", f"/v1/cases/{made.case}/recusals", made.case, reason="grant-failed"
    )
    assert recused.status_code == 204
    queue(lead)
    [task] = lead.get("/v1/routing-tasks").get_json()["tasks"]
    assert (task["case"], task["reason"]) == (made.case, "nobody-may")
    assert task["explanation"]["verdicts"] == {lead.keys.id: "recused"}
    # Even with the key at hand, an untrained reader is not given the case.
    recipient = own.directory.intake_key(reader.keys.id)
    assert recipient is not None
    grant = b64(seal_grant(key_of(made, lead), recipient))
    given = lead.hand_over(
        made.case, reader.keys.id, intake_key=intake_key_id(recipient), grant=grant
    )
    assert problem(given) == (422, "untrained")


def test_a_grant_that_does_not_open_sends_the_case_to_somebody_else(own: Organisation) -> None:
    lead, reader = lead_and_reader(own)
    vet(own, reader.keys, languages=["ar"])
    made = own.send()
    queue(reader)
    path = f"/v1/cases/{made.case}/recusals"
    assert reader.act("recuse", path, made.case, reason="grant-failed").status_code == 204
    assert queue(lead)[made.case]["assigned"] == "offered"
    assert problem(reader.claim(made.case)) == (422, "recused")
    assert problem(lead.hand_over(made.case, reader.keys.id)) == (422, "recused")


def test_what_nobody_claims_in_time_goes_on_and_then_to_the_lead(own: Organisation) -> None:
    lead, reader = lead_and_reader(own)
    vet(own, reader.keys, languages=["ar"])
    urgent = own.send(flags=("urgent",))
    ordinary = own.send()
    assert maintain(own.services).done["cases_routed"] == 2
    assert maintain(own.services).done["cases_routed"] == 0
    own.clock.turn(days=1)
    done = maintain(own.services).done
    assert (done["unclaimed_cases_taken_back"], done["cases_routed"]) == (1, 1)
    lead.sign_in()
    assert queue(lead)[urgent.case]["assigned"] == "offered"
    assert queue(lead)[ordinary.case]["assigned"] == "nobody"
    own.clock.turn(days=1)
    maintain(own.services)
    lead.sign_in()
    [task] = lead.get("/v1/routing-tasks").get_json()["tasks"]
    assert (task["case"], task["reason"]) == (urgent.case, "nobody-claimed")
    assert set(task["explanation"]["verdicts"].values()) == {"let-go"}
    assert lead.claim(urgent.case).status_code == 204
    assert lead.get("/v1/routing-tasks").get_json() == {"tasks": []}


def test_a_case_is_handed_over_with_a_grant_and_its_giver_reads_no_more(own: Organisation) -> None:
    lead, reader = lead_and_reader(own)
    made = own.send(
        readers={
            one.id: one.intake_key
            for one in own.directory.readers_of("chemical")
            if one.id == lead.keys.id
        }
    )
    assert lead.open(made.case).status_code == 201
    assert problem(reader.open(made.case)) == (404, "not-found")
    assert problem(lead.hand_over(made.case, reader.keys.id)) == (422, "grant-needed")
    recipient = own.directory.intake_key(reader.keys.id)
    assert recipient is not None
    grant = seal_grant(key_of(made, lead), recipient)
    wrong = lead.hand_over(made.case, reader.keys.id, intake_key=random_id(), grant=b64(grant))
    assert problem(wrong) == (422, "grant-key-unknown")
    name = intake_key_id(recipient)
    short = lead.hand_over(made.case, reader.keys.id, intake_key=name, grant=b64(grant[:-1]))
    assert problem(short) == (422, "grants-size")
    given = lead.hand_over(made.case, reader.keys.id, intake_key=name, grant=b64(grant))
    assert given.status_code == 204
    assert problem(lead.get(f"/v1/cases/{made.case}/manifest")) == (403, "not-assigned")
    assert reader.open(made.case).status_code == 201
    assert reader.get(f"/v1/cases/{made.case}/manifest").status_code == 200
    assert key_of(made, reader)


def test_a_second_reader_reads_beside_the_first_and_decides_nothing(own: Organisation) -> None:
    lead, reader = lead_and_reader(own)
    made = own.send()
    assert lead.open(made.case).status_code == 201
    assert lead.hand_over(made.case, reader.keys.id, second=True).status_code == 204
    assert problem(reader.get(f"/v1/cases/{made.case}/manifest")) == (403, "not-assigned")
    assert reader.open(made.case).status_code == 201
    for person in (lead, reader):
        assert person.get(f"/v1/cases/{made.case}/manifest").status_code == 200
    advice = note(reader, made, "I agree")
    assert problem(decided(reader, made, "accept", advice)) == (403, "not-assigned")
    assert decided(lead, made, "accept", note(lead, made, "Why")).get_json() == {
        "state": "accepted"
    }


def test_nobody_is_handed_what_they_must_not_have(own: Organisation) -> None:
    lead, reader = lead_and_reader(own)
    outsider = of(own, own.desks["general"][0])
    made = own.send()
    assert lead.claim(made.case).status_code == 204
    assert problem(lead.hand_over(made.case, outsider.keys.id)) == (422, "not-at-desk")
    assert problem(lead.hand_over(made.case, random_id())) == (422, "not-at-desk")
    assert problem(lead.hand_over(made.case, lead.keys.id)) == (409, "claimed-already")
    assert problem(reader.hand_over(made.case, reader.keys.id)) == (403, "not-assigned")
    conflict = [f"case:{made.case}"]
    assert reader.act("recuse", "/v1/conflicts", conflicts=conflict).status_code == 204
    assert problem(lead.hand_over(made.case, reader.keys.id)) == (422, "conflict")
    decide(administrator(own), "suspend", "suspension", reader.keys.id, reason="x")
    assert problem(lead.hand_over(made.case, reader.keys.id)) == (422, "not-working")


def test_a_lead_passes_on_what_its_reader_left(own: Organisation) -> None:
    lead, reader = lead_and_reader(own)
    made = own.send()
    assert reader.claim(made.case).status_code == 204
    assert problem(lead.claim(made.case)) == (409, "claimed-already")
    assert problem(lead.hand_over(made.case, lead.keys.id)) == (409, "claimed-already")
    decide(administrator(own), "suspend", "suspension", reader.keys.id, reason="x")
    [returned] = lead.get("/v1/returned-cases").get_json()["cases"]
    assert returned["case"] == made.case
    assert lead.open(made.case).status_code == 201


def test_undecided_cases_go_back_from_who_was_put_out_for_long(own: Organisation) -> None:
    lead, reader = lead_and_reader(own)
    vet(own, reader.keys, languages=["ar"])
    claimed, decided_case, second = own.send(), own.send(), own.send()
    assert reader.claim(claimed.case).status_code == 204
    assert reader.open(decided_case.case).status_code == 201
    reason = note(reader, decided_case, "Because")
    assert decided(reader, decided_case, "accept", reason).status_code == 201
    assert lead.open(second.case).status_code == 201
    assert lead.hand_over(second.case, reader.keys.id, second=True).status_code == 204
    assert reader.claim(second.case).status_code == 204
    offered = own.send()
    assert maintain(own.services).done["cases_taken_back_from_leavers"] == 0
    decide(administrator(own), "suspend", "suspension", reader.keys.id, reason="x")
    own.clock.turn(days=2)
    assert maintain(own.services).done["cases_taken_back_from_leavers"] == 0
    lead.sign_in()
    assert queue(lead)[claimed.case]["state"] == "in-review"
    own.clock.turn(days=1)
    done = maintain(own.services).done
    # The offer lapses by itself, if it was not taken back before.
    assert done["cases_taken_back_from_leavers"] + done["unclaimed_cases_taken_back"] == 3
    assert maintain(own.services).done["cases_taken_back_from_leavers"] == 0
    lead.sign_in()
    shown = queue(lead)
    assert (shown[claimed.case]["state"], shown[claimed.case]["assigned"]) == (
        "received",
        "offered",
    )
    assert shown[offered.case]["assigned"] == "offered"
    assert [one["reader"] for one in assignments(lead, second.case)] == [lead.keys.id]
    assert [one["reader"] for one in assignments(lead, decided_case.case)] == [reader.keys.id]


def test_cases_go_back_at_once_from_whom_the_officers_left_out(own: Organisation) -> None:
    lead, reader = lead_and_reader(own)
    made = own.send()
    assert reader.claim(made.case).status_code == 204
    Officers(own).remove(reader.keys.id)
    done = maintain(own.services).done
    assert (done["cases_taken_back_from_leavers"], done["cases_routed"]) == (1, 1)
    assert queue(lead.sign_in())[made.case]["assigned"] == "offered"


def test_cases_go_back_from_whose_access_ended_by_itself_but_not_on_the_first_day(
    own: Organisation,
) -> None:
    _, reader = lead_and_reader(own)
    made = own.send()
    assert reader.claim(made.case).status_code == 204
    for days, expected in ((90, 0), (3, 0), (1, 1)):
        own.clock.turn(days=days)
        done = maintain(own.services).done
        assert done["cases_taken_back_from_leavers"] == expected, days


def note(person: Person, made: Made, text: str, *, audience: str = "desk") -> bytes:
    key = (
        own_notes(person.keys.signing) if audience == "author" else key_of(made, person)
    ).recipient
    return seal_note(
        person.keys.signing,
        key,
        deployment=person.organisation.directory.deployment,
        case=made.case,
        author=person.keys.id,
        audience=audience,
        kind="note",
        content={"text": text},
        made_on="2026-11-24",
    )


def decided(person: Person, made: Made, decision: str, reason: bytes) -> Any:
    path = f"/v1/cases/{made.case}/decisions"
    return person.act("decide", path, made.case, decision=decision, reason=b64(reason))


def added(person: Person, made: Made, sealed: bytes, audience: str = "desk") -> Any:
    path = f"/v1/cases/{made.case}/notes"
    return person.act("note", path, made.case, audience=audience, sealed=b64(sealed))


def test_notes_are_sealed_for_the_desk_or_for_their_author_alone(own: Organisation) -> None:
    lead, reader = lead_and_reader(own)
    made = own.send()
    assert lead.open(made.case).status_code == 201
    assert lead.hand_over(made.case, reader.keys.id, second=True).status_code == 204
    assert problem(added(reader, made, note(reader, made, "x"))) == (403, "not-assigned")
    assert reader.open(made.case).status_code == 201
    private = note(reader, made, "for me", audience="author")
    assert added(lead, made, note(lead, made, "for all")).get_json() == {"n": 1}
    assert added(reader, made, private, "author").get_json() == {"n": 2}
    assert added(lead, made, note(lead, made, "again")).get_json() == {"n": 3}
    seen = {
        person.keys.id: [
            one["n"] for one in person.get(f"/v1/cases/{made.case}/notes").get_json()["notes"]
        ]
        for person in (lead, reader)
    }
    assert seen == {lead.keys.id: [1, 3], reader.keys.id: [1, 2, 3]}
    assert problem(added(lead, made, b"plain words" * 500))[0] == 422
    assert reader.get(f"/v1/cases/{made.case}/notes?after=3").get_json() == {"notes": []}


def test_a_decision_needs_a_sealed_reason_and_is_made_once(own: Organisation) -> None:
    lead, _ = lead_and_reader(own)
    made = own.send()
    reason = note(lead, made, "Because")
    assert problem(decided(lead, made, "accept", reason)) == (403, "not-assigned")
    assert lead.open(made.case).status_code == 201
    assert problem(decided(lead, made, "accept", b"")) == (422, "reason-missing")
    assert problem(decided(lead, made, "accept", b"because" * 900))[0] == 422
    assert lead.get(f"/v1/cases/{made.case}").get_json()["state"] == "in-review"
    assert decided(lead, made, "decline", reason).get_json() == {"state": "declined"}
    assert problem(decided(lead, made, "accept", reason)) == (409, "state-forbids")
    assert problem(lead.hand_over(made.case, own.desks["chemical"][1].id)) == (409, "state-forbids")
    assert made.case not in queue(lead)
    listed = lead.get("/v1/cases?state=declined").get_json()["cases"]
    assert [one["case"] for one in listed] == [made.case]


def test_rules_are_tried_set_and_never_undone_unseen(own: Organisation) -> None:
    lead, reader = lead_and_reader(own)
    by = administrator(own)
    assert by.get("/v1/rules").get_json() == {"version": 0, "rules": RULES}
    trial = by.get("/v1/rules/trials?desk=chemical&flags=sexual_violence").get_json()
    assert trial["reader"] == lead.keys.id
    assert trial["verdicts"] == {lead.keys.id: "chosen", reader.keys.id: "untrained"}
    assert problem(by.get("/v1/rules/trials?desk=nowhere")) == (422, "desk-unknown")
    off = {lead.keys.id: [], reader.keys.id: []}
    new = {**RULES, "duty": off}
    assert by.act("rule", "/v1/rules", rules=new, replaces=0).get_json()["version"] == 1
    assert problem(by.act("rule", "/v1/rules", rules=RULES, replaces=0)) == (409, "rules-outdated")
    nobody = by.get("/v1/rules/trials?desk=chemical").get_json()
    assert (nobody["reader"], nobody["nobody_because"]) == (None, "nobody-today")
    made = own.send()
    assert queue(lead)[made.case]["assigned"] == "nobody"
    [task] = lead.get("/v1/routing-tasks").get_json()["tasks"]
    assert task["reason"] == "nobody-today"
    assert task["explanation"]["rules"] == 1
    assert by.act("rule", "/v1/rules", rules=RULES, replaces=1).get_json()["version"] == 2
    assert "offered" in {queue(one)[made.case]["assigned"] for one in (lead, reader)}
    assert lead.get("/v1/routing-tasks").get_json() == {"tasks": []}


def test_rules_from_before_there_were_periods_have_the_usual_ones() -> None:
    before = {name: value for name, value in RULES.items() if name != "retention"}
    assert service.rules_document(service.rules_of({**before, "claim_days": 7})) == {
        **RULES,
        "claim_days": 7,
    }


@pytest.mark.parametrize(
    "change",
    [
        {"claim_days": 0},
        {"cap_per_day": True},
        {"cap_per_day": "1"},
        {"duty": {"x": [1]}},
        {"duty": {"a" * 32: [7]}},
        {"duty": {"a" * 32: [2, 1]}},
        {"more": 1},
        {"retention": {}},
        {"retention": {**vars(Periods()), "notice_days": 13}},
    ],
)
def test_rules_out_of_their_form_are_refused(own: Organisation, change: dict[str, Any]) -> None:
    answer = administrator(own).act("rule", "/v1/rules", rules={**RULES, **change}, replaces=0)
    assert answer.status_code == 422
    assert administrator(own).get("/v1/rules").get_json()["version"] == 0


def test_what_was_given_back_is_offered_to_somebody_else(own: Organisation) -> None:
    lead, reader = lead_and_reader(own)
    made = own.send()
    assert reader.claim(made.case).status_code == 204
    assert reader.release(made.case).status_code == 204
    assert problem(reader.release(made.case)) == (403, "not-assigned")
    assert queue(lead)[made.case]["assigned"] == "offered"
    assert queue(reader)[made.case]["assigned"] == "nobody"
    [assignment] = assignments(lead, made.case)
    assert assignment["explanation"]["verdicts"][reader.keys.id] == "let-go"


def test_a_second_reader_stays_when_the_first_changes(own: Organisation) -> None:
    lead, reader = lead_and_reader(own)
    made = own.send()
    assert lead.claim(made.case).status_code == 204
    assert lead.hand_over(made.case, reader.keys.id, second=True).status_code == 204
    assert reader.claim(made.case).status_code == 204
    assert lead.release(made.case).status_code == 204
    assert lead.claim(made.case).status_code == 204
    found = {one["part"]: one["reader"] for one in assignments(lead, made.case)}
    assert found == {"first": lead.keys.id, "second": reader.keys.id}


def test_a_second_reader_is_offered_what_the_first_left(own: Organisation) -> None:
    lead, reader = lead_and_reader(own)
    made = own.send()
    assert lead.claim(made.case).status_code == 204
    assert lead.hand_over(made.case, reader.keys.id, second=True).status_code == 204
    assert reader.claim(made.case).status_code == 204
    path = f"/v1/cases/{made.case}/recusals"
    assert lead.act("recuse", path, made.case, reason="other").status_code == 204
    other = own.send()
    assert maintain(own.services).failed == ()
    # It stops nobody else's case, and its second reader goes on alone.
    assert queue(reader)[made.case]["assigned"] == "offered"
    assert "offered" in {queue(one)[other.case]["assigned"] for one in (lead, reader)}
    assert reader.open(made.case).status_code == 201
    assert decided(reader, made, "accept", note(reader, made, "Because")).status_code == 201


def test_a_second_reader_alone_leaves_a_case_looking_for_its_first(own: Organisation) -> None:
    lead, reader = lead_and_reader(own)
    made = own.send()
    assert lead.hand_over(made.case, reader.keys.id, second=True).status_code == 204
    assert reader.claim(made.case).status_code == 204
    vet(own, lead.keys, languages=["ar"])
    assert maintain(own.services).done["cases_routed"] == 1
    found = {one["part"]: one["reader"] for one in assignments(lead, made.case)}
    assert found == {"first": lead.keys.id, "second": reader.keys.id}


@pytest.fixture
def on_postgresql(postgres: str, tmp_path: Path) -> Iterator[Organisation]:
    """Two transactions at once can be had on PostgreSQL only; SQLite has one writer."""
    with fresh_database(postgres) as url, organisation_in(tmp_path, url) as made:
        yield made


@pytest.mark.parametrize("routed", [True, False], ids=["an offer lapses", "a case is routed"])
def test_what_is_claimed_at_this_moment_is_left_alone(
    on_postgresql: Organisation, routed: bool
) -> None:
    own = on_postgresql
    lead, _ = lead_and_reader(own)
    made = own.send()
    if routed:
        queue(lead)
        own.clock.turn(days=4)
    database, directory = own.services.database, own.directory
    today = own.clock().date()
    actor = actor_of(directory, lead.keys.id)
    claim = lead.action(made.case, action="claim", directory=directory.version)
    with database.transaction() as claiming:
        service.claim(claiming, actor, made.case, Act(directory, own.clock(), claim))
        claiming.flush()
        with database.transaction() as routing:
            assert service.end_unclaimed(routing, today) == 0
            assert service.route_received(routing, directory, today) == 0
    with database.transaction() as routing:
        assert service.end_unclaimed(routing, today) == 0
        assert service.route_received(routing, directory, today) == 0
    lead.sign_in()
    assert queue(lead)[made.case]["assigned"] == "mine"


def test_a_new_day_has_new_places_also_where_the_desk_alone_routes(own: Organisation) -> None:
    lead, reader = lead_and_reader(own)
    today = own.clock().date().weekday()
    duty = {one.keys.id: [(today + 1) % 7] for one in (lead, reader)}
    by = administrator(own)
    new = {**RULES, "duty": duty}
    assert by.act("rule", "/v1/rules", rules=new, replaces=0).status_code == 201
    made = own.send()
    assert queue(lead)[made.case]["assigned"] == "nobody"
    [task] = lead.get("/v1/routing-tasks").get_json()["tasks"]
    assert task["reason"] == "nobody-today"
    own.clock.turn(days=1)
    found = {queue(one.sign_in())[made.case]["assigned"] for one in (lead, reader)}
    assert "offered" in found
    assert lead.get("/v1/routing-tasks").get_json() == {"tasks": []}


@pytest.mark.parametrize("how", ["suspended", "no lead is listed", "the desk is struck off"])
def test_a_case_of_a_desk_without_a_lead_is_told_to_the_leads_of_others(
    own: Organisation, how: str
) -> None:
    lead, _ = lead_and_reader(own)
    elsewhere, colleague = (of(own, one) for one in own.desks["general"])
    made = own.send(flags=("minor",), readers={lead.keys.id: lead.keys.intake_recipient})
    assert lead.act("recuse", f"/v1/cases/{made.case}/recusals", made.case, reason="other")
    if how == "suspended":
        decide(administrator(own), "suspend", "suspension", lead.keys.id, reason="x")
    elif how == "no lead is listed":
        Officers(own).remove(lead.keys.id)
    else:
        Officers(own).publish(
            lambda told: told.update(desks=[x for x in told["desks"] if x["id"] != "chemical"])
        )
    report = maintain(own.services)
    [need] = [one for one in report.needs_a_person if one.kind == "routing-tasks"]
    assert need.about == (elsewhere.keys.id,)
    [task] = elsewhere.sign_in().get("/v1/routing-tasks").get_json()["tasks"]
    assert (task["case"], task["desk"]) == (made.case, "chemical")
    assert task["reason"] in ("nobody-may", "no-trained-reader")
    # The task, and nothing of the case.
    assert problem(elsewhere.get(f"/v1/cases/{made.case}")) == (404, "not-found")
    assert problem(elsewhere.claim(made.case)) == (404, "not-found")
    assert problem(colleague.get("/v1/routing-tasks")) == (403, "not-allowed")


def test_a_case_is_told_to_the_leads_of_its_desk_alone_while_one_works(own: Organisation) -> None:
    lead, _ = lead_and_reader(own)
    elsewhere = of(own, own.desks["general"][0])
    made = own.send(flags=("minor",), readers={lead.keys.id: lead.keys.intake_recipient})
    assert lead.act("recuse", f"/v1/cases/{made.case}/recusals", made.case, reason="other")
    maintain(own.services)
    assert [one["case"] for one in lead.get("/v1/routing-tasks").get_json()["tasks"]] == [made.case]
    assert elsewhere.get("/v1/routing-tasks").get_json() == {"tasks": []}
