# SPDX-License-Identifier: AGPL-3.0-or-later
"""Check the time stamps of a bundle, and say in words until when an authority says that the case existed.

Every stamp must hold by itself, whoever made it; it counts only if it stands under a certificate that whoever
checks trusts, and got from the authority. Nobody else can say whom to trust, least of all the organisation
whose word the stamp is to replace. A bundle without stamps is no fault, and proves no time.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cryptography import x509

from amana.client.errors import NotChecked, NotVerified
from amana.protocol.bundle import STAMPS, stamp_path
from amana.protocol.checkpoint import NoteKey, parse_checkpoint, parse_note
from amana.protocol.errors import ProtocolError
from amana.protocol.timestamp import (
    Stamp,
    TimestampInvalid,
    read_chain,
    stamped_bytes,
    verify_stamp,
)
from amana.protocol.tlogproof import TlogProof

NOTHING: Final = "no independent time stamp"
_FILE: Final = re.compile(
    rf"{STAMPS}([1-9][0-9]{{0,4}})/(checkpoint|([0-9]{{5}})\.proof|[a-z0-9][a-z0-9-]{{0,31}}\.(?:tsr|pem))"
)
_NAMED: Final = 4


@dataclass(frozen=True)
class Provable:
    """An event that the log holds: its leaf, and where."""

    leaf: bytes
    origin: str
    place: int


def check_stamps(
    files: Mapping[str, bytes],
    events: Mapping[int, Provable],
    logs: Mapping[str, NoteKey],
    arrival: bytes,
    trusted: Sequence[x509.Certificate],
) -> str:
    """Check all stamps and return what they show; `arrival` is the leaf of the testimony's arrival.

    Raises NotVerified and ProtocolError for a stamp that does not hold, and NotChecked where those that hold show
    nothing of the arrival to whoever checks, so that nobody reads it as a proof.
    """
    earliest: dict[int, Stamp] = {}
    unknown: set[str] = set()
    for number, names in _folders(files).items():
        stamped = files[stamp_path(number, "checkpoint")]
        covered = _covered(files, number, names, stamped, events, logs)
        for name in (one.removesuffix(".tsr") for one in names if one.endswith(".tsr")):
            stamp = _stamp(files, number, name, stamped, trusted)
            if stamp is None:
                unknown.add(_itself(files, number, name, stamped).authority)
                continue
            for one in covered:
                if one not in earliest or stamp.at < earliest[one].at:
                    earliest[one] = stamp
    said = _words(earliest, unknown, events, arrival)
    if said.startswith(NOTHING):
        raise NotChecked(said)
    return said


def _folders(files: Mapping[str, bytes]) -> dict[int, list[str]]:
    """Return the names in each folder; they are counted from 1, and hold nothing that belongs to nothing."""
    found: dict[int, list[str]] = {}
    for path in files:
        if path.startswith(STAMPS):
            form = _FILE.fullmatch(path)
            if form is None:
                raise NotVerified(f"{path} does not belong to a time stamp.")
            found.setdefault(int(form[1]), []).append(form[2])
    if sorted(found) != list(range(1, len(found) + 1)):
        raise NotVerified("The time stamps are not counted from 1.")
    for number, names in found.items():
        stamps, chains, proofs = (
            {one.removesuffix(end) for one in names if one.endswith(end)}
            for end in (".tsr", ".pem", ".proof")
        )
        if "checkpoint" not in names or not stamps or stamps != chains or not proofs:
            raise NotVerified(f"{stamp_path(number, '')} lacks a part of a time stamp.")
    return dict(sorted(found.items()))


def _covered(
    files: Mapping[str, bytes],
    number: int,
    names: Sequence[str],
    stamped: bytes,
    events: Mapping[int, Provable],
    logs: Mapping[str, NoteKey],
) -> list[int]:
    """Return which events the tree of a stamped checkpoint held.

    There is a proof at least, each holds this checkpoint, and verifying it verifies the log's signature too.
    """
    note = parse_note(stamped)
    key = logs.get(parse_checkpoint(note.text).origin)
    if key is None:
        raise NotVerified(f"{stamp_path(number, 'checkpoint')} is of a log that no root pins.")
    if stamped_bytes(note, key) != stamped:
        raise NotVerified(f"{stamp_path(number, 'checkpoint')} is not in the form that is stamped.")
    covered = []
    for name in sorted(one for one in names if one.endswith(".proof")):
        path = stamp_path(number, name)
        event = events.get(int(name.removesuffix(".proof")))
        proof = TlogProof.parse(files[path])
        if event is None or bytes(proof.checkpoint) != stamped or proof.extra:
            raise NotVerified(f"{path} is about something else.")
        proof.verify(event.leaf, key)
        if (key.name, proof.index) != (event.origin, event.place):
            raise NotVerified(f"{path} gives the event another place.")
        covered.append(int(name.removesuffix(".proof")))
    return covered


def _itself(files: Mapping[str, bytes], number: int, name: str, stamped: bytes) -> Stamp:
    """Verify a stamp under the chain that came with it, and nothing else."""
    path = stamp_path(number, f"{name}.tsr")
    try:
        chain = read_chain(files[stamp_path(number, f"{name}.pem")])
        stamp = verify_stamp(files[path], stamped, chain[-1:], chain)
        if stamp.chain != chain:
            raise TimestampInvalid("timestamp-certificates", "Its chain is another one.")
    except ProtocolError as error:
        raise NotVerified(f"{path}: {error.title}", slug=error.slug) from None
    return stamp


def _stamp(
    files: Mapping[str, bytes],
    number: int,
    name: str,
    stamped: bytes,
    trusted: Sequence[x509.Certificate],
) -> Stamp | None:
    """Verify a stamp, and return it if it stands under a trusted certificate."""
    path = stamp_path(number, f"{name}.tsr")
    chain = _itself(files, number, name, stamped).chain
    try:
        return verify_stamp(files[path], stamped, trusted, chain)
    except TimestampInvalid as error:
        if error.slug != "timestamp-untrusted":
            raise NotVerified(f"{path}: {error.title}", slug=error.slug) from None
        return None


def _words(
    earliest: Mapping[int, Stamp],
    unknown: set[str],
    events: Mapping[int, Provable],
    arrival: bytes,
) -> str:
    others = ", ".join(sorted(unknown)[:_NAMED])
    if not earliest:
        if not unknown:
            return f"{NOTHING}: the bundle holds none"
        return (
            f"{NOTHING} of an authority that you trust: it holds stamps of {others}. Get that authority's certificate"
            " from itself, and give it with --authority"
        )
    first = next(
        (earliest[n] for n, one in events.items() if one.leaf == arrival and n in earliest), None
    )
    said = f"{NOTHING} of the arrival"
    if first is not None:
        said = f"the testimony existed at the latest on {_when(first)}"
    last = max(earliest.values(), key=lambda one: one.at)
    more = f"; the last of them at the latest on {_when(last)}" if len(events) > 1 else ""
    also = f"; not counted: stamps of {others}" if unknown else ""
    return f"{said}; {len(earliest)} of {len(events)} events are stamped{more}{also}"


def _when(stamp: Stamp) -> str:
    return f"{stamp.at:%Y-%m-%d at %H:%M:%S} UTC, says {stamp.authority}"
