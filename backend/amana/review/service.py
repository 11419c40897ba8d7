# SPDX-License-Identifier: AGPL-3.0-or-later
"""A reader sees the queue, signs an opening, and is given the sealed case. Never commits, never imports Flask."""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from amana.access.models import SignedAction
from amana.access.roles import Actor, Permission
from amana.access.service import require
from amana.custody import service as custody
from amana.errors import Conflict, NotAllowed, NotFound, Refusal, Unprocessable
from amana.intake.models import Grant, State, Testimony, UploadedObject
from amana.protocol.action import Action, body_sha256
from amana.protocol.directory import Directory
from amana.protocol.encoding import canonical, check_id, parse_day, sha256_hex
from amana.protocol.errors import BadSignature, ProtocolError
from amana.protocol.manifest import MAX_OBJECTS
from amana.review.workflow import after

OPENING_HOURS = 12
ACTION_SKEW = timedelta(minutes=5)
PAGE_LIMIT = 100


class OpeningNeeded(NotAllowed):
    slug = "opening-needed"
    title = "Sign an opening of this case first; one works for twelve hours."


class ActionReplayed(Conflict):
    slug = "action-replayed"
    title = "This action was used before."


class ActionRefused(Unprocessable):
    slug = "action-refused"
    title = "The action was not signed by you, for this, here and now."


class CursorInvalid(Unprocessable):
    slug = "cursor-invalid"
    title = "The cursor was not given by this server."


class RangeRefused(Refusal):
    slug = "range-not-satisfiable"
    status = 416
    title = "The range begins behind the end of the object."


@dataclass(frozen=True)
class Listed:
    """A case as the queue shows it: the clear policy, sizes and days."""

    case: str
    desk: str
    state: str
    language: str
    flags: tuple[str, ...]
    received_on: date
    objects: int
    size: int


def queue(
    session: Session,
    actor: Actor,
    *,
    desk: str | None,
    state: str | None,
    cursor: str | None,
    limit: int,
) -> tuple[list[Listed], str | None]:
    """Return a page of the cases that were sealed to this reader, newest first, and where the next begins."""
    require(actor, Permission.LIST_CASES)
    if desk is not None and desk not in actor.desks:
        raise NotAllowed("You do not stand in for this desk.")
    query = (
        sa.select(
            Grant.case,
            Grant.desk,
            Testimony.state,
            Testimony.language,
            Testimony.flags,
            Grant.received_on,
            Testimony.object_count,
            Testimony.size,
        )
        .join(Testimony, Testimony.case == Grant.case)
        .where(Grant.reader == actor.id, Grant.received_on.is_not(None))
        .where(Grant.desk.in_([desk] if desk is not None else sorted(actor.desks)))
        .order_by(Grant.received_on.desc(), Grant.case.desc())
        .limit(min(limit, PAGE_LIMIT) + 1)
    )
    if state is not None:
        query = query.where(Testimony.state == state)
    if cursor is not None:
        day, case = _parse_cursor(cursor)
        query = query.where(
            sa.or_(Grant.received_on < day, sa.and_(Grant.received_on == day, Grant.case < case))
        )
    rows = [
        Listed(
            case=row.case,
            desk=row.desk,
            state=row.state,
            language=row.language,
            flags=tuple(filter(None, row.flags.split(","))),
            received_on=row.received_on,
            objects=row.object_count,
            size=row.size,
        )
        for row in session.execute(query)
    ]
    page = rows[: min(limit, PAGE_LIMIT)]
    return page, _cursor(page[-1]) if len(rows) > len(page) else None


def _cursor(last: Listed) -> str:
    text = f"{last.received_on.isoformat()}.{last.case}"
    return base64.urlsafe_b64encode(text.encode("ascii")).decode("ascii").rstrip("=")


def _parse_cursor(cursor: str) -> tuple[date, str]:
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        day, _, case = (
            base64.urlsafe_b64decode(padded.encode("ascii")).decode("ascii").partition(".")
        )
        return parse_day(day), check_id(case)
    except (ProtocolError, binascii.Error, UnicodeError, ValueError):
        raise CursorInvalid from None


def case_of(session: Session, actor: Actor, case: str, *, lock: bool = False) -> Testimony:
    """Return a received case of a desk that the actor stands in for; every other one does not exist for them."""
    require(actor, Permission.LIST_CASES)
    testimony = session.get(Testimony, case, with_for_update=lock or None) if _is_id(case) else None
    if testimony is None or testimony.received_on is None or testimony.desk not in actor.desks:
        raise NotFound
    return testimony


def _is_id(case: str) -> bool:
    """Tell whether this can be a case at all; PostgreSQL takes no NUL in a text, not even to look for it."""
    try:
        check_id(case)
    except ProtocolError:
        return False
    return True


def objects_of(session: Session, case: str) -> Sequence[UploadedObject]:
    """Return the uploaded objects of a case in their order."""
    query = sa.select(UploadedObject).where(UploadedObject.case == case).order_by(UploadedObject.n)
    return session.scalars(query).all()


def open_case(
    session: Session,
    actor: Actor,
    case: str,
    action: Action,
    signed_under: Directory,
    now: datetime,
) -> datetime:
    """Accept a signed opening and return until when it works; the reading counts, so it is recorded."""
    require(actor, Permission.OPEN_CASE)
    testimony = case_of(session, actor, case, lock=True)
    _check_action(action, actor, case, signed_under, now)
    state = after(testimony.state, action.action)
    if state is None:
        raise Conflict("A case in this state is not opened.", slug="state-forbids")
    document = canonical(action.document)
    try:
        session.execute(
            sa.insert(SignedAction).values(
                nonce=action.nonce,
                action=action.action,
                case=case,
                actor=actor.id,
                document=document,
                accepted_at=now,
            )
        )
    except IntegrityError:
        raise ActionReplayed from None
    testimony.state = State(state)
    custody.record(session, {"v": 1, "kind": "action", "case": case, "action": action.document})
    return now + timedelta(hours=OPENING_HOURS)


def _check_action(
    action: Action, actor: Actor, case: str, signed_under: Directory, now: datetime
) -> None:
    """Check that this person signed this act, for this case, under a directory that has the key they have now.

    A key that was replaced would still verify under the version that listed it, so that is not enough.
    """
    fits = (
        action.action == "open"
        and action.actor == actor.id
        and action.case == case
        and action.deployment == signed_under.deployment
        and action.directory == signed_under.version
        and action.body_sha256 == body_sha256({})
        and abs(now - action.made_at) <= ACTION_SKEW
    )
    signer = signed_under.person(actor.id)
    if not fits or signer is None or signer.signing_key != actor.signing_key:
        raise ActionRefused
    try:
        action.verify(signer.signing_key)
    except BadSignature:
        raise ActionRefused from None


def opened(session: Session, actor: Actor, case: str, now: datetime) -> Testimony:
    """Return a case that the actor opened within the last twelve hours."""
    require(actor, Permission.OPEN_CASE)
    testimony = case_of(session, actor, case)
    query = (
        sa.select(SignedAction.nonce)
        .where(SignedAction.case == case, SignedAction.actor == actor.id)
        .where(SignedAction.action == "open")
        .where(SignedAction.accepted_at > now.astimezone(UTC) - timedelta(hours=OPENING_HOURS))
        .limit(1)
    )
    if session.scalar(query) is None:
        raise OpeningNeeded
    return testimony


def grant_of(session: Session, actor: Actor, case: str) -> Grant | None:
    """Return the actor's own grant."""
    return session.get(Grant, (case, actor.id))


@dataclass(frozen=True)
class Stored:
    """Where the bytes of an object are: in the row, or in the object store."""

    size: int
    sha256: str
    inline: bytes | None
    key: str


def stored_object(session: Session, testimony: Testimony, n: int) -> Stored:
    """Return where object `n` of a case is."""
    if n == 0 and testimony.account:
        sealed = testimony.account
        return Stored(len(sealed), sha256_hex(sealed), sealed, "")
    upload = session.get(UploadedObject, (testimony.case, n)) if n < MAX_OBJECTS else None
    if upload is None:
        raise NotFound
    return Stored(upload.size, upload.sealed_sha256, None, f"{testimony.case}/{n}")
