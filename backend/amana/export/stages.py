# SPDX-License-Identifier: AGPL-3.0-or-later
"""How an export moves: a table. What is not in it does not happen."""

from enum import StrEnum


class Stage(StrEnum):
    """Where an export stands."""

    PENDING = "pending"
    """Asked for; a second person has not decided."""
    APPROVED = "approved"
    """The client of whoever asked may assemble it."""
    REFUSED = "refused"
    EXPORTED = "exported"
    """A sealed bundle was made; from here on nothing can be recalled."""
    HANDED_OVER = "handed-over"
    """The partner signed for it."""
    ENDED = "ended"
    """The witness withdrew before it left."""


UNFINISHED = (Stage.PENDING, Stage.APPROVED)
LEFT = (Stage.EXPORTED, Stage.HANDED_OVER)

TRANSITIONS: dict[tuple[Stage, str], Stage] = {
    (Stage.PENDING, "approve"): Stage.APPROVED,
    (Stage.PENDING, "refuse"): Stage.REFUSED,
    (Stage.APPROVED, "refuse"): Stage.REFUSED,
    (Stage.APPROVED, "complete"): Stage.EXPORTED,
    (Stage.EXPORTED, "receipt"): Stage.HANDED_OVER,
    **{(stage, "end"): Stage.ENDED for stage in UNFINISHED},
}


def after(stage: str, step: str) -> Stage | None:
    """Return the stage after a step, or None where the table has none."""
    return TRANSITIONS.get((Stage(stage), step))
