# SPDX-License-Identifier: AGPL-3.0-or-later
"""Judge a checkpoint and cosign it if its log only grew; remembers before it signs (C2SP tlog-witness)."""

import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from amana.cosigner.heads import Head, Heads
from amana.protocol.checkpoint import (
    Checkpoint,
    CheckpointInvalid,
    KeyType,
    Note,
    NoteKey,
    cosign,
    open_checkpoint,
    parse_checkpoint,
)
from amana.protocol.cosigning import SIZE_TYPE, AddCheckpoint, write_size
from amana.protocol.errors import ProtocolError
from amana.protocol.merkle import EMPTY_ROOT, ProofInvalid, verify_consistency
from amana.protocol.signing import SigningKey

TEXT: Final = "text/plain; charset=utf-8"


@dataclass(frozen=True)
class Answer:
    """What is answered to a request; `said` is for the cosigner's own log and names nobody."""

    status: int
    body: bytes
    said: str
    content_type: str = TEXT


class Judge:
    """A cosigner: a key under a name, the logs that it watches, and what it remembers of them.

    Shared by the threads of one process; one checkpoint is judged, remembered and signed at a time, so that
    two can never both follow from the same tree.
    """

    def __init__(
        self,
        name: str,
        key: SigningKey,
        logs: Iterable[NoteKey],
        heads: Heads,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.vkey = NoteKey(name, KeyType.COSIGNER, key.public).vkey
        self._name = name
        self._key = key
        self._logs: dict[str, list[NoteKey]] = {}
        for log in logs:
            self._logs.setdefault(log.name, []).append(log)
        self._heads = heads
        self._clock = clock
        self._lock = threading.Lock()

    def add_checkpoint(self, data: bytes) -> Answer:
        """Answer a request; raises OSError where nothing can be remembered, and then signs nothing."""
        try:
            request = AddCheckpoint.parse(data)
            checkpoint = parse_checkpoint(request.checkpoint.text)
        except ProtocolError:
            return Answer(400, b"", "malformed")
        keys = self._logs.get(checkpoint.origin)
        if keys is None:
            return Answer(404, b"", "unknown-log")
        signed = _signed_by(request.checkpoint, keys)
        if signed is None:
            return Answer(403, b"", "not-signed")
        if request.old > checkpoint.size:
            return Answer(400, b"", "older-than-old")
        with self._lock:
            return self._follow(request, checkpoint, signed)

    def _follow(self, request: AddCheckpoint, checkpoint: Checkpoint, signed: Note) -> Answer:
        head = self._heads.get(checkpoint.origin)
        seen = Checkpoint(checkpoint.origin, 0, EMPTY_ROOT) if head is None else head.checkpoint
        if checkpoint.size == seen.size and checkpoint.root != seen.root:
            if head is not None:
                self._heads.keep_evidence(signed)
            return Answer(409, write_size(seen.size), "fork", SIZE_TYPE)
        if request.old != seen.size:
            return Answer(409, write_size(seen.size), "other-size", SIZE_TYPE)
        try:
            verify_consistency(
                seen.size, checkpoint.size, seen.root, checkpoint.root, request.proof
            )
        except ProofInvalid:
            return Answer(422, b"", "inconsistent")
        if head is None or checkpoint.size > seen.size:
            self._heads.put(Head(checkpoint, signed))
        signature = cosign(self._name, self._key, signed.text, int(self._clock()))
        return Answer(200, signature.line.encode("utf-8"), "cosigned")


def _signed_by(note: Note, keys: Iterable[NoteKey]) -> Note | None:
    """Return a checkpoint with no signatures but those of its log, or None where those do not verify."""
    verified = []
    for key in keys:
        with suppress(CheckpointInvalid):
            open_checkpoint(bytes(note), key)
            verified.append((key.name, key.id))
    own = tuple(one for one in note.signatures if (one.name, one.key_id) in verified)
    return Note(note.text, own) if own else None
