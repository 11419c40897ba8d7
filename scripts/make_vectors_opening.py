# SPDX-License-Identifier: AGPL-3.0-or-later
"""Write tests/vectors/opening.json anew: `python -m scripts.make_vectors_opening`. Sealing draws keys: no two runs agree."""

import io
import json
from pathlib import Path
from typing import Any

from amana.protocol import age
from amana.protocol.encoding import b64, canonical, sha256_hex
from amana.protocol.opening import Opening, make_opening
from amana.protocol.sealing import HEADER_SIZE, Identity, Kind, frame, framed_size, seal

TARGET = Path(__file__).parents[1] / "tests" / "vectors" / "opening.json"
DATA = "[SYNTHETIC] شهادة\n".encode() * 3


def make() -> dict[str, Any]:
    """Return one sealed account with its opening, and openings and files that must be refused."""
    case = Identity.from_seed(bytes(range(32)))
    sealed = seal(DATA, case.recipient, Kind.ACCOUNT)
    opening = make_opening(
        io.BytesIO(sealed),
        case,
        sealed_sha256=sha256_hex(sealed),
        sha256=sha256_hex(DATA),
        length=len(DATA),
    )
    other, lie = bytes(16), b"[SYNTHETIC] another text"
    # A payload under another key behind the same header: the MAC alone tells.
    swapped = sealed[:HEADER_SIZE] + age.seal_payload(
        other, frame(lie, framed_size(Kind.ACCOUNT, len(lie)))
    )
    forged = Opening(sha256_hex(swapped), other, sha256_hex(lie), len(lie))
    fields = json.loads(bytes(opening))
    return {
        "about": "docs/protocol.md §11. Bytes are Base64; where no sealed file stands, the first one is meant.",
        "sealed": b64(sealed),
        "data": b64(DATA),
        "opening": bytes(opening).decode("ascii"),
        "refused": [
            {"why": why, "slug": slug, "sealed": None if file is sealed else b64(file), "opening": document.decode("ascii")}
            for why, slug, file, document in (
                ("another file key", "header-altered", sealed, canonical({**fields, "file_key": b64(other)})),
                ("the header commits to another key", "header-altered", swapped, bytes(forged)),
                ("another plaintext", "opening-differs", sealed, canonical({**fields, "sha256": "0" * 64})),
                ("another length", "opening-differs", sealed, canonical({**fields, "len": 1})),
                ("another ciphertext", "opening-differs", sealed, canonical({**fields, "sealed_sha256": "0" * 64})),
            )
        ],
    }  # fmt: skip


if __name__ == "__main__":
    TARGET.write_text(json.dumps(make(), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
