"""The table of transitions is the whole workflow, and what it promises holds for every way through it."""

import itertools
from pathlib import Path

import pytest

from amana.intake.models import State
from amana.intake.workflow import DECIDED, DECISIONS, OPEN, TRANSITIONS, after

DIAGRAM = Path(__file__).parents[2] / "docs" / "workflow.md"
ACTIONS = sorted({action for _, action in TRANSITIONS})


@pytest.mark.parametrize(
    ("path", "end"),
    [
        (["claim", "open", "accept"], State.ACCEPTED),
        (["claim", "release", "claim", "decline"], State.DECLINED),
        (["claim", "ask", "resume", "duplicate"], State.DUPLICATE),
        (["hand-over", "claim", "ask", "ask", "refer"], State.REFERRED),
        (["claim", "hand-over"], State.RECEIVED),
        (["claim", "accept", "open", "reopen"], State.IN_REVIEW),
        (["withdraw", "take-back"], State.RECEIVED),
        (["claim", "refer", "withdraw"], State.WITHDRAWN),
        (["claim", "decline", "expire"], State.EXPIRED),
    ],
)
def test_a_case_goes_this_way(path: list[str], end: State) -> None:
    state = State.RECEIVED
    for action in path:
        following = after(state, action)
        assert following is not None, (state, action)
        state = following
    assert state is end


def test_nothing_in_the_table_touches_what_has_not_arrived() -> None:
    assert State.ARRIVING not in {state for state, _ in TRANSITIONS}
    assert State.ARRIVING not in TRANSITIONS.values()


@pytest.mark.parametrize(("state", "action"), list(itertools.product(State, ACTIONS)))
def test_every_step_keeps_the_promises(state: State, action: str) -> None:
    following = after(state, action)
    if action == "withdraw":
        # A witness can withdraw whatever was received and is still there.
        assert (following is State.WITHDRAWN) == (state in {*OPEN, *DECIDED})
    if action in DECISIONS:
        # Nobody decides what nobody claimed, nor anything twice.
        assert (following is not None) == (state in {State.IN_REVIEW, State.WAITING})
    if action == "open":
        assert following in {None, state}, "reading changes nothing"
        assert following is None or state is not State.RECEIVED, "an unclaimed case is read"
    if state is State.WITHDRAWN:
        assert following is None or action == "take-back"
    if state is State.EXPIRED:
        assert following is None, "what expired comes back"


def test_the_drawing_is_that_of_the_table() -> None:
    from scripts.write_workflow import text

    assert DIAGRAM.read_text("utf-8") == text(), "run 'make openapi'"
