"""Who waits for the officers: what is verified offline, who is accepted, and where they are entered."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from amana.client.enrolments import accepted, enter, read_pending, remove, set_takes
from amana.client.errors import ClientError, NotVerified, Usage
from amana.client.keyfile import PersonKeys, intake_key_fields
from amana.client.officer import describe, propose
from amana.protocol.directory import Directory, fingerprint, parse_directory
from amana.protocol.encoding import random_id
from amana.protocol.enrolment import make_enrolment
from amana.protocol.sealing import Identity
from tests.support.ceremony import DEPLOYMENT, Ceremony, replacement_entry

CEREMONY = Ceremony()
NOW = datetime.now(UTC)
CURRENT = CEREMONY.proposal(1).check(NOW)
FORMER = PersonKeys(CEREMONY.lead.id, "reviewer", CEREMONY.lead.signing, Identity.generate())
WITH_INTAKE = {"reviewer", "lead", "custodian", "partner"}


def newcomer(role: str = "reviewer", *desks: str, **changes: Any) -> dict[str, Any]:
    """Return what the server tells of a person who enrolled."""
    keys = changes.pop("keys", None)
    keys = keys or PersonKeys.generate("reviewer" if role in WITH_INTAKE else role)
    if role in {"reviewer", "lead"} and not desks:
        desks = ("chemical",)
    enrolment = make_enrolment(
        keys.signing,
        deployment=changes.pop("deployment", DEPLOYMENT),
        token=random_id(),
        role=role,
        desks=list(desks),
        person=keys.id,
        intake=intake_key_fields(keys) if role in WITH_INTAKE else None,
        made_on=f"{NOW:%Y-%m-%d}",
    )
    vetting = {
        "vouchers": ["first", "second"],
        "vetted_on": f"{NOW:%Y-%m-%d}",
        "valid_until": f"{NOW + timedelta(days=365):%Y-%m-%d}",
        "languages": ["ar"],
        "specialities": [],
        "conflicts": ["place:x"],
    }
    return {
        "id": keys.id,
        "kind": "new",
        "enrolment": enrolment,
        "enrolled_on": f"{NOW:%Y-%m-%d}",
        "vetting": vetting,
    } | changes


def replacement(keys: PersonKeys, **changes: Any) -> dict[str, Any]:
    """Return what the server tells of a person who replaces their intake key, `instead_of` another."""
    by = changes.pop("by", keys)
    new = changes.pop("to", None) or PersonKeys(keys.id, keys.role, by.signing, Identity.generate())
    return (
        replacement_entry(
            new, changes.pop("instead_of", keys.intake_recipient), deployment=DEPLOYMENT
        )
        | changes
    )


def waiting(*entries: dict[str, Any]) -> dict[str, Any]:
    """Return the file as it travels: JSON, written and read."""
    document: dict[str, Any] = json.loads(json.dumps({"enrolments": entries}))
    return document


def entered(*entries: dict[str, Any], purposes: list[str] | None = None) -> Directory:
    """Return the next version after all who wait are accepted."""
    description = describe(CEREMONY.proposal(1).files)
    pending = read_pending(waiting(*entries), CURRENT)
    for one in accepted(pending, tuple(one["id"] for one in entries), NOW):
        enter(description, one, purposes=purposes or [])
    return propose(description, version=2, now=NOW).check(NOW)


def refusal(work: Callable[[], object]) -> str:
    with pytest.raises(ClientError) as refused:
        work()
    return refused.value.slug


def test_a_reviewer_is_entered_at_the_desks_of_the_invitation() -> None:
    keys = PersonKeys.generate("reviewer")
    directory = entered(newcomer("reviewer", "chemical", "general", keys=keys))
    person = directory.person(keys.id)
    assert person is not None
    assert (person.roles, person.desks) == ({"reviewer"}, {"chemical", "general"})
    listed = {one.id: one for one in directory.readers_of("general")}[keys.id]
    assert listed.intake_key == keys.intake_recipient
    assert listed.takes == set()


def test_a_lead_leads_and_reads() -> None:
    keys = PersonKeys.generate("reviewer")
    directory = entered(newcomer("lead", keys=keys))
    assert keys.id in directory.desk("chemical").leads
    assert keys.id not in directory.desk("general").leads


@pytest.mark.parametrize("role", ["administrator", "auditor", "custodian", "partner"])
def test_everybody_else_is_entered_among_the_people(role: str) -> None:
    one = newcomer(role)
    directory = entered(one, purposes=["justice"])
    person = directory.person(one["id"])
    assert person is not None
    assert (person.roles, person.desks) == ({role}, frozenset())
    partners = {"partner": [(one["id"], ["justice"])]}.get(role, [])
    assert [(x["id"], x["purposes"]) for x in directory.document["partners"]] == partners
    members = [x["id"] for x in directory.document["custodians"]["members"]]
    assert (one["id"] in members) == (role == "custodian")


def test_the_first_custodian_is_one_of_one() -> None:
    none = {"k": 0, "members": []}
    people = [one for one in CEREMONY.description()["people"] if one["roles"] != ["custodian"]]
    description = describe(CEREMONY.proposal(custodians=none, people=people).files)
    [one] = read_pending(waiting(newcomer("custodian")), CURRENT)
    enter(description, one, purposes=[])
    assert propose(description, version=2, now=NOW).check(NOW).document["custodians"]["k"] == 1


def test_a_replaced_key_takes_the_old_ones_place_at_every_desk() -> None:
    new = replacement(CEREMONY.reviewer)
    directory = entered(new)
    for desk in ("chemical", "general"):
        listed = {str(one.intake_key) for one in directory.readers_of(desk)}
        assert new["intake_key"] in listed
        assert str(CEREMONY.reviewer.intake_recipient) not in listed
    new = replacement(CEREMONY.custodian)
    [member] = entered(new).document["custodians"]["members"]
    assert member["intake_key"] == new["intake_key"]


def _edit(**changes: Any) -> dict[str, Any]:
    one = newcomer()
    one["enrolment"] |= changes
    return one


FAULTS = {
    "another desk than was signed": (lambda: _edit(desks=["general"]), "enrolment-refused"),
    "another role than was signed": (lambda: _edit(role="lead"), "enrolment-refused"),
    "another key than signed": (
        lambda: _edit(signing_key=CEREMONY.lead.signing.public),
        "enrolment-refused",
    ),
    "another's intake key": (
        lambda: _edit(**intake_key_fields(CEREMONY.lead)),
        "enrolment-refused",
    ),
    "another installation": (lambda: newcomer(deployment="elsewhere"), "enrolment-refused"),
    "another id outside": (lambda: newcomer(id=random_id()), "enrolment-refused"),
    "a person who is listed": (lambda: newcomer(keys=CEREMONY.lead), "key-known"),
    "a signing key that is listed": (
        lambda: newcomer(
            "auditor",
            keys=PersonKeys(random_id(), "auditor", CEREMONY.administrator.signing, None),
        ),
        "key-known",
    ),
    "a vetting without days": (
        lambda: newcomer(vetting={"vetted_on": "soon", "valid_until": "later"}),
        "",
    ),
    "a replacement that another signed": (
        lambda: replacement(CEREMONY.lead, by=CEREMONY.reviewer),
        "bad-signature",
    ),
    "a replacement by nobody": (
        lambda: replacement(PersonKeys.generate("reviewer")),
        "unknown-person",
    ),
    "a key whose owner asked for it in the place of another": (
        lambda: replacement(CEREMONY.lead, instead_of=Identity.generate().recipient),
        "replacement-outdated",
    ),
    "a key that its owner had once, whose request is over": (
        lambda: replacement(CEREMONY.lead) | intake_key_fields(FORMER),
        "replacement-outdated",
    ),
    "a request without its owner's signature": (
        lambda: replacement(CEREMONY.lead, action=replacement(CEREMONY.reviewer)["action"]),
        "bad-signature",
    ),
    "a replacement by the same key": (
        lambda: replacement(CEREMONY.lead, **intake_key_fields(CEREMONY.lead)),
        "key-known",
    ),
    "no form": (lambda: {"kind": "new", "id": random_id()}, "enrolment-refused"),
}


@pytest.mark.parametrize("says", FAULTS)
def test_who_does_not_verify_is_named_and_never_accepted(says: str) -> None:
    make, slug = FAULTS[says]
    entry, good = make(), newcomer()
    pending = read_pending(waiting(entry, good), CURRENT)
    assert pending[0].fault.startswith(slug)
    assert pending[0].fault
    assert pending[0].words()[0].startswith("REFUSED")
    assert not pending[1].fault
    assert (
        refusal(lambda: accepted(pending, (entry["id"],), NOW))
        == (pending[0].fault.partition(":")[0])
    )
    assert accepted(pending, (good["id"],), NOW) == [pending[1]]


def test_a_replacement_needs_the_directory_that_lists_its_owner() -> None:
    [one] = read_pending(waiting(replacement(CEREMONY.lead)), deployment=DEPLOYMENT)
    assert one.fault.startswith("directory-needed")


def test_who_was_not_vetted_is_not_accepted() -> None:
    unvetted = newcomer(vetting=None)
    over = newcomer()
    over["vetting"]["valid_until"] = f"{NOW - timedelta(days=1):%Y-%m-%d}"
    today = newcomer()
    today["vetting"]["valid_until"] = f"{NOW:%Y-%m-%d}"
    pending = read_pending(waiting(unvetted, over, today), CURRENT)
    assert not any(one.fault for one in pending)
    for one in (unvetted, over):
        assert refusal(lambda: accepted(pending, (one["id"],), NOW)) == "not-vetted"  # noqa: B023
    assert len(accepted(pending, (today["id"], today["id"]), NOW)) == 1
    assert refusal(lambda: accepted(pending, (random_id(),), NOW)) == "unknown-person"


def test_officers_see_what_the_person_reads_out_and_what_was_recorded() -> None:
    keys = PersonKeys.generate("reviewer")
    entry = newcomer("lead", "chemical", keys=keys)
    entry["vetting"]["vouchers"] = ["\x1b[2Jfirst", "second"]
    [one] = read_pending(waiting(entry))
    public = {"id": keys.id, "signing_key": keys.signing.public, **intake_key_fields(keys)}
    assert one.fingerprint == fingerprint(public)
    said = one.words()
    assert said[0] == f"new lead {keys.id} for chemical"
    assert f"  fingerprint {fingerprint(public)}" in said
    assert "  vouched for by: [2Jfirst, second" in said
    assert "  conflicts of interest: place:x" in said
    assert "  not vetted yet" in read_pending(waiting(newcomer(vetting=None)))[0].words()


def test_a_desk_that_is_gone_is_named() -> None:
    entry = newcomer("reviewer", "closed")
    assert refusal(lambda: entered(entry)) == "desk-unknown"


@pytest.mark.parametrize("document", [None, [], {}, {"enrolments": 1}, {"enrolments": [{}] * 1001}])
def test_another_file_is_refused(document: Any) -> None:
    assert refusal(lambda: read_pending(document)) == "bad-pending-file"


@pytest.mark.parametrize("entry", [None, 1, [], {}, {"id": []}, {"kind": "replacement"}])
def test_junk_among_those_who_wait_is_named(entry: Any) -> None:
    [one] = read_pending({"enrolments": [entry]}, CURRENT)
    assert one.fault


# Removing people, and what they may take


def changed(change: Callable[[dict[str, Any]], None]) -> Directory:
    description = describe(CEREMONY.proposal(1).files)
    change(description)
    return propose(description, version=2, now=NOW).check(NOW)


def test_who_is_removed_is_nowhere_left() -> None:
    directory = changed(lambda d: remove(d, CEREMONY.lead.id))
    assert directory.person(CEREMONY.lead.id) is None
    assert directory.desk("chemical").leads == ()
    assert directory.person(CEREMONY.reviewer.id) is not None
    assert changed(lambda d: remove(d, CEREMONY.administrator.id)).people.keys() == (
        CURRENT.people.keys() - {CEREMONY.administrator.id}
    )


def test_the_last_custodian_is_not_removed_while_one_is_needed() -> None:
    with pytest.raises(Usage):
        changed(lambda d: remove(d, CEREMONY.custodian.id))


def test_nobody_is_removed_or_changed_who_is_not_there() -> None:
    description = describe(CEREMONY.proposal(1).files)
    assert refusal(lambda: remove(description, random_id())) == "unknown-person"
    assert refusal(lambda: set_takes(description, CEREMONY.administrator.id, [])) == (
        "unknown-person"
    )


def test_flags_are_set_at_every_desk_of_a_reader() -> None:
    directory = changed(lambda d: set_takes(d, CEREMONY.reviewer.id, ["minor"]))
    for desk in ("chemical", "general"):
        [one] = [x for x in directory.readers_of(desk) if x.id == CEREMONY.reviewer.id]
        assert one.takes == {"minor"}
    with pytest.raises(Usage):
        changed(lambda d: set_takes(d, CEREMONY.reviewer.id, ["urgent"]))


def test_a_description_gives_the_same_parts_again() -> None:
    proposal = CEREMONY.proposal(1)
    again = propose(describe(proposal.files), version=1, now=NOW)
    assert again.files == proposal.files
    assert parse_directory(again.files) == CURRENT


def test_a_wrong_signature_ends_with_the_status_of_what_does_not_verify() -> None:
    entry = _edit(role="lead")
    with pytest.raises(NotVerified):
        accepted(read_pending(waiting(entry), CURRENT), (entry["id"],), NOW)
