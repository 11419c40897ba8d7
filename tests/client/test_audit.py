"""What changed between two versions, in words: whatever differs is said, and nothing else."""

import copy
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from amana.client.audit import compare
from amana.client.errors import Usage
from amana.client.keyfile import PersonKeys, intake_key_fields
from amana.client.officer import Proposal, Version, describe, propose, rotate_root
from amana.protocol.directory import fingerprint
from tests.support.ceremony import Ceremony, desk, reader

CEREMONY = Ceremony()
NOW = datetime.now(UTC)
BASE = describe(CEREMONY.proposal(1).files)
PARTNER = PersonKeys.generate("custodian")


def version(description: dict[str, Any], *, now: datetime = NOW, root: Any = None) -> Version:
    proposal = propose(description, version=1, now=now)
    return Version(proposal.files, proposal.targets, root)


def said(change: Callable[[dict[str, Any]], object]) -> list[str]:
    """Return what is said of a change of the description."""
    description = copy.deepcopy(BASE)
    change(description)
    return compare(version(BASE), version(description))


def test_of_the_same_nothing_is_said() -> None:
    assert said(lambda _: None) == []


def test_a_new_reader_is_said_with_the_fingerprint() -> None:
    keys = PersonKeys.generate("reviewer")
    entry = reader(keys, takes=["minor"])
    public = {k: entry[k] for k in ("id", "signing_key", "intake_key", "intake_key_sig")}
    [line] = said(lambda d: d["desks"][1]["readers"].append(entry))
    assert line.startswith(f"added: reader {keys.id} at desk general (")
    assert f"fingerprint: {fingerprint(public)}" in line
    assert "takes: minor" in line


def test_a_leaver_and_other_flags_are_said() -> None:
    [line] = said(lambda d: d["desks"][0]["readers"].pop())
    assert line.startswith(f"removed: reader {CEREMONY.reviewer.id} at desk chemical (")
    assert said(lambda d: d["desks"][0]["readers"][1].update(takes=["minor"])) == [
        f"changed: reader {CEREMONY.reviewer.id} at desk chemical: takes: none → minor"
    ]


def test_a_replaced_intake_key_is_said_and_the_signing_key_is_not() -> None:
    new = PersonKeys.generate("reviewer")
    same = PersonKeys(CEREMONY.custodian.id, "custodian", CEREMONY.custodian.signing, new.intake)

    [line] = said(lambda d: d["custodians"]["members"][0].update(intake_key_fields(same)))
    assert line.startswith(f"changed: person {CEREMONY.custodian.id}: fingerprint: ")


def test_a_partner_with_purposes_is_said() -> None:
    def add(d: dict[str, Any]) -> None:
        keys = intake_key_fields(PARTNER)
        d["partners"].append({"id": PARTNER.id, **keys, "purposes": ["justice", "study"]})
        d["people"].append(
            {"id": PARTNER.id, "roles": ["partner"], "signing_key": PARTNER.signing.public}
        )

    assert f"added: partner {PARTNER.id} (purposes: justice, study)" in said(add)


def test_a_consent_text_is_said_by_its_hash() -> None:
    text = dict(BASE["consent_texts"][0], id="c2.en")
    [line] = said(lambda d: d["consent_texts"].append(text))
    assert line.startswith("added: consent text c2.en (")
    assert text["sha256"] in line


def test_expiry_and_number_are_said() -> None:
    later = NOW + timedelta(days=1)
    until = [f"{moment + timedelta(days=45):%Y-%m-%d %H:%M}" for moment in (NOW, later)]
    assert compare(version(BASE), version(BASE, now=later)) == [
        f"changed: the directory: valid until: {until[0]} → {until[1]}"
    ]


def test_what_a_root_changes_is_said() -> None:
    old = CEREMONY.first_root
    gone, newcomer = CEREMONY.officers[0].signing.public, PersonKeys.generate("officer")
    new = rotate_root(
        old.signed, drop=[gone], add=[newcomer.signing.public], root_threshold=3, now=NOW
    )
    lines = compare(version(BASE, root=old), version(BASE, root=new))
    assert f"added: officer {newcomer.signing.public} (signs: root, targets)" in lines
    assert f"removed: officer {gone} (signs: root, targets)" in lines
    assert "changed: the root: version: 1 → 2" in lines
    assert "changed: the root: root needs: 2 of 3 signatures → 3 of 3 signatures" in lines
    assert compare(version(BASE, root=old), version(BASE)) == []


def test_nothing_that_is_said_steers_the_terminal() -> None:
    lines = said(lambda d: d["desks"][0]["names"].update(en="a\x1b[2J\u202e\nb"))
    assert lines
    assert all(line.isprintable() for line in lines)


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    pairs: Any = ()
    if isinstance(value, dict):
        pairs = value.items()
    elif isinstance(value, list):
        pairs = enumerate(value)
    for key, below in pairs:
        yield (*path, key)
        yield from _leaves(below, (*path, key))


def _crowd() -> dict[str, Any]:
    readers = [reader(CEREMONY.lead, lead=True, takes=["minor"]), reader(CEREMONY.reviewer)]
    desks = [desk("chemical", readers), desk("general", readers[1:], draw=1)]
    for one in desks:
        one["ext"] = {"later": 1}
    description = CEREMONY.description(desks=desks, ext={"more": [1]})
    description["people"][0]["ext"] = {"x": "y"}
    second = {"id": PARTNER.id, "roles": ["custodian"], "signing_key": PARTNER.signing.public}
    description["people"].append(second)
    description["custodians"]["members"].append({"id": PARTNER.id, **intake_key_fields(PARTNER)})
    return describe(CEREMONY.proposal(**description).files)


CROWD = _crowd()
REMOVED = object()


def _changed(path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    changed: dict[str, Any] = copy.deepcopy(CROWD)
    *parents, last = path
    place: Any = changed
    for key in parents:
        place = place[key]
    if value is REMOVED:
        del place[last]
    else:
        place[last] = value
    return changed


@pytest.mark.parametrize(
    "value",
    [pytest.param(REMOVED, id="removed"), 0, 2, [], "other", ["minor"], ["reviewer"]],
    ids=str,
)
def test_no_change_that_a_directory_can_hold_goes_unsaid(value: Any) -> None:
    before, said = version(CROWD), 0
    for path in _leaves(CROWD):
        changed = _changed(path, value)
        try:
            after = version(changed)
        except Usage:
            continue  # Most changes give no directory; those are refused elsewhere.
        assert bool(compare(before, after)) == (changed != CROWD), path
        said += changed != CROWD
    assert said


def test_parts_beside_the_description_are_compared_too() -> None:
    proposal: Proposal = CEREMONY.proposal(1)
    files = dict(proposal.files)
    files["people.json"] = files["people.json"].replace(b'{"people"', b'{"ext":{"a":1},"people"')
    before = Version(proposal.files, proposal.targets, None)
    assert compare(before, Version(files, proposal.targets, None)) == [
        'added: the part people.json (ext: {"a": 1})'
    ]
