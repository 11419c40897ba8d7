# SPDX-License-Identifier: AGPL-3.0-or-later
"""Who of those that the directory lists may work today: not the suspended, not the unconfirmed, not the long absent."""

from dataclasses import dataclass, replace
from datetime import date, timedelta
from enum import StrEnum

REVIEW_DAYS = 90
DORMANT_DAYS = 90


class Standing(StrEnum):
    """How somebody stands; only the active may do anything."""

    ACTIVE = "active"
    SUSPENDED = "suspended"
    LAPSED = "lapsed"
    DORMANT = "dormant"
    EXPIRED = "expired"


@dataclass(frozen=True)
class Facts:
    """What decides it. `confirmed_on` is the last access review, `seen_on` the last sign-in or the day they came."""

    suspended: bool
    confirmed_on: date
    seen_on: date
    valid_until: date | None


def standing(facts: Facts, today: date) -> Standing:
    """Judge the facts; what an administrator decided comes before what time did."""
    if facts.suspended:
        return Standing.SUSPENDED
    if facts.valid_until is not None and facts.valid_until < today:
        return Standing.EXPIRED
    if facts.confirmed_on < today - timedelta(days=REVIEW_DAYS):
        return Standing.LAPSED
    if facts.seen_on < today - timedelta(days=DORMANT_DAYS):
        return Standing.DORMANT
    return Standing.ACTIVE


def is_gone(facts: Facts, suspended_on: date | None, since: date) -> bool:
    """Tell whether somebody has not stood since a day; `suspended_on` is when a suspension began that lasts."""
    if suspended_on is not None and suspended_on <= since:
        return True
    # Time only ever ends access, so who would not have stood then has not stood from then on.
    return standing(replace(facts, suspended=False), since) is not Standing.ACTIVE


def review_due_on(confirmed_on: date) -> date:
    """Return the last day on which access works without another review."""
    return confirmed_on + timedelta(days=REVIEW_DAYS)
