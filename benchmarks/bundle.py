# SPDX-License-Identifier: AGPL-3.0-or-later
"""Checking a bundle beside `sha256sum` over the same bytes: everything is hashed, and every sealed file opened besides."""

import hashlib
import os
import subprocess
import tempfile
import time
from pathlib import Path

from amana.client.bundle import folder_entries
from amana.client.bundlecheck import read_contents
from amana.protocol.opening import make_opening
from amana.protocol.sealing import Identity, seal_stream
from benchmarks.load import medians

MIB = 2**20


def measure(mib: int, runs: int) -> dict[str, float]:
    """Make a bundle with one large object, sealed and open, and check it; both find the files in memory."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        _make(folder, mib)
        paths = sorted(one for one in folder.rglob("*") if one.is_file())
        total = sum(one.stat().st_size for one in paths)

        def once() -> dict[str, float]:
            began = time.perf_counter()
            subprocess.run(["sha256sum", *paths], check=True, stdout=subprocess.DEVNULL)
            between = time.perf_counter()
            contents = read_contents(folder_entries(folder))
            ended = time.perf_counter()
            assert contents.opened == {1: None}
            return {"sha256sum": between - began, "check": ended - between}

        once()
        middle = medians(once, runs)
    return {
        "mib": round(total / MIB),
        "sha256sum_mib_s": round(total / MIB / middle["sha256sum"]),
        "check_mib_s": round(total / MIB / middle["check"]),
        "of_sha256sum": round(middle["sha256sum"] / middle["check"], 2),
    }


def _make(folder: Path, mib: int) -> None:
    case = Identity.generate()
    for name in ("files", "openings", "sealed"):
        (folder / "data" / name).mkdir(parents=True)
    plain, sealed = folder / "data/files/1.bin", folder / "data/sealed/1.age"
    block, digest = os.urandom(MIB), hashlib.sha256()
    with plain.open("wb") as file:
        for _ in range(mib):
            file.write(block)
            digest.update(block)
    with plain.open("rb") as source, sealed.open("wb") as target:
        made = seal_stream(source, target, case.recipient, mib * MIB)
    with sealed.open("rb") as source:
        opening = make_opening(
            source,
            case,
            sealed_sha256=made.sealed_sha256,
            sha256=digest.hexdigest(),
            length=mib * MIB,
        )
    (folder / "data/openings/1.json").write_bytes(bytes(opening))
