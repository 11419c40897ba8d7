"""Births and deaths in a shard, day after day: what a batch shows does not tell how many replies are in it."""

import random
from dataclasses import dataclass
from datetime import date, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amana.protocol.drop import FILL, MAX_SLOTS
from amana.replies.batches import (
    LONGEST_DAYS,
    PATIENT_BATCHES,
    SHORTEST_DAYS,
    births,
    last_day,
    last_day_if_older,
)

DAY = date(2026, 11, 24)


def after(days: int) -> date:
    return DAY + timedelta(days=days)


@dataclass
class Life:
    """A slot, as nobody sees it."""

    born_on: date
    last_day: date
    is_reply: bool
    seems_older: bool


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(0, 5), min_size=75, max_size=100), st.integers())
def test_a_shard_that_is_kept_up_shows_nothing_of_what_it_holds(
    asked: list[int], seed: int
) -> None:
    chance = random.Random(seed).randrange
    alive: list[Life] = []
    waiting: list[int] = []  # The day on which each was asked.
    behind = 0
    for number, new in enumerate(asked):
        today = after(number)
        waiting += [number] * new
        dead = [one for one in alive if one.last_day <= today]
        staying = [one for one in alive if one.last_day > today]
        take_all = behind >= PATIENT_BATCHES
        lasts = [one.last_day for one in staying]
        born = births(lasts, len(dead), len(waiting), today, chance, take_all=take_all)
        count = len(born.replies) + len(born.dummies)
        grows = count > len(dead)
        # As many are born as died, whatever they are; else the shard begins, or grows by one step.
        assert count - len(dead) == (FILL if grows else 0)
        assert not (grows and number) or take_all
        del waiting[: len(born.replies)]
        assert all(number - one <= PATIENT_BATCHES for one in waiting)
        behind = behind + 1 if waiting else 0
        alive = staying + [
            Life(today, last, is_reply, grows and not is_reply)
            for lasts, is_reply in ((born.replies, True), (born.dummies, False))
            for last in lasts
        ]
        assert len(alive) % FILL == 0
        for one in dead:
            life = (one.last_day - one.born_on).days
            assert one.seems_older or SHORTEST_DAYS <= life <= LONGEST_DAYS


@pytest.mark.parametrize(("asked_below", "slots"), [(1, FILL), (3, 2 * FILL), (7, 4 * FILL)])
def test_a_shard_grows_to_what_its_desks_need(asked_below: int, slots: int) -> None:
    draw = random.Random(7).randrange
    alive: list[date] = []
    waiting = behind = 0
    for today in map(after, range(365)):
        staying = [last for last in alive if last > today]
        waiting += draw(asked_below)
        born = births(
            staying,
            len(alive) - len(staying),
            waiting,
            today,
            draw,
            take_all=behind >= PATIENT_BATCHES,
        )
        waiting -= len(born.replies)
        behind = behind + 1 if waiting else 0
        alive = [*staying, *born.replies, *born.dummies]
    assert len(alive) == slots


def test_every_length_of_life_is_drawn_alike() -> None:
    seen = [(last_day(DAY, lambda _below, n=n: n) - DAY).days for n in range(21)]  # type: ignore[misc]
    assert seen == list(range(50, 71))
    asked: list[int] = []
    last_day(DAY, lambda below: asked.append(below) or 0)  # type: ignore[func-returns-value]
    assert asked == [21]


def test_a_first_shard_looks_as_if_it_had_been_there_before() -> None:
    chance = random.Random(1).randrange
    rests = [(last_day_if_older(DAY, chance) - DAY).days for _ in range(20_000)]
    assert min(rests) == 1
    assert max(rests) <= LONGEST_DAYS
    # In a shard of constant size with lives of 60 days on average one in sixty ends each day.
    for day in (1, 10, 30, 50):
        assert 0.6 < rests.count(day) / (20_000 / 60) < 1.5
    assert rests.count(70) < rests.count(60) < rests.count(50)
    # So some die at once, and a first question does not make the shard grow.
    born = births([], 0, 0, DAY, chance)
    assert len(born.dummies) == FILL
    assert sum(last <= after(7) for last in born.dummies) > 3


def test_what_does_not_fit_waits_until_the_shard_must_grow() -> None:
    chance = random.Random(1).randrange
    staying = [after(30)] * (FILL - 2)
    born = births(staying, 2, 5, DAY, chance)
    assert (len(born.replies), len(born.dummies)) == (2, 0)
    born = births(staying, 2, 5, DAY, chance, take_all=True)
    assert (len(born.replies), len(born.dummies)) == (5, FILL - 3)
    assert all(after(SHORTEST_DAYS) <= last <= after(LONGEST_DAYS) for last in born.replies)
    assert min(born.dummies) < after(SHORTEST_DAYS), "the new part dies from now on"


@given(st.integers(0, 300), st.integers(0, 300), st.integers())
def test_a_closing_shard_ends_with_its_last_reply(staying: int, waiting: int, seed: int) -> None:
    chance = random.Random(seed).randrange
    lasts = [after(1 + chance(LONGEST_DAYS)) for _ in range(staying)]
    born = births(lasts, 0, waiting, DAY, chance, is_closing=True)
    count = staying + len(born.replies) + len(born.dummies)
    assert count % FILL == 0
    assert len(born.replies) == waiting
    if count:
        assert max(born.dummies, default=DAY) <= max([*lasts, *born.replies])
    else:
        assert staying == waiting == 0


def test_no_shard_outgrows_what_clients_take() -> None:
    chance = random.Random(1).randrange
    full = [after(30)] * (MAX_SLOTS - 3)
    born = births(full, 5, 10, DAY, chance)
    assert (len(born.replies), len(born.dummies)) == (3, 0)
    born = births([after(30)] * MAX_SLOTS, 5, 10, DAY, chance)
    assert (born.replies, born.dummies) == ((), ())
