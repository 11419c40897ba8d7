# SPDX-License-Identifier: AGPL-3.0-or-later
"""Publish a log: its tiles, and the checkpoint that vouches for them; and find out whether that may go on.

The order of writes is the whole argument:

1. Leaves have their places in the database, committed (custody/sequencing.py), and that is on the disk: a place
   is given without waiting for it, so this waits. Places never change from then on, so
   everything below follows from them: whoever repeats it, in whatever process, writes the same bytes.
2. Tiles and entry bundles are put into the object store and durable. A crash here leaves files that no
   checkpoint speaks of yet; the next run writes them again, alike.
3. The checkpoint is signed, put into the object store and durable, under a lock on the row that says what is
   published, so that an older one never comes after a newer.
4. That row is committed. Only from then on is the checkpoint given out. A crash between 3 and 4 leaves one
   in the store that is larger than the database's, and true: places were committed before it.

So what was ever given out is in the object store and follows from the database. Where that does not hold
any more, somebody lost or restored one of them: `examine` tells which, and nothing is published then.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa
from sqlalchemy.orm import Session

from amana.custody.models import (
    CosignedCheckpoint,
    Log,
    LoggedLeaf,
    PublishedCheckpoint,
    WaitingLeaf,
)
from amana.custody.sequencing import Deposed, Term, is_over
from amana.custody.service import CUSTODY
from amana.errors import Unavailable
from amana.protocol.checkpoint import (
    Checkpoint,
    Note,
    NoteKey,
    Signature,
    log_key,
    open_checkpoint,
    parse_checkpoint,
    parse_note,
    sign_checkpoint,
    with_signatures,
)
from amana.protocol.errors import ProtocolError
from amana.protocol.merkle import leaf_hash, node_hash, root_hash
from amana.protocol.signing import SigningKey
from amana.protocol.tiles import (
    ENTRIES,
    WIDTH,
    Edge,
    Tile,
    TileInvalid,
    TileReader,
    bundle,
    narrowed,
    split_hashes,
    subtrees,
)
from amana.storage.blobs import FILES, BlobMissing, BlobStore
from amana.storage.database import Database, table_of

_LOGS, _LEAVES, _PUBLISHED = map(table_of, (Log, LoggedLeaf, PublishedCheckpoint))
BATCH: Final = 64 * WIDTH
RECENT: Final = 16 * WIDTH
"""So many of the newest leaves are compared with the tiles each time a log is taken up."""


class LogRefused(Unavailable):
    """A log may not go on as it is."""

    slug = "log-refused"
    title = "This log cannot go on; the operator has to look (amana log status)."


class LogForked(LogRefused):
    slug = "log-forked"
    title = "What this log published is not what the database holds: one of them was changed or is of another day."


class LogBehind(LogRefused):
    slug = "log-behind"
    title = "This log published more than the database holds; it is frozen and never goes on. A new one must be opened."


class LogFrozen(LogRefused):
    slug = "log-frozen"
    title = "This log has ended, or the operator has frozen it; it never goes on. A new one must be opened."


class LogDamaged(LogRefused):
    slug = "log-damaged"
    title = "Files of this log are lost or damaged; 'amana log recover' makes them anew."


class LogKeyDiffers(LogRefused):
    slug = "log-key-differs"
    title = (
        "The root pins another key for this log than this server has, or than the log began with."
    )


@dataclass(frozen=True)
class OpenLog:
    """A log that the root pins and this server may sign for."""

    id: int
    kind: str
    key: NoteKey
    signing: SigningKey

    @property
    def name(self) -> str:
        """The last part of the origin, which is its address below /log/."""
        return log_name(self.key.name)


def log_name(origin: str) -> str:
    """Return the name of a log in addresses and in the store: what stands behind the deployment in its origin."""
    return origin.rpartition("/")[2]


def tile_file(name: str, tile: Tile) -> str:
    return f"{FILES}/{name}/tile/{tile.path}"


def checkpoint_file(name: str) -> str:
    return f"{FILES}/{name}/checkpoint"


def find_log(session: Session, key: NoteKey, kind: str) -> Log | None:
    """Return the row of the log with this origin."""
    return session.scalar(sa.select(Log).where(Log.origin == key.name, Log.kind == kind))


def open_log(
    database: Database, store: BlobStore, kind: str, key: NoteKey, signing: SigningKey
) -> tuple[OpenLog, Edge]:
    """Take up the log that the root pins, or begin it; returns it with its right edge.

    Raises LogRefused where it may not go on, StoreUnavailable, DatabaseUnavailable.
    """
    if key.public != signing.public:
        raise LogKeyDiffers
    edge = examine(database, store, kind, key)
    with database.reading() as session:
        # Those before it ended when it began.
        last = sa.select(Log).where(Log.kind == kind, Log.origin != key.name)
        ended = session.scalar(last.order_by(Log.id.desc()).limit(1))
    # Looked up before, so that no lock waits for the store.
    stored = ended and stored_checkpoint(store, log_key(ended.origin, ended.public_key))
    with database.transaction() as session:
        log = find_log(session, key, kind)
        if log is None:
            newest = session.scalar(sa.select(sa.func.max(Log.id))) or 0
            log = Log(
                id=newest + 1,
                kind=kind,
                origin=key.name,
                name=log_name(key.name),
                public_key=key.public,
                size=0,
                frozen=False,
            )
            if ended is not None:
                _end(session, ended.id, kind, stored.size if stored else 0)
            session.add(log)
            session.flush()
        return OpenLog(log.id, kind, key, signing), edge


def _end(session: Session, log: int, kind: str, stored: int) -> None:
    """End a log at what was published of it; what had a place and was not published waits for the log that follows.

    Of events, also what no cosigner vouched for yet: they may never sign for this log again, and an export
    needs them. The row of what is published is locked, so that nothing more of it is given out meanwhile.
    """
    row = sa.select(_PUBLISHED.c.size).where(_PUBLISHED.c.log == log).with_for_update()
    end = max(stored, session.execute(row).scalar() or 0)
    size = session.execute(sa.select(_LOGS.c.size).where(_LOGS.c.id == log)).scalar_one()
    cosigned = session.get(CosignedCheckpoint, log) if kind == CUSTODY else None
    first = end if cosigned is None else min(end, cosigned.size)
    rest = sa.select(sa.literal(kind), _LEAVES.c.entry).where(
        _LEAVES.c.log == log, _LEAVES.c.place >= first, _LEAVES.c.place < size
    )
    waiting = table_of(WaitingLeaf)
    session.execute(
        sa.insert(waiting).from_select(["kind", "entry"], rest.order_by(_LEAVES.c.place))
    )
    if size > end:
        session.execute(sa.update(_LOGS).where(_LOGS.c.id == log).values(size=end))


def examine(database: Database, store: BlobStore, kind: str, key: NoteKey) -> Edge:
    """Compare what a log published with what the database holds; returns the edge from which it goes on.

    The newest leaves are compared one by one. After a restore to another day every later leaf is
    another one, so these tell; an older leaf that somebody changed is found by comparing all files
    (custody/recovery.py).
    """
    stored = stored_checkpoint(store, key)
    with database.reading() as session:
        log = find_log(session, key, kind)
        published = None if log is None else session.get(PublishedCheckpoint, log.id)
        if log is not None and (log.frozen or _has_ended(session, log)):
            raise LogFrozen
        if log is not None and log.public_key != key.public:
            raise LogKeyDiffers
        if stored is None:
            # Looked for once more, because the first checkpoint may have been given out just now.
            if published is not None and stored_checkpoint(store, key) is None:
                raise LogDamaged(
                    "The checkpoint of this log is lost; 'amana log recover' puts it back."
                )
            return Edge()
        if log is None or log.size < stored.size:
            if stored.size:
                raise LogBehind
            return Edge()
        size, id_ = stored.size, log.id
        edge = _edge(store, key, stored)
        _compare_published(store, key, stored, published)
        start = max(0, size - RECENT) // WIDTH * WIDTH
        _compare_leaves(session, store, key, id_, start, size)
    return edge


def _has_ended(session: Session, log: Log) -> bool:
    """Tell whether another log began in the place of this one; no root brings it back."""
    later = sa.select(Log.id).where(Log.kind == log.kind, Log.id > log.id).limit(1)
    return session.scalar(later) is not None


def stored_checkpoint(store: BlobStore, key: NoteKey) -> Checkpoint | None:
    """Return the checkpoint in the object store, if there is one; it must be of this log."""
    try:
        data = store.get_file(checkpoint_file(log_name(key.name)))
    except BlobMissing:
        return None
    try:
        return open_checkpoint(data, key).checkpoint
    except ProtocolError:
        raise LogDamaged from None


@dataclass(frozen=True)
class TileFetcher:
    """Reads tiles of a log from the store; a partial one also out of the full one that took its place."""

    store: BlobStore
    name: str

    def __call__(self, tile: Tile) -> bytes:
        try:
            return self.store.get_file(tile_file(self.name, tile))
        except BlobMissing:
            if tile.is_full:
                raise LogDamaged from None
        try:
            whole = self.store.get_file(tile_file(self.name, tile.full))
        except BlobMissing:
            raise LogDamaged from None
        try:
            return narrowed(tile, whole)
        except TileInvalid:
            raise LogDamaged from None


def _edge(store: BlobStore, key: NoteKey, stored: Checkpoint) -> Edge:
    try:
        edge = Edge.read(TileFetcher(store, log_name(key.name)), stored.size)
    except TileInvalid:
        raise LogDamaged from None
    if edge.root() != stored.root:
        raise LogDamaged
    return edge


def _compare_published(
    store: BlobStore, key: NoteKey, stored: Checkpoint, published: PublishedCheckpoint | None
) -> None:
    """See that the tree in the store continues the one that the database says was published."""
    if published is None or published.size > stored.size:
        # The store may be of an earlier day than the database: what is missing follows from places.
        return
    checkpoint = parse_checkpoint(parse_note(published.note).text)
    try:
        root = root_hash(
            TileReader(TileFetcher(store, log_name(key.name)), stored.size), checkpoint.size
        )
    except TileInvalid:
        raise LogDamaged from None
    if root != checkpoint.root:
        raise LogForked


def _compare_leaves(
    session: Session, store: BlobStore, key: NoteKey, log: int, start: int, end: int
) -> None:
    """Compare the leaves from `start`, where a tile begins, to `end` with the tiles of the store."""
    fetch = TileFetcher(store, log_name(key.name))
    read = TileReader(fetch, end)
    for at, entries in leaves(session, log, start, end):
        tile = Tile(0, at // WIDTH, len(entries))
        try:
            hashes = split_hashes(tile, fetch(tile))
            if tile.is_full and end >= WIDTH and read(8, tile.index) != _whole(hashes):
                raise LogDamaged
        except TileInvalid:
            raise LogDamaged from None
        if hashes != [leaf_hash(one) for one in entries]:
            raise LogForked


def _whole(hashes: Sequence[bytes]) -> bytes:
    return node_hash(*subtrees(hashes)[-1])


def leaves(session: Session, log: int, start: int, end: int) -> Iterator[tuple[int, list[bytes]]]:
    """Give the entries of a log tile by tile, each with the place of its first; raises LogForked for a gap."""
    for at in range(start, end, BATCH):
        entries = _placed(session, log, at, min(BATCH, end - at))
        if len(entries) != min(BATCH, end - at):
            raise LogForked("The database lacks leaves of this log.")
        for first in range(0, len(entries), WIDTH):
            yield at + first, entries[first : first + WIDTH]


def _placed(session: Session, log: int, start: int, count: int) -> list[bytes]:
    """Return at most `count` entries from a place on; raises LogForked for a gap."""
    rows = session.execute(
        sa.select(_LEAVES.c.place, _LEAVES.c.entry)
        .where(_LEAVES.c.log == log, _LEAVES.c.place >= start, _LEAVES.c.place < start + count)
        .order_by(_LEAVES.c.place)
    ).all()
    if [row.place for row in rows] != list(range(start, start + len(rows))):
        raise LogForked("The database lacks leaves of this log.")
    return [row.entry for row in rows]


class Publisher:
    """Writes tiles and checkpoints. Owned by one thread; keeps the right edge of each log that it published."""

    def __init__(self, database: Database, store: BlobStore) -> None:
        self._database = database
        self._store = store
        self._edges: dict[int, Edge] = {}
        self._published: dict[int, int] = {}

    def take_up(self, log: OpenLog, edge: Edge) -> None:
        """Go on from an edge that `open_log` gave."""
        self._edges[log.id] = edge

    def publish(self, term: Term, log: OpenLog) -> int:
        """Publish what has a place and is not published; returns how many leaves, at most BATCH.

        Raises Deposed, StoreUnavailable, DatabaseUnavailable.
        """
        edge, published = self._edges[log.id], self._published.get(log.id)
        start = edge.size // WIDTH * WIDTH
        with self._database.reading() as session:
            if published is None:
                published = session.execute(
                    sa.select(_PUBLISHED.c.size).where(_PUBLISHED.c.log == log.id)
                ).scalar()
            entries = _placed(session, log.id, start, BATCH)
        until = start + len(entries)
        if until == edge.size and published is not None and published >= until:
            return 0
        self._database.settle()
        files, grown = _files(log.name, edge, start, entries)
        if files:
            self._store.put_files(files)
        self._give_out(term, log, Checkpoint(log.key.name, until, grown.root()))
        self._edges[log.id] = grown
        self._published[log.id] = until
        self._drop_partial(log.name, edge, grown)
        return until - edge.size

    def _give_out(self, term: Term, log: OpenLog, checkpoint: Checkpoint) -> None:
        row = sa.select(_PUBLISHED.c.size, _PUBLISHED.c.note).where(_PUBLISHED.c.log == log.id)
        with self._database.transaction() as session:
            before = session.execute(row.with_for_update()).one_or_none()
            size = session.execute(sa.select(_LOGS.c.size).where(_LOGS.c.id == log.id)).scalar_one()
            # Another process does the work now, or a root has ended this log.
            if is_over(session, term) or size < checkpoint.size:
                raise Deposed
            if before is not None and before.size > checkpoint.size:
                # The store was restored to an earlier day: it follows up to what was given out.
                return
            if before is not None and before.size == checkpoint.size:
                if parse_checkpoint(parse_note(before.note).text) != checkpoint:
                    raise LogForked
                # As it was given out, with the cosignatures that it got since.
                self._store.put_files({checkpoint_file(log.name): before.note})
                return
            note = bytes(sign_checkpoint(log.signing, checkpoint))
            values = {"size": checkpoint.size, "note": note}
            if before is None:
                # Only the first of two that begin at once gets through, before anything is put.
                session.execute(sa.insert(_PUBLISHED), {"log": log.id, **values})
            else:
                given = sa.update(_PUBLISHED).where(_PUBLISHED.c.log == log.id)
                session.execute(given.values(values))
            self._store.put_files({checkpoint_file(log.name): note})

    def _drop_partial(self, name: str, old: Edge, new: Edge) -> None:
        """Delete the partial tiles that a full one took the place of (C2SP tlog-tiles, partial tiles)."""
        for level, hashes in enumerate(old.levels):
            index = (old.size >> (8 * level)) // WIDTH
            if hashes and (new.size >> (8 * level)) // WIDTH > index:
                self._store.delete_files(tile_file(name, Tile(level, index)) + ".p")
                if level == 0:
                    self._store.delete_files(tile_file(name, Tile(ENTRIES, index)) + ".p")


def _files(
    name: str, edge: Edge, start: int, entries: Sequence[bytes]
) -> tuple[dict[str, bytes], Edge]:
    """Return the files to be written for the entries from place `start`, of which some are published, and the new edge."""
    grown, tiles = edge.grown([leaf_hash(one) for one in entries[edge.size - start :]])
    files = {tile_file(name, tile): content for tile, content in tiles.items()}
    if tiles:
        for at in range(0, len(entries), WIDTH):
            part = entries[at : at + WIDTH]
            tile = Tile(ENTRIES, (start + at) // WIDTH, len(part))
            files[tile_file(name, tile)] = bundle(part)
    return files, grown


def add_signatures(
    session: Session, store: BlobStore, log: Log, size: int, signatures: Sequence[Signature]
) -> Note | None:
    """Add cosignatures to the published checkpoint, in the store and in the database, if it is still of this size."""
    row = session.get(PublishedCheckpoint, log.id, with_for_update=True)
    if row is None or row.size != size:
        return None
    note = with_signatures(parse_note(row.note), signatures)
    store.put_files({checkpoint_file(log.name): bytes(note)})
    row.note = bytes(note)
    return note
