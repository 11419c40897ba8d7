# SPDX-License-Identifier: AGPL-3.0-or-later
"""What is stored of a testimony is what its receipt says: compared, noted, and never repaired. Never commits."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from amana.access.models import SignedAction
from amana.consent.models import ControlStatement
from amana.custody import service as custody
from amana.intake.models import Grant, ObjectState, Share, Testimony, UploadedObject
from amana.intake.service import policy_chain
from amana.protocol.action import body_sha256
from amana.protocol.consent import check_chain
from amana.protocol.control import parse_control
from amana.protocol.encoding import random_id, sha256_hex, unb64
from amana.protocol.errors import ProtocolError
from amana.protocol.receipt import verify_receipt
from amana.review.models import Note
from amana.scrub.models import Damage

LISTED = 20
"""How many damaged cases are named at once."""
PAGE = 200
_NOTES = ("sealed", "reason")
"""What the body of an action calls a note that it brings; elsewhere a reason is a word."""


class Fault(StrEnum):
    """What is wrong with a stored part."""

    MISSING = "missing"
    DIFFERS = "differs"


# Objects, which rest in the object store


@dataclass(frozen=True)
class StoredObject:
    """An object of a received testimony, and what it must be."""

    case: str
    n: int
    size: int
    sha256: str
    checked_on: date

    @property
    def key(self) -> str:
        return f"{self.case}/{self.n}"

    @property
    def part(self) -> str:
        return f"object {self.n}"


def objects_due(session: Session, since: date, after: StoredObject | None) -> list[StoredObject]:
    """Return a page of the objects that were last checked on `since` or before, the longest ago first."""
    order = (UploadedObject.checked_on, UploadedObject.case, UploadedObject.n)
    query = _objects().where(UploadedObject.checked_on <= since).order_by(*order).limit(PAGE)
    if after is not None:
        query = query.where(sa.tuple_(*order) > sa.tuple_(after.checked_on, after.case, after.n))
    return [StoredObject(*row) for row in session.execute(query)]


def all_objects(session: Session, after: StoredObject | None) -> list[StoredObject]:
    """Return a page of all objects that are kept, case by case: an order that no check changes."""
    order = (UploadedObject.case, UploadedObject.n)
    query = _objects().order_by(*order).limit(PAGE)
    if after is not None:
        query = query.where(sa.tuple_(*order) > sa.tuple_(after.case, after.n))
    return [StoredObject(*row) for row in session.execute(query)]


def damaged_objects(session: Session) -> list[StoredObject]:
    """Return the objects that were found damaged and not whole since."""
    damaged = sa.exists().where(
        Damage.case == UploadedObject.case,
        Damage.part == sa.literal("object ") + sa.cast(UploadedObject.n, sa.String),
        Damage.mended_on.is_(None),
    )
    query = _objects().where(damaged).order_by(UploadedObject.checked_on, UploadedObject.case)
    return [StoredObject(*row) for row in session.execute(query.limit(PAGE))]


def _objects() -> sa.Select[Any]:
    columns: list[Any] = [
        UploadedObject.case,
        UploadedObject.n,
        UploadedObject.size,
        UploadedObject.sealed_sha256,
        UploadedObject.checked_on,
    ]
    kept = UploadedObject.checked_on.is_not(None), UploadedObject.state == ObjectState.VERIFIED
    return sa.select(*columns).where(*kept)


def note_object(session: Session, one: StoredObject, fault: Fault | None, today: date) -> bool:
    """Note how an object was found. False, and nothing is noted, where it was given up for destruction meanwhile."""
    row = session.get(UploadedObject, (one.case, one.n), with_for_update=True)
    if row is None or row.state != ObjectState.VERIFIED:
        return False
    row.checked_on = today
    _note(
        session, one.case, {one.part} if fault is None else set(), _faults(one.part, fault), today
    )
    return True


def _faults(part: str, fault: Fault | None) -> dict[str, Fault]:
    return {} if fault is None else {part: fault}


# Parts that are kept in rows


@dataclass(frozen=True)
class StoredCase:
    """A received case, and when its parts in rows were last checked."""

    case: str
    checked_on: date


def cases_due(session: Session, since: date, after: StoredCase | None) -> list[StoredCase]:
    """Return a page of the cases whose parts in rows were last checked on `since` or before, the longest ago first."""
    order = (Testimony.checked_on, Testimony.case)
    query = sa.select(Testimony.case, Testimony.checked_on).order_by(*order).limit(PAGE)
    query = query.where(Testimony.checked_on <= since)
    if after is not None:
        query = query.where(sa.tuple_(*order) > sa.tuple_(after.checked_on, after.case))
    return [StoredCase(row.case, row.checked_on) for row in session.execute(query)]


def all_cases(session: Session, after: StoredCase | None) -> list[StoredCase]:
    """Return a page of all cases that are kept, in an order that no check changes."""
    query = sa.select(Testimony.case, Testimony.checked_on).order_by(Testimony.case).limit(PAGE)
    query = query.where(Testimony.checked_on.is_not(None))
    if after is not None:
        query = query.where(Testimony.case > after.case)
    return [StoredCase(row.case, row.checked_on) for row in session.execute(query)]


def damaged_cases(session: Session) -> list[StoredCase]:
    """Return the cases of which parts in rows were found damaged and not whole since."""
    query = (
        sa.select(Testimony.case, Testimony.checked_on)
        .join(Damage, Testimony.case == Damage.case)
        .where(Damage.mended_on.is_(None), Damage.part.not_like("object %"))
        .where(Testimony.checked_on.is_not(None))
        .distinct()
    )
    rows = session.execute(query.order_by(Testimony.case).limit(PAGE))
    return [StoredCase(row.case, row.checked_on) for row in rows if row.checked_on]


def check_case(
    session: Session, case: str, custody_keys: Collection[str], today: date
) -> int | None:
    """Compare the parts of a case that are kept in rows with what was signed about them, and note how they were found.

    Returns how many bytes were read; None where the case was destroyed meanwhile. It is locked, so that nothing of it
    is destroyed while it is looked at; grants and notes are read before the actions that brought them, so that what is
    added meanwhile is no fault.
    """
    testimony = session.get(Testimony, case, with_for_update=True)
    if testimony is None or testimony.checked_on is None:
        return None
    found = _Found()
    event = _receipt_event(testimony, custody_keys, found)
    if event is not None:
        found.compare("manifest", testimony.manifest, event["manifest_sha256"])
        _check_objects_listed(session, testimony, event["objects"], found)
    _check_policies(session, testimony, event, found)
    _check_sealed_parts(session, case, event, found)
    testimony.checked_on = today
    _note(session, case, found.seen - found.faults.keys(), found.faults, today)
    return found.bytes_read


class _Found:
    """What was looked at of one case."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self.faults: dict[str, Fault] = {}
        self.bytes_read = 0

    def compare(self, part: str, content: bytes, *accepted: str) -> None:
        """Note a part with one of the accepted hashes as whole, another as damaged."""
        self.seen.add(part)
        self.bytes_read += len(content)
        if not content:
            self.lack(part)
        elif sha256_hex(content) not in accepted:
            self.faults[part] = Fault.DIFFERS

    def lack(self, part: str) -> None:
        self.seen.add(part)
        self.faults[part] = Fault.MISSING

    def say(self, part: str, is_whole: bool) -> None:
        self.seen.add(part)
        if not is_whole:
            self.faults[part] = Fault.DIFFERS


def _receipt_event(
    testimony: Testimony, custody_keys: Collection[str], found: _Found
) -> dict[str, Any] | None:
    """Return the event of the receipt; None where the receipt itself is damaged."""
    for key in custody_keys:
        try:
            receipt = verify_receipt(json.loads(testimony.receipt or "null"), key)
        except (ValueError, RecursionError, ProtocolError):
            continue
        if receipt.case == testimony.case:
            found.say("receipt", True)
            return receipt.event
    found.say("receipt", False)
    return None


def _check_objects_listed(
    session: Session, testimony: Testimony, listed: Sequence[Mapping[str, Any]], found: _Found
) -> None:
    """Compare an account that came inline, and what the rows of the others say; their bytes are another matter."""
    query = sa.select(UploadedObject).where(UploadedObject.case == testimony.case)
    rows = {row.n: (row.size, row.sealed_sha256) for row in session.scalars(query)}
    for one in listed:
        n, is_there = one["i"], (one["size"], one["sealed_sha256"])
        if n == 0 and n not in rows:
            found.compare("account", testimony.account, one["sealed_sha256"])
        elif n not in rows:
            found.lack(f"row of object {n}")
        else:
            found.say(f"row of object {n}", rows[n] == is_there)


def _check_policies(
    session: Session, testimony: Testimony, event: Mapping[str, Any] | None, found: _Found
) -> None:
    try:
        chain = policy_chain(session, testimony)
        check_chain(chain)
    except ProtocolError:
        found.say("policies", False)
        return
    first = chain[0].policy
    whole = event is None or first.sha256 == event["policy_sha256"]
    found.say("policies", whole and first.control == testimony.control)
    _check_statements(session, testimony, [one.policy.sha256 for one in chain[1:]], found)


def _check_statements(
    session: Session, testimony: Testimony, policies: list[str], found: _Found
) -> None:
    """Verify what the witness said later; each later policy is in one of these statements."""
    query = sa.select(ControlStatement).where(ControlStatement.case == testimony.case)
    brought = []
    for row in session.scalars(query.order_by(ControlStatement.seq)):
        found.bytes_read += len(row.document)
        try:
            said = parse_control(json.loads(row.document))
        except (ValueError, RecursionError, ProtocolError):
            found.say(f"statement {row.seq}", False)
            continue
        same = (said.sha256, said.control) == (row.sha256, testimony.control)
        found.say(f"statement {row.seq}", same)
        if said.policy is not None:
            brought.append(said.policy.sha256)
    found.say("later policies", brought == policies)


def _check_sealed_parts(
    session: Session, case: str, event: Mapping[str, Any] | None, found: _Found
) -> None:
    """Compare grants, notes and shares of vaults with the receipt, or with the signed action by which each came."""
    grants = {
        row.reader: (row.intake_key, row.sealed)
        for row in session.scalars(sa.select(Grant).where(Grant.case == case))
    }
    shares = session.scalars(sa.select(Share).where(Share.case == case)).all()
    notes = {}
    rows = sa.select(Note.n, Note.sealed).where(Note.case == case).order_by(Note.n)
    for n, sealed in session.execute(rows).yield_per(PAGE // 10):
        notes[n] = sha256_hex(sealed)
        found.bytes_read += len(sealed)
    received = [] if event is None else event["grants"]
    brought = _brought(session, case, found)
    brought.grants |= {(one["intake_key"], one["sha256"]) for one in received}
    for reader, (intake_key, sealed) in grants.items():
        found.bytes_read += len(sealed)
        is_known = (intake_key, sha256_hex(sealed)) in brought.grants
        found.say(f"grant {reader}", event is None or is_known)
    for one in received:
        if one["reader"] not in grants:
            found.lack(f"grant {one['reader']}")
    for n, sha256 in notes.items():
        found.say(f"note {n}", sha256 in brought.notes)
    _check_shares(shares, event, brought, found)


def _check_shares(
    shares: Sequence[Share],
    event: Mapping[str, Any] | None,
    brought: "_Brought",
    found: _Found,
) -> None:
    """Compare the shares of each vault; those that came with the testimony are all there unless it was shared anew."""
    for entry in [] if event is None else event["shares"]:
        name, came = entry["vault"], set(entry["sha256"])
        there = [one for one in shares if one.vault == name]
        hashes = {sha256_hex(one.sealed) for one in there}
        found.bytes_read += sum(len(one.sealed) for one in there)
        is_known = hashes <= came | brought.pieces
        found.say(f"shares of {name}", is_known)
        if is_known and name not in brought.shared_anew and not came <= hashes:
            found.lack(f"shares of {name}")


@dataclass
class _Brought:
    """Hashes of what signed actions brought to a case."""

    grants: set[tuple[str, str]] = field(default_factory=set)
    """With the short name of the key that each is sealed to."""
    notes: set[str] = field(default_factory=set)
    pieces: set[str] = field(default_factory=set)
    shared_anew: set[str] = field(default_factory=set)
    """Vaults whose custodians made pieces for others."""


def _brought(session: Session, case: str, found: _Found) -> _Brought:
    """Return what actions brought; the body of each must be the signed one, else it brought nothing."""
    query = (
        sa.select(SignedAction)
        .where(SignedAction.case == case, SignedAction.body.is_not(None))
        .execution_options(yield_per=PAGE // 10)
    )
    brought = _Brought()
    for row in session.scalars(query):
        found.bytes_read += len(row.body or b"")
        try:
            body = json.loads(row.body or b"")
            is_whole = body_sha256(body) == json.loads(row.document)["body_sha256"]
        except (ValueError, KeyError, TypeError, RecursionError):
            is_whole = False
        found.say(f"action {row.nonce}", is_whole)
        if is_whole:
            _add(brought, body)
    return brought


def _add(brought: _Brought, body: Mapping[str, Any]) -> None:
    for name in _NOTES:
        if (sha256 := _hash_of(body.get(name))) is not None:
            brought.notes.add(sha256)
    if (sha256 := _hash_of(body.get("grant"))) is not None:
        brought.grants.add((str(body.get("intake_key")), sha256))
    if "pieces" in body:
        brought.shared_anew.add(str(body.get("vault")))
        brought.pieces |= {one["sha256"] for one in body["pieces"]}


def _hash_of(sealed: object) -> str | None:
    """Return the hash of what a body holds in Base64; None where it is something else."""
    try:
        return sha256_hex(unb64(sealed))
    except ProtocolError:
        return None


# What was found


def _note(
    session: Session,
    case: str,
    whole: Collection[str],
    faults: Mapping[str, Fault],
    today: date,
) -> None:
    """Note new damages, and those that are mended, each with an event; what is known already is not said again."""
    query = sa.select(Damage).where(Damage.case == case, Damage.mended_on.is_(None))
    known = {one.part: one for one in session.scalars(query)}
    for part in sorted(whole & known.keys()):
        known[part].mended_on = today
        _record(session, "verification-mended", case, part, known[part].fault, today)
    for part, fault in sorted(faults.items()):
        before = known.get(part)
        if before is not None and before.fault == fault:
            continue
        if before is None:
            made = Damage(id=random_id(), case=case, part=part, fault=fault, found_on=today)
            session.add(made)
        else:
            before.fault = fault
        _record(session, "verification-failed", case, part, fault, today)


def _record(session: Session, kind: str, case: str, part: str, fault: str, today: date) -> None:
    event = {
        "v": 1,
        "kind": kind,
        "case": case,
        "part": part,
        "fault": fault,
        "found_on": today.isoformat(),
    }
    custody.record(session, event)


@dataclass(frozen=True)
class Damaged:
    """How many parts are damaged now, and some of the cases that they belong to."""

    parts: int
    cases: list[str]


def damages(session: Session) -> Damaged:
    """Return what is damaged of what is still kept."""
    open_ = (
        sa.select(Damage.case)
        .join(Testimony, Testimony.case == Damage.case)
        .where(Damage.mended_on.is_(None), Testimony.checked_on.is_not(None))
    )
    parts = session.scalar(sa.select(sa.func.count()).select_from(open_.subquery())) or 0
    cases = session.scalars(open_.distinct().order_by(Damage.case).limit(LISTED))
    return Damaged(parts, list(cases))


def longest_ago(session: Session) -> date | None:
    """Return the day before which nothing that is kept was last checked; None where nothing is kept."""
    kept = UploadedObject.checked_on.is_not(None), UploadedObject.state == ObjectState.VERIFIED
    days = (
        session.scalar(sa.select(sa.func.min(UploadedObject.checked_on)).where(*kept)),
        session.scalar(sa.select(sa.func.min(Testimony.checked_on))),
    )
    return min(filter(None, days), default=None)


def late(session: Session, since: date) -> int:
    """Count what was last checked on `since` or before, up to a thousand of each: objects, and cases."""
    count = 0
    for column in (UploadedObject.checked_on, Testimony.checked_on):
        some = sa.select(column).where(column <= since).limit(1000).subquery()
        count += session.scalar(sa.select(sa.func.count()).select_from(some)) or 0
    return count
