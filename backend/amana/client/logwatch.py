# SPDX-License-Identifier: AGPL-3.0-or-later
"""Look at a public log from outside: its checkpoint and who cosigned it, proofs from its tiles, what was seen before."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from amana.client.errors import NotVerified, Usage
from amana.client.log import Fetch, fetch_tile, log_name
from amana.protocol.checkpoint import LIMIT_BYTES as NOTE_LIMIT_BYTES
from amana.protocol.checkpoint import (
    Checkpoint,
    Cosigner,
    NoteKey,
    SignedCheckpoint,
    open_checkpoint,
    parse_checkpoint,
    parse_note,
)
from amana.protocol.directory import RootPins
from amana.protocol.encoding import sha256_hex
from amana.protocol.errors import ProtocolError
from amana.protocol.merkle import (
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    root_hash,
    verify_consistency,
    verify_inclusion,
)
from amana.protocol.tiles import ENTRIES, WIDTH, Tile, TileReader, split_bundle

CLOCKS: Final = timedelta(days=1)
"""How far the clock of a phone may be behind that of a cosigner: what seems to come from the future is only fresher."""


class LogNotVerified(NotVerified):
    """A log does not show what it must; `evidence` are checkpoints that contradict each other, where there are two."""

    def __init__(self, slug: str, title: str, evidence: tuple[bytes, ...] = ()) -> None:
        self.evidence = evidence
        super().__init__(title, slug=slug)


def _tampered() -> LogNotVerified:
    return LogNotVerified("log-tampered", "The public log was altered, or a part of it is missing.")


@dataclass(frozen=True)
class PublicLog:
    """One log at one server. What it gives is believed only as far as a checkpoint of its key vouches for it."""

    fetch: Fetch
    key: NoteKey

    @property
    def name(self) -> str:
        """Where it is found below `/log/`."""
        return log_name(self.key)

    def checkpoint(
        self, name: str = "checkpoint", cosigners: tuple[Cosigner, ...] = ()
    ) -> SignedCheckpoint | None:
        """Return the newest checkpoint, or with `cosigned` the newest that cosigners signed; None if there is none."""
        data = self.fetch(f"{self.name}/{name}", NOTE_LIMIT_BYTES)
        if data is None:
            return None
        try:
            return open_checkpoint(data, self.key, cosigners)
        except ProtocolError:
            raise _tampered() from None

    def verify_last(self, entry: bytes, checkpoint: Checkpoint) -> None:
        """Verify that an entry is the last one under a checkpoint; raises NotVerified otherwise."""
        last = checkpoint.size - 1
        if last < 0:
            raise not_logged()
        try:
            read = self._reader(checkpoint.size)
            found = read(0, last)
            proof = inclusion_proof(read, last, checkpoint.size)
            verify_inclusion(found, last, checkpoint.size, proof, checkpoint.root)
        except ProtocolError:
            raise _tampered() from None
        if found != leaf_hash(entry):
            raise not_logged()

    def verify_continues(self, old: SignedCheckpoint, new: SignedCheckpoint) -> None:
        """Verify that one tree continues another; raises NotVerified with both checkpoints where it does not."""
        before, after = old.checkpoint, new.checkpoint
        both = (bytes(old.note), bytes(new.note))
        if after.size < before.size:
            raise LogNotVerified(
                "log-rollback", "The public log is shorter than it was when it was seen last.", both
            )
        try:
            read = self._reader(after.size)
            # What the new tree has in the place of the old one: once that is proven, it is the same or another history.
            instead = root_hash(read, before.size)
            proof = consistency_proof(read, before.size, after.size)
            verify_consistency(before.size, after.size, instead, after.root, proof)
        except ProtocolError:
            if before.size == after.size and before.root != after.root:
                raise forked(*both) from None
            raise _tampered() from None
        if instead != before.root:
            raise forked(*both)

    def entries(self, start: int, end: int) -> Iterator[bytes]:
        """Give the entries from `start` to `end`, which is the size of a tree; nothing vouches for them yet."""
        for index in range(start // WIDTH, -(-end // WIDTH)):
            tile = Tile(ENTRIES, index, min(WIDTH, end - index * WIDTH))
            try:
                found = split_bundle(tile, self._fetch(tile))
            except ProtocolError:
                raise _tampered() from None
            yield from found[max(0, start - index * WIDTH) :]

    def _reader(self, size: int) -> TileReader:
        return TileReader(self._fetch, size)

    def _fetch(self, tile: Tile) -> bytes:
        try:
            return fetch_tile(self.fetch, self.key, tile)
        except NotVerified:
            raise _tampered() from None


def not_logged() -> LogNotVerified:
    return LogNotVerified(
        "directory-not-logged", "The directory is not the newest one in the public log."
    )


def forked(*evidence: bytes) -> LogNotVerified:
    return LogNotVerified(
        "log-forked",
        "The public log shows another history than before. Keep what you have and tell the officers.",
        evidence,
    )


def check_quorum(signed: SignedCheckpoint, pins: RootPins, now: datetime) -> None:
    """Check that enough operators cosigned a checkpoint, and recently; each counts once."""
    if len(signed.cosigned) < pins.quorum:
        raise LogNotVerified(
            "log-quorum", "Too few of the cosigners that the root names vouch for the public log."
        )
    if fresh(signed.cosigned, pins, now) < pins.quorum:
        raise LogNotVerified(
            "log-stale",
            "What cosigners vouch for is too old, or the clock of this device is wrong.",
        )


def fresh(cosigned: Mapping[str, int], pins: RootPins, now: datetime) -> int:
    """Return how many operators signed recently."""
    oldest, newest = (now - pins.freshness).timestamp(), (now + CLOCKS).timestamp()
    return sum(oldest <= time <= newest for time in cosigned.values())


class SeenCheckpoint:
    """The newest checkpoint that a device accepted of one log, in a file of its cache."""

    def __init__(self, path: Path, log: PublicLog) -> None:
        self._path = path
        self._log = log

    def follow(self, new: SignedCheckpoint) -> None:
        """Verify that `new` continues what was seen, and remember it; keeps both where it does not."""
        old = self._read()
        if old is not None:
            try:
                self._log.verify_continues(old, new)
            except LogNotVerified as refused:
                if refused.slug == "log-forked":
                    keep_evidence(self._path, refused.evidence)
                raise
        if old is None or old.checkpoint != new.checkpoint:
            draft = self._path.with_name(f"{self._path.name}.new")
            draft.write_bytes(bytes(new.note))
            draft.replace(self._path)

    def _read(self) -> SignedCheckpoint | None:
        if not self._path.exists():
            return None
        try:
            data = self._path.read_bytes()
            if parse_checkpoint(parse_note(data).text).origin != self._log.key.name:
                # A new log under a new root; the old one is closed.
                return None
            return open_checkpoint(data, self._log.key)
        except ProtocolError:
            # A root may pin a new key for the same log; what was seen counts, whoever signed it.
            return unsigned(data)


def unsigned(data: bytes) -> SignedCheckpoint:
    try:
        note = parse_note(data)
        return SignedCheckpoint(parse_checkpoint(note.text), note, {})
    except ProtocolError:
        # To go on would be to forget what was seen, which is what an attacker wants.
        raise Usage(
            "What this device remembers of the public log is damaged.", slug="cache-unusable"
        ) from None


def keep_evidence(beside: Path, evidence: tuple[bytes, ...]) -> Path | None:
    """Write checkpoints that contradict each other into one file beside another; returns where they are."""
    if not evidence:
        return None
    content = b"\n".join(evidence)
    path = beside.with_name(f"{beside.name}.fork-{sha256_hex(content)[:16]}.txt")
    if not path.exists():
        path.write_bytes(content)
    return path
