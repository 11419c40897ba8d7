# SPDX-License-Identifier: AGPL-3.0-or-later
"""How a case moves from state to state: a table. What is not in it does not happen."""

from amana.intake.models import State

OPEN = (State.RECEIVED, State.IN_REVIEW, State.WAITING)
"""Somebody still has to do something about the case."""
DECISIONS = {
    "accept": State.ACCEPTED,
    "decline": State.DECLINED,
    "duplicate": State.DUPLICATE,
    "refer": State.REFERRED,
}
DECIDED = tuple(DECISIONS.values())

TRANSITIONS: dict[tuple[State, str], State] = {
    (State.RECEIVED, "claim"): State.IN_REVIEW,
    # Whoever decided may be gone, and somebody must be able to read it again, or to reopen it.
    **{(state, "claim"): state for state in DECIDED},
    (State.RECEIVED, "hand-over"): State.RECEIVED,
    **{(state, "open"): state for state in (State.IN_REVIEW, State.WAITING, *DECIDED)},
    **{
        (state, action): State.RECEIVED
        for state in (State.IN_REVIEW, State.WAITING)
        for action in ("release", "hand-over")
    },
    (State.ACCEPTED, "export"): State.ACCEPTED,
    (State.IN_REVIEW, "ask"): State.WAITING,
    (State.WAITING, "ask"): State.WAITING,
    (State.WAITING, "resume"): State.IN_REVIEW,
    **{
        (state, decision): decided
        for state in (State.IN_REVIEW, State.WAITING)
        for decision, decided in DECISIONS.items()
    },
    **{(state, "reopen"): State.IN_REVIEW for state in DECIDED},
    **{(state, "withdraw"): State.WITHDRAWN for state in (*OPEN, *DECIDED)},
    (State.WITHDRAWN, "take-back"): State.RECEIVED,
    **{(state, "expire"): State.EXPIRED for state in DECIDED},
}


def after(state: str, action: str) -> State | None:
    """Return the state after an action, or None where the table has none."""
    return TRANSITIONS.get((State(state), action))


def diagram() -> str:
    """Draw the table as a Mermaid state diagram."""
    moves: dict[tuple[State, State], list[str]] = {}
    for (state, action), following in TRANSITIONS.items():
        moves.setdefault((state, following), []).append(action)
    lines = ["stateDiagram-v2", f"    [*] --> {_node(State.RECEIVED)}: the last byte arrived"]
    for (state, following), actions in sorted(moves.items()):
        lines.append(f"    {_node(state)} --> {_node(following)}: {', '.join(sorted(actions))}")
    return "\n".join(lines)


def _node(state: State) -> str:
    return state.value.replace("-", "_")
