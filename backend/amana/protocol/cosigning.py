# SPDX-License-Identifier: AGPL-3.0-or-later
"""What a log sends to its cosigners and what they answer (C2SP tlog-witness, docs/protocol.md §10.7)."""

import re
from dataclasses import dataclass
from typing import Final

from amana.protocol.checkpoint import LIMIT_BYTES as NOTE_LIMIT_BYTES
from amana.protocol.checkpoint import Note, parse_note
from amana.protocol.encoding import b64, unb64
from amana.protocol.errors import ProtocolError
from amana.protocol.merkle import HASH_BYTES, MAX_PROOF_HASHES, MAX_SIZE

PATH: Final = "/add-checkpoint"
SIZE_TYPE: Final = "text/x.tlog.size"
_HASH_LINE_BYTES: Final = 45
LIMIT_BYTES: Final = 32 + MAX_PROOF_HASHES * _HASH_LINE_BYTES + NOTE_LIMIT_BYTES
ANSWER_LIMIT_BYTES: Final = 64 * 1024
_OLD: Final = re.compile(rb"old (0|[1-9][0-9]{0,15})")
_SIZE: Final = re.compile(rb"(0|[1-9][0-9]{0,15})\n")


class AddCheckpointInvalid(ProtocolError):
    """A request to a cosigner, or its answer, is not in its form."""

    slug = "add-checkpoint-invalid"
    title = "This is not a request to cosign a checkpoint, or no answer to one."


@dataclass(frozen=True)
class AddCheckpoint:
    """A checkpoint with the proof that it continues the tree of `old` leaves; only its form was checked."""

    old: int
    proof: tuple[bytes, ...]
    checkpoint: Note

    def __bytes__(self) -> bytes:
        head = "".join(f"{line}\n" for line in (f"old {self.old}", *map(b64, self.proof)))
        return head.encode("ascii") + b"\n" + bytes(self.checkpoint)

    @classmethod
    def parse(cls, data: bytes) -> "AddCheckpoint":
        """Read a request of at most 131 KiB; raises AddCheckpointInvalid, and nothing else."""
        if len(data) > LIMIT_BYTES:
            raise AddCheckpointInvalid
        # The first empty line ends the proof; the checkpoint holds another.
        head, blank, note = data.partition(b"\n\n")
        first, *lines = head.split(b"\n")
        old = _OLD.fullmatch(first)
        if old is None or not blank or len(lines) > MAX_PROOF_HASHES:
            raise AddCheckpointInvalid
        try:
            proof = tuple(unb64(line.decode("ascii"), HASH_BYTES) for line in lines)
            return cls(_size(old[1]), proof, parse_note(note))
        except (ProtocolError, UnicodeDecodeError):
            raise AddCheckpointInvalid from None


def write_size(size: int) -> bytes:
    """Return the body of a 409: the size of the newest tree that was cosigned."""
    return b"%d\n" % size


def parse_size(body: bytes) -> int:
    """Read the body of a 409."""
    found = _SIZE.fullmatch(body)
    if found is None:
        raise AddCheckpointInvalid
    return _size(found[1])


def _size(digits: bytes) -> int:
    size = int(digits)
    if size > MAX_SIZE:
        raise AddCheckpointInvalid
    return size
