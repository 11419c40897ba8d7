"""What leaves, leaves under consent, by two people, and ends where its witness ends it."""

import json
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from amana.access.models import SignedAction
from amana.client.keyfile import PersonKeys
from amana.custody.models import Event
from amana.export.models import Export
from amana.export.stages import TRANSITIONS, Stage
from amana.protocol.encoding import parse_day, unb64
from amana.protocol.receipt import leaf
from tests.support.exports import SCOPES, Leaving
from tests.support.officers import Officers
from tests.support.organisation import Organisation, organisation_in
from tests.support.statements import Witness


def problem(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.get_json()["type"]


def rows(organisation: Organisation, query: Any) -> list[Any]:
    with organisation.services.database.reading() as session:
        return list(session.execute(query).all())


def signed(leaving: Leaving) -> list[str]:
    query = sa.select(SignedAction.action).where(
        SignedAction.case == leaving.case, SignedAction.action.startswith("export")
    )
    return sorted(row.action for row in rows(leaving.organisation, query))


def test_a_case_leaves_by_two_people_and_everything_is_signed_and_kept(leaving: Leaving) -> None:
    export = leaving.approved()
    assert leaving.may_leave(export).get_json()["state"] == "approved"
    assert leaving.complete(export).get_json()["state"] == "exported"
    assert leaving.file(export, leaving.receipt(export)).get_json()["state"] == "handed-over"
    told = leaving.told(export)
    assert told["requested_by"] == leaving.reader.keys.id
    assert told["decided_by"] == leaving.administrator.keys.id
    assert [one["step"] for one in told["evaluation"]] == ["export-request", "export-approve"]
    assert {one["reason"] for one in told["evaluation"]} == {"consent-allows"}
    assert told["request"]["body"]["to"] == leaving.partner.id
    assert told["approval"]["body"]["decision"] == "approve"
    assert signed(leaving) == [
        "export-approve", "export-complete", "export-receipt", "export-request"
    ]  # fmt: skip


def test_the_witness_sees_where_it_went(leaving: Leaving) -> None:
    witness = Witness(leaving.organisation, leaving.made)
    assert witness.status()["exports"] == []
    export = leaving.approved()
    today = leaving.today.isoformat()
    [before] = witness.status()["exports"]
    assert (before["to"], before["purpose"]) == (leaving.partner.id, "iiim")
    assert (before["state"], before["requested_on"], before["exported_on"]) == (
        "approved", today, None
    )  # fmt: skip
    leaving.complete(export)
    [after] = witness.status()["exports"]
    assert (after["state"], after["exported_on"]) == ("exported", today)


@pytest.mark.parametrize(
    ("scopes", "reason"),
    [
        ({"review": "allow"}, "consent-denies"),
        ({"review": "allow", "iiim": "deny"}, "consent-denies"),
        ({"review": "allow", "iiim": "ask"}, "consent-asks"),
    ],
)
def test_nothing_is_asked_for_beyond_consent(
    organisation: Organisation, scopes: dict[str, str], reason: str
) -> None:
    leaving = Leaving.accepted(organisation, scopes=scopes)
    assert problem(leaving.ask()) == (403, reason)
    assert signed(leaving) == []


def test_only_to_partners_of_the_directory_and_for_their_purposes(leaving: Leaving) -> None:
    assert problem(leaving.ask(to="b" * 32)) == (422, "partner-unknown")
    assert problem(leaving.ask(to=leaving.reader.keys.id)) == (422, "partner-unknown")
    assert problem(leaving.ask(purpose="opcw")) == (403, "purpose-not-listed")
    assert problem(leaving.ask(identity_level="prosecutors")) == (422, "export-identity")


def test_only_an_accepted_case_leaves(organisation: Organisation) -> None:
    leaving = Leaving.accepted(organisation, accept=False)
    assert problem(leaving.ask()) == (409, "state-forbids")
    leaving.decide_case("decline")
    assert problem(leaving.ask()) == (409, "state-forbids")


def test_only_whoever_has_the_case_asks(leaving: Leaving) -> None:
    other = leaving.organisation.as_person(leaving.organisation.desks["chemical"][1]).sign_in()
    elsewhere = leaving.organisation.as_person(leaving.organisation.desks["general"][0]).sign_in()
    leaving.reader, mine = other, leaving.reader
    assert problem(leaving.ask()) == (403, "not-assigned")
    leaving.reader = elsewhere
    assert problem(leaving.ask()) == (404, "not-found")
    leaving.reader = mine
    leaving.asked()


def test_whoever_asked_never_approves(leaving: Leaving) -> None:
    export = leaving.asked()
    # A reader has no such permission; somebody who had both is stopped by the act itself, and by the table.
    assert problem(leaving.decide(export, person=leaving.reader)) == (403, "not-allowed")
    with leaving.organisation.services.database.transaction() as session:
        session.execute(
            sa.update(Export)
            .where(Export.id == export)
            .values(requested_by=leaving.administrator.keys.id)
        )
    assert problem(leaving.decide(export)) == (403, "own-act")
    database = leaving.organisation.services.database
    update = sa.update(Export).where(Export.id == export)
    with pytest.raises(sa.exc.IntegrityError), database.transaction() as session:
        session.execute(update.values(decided_by=leaving.administrator.keys.id))


@pytest.mark.parametrize(
    "change",
    [{"to": "b" * 32}, {"purpose": "opcw"}, {"identity_level": "public"}, {"request": "b" * 32}],
)
def test_what_is_approved_is_what_was_shown(leaving: Leaving, change: dict[str, str]) -> None:
    export = leaving.asked()
    assert problem(leaving.decide(export, **change)) == (422, "action-refused")


def test_whoever_approves_signs_for_the_custody_so_far(leaving: Leaving) -> None:
    export = leaving.asked()
    told = leaving.told(export)["leaves"]
    assert leaving.arrival.hex() in told
    assert told == sorted(told)
    assert len(told) == 5, "arrival, claim, opening, decision and request"
    assert problem(leaving.decide(export, custody=None)) == (422, "export-custody")
    committed = {"events": 1, "sha256": "0" * 64}
    assert problem(leaving.decide(export, "refuse", custody=committed)) == (422, "export-custody")
    for wrong in ({**committed, "events": 0}, {**committed, "more": 1}, {"events": 1}, []):
        assert leaving.decide(export, custody=wrong).status_code == 422
    assert leaving.decide(export, custody=committed).status_code == 200
    assert leaving.told(export)["approval"]["body"]["custody"] == committed
    assert leaving.complete(export).status_code == 200
    assert leaving.told(export)["leaves"] == []


def test_a_decision_is_made_once(leaving: Leaving) -> None:
    export = leaving.asked()
    assert leaving.decide(export, "refuse").get_json()["state"] == "refused"
    assert problem(leaving.decide(export)) == (409, "export-state")
    assert problem(leaving.may_leave(export)) == (409, "export-state")
    assert Witness(leaving.organisation, leaving.made).status()["exports"] == []


def test_nothing_leaves_before_the_second_person_or_by_somebody_else(leaving: Leaving) -> None:
    export = leaving.asked()
    assert problem(leaving.may_leave(export)) == (409, "export-state")
    assert problem(leaving.complete(export)) == (409, "export-state")
    leaving.decide(export)
    colleague = leaving.organisation.as_person(leaving.organisation.desks["chemical"][1]).sign_in()
    assert problem(leaving.complete(export, colleague)) == (404, "not-found")
    assert problem(colleague.get(f"/v1/exports/{export}/leave")) == (404, "not-found")
    assert export not in {
        one["export"] for one in colleague.get("/v1/exports").get_json()["exports"]
    }


def test_consent_withdrawn_between_request_and_approval_refuses(leaving: Leaving) -> None:
    export = leaving.asked()
    witness = Witness(leaving.organisation, leaving.made)
    assert witness.consent({**SCOPES, "iiim": "deny"}).status_code == 200
    assert problem(leaving.decide(export)) == (403, "consent-denies")
    assert leaving.told(export)["state"] == "pending"
    assert leaving.decide(export, "refuse").status_code == 200


def test_consent_narrowed_between_approval_and_assembly_refuses(leaving: Leaving) -> None:
    export = leaving.approved()
    witness = Witness(leaving.organisation, leaving.made)
    assert witness.consent({**SCOPES, "iiim": "ask"}).status_code == 200
    assert problem(leaving.may_leave(export)) == (403, "consent-asks")
    assert problem(leaving.complete(export)) == (403, "consent-asks")
    assert leaving.told(export)["state"] == "approved"


@pytest.mark.parametrize("change", ["removed", "other purposes"])
@pytest.mark.parametrize("step", ["asked", "approved"])
def test_a_partner_whom_the_officers_unlist_on_the_way_gets_nothing(
    tmp_path: Path, step: str, change: str
) -> None:
    with organisation_in(tmp_path) as own:
        leaving = Leaving.accepted(own)
        export = getattr(leaving, step)()

        def unlist(description: dict[str, Any]) -> None:
            others = [{**one, "purposes": ["opcw"]} for one in description["partners"]]
            description["partners"] = [] if change == "removed" else others

        Officers(own).publish(unlist)
        gone = change == "removed"
        expected = (422, "partner-unknown") if gone else (403, "purpose-not-listed")
        if step == "asked":
            assert problem(leaving.decide(export)) == expected
        else:
            assert problem(leaving.may_leave(export)) == expected
            assert problem(leaving.complete(export)) == expected
        assert leaving.told(export)["state"] == ("pending" if step == "asked" else "approved")


@pytest.mark.parametrize("step", ["asked", "approved"])
def test_a_withdrawal_ends_what_has_not_left_for_good(leaving: Leaving, step: str) -> None:
    export = getattr(leaving, step)()
    witness = Witness(leaving.organisation, leaving.made)
    assert witness.change("withdraw").status_code == 200
    assert problem(leaving.may_leave(export)) == (410, "case-withdrawn")
    assert problem(leaving.complete(export)) == (410, "case-withdrawn")
    assert problem(leaving.decide(export)) == (409, "export-state")
    assert leaving.told(export)["state"] == "ended"
    assert witness.change("take-back").status_code == 200
    assert leaving.told(export)["state"] == "ended"


def test_a_withdrawal_does_not_hide_what_has_left(leaving: Leaving) -> None:
    export = leaving.approved()
    leaving.complete(export)
    witness = Witness(leaving.organisation, leaving.made)
    told = witness.change("withdraw").get_json()
    assert [one["state"] for one in told["exports"]] == ["exported"]
    # That the partner got it is a fact also when the witness has withdrawn since.
    assert leaving.file(export, leaving.receipt(export)).get_json()["state"] == "handed-over"


@pytest.mark.parametrize(
    "change",
    [
        {"sealed_sha256": "3" * 64},
        {"bag_sha256": "3" * 64},
        {"export": "b" * 32},
        {"case": "b" * 32},
        {"partner": "b" * 32},
        {"deployment": "elsewhere"},
        {"keys": PersonKeys.generate("partner")},
    ],
)
def test_only_the_partners_receipt_for_this_bundle_closes_it(
    leaving: Leaving, change: dict[str, Any]
) -> None:
    export = leaving.approved()
    leaving.complete(export)
    fields = {"export": export, **change}
    document = leaving.receipt(fields.pop("export"), **fields)
    assert problem(leaving.file(export, document)) == (422, "handover-refused")
    assert problem(leaving.file(export, {"v": 1})) == (422, "handover-invalid")
    assert leaving.told(export)["state"] == "exported"


def test_no_step_is_taken_that_is_not_in_the_table() -> None:
    assert {step for _, step in TRANSITIONS} == {"approve", "refuse", "complete", "receipt", "end"}
    assert not any(
        stage in (Stage.REFUSED, Stage.ENDED, Stage.HANDED_OVER) for stage, _ in TRANSITIONS
    )


# Custody


def custody(leaving: Leaving, who: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        after = f"?after={found[-1]['leaf']}" if found else ""
        page = who.get(f"/v1/cases/{leaving.case}/custody{after}").get_json()["events"]
        if not page:
            return found
        found += page


def test_the_custody_of_a_case_is_all_that_happened_with_the_key_to_each_leaf(
    leaving: Leaving,
) -> None:
    leaving.approved()
    [auditor] = leaving.organisation.of_role("auditor")
    for who in (leaving.reader, leaving.organisation.as_person(auditor).sign_in()):
        found = custody(leaving, who)
        for one in found:
            assert leaf(unb64(one["event"]), unb64(one["key"])).hex() == one["leaf"]
        events = [json.loads(unb64(one["event"])) for one in found]
        kinds = sorted(one.get("action", {}).get("action", one["kind"]) for one in events)
        assert kinds == [
            "claim", "decide", "export-approve", "export-request", "open", "testimony-received",
        ]  # fmt: skip
    query = sa.select(Event.leaf).where(Event.case == leaving.case)
    assert len(rows(leaving.organisation, query)) == len(found)


def test_custody_is_for_those_who_have_the_case_and_for_auditors(leaving: Leaving) -> None:
    organisation = leaving.organisation
    path = f"/v1/cases/{leaving.case}/custody"
    second = organisation.as_person(organisation.desks["chemical"][1]).sign_in()
    elsewhere = organisation.as_person(organisation.desks["general"][0]).sign_in()
    assert problem(second.get(path)) == (403, "not-assigned")
    assert problem(elsewhere.get(path)) == (404, "not-found")
    assert problem(leaving.administrator.get(path)) == (403, "not-allowed")
    assert problem(leaving.reader.get(f"{path}?after=x")) == (422, "unprocessable-entity")
    [auditor] = organisation.of_role("auditor")
    watcher = organisation.as_person(auditor).sign_in()
    assert problem(watcher.get(f"/v1/cases/{'b' * 32}/custody")) == (404, "not-found")


def test_a_reader_gets_what_the_witness_signed_about_the_use(leaving: Leaving) -> None:
    witness = Witness(leaving.organisation, leaving.made)
    assert witness.consent({**SCOPES, "opcw": "allow"}).status_code == 200
    told = leaving.reader.get(f"/v1/cases/{leaving.case}/consent").get_json()
    assert [parse_day(one["received_on"]) for one in told["policies"]] == [leaving.today] * 2
    assert len(told["statements"]) == 1
    other = leaving.organisation.as_person(leaving.organisation.desks["chemical"][1]).sign_in()
    assert problem(other.get(f"/v1/cases/{leaving.case}/consent")) == (403, "not-assigned")
