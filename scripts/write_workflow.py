# SPDX-License-Identifier: AGPL-3.0-or-later
"""Draw the states of a case, and how long it is kept, into docs/workflow.md, from the tables in the code."""

from pathlib import Path

from amana.intake.retention import PERIOD_LIMITS, RETENTION, Allows, Periods
from amana.intake.workflow import diagram

PAGE = Path(__file__).parents[1] / "docs" / "workflow.md"
INTRODUCTION = """\
# How a case moves

Drawn from `amana.intake.workflow` by `make openapi`; a test compares the two. What is not in the drawing does not
happen: the server answers `state-forbids`. A decision is the first reader's alone and has a sealed reason.

`withdraw` and `take-back` are the witness's, with the codename; whoever has the case loses it at that moment. `ask`
brings a question to the witness (docs/protocol.md §8). The answer arrives as a case of its own, and the server does not
learn that it is one, so the reader says `resume`; a decision needs no `resume` before. `reopen` takes a decision back,
with a sealed reason; where nobody has a decided case any more, whoever holds a grant can `claim` it first. `expire`
is nobody's: it follows from the table below.

"""


KEEPING = """\

## How long it is kept

Drawn from `amana.intake.retention`. Every case that is kept has a review day: so many days after it came, was taken back
or was decided. What its witness allows on that day (`nothing`, any use, or a public archive) says what follows:

- **look**: a lead is told until they decide or prolong; nothing happens by itself.
- **expire**: its readers and leads are told; when `notice_days` are over and nobody prolonged it, it expires, and is
  destroyed as after a withdrawal.

A lead may prolong for up to a year, as often as needed, with a signed word why; not where the witness allows nothing. What
was accepted or referred the witness can keep too, by allowing an archive, which counts after the delay that they chose.

"""
PERIODS = """\

Days that an administrator sets with the other rules (`amana admin rules set`); what the witness lets nobody use is kept for
`unused_days` at most.

"""


def _table(titles: list[str], rows: list[list[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def keeping() -> str:
    """Return the table of what follows on a review day."""
    rows = [
        [state.value, f"`{period}`", *(follows[allowed].value for allowed in Allows)]
        for state, (period, follows) in RETENTION.items()
    ]
    return _table(["state", "kept for", *(f"allows {one.value}" for one in Allows)], rows)


def periods() -> str:
    """Return the table of periods and their limits."""
    usual = vars(Periods())
    rows = [
        [f"`{name}`", str(usual[name]), str(least), str(most)]
        for name, (least, most) in PERIOD_LIMITS.items()
    ]
    return _table(["period", "unless set", "least", "most"], rows)


def text() -> str:
    """Return the page."""
    drawing = f"```mermaid\n{diagram()}\n```\n"
    return f"{INTRODUCTION}{drawing}{KEEPING}{keeping()}{PERIODS}{periods()}"


if __name__ == "__main__":
    PAGE.write_text(text(), encoding="utf-8")
