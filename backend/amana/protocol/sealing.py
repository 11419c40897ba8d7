# SPDX-License-Identifier: AGPL-3.0-or-later
"""How things are sealed (docs/protocol.md §2): age files with one hybrid stanza and padded content.

One stanza only: the header MAC commits to the file key, the payload does not, so one file cannot
show two readers two texts. Nothing here writes a second form, and nothing here opens one.
"""

import hashlib
import os
import re
from collections.abc import Callable, Collection, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import cycle
from typing import BinaryIO, Final

from amana.protocol import age
from amana.protocol.age import BadHeader, Identity, Passphrase, Recipient
from amana.protocol.errors import NotSealed, ProtocolError

__all__ = [
    "HEADER_SIZE",
    "OVERHEAD",
    "BadFrame",
    "Digests",
    "Identity",
    "Kind",
    "Recipient",
    "SealedArmor",
    "SealedBucket",
    "SealedPlaintext",
    "SealedSize",
    "SealedStanza",
    "SealedStanzas",
    "TooLarge",
    "WrongLength",
    "buckets",
    "check_sealed",
    "check_size",
    "frame",
    "framed_from_sealed",
    "framed_size",
    "open_sealed",
    "open_stream",
    "open_with_passphrase",
    "opened_blocks",
    "padme",
    "seal",
    "seal_stream",
    "seal_with_passphrase",
    "sealed_size",
    "unframe",
]

HEADER_SIZE: Final = 1627
OVERHEAD: Final = HEADER_SIZE + age.NONCE  # 1643 bytes before the first chunk.
LENGTH_SIZE: Final = 8
MIN_FILE: Final = 64 * 1024
MAX_FRAMED: Final = 2**53 - 1  # Sizes travel as JSON numbers.
MAX_PASSPHRASE_FILE: Final = 1024 * 1024


class SealedPlaintext(NotSealed):
    """The object does not begin as an age file does."""

    slug = "sealed-plaintext"
    title = "This is not sealed: it does not begin as an age file does."


class SealedArmor(NotSealed):
    """The object is armored."""

    slug = "sealed-armor"
    title = "This is an armored age file; only binary age files are accepted."


class SealedStanza(NotSealed):
    """The object is sealed to a key of another type."""

    slug = "sealed-stanza"
    title = "This is sealed to a key of another type; only post-quantum keys (age1pq) are accepted."


class SealedStanzas(NotSealed):
    """The object is sealed to several keys."""

    slug = "sealed-stanzas"
    title = "This is sealed to more than one key; an object is sealed to exactly one."


class SealedSize(NotSealed):
    """The length is in no bucket."""

    slug = "sealed-size"
    title = "The length is in no bucket: the object is cut, extended, or was not padded."


class SealedBucket(NotSealed):
    """The length is in a bucket of another kind of object."""

    slug = "sealed-bucket"
    title = "The length is in a bucket of another kind of object."


class BadFrame(ProtocolError):
    """The opened plaintext is not a frame."""

    slug = "bad-frame"
    title = "What was sealed does not have the expected padding."


class TooLarge(ProtocolError):
    """No bucket is large enough."""

    slug = "too-large"
    title = "This is too large to be sealed as what it is."


class WrongLength(ProtocolError):
    """A source did not have the declared length."""

    slug = "wrong-length"
    title = "What was read does not have the length that was declared; did the file change?"


class Kind(StrEnum):
    """What a sealed object is; each kind has its own buckets."""

    GRANT = "grant"
    SHARE = "share"
    REPLY = "reply"
    REASON = "reason"
    NOTE = "note"
    MANIFEST = "manifest"
    ACCOUNT = "account"
    FILE = "file"


_BUCKETS: Final[dict[Kind, tuple[int, ...]]] = {
    Kind.GRANT: (256,),
    Kind.SHARE: (256,),
    Kind.REPLY: (4096,),
    Kind.REASON: (4096,),
    Kind.NOTE: (4096, 32768),
    Kind.MANIFEST: (8192, 32768, 131072),
    Kind.ACCOUNT: (32768, 131072),
    Kind.FILE: (),
}


# Frames and buckets


def buckets(kind: Kind) -> tuple[int, ...]:
    """Return the framed sizes of `kind`, ascending; none for FILE, which has PADME from 65536."""
    return _BUCKETS[kind]


def padme(size: int) -> int:
    """Round `size` (at least 2) up so that it tells O(log log size) bits (PURBs, PETS 2019, §4)."""
    exponent = size.bit_length() - 1
    mask = (1 << (exponent - exponent.bit_length())) - 1
    return (size + mask) & ~mask


def framed_size(kind: Kind, length: int) -> int:
    """Return the smallest bucket of `kind` that holds `length` bytes of data; raises TooLarge."""
    need = length + LENGTH_SIZE
    if kind is Kind.FILE:
        size = padme(max(need, MIN_FILE))
        if size > MAX_FRAMED:
            raise TooLarge
        return size
    for size in _BUCKETS[kind]:
        if need <= size:
            return size
    raise TooLarge


def frame(data: bytes, size: int) -> bytes:
    """Return `u64be length || data || zeros` of `size` bytes; raises TooLarge."""
    if len(data) + LENGTH_SIZE > size:
        raise TooLarge
    return (len(data).to_bytes(LENGTH_SIZE, "big") + data).ljust(size, b"\0")


def unframe(framed: bytes) -> bytes:
    """Return the data of a frame, whose padding must be zero; raises BadFrame."""
    end = LENGTH_SIZE + int.from_bytes(framed[:LENGTH_SIZE], "big")
    if len(framed) < max(end, LENGTH_SIZE) or framed.count(0, end) != len(framed) - end:
        raise BadFrame
    return framed[LENGTH_SIZE:end]


def sealed_size(framed: int) -> int:
    """Return the whole length of a sealed object whose framed plaintext has `framed` bytes."""
    return OVERHEAD + age.payload_size(framed)


def framed_from_sealed(size: int) -> int:
    """Return the framed length of a sealed object of `size` bytes; raises SealedSize."""
    chunks = -(-(size - OVERHEAD) // age.SEALED_CHUNK)
    framed = size - OVERHEAD - age.TAG * chunks
    if framed <= 0 or sealed_size(framed) != size:
        raise SealedSize
    return framed


def _is_bucket(kind: Kind, framed: int) -> bool:
    if kind is Kind.FILE:
        return MIN_FILE <= framed <= MAX_FRAMED and padme(framed) == framed
    return framed in _BUCKETS[kind]


# Form

# The one allowed header. Base64 without padding is canonical when the bits that stand for no byte
# are zero, which leaves few last characters: 4 after 1120 bytes, 16 after 32.
_HEADER = re.compile(
    rb"age-encryption\.org/v1\n"
    rb"-> mlkem768x25519 [A-Za-z0-9+/]{1493}[AQgw]\n"
    rb"[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]\n"
    rb"--- [A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]\n"
)
_ARMOR = b"-----BEGIN AGE ENCRYPTED FILE-----"
_STANZA_KIND = re.compile(rb"^-> ([^ \n]*)", re.MULTILINE)


def check_sealed(kind: Kind, head: bytes, size: int) -> None:
    """Check the form of a sealed object without opening it; raises NotSealed with the reason.

    `head` is how it begins (1643 bytes are enough, more do not harm), `size` its whole length.
    """
    if not _HEADER.match(head):
        raise _why_refused(head)
    check_size(kind, size)


def check_size(kind: Kind, size: int) -> None:
    """Check that a sealed object of this kind can have `size` bytes on the wire."""
    framed = framed_from_sealed(size)
    if not _is_bucket(kind, framed):
        raise SealedBucket if any(_is_bucket(other, framed) for other in Kind) else SealedSize


def _why_refused(head: bytes) -> NotSealed:
    head = head[:OVERHEAD]
    if not head.startswith(age.VERSION_LINE):
        return SealedArmor() if head.lstrip().startswith(_ARMOR) else SealedPlaintext()
    header, _, _ = head.partition(b"\n---")
    stanzas = _STANZA_KIND.findall(header)
    if len(stanzas) > 1:
        return SealedStanzas()
    if stanzas and stanzas[0] != age.HYBRID.encode():
        return SealedStanza()
    return BadHeader()


# Whole objects in memory


def seal(data: bytes, recipient: Recipient, kind: Kind) -> bytes:
    """Frame `data` to the smallest bucket of `kind` and seal it; raises TooLarge."""
    framed = frame(data, framed_size(kind, len(data)))
    key = os.urandom(age.FILE_KEY)
    return age.write_header(key, [recipient.wrap(key)]) + age.seal_payload(key, framed)


def open_sealed(data: bytes, identity: Identity, kind: Kind) -> bytes:
    """Check the form of a sealed object, open it, and return its data.

    Raises NotSealed, CannotOpen, or BadFrame.
    """
    check_sealed(kind, data, len(data))
    key = age.file_key(age.read_header(data[:HEADER_SIZE]), identity)
    return unframe(age.open_payload(key, data[HEADER_SIZE:]))


# Streams

_BLOCK_CHUNKS = 8
_BLOCK = _BLOCK_CHUNKS * age.CHUNK
_SEALED_BLOCK = _BLOCK_CHUNKS * age.SEALED_CHUNK
_BLOCKS_IN_FLIGHT = 8


@dataclass(frozen=True, slots=True)
class Digests:
    """What a stream was: hex SHA-256 and length of the data and of the sealed object."""

    sha256: str
    length: int
    sealed_sha256: str
    sealed_size: int


@dataclass(slots=True)
class _Block:
    """Buffers of one stretch of the stream; `hashing` must end before they are filled again."""

    plain: memoryview = field(default_factory=lambda: memoryview(bytearray(_BLOCK)))
    sealed: memoryview = field(default_factory=lambda: memoryview(bytearray(_SEALED_BLOCK)))
    hashing: list[Future[None]] = field(default_factory=list)

    def reclaim(self) -> None:
        for future in self.hashing:
            future.result()
        self.hashing.clear()


class _Hashing:
    """The two running digests of a stream, fed in order by one thread beside the caller's.

    Hashing twice takes longer than the cipher alone; hashlib and the cipher both release the GIL,
    so with two cores the hashes cost little.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._plain = hashlib.sha256()
        self._sealed = hashlib.sha256()
        self._blocks = [_Block() for _ in range(_BLOCKS_IN_FLIGHT)]
        self._length = 0
        self._sealed_size = 0

    def blocks(self) -> Iterator[_Block]:
        """Yield blocks that are free to be filled, without end."""
        for block in cycle(self._blocks):
            block.reclaim()
            yield block

    def plain(self, block: _Block, data: memoryview) -> None:
        self._length += len(data)
        block.hashing.append(self._thread.submit(self._plain.update, data))

    def sealed(self, block: _Block, data: memoryview) -> None:
        self._sealed_size += len(data)
        block.hashing.append(self._thread.submit(self._sealed.update, data))

    def finish(self) -> Digests:
        for block in self._blocks:
            block.reclaim()
        return Digests(
            self._plain.hexdigest(), self._length, self._sealed.hexdigest(), self._sealed_size
        )

    def close(self) -> None:
        self._thread.shutdown()


def seal_stream(
    source: BinaryIO,
    target: BinaryIO,
    recipient: Recipient,
    length: int,
    *,
    progress: Callable[[int], object] | None = None,
) -> Digests:
    """Seal exactly `length` bytes of `source` as a FILE into `target`, in constant memory.

    `progress` gets the number of data bytes done since its last call. `target` must not keep what
    it is given after `write` returned. Raises WrongLength when `source` does not end where
    `length` says, and TooLarge.
    """
    framed = framed_size(Kind.FILE, length)
    key, nonce = os.urandom(age.FILE_KEY), os.urandom(age.NONCE)
    cipher = age.PayloadCipher(key, nonce)
    head = memoryview(age.write_header(key, [recipient.wrap(key)]) + nonce)
    with closing(_Hashing()) as hashing:
        blocks = hashing.blocks()
        block = next(blocks)
        hashing.sealed(block, head)
        _write(target, head)
        prefix = length.to_bytes(LENGTH_SIZE, "big")
        left = length
        for start in range(0, framed, _BLOCK):
            plain = block.plain[: framed - start]
            plain[: len(prefix)] = prefix
            data = plain[len(prefix) : len(prefix) + left]
            padding = plain[len(prefix) + len(data) :]
            if _fill(source, data) != len(data):
                raise WrongLength
            padding[:] = bytes(len(padding))
            hashing.plain(block, data)
            last = start + _BLOCK >= framed
            sealed = block.sealed[: cipher.seal(plain, block.sealed, last=last)]
            hashing.sealed(block, sealed)
            _write(target, sealed)
            if progress and data:
                progress(len(data))
            prefix, left = b"", left - len(data)
            block = next(blocks)
        if source.read(1):
            raise WrongLength
        return hashing.finish()


def open_stream(
    source: BinaryIO,
    target: BinaryIO,
    identity: Identity,
    *,
    kind: Kind = Kind.FILE,
    progress: Callable[[int], object] | None = None,
) -> Digests:
    """Open a sealed object from `source` and write its data to `target`, in constant memory.

    What was written counts only when this returns: write to a temporary name. `progress` gets the
    number of data bytes done since its last call. Raises NotSealed, CannotOpen, or BadFrame.
    """
    blocks = opened_blocks(source, lambda header: age.file_key(header, identity), (kind,))
    while True:
        try:
            data = next(blocks)
        except StopIteration as end:
            digests: Digests = end.value
            return digests
        _write(target, data)
        if progress and data:
            progress(len(data))


def opened_blocks(
    source: BinaryIO, unlock: Callable[[age.Header], bytes], kinds: Collection[Kind]
) -> Generator[memoryview, None, Digests]:
    """Give the data of a sealed object block by block, and return what it was; in constant memory.

    `unlock` returns the file key of a header whose MAC it checked. A block is there until the next is asked
    for, and all of them count only when this returns. Raises NotSealed, CannotOpen, or BadFrame.
    """
    head = source.read(OVERHEAD)
    while len(head) < OVERHEAD and (more := source.read(OVERHEAD - len(head))):
        head += more
    if not _HEADER.match(head):
        raise _why_refused(head)
    if len(head) < OVERHEAD:
        raise SealedSize
    cipher = age.PayloadCipher(unlock(age.read_header(head)), head[HEADER_SIZE:])
    with closing(_Hashing()) as hashing:
        blocks = hashing.blocks()
        block = next(blocks)
        hashing.sealed(block, memoryview(head))
        size = _fill(source, block.sealed)
        left = None
        last = False
        while not last:
            # Only the end of the source tells the last chunk, so the next block is read first.
            following = next(blocks)
            more_size = _fill(source, following.sealed) if size == _SEALED_BLOCK else 0
            last = more_size == 0
            sealed = block.sealed[:size]
            hashing.sealed(block, sealed)
            plain = block.plain[: cipher.open(sealed, block.plain, last=last)]
            if left is None:
                left = int.from_bytes(plain[:LENGTH_SIZE], "big")
                plain = plain[LENGTH_SIZE:]
            data, padding = plain[:left], plain[left:]
            if bytes(padding) != bytes(len(padding)):
                raise BadFrame
            hashing.plain(block, data)
            yield data
            left -= len(data)
            block, size = following, more_size
        digests = hashing.finish()
    for kind in kinds:
        with suppress(NotSealed):
            check_sealed(kind, head, digests.sealed_size)
            break
    else:
        check_sealed(next(iter(kinds)), head, digests.sealed_size)
    if left:
        raise BadFrame
    return digests


def _fill(source: BinaryIO, view: memoryview) -> int:
    """Read until `view` is full or the source ends; return the number of bytes."""
    readinto: Callable[[memoryview], int | None] | None = getattr(source, "readinto", None)
    filled = 0
    while filled < len(view):
        if readinto:
            count = readinto(view[filled:]) or 0
        else:
            data = source.read(len(view) - filled)
            count = len(data)
            view[filled : filled + count] = data
        if not count:
            break
        filled += count
    return filled


def _write(target: BinaryIO, data: memoryview) -> None:
    """Write all of `data`, also to a raw file that takes less at once."""
    while data:
        data = data[target.write(data) :]


# Key files of staff


def seal_with_passphrase(data: bytes, passphrase: str, *, work_factor: int = 18) -> bytes:
    """Return a standard age file of at most 1 MiB of data under a passphrase; raises TooLarge."""
    if len(data) > MAX_PASSPHRASE_FILE:
        raise TooLarge
    key = os.urandom(age.FILE_KEY)
    stanza = Passphrase(passphrase, work_factor=work_factor).wrap(key)
    return age.write_header(key, [stanza]) + age.seal_payload(key, data)


def open_with_passphrase(data: bytes, passphrase: str, *, max_work_factor: int = 22) -> bytes:
    """Open an age file of at most 1 MiB of data.

    Raises WrongPassphrase, NotSealed, CannotOpen, or TooLarge.
    """
    if len(data) > age.MAX_HEADER + age.NONCE + age.payload_size(MAX_PASSPHRASE_FILE):
        raise TooLarge
    header = age.read_header(data)
    try:
        key = age.file_key(header, Passphrase(passphrase, max_work_factor=max_work_factor))
    except age.NoMatch:
        raise age.WrongPassphrase from None
    return age.open_payload(key, data[header.size :])
