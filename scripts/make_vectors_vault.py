# SPDX-License-Identifier: AGPL-3.0-or-later
"""Write tests/vectors/vault.json anew: `python -m scripts.make_vectors_vault`. All keys and all chance are fixed."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from amana.protocol.encoding import b64
from amana.protocol.release import reason_sha256
from amana.protocol.sealing import Identity
from amana.protocol.vault import (
    Randomness,
    piece_text,
    released_text,
    resharing,
    share_text,
    split,
    subset_id,
    subsets,
    vault_key_id,
)

TARGET = Path(__file__).parents[1] / "tests" / "vectors" / "vault.json"
CASE, REQUEST, READER = "c" * 32, "r" * 32, "q" * 32
CUSTODIANS = ["a" * 32, "b" * 32, "d" * 32]
NEW = ["b" * 32, "d" * 32, "e" * 32]
K = 2
REASON = '{"case":"%s","reason":"نص","request":"%s","salt":"%s","v":1}'


def seed(name: str) -> bytes:
    """Return 32 fixed bytes: SHA-256 of a name."""
    return hashlib.sha256(f"amana-vectors {name}".encode()).digest()


def chance(name: str) -> Randomness:
    """Return a source that gives fixed bytes, 32 at a time: SHA-256 of a name with a count."""

    def stream() -> Iterator[bytes]:
        count = 0
        while True:
            yield seed(f"{name} {count}")
            count += 1

    drawn = stream()
    return lambda _size: next(drawn)


def vectors() -> dict[str, Any]:
    """Return names, shares as they are sealed, what a custodian seals to a reader, and pieces of a re-sharing."""
    identity = Identity.from_seed(seed("vault"))
    randomness = chance("share")
    dealt = {subset: split(identity.seed, K, randomness) for subset in subsets(CUSTODIANS, K)}
    shares = [
        {
            "subset": subset,
            "custodian": custodian,
            "share": b64(share),
            "text": share_text(
                share, case=CASE, vault="identity", custodian=custodian, subset=subset
            ).decode(),
            "released": released_text(
                share,
                request=REQUEST,
                case=CASE,
                vault="identity",
                to=READER,
                custodian=custodian,
                subset=subset,
            ).decode(),
        }
        for subset, parts in dealt.items()
        for custodian, share in zip(subset, parts, strict=True)
    ]
    plan = resharing(list(dealt), NEW, K)
    [source] = plan.sources
    pieces = [
        {
            "maker": maker,
            "subset": subset,
            "custodian": custodian,
            "piece": b64(piece),
            "text": piece_text(
                piece,
                case=CASE,
                vault="identity",
                maker=maker,
                source=source,
                custodian=custodian,
                subset=subset,
            ).decode(),
        }
        for maker, share in zip(source, dealt[source], strict=True)
        for randomness in [chance(f"piece {maker}")]
        for subset in plan.missing
        for custodian, piece in zip(subset, split(share, K, randomness), strict=True)
    ]
    reason = REASON % (CASE, REQUEST, b64(seed("salt")))
    return {
        "about": "The vault (docs/protocol.md §3.1 and 3.2): 2 of 3 custodians. Secrets are Base64 of 32 bytes.",
        "case": CASE,
        "seed": b64(identity.seed),
        "key": vault_key_id(identity.recipient),
        "k": K,
        "custodians": CUSTODIANS,
        "subset_ids": {",".join(one): subset_id(one) for one in dealt},
        "request": REQUEST,
        "reader": READER,
        "shares": shares,
        "resharing": {
            "custodians": NEW,
            "source": source,
            "missing": plan.missing,
            "superfluous": plan.superfluous,
            "pieces": pieces,
        },
        "reason": {"bytes": reason, "sha256": reason_sha256(reason.encode())},
    }


def text() -> str:
    return json.dumps(vectors(), indent=1, ensure_ascii=False, sort_keys=True) + "\n"


if __name__ == "__main__":
    TARGET.write_text(text(), encoding="utf-8")
