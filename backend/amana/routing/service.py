# SPDX-License-Identifier: AGPL-3.0-or-later
"""A case finds its reader, is claimed, released, handed over or recused from. Never commits, never imports Flask."""

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from amana.access.actions import Act
from amana.access.models import Person, Suspension
from amana.access.roles import Actor, Permission
from amana.access.service import intake_key_of, require
from amana.access.standing import Facts, Standing, is_gone, standing
from amana.errors import CaseExpired, CaseWithdrawn, Conflict, NotAllowed, NotFound, Unprocessable
from amana.intake.models import Grant, State, Testimony
from amana.intake.retention import Periods
from amana.intake.service import move, rank_of
from amana.intake.workflow import DECIDED, OPEN
from amana.protocol.case import GRANT_SIZE
from amana.protocol.directory import Directory
from amana.protocol.encoding import b64, check_id, random_id
from amana.protocol.errors import NotSealed, ProtocolError
from amana.protocol.sealing import Kind, check_sealed
from amana.routing.models import Assignment, Recusal, RoutingRules, RoutingTask
from amana.routing.rules import (
    CaseFacts,
    Choice,
    NobodyBecause,
    ReaderFacts,
    Rules,
    Verdict,
    choose,
    may_take,
    route,
)

ROUTING = "routing"
FIRST, SECOND = "first", "second"
BATCH = 200
_LOCK_KEY = 0x726F757465  # "route": two processes that count loads at once would both choose the same reader.
LET_GO = ("unclaimed", "released")
RECUSAL_REASONS = ("conflict", "grant-failed", "other")


class ClaimedAlready(Conflict):
    slug = "claimed-already"
    title = "Somebody else has this case."


class NotAssigned(NotAllowed):
    slug = "not-assigned"
    title = "This case is not yours to work on; claim it first."


class MayNotTake(Unprocessable):
    slug = "may-not-take"
    title = "This person must not have this case."


# Looking at one case


def case_of(session: Session, actor: Actor, case: str, *, lock: bool = False) -> Testimony:
    """Return a received case of the actor's desks that was sealed to them; every other one does not exist for them."""
    require(actor, Permission.LIST_CASES)
    testimony = session.get(Testimony, case, with_for_update=lock or None) if _is_id(case) else None
    if testimony is None or testimony.received_on is None or testimony.desk not in actor.desks:
        raise NotFound
    if grant_of(session, actor.id, case) is None:
        raise NotFound
    return testimony


def _is_id(case: str) -> bool:
    """Tell whether this can be a case at all; PostgreSQL takes no NUL in a text, not even to look for it."""
    try:
        check_id(case)
    except ProtocolError:
        return False
    return True


def grant_of(session: Session, reader: str, case: str) -> Grant | None:
    """Return a reader's own grant."""
    return session.get(Grant, (case, reader))


def active(session: Session, case: str) -> Sequence[Assignment]:
    """Return the assignments of a case that have not ended, the first reader's first."""
    query = sa.select(Assignment).where(Assignment.case == case, Assignment.ended_on.is_(None))
    return session.scalars(query.order_by(Assignment.part)).all()


@dataclass(frozen=True)
class Seen:
    """An assignment as a reader sees it; why it came to whom is for leads, since it tells of recusals and conflicts."""

    reader: str
    part: str
    by: str
    offered_on: date
    claimed_on: date | None
    explanation: dict[str, Any] | None


def assignments_seen(
    session: Session, actor: Actor, testimony: Testimony, directory: Directory
) -> list[Seen]:
    """Return who has a case, or was offered it."""
    is_lead = is_lead_of(actor, testimony, directory)
    return [
        Seen(
            reader=one.reader,
            part=one.part,
            by=one.by,
            offered_on=one.offered_on,
            claimed_on=one.claimed_on,
            explanation=json.loads(one.explanation) if is_lead else None,
        )
        for one in active(session, testimony.case)
    ]


def assigned_to(session: Session, actor: Actor, testimony: Testimony) -> Assignment:
    """Return the assignment under which the actor works on a case; whoever did the work may read what they decided.

    Refuses everybody else, also those who hold a grant. Raises CaseWithdrawn, CaseExpired, NotAssigned.
    """
    _check_is_there(testimony)
    query = (
        sa.select(Assignment)
        .where(Assignment.case == testimony.case, Assignment.reader == actor.id)
        .where(Assignment.claimed_on.is_not(None), Assignment.ended_on.is_(None))
    )
    found = session.scalar(query)
    if found is None:
        raise NotAssigned
    return found


def _check_is_there(testimony: Testimony) -> None:
    """Refuse what its witness withdrew, or what has expired: nobody has it any more, and nobody gets it."""
    if testimony.state == State.WITHDRAWN:
        raise CaseWithdrawn
    if testimony.state == State.EXPIRED:
        raise CaseExpired


# What an administrator sets


def rules_now(session: Session) -> tuple[int, Rules]:
    """Return the rules in force and their version; version 0 are the defaults."""
    newest = session.scalar(sa.select(RoutingRules).order_by(RoutingRules.version.desc()).limit(1))
    if newest is None:
        return 0, Rules()
    return newest.version, rules_of(json.loads(newest.document))


def rules_seen(session: Session, actor: Actor) -> tuple[int, Rules]:
    """Return the rules in force to whoever may see them."""
    require(actor, Permission.SEE_RULES)
    return rules_now(session)


def rules_of(document: Mapping[str, Any]) -> Rules:
    """Read a document of rules whose form was checked; one from before there were periods has the usual ones."""
    duty = {reader: tuple(days) for reader, days in document["duty"].items()}
    retention = Periods(**document.get("retention", {}))
    return Rules(**{**document, "duty": duty, "retention": retention})


def rules_document(rules: Rules) -> dict[str, Any]:
    """Return rules as they are shown and signed."""
    duty = {reader: list(days) for reader, days in rules.duty.items()}
    return {**vars(rules), "duty": duty, "retention": dict(vars(rules.retention))}


def set_rules(
    session: Session, actor: Actor, act: Act, document: dict[str, Any], version: int
) -> int:
    """Put new rules in force; `version` is the one that they replace, so that no two undo each other."""
    require(actor, Permission.SET_RULES)
    current, _ = rules_now(session)
    if version != current:
        raise Conflict("Somebody else set the rules meanwhile.", slug="rules-outdated")
    act.accept(session, actor, "rule", body={"rules": document, "replaces": version})
    row = RoutingRules(
        version=version + 1, document=json.dumps(document), set_by=actor.id, set_on=act.today
    )
    try:
        with session.begin_nested():
            session.add(row)
    except IntegrityError:
        raise Conflict("Somebody else set the rules meanwhile.", slug="rules-outdated") from None
    # Who was found by nobody may be found now.
    _look_again(session, sa.select(RoutingTask.case))
    return version + 1


def try_rules(
    session: Session,
    actor: Actor,
    directory: Directory,
    today: date,
    *,
    desk: str,
    language: str,
    flags: Collection[str],
) -> Choice:
    """Tell whom a testimony with this policy would reach today if all who may were given a grant, and why."""
    require(actor, Permission.SEE_RULES)
    if desk not in {one.id for one in directory.desks}:
        raise Unprocessable("There is no such desk.", slug="desk-unknown")
    everybody = reader_facts(session, directory, today)
    here = [everybody[one.id] for one in directory.readers_of(desk)]
    case = CaseFacts(
        case="none",
        desk=desk,
        language=language,
        flags=frozenset(flags),
        received_on=today,
        granted=frozenset(one.id for one in here),
    )
    return choose(case, here, rules_now(session)[1], today)


# Routing


def reader_facts(session: Session, directory: Directory, today: date) -> dict[str, ReaderFacts]:
    """Return every listed reader as routing sees them."""
    people = {row.id: row for row in session.scalars(sa.select(Person))}
    suspended = set(
        session.scalars(sa.select(Suspension.person).where(Suspension.lifted_at.is_(None)))
    )
    unended = Assignment.ended_on.is_(None)
    load = _counted(
        session,
        sa.select(Assignment.reader, sa.func.count())
        .join(Testimony, Testimony.case == Assignment.case)
        .where(unended, Testimony.state.in_(OPEN)),
    )
    offered = _counted(
        session,
        sa.select(Assignment.reader, sa.func.count()).where(
            Assignment.offered_on == today, Assignment.by == ROUTING
        ),
    )
    listed = {one.id: one for desk in directory.desks for one in directory.readers_of(desk.id)}
    found = {}
    for reader in listed.values():
        row = people.get(reader.id)
        person = directory.person(reader.id)
        found[reader.id] = ReaderFacts(
            id=reader.id,
            desks=person.desks if person else frozenset(),
            takes=reader.takes,
            # Somebody who never signed in has no row, and nothing to be judged by.
            works=row is None or _works(row, reader.id in suspended, today),
            languages=_codes(row.languages if row else ""),
            specialities=_codes(row.specialities if row else ""),
            conflicts=_codes(row.conflicts if row else ""),
            load=load.get(reader.id, 0),
            today=offered.get(reader.id, 0),
        )
    return found


def _counted(session: Session, query: sa.Select[Any, Any]) -> dict[str, int]:
    return {row[0]: row[1] for row in session.execute(query.group_by(Assignment.reader))}


def _works(row: Person, suspended: bool, today: date) -> bool:
    return standing(_facts(row, suspended), today) is Standing.ACTIVE


def _facts(row: Person, suspended: bool) -> Facts:
    return Facts(
        suspended=suspended,
        confirmed_on=row.confirmed_on,
        seen_on=row.last_active_on or row.first_seen_on,
        valid_until=row.valid_until,
    )


def _codes(text: str) -> frozenset[str]:
    return frozenset(one for one in text.split(",") if one)


def case_facts(session: Session, cases: Iterable[Testimony]) -> list[CaseFacts]:
    """Return cases as routing sees them, in the order given."""
    rows = list(cases)
    ids = [one.case for one in rows]
    granted = _by_case(session, sa.select(Grant.case, Grant.reader).where(Grant.case.in_(ids)))
    recused = _by_case(
        session, sa.select(Recusal.case, Recusal.reader).where(Recusal.case.in_(ids))
    )
    tried = _by_case(
        session,
        sa.select(Assignment.case, Assignment.reader).where(
            Assignment.case.in_(ids), Assignment.ended_because.in_(LET_GO)
        ),
    )
    return [
        CaseFacts(
            case=one.case,
            desk=one.desk,
            language=one.language,
            flags=_codes(one.flags),
            received_on=one.received_on or one.announced_on,
            granted=frozenset(granted.get(one.case, ())),
            paid=one.paid,
            recused=frozenset(recused.get(one.case, ())),
            tried=frozenset(tried.get(one.case, ())),
        )
        for one in rows
    ]


def _by_case(session: Session, query: sa.Select[Any, Any]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for case, reader in session.execute(query):
        found.setdefault(case, set()).add(reader)
    return found


def something_to_route(session: Session, desks: Collection[str], today: date) -> bool:
    """Tell, without a lock, whether anything waits at these desks, or an offer lapsed, or a new day has places."""
    waiting = sa.select(Testimony.case).where(
        Testimony.state == State.RECEIVED, ~Testimony.routed, Testimony.desk.in_(sorted(desks))
    )
    late = _late(rules_now(session)[1], today)
    due = sa.or_(waiting.exists(), late.exists(), _for_today(today).exists())
    return session.scalar(sa.select(due)) is True


def _late(rules: Rules, today: date) -> sa.Select[Assignment]:
    """Return the query of what should be claimed by now."""
    return sa.select(Assignment).where(
        Assignment.ended_on.is_(None),
        Assignment.claimed_on.is_(None),
        sa.or_(
            Assignment.offered_on <= rules.unclaimed_since(today, urgent=False),
            sa.and_(
                Assignment.urgent,
                Assignment.offered_on <= rules.unclaimed_since(today, urgent=True),
            ),
        ),
    )


def route_received(
    session: Session,
    directory: Directory,
    today: date,
    *,
    desks: Collection[str] | None = None,
    limit: int = BATCH,
) -> int:
    """Offer what arrived, came back or was not claimed to readers; returns how many cases were looked at.

    Pulled by whoever works at a desk and by `maintain`; a crash in between loses nothing. One process does
    it at a time, and another one that comes meanwhile has nothing to do.
    """
    waiting = sa.select(Testimony).where(Testimony.state == State.RECEIVED, ~Testimony.routed)
    if desks is not None:
        waiting = waiting.where(Testimony.desk.in_(sorted(desks)))
    if session.scalar(sa.select(waiting.exists())) is not True or not _alone(session):
        return 0
    # Locked, so that nobody claims meanwhile; what somebody works on at this moment is looked at another time.
    rows = session.scalars(waiting.limit(limit).with_for_update(skip_locked=True)).all()
    version, rules = rules_now(session)
    facts = {one.case: one for one in case_facts(session, rows)}
    by_case = {one.case: one for one in rows}
    readers = reader_facts(session, directory, today)
    for choice in route(facts.values(), readers.values(), rules, today):
        _apply(session, by_case[choice.case], facts[choice.case], choice, version, today)
    session.flush()
    return len(rows)


def _alone(session: Session) -> bool:
    """Tell whether no other process routes now; on SQLite there is one writer anyway."""
    if session.get_bind().dialect.name != "postgresql":
        return True
    lock = sa.text("SELECT pg_try_advisory_xact_lock(:key)")
    return session.scalar(lock, {"key": _LOCK_KEY}) is True


def _apply(
    session: Session,
    testimony: Testimony,
    case: CaseFacts,
    choice: Choice,
    version: int,
    today: date,
) -> None:
    testimony.routed = True
    explanation = explained(choice.verdicts, version)
    if choice.reader is None:
        session.merge(
            RoutingTask(
                case=case.case,
                desk=case.desk,
                reason=choice.nobody_because or NobodyBecause.NOBODY_MAY,
                made_on=today,
                explanation=explanation,
            )
        )
        return
    _end_task(session, case.case)
    for one in active(session, case.case):
        if one.reader == choice.reader:
            # Who reads it beside whoever is first is now to be first; nobody has a case twice.
            _end(one, "made-first", today)
    session.flush()
    session.add(
        Assignment(
            id=random_id(),
            case=case.case,
            reader=choice.reader,
            part=FIRST,
            by=ROUTING,
            urgent=case.is_urgent,
            offered_on=today,
            explanation=explanation,
        )
    )


def explained(verdicts: Mapping[str, Verdict], version: int) -> str:
    """Return the stored explanation of an assignment."""
    return json.dumps({"rules": version, "verdicts": dict(sorted(verdicts.items()))})


def _end_task(session: Session, case: str) -> None:
    session.execute(sa.delete(RoutingTask).where(RoutingTask.case == case))


def _for_today(today: date) -> sa.Select[str]:
    """Return the query of cases for which nobody had a place on an earlier day: a new day has new places."""
    return sa.select(RoutingTask.case).where(
        RoutingTask.made_on < today, RoutingTask.reason == NobodyBecause.NOBODY_TODAY
    )


def _look_again(session: Session, cases: Collection[str] | sa.Select[str]) -> None:
    """Let routing look again at cases that nobody works on."""
    session.execute(
        sa.update(Testimony)
        .where(Testimony.case.in_(cases), Testimony.state == State.RECEIVED)
        .values(routed=False)
        .execution_options(synchronize_session=False)
    )


def end_unclaimed(session: Session, today: date) -> int:
    """Take back what nobody claimed in time, and let what found everybody full be looked at again; returns how many.

    Whoever did not claim is not offered the case again; when all were asked, the lead is told.
    """
    _, rules = rules_now(session)
    late = _late(rules, today)
    lapsed = sa.select(Testimony.case).where(
        Testimony.case.in_(late.with_only_columns(Assignment.case))
    )
    # Whoever claims locks the case too, so what is read after this is what holds.
    cases = session.scalars(lapsed.with_for_update(skip_locked=True)).all()
    fresh = late.where(Assignment.case.in_(cases)).execution_options(populate_existing=True)
    rows = session.scalars(fresh).all()
    for one in rows:
        _end(one, "unclaimed", today)
    session.flush()
    _look_again(session, [one.case for one in rows if one.part == FIRST])
    _look_again(session, _for_today(today))
    return len(rows)


def take_back_from_leavers(session: Session, directory: Directory, today: date) -> int:
    """Take undecided cases back from who no longer reads at their desk, so that routing finds others; returns how many.

    Whom the officers left out is gone at once. Who was suspended, or whose access ended by itself, keeps their cases
    for as long as a case may wait to be claimed: an administrator may have been late.
    """
    since = today - timedelta(days=rules_now(session)[1].claim_days)
    held = (
        sa.select(Assignment.reader, Testimony.desk)
        .join(Testimony, Testimony.case == Assignment.case)
        .where(Assignment.ended_on.is_(None), Testimony.state.in_(OPEN))
        .distinct()
    )
    people = {row.id: row for row in session.scalars(sa.select(Person))}
    suspended: dict[str, date] = {
        row.person: _day(row.suspended_at)
        for row in session.scalars(sa.select(Suspension).where(Suspension.lifted_at.is_(None)))
    }
    done = 0
    for reader, desk in session.execute(held).all():
        listed = directory.person(reader)
        row = people.get(reader)
        gone = listed is None or desk not in listed.desks
        if row is not None and not gone:
            gone = is_gone(_facts(row, reader in suspended), suspended.get(reader), since)
        if gone:
            done += _take_back(session, reader, desk, today)
    return done


def _day(moment: datetime) -> date:
    """Return the day in UTC; SQLite keeps no zone, and keeps UTC."""
    return moment.date() if moment.tzinfo is None else moment.astimezone(UTC).date()


def _take_back(session: Session, reader: str, desk: str, today: date) -> int:
    theirs = sa.select(Assignment.case).where(
        Assignment.reader == reader, Assignment.ended_on.is_(None)
    )
    undecided = sa.select(Testimony).where(
        Testimony.case.in_(theirs), Testimony.desk == desk, Testimony.state.in_(OPEN)
    )
    done = 0
    # What somebody works on at this moment is looked at another time.
    for testimony in session.scalars(undecided.with_for_update(skip_locked=True)).all():
        for one in active(session, testimony.case):
            if one.reader == reader:
                _step_back(session, testimony, one, "reader-gone", today, "release")
                done += 1
    return done


def _end(assignment: Assignment, because: str, today: date) -> None:
    assignment.ended_on, assignment.ended_because = today, because


# Working on it


def claim(session: Session, actor: Actor, case: str, act: Act) -> None:
    """Take a case that was offered to the actor, or that nobody has claimed yet; of two at once one wins.

    A lead may take what its reader cannot go on with.
    """
    require(actor, Permission.WORK_ON_CASE)
    testimony = case_of(session, actor, case, lock=True)
    there = active(session, case)
    mine = next((one for one in there if one.reader == actor.id), None)
    if mine is not None and mine.claimed_on is not None:
        raise Conflict("You have this case already.", slug="claimed-already")
    first = next((one for one in there if one.part == FIRST), None)
    if mine is None and first is not None and first.claimed_on is not None:
        if not is_lead_of(actor, testimony, act.directory) or not _is_gone(
            session, first, testimony, act
        ):
            raise ClaimedAlready
        _step_back(session, testimony, first, "reader-gone", act.today, "release")
        there = active(session, case)
    if mine is None or mine.part == FIRST:
        _check_may_take(session, actor.id, testimony, act)
        move(session, testimony, "claim")
    act.accept(session, actor, "claim", case)
    if mine is None:
        for one in there:
            if one.part == FIRST:
                _end(one, "claimed-by-other", act.today)
        session.flush()
        mine = _assignment(testimony, actor.id, FIRST, actor.id, act.today)
        session.add(mine)
    mine.claimed_on = act.today
    if mine.part == FIRST:
        _settle(session, testimony)


def _settle(session: Session, testimony: Testimony) -> None:
    """Note that a case has its first reader, so that neither routing nor a lead looks for one any more."""
    testimony.routed = True
    _end_task(session, testimony.case)


def _assignment(testimony: Testimony, reader: str, part: str, by: str, today: date) -> Assignment:
    return Assignment(
        id=random_id(),
        case=testimony.case,
        reader=reader,
        part=part,
        by=by,
        urgent="urgent" in testimony.flags.split(","),
        offered_on=today,
        explanation=json.dumps({"by": by}),
    )


def _check_may_take(session: Session, reader: str, testimony: Testimony, act: Act) -> None:
    """Refuse somebody who must not have a case, with routing's own reason."""
    facts = reader_facts(session, act.directory, act.today).get(reader)
    [case] = case_facts(session, [testimony])
    verdict = Verdict.NOT_AT_DESK if facts is None else may_take(case, facts)
    if verdict is not None:
        raise MayNotTake(slug=verdict.value)


def release(session: Session, actor: Actor, case: str, act: Act) -> None:
    """Give a case back; routing finds somebody else. A second reader only steps back."""
    require(actor, Permission.WORK_ON_CASE)
    testimony = case_of(session, actor, case, lock=True)
    mine = assigned_to(session, actor, testimony)
    act.accept(session, actor, "release", case)
    _step_back(session, testimony, mine, "released", act.today, "release")


def recuse(session: Session, actor: Actor, case: str, reason: str, act: Act) -> None:
    """Note that the actor must not have a case, or that their grant does not open it; nobody asks further."""
    require(actor, Permission.WORK_ON_CASE)
    testimony = case_of(session, actor, case, lock=True)
    act.accept(session, actor, "recuse", case, {"reason": reason})
    session.merge(Recusal(case=case, reader=actor.id, reason=reason, made_on=act.today))
    session.flush()
    for one in active(session, case):
        if one.reader == actor.id:
            _step_back(session, testimony, one, "recused", act.today, "release")


def _step_back(
    session: Session,
    testimony: Testimony,
    assignment: Assignment,
    because: str,
    today: date,
    action: str,
) -> None:
    was_claimed = assignment.claimed_on is not None
    _end(assignment, because, today)
    session.flush()
    if assignment.part == FIRST and testimony.state not in DECIDED:
        if was_claimed:
            move(session, testimony, action)
        testimony.routed = False


@dataclass(frozen=True)
class HandOver:
    """To whom a case goes, with the grant that the giver sealed to them where they have none."""

    to: str
    second: bool
    intake_key: str | None
    grant: bytes | None

    @property
    def body(self) -> dict[str, Any]:
        grant = None if self.grant is None else b64(self.grant)
        return {
            "to": self.to,
            "second": self.second,
            "intake_key": self.intake_key,
            "grant": grant,
        }


def hand_over(session: Session, actor: Actor, case: str, given: HandOver, act: Act) -> None:
    """Offer a case to a colleague, or ask one to read it too; a lead may do so with what nobody works on."""
    require(actor, Permission.WORK_ON_CASE)
    testimony = _case_to_hand_over(session, actor, case, act)
    _check_is_there(testimony)
    there = active(session, case)
    first = next((one for one in there if one.part == FIRST), None)
    _check_may_hand_over(session, actor, testimony, first, act)
    if given.to == actor.id or any(one.reader == given.to for one in there):
        raise Conflict("This person has the case already.", slug="claimed-already")
    _check_may_take(session, given.to, testimony, act)
    existing = grant_of(session, given.to, case)
    if existing is None:
        if given.grant is None or given.intake_key is None:
            raise Unprocessable(
                "This person has no grant of the case; seal one.", slug="grant-needed"
            )
        check_grant(act.directory, given.to, given.intake_key, given.grant)
    act.accept(session, actor, "hand-over", case, given.body)
    if existing is None:
        session.add(_granted(testimony, given, act.today))
    part = SECOND if given.second else FIRST
    for one in there:
        if one.part == part:
            _end(one, "handed-over", act.today)
    session.flush()
    session.add(_assignment(testimony, given.to, part, actor.id, act.today))
    if not given.second:
        move(session, testimony, "hand-over")
        _settle(session, testimony)


def _case_to_hand_over(session: Session, actor: Actor, case: str, act: Act) -> Testimony:
    """Return a case of the actor's; a lead may pass on what was not sealed to them, without reading it."""
    if _is_id(case):
        testimony = session.get(Testimony, case, with_for_update=True)
        arrived = testimony is not None and testimony.received_on is not None
        if testimony is not None and arrived and is_lead_of(actor, testimony, act.directory):
            return testimony
    return case_of(session, actor, case, lock=True)


def _check_may_hand_over(
    session: Session, actor: Actor, testimony: Testimony, first: Assignment | None, act: Act
) -> None:
    if first is not None and first.reader == actor.id and first.claimed_on is not None:
        return
    if not is_lead_of(actor, testimony, act.directory):
        raise NotAssigned
    if first is None or first.claimed_on is None:
        return
    if not _is_gone(session, first, testimony, act):
        raise ClaimedAlready


def is_lead_of(actor: Actor, testimony: Testimony, directory: Directory) -> bool:
    """Tell whether somebody leads the desk of a case."""
    leads = {one.id: one.leads for one in directory.desks}
    return actor.id in leads.get(testimony.desk, ())


def _is_gone(session: Session, assignment: Assignment, testimony: Testimony, act: Act) -> bool:
    """Tell whether a reader cannot go on: suspended, lapsed, or no longer at the desk."""
    facts = reader_facts(session, act.directory, act.today).get(assignment.reader)
    return facts is None or not facts.works or testimony.desk not in facts.desks


def check_grant(directory: Directory, person: str, intake_key: str, grant: bytes) -> None:
    """Refuse a grant that is not sealed in its form, or not to the key that the directory lists for a person now."""
    if intake_key != intake_key_of(directory, person):
        raise Unprocessable(
            "The grant is sealed to a key that is not in the directory.", slug="grant-key-unknown"
        )
    if len(grant) != GRANT_SIZE:
        raise NotSealed("grants-size", f"A grant has {GRANT_SIZE} bytes.")
    check_sealed(Kind.GRANT, grant, len(grant))


def _granted(testimony: Testimony, given: HandOver, today: date) -> Grant:
    return Grant(
        case=testimony.case,
        reader=given.to,
        intake_key=given.intake_key,
        sealed=given.grant,
        desk=testimony.desk,
        received_on=testimony.received_on,
        state=testimony.state,
        rank=rank_of(testimony.flags.split(","), testimony.paid),
        handed_on=today,
    )


# For leads


def tasks(session: Session, actor: Actor, directory: Directory, today: date) -> list[RoutingTask]:
    """Return the cases of a lead's desks that found nobody, with the reason and nothing of their content."""
    require(actor, Permission.SEE_ROUTING_TASKS)
    told = leads_told(session, directory, today)
    query = sa.select(RoutingTask).order_by(RoutingTask.made_on, RoutingTask.case)
    return [one for one in session.scalars(query) if actor.id in told[one.desk]]


def leads_told(session: Session, directory: Directory, today: date) -> Mapping[str, frozenset[str]]:
    """Return who is told of each desk's tasks: its leads, or where none of them works, the leads of all desks.

    A desk may have no lead, or the officers may have struck it off while cases wait there: somebody must know.
    """
    facts = reader_facts(session, directory, today)
    everybody = {lead for desk in directory.desks for lead in desk.leads if facts[lead].works}
    led = {desk.id: everybody & set(desk.leads) for desk in directory.desks}
    return defaultdict(
        lambda: frozenset(everybody),
        {desk: frozenset(leads) for desk, leads in led.items() if leads},
    )
