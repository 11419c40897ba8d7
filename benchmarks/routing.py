# SPDX-License-Identifier: AGPL-3.0-or-later
"""How long routing takes to choose, beside only putting the same cases in order."""

import time
from datetime import date
from random import Random

from amana.protocol.policy import FLAGS, RESTRICTING_FLAGS
from amana.routing.rules import CaseFacts, ReaderFacts, Rules, order, route
from benchmarks.load import medians

CASES, READERS, DESK_READERS = 10_000, 50, 16
DAY = date(2026, 11, 23)


def measure(runs: int) -> dict[str, float]:
    """Return medians over `runs` in seconds: choosing for 10,000 cases among 50 readers, and only putting them in order."""
    random = Random(1)
    readers = [
        ReaderFacts(
            f"reader-{n}",
            frozenset({f"desk-{n % 4}"}),
            RESTRICTING_FLAGS if n % 3 else frozenset(),
            languages=frozenset(random.sample(["ar", "en", "ku", "tr"], 2)),
            load=random.randrange(20),
        )
        for n in range(READERS)
    ]
    cases = []
    for n in range(CASES):
        desk = f"desk-{n % 4}"
        here = [one.id for one in readers if desk in one.desks][:DESK_READERS]
        cases.append(
            CaseFacts(
                f"case-{n}",
                desk,
                random.choice(["ar", "ku"]),
                frozenset(random.sample(FLAGS, random.randrange(3))),
                DAY,
                frozenset(here),
                paid=random.randrange(20),
            )
        )
    return medians(lambda: _once(cases, readers), runs)


def _once(cases: list[CaseFacts], readers: list[ReaderFacts]) -> dict[str, float]:
    began = time.perf_counter()
    assert len(order(cases)) == CASES
    ordered = time.perf_counter()
    choices = route(cases, readers, Rules(cap_per_day=CASES), DAY)
    done = time.perf_counter()
    assert len(choices) == CASES
    return {"order_s": ordered - began, "route_s": done - ordered}
