# SPDX-License-Identifier: AGPL-3.0-or-later
"""Write tests/vectors/timestamps.json: stamps of an OpenSSL authority that is made for it and thrown away.

Nobody can make the same stamps twice, so this is run again only if their form changes. The first chain expires
within a minute of its making: it shows that a stamp outlives its authority's certificates.
"""

import base64
import json
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

from amana.protocol.checkpoint import Checkpoint, sign_checkpoint
from amana.protocol.signing import SigningKey
from amana.protocol.timestamp import verify_stamp
from tests.support.authority import Authority, now

PLACE = Path(__file__).parents[1] / "tests" / "vectors" / "timestamps.json"


def _vector(authority: Authority, stamped: bytes) -> dict[str, Any]:
    response = authority.stamp(stamped)
    stamp = verify_stamp(response, stamped, [authority.root])
    return {
        "stamped": stamped.decode("utf-8"),
        "response": base64.b64encode(response).decode("ascii"),
        "root": (authority.folder / "root.pem").read_text("ascii"),
        "chain": stamp.chain_pem.decode("ascii"),
        "at": stamp.at.isoformat(),
        "authority": stamp.authority,
    }


def main() -> None:
    key = SigningKey(bytes(range(32)))
    note = sign_checkpoint(key, Checkpoint("amana-demo/custody", 256, bytes(range(32))))
    soon = now() + timedelta(minutes=1)
    with tempfile.TemporaryDirectory() as folder:
        brief = Authority(Path(folder) / "brief", "Brief Clock", until=soon, root_until=soon)
        long = Authority(
            Path(folder) / "long", "Long Clock", root_days=(-1, 36500), own_days=(-1, 36500)
        )
        vectors = {
            "expired_since": _vector(brief, bytes(note)),
            "valid_for_long": _vector(long, bytes(note)),
        }
    PLACE.write_text(json.dumps(vectors, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
