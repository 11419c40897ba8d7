"""Tiles: their addresses, what a tree of a size has of them, and that a tree grown in any steps is the same tree."""

import hashlib
from collections.abc import Iterable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amana.protocol.merkle import (
    MAX_SIZE,
    Frontier,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    root_hash,
    verify_consistency,
    verify_inclusion,
)
from amana.protocol.tiles import (
    ENTRIES,
    WIDTH,
    Edge,
    Tile,
    TileInvalid,
    TileReader,
    bundle,
    bundles_of,
    is_of,
    split_bundle,
    split_hashes,
    tile_holding,
    tiles_added,
    tiles_of,
)


def leaves(count: int) -> list[bytes]:
    return [hashlib.sha256(number.to_bytes(4, "big")).digest() for number in range(count)]


def grown(steps: Iterable[int]) -> tuple[Edge, dict[Tile, bytes]]:
    """Grow a tree step by step, and keep every tile that is written on the way."""
    steps = list(steps)
    hashes = leaves(sum(steps))
    edge, written, at = Edge(), {}, 0
    for step in steps:
        before = edge
        edge, tiles = edge.grown(hashes[at : at + step])
        assert set(tiles) == set(tiles_added(before.size, edge.size))
        written |= tiles
        at += step
    return edge, written


@pytest.mark.parametrize(
    ("tile", "path"),
    [
        (Tile(0, 0), "0/000"),
        (Tile(0, 273, 112), "0/273.p/112"),
        (Tile(1, 1234067), "1/x001/x234/067"),
        (Tile(2, 1000, 1), "2/x001/000.p/1"),
        (Tile(ENTRIES, 7, 3), "entries/007.p/3"),
        (Tile(ENTRIES, 999), "entries/999"),
        (Tile(63, 0, 255), "63/000.p/255"),
    ],
)
def test_addresses_are_those_of_c2sp(tile: Tile, path: str) -> None:
    assert tile.path == path
    assert Tile.parse(path) == tile


@pytest.mark.parametrize(
    "path",
    [
        "",
        "0/0",
        "0/0000",
        "00/000",
        "64/000",
        "-1/000",
        "0/x000/000",
        "0/001/002",
        "0/x001/x002",
        "0/000.p/0",
        "0/000.p/256",
        "0/000.p/01",
        "0/000.p/",
        "0/000.p",
        "0/000/",
        "/0/000",
        "0//000",
        "0/../0/000",
        "entries",
        "data/000",
        "0/٠٠٠",
        "0/000\n",
        "0/x999/x999/x999/x999/x999/999",
    ],
)
def test_other_spellings_of_an_address_are_refused(path: str) -> None:
    with pytest.raises(TileInvalid):
        Tile.parse(path)


@given(st.integers(ENTRIES, 63), st.integers(0, MAX_SIZE // WIDTH), st.integers(1, WIDTH))
def test_every_address_is_read_back(level: int, index: int, width: int) -> None:
    tile = Tile(level, index, width)
    assert Tile.parse(tile.path) == tile


@given(st.text(alphabet="0123456789x/.pentris-", max_size=30))
def test_an_address_has_one_spelling(path: str) -> None:
    with suppress(TileInvalid):
        assert Tile.parse(path).path == path


def test_the_example_of_c2sp_of_70000_leaves() -> None:
    tiles = list(tiles_of(70_000))
    full = {level: sum(one.level == level and one.is_full for one in tiles) for level in range(3)}
    assert full == {0: 273, 1: 1, 2: 0}
    assert [one for one in tiles if not one.is_full] == [
        Tile(0, 273, 112),
        Tile(1, 1, 17),
        Tile(2, 0, 1),
    ]
    assert list(tiles_of(256)) == [Tile(0, 0), Tile(1, 0, 1)]
    assert list(bundles_of(257)) == [Tile(ENTRIES, 0), Tile(ENTRIES, 1, 1)]
    assert list(tiles_of(0)) == list(bundles_of(0)) == []


steps = st.lists(st.integers(0, 300), min_size=1, max_size=12)


@given(steps)
def test_a_tree_grown_in_any_steps_is_the_same_tree(steps: list[int]) -> None:
    edge, written = grown(steps)
    size = sum(steps)
    frontier = Frontier()
    for leaf in leaves(size):
        frontier.append(leaf)
    assert edge.size == size
    assert edge.root() == frontier.root()
    assert edge.frontier().hashes == frontier.hashes
    assert set(tiles_of(size)) <= set(written)
    assert Edge.read(written.__getitem__, size) == edge
    assert root_hash(TileReader(written.__getitem__, size), size) == frontier.root()


@given(st.integers(1, 200_000), st.data())
def test_every_hash_of_a_tree_lies_in_one_of_its_tiles(size: int, data: st.DataObject) -> None:
    level = data.draw(st.integers(0, size.bit_length() - 1))
    index = data.draw(st.integers(0, (size >> level) - 1))
    assert tile_holding(level, index, size) in set(tiles_of(size))
    with pytest.raises(TileInvalid):
        tile_holding(level, size >> level, size)


def test_proofs_from_tiles_of_a_tree_with_three_levels() -> None:
    size, old = 66_000, 65_300
    edge, written = grown([old, size - old])
    read = TileReader(written.__getitem__, size)
    hashes = leaves(size)
    for index in (0, 255, 256, 40_000, 65_279, 65_535, 65_536, size - 1):
        proof = inclusion_proof(read, index, size)
        verify_inclusion(hashes[index], index, size, proof, edge.root())
    old_root = root_hash(TileReader(written.__getitem__, old), old)
    proof = consistency_proof(read, old, size)
    verify_consistency(old, size, old_root, edge.root(), proof)


@given(st.integers(0, 70_000), st.integers(0, 70_000))
def test_tiles_added_are_the_difference(one: int, other: int) -> None:
    old, size = sorted((one, other))
    added = set(tiles_added(old, size))
    assert added | set(tiles_of(old)) >= set(tiles_of(size))
    assert not added & set(tiles_of(old))
    assert all(is_of(tile, size) for tile in added)


def test_what_a_tree_has() -> None:
    assert is_of(Tile(0, 1, 3), 259)
    assert not is_of(Tile(0, 1, 4), 259)
    assert is_of(Tile(ENTRIES, 1, 3), 259)
    assert is_of(Tile(1, 0, 1), 259)
    assert not is_of(Tile(1, 0, 2), 259)
    assert not is_of(Tile(63, 0, 1), 259)


@given(st.lists(st.binary(max_size=80), min_size=1, max_size=256))
def test_entries_are_read_back(entries: list[bytes]) -> None:
    tile, content = Tile(ENTRIES, 0, len(entries)), bundle(entries)
    assert split_bundle(tile, content) == entries
    for wrong in (content[:-1], content + b"\0", content + b"\0\0", b""):
        if wrong != content:
            with pytest.raises(TileInvalid):
                split_bundle(tile, wrong)


@given(st.integers(1, 256), st.binary(max_size=2000))
def test_only_whole_tiles_and_bundles_are_taken(width: int, content: bytes) -> None:
    if len(content) != 32 * width:
        with pytest.raises(TileInvalid):
            split_hashes(Tile(0, 0, width), content)
    with suppress(TileInvalid):
        assert bundle(split_bundle(Tile(ENTRIES, 0, width), content)) == content


def test_a_bundle_has_limits() -> None:
    with pytest.raises(TileInvalid):
        bundle([b""] * 257)
    with pytest.raises(TileInvalid):
        bundle([bytes(2**16)])


@given(st.integers(2, 600), st.data())
def test_a_flipped_bit_in_a_tile_shows_in_every_proof_that_uses_it(
    size: int, data: st.DataObject
) -> None:
    edge, written = grown([size])
    tile = data.draw(st.sampled_from(sorted(tiles_of(size), key=lambda one: one.path)))
    bit = data.draw(st.integers(0, len(written[tile]) * 8 - 1))
    number = int.from_bytes(written[tile], "big") ^ (1 << bit)
    damaged = written | {tile: number.to_bytes(len(written[tile]), "big")}
    if tile.level == 0:
        assert Edge.read(damaged.__getitem__, size).root() != edge.root() or tile.is_full
    index = data.draw(st.integers(0, size - 1))
    proof = inclusion_proof(TileReader(damaged.__getitem__, size), index, size)
    whole = inclusion_proof(TileReader(written.__getitem__, size), index, size)
    leaf = leaves(size)[index]
    if proof == whole:
        verify_inclusion(leaf, index, size, proof, edge.root())
    else:
        with pytest.raises(ValueError, match="proof"):
            verify_inclusion(leaf, index, size, proof, edge.root())


def test_leaf_hashes_are_what_a_bundle_hashes_to() -> None:
    entries = [b"one", b"two"]
    assert Edge().grown([leaf_hash(one) for one in entries])[1][Tile(0, 0, 2)] == b"".join(
        leaf_hash(one) for one in entries
    )
