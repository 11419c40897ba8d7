# SPDX-License-Identifier: AGPL-3.0-or-later
"""Where a log's hashes and entries lie as static files (C2SP tlog-tiles), and how they grow.

A full tile holds 256 hashes, a partial one those that a certain size of the tree has of it. Full tiles never
change; a partial tile of one width never changes either. Nothing here does I/O.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from amana.protocol.errors import ProtocolError
from amana.protocol.merkle import HASH_BYTES, MAX_SIZE, Frontier, node_hash, perfect_subtrees

HEIGHT: Final = 8
WIDTH: Final = 1 << HEIGHT
TILE_BYTES: Final = WIDTH * HASH_BYTES
ENTRIES: Final = -1
"""The level that stands for entry bundles."""

MAX_LEVEL: Final = 63
MAX_ENTRY_BYTES: Final = 2**16 - 1
BUNDLE_LIMIT_BYTES: Final = WIDTH * (2 + MAX_ENTRY_BYTES)
_PATH: Final = re.compile(
    r"(entries|[0-9]|[1-5][0-9]|6[0-3])/((?:x[0-9]{3}/){0,6}[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?"
)


class TileInvalid(ProtocolError):
    """A tile, its address, or an entry bundle is not in its form."""

    slug = "tile-invalid"
    title = "A tile of the log is missing, or not in its form."


@dataclass(frozen=True)
class Tile:
    """One file of a log: level 0 to 63, or ENTRIES; index within the level; width 1 to 256."""

    level: int
    index: int
    width: int = WIDTH

    @property
    def is_full(self) -> bool:
        return self.width == WIDTH

    @property
    def path(self) -> str:
        """The address below `tile/`, as `0/x001/234` or `entries/007.p/3`."""
        number, rest = f"{self.index % 1000:03d}", self.index // 1000
        while rest:
            number, rest = f"x{rest % 1000:03d}/{number}", rest // 1000
        level = "entries" if self.level == ENTRIES else str(self.level)
        return f"{level}/{number}" + ("" if self.is_full else f".p/{self.width}")

    @classmethod
    def parse(cls, path: str) -> "Tile":
        """Read an address below `tile/`; refuses every second spelling of it."""
        found = _PATH.fullmatch(path) if path.isascii() else None
        if found is None:
            raise TileInvalid
        level, number, width = found.groups()
        tile = cls(
            level=ENTRIES if level == "entries" else int(level),
            index=int(number.replace("x", "").replace("/", "")),
            width=int(width) if width else WIDTH,
        )
        if tile.path != path or tile.width > WIDTH or tile.index * WIDTH > MAX_SIZE:
            raise TileInvalid
        return tile

    @property
    def full(self) -> "Tile":
        """The same tile once it is full."""
        return Tile(self.level, self.index)


def tiles_of(size: int) -> Iterator[Tile]:
    """Give every tile of hashes that a tree of `size` leaves has, level by level."""
    yield from tiles_added(0, size)


def tiles_added(old: int, size: int) -> Iterator[Tile]:
    """Give the tiles that a tree of `size` leaves has and that of `old` leaves has not."""
    for level in range(MAX_LEVEL + 1):
        count = size >> (HEIGHT * level)
        if count == 0:
            return
        known = old >> (HEIGHT * level)
        if count == known:
            continue
        for index in range(known // WIDTH, -(-count // WIDTH)):
            yield Tile(level, index, min(WIDTH, count - index * WIDTH))


def bundles_of(size: int) -> Iterator[Tile]:
    """Give every entry bundle that a log of `size` entries has."""
    for index in range(-(-size // WIDTH)):
        yield Tile(ENTRIES, index, min(WIDTH, size - index * WIDTH))


def is_of(tile: Tile, size: int) -> bool:
    """Tell whether a tree of `size` leaves has this tile, of this width or wider."""
    count = size if tile.level == ENTRIES else size >> (HEIGHT * tile.level)
    return tile.index * WIDTH + tile.width <= count


def tile_holding(level: int, index: int, size: int) -> Tile:
    """Return the tile of a tree of `size` leaves from which the perfect subtree `(level, index)` is read."""
    tile_level, height = divmod(level, HEIGHT)
    first = index << height
    number = first // WIDTH
    width = min(WIDTH, (size >> (HEIGHT * tile_level)) - number * WIDTH)
    if first + (1 << height) > number * WIDTH + width:
        raise TileInvalid
    return Tile(tile_level, number, width)


def split_hashes(tile: Tile, content: bytes) -> list[bytes]:
    """Return the hashes of a tile that was read."""
    if len(content) != tile.width * HASH_BYTES:
        raise TileInvalid
    return [content[at : at + HASH_BYTES] for at in range(0, len(content), HASH_BYTES)]


Levels = list[list[bytes]]
"""The hashes of a tile, and above them those of its inner perfect subtrees, 8 levels in all."""


class KeptTiles(Protocol):
    """Where a reader keeps the tiles that it has read; a dictionary will do."""

    def get(self, tile: Tile, /) -> Levels | None: ...

    def __setitem__(self, tile: Tile, levels: Levels, /) -> None: ...


class TileReader:
    """A reader of the hashes of a tree of `size` leaves from its tiles. Owned by one thread.

    `fetch` gives a tile's bytes. What it gives is believed: whoever reads a proof verifies it.
    """

    def __init__(
        self, fetch: Callable[[Tile], bytes], size: int, kept: KeptTiles | None = None
    ) -> None:
        self._fetch = fetch
        self._size = size
        self._kept: KeptTiles = {} if kept is None else kept

    def __call__(self, level: int, index: int) -> bytes:
        tile = tile_holding(level, index, self._size)
        levels = self._kept.get(tile)
        if levels is None:
            levels = self._kept[tile] = subtrees(split_hashes(tile, self._fetch(tile)))
        height = level % HEIGHT
        return levels[height][index - (tile.index * WIDTH >> height)]


def subtrees(hashes: Sequence[bytes]) -> Levels:
    """Return the hashes of a tile with those of its inner perfect subtrees."""
    levels = [list(hashes)]
    for _ in range(HEIGHT - 1):
        below = levels[-1]
        levels.append([node_hash(*below[at : at + 2]) for at in range(0, len(below) - 1, 2)])
    return levels


@dataclass(frozen=True)
class Edge:
    """The right edge of a tree, from which it grows: of each level the hashes of its last, unfinished tile.

    `levels[l]` has (size // 256**l) % 256 hashes.
    """

    size: int = 0
    levels: tuple[tuple[bytes, ...], ...] = ()

    @classmethod
    def read(cls, fetch: Callable[[Tile], bytes], size: int) -> "Edge":
        """Read the edge of a tree of `size` leaves; the caller compares its root with a checkpoint."""
        levels, level = [], 0
        while count := size >> (HEIGHT * level):
            index, width = divmod(count, WIDTH)
            tile = Tile(level, index, width)
            levels.append(tuple(split_hashes(tile, fetch(tile))) if width else ())
            level += 1
        return cls(size, tuple(levels))

    def root(self) -> bytes:
        """Return the root hash of the tree."""
        return self.frontier().root()

    def frontier(self) -> Frontier:
        """Return the perfect subtrees of the tree."""
        inner = [subtrees(one) if one else [] for one in self.levels]
        hashes = []
        for level, index in perfect_subtrees(0, self.size):
            tile_level, height = divmod(level, HEIGHT)
            first = (index << height) // WIDTH * WIDTH
            hashes.append(inner[tile_level][height][index - (first >> height)])
        return Frontier(self.size, hashes)

    def grown(self, leaves: Sequence[bytes]) -> tuple["Edge", dict[Tile, bytes]]:
        """Add the hashes of leaves; returns the new edge, and the tiles of hashes that have to be written."""
        tiles: dict[Tile, bytes] = {}
        levels: list[tuple[bytes, ...]] = []
        added, level = list(leaves), 0
        while added or level < len(self.levels):
            held = self.levels[level] if level < len(self.levels) else ()
            first = (self.size >> (HEIGHT * level)) // WIDTH
            hashes, rising = [*held, *added], []
            for number, at in enumerate(range(0, len(hashes), WIDTH)):
                part = hashes[at : at + WIDTH]
                if added:
                    tiles[Tile(level, first + number, len(part))] = b"".join(part)
                if len(part) == WIDTH:
                    rising.append(node_hash(*subtrees(part)[-1]))
            levels.append(tuple(hashes[len(rising) * WIDTH :]))
            added, level = rising, level + 1
        return Edge(self.size + len(leaves), tuple(levels)), tiles


def bundle(entries: Sequence[bytes]) -> bytes:
    """Return an entry bundle: each entry after its length as u16be (C2SP tlog-tiles)."""
    if len(entries) > WIDTH or any(len(one) > MAX_ENTRY_BYTES for one in entries):
        raise TileInvalid
    return b"".join(len(one).to_bytes(2, "big") + one for one in entries)


def split_bundle(tile: Tile, content: bytes) -> list[bytes]:
    """Return the entries of a bundle that was read; there must be exactly as many as its width says."""
    entries: list[bytes] = []
    at = 0
    while at < len(content):
        end = at + 2 + int.from_bytes(content[at : at + 2], "big")
        if at + 2 > len(content) or end > len(content) or len(entries) == tile.width:
            raise TileInvalid
        entries.append(content[at + 2 : end])
        at = end
    if len(entries) != tile.width:
        raise TileInvalid
    return entries


def narrowed(tile: Tile, whole: bytes) -> bytes:
    """Return what a partial tile or bundle holds, out of the full one that took its place (C2SP tlog-tiles)."""
    if tile.level == ENTRIES:
        return bundle(split_bundle(tile.full, whole)[: tile.width])
    return b"".join(split_hashes(tile.full, whole)[: tile.width])
