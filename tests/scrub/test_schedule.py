"""When what is stored is read again: everything in time, never more than is allowed, and the longest ago first."""

from dataclasses import dataclass
from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from amana.scrub.schedule import Schedule, within

FIRST = date(2026, 11, 24)
SIZES = st.lists(st.integers(0, 100), max_size=40)


def size(part: int) -> int:
    return part


@given(SIZES, st.integers(1, 500))
def test_a_run_reads_what_fits_in_order_and_the_first_in_any_case(
    sizes: list[int], budget: int
) -> None:
    taken = list(within(sizes, size, budget))
    assert taken == sizes[: len(taken)]
    assert bool(taken) == bool(sizes)
    assert sum(taken) <= max(budget, *sizes[:1], 0)
    if len(taken) < len(sizes):
        assert sum(taken) + sizes[len(taken)] > budget


def test_nothing_is_looked_at_beyond_what_is_read() -> None:
    looked = []

    def parts() -> "list[int]":
        for one in (5, 5, 5, 5):
            looked.append(one)
            yield one

    assert list(within(parts(), size, 10)) == [5, 5]
    assert len(looked) == 3


@given(st.integers(2, 365), st.dates(date(2020, 1, 1), date(2100, 1, 1)))
def test_what_is_due_is_not_late_yet_and_is_due_again_only_later(days: int, today: date) -> None:
    schedule = Schedule(days, 1)
    assert today - timedelta(days=days) <= schedule.due_since(today) < today
    assert schedule.late_since(today) == today - timedelta(days=days + 1)
    assert schedule.slack_days >= 1


@dataclass
class Stored:
    size: int
    came_on: date
    checked_on: date


@given(
    st.integers(4, 60),
    st.lists(st.tuples(st.integers(1, 100), st.integers(0, 120)), min_size=1, max_size=30),
    st.integers(1, 4),
)
def test_everything_is_read_in_time_when_a_run_a_day_may_read_its_share(
    days: int, arrivals: list[tuple[int, int]], runs: int
) -> None:
    """Whatever comes when: with one run a day that may read what the slack needs, nothing is ever late."""
    total, largest = (f(size for size, _ in arrivals) for f in (sum, max))
    slack = Schedule(days, 1).slack_days
    schedule = Schedule(days, -(-total // slack) + largest)
    waiting = [Stored(size, day, day) for size, n in arrivals for day in [FIRST + timedelta(n)]]
    for n in range(360):
        today = FIRST + timedelta(days=n)
        there = [one for one in waiting if one.came_on <= today]
        for _ in range(runs):
            due = sorted(
                (one for one in there if one.checked_on <= schedule.due_since(today)),
                key=lambda one: one.checked_on,
            )
            read = list(within(due, lambda one: one.size, schedule.bytes_per_run))
            assert sum(one.size for one in read) <= schedule.bytes_per_run
            for one in read:
                one.checked_on = today
        assert not [one for one in there if one.checked_on <= schedule.late_since(today)]
