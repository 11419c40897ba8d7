# SPDX-License-Identifier: AGPL-3.0-or-later
"""Draw the states of a case into docs/workflow.md, from the table in the code."""

from pathlib import Path

from amana.intake.workflow import diagram

PAGE = Path(__file__).parents[1] / "docs" / "workflow.md"
INTRODUCTION = """\
# How a case moves

Drawn from `amana.intake.workflow` by `make openapi`; a test compares the two. What is not in the drawing does not
happen: the server answers `state-forbids`. A decision is the first reader's alone and has a sealed reason.

`withdraw` and `take-back` are the witness's, with the codename; whoever has the case loses it at that moment. `ask`
brings a question to the witness (docs/protocol.md §8). The answer arrives as a case of its own, and the server does not
learn that it is one, so the reader says `resume`; a decision needs no `resume` before. `reopen` takes a decision back,
with a sealed reason; where nobody has a decided case any more, whoever holds a grant can `claim` it first. No command
leads to `expire` yet: retention brings it.

"""


def text() -> str:
    """Return the page."""
    return f"{INTRODUCTION}```mermaid\n{diagram()}\n```\n"


if __name__ == "__main__":
    PAGE.write_text(text(), encoding="utf-8")
