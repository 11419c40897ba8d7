"""Who the witness is leaves under two conditions, each asked at every step: the witness's policy, and k custodians."""

from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from amana.access.models import Suspension
from tests.export.test_exports import problem
from tests.support.exports import SCOPES, LeavingWithIdentity
from tests.support.organisation import Organisation
from tests.support.statements import Witness

NO_LEVEL = (422, "export-identity")
MISSING = (403, "release-missing")


@pytest.fixture
def leaving(organisation: Organisation) -> LeavingWithIdentity:
    organisation.clock.follow()
    return LeavingWithIdentity.vaulted(organisation)


def test_what_policy_and_custodians_cover_leaves(leaving: LeavingWithIdentity) -> None:
    export = leaving.asked_with("identity", "originals")
    told = leaving.told(export)
    assert [one["vault"] for one in told["releases"]] == ["identity", "originals"]
    assert set(told["released"]) == {"identity", "originals"}
    assert all(len(one["shares"]) == 2 for one in told["released"].values())
    assert leaving.decide(export).status_code == 200
    assert leaving.may_leave(export).status_code == 200
    assert leaving.complete(export).get_json()["state"] == "exported"
    [seen] = Witness(leaving.organisation, leaving.made).status()["exports"]
    assert (seen["identity_level"], seen["state"]) == ("prosecutors", "exported")
    releases = Witness(leaving.organisation, leaving.made).status()["releases"]
    assert {one["to"] for one in releases} == {leaving.partner.id}


def test_level_and_releases_go_together(leaving: LeavingWithIdentity) -> None:
    release = leaving.released()
    assert problem(leaving.ask(identity_level="prosecutors")) == NO_LEVEL
    for level in ("anonymous", "pseudonym", "public"):
        assert problem(leaving.ask_with({"identity": release}, identity_level=level)) == NO_LEVEL
    twice = [{"vault": "identity", "request": release}] * 2
    assert problem(leaving.ask(identity_level="prosecutors", releases=twice)) == NO_LEVEL


def test_without_the_custodians_nothing_of_it_leaves(leaving: LeavingWithIdentity) -> None:
    assert problem(leaving.ask_with({"identity": "b" * 32})) == MISSING
    # Asked, and one of two has answered.
    vault = leaving.vault
    waiting = vault.asked(purpose="iiim", to=leaving.partner.id)
    vault.share(vault.custodians[0].sign_in(), waiting)
    assert problem(leaving.ask_with({"identity": waiting})) == MISSING
    # For the reader's own eyes only, and of the other vault.
    own = leaving.released(to=None)
    assert problem(leaving.ask_with({"identity": own})) == MISSING
    release = leaving.released()
    assert problem(leaving.ask_with({"originals": release})) == MISSING
    # Of another case of the same reader.
    other = LeavingWithIdentity.vaulted(leaving.organisation)
    assert problem(other.ask_with({"identity": release})) == MISSING
    assert leaving.ask_with({"identity": release}).status_code == 201


def test_a_release_for_another_purpose_or_partner_covers_nothing(
    organisation: Organisation,
) -> None:
    leaving = LeavingWithIdentity.vaulted(organisation)
    denied = leaving.vault.ask(purpose="icc", to=leaving.partner.id)
    assert problem(denied) in {(403, "purpose-not-listed"), (403, "consent-denies")}
    assert problem(leaving.vault.ask(purpose="iiim", to="b" * 32)) == (422, "partner-unknown")
    review = leaving.released(purpose="review", to=None)
    assert problem(leaving.ask_with({"identity": review})) == MISSING


@pytest.mark.parametrize("level", ["anonymous", "pseudonym"])
def test_without_the_witness_no_custodian_is_asked(organisation: Organisation, level: str) -> None:
    leaving = LeavingWithIdentity.vaulted(organisation, identity_level=level)
    asked = leaving.vault.ask(purpose="iiim", to=leaving.partner.id)
    assert problem(asked) == (403, "identity-denied")
    assert problem(leaving.ask_with({"identity": "b" * 32})) == (403, "identity-denied")


STEPS: dict[str, Any] = {
    "approval": lambda leaving, export: leaving.decide(export),
    "assembly": lambda leaving, export: leaving.may_leave(export),
    "report": lambda leaving, export: leaving.complete(export),
}


def before(leaving: LeavingWithIdentity, step: str) -> str:
    """Bring an export with the identity to the moment before a step."""
    export = leaving.asked_with("identity")
    if step != "approval":
        assert leaving.decide(export).status_code == 200
    return export


@pytest.mark.parametrize("step", STEPS)
def test_a_policy_that_is_narrowed_on_the_way_ends_it(
    leaving: LeavingWithIdentity, step: str
) -> None:
    export = before(leaving, step)
    witness = Witness(leaving.organisation, leaving.made)
    assert witness.consent(SCOPES, level="pseudonym").status_code == 200
    assert problem(STEPS[step](leaving, export)) == (403, "identity-denied")
    # Without the identity it may still leave.
    assert leaving.ask().status_code == 201


@pytest.mark.parametrize("step", STEPS)
def test_a_release_that_ends_on_the_way_ends_it(leaving: LeavingWithIdentity, step: str) -> None:
    export = before(leaving, step)
    leaving.vault.asked(purpose="iiim", to=leaving.partner.id)
    assert problem(STEPS[step](leaving, export)) == (410, "release-over")


@pytest.mark.parametrize("step", STEPS)
def test_a_release_whose_days_are_over_covers_nothing(
    leaving: LeavingWithIdentity, step: str
) -> None:
    release = leaving.released(days=1)
    export = leaving.ask_with({"identity": release}).get_json()["export"]
    if step != "approval":
        assert leaving.decide(export).status_code == 200
    leaving.organisation.clock.now += timedelta(days=2)
    try:
        leaving.reader.sign_in()
        leaving.administrator.sign_in()
        assert problem(STEPS[step](leaving, export)) == (410, "release-over")
    finally:
        leaving.organisation.clock.follow()


@pytest.mark.parametrize("step", STEPS)
def test_a_withdrawal_on_the_way_ends_it(leaving: LeavingWithIdentity, step: str) -> None:
    export = before(leaving, step)
    witness = Witness(leaving.organisation, leaving.made)
    assert witness.change("withdraw").status_code == 200
    assert STEPS[step](leaving, export).status_code in {409, 410}
    assert leaving.told(export)["state"] == "ended"


@pytest.mark.parametrize("step", STEPS)
def test_the_answer_of_a_custodian_who_is_suspended_counts_no_more(
    organisation: Organisation, step: str
) -> None:
    organisation.clock.follow()
    leaving = LeavingWithIdentity.vaulted(organisation)
    export = before(leaving, step)
    first = leaving.vault.custodians[0].keys.id
    why = {"person": first, "reason": "compromised"}
    done = leaving.administrator.act("suspend", f"/v1/people/{first}/suspension", **why)
    assert done.status_code < 300, done.get_json()
    try:
        assert problem(STEPS[step](leaving, export)) == MISSING
    finally:
        lifted = sa.update(Suspension).values(lifted_at=organisation.clock())
        with organisation.services.database.transaction() as session:
            session.execute(lifted.where(Suspension.person == first))


def test_what_is_approved_is_what_was_shown(leaving: LeavingWithIdentity) -> None:
    export = leaving.asked_with("identity")
    other = leaving.told(export)["releases"]
    for changes in (
        {"releases": [], "identity_level": "anonymous"},
        {"releases": [{**other[0], "request": "b" * 32}]},
        {"releases": []},
    ):
        assert problem(leaving.decide(export, **changes)) == (422, "action-refused")
