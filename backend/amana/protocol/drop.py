# SPDX-License-Identifier: AGPL-3.0-or-later
"""The dead drop (docs/protocol.md §8): shards of equal slots; everybody downloads them whole, one person reads a few."""

from collections.abc import Iterator
from typing import Final

from amana.protocol.encoding import tagged_sha256
from amana.protocol.errors import CannotOpen, ProtocolError
from amana.protocol.sealing import (
    Identity,
    Kind,
    Recipient,
    buckets,
    check_sealed,
    open_sealed,
    sealed_size,
)

SLOT_BYTES: Final = sealed_size(buckets(Kind.REPLY)[0])
FILL: Final = 128
"""A shard is filled with dummies to a multiple of so many slots."""
MAX_SLOTS: Final = 4096
MAX_BITS: Final = 16


class ShardInvalid(ProtocolError):
    slug = "shard-invalid"
    title = "The shard is not made of whole slots, or has too few or too many."


class ShardUnknown(ProtocolError):
    slug = "shard-unknown"
    title = "There is no such shard."


def shard_of(reply: Recipient, bits: int) -> int:
    """Return the shard in which replies to `reply` lie: the first `bits` bits of its tagged hash."""
    if not 0 <= bits <= MAX_BITS:
        raise ShardUnknown
    return int.from_bytes(tagged_sha256("amana-shard-v1", reply.raw), "big") >> (256 - bits)


def check_shard(bits: int, shard: int) -> None:
    """Refuse a shard that is out of range."""
    if not (0 <= bits <= MAX_BITS and 0 <= shard < 2**bits):
        raise ShardUnknown


def check_slot(slot: bytes) -> None:
    """Refuse what is no sealed reply by its form."""
    check_sealed(Kind.REPLY, slot, len(slot))


def slots_of(data: bytes) -> list[bytes]:
    """Take a shard apart. Raises ShardInvalid."""
    count, rest = divmod(len(data), SLOT_BYTES)
    if rest or count % FILL or not 0 < count <= MAX_SLOTS:
        raise ShardInvalid
    return [data[at : at + SLOT_BYTES] for at in range(0, len(data), SLOT_BYTES)]


def scan(data: bytes, identity: Identity) -> Iterator[bytes]:
    """Yield what the slots hold that are sealed to `identity`; all others look alike to it, dummies too."""
    for slot in slots_of(data):
        try:
            yield open_sealed(slot, identity, Kind.REPLY)
        except (CannotOpen, ProtocolError):
            continue
