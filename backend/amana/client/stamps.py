# SPDX-License-Identifier: AGPL-3.0-or-later
"""Fetch the time stamps that cover the events of a case, for its bundle; what does not hold by itself is left out.

Whom to trust is for whoever checks the bundle: here it is only seen that each stamp is over its checkpoint and
under the chain that comes with it.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from amana.client.errors import NotVerified
from amana.client.log import Fetch, fetch_tile, log_name
from amana.protocol.bundle import stamp_path
from amana.protocol.checkpoint import LIMIT_BYTES as NOTE_LIMIT_BYTES
from amana.protocol.checkpoint import Note, NoteKey, open_checkpoint, parse_note
from amana.protocol.errors import ProtocolError
from amana.protocol.merkle import MAX_SIZE, inclusion_proof
from amana.protocol.tiles import TileReader
from amana.protocol.timestamp import (
    CHAIN_LIMIT_BYTES,
    LIMIT_BYTES,
    read_chain,
    stamped_bytes,
    verify_stamp,
)
from amana.protocol.tlogproof import TlogProof

LIST_LIMIT_BYTES: Final = 4096
MAX_AUTHORITIES: Final = 4
_LINE: Final = re.compile(r"([1-9][0-9]{0,15}) ([a-z0-9][a-z0-9-]{0,31})")


@dataclass(frozen=True)
class Placed:
    """An event under its number in the bundle: its leaf, and its place in a log."""

    number: int
    leaf: bytes
    origin: str
    place: int


@dataclass
class _Wanted:
    """What is to be fetched of one stamped checkpoint."""

    authorities: set[str] = field(default_factory=set)
    events: list[Placed] = field(default_factory=list)


def fetch_stamps(
    fetch: Fetch, logs: Sequence[NoteKey], events: Sequence[Placed]
) -> dict[str, bytes]:
    """Return files of a bundle: of each event and authority the earliest stamped checkpoint that covers it.

    Raises NetworkFailed, and NotVerified where a log does not hold what it had stamped.
    """
    files: dict[str, bytes] = {}
    number = 0
    for key in logs:
        own = sorted((one for one in events if one.origin == key.name), key=lambda one: one.place)
        for size, wanted in sorted(_wanted(fetch, key, own).items()):
            found = _stamped(fetch, key, size, wanted)
            if found is not None:
                number += 1
                files |= {stamp_path(number, name): data for name, data in found.items()}
    return files


def _wanted(fetch: Fetch, key: NoteKey, events: Sequence[Placed]) -> Mapping[int, _Wanted]:
    """Ask which stamps cover the events; between two answers all events have the same."""
    wanted: dict[int, _Wanted] = {}
    left = list(events)
    while left:
        found = _list(fetch, key, left[0].place)
        if not found:
            break
        nearest = min(size for size, _ in found)
        covered = [one for one in left if one.place < nearest]
        for size, authority in found:
            one = wanted.setdefault(size, _Wanted())
            one.authorities.add(authority)
            one.events += [event for event in covered if event not in one.events]
        left = left[len(covered) :]
    return wanted


def _list(fetch: Fetch, key: NoteKey, place: int) -> list[tuple[int, str]]:
    data = fetch(f"{log_name(key)}/stamps/{place}", LIST_LIMIT_BYTES) or b""
    lines = [_LINE.fullmatch(line) for line in data.decode("ascii", "replace").split("\n")]
    found = [(int(line[1]), line[2]) for line in lines if line]
    return [one for one in found if place < one[0] <= MAX_SIZE][:MAX_AUTHORITIES]


def _stamped(fetch: Fetch, key: NoteKey, size: int, wanted: _Wanted) -> dict[str, bytes] | None:
    """Fetch the stamps over one checkpoint, and prove that its tree held the events."""
    folder = f"{log_name(key)}/stamp/{size}"
    stamped = fetch(f"{folder}/checkpoint", NOTE_LIMIT_BYTES)
    note = None if stamped is None else _checkpoint(stamped, key, size)
    if stamped is None or note is None:
        return None
    files = dict(_stamps(fetch, folder, stamped, wanted))
    if not files:
        return None
    files["checkpoint"] = stamped
    read = TileReader(lambda tile: fetch_tile(fetch, key, tile), size)
    for one in wanted.events:
        try:
            proof = TlogProof(one.place, tuple(inclusion_proof(read, one.place, size)), note)
            proof.verify(one.leaf, key)
        except ProtocolError:
            raise NotVerified(
                "The log does not hold an event in the tree that it had stamped.",
                slug="log-tampered",
            ) from None
        files[f"{one.number:05d}.proof"] = bytes(proof)
    return files


def _checkpoint(stamped: bytes, key: NoteKey, size: int) -> Note | None:
    try:
        signed = open_checkpoint(stamped, key)
        is_right = signed.checkpoint.size == size and stamped_bytes(signed.note, key) == stamped
    except ProtocolError:
        return None
    return parse_note(stamped) if is_right else None


def _stamps(
    fetch: Fetch, folder: str, stamped: bytes, wanted: _Wanted
) -> Iterator[tuple[str, bytes]]:
    for name in sorted(wanted.authorities):
        response = fetch(f"{folder}/{name}.tsr", LIMIT_BYTES)
        pem = fetch(f"{folder}/{name}.pem", CHAIN_LIMIT_BYTES)
        if response is None or pem is None:
            continue
        try:
            chain = read_chain(pem)
            verify_stamp(response, stamped, chain[-1:], chain)
        except ProtocolError:
            # It would prove nothing to anybody.
            continue
        yield f"{name}.tsr", response
        yield f"{name}.pem", pem
