# SPDX-License-Identifier: AGPL-3.0-or-later
"""The public logs from outside: their checkpoints, tiles and proofs, from a server or from a copy of its files.

Nothing that comes from there is believed: a checkpoint is its log's, and the rest leads to it or is refused.
"""

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from amana.client.errors import ClientError, NotVerified, Usage
from amana.client.transport import Busy, Patience, Transport
from amana.protocol.checkpoint import (
    LIMIT_BYTES as NOTE_LIMIT_BYTES,
)
from amana.protocol.checkpoint import (
    Checkpoint,
    CheckpointQuorum,
    Cosigner,
    NoteKey,
    SignedCheckpoint,
    open_checkpoint,
)
from amana.protocol.directory import RootPins
from amana.protocol.errors import ProtocolError
from amana.protocol.merkle import leaf_hash
from amana.protocol.tiles import (
    WIDTH,
    Edge,
    Tile,
    TileInvalid,
    bundles_of,
    narrowed,
    split_bundle,
    tiles_of,
)
from amana.protocol.tlogproof import LIMIT_BYTES as PROOF_LIMIT_BYTES
from amana.protocol.tlogproof import TlogProof

TILE_LIMIT_BYTES: Final = 512 * 1024
TILES_AT_ONCE: Final = 64
PROOF_WAITS_SECONDS: Final = (0.1, 0.2, 0.4, 0.8)

Fetch = Callable[[str, int], bytes | None]
"""Gives a file below `/log/` of at most so many bytes; None where there is none."""


class LogIncomplete(NotVerified):
    """A file that the checkpoint says must be there is not."""


class LogDamaged(NotVerified):
    """The server itself says that files of a log are lost or damaged."""

    slug = "log-damaged"


def from_server(transport: Transport, patience: Patience | None = None) -> Fetch:
    """Read logs from a server."""
    return lambda path, limit: transport.get(f"/log/{path}", limit=limit, patience=patience)


def telling_damage(transport: Transport) -> Fetch:
    """Read logs from a server for whoever judges them: what it calls damaged is refused, and not waited for."""

    def fetch(path: str, limit: int) -> bytes | None:
        try:
            return transport.get(f"/log/{path}", limit=limit, patience=Patience(1))
        except Busy as busy:
            if busy.slug == LogDamaged.slug:
                raise LogDamaged(busy.title) from None
            raise

    return lambda path, limit: Patience().persist(lambda: fetch(path, limit))


def from_folder(folder: Path) -> Fetch:
    """Read logs from a copy of their files, in which each log has a folder of its name."""

    def fetch(path: str, limit: int) -> bytes | None:
        try:
            with (folder / path).open("rb") as file:
                content = file.read(limit + 1)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        except OSError:
            raise Usage("The folder of the logs cannot be read.", slug="unreadable-file") from None
        if len(content) > limit:
            raise NotVerified("A file of the log is too large.", slug="tile-invalid")
        return content

    return fetch


def log_name(key: NoteKey) -> str:
    """Return where a log is found below `/log/`."""
    return key.name.rpartition("/")[2]


def fetch_checkpoint(
    fetch: Fetch, key: NoteKey, cosigners: Sequence[Cosigner] = (), name: str = "checkpoint"
) -> SignedCheckpoint:
    """Return the newest checkpoint of a log, or with `cosigned` the newest that cosigners signed.

    Raises NotVerified, LogIncomplete where there is none, and NetworkFailed.
    """
    data = fetch(f"{log_name(key)}/{name}", NOTE_LIMIT_BYTES)
    if data is None:
        raise LogIncomplete("There is no such log.", slug="log-missing")
    try:
        return open_checkpoint(data, key, cosigners)
    except ProtocolError as error:
        raise NotVerified(error.title, slug=error.slug) from None


def fetch_tile(fetch: Fetch, key: NoteKey, tile: Tile) -> bytes:
    """Return a tile or bundle, where a partial one is gone out of the full one. Raises NotVerified."""
    name = log_name(key)
    content = fetch(f"{name}/tile/{tile.path}", TILE_LIMIT_BYTES)
    if content is not None:
        return content
    whole = None if tile.is_full else fetch(f"{name}/tile/{tile.full.path}", TILE_LIMIT_BYTES)
    if whole is None:
        raise LogIncomplete("A file of the log is missing.", slug="tile-invalid")
    try:
        return narrowed(tile, whole)
    except TileInvalid as error:
        raise NotVerified(error.title, slug=error.slug) from None


@dataclass(frozen=True)
class Walked:
    """What a walk over a whole log found."""

    size: int
    tiles: int
    roots: Mapping[int, bytes]
    """The roots at the sizes that were asked about, as far as the log is that large."""


def walk(
    fetch: Fetch,
    key: NoteKey,
    checkpoint: Checkpoint,
    see: Callable[[int, bytes], None],
    sizes: Collection[int] = (),
) -> Walked:
    """Read every entry and every tile of a log and see that they are the tree of the checkpoint.

    `see` gets each entry with its place. Raises NotVerified.
    """
    partial = {tile for tile in tiles_of(checkpoint.size) if not tile.is_full}
    edge, count, roots = Edge(), 0, {0: Edge().root()}
    for entries in _batches(fetch, key, checkpoint.size):
        for place, entry in enumerate(entries, edge.size):
            see(place, entry)
        hashes = list(map(leaf_hash, entries))
        for size in sizes:
            if edge.size < size <= edge.size + len(hashes):
                roots[size] = edge.grown(hashes[: size - edge.size])[0].root()
        edge, tiles = edge.grown(hashes)
        for tile, content in tiles.items():
            if tile.is_full or tile in partial:
                count += 1
                if fetch_tile(fetch, key, tile) != content:
                    raise NotVerified(
                        "A tile is not what its entries make it.", slug="tile-invalid"
                    )
    if edge.root() != checkpoint.root:
        raise NotVerified(
            "The log's entries do not make the tree of its checkpoint.", slug="checkpoint-invalid"
        )
    return Walked(edge.size, count, roots)


def _batches(fetch: Fetch, key: NoteKey, size: int) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    for tile in bundles_of(size):
        try:
            batch += split_bundle(tile, fetch_tile(fetch, key, tile))
        except TileInvalid as error:
            raise NotVerified(error.title, slug=error.slug) from None
        if len(batch) >= TILES_AT_ONCE * WIDTH:
            yield batch
            batch = []
    if batch:
        yield batch


def fetch_proof(fetch: Fetch, key: NoteKey, leaf: bytes) -> TlogProof:
    """Return a proof that the custody log holds a leaf, verified. Raises ClientError."""
    answer = fetch(f"{log_name(key)}/proof/{leaf.hex()}", PROOF_LIMIT_BYTES)
    if answer is None:
        raise LogIncomplete("The log does not hold this yet.", slug="leaf-unknown")
    try:
        proof = TlogProof.parse(answer)
        proof.verify(leaf, key)
    except ProtocolError as error:
        raise NotVerified(error.title, slug=error.slug) from None
    return proof


def prove_somewhere(
    transport: Transport, logs: Sequence[RootPins], leaf: bytes
) -> TlogProof | None:
    """Return a proof by the newest of these custody logs that holds a leaf, to a checkpoint with its root's quorum.

    None while there is none: the log takes what came a moment later, and cosigners a while. Raises NotVerified.
    """
    for pins in reversed(logs):
        try:
            proof = fetch_proof(from_server(transport, Patience(1)), pins.custody_log, leaf)
        except LogIncomplete:
            continue
        try:
            proof.verify(leaf, pins.custody_log, pins.cosigners, pins.quorum)
        except CheckpointQuorum:
            return None
        except ProtocolError as error:
            raise NotVerified(error.title, slug=error.slug) from None
        return proof
    return None


def try_for_proof(transport: Transport, key: NoteKey, leaf: bytes) -> TlogProof | None:
    """Return a proof if the log has one within a second or two; without it a receipt is as good as with it."""
    for seconds in PROOF_WAITS_SECONDS:
        # The log takes what came in batches, a moment after the receipt.
        time.sleep(seconds)
        try:
            return fetch_proof(from_server(transport, Patience(1)), key, leaf)
        except LogIncomplete:
            continue
        except ClientError:
            return None
    return None
