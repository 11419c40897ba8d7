# SPDX-License-Identifier: AGPL-3.0-or-later
"""A proof that can be carried by hand: leaf number, path and checkpoint in one text (C2SP tlog-proof@v1)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from amana.protocol.checkpoint import (
    LIMIT_BYTES as NOTE_LIMIT_BYTES,
)
from amana.protocol.checkpoint import (
    Cosigner,
    Note,
    NoteKey,
    SignedCheckpoint,
    open_checkpoint,
    parse_checkpoint,
    parse_note,
)
from amana.protocol.encoding import b64, unb64
from amana.protocol.errors import ProtocolError
from amana.protocol.merkle import (
    HASH_BYTES,
    MAX_PROOF_HASHES,
    ProofInvalid,
    leaf_hash,
    verify_inclusion,
)

HEADER: Final = "c2sp.org/tlog-proof@v1"
EXTRA_LIMIT_BYTES: Final = 64 * 1024
LIMIT_BYTES: Final = NOTE_LIMIT_BYTES + 2 * EXTRA_LIMIT_BYTES
SUFFIX: Final = ".tlog-proof"
_NO_PROOF: Final = "This is no proof of a log."
_INDEX: Final = re.compile(r"index (0|[1-9][0-9]{0,15})")


@dataclass(frozen=True)
class TlogProof:
    """A proof whose form was checked; `verify` tells whether it proves anything. `extra` is not authenticated."""

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: Note
    extra: bytes = b""

    def __bytes__(self) -> bytes:
        lines = [HEADER]
        if self.extra:
            lines.append(f"extra {b64(self.extra)}")
        lines += [f"index {self.index}", *map(b64, self.hashes)]
        return ("\n".join(lines) + f"\n\n{self.checkpoint}").encode()

    @classmethod
    def parse(cls, data: bytes) -> "TlogProof":
        """Read a proof of at most 256 KiB; the checkpoint in it has the limits of checkpoints."""
        if len(data) > LIMIT_BYTES:
            raise ProofInvalid(title=_NO_PROOF)
        # The first empty line ends the proof's own part; the checkpoint holds another.
        head, blank, note = data.partition(b"\n\n")
        try:
            lines = head.decode("ascii").split("\n")
            extra = b""
            if lines.pop(0) != HEADER or not blank:
                raise ProofInvalid(title=_NO_PROOF)
            if lines and lines[0].startswith("extra "):
                extra = unb64(lines.pop(0).removeprefix("extra "))
                if not 0 < len(extra) <= EXTRA_LIMIT_BYTES:
                    raise ProofInvalid(title=_NO_PROOF)
            index = _INDEX.fullmatch(lines.pop(0)) if lines else None
            if index is None or len(lines) > MAX_PROOF_HASHES:
                raise ProofInvalid(title=_NO_PROOF)
            hashes = tuple(unb64(line, HASH_BYTES) for line in lines)
        except (UnicodeDecodeError, ProtocolError):
            raise ProofInvalid(title=_NO_PROOF) from None
        return cls(int(index[1]), hashes, parse_note(note), extra)

    def verify(
        self,
        entry: bytes,
        log: NoteKey,
        cosigners: Sequence[Cosigner] = (),
        quorum: int = 0,
    ) -> SignedCheckpoint:
        """Verify that the log held `entry` under its checkpoint; returns the checkpoint and who cosigned it."""
        signed = open_checkpoint(bytes(self.checkpoint), log, cosigners, quorum)
        checkpoint = signed.checkpoint
        verify_inclusion(
            leaf_hash(entry), self.index, checkpoint.size, self.hashes, checkpoint.root
        )
        return signed

    @property
    def origin(self) -> str:
        """The log that the checkpoint names; believed only after `verify`."""
        return parse_checkpoint(self.checkpoint.text).origin

    @property
    def size(self) -> int:
        """The size that the checkpoint states; believed only after `verify`."""
        return parse_checkpoint(self.checkpoint.text).size
