"""A log in memory, whose owner has its key and no scruples: it may fork, roll back and show everybody something else."""

from dataclasses import dataclass, field

from amana.protocol.checkpoint import (
    Checkpoint,
    Note,
    NoteKey,
    Signature,
    cosign,
    log_key,
    sign_checkpoint,
    with_signatures,
)
from amana.protocol.cosigning import AddCheckpoint
from amana.protocol.merkle import Frontier, consistency_proof, leaf_hash, node_hash
from amana.protocol.signing import SigningKey
from amana.protocol.tiles import ENTRIES, WIDTH, Tile, TileInvalid, bundle


@dataclass
class Logbook:
    """Entries under an origin; `cosigned` is what is served under that name."""

    origin: str
    key: SigningKey = field(default_factory=SigningKey.generate)
    entries: list[bytes] = field(default_factory=list)
    cosigned: Note | None = None
    asked: list[str] = field(default_factory=list)
    given: int = 0
    """How many bytes were given out."""

    @property
    def verifier(self) -> NoteKey:
        return log_key(self.origin, self.key.public)

    def add(self, *entries: bytes) -> "Logbook":
        self.entries += entries
        return self

    def fork(self, size: int, *entries: bytes) -> "Logbook":
        """Return another history with the same key, which goes on after the first `size` entries."""
        return Logbook(self.origin, self.key, [*self.entries[:size], *entries])

    def read(self, level: int, index: int) -> bytes:
        """Give the hash of a perfect subtree."""
        if level == 0:
            return leaf_hash(self.entries[index])
        return node_hash(self.read(level - 1, 2 * index), self.read(level - 1, 2 * index + 1))

    def checkpoint(self, size: int | None = None, key: SigningKey | None = None) -> Note:
        """Sign what the first `size` entries, or all, make up."""
        count = len(self.entries) if size is None else size
        tree = Frontier()
        for entry in self.entries[:count]:
            tree.append(leaf_hash(entry))
        return sign_checkpoint(key or self.key, Checkpoint(self.origin, count, tree.root()))

    def request(self, old: int, size: int | None = None) -> AddCheckpoint:
        """Ask a cosigner to follow from `old` to `size` or to all."""
        count = len(self.entries) if size is None else size
        proof = consistency_proof(self.read, old, count) if old <= count else []
        return AddCheckpoint(old, tuple(proof), self.checkpoint(count))

    def cosign(self, keys: dict[str, SigningKey], time: int, size: int | None = None) -> None:
        """Serve the checkpoint with cosignatures of these keys by name, at a POSIX time."""
        note = self.checkpoint(size)
        signatures: list[Signature] = [
            cosign(name, key, note.text, time) for name, key in keys.items()
        ]
        self.cosigned = with_signatures(note, signatures)

    def get(self, path: str, _limit: int = 0) -> bytes | None:
        """Give what is served below `/log/`."""
        self.asked.append(path)
        content = self._content(path.partition("/")[2])
        self.given += len(content or b"")
        return content

    def _content(self, name: str) -> bytes | None:
        if name == "checkpoint":
            return bytes(self.checkpoint())
        if name == "cosigned":
            return None if self.cosigned is None else bytes(self.cosigned)
        try:
            tile = Tile.parse(name.removeprefix("tile/"))
        except TileInvalid:
            return None
        first = tile.index * WIDTH
        if tile.level == ENTRIES:
            found = self.entries[first : first + tile.width]
            return bundle(found) if len(found) == tile.width else None
        if (first + tile.width) << (8 * tile.level) > len(self.entries):
            return None
        return b"".join(self.read(8 * tile.level, first + at) for at in range(tile.width))
