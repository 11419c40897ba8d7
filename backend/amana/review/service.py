# SPDX-License-Identifier: AGPL-3.0-or-later
"""A reader sees the queue, signs an opening, and is given the sealed case. Never commits, never imports Flask."""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from amana.access.actions import accept
from amana.access.models import SignedAction
from amana.access.roles import Actor, Permission
from amana.access.service import intake_key_of, require
from amana.errors import Conflict, NotAllowed, NotFound, Refusal, Unprocessable
from amana.intake.models import Grant, State, Testimony, UploadedObject
from amana.protocol.action import Action
from amana.protocol.case import GRANT_SIZE
from amana.protocol.directory import Directory
from amana.protocol.encoding import b64, check_id, parse_day, sha256_hex
from amana.protocol.errors import NotSealed, ProtocolError
from amana.protocol.manifest import MAX_OBJECTS
from amana.protocol.sealing import Kind, check_sealed
from amana.review.workflow import after

OPENING_HOURS = 12
PAGE_LIMIT = 100


class OpeningNeeded(NotAllowed):
    slug = "opening-needed"
    title = "Sign an opening of this case first; one works for twelve hours."


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
    intake_key: str


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
            Grant.intake_key,
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
        day, case = parse_cursor(cursor)
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
            intake_key=row.intake_key,
        )
        for row in session.execute(query)
    ]
    page = rows[: min(limit, PAGE_LIMIT)]
    return page, cursor_at(page[-1].received_on, page[-1].case) if len(rows) > len(page) else None


def cursor_at(day: date, case: str) -> str:
    """Return the cursor after a row of a list that is ordered by day and case."""
    text = f"{day.isoformat()}.{case}"
    return base64.urlsafe_b64encode(text.encode("ascii")).decode("ascii").rstrip("=")


def parse_cursor(cursor: str) -> tuple[date, str]:
    """Return day and case of the last row of the page before."""
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        day, _, case = (
            base64.urlsafe_b64decode(padded.encode("ascii")).decode("ascii").partition(".")
        )
        return parse_day(day), check_id(case)
    except (ProtocolError, binascii.Error, UnicodeError, ValueError):
        raise CursorInvalid from None


def case_of(session: Session, actor: Actor, case: str, *, lock: bool = False) -> Testimony:
    """Return a received case of the actor's desks that was sealed to them; every other one does not exist for them."""
    require(actor, Permission.LIST_CASES)
    testimony = session.get(Testimony, case, with_for_update=lock or None) if _is_id(case) else None
    if testimony is None or testimony.received_on is None or testimony.desk not in actor.desks:
        raise NotFound
    if grant_of(session, actor, case) is None:
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
    document: object,
    directory: Directory,
    now: datetime,
) -> tuple[Action, datetime]:
    """Accept a signed opening and return it, and until when it works; the reading counts, so it is recorded."""
    require(actor, Permission.OPEN_CASE)
    testimony = case_of(session, actor, case, lock=True)
    state = after(testimony.state, "open")
    if state is None:
        raise Conflict("A case in this state is not opened.", slug="state-forbids")
    action = accept(
        session, document, actor=actor, directory=directory, kind="open", case=case, now=now
    )
    testimony.state = State(state)
    return action, now + timedelta(hours=OPENING_HOURS)


def opened(session: Session, actor: Actor, case: str, now: datetime) -> Testimony:
    """Return a case that the actor opened within the last twelve hours."""
    require(actor, Permission.OPEN_CASE)
    testimony = case_of(session, actor, case)
    _check_signed(session, actor, case, now, ("open",))
    return testimony


def opened_grant(session: Session, actor: Actor, case: str, now: datetime) -> Grant:
    """Return the actor's grant of a case that they opened, or said to seal anew, within the last twelve hours."""
    require(actor, Permission.OPEN_CASE)
    case_of(session, actor, case)
    _check_signed(session, actor, case, now, ("open", "re-wrap"))
    grant = grant_of(session, actor, case)
    if grant is None:
        raise NotFound
    return grant


def _check_signed(
    session: Session, actor: Actor, case: str, now: datetime, kinds: Sequence[str]
) -> None:
    query = (
        sa.select(SignedAction.nonce)
        .where(SignedAction.case == case, SignedAction.actor == actor.id)
        .where(SignedAction.action.in_(kinds))
        .where(SignedAction.accepted_at > now.astimezone(UTC) - timedelta(hours=OPENING_HOURS))
        .limit(1)
    )
    if session.scalar(query) is None:
        raise OpeningNeeded


def grant_of(session: Session, actor: Actor, case: str) -> Grant | None:
    """Return the actor's own grant."""
    return session.get(Grant, (case, actor.id))


def announce_rewrap(
    session: Session, actor: Actor, case: str, document: object, directory: Directory, now: datetime
) -> None:
    """Let a reader fetch their own grant, and nothing else of the case, to seal it to their next key."""
    require(actor, Permission.REWRAP_GRANT)
    case_of(session, actor, case)
    accept(session, document, actor=actor, directory=directory, kind="re-wrap", case=case, now=now)


@dataclass(frozen=True)
class HeldKey:
    """How many cases are sealed to one of a reader's keys, by whether the reader can get at them now."""

    intake_key: str
    open: int
    arriving: int
    elsewhere: int


def held_keys(session: Session, actor: Actor) -> list[HeldKey]:
    """Return the keys to which anything is sealed for the actor, also what is still arriving or at other desks."""
    require(actor, Permission.REWRAP_GRANT)
    elsewhere = Grant.desk.not_in(sorted(actor.desks))
    arriving = Grant.received_on.is_(None)
    query = (
        sa.select(
            Grant.intake_key,
            sa.func.count().filter(~elsewhere, ~arriving),
            sa.func.count().filter(~elsewhere, arriving),
            sa.func.count().filter(elsewhere),
        )
        .where(Grant.reader == actor.id)
        .group_by(Grant.intake_key)
        .order_by(Grant.intake_key)
    )
    return [HeldKey(*row) for row in session.execute(query)]


def rewrap(
    session: Session,
    actor: Actor,
    case: str,
    document: object,
    directory: Directory,
    now: datetime,
    *,
    intake_key: str,
    grant: bytes,
) -> None:
    """Replace the actor's own grant by one that they sealed to the key that the directory lists for them now."""
    require(actor, Permission.REWRAP_GRANT)
    mine = opened_grant(session, actor, case, now)
    session.refresh(mine, with_for_update=True)
    if intake_key != intake_key_of(directory, actor.id):
        raise Unprocessable(
            "The grant is sealed to a key that is not in the directory.", slug="grant-key-unknown"
        )
    if len(grant) != GRANT_SIZE:
        raise NotSealed("grants-size", f"A grant has {GRANT_SIZE} bytes.")
    check_sealed(Kind.GRANT, grant, len(grant))
    body = {"intake_key": intake_key, "grant": b64(grant)}
    accept(
        session,
        document,
        actor=actor,
        directory=directory,
        kind="grant",
        case=case,
        body=body,
        now=now,
    )
    mine.sealed, mine.intake_key = grant, intake_key


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
