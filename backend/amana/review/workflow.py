# SPDX-License-Identifier: AGPL-3.0-or-later
"""How a case moves from state to state: a table. What is not in it does not happen."""

from amana.intake.models import State

TRANSITIONS: dict[tuple[State, str], State] = {
    (State.RECEIVED, "open"): State.IN_REVIEW,
    (State.IN_REVIEW, "open"): State.IN_REVIEW,
}


def after(state: str, action: str) -> State | None:
    """Return the state after an action, or None where the table has none."""
    return TRANSITIONS.get((State(state), action))
