"""Merkle trees: the reference vectors of RFC 6962, proofs of every leaf and size, and what must not pass for one."""

import os
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amana.protocol.merkle import (
    EMPTY_ROOT,
    MAX_SIZE,
    Frontier,
    HashReader,
    ProofInvalid,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    root_hash,
    verify_consistency,
    verify_inclusion,
)

# The eight entries and roots by which implementations of RFC 6962 are tested, from Certificate Transparency.
ENTRIES = [
    bytes.fromhex(one)
    for one in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
# Paths and consistency proofs of the same reference tree.
PATHS = {
    (0, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (5, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
    (1, 5): [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}
CONTINUATIONS = {
    (1, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (6, 8): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 5): [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}


def reader_of(entries: Sequence[bytes]) -> HashReader:
    """Give hashes of perfect subtrees, straight from the definition in RFC 6962 §2.1."""

    def read(level: int, index: int) -> bytes:
        if level == 0:
            return leaf_hash(entries[index])
        return node_hash(read(level - 1, 2 * index), read(level - 1, 2 * index + 1))

    return read


def root_by_definition(entries: Sequence[bytes]) -> bytes:
    """Return MTH of RFC 6962 §2.1, word for word."""
    if not entries:
        return EMPTY_ROOT
    if len(entries) == 1:
        return leaf_hash(entries[0])
    split = 1
    while split * 2 < len(entries):
        split *= 2
    return node_hash(root_by_definition(entries[:split]), root_by_definition(entries[split:]))


def test_reference_vectors_of_rfc_6962() -> None:
    read = reader_of(ENTRIES)
    assert EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert [root_hash(read, size).hex() for size in range(1, 9)] == ROOTS
    for (index, size), path in PATHS.items():
        assert [one.hex() for one in inclusion_proof(read, index, size)] == path
    for (old, size), proof in CONTINUATIONS.items():
        assert [one.hex() for one in consistency_proof(read, old, size)] == proof


def test_every_leaf_and_every_continuation_up_to_70_leaves() -> None:
    entries = [bytes([number]) for number in range(70)]
    read, frontier = reader_of(entries), Frontier()
    roots = [EMPTY_ROOT]
    for entry in entries:
        frontier.append(leaf_hash(entry))
        roots.append(frontier.root())
        assert frontier.hashes == Frontier.of(read, frontier.size).hashes
    assert roots == [root_by_definition(entries[:size]) for size in range(71)]
    for size in range(1, 71):
        for index in range(size):
            proof = inclusion_proof(read, index, size)
            verify_inclusion(leaf_hash(entries[index]), index, size, proof, roots[size])
    for size in range(71):
        for old in range(size + 1):
            proof = consistency_proof(read, old, size)
            verify_consistency(old, size, roots[old], roots[size], proof)


sizes = st.integers(1, 300)


@given(sizes, st.data())
def test_no_inclusion_proof_fits_anything_else(size: int, data: st.DataObject) -> None:
    entries = [number.to_bytes(2, "big") for number in range(size)]
    read, root = reader_of(entries), root_by_definition(entries)
    index = data.draw(st.integers(0, size - 1))
    proof = inclusion_proof(read, index, size)
    leaf = leaf_hash(entries[index])
    verify_inclusion(leaf, index, size, proof, root)
    other = data.draw(st.integers(0, size + 2).filter(lambda number: number != index))
    with pytest.raises(ProofInvalid):
        verify_inclusion(leaf, other, size, proof, root)
    with pytest.raises(ProofInvalid):
        verify_inclusion(leaf_hash(b"other"), index, size, proof, root)
    with pytest.raises(ProofInvalid):
        verify_inclusion(leaf, index, size, [*proof, os.urandom(32)], root)
    with pytest.raises(ProofInvalid):
        verify_inclusion(leaf, index, size, proof, os.urandom(32))
    if proof:
        at = data.draw(st.integers(0, len(proof) - 1))
        bit = data.draw(st.integers(0, 255))
        flipped = (int.from_bytes(proof[at], "big") ^ (1 << bit)).to_bytes(32, "big")
        with pytest.raises(ProofInvalid):
            verify_inclusion(leaf, index, size, [*proof[:at], flipped, *proof[at + 1 :]], root)
        with pytest.raises(ProofInvalid):
            verify_inclusion(leaf, index, size, proof[:at] + proof[at + 1 :], root)


@given(sizes, st.data())
def test_no_consistency_proof_fits_a_fork(size: int, data: st.DataObject) -> None:
    entries = [number.to_bytes(2, "big") for number in range(size)]
    old = data.draw(st.integers(1, size))
    forked = [*entries]
    forked[data.draw(st.integers(0, old - 1))] = b"forked"
    read, forked_read = reader_of(entries), reader_of(forked)
    old_root, root = root_by_definition(entries[:old]), root_by_definition(entries)
    forked_old, forked_root = root_by_definition(forked[:old]), root_by_definition(forked)
    for proof in (consistency_proof(read, old, size), consistency_proof(forked_read, old, size)):
        with pytest.raises(ProofInvalid):
            verify_consistency(old, size, old_root, forked_root, proof)
        with pytest.raises(ProofInvalid):
            verify_consistency(old, size, forked_old, root, proof)
    proof = consistency_proof(read, old, size)
    verify_consistency(old, size, old_root, root, proof)
    with pytest.raises(ProofInvalid):
        verify_consistency(old, size, old_root, root, [*proof, os.urandom(32)])
    if proof:
        with pytest.raises(ProofInvalid):
            verify_consistency(old, size, old_root, root, proof[1:])


@pytest.mark.parametrize(
    ("index", "size"), [(0, 0), (-1, 3), (3, 3), (5, 3), (0, MAX_SIZE + 1), (2**80, 2**81)]
)
def test_what_no_tree_has_is_refused(index: int, size: int) -> None:
    with pytest.raises(ProofInvalid):
        verify_inclusion(bytes(32), index, size, [], bytes(32))


@pytest.mark.parametrize(
    ("old", "size", "roots"),
    [
        (0, 3, (bytes(32), bytes(32))),
        (0, 0, (EMPTY_ROOT, bytes(32))),
        (3, 2, (bytes(32), bytes(32))),
        (-1, 2, (bytes(32), bytes(32))),
        (3, 3, (bytes(32), EMPTY_ROOT)),
        (2, 3, (bytes(32), bytes(32))),
        (1, 2, (bytes(31), bytes(32))),
        (1, MAX_SIZE + 1, (bytes(32), bytes(32))),
    ],
)
def test_trees_that_do_not_continue_each_other(
    old: int, size: int, roots: tuple[bytes, bytes]
) -> None:
    with pytest.raises(ProofInvalid):
        verify_consistency(old, size, *roots, [])


def test_a_proof_that_is_too_long_or_not_of_hashes_is_refused_before_hashing() -> None:
    with pytest.raises(ProofInvalid):
        verify_inclusion(bytes(32), 0, MAX_SIZE, [bytes(32)] * 100, bytes(32))
    with pytest.raises(ProofInvalid):
        verify_inclusion(bytes(32), 0, 2, [bytes(33)], bytes(32))
    with pytest.raises(ProofInvalid):
        Frontier(3, [bytes(32)])
    with pytest.raises(ProofInvalid):
        inclusion_proof(reader_of([b""]), 1, 1)
    with pytest.raises(ProofInvalid):
        consistency_proof(reader_of([b""]), 2, 1)


@given(st.integers(0, 400), st.integers(0, 400), st.lists(st.binary(min_size=31, max_size=33)))
def test_nothing_but_a_refusal_comes_of_garbage(old: int, size: int, proof: list[bytes]) -> None:
    for verify in (
        lambda: verify_inclusion(bytes(32), old, size, proof, bytes(32)),
        lambda: verify_consistency(old, size, bytes(32), b"\1" * 32, proof),
    ):
        with pytest.raises(ProofInvalid):
            verify()
