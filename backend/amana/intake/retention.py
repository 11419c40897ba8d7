# SPDX-License-Identifier: AGPL-3.0-or-later
"""How long a case is kept, as a table: by state and consent its review day, and what follows on it (decision 0015)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from typing import Final

from amana.intake.models import State
from amana.intake.workflow import OPEN
from amana.protocol.consent import Entry, answer, in_force

MAX_PROLONGED_DAYS: Final = 365
"""How far ahead of today a lead may set a review day; after that somebody must look again."""
PROLONG_REASONS: Final = ("proceedings", "request-expected", "witness-asked", "follow-up", "other")


class Allows(StrEnum):
    """What a witness allows today besides storing, which is implied."""

    NOTHING = "nothing"
    USES = "uses"
    ARCHIVE = "archive"


class Then(StrEnum):
    """What follows on the review day."""

    LOOK = "look"
    """A lead is told to look at it; nothing happens by itself."""
    EXPIRE = "expire"
    """Its readers and leads are told, and when the notice is over it expires."""


class Step(StrEnum):
    """What `amana maintain` does about a case today."""

    KEEP = "keep"
    LOOK = "look"
    TELL = "tell"
    WAIT = "wait"
    EXPIRE = "expire"


@dataclass(frozen=True)
class Periods:
    """Days that an administrator set; each counts from the day on which a case came, came back, or was decided."""

    open_days: int = 180
    """Until a lead looks at what is not decided."""
    set_aside_days: int = 365
    """For what was declined, or repeats another case."""
    kept_days: int = 1825
    """For what was accepted or referred."""
    unused_days: int = 90
    """At most, for what its witness lets nobody use."""
    notice_days: int = 30
    """For how long readers and leads are told before a case expires."""


PERIOD_LIMITS: Final[Mapping[str, tuple[int, int]]] = {
    "open_days": (30, 730),
    "set_aside_days": (30, 3650),
    "kept_days": (365, 18_250),
    "unused_days": (30, 3650),
    "notice_days": (14, 180),
}
"""The least and the most of each: no administrator alone can have a testimony destroyed before anybody hears of it."""

_Row = Mapping[Allows, Then]
_UNDECIDED: _Row = dict.fromkeys(Allows, Then.LOOK)
# Whoever floods the service can ask for an archive too, so that answer keeps nothing that was set aside.
_SET_ASIDE: _Row = dict.fromkeys(Allows, Then.EXPIRE)
_KEPT: _Row = {
    Allows.NOTHING: Then.EXPIRE,
    Allows.USES: Then.EXPIRE,
    Allows.ARCHIVE: Then.LOOK,
}

RETENTION: Final[Mapping[State, tuple[str, _Row]]] = {
    **dict.fromkeys(OPEN, ("open_days", _UNDECIDED)),
    State.DECLINED: ("set_aside_days", _SET_ASIDE),
    State.DUPLICATE: ("set_aside_days", _SET_ASIDE),
    State.ACCEPTED: ("kept_days", _KEPT),
    State.REFERRED: ("kept_days", _KEPT),
}
"""The period of each state and what follows it. A state that is not here has no review day: it is not kept."""


@dataclass(frozen=True)
class Kept:
    """What decides about the keeping of one case."""

    state: State
    allows: Allows
    since: date | None
    """The day on which it came, came back, or was decided."""
    prolonged_until: date | None = None
    ends_on: date | None = None
    """The day on which it expires, of which its readers have been told."""


def allows(entries: Sequence[Entry], day: date) -> Allows:
    """Return what a chain of policies allows on a day; to be asked first is a use too."""
    if answer(entries, "archive", day) == "allow":
        return Allows.ARCHIVE
    named = {scope for policy in in_force(entries, day) for scope in policy.scopes}
    if any(answer(entries, scope, day) != "deny" for scope in named):
        return Allows.USES
    return Allows.NOTHING


def period(state: State, allowed: Allows, periods: Periods) -> timedelta:
    """Return how long a case in this state is kept until its review day."""
    name, _ = RETENTION[state]
    days: int = getattr(periods, name)
    return timedelta(days=min(days, periods.unused_days) if allowed is Allows.NOTHING else days)


def review_day(kept: Kept, periods: Periods) -> date | None:
    """Return the review day of a case; None for what is not kept: still arriving, withdrawn or expired.

    A lead's prolongation counts for as long as the witness lets anybody use the case.
    """
    if kept.state not in RETENTION or kept.since is None:
        return None
    day = kept.since + period(kept.state, kept.allows, periods)
    if kept.prolonged_until is None or kept.allows is Allows.NOTHING:
        return day
    return max(day, kept.prolonged_until)


def then(kept: Kept) -> Then:
    """Return what follows on the review day of a case that has one."""
    return RETENTION[kept.state][1][kept.allows]


def next_step(kept: Kept, periods: Periods, today: date) -> Step:
    """Return what is done about a case today. Nothing expires on the day on which somebody is first told."""
    day = review_day(kept, periods)
    if day is None or day > today:
        return Step.KEEP
    if then(kept) is Then.LOOK:
        return Step.LOOK
    if kept.ends_on is None:
        return Step.TELL
    return Step.EXPIRE if kept.ends_on <= today else Step.WAIT
