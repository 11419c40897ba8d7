# SPDX-License-Identifier: AGPL-3.0-or-later
"""Judge from what was signed whether custodians released a vault so that it may leave to a partner.

Used by whoever approves an export, and by whoever checks its bundle; the server's word counts with neither.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from amana.client.errors import NotVerified
from amana.protocol.action import Action, body_sha256, parse_action
from amana.protocol.directory import READER_ROLES, Directory, Person
from amana.protocol.encoding import check_id, check_sha256_hex
from amana.protocol.release import parse_request

LEAST_CUSTODIANS = 2
"""No vault opens with fewer, whatever its k is."""


@dataclass(frozen=True)
class Wanted:
    """What a release must be for, if a vault is to leave under it."""

    deployment: str
    case: str
    vault: str
    request: str
    reader: str
    to: str
    purpose: str


@dataclass(frozen=True)
class Given:
    """A release that fits: by whom, and until when; `acts` are the signed actions that show it."""

    custodians: tuple[str, ...]
    last_day: date
    acts: tuple[Mapping[str, Any], ...]


def check_release(
    evidence: object,
    wanted: Wanted,
    days: Iterable[date],
    directory_of: Callable[[int], Directory],
    k: int | None = None,
) -> Given:
    """Verify the signed request and the custodians' signed answers: for this reader, partner and purpose, on these days.

    With `k`, a whole set of so many custodians must have answered; else of two at least. Raises NotVerified, ProtocolError.
    """
    if not isinstance(evidence, dict):
        raise NotVerified("What custodians signed about the release is missing.")
    request, last_day = _check_request(evidence["request"], wanted, days, directory_of)
    answered: dict[str, set[tuple[str, ...]]] = {}
    acts: dict[str, Action] = {}
    for one in evidence["shares"]:
        share = _check_share(one, wanted, directory_of)
        acts[share.actor] = share
        answered.setdefault(share.actor, set()).update(_subsets(one["body"]))
    whole = [
        subset
        for subset in sorted(set().union(*answered.values()) if answered else ())
        if all(subset in answered.get(one, ()) for one in subset)
        and (len(subset) == k if k is not None else len(subset) >= LEAST_CUSTODIANS)
    ]
    if not whole:
        raise NotVerified("Not enough custodians released it.", slug="release-missing")
    shown = (request, *(acts[one] for one in whole[0]))
    return Given(whole[0], last_day, tuple(one.document for one in shown))


def _check_request(
    signed: Mapping[str, Any],
    wanted: Wanted,
    days: Iterable[date],
    directory_of: Callable[[int], Directory],
) -> tuple[Action, date]:
    action = _act(signed, "release-request", wanted, directory_of, READER_ROLES)
    asked = parse_request(signed["body"])
    fits = (
        (asked.request, asked.vault, action.actor) == (wanted.request, wanted.vault, wanted.reader)
        and asked.to == wanted.to
        and asked.purpose == wanted.purpose
    )
    if not fits:
        raise NotVerified(
            "The release was asked for something else: another vault, reader, partner or purpose.",
            slug="release-missing",
        )
    first = action.made_at.date()
    last = first + timedelta(days=asked.days)
    if not all(first <= day <= last for day in days):
        raise NotVerified(f"The release works from {first} to {last} only.", slug="release-over")
    return action, last


def _check_share(
    signed: Mapping[str, Any], wanted: Wanted, directory_of: Callable[[int], Directory]
) -> Action:
    action = _act(signed, "release-share", wanted, directory_of, frozenset({"custodian"}))
    if signed["body"]["request"] != wanted.request or action.actor == wanted.reader:
        raise NotVerified("A custodian released something else.", slug="release-missing")
    return action


def _act(
    signed: Mapping[str, Any],
    kind: str,
    wanted: Wanted,
    directory_of: Callable[[int], Directory],
    roles: frozenset[str],
) -> Action:
    action, body = parse_action(signed["action"]), signed["body"]
    person: Person | None = directory_of(action.directory).person(action.actor)
    if person is None or not person.roles & roles:
        raise NotVerified("Nobody who may release it, or ask for it, signed the release.")
    action.verify(person.signing_key)
    if (action.action, action.case, action.deployment) != (
        kind,
        wanted.case,
        wanted.deployment,
    ) or action.body_sha256 != body_sha256(body):
        raise NotVerified("What was signed about the release is something else.")
    return action


def _subsets(body: Mapping[str, Any]) -> Sequence[tuple[str, ...]]:
    found = []
    for one in body["shares"]:
        check_sha256_hex(one["sha256"])
        subset = tuple(check_id(member) for member in one["subset"])
        if subset != tuple(sorted(set(subset))):
            raise NotVerified("A set of custodians is not in its form.")
        found.append(subset)
    return found
