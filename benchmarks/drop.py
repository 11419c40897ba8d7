# SPDX-License-Identifier: AGPL-3.0-or-later
"""How long it takes to look through a shard of 256 slots for what is one's own, beside opening as many of one's own."""

import time

from amana.protocol.drop import scan
from amana.protocol.sealing import Identity, Kind, open_sealed, seal
from benchmarks.load import medians

SLOTS = 256


def measure(runs: int) -> dict[str, float]:
    """Return medians over `runs` in seconds; the download is not in them."""
    mine, another = Identity.generate(), Identity.generate()
    shard = [seal(b"a dummy", another.recipient, Kind.REPLY) for _ in range(SLOTS)]
    own = [seal(b"a reply", mine.recipient, Kind.REPLY) for _ in range(SLOTS)]
    shard[100] = own[0]
    return medians(lambda: _once(b"".join(shard), own, mine), runs)


def _once(shard: bytes, own: list[bytes], mine: Identity) -> dict[str, float]:
    began = time.perf_counter()
    assert len(list(scan(shard, mine))) == 1
    scanned = time.perf_counter()
    for slot in own:
        open_sealed(slot, mine, Kind.REPLY)
    return {"scan_s": round(scanned - began, 3), "open_s": round(time.perf_counter() - scanned, 3)}
