# SPDX-License-Identifier: AGPL-3.0-or-later
"""Withdrawal of a case of 4 GiB without a delay: how soon it is acknowledged, and how soon its bytes are gone."""

import hashlib
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

from amana.protocol.control import sign_control
from amana.protocol.sealing import OVERHEAD, Kind, framed_size, sealed_size
from amana.protocol.submission import DeclaredObject, objects_bytes
from tests.support.server import wait_until
from tests.support.uploads import Client, OpenPatch

MIB = 2**20
SIZE = 4000 * MIB


def measure(client: Client) -> dict[str, float]:
    """Send a large case and withdraw it; the upload itself is not counted."""
    made = client.testimony(files=[b"x"], withdrawal_delay_days=0)
    total = sealed_size(framed_size(Kind.FILE, SIZE))
    head, noise = made.sealed[0][:OVERHEAD], os.urandom(MIB)

    def body() -> Iterator[bytes]:
        yield head
        left = total - len(head)
        while left:
            yield noise[:left]
            left -= min(left, MIB)

    digest = hashlib.sha256()
    for block in body():
        digest.update(block)
    objects = objects_bytes([DeclaredObject(1, total, digest.hexdigest())])
    submission = replace(made.submission, objects=objects)
    # Only its length is asked for, and nobody wants four gigabytes in memory.
    made = replace(made, submission=submission, sealed=(range(total),))
    [location], completion = client.announce(made)
    patch = OpenPatch(client.url, location, 0, total)
    for block in body():
        patch.send(block)
    patch.socket.settimeout(300)
    assert patch.answer() == 204
    wait_until(lambda: client.complete(completion).status_code == 200, "the receipt", seconds=600)

    def stored() -> int:
        # Of this case: the public logs lie in the same folder and grow meanwhile.
        found = client.objects.glob(f"*/{made.case}/*")
        return sum(path.stat().st_size for path in found)

    assert stored() >= total
    statement = sign_control(
        made.control,
        deployment=client.directory.deployment,
        kind="withdraw",
        made_on=datetime.now(UTC).date(),
    )
    began = time.perf_counter()
    answer = client.http.post("/v1/control", json={"statement": statement})
    acknowledged = time.perf_counter() - began
    assert answer.status_code == 200, answer.text
    wait_until(lambda: not stored(), "the bytes to be gone", seconds=120)
    gone = time.perf_counter() - began
    return {
        "gib": round(total / 2**30, 2),
        "acknowledged_seconds": round(acknowledged, 3),
        "gone_seconds": round(gone, 3),
    }
