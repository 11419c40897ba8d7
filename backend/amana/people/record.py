# SPDX-License-Identifier: AGPL-3.0-or-later
"""Who could open what on a day, and who did. It tells of cases by their ids alone, and opens none."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from amana.access.actions import Moment
from amana.access.models import Person, SignedAction, Suspension
from amana.access.roles import Actor, Permission
from amana.access.service import facts, require
from amana.access.standing import Standing, standing
from amana.directory import service as directories
from amana.directory.models import DirectoryVersion
from amana.errors import NotFound
from amana.intake.models import Grant, PastGrant, State, Testimony
from amana.protocol.directory import Directory
from amana.protocol.encoding import canonical
from amana.review.service import (
    CursorInvalid,
    cursor_at,
    cursor_at_instant,
    parse_cursor,
    parse_instant_cursor,
)
from amana.routing.models import Assignment

PAGE = 100
DECISIONS = ("suspend", "reinstate", "confirm")
ABOUT_PEOPLE = (*DECISIONS, "vet")
"""Actions whose body names a person."""
_ENDED = ""


@dataclass(frozen=True)
class OfPerson:
    """What a person's keys could open on a day, and how many cases they had opened by then."""

    id: str
    listed: bool
    suspended: bool
    could_open: int
    opened: int


@dataclass(frozen=True)
class Decided:
    """A decision about a person, which an administrator signed: `suspend`, `reinstate` or `confirm`, which has no reason."""

    action: str
    person: str | None
    by: str
    made_at: datetime
    reason: str | None


@dataclass(frozen=True)
class OfDay:
    """Everybody, on the first page; and a page of what was decided until the end of a day, the newest first."""

    people: Sequence[OfPerson]
    decisions: Sequence[Decided]
    next: str | None


def of_day(
    session: Session, actor: Actor, day: date, cache: dict[str, Any], cursor: str | None
) -> OfDay:
    """Return everybody who held a grant or opened a case until the end of a day, and what was decided about people."""
    require(actor, Permission.SEE_RECORD)
    [place] = _places(cursor, 1)
    decisions, following = _decisions(session, place, day)
    people = _people(session, day, cache) if cursor is None else []
    return OfDay(people, decisions, _next(following))


def _people(session: Session, day: date, cache: dict[str, Any]) -> list[OfPerson]:
    grants = _grants(until=day).subquery()
    held = _counts(
        session.execute(sa.select(grants.c.reader, sa.func.count()).group_by(grants.c.reader))
    )
    opened = _counts(
        session.execute(
            sa.select(SignedAction.actor, sa.func.count(SignedAction.case.distinct()))
            .where(SignedAction.action == "open", SignedAction.accepted_at <= _end(day))
            .group_by(SignedAction.actor)
        )
    )
    directory = _directory_of(session, day, cache)
    suspended = set(
        session.scalars(
            sa.select(Suspension.person).where(
                Suspension.suspended_at <= _end(day),
                sa.or_(Suspension.lifted_at.is_(None), Suspension.lifted_at > _end(day)),
            )
        )
    )
    return [
        OfPerson(
            id=person,
            listed=directory is not None and directory.person(person) is not None,
            suspended=person in suspended,
            could_open=held.get(person, 0),
            opened=opened.get(person, 0),
        )
        for person in sorted({*held, *opened})
    ]


def _counts(rows: Iterable[Any]) -> dict[str, int]:
    return {row[0]: row[1] for row in rows}


def _end(day: date) -> datetime:
    """Return the last instant of a day; the first of the next would be beyond the calendar's last day."""
    return datetime.combine(day, time.max, UTC)


def _directory_of(session: Session, day: date, cache: dict[str, Any]) -> Directory | None:
    """Return the newest version that was there at the end of a day."""
    newest = sa.select(sa.func.max(DirectoryVersion.version))
    version = session.scalar(newest.where(DirectoryVersion.published_on <= day))
    return None if version is None else directories.at(session, version, cache)


@dataclass(frozen=True)
class Held:
    """A case that a person's key could open: since it was received, or a colleague handed it on, until it was destroyed."""

    case: str
    desk: str
    received_on: date
    handed_on: date | None
    destroyed_on: date | None


@dataclass(frozen=True)
class Opened:
    """A case that a person opened, and when last."""

    case: str
    opened_at: datetime


@dataclass(frozen=True)
class Acted:
    """An action that a person signed; `person` is whom it decides about, if it does."""

    action: str
    case: str | None
    person: str | None
    made_at: datetime


@dataclass(frozen=True)
class Record:
    """A page of each: what one person could open, opened, signed, and what was decided about them, until a day's end.

    What they could open comes the oldest first, all else the newest first. A list that ended before others is empty.
    """

    could_open: Sequence[Held]
    opened: Sequence[Opened]
    actions: Sequence[Acted]
    decisions: Sequence[Decided]
    next: str | None


def of_person(session: Session, actor: Actor, person: str, day: date, cursor: str | None) -> Record:
    """Return a page of what a person could open and did, and of what was decided about them."""
    require(actor, Permission.SEE_RECORD)
    places = _places(cursor, 4)
    held, after_held = _held(session, places[0], person, until=day)
    opened, after_opened = _opened(session, places[1], person, day)
    actions, after_actions = _actions(session, places[2], person, day)
    decisions, after_decisions = _decisions(session, places[3], day, person)
    is_unknown = not (held or actions or decisions) and session.get(Person, person) is None
    if cursor is None and is_unknown:
        raise NotFound
    following = _next(after_held, after_opened, after_actions, after_decisions)
    return Record(held, opened, actions, decisions, following)


def _places(cursor: str | None, lists: int) -> list[str | None]:
    """Return where each of several lists goes on: None at its beginning, _ENDED nowhere."""
    if cursor is None:
        return [None] * lists
    places: list[str | None] = [*cursor.split(".")]
    if len(places) != lists:
        raise CursorInvalid
    return places


def _next(*places: str) -> str | None:
    """Return the cursor of several lists, None if all have ended."""
    return ".".join(places) if any(places) else None


def _opened(
    session: Session, place: str | None, person: str, day: date
) -> tuple[list[Opened], str]:
    latest = sa.func.max(SignedAction.accepted_at).label("made_at")
    openings = (
        sa.select(SignedAction.case.label("id"), latest)
        .where(SignedAction.actor == person, SignedAction.accepted_at <= _end(day))
        .where(SignedAction.action == "open", SignedAction.case.is_not(None))
        .group_by(SignedAction.case)
    )
    rows, following = _newest(session, openings.subquery(), place)
    return [Opened(row.id, _aware(row.made_at)) for row in rows], following


def _actions(
    session: Session, place: str | None, person: str, day: date
) -> tuple[list[Acted], str]:
    signed = _signed(day).where(SignedAction.actor == person)
    rows, following = _newest(session, signed.subquery(), place)
    acted = [
        Acted(row.action, row.case, _body(row).get("person"), _aware(row.made_at)) for row in rows
    ]
    return acted, following


def _decisions(
    session: Session, place: str | None, day: date, person: str | None = None
) -> tuple[list[Decided], str]:
    signed = _signed(day).where(SignedAction.case.is_(None), SignedAction.action.in_(DECISIONS))
    if person is not None:
        # Bodies are canonical JSON, and of these the person is the first member.
        begins = canonical({"person": person})[:-1]
        signed = signed.where(sa.func.substr(SignedAction.body, 1, len(begins)) == begins)
    rows, following = _newest(session, signed.subquery(), place)
    decided = [
        Decided(
            row.action,
            _body(row).get("person"),
            row.actor,
            _aware(row.made_at),
            _body(row).get("reason"),
        )
        for row in rows
    ]
    return decided, following


def _signed(day: date) -> sa.Select[Any]:
    """Return the query of what was signed until the end of a day; of bodies, those that name a person."""
    body = sa.case((SignedAction.action.in_(ABOUT_PEOPLE), SignedAction.body))
    return sa.select(
        SignedAction.nonce.label("id"),
        SignedAction.action,
        SignedAction.case,
        SignedAction.actor,
        SignedAction.accepted_at.label("made_at"),
        body.label("body"),
    ).where(SignedAction.accepted_at <= _end(day))


def _body(row: Any) -> dict[str, str]:
    body: dict[str, str] = {} if row.body is None else json.loads(row.body)
    return body


def _newest(
    session: Session, of: sa.Subquery, place: str | None
) -> tuple[Sequence[sa.Row[Any]], str]:
    """Return a page of rows with `made_at` and `id`, the newest first, and where the next one begins."""
    if place == _ENDED:
        return [], _ENDED
    page = sa.select(of).order_by(of.c.made_at.desc(), of.c.id.desc()).limit(PAGE + 1)
    if place is not None:
        moment, last = parse_instant_cursor(place)
        page = page.where(
            sa.or_(of.c.made_at < moment, sa.and_(of.c.made_at == moment, of.c.id < last))
        )
    rows = session.execute(page).all()
    if len(rows) <= PAGE:
        return rows, _ENDED
    end = rows[PAGE - 1]
    return rows[:PAGE], cursor_at_instant(_aware(end.made_at), end.id)


def _grants(
    *, until: date | None = None, person: str | None = None, desks: Sequence[str] | None = None
) -> sa.CompoundSelect[Any]:
    """Return the query of what could be opened by whom; of what was destroyed since too, unless at certain desks."""
    never = sa.cast(sa.null(), sa.Date)
    tables: list[tuple[type[Grant | PastGrant], sa.ColumnElement[Any]]] = [(Grant, never)]
    if desks is None:
        tables.append((PastGrant, sa.type_coerce(PastGrant.destroyed_on, sa.Date)))
    halves = []
    for table, destroyed in tables:
        columns = (table.case, table.reader, table.desk, table.received_on, table.handed_on)
        half = sa.select(*columns, destroyed.label("destroyed_on"))
        half = half.where(table.received_on.is_not(None))
        if until is not None:
            half = half.where(sa.func.coalesce(table.handed_on, table.received_on) <= until)
        if person is not None:
            half = half.where(table.reader == person)
        if desks is not None:
            half = half.where(table.desk.in_(desks))
        halves.append(half)
    return sa.union_all(*halves)


def _held(
    session: Session,
    cursor: str | None,
    person: str,
    *,
    until: date | None = None,
    desks: Sequence[str] | None = None,
) -> tuple[list[Held], str]:
    """Return a page of what a person could open, the oldest first, and where the next one begins."""
    if cursor == _ENDED:
        return [], _ENDED
    of = _grants(until=until, person=person, desks=desks).subquery()
    names = ("case", "desk", "received_on", "handed_on", "destroyed_on")
    query = (
        sa.select(*(of.c[name] for name in names))
        .order_by(of.c.received_on, of.c.case)
        .limit(PAGE + 1)
    )
    if cursor is not None:
        last_day, last = parse_cursor(cursor)
        query = query.where(
            sa.or_(
                of.c.received_on > last_day,
                sa.and_(of.c.received_on == last_day, of.c.case > last),
            )
        )
    rows = [Held(**row._mapping) for row in session.execute(query)]
    page = rows[:PAGE]
    return page, cursor_at(page[-1].received_on, page[-1].case) if len(rows) > PAGE else _ENDED


def _aware(moment: datetime) -> datetime:
    """Return an instant with its zone, which SQLite does not keep."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


@dataclass(frozen=True)
class Returned:
    """A case under review whose reader is gone: it waits for the lead."""

    case: str
    desk: str
    claimed_by: str
    claimed_on: date


def returned(session: Session, actor: Actor, at: Moment) -> list[Returned]:
    """Return the cases under review at a lead's desks whose reader does not stand, or reads there no more."""
    require(actor, Permission.SEE_RETURNED_CASES)
    led = _led(at.directory, actor)
    query = (
        sa.select(Testimony.case, Testimony.desk, Assignment.reader, Assignment.claimed_on)
        .join(Assignment, Assignment.case == Testimony.case)
        .where(Assignment.ended_on.is_(None), Assignment.claimed_on.is_not(None))
        .where(Testimony.state.in_((State.IN_REVIEW, State.WAITING)), Testimony.desk.in_(led))
        .order_by(Testimony.desk, Testimony.case)
    )
    gone = _Gone(session, at)
    return [
        Returned(row.case, row.desk, row.reader, row.claimed_on)
        for row in session.execute(query)
        if gone.from_desk(row.reader, row.desk)
    ]


@dataclass(frozen=True)
class Leaver:
    """A page of what somebody who is gone could open at a lead's desks."""

    could_open: Sequence[Held]
    next: str | None


def leaver(session: Session, actor: Actor, at: Moment, person: str, cursor: str | None) -> Leaver:
    """Return what a person who does not stand, or reads there no more, could open at a lead's desks."""
    require(actor, Permission.SEE_RETURNED_CASES)
    gone = _Gone(session, at)
    desks = [one for one in _led(at.directory, actor) if gone.from_desk(person, one)]
    page, following = _held(session, cursor, person, desks=desks)
    if not page and cursor is None:
        raise NotFound
    return Leaver(page, _next(following))


def _led(directory: Directory, actor: Actor) -> list[str]:
    return [desk.id for desk in directory.desks if actor.id in desk.leads]


class _Gone:
    """Tells who cannot go on at a desk: who is not listed there, or does not stand as they must today."""

    def __init__(self, session: Session, at: Moment) -> None:
        self._readers = {
            desk.id: {one.id for one in at.directory.readers_of(desk.id)}
            for desk in at.directory.desks
        }
        suspended = sa.exists().where(
            Suspension.person == Person.id, Suspension.lifted_at.is_(None)
        )
        self._fallen = {
            row.id
            for row, is_suspended in session.execute(sa.select(Person, suspended))
            if standing(facts(row, is_suspended=is_suspended), at.today) is not Standing.ACTIVE
        }

    def from_desk(self, person: str, desk: str) -> bool:
        return person in self._fallen or person not in self._readers[desk]
