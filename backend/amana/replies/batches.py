# SPDX-License-Identifier: AGPL-3.0-or-later
"""Who is born and who dies in a batch of the dead drop (docs/protocol.md §8): pure, over days and a source of chance.

A shard always has a whole multiple of 128 slots. So as many are born as died, whether they are replies or dummies. Where
more replies wait than slots died, some wait for the next batch; only where that does not end does the shard grow.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from amana.protocol.drop import FILL, MAX_SLOTS

SHORTEST_DAYS: Final = 50
LONGEST_DAYS: Final = 70
PATIENT_BATCHES: Final = 2
"""So many batches in a row may leave replies waiting; the next one takes all."""

Chance = Callable[[int], int]
"""Returns a uniform whole number from 0 to below its argument."""


@dataclass(frozen=True)
class Births:
    """The last days of the slots that are born: of replies that waited, and of dummies."""

    replies: tuple[date, ...]
    dummies: tuple[date, ...]


def last_day(born_on: date, chance: Chance) -> date:
    """Draw how long a slot lives: 60 days, and up to 10 fewer or more."""
    return born_on + timedelta(days=SHORTEST_DAYS + chance(LONGEST_DAYS - SHORTEST_DAYS + 1))


def last_day_if_older(today: date, chance: Chance) -> date:
    """Draw how long a slot still lives that seems to have been there before.

    It is the rest of a life in a shard that was always kept: P(rest = r days) is as P(life ≥ r).
    """
    while True:
        rest, drawn = 1 + chance(LONGEST_DAYS), last_day(today, chance)
        if today + timedelta(days=rest) <= drawn:
            return today + timedelta(days=rest)


def births(
    staying: Collection[date],
    died: int,
    waiting: int,
    today: date,
    chance: Chance,
    *,
    take_all: bool = False,
    is_closing: bool = False,
) -> Births:
    """Say what is born beside the `staying` slots, of which the last days are given, while `waiting` replies wait.

    Where a shard begins or grows, its new dummies seem older: were they all born on one day, none of them would die for
    weeks, and each further reply would make the shard grow again. A shard that is closing, since the directory names
    another depth, gets dummies that do not outlive what is there.
    """
    is_first = not staying
    fitting = waiting if take_all or is_first or is_closing else min(waiting, died)
    taken = min(fitting, MAX_SLOTS - len(staying))
    there = len(staying) + taken
    if is_closing and not there:
        return Births((), ())
    replies = tuple(last_day(today, chance) for _ in range(taken))
    grows = is_first or taken > died
    draw = last_day_if_older if grows else last_day
    dummies = [draw(today, chance) for _ in range(_filled(there) - there)]
    if is_closing:
        end = max((*staying, *replies))
        dummies = [min(one, end) for one in dummies]
    return Births(replies, tuple(dummies))


def _filled(count: int) -> int:
    """Return the number of slots of a shard that holds at least `count`."""
    return max(FILL, -(-count // FILL) * FILL)
