# SPDX-License-Identifier: AGPL-3.0-or-later
"""Make lost or damaged files of a log anew: from the leaves in the database, or from what the other files still say.

Nothing is written that does not lead to the checkpoint that was given out. A log that published more than the
database holds stays frozen; once a root pins another in its place, its leaves come back from its files, so
that every receipt can still be proven.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Final

import sqlalchemy as sa

from amana.custody.models import Log, LoggedLeaf, PublishedCheckpoint
from amana.custody.publishing import (
    BATCH,
    LogDamaged,
    LogForked,
    TileFetcher,
    checkpoint_file,
    leaves,
    log_name,
    stored_checkpoint,
    tile_file,
)
from amana.custody.stamping import files_of
from amana.protocol.checkpoint import Checkpoint, NoteKey, log_key, open_checkpoint
from amana.protocol.errors import ProtocolError
from amana.protocol.merkle import Frontier, leaf_hash, node_hash
from amana.protocol.tiles import (
    ENTRIES,
    HEIGHT,
    MAX_LEVEL,
    WIDTH,
    Edge,
    Tile,
    TileInvalid,
    TileReader,
    bundle,
    bundles_of,
    split_bundle,
    split_hashes,
    subtrees,
    tiles_of,
)
from amana.storage.blobs import BlobMissing, BlobStore
from amana.storage.database import Database, table_of


@dataclass(frozen=True)
class Recovered:
    """How many files were not as they must be, and how many leaves the database did not have."""

    files: int
    leaves: int


SAMPLED: Final = 4
"""So many full tiles of each level, drawn anew each time, are read with the right edge."""


def look(store: BlobStore, key: NoteKey) -> None:
    """Read the right edge of a log, and a few of its other files, and see that they lead to its checkpoint.

    Raises LogDamaged for one that is lost or differs. What it does not draw, `recover` finds.
    """
    stored = stored_checkpoint(store, key)
    if stored is None:
        return
    fetch = TileFetcher(store, log_name(key.name))
    read = TileReader(fetch, stored.size)
    try:
        if Edge.read(fetch, stored.size).root() != stored.root:
            raise LogDamaged
        for tile in _drawn(stored.size):
            hashes = split_hashes(tile, fetch(tile))
            if tile.is_full and node_hash(*subtrees(hashes)[-1]) != read(
                HEIGHT * (tile.level + 1), tile.index
            ):
                raise LogDamaged
            if tile.level == 0:
                beside = Tile(ENTRIES, tile.index, tile.width)
                if hashes != list(map(leaf_hash, split_bundle(beside, fetch(beside)))):
                    raise LogDamaged
    except TileInvalid:
        raise LogDamaged from None


def _drawn(size: int) -> Iterator[Tile]:
    """Give of each level the tile at the right edge, the full one before it, and some of the others."""
    for level in range(MAX_LEVEL + 1):
        full, width = divmod(size >> (HEIGHT * level), WIDTH)
        if width:
            yield Tile(level, full, width)
        if not full:
            return
        others = random.sample(range(full - 1), min(SAMPLED, full - 1))
        for index in (full - 1, *others):
            yield Tile(level, index)


def recover(
    database: Database,
    store: BlobStore,
    log: Log,
    *,
    is_closed: bool,
    write: bool = True,
) -> Recovered:
    """Compare every file of a log with what it must be and put those that differ; without `write`, only count them.

    `is_closed` says that no root pins this log any more. Raises LogForked if leaves and checkpoint do not
    belong together, LogDamaged if leaves are nowhere to be found.
    """
    checkpoint, note = _newest(database, store, log, log_key(log.origin, log.public_key))
    source = _Source(database, store, log, checkpoint.size)
    frontier = Frontier()
    for entries in source.entries():
        for entry in entries:
            frontier.append(leaf_hash(entry))
    if frontier.root() != checkpoint.root:
        raise LogForked
    files = 0
    with database.reading() as session:
        stamps = list(files_of(session, log))
    for name, content in chain(_files(log.name, source, checkpoint.size, note), stamps):
        if _differs(store, name, content):
            files += 1
            if write:
                store.put_files({name: content})
    restored = max(0, checkpoint.size - log.size) if is_closed else 0
    if restored and write:
        _restore_leaves(database, source, log, checkpoint.size, note)
    return Recovered(files, restored)


def _newest(
    database: Database, store: BlobStore, log: Log, key: NoteKey
) -> tuple[Checkpoint, bytes]:
    """Return the largest checkpoint that was given out, from the store or the database."""
    found: list[tuple[Checkpoint, bytes]] = []
    try:
        if (stored := stored_checkpoint(store, key)) is not None:
            found.append((stored, store.get_file(checkpoint_file(log.name))))
    except LogDamaged:
        # What the database has of it takes its place.
        pass
    with database.reading() as session:
        published = session.get(PublishedCheckpoint, log.id)
    if published is not None:
        try:
            found.append((open_checkpoint(published.note, key).checkpoint, published.note))
        except ProtocolError:
            raise LogDamaged from None
    if not found:
        raise LogDamaged("Nothing was published of this log yet.")
    return max(found, key=lambda one: one[0].size)


@dataclass(frozen=True)
class _Source:
    """Where the entries of a log come from: the database as far as it goes, then its entry bundles."""

    database: Database
    store: BlobStore
    log: Log
    size: int

    def entries(self) -> Iterator[list[bytes]]:
        """Give all entries, 256 at a time."""
        held = min(self.log.size, self.size) // WIDTH * WIDTH
        if self.log.size >= self.size:
            held = self.size
        with self.database.reading() as session:
            for _, entries in leaves(session, self.log.id, 0, held):
                yield entries
        fetch = TileFetcher(self.store, self.log.name)
        for tile in bundles_of(self.size):
            if tile.index * WIDTH >= held:
                try:
                    yield split_bundle(tile, fetch(tile))
                except TileInvalid:
                    raise LogDamaged from None


def _files(name: str, source: _Source, size: int, note: bytes) -> Iterator[tuple[str, bytes]]:
    """Give every file that a log of this size has, the checkpoint last."""
    partial = {tile for tile in tiles_of(size) if not tile.is_full}
    edge, pending = Edge(), list[bytes]()
    for number, entries in enumerate(source.entries()):
        tile = Tile(ENTRIES, number, len(entries))
        yield tile_file(name, tile), bundle(entries)
        pending += map(leaf_hash, entries)
        if len(pending) >= BATCH or edge.size + len(pending) == size:
            edge, tiles = edge.grown(pending)
            pending.clear()
            for one, content in tiles.items():
                if one.is_full or one in partial:
                    yield tile_file(name, one), content
    yield checkpoint_file(name), note


def _differs(store: BlobStore, name: str, content: bytes) -> bool:
    try:
        return store.get_file(name) != content
    except BlobMissing:
        return True


def _restore_leaves(database: Database, source: _Source, log: Log, size: int, note: bytes) -> None:
    """Put leaves and checkpoint that only the files have into the database, all or none."""
    table = table_of(LoggedLeaf)
    with database.transaction() as session:
        place = 0
        for entries in source.entries():
            rows = [
                {"log": log.id, "place": at, "entry": entry}
                for at, entry in enumerate(entries, place)
                if at >= log.size
            ]
            place += len(entries)
            if rows:
                session.execute(sa.insert(table), rows)
        session.execute(sa.update(Log).where(Log.id == log.id).values(size=size))
        session.merge(PublishedCheckpoint(log=log.id, size=size, note=note))
