# SPDX-License-Identifier: AGPL-3.0-or-later
"""What a witness may say with the codename alone: how it stands, another consent, withdrawal. Never commits."""

import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from amana.access.actions import days_of
from amana.access.models import SignedAction
from amana.access.roles import Actor
from amana.consent.models import EXPIRED, WITHDRAWN, ControlStatement, Destruction, SpentNonce
from amana.custody import service as custody
from amana.errors import CaseExpired, CaseWithdrawn, Conflict, Gone, NotFound, Unprocessable
from amana.export import service as exports
from amana.intake.models import (
    Grant,
    ObjectState,
    PastGrant,
    PolicyVersion,
    State,
    Testimony,
    UploadedObject,
)
from amana.intake.retention import allows
from amana.intake.service import (
    StateForbids,
    abandon,
    is_abandoned,
    move,
    policy_chain,
    policy_versions,
)
from amana.protocol.control import CLOCK_DAYS, Control, Head, control_event
from amana.protocol.encoding import b64
from amana.protocol.policy import check_successor
from amana.protocol.receipt import sign_receipt
from amana.protocol.signing import SigningKey
from amana.replies.service import asked_on
from amana.review import service as review
from amana.review.models import Note
from amana.routing.models import Assignment, RoutingTask
from amana.storage.blobs import Progress
from amana.vault import service as vault

BACKUP_DAYS = 35
"""How long a backup may be kept (docs/operating.md)."""
MAX_POLICIES = 200


class ControlUnknown(NotFound):
    slug = "control-unknown"
    title = "There is no testimony under this control key."


class ControlKnown(Conflict):
    slug = "control-known"
    title = "This statement was received before; it counts once."


class ControlOrder(Conflict):
    slug = "control-order"
    title = (
        "The statement does not follow the last one about this testimony; ask for its status first."
    )


class ControlOutdated(Unprocessable):
    slug = "control-outdated"
    title = "The statement is too old, or of a day to come; is the clock right?"


class CaseDestroyed(Gone):
    slug = "case-destroyed"
    title = "The testimony was withdrawn and destroyed, or is about to be."


class ConsentTextUnknown(Unprocessable):
    slug = "consent-text-unknown"
    title = "The consent text is not one of this installation's."


@dataclass(frozen=True)
class Taken:
    """What a statement led to: the receipt of a change, and whether bytes are to go now."""

    testimony: Testimony
    receipt: dict[str, Any]
    is_due: bool


def check_when(statement: Control, today: date) -> None:
    """Refuse a statement that is too old, or from the future."""
    if not statement.is_timely(today):
        raise ControlOutdated


def ask(session: Session, statement: Control, today: date) -> Testimony:
    """Return the testimony whose status is asked; nothing stays of the question but a nonce."""
    testimony = _find(session, statement, lock=False)
    if session.get(SpentNonce, statement.nonce) is not None:
        raise ControlKnown
    session.add(SpentNonce(nonce=statement.nonce, spent_on=today))
    try:
        session.flush()
    except IntegrityError:
        raise ControlKnown from None
    return testimony


def change(
    session: Session,
    statement: Control,
    *,
    document: bytes,
    texts: Collection[tuple[str, str]],
    today: date,
    custody_log: SigningKey,
    is_repeated: bool = False,
) -> Taken:
    """Do what a witness states: change the consent, withdraw, take a withdrawal back; once.

    `texts` are the id and hash of the consent texts that the officers signed. A statement that is repeated to a
    restored database was in its place once; what stood between may have been destroyed.
    """
    testimony = _find(session, statement, lock=True)
    if testimony.state == State.ARRIVING:
        return _withdraw_unfinished(session, testimony, statement, today, custody_log)
    if testimony.state == State.EXPIRED:
        raise CaseExpired
    spent = sa.select(ControlStatement.case).where(ControlStatement.nonce == statement.nonce)
    if session.scalar(spent) is not None:
        raise ControlKnown
    head = head_of(session, testimony)
    if not (is_repeated or statement.follows(head)):
        raise ControlOrder
    withdrawal = session.get(Destruction, testimony.case)
    if statement.kind == "consent":
        _change_consent(session, testimony, statement, texts, today)
    elif statement.kind == "withdraw":
        withdrawal = _withdraw(session, testimony, statement, today)
    else:
        _take_back(session, testimony, withdrawal, today)
        withdrawal = None
    session.add(
        ControlStatement(
            case=testimony.case,
            seq=max(head.seq + 1, statement.seq),
            kind=statement.kind,
            nonce=statement.nonce,
            sha256=statement.sha256,
            document=document,
            received_on=today,
        )
    )
    receipt = _receipt(session, statement, testimony.case, today, custody_log)
    due = withdrawal is not None and withdrawal.destroy_on <= today
    return Taken(testimony, receipt, due)


def _find(session: Session, statement: Control, *, lock: bool) -> Testimony:
    query = sa.select(Testimony).where(Testimony.control == statement.control)
    found = session.scalar(query.with_for_update() if lock else query)
    if found is None:
        raise ControlUnknown
    return found


def head_of(session: Session, testimony: Testimony) -> Head:
    """Return the end of a testimony's chain of statements."""
    query = sa.select(ControlStatement).where(ControlStatement.case == testimony.case)
    last = session.scalar(query.order_by(ControlStatement.seq.desc()).limit(1))
    if last is not None:
        return Head(last.seq, last.sha256)
    if testimony.policy == b"":
        # It expired and is destroyed; its receipt still names the hash.
        event = json.loads(testimony.receipt or "{}")["event"]
        return Head(0, event["policy_sha256"])
    return Head(0, policy_chain(session, testimony)[0].policy.sha256)


def _change_consent(
    session: Session,
    testimony: Testimony,
    statement: Control,
    texts: Collection[tuple[str, str]],
    today: date,
) -> None:
    if testimony.state == State.WITHDRAWN:
        raise CaseWithdrawn
    policy, previous = statement.policy, policy_chain(session, testimony)[-1].policy
    assert policy is not None  # noqa: S101
    check_successor(previous, policy)
    if policy.seq > MAX_POLICIES:
        # Withdrawing and taking back have no limit: nobody with a forced codename may use them up.
        raise Conflict("This consent was changed too often.", slug="consent-limit")
    text = (policy.consent_text, policy.consent_text_sha256)
    if text != (previous.consent_text, previous.consent_text_sha256) and text not in texts:
        raise ConsentTextUnknown
    session.add(
        PolicyVersion(
            case=testimony.case, seq=policy.seq, policy=statement.policy_bytes, received_on=today
        )
    )
    # A widening waits, so that later this may be less than counts; nothing expires before that is looked at again.
    testimony.allows = allows(policy_chain(session, testimony), today)


def _withdraw(
    session: Session, testimony: Testimony, statement: Control, today: date
) -> Destruction:
    if testimony.state == State.WITHDRAWN:
        raise CaseWithdrawn
    if not statement.is_chained and _was_taken_back(session, testimony.case):
        # One that lay in a queue since before must not undo what the witness has said meanwhile.
        raise ControlOrder
    delay = policy_chain(session, testimony)[0].policy.withdrawal_delay_days
    move(session, testimony, "withdraw")
    return _take_from_everybody(session, testimony, WITHDRAWN, today, delay)


def expire(session: Session, testimony: Testimony, today: date) -> Destruction:
    """End a decided case whose time is over; the caller has locked it. It is destroyed as one that was withdrawn."""
    move(session, testimony, "expire")
    event = {
        "v": 1,
        "kind": "testimony-expired",
        "case": testimony.case,
        "expired_on": today.isoformat(),
    }
    custody.record(session, event)
    return _take_from_everybody(session, testimony, EXPIRED, today, 0)


def _take_from_everybody(
    session: Session, testimony: Testimony, reason: str, today: date, delay_days: int
) -> Destruction:
    """End all work on a case, and note when it is to be destroyed."""
    destruction = Destruction(
        case=testimony.case,
        reason=reason,
        asked_on=today,
        destroy_on=today + timedelta(days=delay_days),
    )
    session.add(destruction)
    session.execute(
        sa.update(Assignment)
        .where(Assignment.case == testimony.case, Assignment.ended_on.is_(None))
        .values(ended_on=today, ended_because=reason)
    )
    session.execute(sa.delete(RoutingTask).where(RoutingTask.case == testimony.case))
    vault.end_open(session, testimony.case, today, reason)
    exports.end_unfinished(session, testimony.case)
    return destruction


def _was_taken_back(session: Session, case: str) -> bool:
    query = sa.select(ControlStatement.seq).where(
        ControlStatement.case == case, ControlStatement.kind == "take-back"
    )
    return session.scalar(query.limit(1)) is not None


def _take_back(
    session: Session, testimony: Testimony, withdrawal: Destruction | None, today: date
) -> None:
    if withdrawal is None:
        raise StateForbids
    if withdrawal.destroyed_on is not None or withdrawal.destroy_on <= today:
        raise CaseDestroyed
    testimony.kept_since = today
    move(session, testimony, "take-back")
    testimony.routed = False
    session.delete(withdrawal)
    # Else this session would still find it, and tell the witness of a withdrawal that is over.
    session.flush()


def _withdraw_unfinished(
    session: Session,
    testimony: Testimony,
    statement: Control,
    today: date,
    custody_log: SigningKey,
) -> Taken:
    """End the uploads of what was never received; nothing of it needs to be kept for a delay."""
    if statement.kind != "withdraw":
        raise StateForbids
    if is_abandoned(testimony):
        raise CaseWithdrawn
    abandon(session, testimony)
    receipt = _receipt(session, statement, testimony.case, today, custody_log)
    return Taken(testimony, receipt, is_due=True)


def _receipt(
    session: Session, statement: Control, case: str, today: date, custody_log: SigningKey
) -> dict[str, Any]:
    event = control_event(statement, case, today)
    return sign_receipt(custody_log, event, custody.record(session, event))


# What a witness is told


def status(session: Session, testimony: Testimony, today: date) -> dict[str, Any]:
    """Return everything that the server can tell a witness about a testimony of theirs."""
    destroyed = testimony.policy == b""
    destruction = session.get(Destruction, testimony.case)
    head = head_of(session, testimony)
    unfinished = testimony.state == State.ARRIVING
    if unfinished and is_abandoned(testimony):
        told_withdrawal = _withdrawal_told(today, today, None)
    elif destruction is not None and destruction.is_withdrawal:
        told_withdrawal = _withdrawal_told(
            destruction.asked_on, destruction.destroy_on, destruction.destroyed_on
        )
    else:
        told_withdrawal = None
    return {
        "case": testimony.case,
        "state": testimony.state,
        "received_on": testimony.received_on,
        "policies": [] if destroyed else _policies(session, testimony),
        "seq": head.seq,
        "prev_sha256": head.sha256,
        "withdrawal": told_withdrawal,
        "ends_on": testimony.ends_on,
        "expiry": _expiry_told(destruction),
        "opened": _opened(session, testimony.case),
        "asked": asked_on(session, testimony.case),
        "releases": vault.told(session, testimony.case),
        "exports": exports.told_to_witness(session, testimony.case),
    }


def _withdrawal_told(asked: date, destroy: date, destroyed: date | None) -> dict[str, Any]:
    return {
        "asked_on": asked,
        "destroy_on": destroy,
        "destroyed_on": destroyed,
        "backups_until": (destroyed or destroy) + timedelta(days=BACKUP_DAYS),
    }


def _expiry_told(destruction: Destruction | None) -> dict[str, Any] | None:
    if destruction is None or destruction.is_withdrawal:
        return None
    return {
        "expired_on": destruction.asked_on,
        "destroyed_on": destruction.destroyed_on,
        "backups_until": (destruction.destroyed_on or destruction.destroy_on)
        + timedelta(days=BACKUP_DAYS),
    }


def _policies(session: Session, testimony: Testimony) -> list[dict[str, Any]]:
    versions = policy_versions(session, testimony)
    return [{"policy": b64(policy), "received_on": day} for policy, day in versions]


def _opened(session: Session, case: str) -> list[dict[str, Any]]:
    """Return which reader opened a case on which days."""
    seen = set(days_of(session, case, "open"))
    return [
        {"reader": reader, "day": day}
        for reader, day in sorted(seen, key=lambda one: (one[1], one[0]))
    ]


@dataclass(frozen=True)
class History:
    """Everything that a witness signed about the use of a case, with the days on which it came."""

    policies: list[dict[str, Any]]
    statements: list[bytes]


def history(session: Session, actor: Actor, case: str, now: datetime) -> History:
    """Return the versions of a policy and the statements that brought them, to a reader who opened the case."""
    testimony = review.opened(session, actor, case, now)
    query = sa.select(ControlStatement.document).where(ControlStatement.case == case)
    said = session.scalars(query.order_by(ControlStatement.seq))
    return History(_policies(session, testimony), [one for one in said if one])


# Destruction


def due(session: Session, today: date) -> list[str]:
    """Return the cases whose day of destruction has come and that still exist."""
    query = sa.select(Destruction.case).where(
        Destruction.destroy_on <= today, Destruction.destroyed_on.is_(None)
    )
    return list(session.scalars(query.order_by(Destruction.case)))


def begin_destroying(session: Session, case: str, today: date) -> list[tuple[str, Progress]] | None:
    """Return what the object store holds of a case that is due; None where nothing is due, or not any more."""
    testimony = session.get(Testimony, case, with_for_update=True)
    destruction = session.get(Destruction, case)
    if testimony is None or destruction is None or destruction.destroyed_on is not None:
        return None
    if destruction.destroy_on > today or testimony.state != destruction.reason:
        return None
    query = sa.select(UploadedObject).where(UploadedObject.case == case).order_by(UploadedObject.n)
    uploads = session.scalars(query).all()
    for one in uploads:
        one.state = ObjectState.DELETED
    return [(f"{case}/{one.n}", Progress(one.durable_offset, one.progress)) for one in uploads]


def finish_destroying(session: Session, case: str, today: date) -> bool:
    """Delete grants, shares, sealed parts, policies and notes of a case; its tombstone stays: case, state, days, hashes."""
    testimony = session.get(Testimony, case, with_for_update=True)
    destruction = session.get(Destruction, case)
    if testimony is None or destruction is None or destruction.destroyed_on is not None:
        return False
    vault.forget(session, case)
    _remember_readers(session, case, today)
    for table in (Grant, UploadedObject, Note, PolicyVersion):
        session.execute(sa.delete(table).where(table.case == case))
    session.execute(
        # Hand-overs, re-wrappings and notes stand whole in what signs them; their hashes stay.
        sa.update(SignedAction)
        .where(SignedAction.case == case, SignedAction.body.is_not(None))
        .values(body=b"")
    )
    session.execute(
        sa.update(ControlStatement)
        .where(ControlStatement.case == case, ControlStatement.kind == "consent")
        .values(document=b"")
    )
    testimony.policy = testimony.manifest = testimony.account = b""
    testimony.labels = testimony.declared = b"[]"
    testimony.language = testimony.flags = ""
    testimony.object_count = testimony.size = 0
    testimony.checked_on = None
    destruction.destroyed_on = today
    event = {
        "v": 1,
        "kind": "testimony-destroyed",
        "case": case,
        "because": destruction.reason,
        "destroyed_on": today.isoformat(),
    }
    custody.record(session, event)
    return True


def _remember_readers(session: Session, case: str, today: date) -> None:
    """Note who could open a case that is destroyed; the receipt, which stays, names most of them anyway."""
    kept = (Grant.case, Grant.reader, Grant.desk, Grant.received_on, Grant.handed_on)
    held = sa.select(*kept, sa.literal(today)).where(Grant.case == case)
    names = [column.key for column in kept]
    session.execute(sa.insert(PastGrant).from_select([*names, "destroyed_on"], held))


def forget_nonces(session: Session, today: date) -> int:
    """Delete the nonces of statements that are too old to be shown again; returns how many."""
    oldest = today - timedelta(days=2 * CLOCK_DAYS + 1)
    query = sa.delete(SpentNonce).where(SpentNonce.spent_on < oldest)
    return cast("sa.CursorResult[Any]", session.execute(query)).rowcount


def overdue(session: Session, today: date) -> list[str]:
    """Return the cases that should have been destroyed before today, and still exist."""
    query = sa.select(Destruction.case).where(
        Destruction.destroy_on < today, Destruction.destroyed_on.is_(None)
    )
    return list(session.scalars(query.order_by(Destruction.case)))


def statements(session: Session) -> list[ControlStatement]:
    """Return all statements that changed something, each case's in their order."""
    query = sa.select(ControlStatement).where(ControlStatement.document != b"")
    order = (ControlStatement.received_on, ControlStatement.case, ControlStatement.seq)
    return list(session.scalars(query.order_by(*order)))
