# SPDX-License-Identifier: AGPL-3.0-or-later
"""Merkle trees of RFC 6962: hashes, proofs made from whatever holds the hashes, and their verification.

A reader is a function `(level, index)` that gives the hash of the perfect subtree over the 2**level leaves
that begin with leaf index * 2**level. Nothing here holds a tree or does I/O.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from hmac import compare_digest
from typing import Final

from amana.protocol.errors import ProtocolError

HASH_BYTES: Final = 32
MAX_SIZE: Final = 2**53 - 1  # What JSON carries exactly (docs/protocol.md §1).
MAX_PROOF_HASHES: Final = 63  # C2SP tlog-witness: more cannot be needed.
EMPTY_ROOT: Final = hashlib.sha256(b"").digest()

HashReader = Callable[[int, int], bytes]


class ProofInvalid(ProtocolError):
    """An inclusion or consistency proof does not lead where it should."""

    slug = "proof-invalid"
    title = "The proof does not fit the tree, its size, or what it should prove."


def leaf_hash(entry: bytes) -> bytes:
    """Return the hash of a leaf: SHA-256 of 0x00 and the entry (RFC 6962 §2.1)."""
    return hashlib.sha256(b"\0" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node: SHA-256 of 0x01 and both children (RFC 6962 §2.1)."""
    return hashlib.sha256(b"\1" + left + right).digest()


def perfect_subtrees(start: int, end: int) -> Iterator[tuple[int, int]]:
    """Give `(level, index)` of the perfect subtrees that make up leaves [start, end), left to right.

    `start` must be a multiple of the largest power of two below the number of leaves, as in every
    subtree of a Merkle tree.
    """
    while start < end:
        level = (end - start).bit_length() - 1
        yield level, start >> level
        start += 1 << level


def subtree_hash(read: HashReader, start: int, end: int) -> bytes:
    """Return MTH(D[start:end]) of RFC 6962 §2.1, for a subtree that the whole tree has."""
    return _folded([read(level, index) for level, index in perfect_subtrees(start, end)])


def root_hash(read: HashReader, size: int) -> bytes:
    """Return the root of the first `size` leaves."""
    return subtree_hash(read, 0, size)


def inclusion_proof(read: HashReader, index: int, size: int) -> list[bytes]:
    """Return the path from leaf `index` to the root of `size` leaves (RFC 6962 §2.1.1)."""
    if not 0 <= index < size:
        raise ProofInvalid(title="There is no such leaf in a tree of this size.")
    return [subtree_hash(read, *span) for span in reversed(_siblings(index, size))]


def consistency_proof(read: HashReader, old: int, size: int) -> list[bytes]:
    """Return the proof that the tree of `size` leaves continues that of `old` leaves (RFC 6962 §2.1.2)."""
    if not 0 <= old <= size:
        raise ProofInvalid(title="A smaller tree does not continue a larger one.")
    if old in {0, size}:
        return []
    # The deepest subtree that ends with leaf old-1 and is whole in both trees.
    level = (old & -old).bit_length() - 1
    start = old - (1 << level)
    proof = [] if start == 0 else [read(level, start >> level)]
    spans = [span for span in _siblings(start, size) if span[1] <= start or span[0] >= old]
    return proof + [subtree_hash(read, *span) for span in reversed(spans)]


def _siblings(index: int, size: int) -> list[tuple[int, int]]:
    """Return the spans beside the path to a leaf, from the root down."""
    spans, start, end = [], 0, size
    while end - start > 1:
        split = start + (1 << (end - start - 1).bit_length() - 1)
        if index < split:
            spans.append((split, end))
            end = split
        else:
            spans.append((start, split))
            start = split
    return spans


def verify_inclusion(
    leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes
) -> None:
    """Verify that the tree with this root holds the leaf with this hash (RFC 9162 §2.1.3.2)."""
    if not 0 <= index < size <= MAX_SIZE:
        raise ProofInvalid
    _check_hashes(leaf, root, *proof)
    place, last, found = index, size - 1, leaf
    for beside in proof:
        if last == 0:
            raise ProofInvalid
        if place & 1 or place == last:
            found = node_hash(beside, found)
            while not place & 1 and place:
                place >>= 1
                last >>= 1
        else:
            found = node_hash(found, beside)
        place >>= 1
        last >>= 1
    if last or not compare_digest(found, root):
        raise ProofInvalid


def verify_consistency(
    old: int, size: int, old_root: bytes, root: bytes, proof: Sequence[bytes]
) -> None:
    """Verify that the tree of `size` leaves continues that of `old` leaves (RFC 9162 §2.1.4.2).

    The empty tree is continued by every tree and proves nothing; its root must be that of no leaves.
    """
    if not 0 <= old <= size <= MAX_SIZE:
        raise ProofInvalid
    _check_hashes(old_root, root, *proof)
    if old in {0, size}:
        expected = EMPTY_ROOT if old == 0 else root
        if proof or not compare_digest(old_root, expected):
            raise ProofInvalid
        if size == 0 and not compare_digest(root, EMPTY_ROOT):
            raise ProofInvalid
        return
    # Where the old tree is one perfect subtree, its root begins the path and is not repeated in it.
    path = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    if not path:
        raise ProofInvalid
    place, last = old - 1, size - 1
    while place & 1:
        place >>= 1
        last >>= 1
    found_old = found = path[0]
    for beside in path[1:]:
        if last == 0:
            raise ProofInvalid
        if place & 1 or place == last:
            found_old, found = node_hash(beside, found_old), node_hash(beside, found)
            while not place & 1 and place:
                place >>= 1
                last >>= 1
        else:
            found = node_hash(found, beside)
        place >>= 1
        last >>= 1
    if last or not (compare_digest(found_old, old_root) and compare_digest(found, root)):
        raise ProofInvalid


def _check_hashes(*hashes: bytes) -> None:
    if len(hashes) > MAX_PROOF_HASHES + 2 or any(len(one) != HASH_BYTES for one in hashes):
        raise ProofInvalid


class Frontier:
    """A tree that only grows: the perfect subtrees of its leaves, largest first; at most 53 hashes."""

    def __init__(self, size: int = 0, hashes: Sequence[bytes] = ()) -> None:
        if not 0 <= size <= MAX_SIZE or len(hashes) != size.bit_count():
            raise ProofInvalid(title="So many subtrees do not make a tree of this size.")
        _check_hashes(*hashes)
        self.size = size
        self.hashes = list(hashes)

    @classmethod
    def of(cls, read: HashReader, size: int) -> "Frontier":
        """Take up a tree where it stands."""
        return cls(size, [read(level, index) for level, index in perfect_subtrees(0, size)])

    def append(self, leaf: bytes) -> None:
        """Add the hash of the next leaf."""
        found, rest = leaf, self.size
        while rest & 1:
            found = node_hash(self.hashes.pop(), found)
            rest >>= 1
        self.hashes.append(found)
        self.size += 1

    def root(self) -> bytes:
        """Return the root hash."""
        return _folded(self.hashes)


def _folded(hashes: Sequence[bytes]) -> bytes:
    """Join perfect subtrees, largest first, to the hash of the tree that they make up."""
    if not hashes:
        return EMPTY_ROOT
    *others, found = hashes
    for left in reversed(others):
        found = node_hash(left, found)
    return found
