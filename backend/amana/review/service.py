# SPDX-License-Identifier: AGPL-3.0-or-later
"""A reader sees the queue, signs an opening, and is given the sealed case. Never commits, never imports Flask."""

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from amana.access.actions import Act
from amana.access.models import SignedAction
from amana.access.roles import Actor, Permission
from amana.access.service import require
from amana.errors import Conflict, NotAllowed, NotFound, Refusal, Unprocessable
from amana.intake.models import Grant, State, Testimony, UploadedObject
from amana.intake.service import move, policy_chain
from amana.intake.workflow import OPEN
from amana.protocol.action import Action
from amana.protocol.consent import READERS, covers
from amana.protocol.directory import Directory
from amana.protocol.encoding import b64, check_id, parse_day, random_id, sha256_hex
from amana.protocol.errors import ProtocolError
from amana.protocol.manifest import MAX_OBJECTS
from amana.protocol.policy import IDENTITY_LEVELS
from amana.protocol.sealing import Kind, check_sealed
from amana.review.models import Note
from amana.routing.models import Assignment
from amana.routing.service import FIRST, NotAssigned, assigned_to, case_of, check_grant, grant_of

OPENING_HOURS = 12
PAGE_LIMIT = 100
ANY = "any"
"""Asks for cases in all states."""
TOLD_DAYS = 35
"""How long readers are told that a case of theirs was withdrawn or has expired."""
COUNT_LIMIT = 1000
MAX_NOTES = 2000
NOTES_PAGE = 50
_INSTANT = "%Y-%m-%dT%H:%M:%S.%f"


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


class InVault(NotAllowed):
    slug = "in-vault"
    title = "This lies in the vault; custodians release it on request."


class ReasonMissing(Unprocessable):
    slug = "reason-missing"
    title = "This needs its reason, sealed like a note."


@dataclass(frozen=True)
class Listed:
    """A case as the queue shows it: the clear policy, sizes, days, and whose it is."""

    case: str
    desk: str
    state: str
    language: str
    flags: tuple[str, ...]
    received_on: date
    objects: int
    size: int
    intake_key: str
    assigned: str
    """`mine`, `offered` to me, `another`'s, or `nobody`'s."""


@dataclass(frozen=True)
class Place:
    """Where a page of the queue ended."""

    rank: int
    received_on: date
    case: str


def queue(
    session: Session,
    actor: Actor,
    *,
    desk: str | None,
    state: str | None,
    cursor: str | None,
    limit: int,
) -> tuple[list[Listed], str | None]:
    """Return a page of the cases that were sealed to this reader, and where the next begins.

    Urgent ones come first, then what paid most, then the newest; without a state, those that are not decided.
    """
    require(actor, Permission.LIST_CASES)
    desks = _desks(actor, desk)
    states = OPEN if state is None else tuple(State) if state == ANY else (State(state),)
    after = None if cursor is None else parse_place(cursor)
    if not desks:
        return [], None
    wanted = min(limit, PAGE_LIMIT)
    rows = session.execute(page_query(actor.id, desks, states, after, wanted + 1)).all()
    page = [_listed(row, actor.id) for row in rows[:wanted]]
    if len(rows) <= wanted:
        return page, None
    last = rows[wanted - 1]
    return page, place_cursor(Place(last.rank, last.received_on, last.case))


def _desks(actor: Actor, desk: str | None) -> list[str]:
    if desk is not None and desk not in actor.desks:
        raise NotAllowed("You do not stand in for this desk.")
    return sorted(actor.desks) if desk is None else [desk]


def page_query(
    reader: str, desks: Sequence[str], states: Sequence[State], after: Place | None, count: int
) -> sa.Select[Any]:
    """Return the query of a page: one stretch of the index for each desk and state, merged.

    So a page costs the same however many cases there are (docs/performance.md shows the plan).
    """
    key = (Grant.rank, Grant.received_on, Grant.case)
    down = [one.desc() for one in key]
    stretches = []
    for desk in desks:
        for state in states:
            stretch = (
                sa.select(Grant.case, Grant.rank, Grant.received_on, Grant.intake_key, Grant.desk)
                .where(Grant.reader == reader, Grant.desk == desk, Grant.state == state)
                .where(Grant.received_on.is_not(None))
                .order_by(*down)
                .limit(count)
            )
            if after is not None:
                last = sa.tuple_(after.rank, after.received_on, after.case)
                stretch = stretch.where(sa.tuple_(*key) < last)
            stretches.append(sa.select(stretch.subquery()))
    found = sa.union_all(*stretches).subquery()
    whose = sa.select(Assignment.reader, Assignment.claimed_on, Assignment.case).where(
        Assignment.ended_on.is_(None)
    )
    mine = whose.where(Assignment.reader == reader).subquery()
    first = whose.where(Assignment.part == FIRST).subquery()
    return (
        sa.select(
            found,
            Testimony.state,
            Testimony.language,
            Testimony.flags,
            Testimony.object_count,
            Testimony.size,
            mine.c.reader.label("mine"),
            mine.c.claimed_on.label("mine_on"),
            first.c.reader.label("first"),
            first.c.claimed_on.label("first_on"),
        )
        .join(Testimony, Testimony.case == found.c.case)
        .outerjoin(mine, mine.c.case == found.c.case)
        .outerjoin(first, first.c.case == found.c.case)
        .order_by(found.c.rank.desc(), found.c.received_on.desc(), found.c.case.desc())
        .limit(count)
    )


def _listed(row: Any, reader: str) -> Listed:
    if row.mine == reader:
        assigned = "offered" if row.mine_on is None else "mine"
    else:
        assigned = "nobody" if row.first_on is None else "another"
    return Listed(
        case=row.case,
        desk=row.desk,
        state=row.state,
        language=row.language,
        flags=tuple(filter(None, row.flags.split(","))),
        received_on=row.received_on,
        objects=row.object_count,
        size=row.size,
        intake_key=row.intake_key,
        assigned=assigned,
    )


def told(
    session: Session, actor: Actor, directory: Directory, today: date
) -> dict[str, list[dict[str, Any]]]:
    """Return what a reader must hear: cases that are theirs no more, and those that will not be for long."""
    return {
        "withdrawn": _ended(session, actor, State.WITHDRAWN, today),
        "expired": _ended(session, actor, State.EXPIRED, today),
        "expiring": _expiring(session, actor, directory),
    }


def _ended(session: Session, actor: Actor, because: State, today: date) -> list[dict[str, Any]]:
    """Return the cases that the actor worked on when they were withdrawn, or expired, and the day; of the last weeks."""
    query = (
        sa.select(Assignment.case, Assignment.ended_on)
        .join(Testimony, Testimony.case == Assignment.case)
        .where(Assignment.reader == actor.id, Assignment.ended_because == because)
        .where(Assignment.ended_on >= today - timedelta(days=TOLD_DAYS))
        .where(Testimony.state == because)
        .order_by(Assignment.ended_on, Assignment.case)
        .limit(PAGE_LIMIT)
    )
    rows = session.execute(query)
    return [{"case": row.case, f"{because}_on": row.ended_on} for row in rows]


def _expiring(session: Session, actor: Actor, directory: Directory) -> list[dict[str, Any]]:
    """Return the cases that the actor has, or whose desk they lead, and that expire soon, the soonest first."""
    led = [desk.id for desk in directory.desks if actor.id in desk.leads]
    has = sa.exists().where(
        Assignment.case == Testimony.case,
        Assignment.reader == actor.id,
        Assignment.ended_on.is_(None),
    )
    query = (
        sa.select(Testimony.case, Testimony.ends_on)
        .where(Testimony.ends_on.is_not(None), sa.or_(Testimony.desk.in_(led), has))
        .order_by(Testimony.ends_on, Testimony.case)
        .limit(PAGE_LIMIT)
    )
    return [{"case": row.case, "ends_on": row.ends_on} for row in session.execute(query)]


def counts(session: Session, actor: Actor, desk: str | None) -> dict[str, int]:
    """Count a reader's cases in each state, up to a thousand each: counting them all would cost more than anybody needs."""
    require(actor, Permission.LIST_CASES)
    desks = _desks(actor, desk)
    found = {}
    for state in State:
        some = (
            sa.select(Grant.case)
            .where(Grant.reader == actor.id, Grant.desk.in_(desks), Grant.state == state)
            .where(Grant.received_on.is_not(None))
            .limit(COUNT_LIMIT)
        )
        number = session.scalar(sa.select(sa.func.count()).select_from(some.subquery())) or 0
        if number:
            found[state.value] = number
    return found


def place_cursor(place: Place) -> str:
    """Return the cursor after a row of the queue."""
    return _cursor(f"{place.rank}.{place.received_on.isoformat()}.{place.case}")


def parse_place(cursor: str) -> Place:
    """Return where the page before ended."""
    try:
        rank, day, case = _cursor_text(cursor).split(".")
        if not re.fullmatch("[0-9]{1,5}", rank):
            raise CursorInvalid
        return Place(int(rank), parse_day(day), check_id(case))
    except (ProtocolError, ValueError):
        raise CursorInvalid from None


def cursor_at(day: date, case: str) -> str:
    """Return the cursor after a row of a list that is ordered by day and case."""
    return _cursor(f"{day.isoformat()}.{case}")


def parse_cursor(cursor: str) -> tuple[date, str]:
    """Return day and case of the last row of the page before."""
    try:
        day, _, case = _cursor_text(cursor).partition(".")
        return parse_day(day), check_id(case)
    except (ProtocolError, ValueError):
        raise CursorInvalid from None


def cursor_at_instant(moment: datetime, one: str) -> str:
    """Return the cursor after a row of a list that is ordered by instant and id."""
    return _cursor(f"{moment.astimezone(UTC):{_INSTANT}}.{one}")


def parse_instant_cursor(cursor: str) -> tuple[datetime, str]:
    """Return instant and id of the last row of the page before."""
    try:
        moment, _, one = _cursor_text(cursor).rpartition(".")
        return datetime.strptime(moment, _INSTANT).replace(tzinfo=UTC), check_id(one)
    except (ProtocolError, ValueError):
        raise CursorInvalid from None


def _cursor(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode("ascii")).decode("ascii").rstrip("=")


def _cursor_text(cursor: str) -> str:
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        return base64.urlsafe_b64decode(padded.encode("ascii")).decode("ascii")
    except (binascii.Error, UnicodeError):
        raise CursorInvalid from None


def objects_of(session: Session, case: str) -> Sequence[UploadedObject]:
    """Return the uploaded objects of a case in their order."""
    query = sa.select(UploadedObject).where(UploadedObject.case == case).order_by(UploadedObject.n)
    return session.scalars(query).all()


def open_case(session: Session, actor: Actor, case: str, act: Act) -> tuple[Action, datetime]:
    """Accept a signed opening by whoever has the case, and return it, and until when it works; it is recorded."""
    require(actor, Permission.OPEN_CASE)
    testimony = case_of(session, actor, case, lock=True)
    assigned_to(session, actor, testimony)
    _check_consent(session, testimony, act.today)
    move(session, testimony, "open")
    action = act.accept(session, actor, "open", case)
    return action, act.now + timedelta(hours=OPENING_HOURS)


def opened(session: Session, actor: Actor, case: str, now: datetime) -> Testimony:
    """Return a case that the actor has, and opened within the last twelve hours."""
    require(actor, Permission.OPEN_CASE)
    testimony = served(session, actor, case, now.date())
    signed_lately(session, actor, case, now, ("open",))
    return testimony


def served(session: Session, actor: Actor, case: str, today: date) -> Testimony:
    """Return a case that the actor has and its witness lets the desk read; asked again while a long answer is sent."""
    testimony = case_of(session, actor, case)
    assigned_to(session, actor, testimony)
    _check_consent(session, testimony, today)
    return testimony


def _check_consent(session: Session, testimony: Testimony, today: date) -> None:
    chain = policy_chain(session, testimony)
    covered = covers(chain, READERS, "review", IDENTITY_LEVELS[0], today)
    if not covered.allowed:
        raise NotAllowed(covered.title, slug=covered.reason)


def opened_grant(session: Session, actor: Actor, case: str, now: datetime) -> Grant:
    """Return the actor's grant of a case that they opened, or said to seal anew, within the last twelve hours."""
    require(actor, Permission.OPEN_CASE)
    testimony = case_of(session, actor, case)
    withdrawn = testimony.state == State.WITHDRAWN
    # Sealing one's own grant anew opens nothing, and a withdrawal may still be taken back.
    signed_lately(session, actor, case, now, ("re-wrap",) if withdrawn else ("open", "re-wrap"))
    grant = grant_of(session, actor.id, case)
    if grant is None:
        raise NotFound
    return grant


def signed_lately(
    session: Session, actor: Actor, case: str, now: datetime, kinds: Sequence[str]
) -> None:
    """Refuse unless the actor signed one of these about a case within the last twelve hours."""
    query = (
        sa.select(SignedAction.nonce)
        .where(SignedAction.case == case, SignedAction.actor == actor.id)
        .where(SignedAction.action.in_(kinds))
        .where(SignedAction.accepted_at > now.astimezone(UTC) - timedelta(hours=OPENING_HOURS))
        .limit(1)
    )
    if session.scalar(query) is None:
        raise OpeningNeeded


def announce_rewrap(session: Session, actor: Actor, case: str, act: Act) -> None:
    """Let a reader fetch their own grant, and nothing else of the case, to seal it to their next key or to a colleague."""
    require(actor, Permission.REWRAP_GRANT)
    case_of(session, actor, case)
    act.accept(session, actor, "re-wrap", case)


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
    session: Session, actor: Actor, case: str, act: Act, *, intake_key: str, grant: bytes
) -> None:
    """Replace the actor's own grant by one that they sealed to the key that the directory lists for them now."""
    require(actor, Permission.REWRAP_GRANT)
    mine = opened_grant(session, actor, case, act.now)
    session.refresh(mine, with_for_update=True)
    check_grant(act.directory, actor.id, intake_key, grant)
    act.accept(session, actor, "grant", case, {"intake_key": intake_key, "grant": b64(grant)})
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
    if upload.vault is not None:
        raise InVault
    return Stored(upload.size, upload.sealed_sha256, None, f"{testimony.case}/{n}")


# What reviewers write


def add_note(
    session: Session, actor: Actor, case: str, act: Act, *, audience: str, sealed: bytes
) -> Note:
    """Keep a sealed note of whoever has the case; the server sees author, day and size."""
    require(actor, Permission.WORK_ON_CASE)
    testimony = case_of(session, actor, case, lock=True)
    assigned_to(session, actor, testimony)
    act.accept(session, actor, "note", case, {"audience": audience, "sealed": b64(sealed)})
    return keep_note(session, actor, case, act, audience, sealed)


def keep_note(
    session: Session, actor: Actor, case: str, act: Act, audience: str, sealed: bytes
) -> Note:
    """Keep what somebody sealed about a case that is locked."""
    check_sealed(Kind.NOTE, sealed, len(sealed))
    # Nobody else counts now.
    last = session.scalar(sa.select(sa.func.max(Note.n)).where(Note.case == case)) or 0
    if last >= MAX_NOTES:
        raise Conflict("This case has too many notes.", slug="notes-limit")
    note = Note(
        id=random_id(),
        case=case,
        n=last + 1,
        author=actor.id,
        audience=audience,
        made_on=act.today,
        sealed=sealed,
    )
    session.add(note)
    return note


def notes(session: Session, actor: Actor, case: str, now: datetime, after: int) -> list[Note]:
    """Return the next notes of an opened case that are for all its readers, or the actor's own."""
    opened(session, actor, case, now)
    query = (
        sa.select(Note)
        .where(Note.case == case, Note.n > after)
        .where(sa.or_(Note.audience == "desk", Note.author == actor.id))
        .order_by(Note.n)
        .limit(NOTES_PAGE)
    )
    return list(session.scalars(query))


def decide(
    session: Session, actor: Actor, case: str, act: Act, *, decision: str, reason: bytes | None
) -> str:
    """Decide a case, with a sealed reason, by the first reader; returns the state that follows."""
    require(actor, Permission.WORK_ON_CASE)
    testimony = _of_first_reader(session, actor, case)
    if not reason:
        raise ReasonMissing
    following = move(session, testimony, decision)
    testimony.kept_since = act.today
    body = {"decision": decision, "reason": b64(reason)}
    act.accept(session, actor, "decide", case, body)
    keep_note(session, actor, case, act, "desk", reason)
    return following


def _of_first_reader(session: Session, actor: Actor, case: str) -> Testimony:
    """Return a case, locked, that is the actor's to move on."""
    testimony = case_of(session, actor, case, lock=True)
    if assigned_to(session, actor, testimony).part != FIRST:
        raise NotAssigned("A second reader advises; the first one decides.")
    return testimony


def resume(session: Session, actor: Actor, case: str, act: Act) -> str:
    """Go on with a case without waiting for its witness any longer; the server cannot see that an answer came."""
    require(actor, Permission.WORK_ON_CASE)
    testimony = _of_first_reader(session, actor, case)
    following = move(session, testimony, "resume")
    act.accept(session, actor, "resume", case)
    return following


def reopen(session: Session, actor: Actor, case: str, act: Act, reason: bytes) -> str:
    """Take a decision back, with a sealed reason, by the first reader; returns the state that follows."""
    require(actor, Permission.WORK_ON_CASE)
    testimony = _of_first_reader(session, actor, case)
    if not reason:
        raise ReasonMissing
    following = move(session, testimony, "reopen")
    act.accept(session, actor, "reopen", case, {"reason": b64(reason)})
    keep_note(session, actor, case, act, "desk", reason)
    return following
