# SPDX-License-Identifier: AGPL-3.0-or-later
"""A shard of 256 slots: looked through for what is one's own, beside opening as many of one's own; and from a server."""

import time

import sqlalchemy as sa

from amana.client.transport import Transport
from amana.protocol.drop import MAX_SLOTS, SLOT_BYTES, scan, slots_of
from amana.protocol.encoding import random_id
from amana.protocol.sealing import Identity, Kind, open_sealed, seal
from amana.replies.models import WaitingSlot
from amana.storage.database import Database
from benchmarks.load import medians
from tests.support.server import Service, amana

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


def measure_served(service: Service, runs: int) -> dict[str, float]:
    """Return medians in seconds of what a witness's client does with a shard of a running server, on a new connection."""
    mine = Identity.generate()
    _fill(service, mine)
    return medians(lambda: _served_once(service, mine), runs)


def _fill(service: Service, mine: Identity) -> None:
    """Let more than half of the slots wait, one of them for `mine`, and publish them."""
    for_others = (Identity.generate().recipient for _ in range(SLOTS // 2))
    waiting = [seal(b"a reply", one, Kind.REPLY) for one in (mine.recipient, *for_others)]
    database = Database(service.env["AMANA_DATABASE_URL"])
    with database.transaction() as session:
        rows = [{"bits": 0, "shard": 0, "id": random_id(), "sealed": one} for one in waiting]
        session.execute(sa.insert(WaitingSlot), rows)
    database.dispose()
    amana("maintain", "--data", service.data, "--publish-drop", env=service.env)


def _served_once(service: Service, mine: Identity) -> dict[str, float]:
    began, data = time.perf_counter(), bytearray()
    with Transport(service.url) as transport:
        limit = MAX_SLOTS * SLOT_BYTES
        answer = transport.ask("GET", "/v1/drop/0/0", limit=limit, write=data.extend)
    downloaded = time.perf_counter()
    assert answer.status == 200
    assert len(slots_of(bytes(data))) == SLOTS
    assert len(list(scan(bytes(data), mine))) == 1
    ended = time.perf_counter()
    return {
        "download_s": round(downloaded - began, 3),
        "scan_s": round(ended - downloaded, 3),
        "both_s": round(ended - began, 3),
    }
