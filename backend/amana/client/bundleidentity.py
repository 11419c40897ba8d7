# SPDX-License-Identifier: AGPL-3.0-or-later
"""What a bundle holds of who the witness is: under which policy, and under which release of the custodians."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from typing import Any, Final

from amana.client.errors import NotVerified
from amana.client.released import Given, Wanted, check_release
from amana.protocol.bundle import MAX_SMALL_BYTES, Index
from amana.protocol.consent import Entry, in_force
from amana.protocol.directory import Directory
from amana.protocol.encoding import parse_canonical
from amana.protocol.policy import IDENTITY_LEVELS
from amana.protocol.release import leaving_level

RELEASES: Final = "data/releases/"


def release_path(vault: str) -> str:
    """Return where the signed release of a vault lies."""
    return f"{RELEASES}{vault}.json"


def vaulted_objects(vaults: Iterable[Mapping[str, Any]], index: Index) -> frozenset[int]:
    """Return the numbers of the objects that stay in the vault, of the vaults as a receipt lists them."""
    leaving = {one.vault for one in index.released}
    return frozenset(i for one in vaults if one["vault"] not in leaving for i in one["objects"])


def check_identity(
    small: Mapping[str, bytes],
    index: Index,
    vaults: Sequence[Mapping[str, Any]],
    events: Sequence[Mapping[str, Any]],
    chain: Sequence[Entry],
    days: Sequence[date],
    directory_of: Callable[[int], Directory],
) -> str:
    """Check that what is included of the identity was released for this, and say so. Raises NotVerified, ProtocolError.

    `vaults` are those of the receipt, `events` what the log tells, `days` those of request, approval and making.
    """
    listed = {one.vault: one.request for one in index.released}
    there = {path for path in small if path.startswith(RELEASES)}
    if there != {release_path(one) for one in listed}:
        raise NotVerified("The bundle lacks a release, or holds one of nothing.")
    level = leaving_level(index.purpose) if listed else IDENTITY_LEVELS[0]
    if index.identity_level != level:
        raise NotVerified("The identity level is not the one that this purpose asks for.")
    if not listed:
        return "not included: who the witness is, and untouched originals, stay with the custodians"
    policy = in_force(chain, max(days))[0].seq
    told = []
    for vault, request in listed.items():
        wanted = Wanted(
            index.deployment, index.case, vault, request, index.maker, index.to, index.purpose
        )
        k = next((one["k"] for one in vaults if one["vault"] == vault), None)
        if k is None:
            raise NotVerified(f"The witness left no {vault} in the vault.")
        evidence = parse_canonical(small[release_path(vault)], limit=MAX_SMALL_BYTES)
        given = check_release(evidence, wanted, days, directory_of, k)
        _check_logged(given, events, request)
        told.append(
            f"{vault}: included, covered by version {policy} of the witness's policy and release {request}"
            f" by {', '.join(given.custodians)}, until {given.last_day}"
        )
    kept = [f"{one['vault']}: not included" for one in vaults if one["vault"] not in listed]
    return "; ".join([*told, *kept])


def _check_logged(given: Given, events: Sequence[Mapping[str, Any]], request: str) -> None:
    logged = [one.get("action") for one in events]
    if any(one not in logged for one in given.acts):
        raise NotVerified("The log does not tell of the release.")
    if any((one.get("kind"), one.get("request")) == ("release-ended", request) for one in events):
        raise NotVerified("The release had ended before the bundle was made.", slug="release-over")
