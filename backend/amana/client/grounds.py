# SPDX-License-Identifier: AGPL-3.0-or-later
"""What cannot have happened with a case unless something else had: an event that was left out may show by that."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

ARRIVAL: Final = "testimony-received"
PRESUPPOSES: Final[Mapping[str, str]] = {
    "ask": "claim",
    "decide": "claim",
    "export-approve": "export-request",
    "export-complete": "export-approve",
    "export-receipt": "export-complete",
    "export-request": "decide",
    "open": "claim",
    "release": "claim",
    "release-decline": "release-request",
    "release-open": "release-share",
    "release-share": "release-request",
    "reopen": "decide",
    "resume": "ask",
    "testimony-expired": "decide",
    "verification-mended": "verification-failed",
    "witness-take-back": "witness-withdraw",
}
"""What each needs before it, as the states of a case have it (docs/workflow.md)."""


def what_of(event: Mapping[str, Any]) -> str:
    """Return what happened, in the word by which events are shown; raises KeyError and TypeError for what is no event."""
    kind = str(event["kind"])
    if kind == "action":
        return str(event["action"]["action"])
    return f"witness-{event['statement']}" if kind == "control-statement" else kind


def is_decided(before: Iterable[str]) -> bool:
    """Tell whether a decision was made and stands; which one it was, its events do not say."""
    decided = False
    for what in before:
        if what in {"decide", "reopen", "witness-withdraw"}:
            decided = what == "decide"
    return decided


def depth_of(what: str) -> int:
    """Return how much must have happened before something: what has no time of its own is ordered by that."""
    if what == ARRIVAL:
        return 0
    needed = PRESUPPOSES.get(what)
    return 1 if needed is None else 1 + depth_of(needed)


def ungrounded(what: str, before: Collection[str]) -> str | None:
    """Return why something cannot have happened after what happened `before`, None if it can."""
    # What was withdrawn while it still arrived has no arrival.
    if (what == ARRIVAL) if before else (what not in {ARRIVAL, "witness-withdraw"}):
        return "the arrival is not the first event, or not the only one"
    needed = PRESUPPOSES.get(what)
    if needed is not None and needed not in before:
        return f"{what} without {needed} before it: an event is missing"
    return None
