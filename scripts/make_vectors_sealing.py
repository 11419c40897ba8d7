"""Write tests/vectors/sealing.json anew: run `python -m scripts.make_vectors_sealing`.

Sealing draws fresh randomness, so every run writes other sealed objects; only what a format change
made wrong needs a new run.
"""

import json
from pathlib import Path
from typing import Any

from amana.protocol import age, bech32
from amana.protocol.encoding import b64, sha256, sha256_hex
from amana.protocol.sealing import (
    OVERHEAD,
    Identity,
    Kind,
    TooLarge,
    frame,
    framed_size,
    padme,
    seal,
    seal_with_passphrase,
    sealed_size,
)
from tests.support.sealed_faults import sealed_faults, unopenable

TARGET = Path(__file__).parents[1] / "tests" / "vectors" / "sealing.json"
LENGTHS = (
    0,
    1,
    248,
    249,
    4088,
    4089,
    8184,
    8185,
    32760,
    32761,
    131064,
    131065,
    65528,
    65529,
    2**32,
)
PADME_SIZES = (
    2, 3, 9, 17, 100, 1000, 65536, 65537, 67585, 100_000, 131072, 1_000_000, 2**32 + 1, 2**52 + 1,
)  # fmt: skip


def bucket(kind: Kind, length: int) -> dict[str, Any]:
    try:
        framed = framed_size(kind, length)
    except TooLarge:
        return {"kind": kind, "length": length, "slug": TooLarge.slug}
    return {"kind": kind, "length": length, "framed": framed, "sealed": sealed_size(framed)}


def make() -> dict[str, Any]:
    seeds = [sha256(f"amana test vector {n}".encode()) for n in range(3)]
    identities = [Identity.from_seed(seed) for seed in seeds]
    first, recipient = identities[0], identities[0].recipient
    text = "شهادة مصطنعة · synthetic testimony".encode()
    file = seal(text, recipient, Kind.FILE)
    return {
        "about": "docs/protocol.md §2. Bytes are Base64; a slug says how an input is refused.",
        "padme": [{"size": size, "padded": padme(size)} for size in PADME_SIZES],
        "buckets": [bucket(kind, length) for kind in Kind for length in LENGTHS],
        "frames": [
            {"data": b64(data), "size": size, "framed": b64(frame(data, size))}
            for data, size in ((b"", 8), (b"", 16), (b"abc", 11), (b"a\0\0", 32))
        ],
        "frames_refused": [
            {"framed": b64(framed), "slug": "bad-frame"}
            for framed in (
                b"",
                bytes(7),
                bytes(15) + b"\1",
                bytes(7) + b"\1",
                bytes(7) + b"\2" + b"ab" + b"\0\1",
                b"\xff" * 16,
            )
        ],
        "identities": [
            {
                "seed": b64(identity.seed),
                "identity": str(identity),
                "recipient": str(identity.recipient),
                "recipient_sha256": sha256_hex(identity.recipient.raw),
            }
            for identity in identities
        ],
        "keys_refused": [
            str(first).lower(),
            str(recipient).upper(),
            str(recipient)[:-1],
            bech32.encode("age1pq", recipient.raw[:-1]),
            bech32.encode("age", recipient.raw[-32:]),
        ],
        "sealed": [
            {"kind": kind, "identity": 0, "data": b64(data), "sealed": b64(seal(data, recipient, kind))}
            for kind, data in (
                (Kind.GRANT, text),
                (Kind.SHARE, bytes(32)),
                (Kind.REPLY, text * 50),
                (Kind.MANIFEST, text * 100),
            )
        ],
        "heads": [
            {"kind": kind, "head": b64(file[:OVERHEAD]), "size": size, "slug": slug}
            for kind, size, slug in (
                (Kind.FILE, len(file), None),
                (Kind.FILE, sealed_size(padme(4 * 2**40 + 12345)), None),
                (Kind.FILE, len(file) - 1, "sealed-size"),
                (Kind.FILE, len(file) + 16, "sealed-size"),
                (Kind.FILE, sealed_size(4096), "sealed-bucket"),
                (Kind.MANIFEST, sealed_size(131072), None),
                (Kind.MANIFEST, sealed_size(65536), "sealed-bucket"),
                (Kind.REPLY, OVERHEAD, "sealed-size"),
                (Kind.REPLY, OVERHEAD + age.TAG, "sealed-size"),
            )
        ],
        "refused": [
            {"name": name, "kind": fault.kind, "slug": fault.slug, "object": b64(fault.data)}
            for name, fault in sealed_faults(recipient).items()
            if len(fault.data) < 10_000
        ],
        "unopenable": [
            {"name": name, "identity": 0, "kind": fault.kind, "slug": fault.slug, "object": b64(fault.data)}
            for name, fault in unopenable(recipient).items()
        ],
        "passphrase": [
            {
                "passphrase": phrase,
                "data": b64(text),
                "sealed": b64(seal_with_passphrase(text, phrase, work_factor=10)),
            }
            for phrase in ("demo", "عبارة مرور")
        ],
    }  # fmt: skip


if __name__ == "__main__":
    TARGET.write_text(json.dumps(make(), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
