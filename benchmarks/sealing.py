"""How fast files are sealed and opened, beside a bare ChaCha20-Poly1305 pass over the same bytes."""

import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from amana.protocol.sealing import Identity, open_stream, seal_stream

CHUNK = 64 * 1024
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - a disk would be measured otherwise


def bare_pass(source: BinaryIO, target: BinaryIO) -> None:
    """Encrypt chunk by chunk from file to file, with neither header, padding nor hashes."""
    cipher, count = ChaCha20Poly1305(os.urandom(32)), 0
    while chunk := source.read(CHUNK):
        target.write(cipher.encrypt(count.to_bytes(12, "big"), chunk, None))
        count += 1


def bare_pass_in_memory(data: bytes) -> None:
    """Encrypt chunk by chunk into one buffer that is never read."""
    cipher, out = ChaCha20Poly1305(os.urandom(32)), memoryview(bytearray(CHUNK + 16))
    view = memoryview(data)
    for count, start in enumerate(range(0, len(data), CHUNK)):
        chunk = view[start : start + CHUNK]
        cipher.encrypt_into(count.to_bytes(12, "big"), chunk, None, out[: len(chunk) + 16])


def measure(size_mib: int = 256, repeats: int = 7) -> dict[str, Any]:
    """Return medians in MB/s and their ratios; the passes take turns, so that all see the same noise.

    `seal` and `open` include SHA-256 of data and of sealed object. The file has the largest size of
    its bucket, so that all passes handle the same number of bytes.
    """
    length = size_mib * 2**20 - 8
    identity = Identity.generate()
    with tempfile.TemporaryDirectory(
        dir=SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else None
    ) as name:
        plain, bare, sealed, opened = (Path(name, file) for file in ("plain", "bare", "age", "out"))
        data = os.urandom(length)
        plain.write_bytes(data)

        def between(
            source: Path, target: Path, work: Callable[[BinaryIO, BinaryIO], object]
        ) -> Callable[[], None]:
            def run() -> None:
                target.unlink(missing_ok=True)
                with (
                    source.open("rb", buffering=0) as reader,
                    target.open("wb", buffering=0) as out,
                ):
                    work(reader, out)

            return run

        passes: dict[str, Callable[[], None]] = {
            "bare": between(plain, bare, bare_pass),
            "bare_in_memory": lambda: bare_pass_in_memory(data),
            "seal": between(
                plain, sealed, lambda r, w: seal_stream(r, w, identity.recipient, length)
            ),
            "open": between(sealed, opened, lambda r, w: open_stream(r, w, identity)),
        }
        seconds: dict[str, list[float]] = {label: [] for label in passes}
        for _ in range(repeats):
            for label, run in passes.items():
                started = time.perf_counter()
                run()
                seconds[label].append(time.perf_counter() - started)
        assert opened.read_bytes() == data
    speed = {label: length / 1e6 / statistics.median(taken) for label, taken in seconds.items()}
    return {
        "size_mib": size_mib,
        "repeats": repeats,
        "cpus": os.cpu_count(),
        "mb_per_second": {label: round(value) for label, value in speed.items()},
        "seal_to_bare": round(speed["seal"] / speed["bare"], 2),
        "open_to_bare": round(speed["open"] / speed["bare"], 2),
        "seal_to_bare_in_memory": round(speed["seal"] / speed["bare_in_memory"], 2),
        "open_to_bare_in_memory": round(speed["open"] / speed["bare_in_memory"], 2),
    }


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
