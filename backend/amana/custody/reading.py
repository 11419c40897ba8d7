# SPDX-License-Identifier: AGPL-3.0-or-later
"""What everybody may read of the logs: checkpoints, tiles, entries, and the proof of a leaf that they know."""

import threading
from collections import OrderedDict
from typing import Final

import sqlalchemy as sa
from sqlalchemy.orm import Session

from amana.custody.models import CosignedCheckpoint, Log, LoggedLeaf, PublishedCheckpoint
from amana.custody.publishing import LogDamaged, TileFetcher
from amana.custody.service import CUSTODY
from amana.custody.stamping import CHAIN, RESPONSE, STAMPED, TYPES, earliest, stamp_file
from amana.errors import NotFound
from amana.protocol.checkpoint import parse_checkpoint, parse_note
from amana.protocol.errors import ProtocolError
from amana.protocol.merkle import MAX_SIZE, inclusion_proof, leaf_hash, verify_inclusion
from amana.protocol.tiles import Levels, Tile, TileInvalid, TileReader, is_of
from amana.protocol.tlogproof import TlogProof
from amana.storage.blobs import BlobMissing, BlobStore

KEPT_TILES: Final = 512


class LeafUnknown(NotFound):
    slug = "leaf-unknown"
    title = "The log holds no such leaf, or its checkpoint does not cover it yet; ask again in a moment."


class TileCache:
    """Tiles that many proofs need: inner ones, and the right edge. Those of leaves are read each time.

    Shared by the threads of a process. 512 tiles with their subtrees take about 20 MB; a log of ten million leaves has 154.
    """

    def __init__(self) -> None:
        self._tiles: OrderedDict[tuple[str, Tile], Levels] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, name: str) -> "KeptOf":
        return KeptOf(self, name)

    def get(self, key: tuple[str, Tile]) -> Levels | None:
        with self._lock:
            if key in self._tiles:
                self._tiles.move_to_end(key)
            return self._tiles.get(key)

    def keep(self, key: tuple[str, Tile], levels: Levels) -> None:
        with self._lock:
            self._tiles[key] = levels
            if len(self._tiles) > KEPT_TILES:
                self._tiles.popitem(last=False)

    def forget(self) -> None:
        """Read everything anew: what is kept may be of a file that was damaged and will be mended."""
        with self._lock:
            self._tiles.clear()


class KeptOf:
    """The cache as a reader of one log sees it, for one proof. Owned by one thread."""

    def __init__(self, cache: TileCache, name: str) -> None:
        self._cache = cache
        self._name = name
        self._own: dict[Tile, Levels] = {}

    def get(self, tile: Tile, /) -> Levels | None:
        return self._own.get(tile) or self._cache.get((self._name, tile))

    def __setitem__(self, tile: Tile, levels: Levels, /) -> None:
        if tile.level or not tile.is_full:
            self._cache.keep((self._name, tile), levels)
        else:
            self._own[tile] = levels


def published(session: Session, name: str) -> PublishedCheckpoint:
    """Return the newest checkpoint of a log."""
    row = session.scalar(
        sa.select(PublishedCheckpoint)
        .join(Log, Log.id == PublishedCheckpoint.log)
        .where(Log.name == name)
    )
    if row is None:
        raise NotFound
    return row


def cosigned(session: Session, name: str) -> CosignedCheckpoint:
    """Return the newest checkpoint of a log that cosigners vouch for."""
    row = session.scalar(
        sa.select(CosignedCheckpoint)
        .join(Log, Log.id == CosignedCheckpoint.log)
        .where(Log.name == name)
    )
    if row is None:
        raise NotFound
    return row


def tile(session: Session, store: BlobStore, name: str, path: str) -> bytes:
    """Return a tile or an entry bundle of what was published."""
    try:
        wanted = Tile.parse(path)
    except TileInvalid:
        raise NotFound from None
    if not is_of(wanted, published(session, name).size):
        raise NotFound
    return TileFetcher(store, name)(wanted)


def stamps(session: Session, name: str, place: int) -> bytes:
    """Return which stamps of a log cover a place, the earliest of each authority: a line of size and authority each."""
    published(session, name)
    if place > MAX_SIZE:
        raise NotFound
    found = earliest(session, name, place)
    return "".join(f"{size} {authority}\n" for size, authority in found).encode("ascii")


def stamp(store: BlobStore, name: str, size: int, file: str) -> tuple[bytes, str]:
    """Return a file of a stamp, and its media type: the checkpoint, an authority's answer, or its certificates."""
    ending = STAMPED if file == STAMPED else file[-len(RESPONSE) :]
    if ending not in {STAMPED, RESPONSE, CHAIN} or size > MAX_SIZE:
        raise NotFound
    try:
        return store.get_file(stamp_file(name, size, file)), TYPES[ending]
    except (BlobMissing, ValueError):
        raise NotFound from None


# Built once: building it takes as long as PostgreSQL's answer.
_PROVABLE: Final = (
    sa.select(
        LoggedLeaf.place,
        PublishedCheckpoint.note,
        CosignedCheckpoint.size.label("cosigned_size"),
        CosignedCheckpoint.note.label("cosigned_note"),
    )
    .join(Log, Log.id == LoggedLeaf.log)
    .join(PublishedCheckpoint, PublishedCheckpoint.log == Log.id)
    .outerjoin(CosignedCheckpoint, CosignedCheckpoint.log == Log.id)
    .where(
        LoggedLeaf.entry == sa.bindparam("leaf", type_=sa.LargeBinary),
        LoggedLeaf.place < PublishedCheckpoint.size,
        Log.kind == CUSTODY,
        Log.name == sa.bindparam("name"),
    )
)


def prove(
    session: Session, store: BlobStore, cache: TileCache, name: str, leaf: bytes
) -> TlogProof:
    """Prove that the custody log holds a commitment, to the newest checkpoint of that log that cosigners vouch for.

    What is too new for one is proven to the newest of all.

    Nobody knows a commitment but those who know event and key, so this tells nobody what they do not know.
    """
    row = session.execute(_PROVABLE, {"leaf": leaf, "name": name}).first()
    if row is None:
        raise LeafUnknown
    is_cosigned = row.cosigned_size is not None and row.place < row.cosigned_size
    note = parse_note(row.cosigned_note if is_cosigned else row.note)
    checkpoint = parse_checkpoint(note.text)
    read = TileReader(TileFetcher(store, name), checkpoint.size, cache.of(name))
    try:
        hashes = inclusion_proof(read, row.place, checkpoint.size)
        verify_inclusion(leaf_hash(leaf), row.place, checkpoint.size, hashes, checkpoint.root)
    except ProtocolError:
        cache.forget()
        # A tile was changed where it lies; a proof that proves nothing is not given out.
        raise LogDamaged from None
    return TlogProof(row.place, tuple(hashes), note)
