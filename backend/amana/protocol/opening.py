# SPDX-License-Identifier: AGPL-3.0-or-later
"""An opening (docs/protocol.md §11): shows that one sealed file holds one plaintext, and opens nothing else.

It holds the file key. The header's MAC commits to that key, so the ciphertext has this one reading: a verifier
that did not check the MAC could be shown another.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import BinaryIO, Final

from amana.protocol import age, schema
from amana.protocol.encoding import b64, canonical, check_sha256_hex, parse_canonical, unb64
from amana.protocol.errors import ProtocolError
from amana.protocol.sealing import HEADER_SIZE, Digests, Identity, Kind, opened_blocks

LIMIT_BYTES: Final = 512
KINDS: Final = (Kind.FILE, Kind.ACCOUNT)
"""What can be opened for a court: the account and the files, never a manifest, a note or a grant."""


class OpeningDiffers(ProtocolError):
    """The sealed file opens with this key, but is not what the opening says."""

    slug = "opening-differs"
    title = "The sealed file or what is in it is not what the opening says."


_OPENING: Final[schema.Checks] = {
    "v": schema.among(1),
    "sealed_sha256": check_sha256_hex,
    "file_key": lambda value: unb64(value, age.FILE_KEY),
    "sha256": check_sha256_hex,
    "len": schema.is_counting,
}


@dataclass(frozen=True, repr=False)
class Opening:
    """The key of one sealed file, and what the file and its plaintext must be: hex SHA-256, bytes."""

    sealed_sha256: str
    file_key: bytes
    sha256: str
    len: int

    def __bytes__(self) -> bytes:
        return canonical(
            {
                "v": 1,
                "sealed_sha256": self.sealed_sha256,
                "file_key": b64(self.file_key),
                "sha256": self.sha256,
                "len": self.len,
            }
        )

    @classmethod
    def parse(cls, data: bytes) -> "Opening":
        """Read an opening of at most 512 bytes."""
        document = parse_canonical(data, limit=LIMIT_BYTES)
        fields = schema.checked_by(_OPENING, document, "opening-invalid")
        return cls(
            sealed_sha256=fields["sealed_sha256"],
            file_key=unb64(fields["file_key"], age.FILE_KEY),
            sha256=fields["sha256"],
            len=fields["len"],
        )

    def blocks(self, sealed: BinaryIO) -> Generator[memoryview, None, Digests]:
        """Give the plaintext of a sealed file, in constant memory; it counts when this returns.

        Raises NotSealed, CannotOpen (`header-altered` for another key than the header commits to), BadFrame and
        OpeningDiffers.
        """
        found = yield from opened_blocks(sealed, self._unlock, KINDS)
        if (found.sealed_sha256, found.sha256, found.length) != (
            self.sealed_sha256,
            self.sha256,
            self.len,
        ):
            raise OpeningDiffers
        return found

    def verify(self, sealed: BinaryIO, progress: Callable[[int], object] | None = None) -> Digests:
        """Check that a sealed file holds the plaintext that this names; raises as `blocks` does."""
        blocks = self.blocks(sealed)
        while True:
            try:
                data = next(blocks)
            except StopIteration as end:
                digests: Digests = end.value
                return digests
            if progress:
                progress(len(data))

    def _unlock(self, header: age.Header) -> bytes:
        age.check_mac(header, self.file_key)
        return self.file_key


def make_opening(
    sealed: BinaryIO, case_key: Identity, *, sealed_sha256: str, sha256: str, length: int
) -> Opening:
    """Recover the file key of a sealed file that stands at its beginning, with the case key.

    The hashes are those of the witness's manifest; `verify` shows whether they hold. Raises NotSealed, CannotOpen.
    """
    header = age.read_header(sealed.read(HEADER_SIZE))
    return Opening(sealed_sha256, age.file_key(header, case_key), sha256, length)
