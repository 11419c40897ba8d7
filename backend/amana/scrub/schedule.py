# SPDX-License-Identifier: AGPL-3.0-or-later
"""When what is stored is read again, and how much of it in one run. Pure: what was checked longest ago comes first."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Schedule:
    """Everything at least once in `days`, and at most `bytes_per_run` at a time."""

    days: int
    bytes_per_run: int

    @property
    def slack_days(self) -> int:
        """For how long something may be due before it is late: what came on one day need not be read on one day."""
        return max(1, self.days // 4)

    def due_since(self, today: date) -> date:
        """Return the last day of an earlier check that makes another one due today."""
        return today - timedelta(days=self.days - self.slack_days)

    def late_since(self, today: date) -> date:
        """Return the last day of an earlier check that should have been followed by another before today."""
        return today - timedelta(days=self.days + 1)


def within(parts: Iterable[T], size: Callable[[T], int], budget: int) -> Iterator[T]:
    """Yield parts in their order while their bytes fit into a budget; the first one always.

    None is passed over for a smaller one, so that a large object, which is read whole or not at all, gets its turn.
    """
    left = budget
    for place, part in enumerate(parts):
        if place and size(part) > left:
            return
        left -= size(part)
        yield part
