# SPDX-License-Identifier: AGPL-3.0-or-later
"""Write tests/vectors/log.json anew: `python -m scripts.make_vectors_log`. All keys are fixed, so runs agree."""

import hashlib
import json
from pathlib import Path
from typing import Any

from amana.protocol.checkpoint import (
    Checkpoint,
    KeyType,
    NoteKey,
    cosign,
    log_key,
    sign_checkpoint,
    with_signatures,
)
from amana.protocol.encoding import b64, sha256_hex
from amana.protocol.merkle import (
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    root_hash,
)
from amana.protocol.signing import SigningKey
from amana.protocol.tiles import ENTRIES, Edge, Tile, TileReader, bundle, bundles_of, tiles_of
from amana.protocol.tlogproof import TlogProof

TARGET = Path(__file__).parents[1] / "tests" / "vectors" / "log.json"
ORIGIN = "amana-vectors/custody"
SIZE = 70_000
ADDRESSES = (Tile(0, 0), Tile(0, 273, 112), Tile(1, 1234067), Tile(2, 1000, 1), Tile(ENTRIES, 7, 3))


def seed(name: str) -> bytes:
    """Return the 32 bytes of a fixed key: SHA-256 of its name."""
    return hashlib.sha256(f"amana-vectors {name}".encode()).digest()


def entry(number: int) -> bytes:
    """Return an entry of the tree of the vectors: SHA-256 of the number in decimal."""
    return hashlib.sha256(str(number).encode()).digest()


def vectors() -> dict[str, Any]:
    """Return trees, tiles, checkpoints and proofs, with every input."""
    edge, tiles = Edge().grown([leaf_hash(entry(number)) for number in range(SIZE)])
    log, cosigner = SigningKey(seed("custody")), SigningKey(seed("cosigner"))
    roots = {size: _root(tiles, size) for size in (0, 1, 2, 3, 255, 256, 257, 300)}
    checkpoint = Checkpoint(ORIGIN, SIZE, edge.root())
    note = sign_checkpoint(log, checkpoint)
    cosigned = cosign("cosigner.example/one", cosigner, note.text, 1_795_000_000)
    proofs = {
        number: TlogProof(number, tuple(inclusion_proof(_reader(tiles), number, SIZE)), note)
        for number in (0, 257, 65_535, 65_536, SIZE - 1)
    }
    return {
        "about": "Entry n is SHA-256 of n in decimal, as ASCII. Hashes are hexadecimal unless a format says Base64.",
        "roots": {str(size): root.hex() for size, root in roots.items()}
        | {str(SIZE): edge.root().hex()},
        "inclusion": [
            {
                "index": number,
                "size": 300,
                "hashes": [one.hex() for one in inclusion_proof(_reader(tiles), number, 300)],
            }
            for number in (0, 100, 255, 256, 299)
        ],
        "consistency": [
            {
                "old": old,
                "size": size,
                "hashes": [one.hex() for one in consistency_proof(_reader(tiles), old, size)],
            }
            for old, size in ((1, 300), (255, 257), (256, 300), (257, 300), (300, 300))
        ],
        "addresses": [
            {
                "level": "entries" if one.level == ENTRIES else one.level,
                "index": one.index,
                "width": one.width,
                "path": one.path,
            }
            for one in ADDRESSES
        ],
        "tiles": {
            "size": SIZE,
            "partial": {
                one.path: sha256_hex(tiles[one]) for one in tiles_of(SIZE) if not one.is_full
            },
            "full": {
                one.path: sha256_hex(tiles[one]) for one in (Tile(0, 0), Tile(0, 272), Tile(1, 0))
            },
            "bundles": {
                one.path: sha256_hex(
                    bundle([entry(one.index * 256 + at) for at in range(one.width)])
                )
                for one in bundles_of(300)
            },
        },
        "checkpoint": {
            "seed": b64(seed("custody")),
            "vkey": log_key(ORIGIN, log.public).vkey,
            "note": str(note),
        },
        "cosignature": {
            "seed": b64(seed("cosigner")),
            "vkey": NoteKey(cosigned.name, KeyType.COSIGNER, cosigner.public).vkey,
            "time": 1_795_000_000,
            "note": str(with_signatures(note, [cosigned])),
        },
        "proofs": {str(number): bytes(proof).decode() for number, proof in proofs.items()},
    }


def _reader(tiles: dict[Tile, bytes]) -> Any:
    return TileReader(tiles.__getitem__, SIZE)


def _root(tiles: dict[Tile, bytes], size: int) -> bytes:
    return root_hash(_reader(tiles), size)


def text() -> str:
    return json.dumps(vectors(), ensure_ascii=False, indent=1) + "\n"


if __name__ == "__main__":
    TARGET.write_text(text(), "utf-8")
