# SPDX-License-Identifier: AGPL-3.0-or-later
"""Review days come: leads are told, prolong, or let a case expire. Never commits, never imports Flask."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from amana.access.actions import Act
from amana.access.roles import Actor, Permission
from amana.access.service import require
from amana.consent import service as consent
from amana.errors import CaseExpired, CaseWithdrawn, NotFound, Unprocessable
from amana.intake.models import State, Testimony
from amana.intake.retention import (
    MAX_PROLONGED_DAYS,
    RETENTION,
    Allows,
    Kept,
    Periods,
    Step,
    Then,
    allows,
    next_step,
    period,
    review_day,
    then,
)
from amana.intake.service import policy_chain
from amana.protocol.directory import Directory
from amana.protocol.encoding import check_id
from amana.protocol.errors import ProtocolError
from amana.routing.service import case_of, is_lead_of, rules_now

LISTED = 200
"""How many cases a lead is shown at once, the longest kept first."""


class NothingAllowed(Unprocessable):
    slug = "consent-allows-nothing"
    title = "The witness lets nobody use this testimony, so nothing keeps it longer."


class ProlongedWrongly(Unprocessable):
    slug = "prolong-days"
    title = "The new review day is not after the present one, or more than a year ahead."


@dataclass(frozen=True)
class Review:
    """The review day of a case, what follows on it, and when it expires if nobody does anything."""

    case: str
    desk: str
    state: str
    review_on: date
    then: Then
    ends_on: date | None
    prolonged_until: date | None


def periods_now(session: Session) -> Periods:
    """Return the periods in force."""
    return rules_now(session)[1].retention


def past_review(
    periods: Periods, today: date, follows: Sequence[Then] = tuple(Then)
) -> sa.ColumnElement[bool]:
    """Return, for a query, that the review day of a testimony has come; the same rules as `review_day`.

    One comparison for each row of the table of rules, each a stretch of one index.
    """
    come = []
    for state, (_, row) in RETENTION.items():
        for allowed in Allows:
            if row[allowed] not in follows:
                continue
            one = (
                (Testimony.state == state)
                & (Testimony.allows == allowed)
                & (Testimony.kept_since <= today - period(state, allowed, periods))
            )
            if allowed is not Allows.NOTHING:
                one &= sa.or_(
                    Testimony.prolonged_until.is_(None), Testimony.prolonged_until <= today
                )
            come.append(one)
    return sa.or_(*come)


# What leads see and do


def due(session: Session, actor: Actor, directory: Directory, today: date) -> list[Review]:
    """Return the cases of a lead's desks whose review day has come."""
    require(actor, Permission.SEE_RETENTION)
    periods = periods_now(session)
    led = [desk.id for desk in directory.desks if actor.id in desk.leads]
    query = (
        sa.select(Testimony)
        .where(Testimony.desk.in_(led), past_review(periods, today))
        .order_by(Testimony.kept_since, Testimony.case)
        .limit(LISTED)
    )
    return [_review(one, kept_as_noted(one), periods) for one in session.scalars(query)]


def of_case(session: Session, actor: Actor, case: str, directory: Directory, today: date) -> Review:
    """Return the review day of a case to whoever holds a grant of it, or leads its desk."""
    require(actor, Permission.LIST_CASES)
    testimony = _led(session, actor, case, directory) or case_of(session, actor, case)
    return _review(testimony, _kept(session, testimony, today), periods_now(session))


def prolong(
    session: Session, actor: Actor, case: str, *, until: date, reason: str, act: Act
) -> Review:
    """Set the review day of a case later, by a lead of its desk; what the witness lets nobody use is not kept longer."""
    require(actor, Permission.PROLONG)
    testimony = _led(session, actor, case, act.directory, lock=True)
    if testimony is None:
        raise NotFound
    periods, kept = periods_now(session), _kept(session, testimony, act.today)
    present = _review(testimony, kept, periods).review_on
    if kept.allows is Allows.NOTHING:
        raise NothingAllowed
    latest = act.today + timedelta(days=MAX_PROLONGED_DAYS)
    if not max(present, act.today) < until <= latest:
        raise ProlongedWrongly
    act.accept(session, actor, "prolong", case, {"until": until.isoformat(), "reason": reason})
    testimony.allows = kept.allows
    testimony.prolonged_until, testimony.ends_on = until, None
    return _review(testimony, kept_as_noted(testimony), periods)


def _led(
    session: Session, actor: Actor, case: str, directory: Directory, *, lock: bool = False
) -> Testimony | None:
    """Return a received case of a desk that the actor leads, also one that was not sealed to them."""
    try:
        check_id(case)
    except ProtocolError:
        return None
    testimony = session.get(Testimony, case, with_for_update=lock or None)
    if testimony is None or testimony.received_on is None:
        return None
    return testimony if is_lead_of(actor, testimony, directory) else None


def _review(testimony: Testimony, kept: Kept, periods: Periods) -> Review:
    day = review_day(kept, periods)
    if day is None:
        raise CaseWithdrawn if testimony.state == State.WITHDRAWN else CaseExpired
    return Review(
        case=testimony.case,
        desk=testimony.desk,
        state=testimony.state,
        review_on=day,
        then=then(kept),
        ends_on=testimony.ends_on,
        prolonged_until=testimony.prolonged_until,
    )


def kept_as_noted(testimony: Testimony) -> Kept:
    """Return what decides about a case, as its row has it: never more than its witness allows."""
    return Kept(
        state=State(testimony.state),
        allows=Allows(testimony.allows),
        since=testimony.kept_since,
        prolonged_until=testimony.prolonged_until,
        ends_on=testimony.ends_on,
    )


def _kept(session: Session, testimony: Testimony, today: date) -> Kept:
    """Return what decides about a case, with what its witness allows today."""
    noted = kept_as_noted(testimony)
    if noted.state not in RETENTION:
        return noted
    allowed = allows(policy_chain(session, testimony), today)
    return Kept(noted.state, allowed, noted.since, noted.prolonged_until, noted.ends_on)


# What `amana maintain` does


def to_announce(session: Session, today: date) -> list[str]:
    """Return the cases whose review day has come and of which nobody was told yet that they expire."""
    periods = periods_now(session)
    expiring = past_review(periods, today, [Then.EXPIRE]) & Testimony.ends_on.is_(None)
    # More may be allowed than is noted, once a widening has waited: such a case is not for the lead yet.
    unused = past_review(periods, today, [Then.LOOK]) & (Testimony.allows == Allows.NOTHING)
    query = sa.select(Testimony.case).where(sa.or_(expiring, unused))
    return list(session.scalars(query.order_by(Testimony.case)))


def announced(session: Session) -> list[str]:
    """Return the cases of which was told that they expire."""
    query = sa.select(Testimony.case).where(Testimony.ends_on.is_not(None))
    return list(session.scalars(query.order_by(Testimony.ends_on, Testimony.case)))


def take_step(session: Session, case: str, today: date) -> Step | None:
    """Do about one case what is due today, and return what that was; None where it is not kept any more.

    The case is locked, and judged by its policies as they are now: whoever prolonged, withdrew or reopened it since
    it was listed is heard.
    """
    testimony = session.get(Testimony, case, with_for_update=True)
    if testimony is None or testimony.state not in RETENTION:
        return None
    periods, kept = periods_now(session), _kept(session, testimony, today)
    testimony.allows = kept.allows
    step = next_step(kept, periods, today)
    if step is Step.TELL:
        testimony.ends_on = today + timedelta(days=periods.notice_days)
    elif step is Step.EXPIRE:
        consent.expire(session, testimony, today)
    elif step is not Step.WAIT:
        testimony.ends_on = None
    return step


@dataclass(frozen=True)
class DeskReviews:
    """How many cases of a desk wait for a lead's look, and of how many was told that they expire."""

    desk: str
    to_look_at: int
    expiring: int


def reviews_by_desk(session: Session, today: date) -> list[DeskReviews]:
    """Count, for each desk, what waits for its leads."""
    look = past_review(periods_now(session), today, [Then.LOOK])
    looks, ends = _by_desk(session, look), _by_desk(session, Testimony.ends_on.is_not(None))
    return [
        DeskReviews(desk, looks.get(desk, 0), ends.get(desk, 0)) for desk in sorted({*looks, *ends})
    ]


def _by_desk(session: Session, where: sa.ColumnElement[bool]) -> dict[str, int]:
    query = sa.select(Testimony.desk, sa.func.count()).where(where).group_by(Testimony.desk)
    return {row[0]: row[1] for row in session.execute(query)}
