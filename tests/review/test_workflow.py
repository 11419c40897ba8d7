"""The table of transitions is the whole workflow."""

import itertools

import pytest

from amana.intake.models import State
from amana.protocol.action import ACTIONS
from amana.review.workflow import TRANSITIONS, after


@pytest.mark.parametrize(("state", "action"), list(itertools.product(State, ACTIONS)))
def test_only_what_stands_in_the_table_happens(state: State, action: str) -> None:
    expected = {
        (State.RECEIVED, "open"): State.IN_REVIEW,
        (State.IN_REVIEW, "open"): State.IN_REVIEW,
    }
    assert after(state, action) == expected.get((state, action))


def test_nothing_in_the_table_touches_what_has_not_arrived() -> None:
    assert State.ARRIVING not in {state for state, _ in TRANSITIONS}
    assert State.ARRIVING not in TRANSITIONS.values()
