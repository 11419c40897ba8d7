# SPDX-License-Identifier: AGPL-3.0-or-later
"""Whether a witness's consent covers a use on a day (docs/protocol.md §6): narrowing counts at once, widening later."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise
from typing import Any, Final, Protocol

from amana.protocol.encoding import parse_day, unb64
from amana.protocol.policy import (
    ANSWERS,
    IDENTITY_LEVELS,
    Policy,
    check_successor,
    parse_policy,
)
from amana.protocol.schema import Fault

NARROWEST_FIRST: Final = ("deny", "ask", "allow")
assert sorted(NARROWEST_FIRST) == sorted(ANSWERS)  # noqa: S101


@dataclass(frozen=True)
class Entry:
    """A verified policy of a chain, and the day on which the server received it."""

    policy: Policy
    received_on: date


class Recipient(Protocol):
    """Somebody to whom a testimony may go out, and for what the directory lists them."""

    @property
    def id(self) -> str: ...
    @property
    def purposes(self) -> Sequence[str]: ...


@dataclass(frozen=True)
class Desk:
    """The readers of the witness's desk."""

    id: str = "desk"
    purposes: tuple[str, ...] = ("review", "contact", "translate", "statistics")


READERS: Final = Desk()


@dataclass(frozen=True)
class Covered:
    """Whether a use is covered, and why: a slug, and a sentence."""

    allowed: bool
    reason: str
    title: str


def check_chain(entries: Sequence[Entry]) -> None:
    """Refuse versions that are not one chain from seq 0 on, received in their order."""
    if not entries or entries[0].policy.seq != 0:
        raise Fault("policy-order", "The chain of policies does not begin at its beginning.")
    for before, entry in pairwise(entries):
        check_successor(before.policy, entry.policy)
        if entry.received_on < before.received_on:
            raise Fault("policy-order", "The policies were not received in their order.")


def parse_chain(told: Iterable[Mapping[str, Any]]) -> tuple[Entry, ...]:
    """Read versions as a server tells them, `{policy, received_on}` each, and check that they are one chain."""
    entries = tuple(
        Entry(parse_policy(unb64(one["policy"])), parse_day(one["received_on"])) for one in told
    )
    check_chain(entries)
    return entries


def in_force(entries: Sequence[Entry], day: date) -> list[Policy]:
    """Return the last version whose delay is over on `day`, and all later ones: the narrowest of them counts.

    The first version needs no delay. A widening may be coerced, so it waits; a narrowing is never made to wait.
    """
    waited = [
        place
        for place, entry in enumerate(entries)
        if place == 0
        or entry.received_on + timedelta(days=entry.policy.withdrawal_delay_days) <= day
    ]
    return [entry.policy for entry in entries[waited[-1] :] if entry.received_on <= day]


def answer(entries: Sequence[Entry], scope: str, day: date) -> str:
    """Return `allow`, `ask` or `deny` for a scope; what is not named is denied."""
    answers = (policy.scopes.get(scope, "deny") for policy in in_force(entries, day))
    return min(answers, key=NARROWEST_FIRST.index, default="deny")


def widest_identity(entries: Sequence[Entry], day: date) -> str:
    """Return who, at the widest, may learn the witness's identity."""
    levels = (policy.identity_level for policy in in_force(entries, day))
    return min(levels, key=IDENTITY_LEVELS.index, default=IDENTITY_LEVELS[0])


def covers(
    entries: Sequence[Entry], recipient: Recipient, purpose: str, identity_level: str, day: date
) -> Covered:
    """Tell whether `recipient` may have the testimony for `purpose`, with as much of the identity as `identity_level`.

    `entries` is a chain that `check_chain` passed. Raises ValueError for an identity level that there is not.
    """
    asked = IDENTITY_LEVELS.index(identity_level)
    if purpose not in recipient.purposes:
        return Covered(
            False, "purpose-not-listed", "The directory does not list them for this purpose."
        )
    if purpose == "contact" and any("minor" in entry.policy.flags for entry in entries):
        return Covered(False, "minor-no-contact", "Whoever is under 18 is not asked directly.")
    given = answer(entries, purpose, day)
    if given == "ask":
        return Covered(False, "consent-asks", "The witness wants to be asked about this first.")
    if given != "allow":
        return Covered(False, "consent-denies", "The witness does not allow this.")
    if asked > IDENTITY_LEVELS.index(widest_identity(entries, day)):
        return Covered(
            False, "identity-denied", "The witness does not allow that much of the identity."
        )
    return Covered(True, "consent-allows", "The witness allows this.")
