# SPDX-License-Identifier: AGPL-3.0-or-later
"""A load client that costs little itself: prepared bytes over kept connections, in one asyncio loop."""

import asyncio
import os
import re
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass
class Result:
    """What a run saw: seconds of each request, and how many were not answered as expected."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    errors: int = 0

    @property
    def rate(self) -> float:
        return len(self.latencies) / self.seconds if self.seconds else 0.0

    def percentile_ms(self, percent: float) -> float:
        ordered = sorted(self.latencies)
        return (
            1000 * ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
            if ordered
            else 0.0
        )


class Connection:
    """One kept HTTP/1.1 connection."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def send(self, request: bytes) -> tuple[int, bytes]:
        """Send a whole request; return status and body."""
        if self._writer is None or self._writer.is_closing():
            self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        assert self._reader is not None
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        body = await self._reader.readexactly(int(length.group(1))) if length else b""
        if b"connection: close" in head.lower():
            self._writer.close()
            self._writer = None
        return int(head[9:12]), body

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


async def run(
    host: str, port: int, requests: Sequence[bytes], concurrency: int, expected: int
) -> Result:
    """Send every request once, `concurrency` at a time."""
    result = Result()
    queue = iter(requests)

    async def worker() -> None:
        connection = Connection(host, port)
        for request in queue:
            began = time.perf_counter()
            try:
                status, _ = await connection.send(request)
            except (OSError, asyncio.IncompleteReadError):
                result.errors += 1
                connection = Connection(host, port)
                continue
            if status == expected:
                result.latencies.append(time.perf_counter() - began)
            else:
                result.errors += 1
        connection.close()

    began = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(concurrency)))
    result.seconds = time.perf_counter() - began
    return result


def cpu_seconds(group: int) -> float:
    """Return the CPU seconds of all processes of a process group, those that ended excepted."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group:
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def peak_memory_mib(group: int) -> float:
    """Return the largest peak memory of one process of a process group."""
    peak = 0
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            if os.getpgid(int(status.parent.name)) != group:
                continue
            match = re.search(r"VmHWM:\s+(\d+)", status.read_text())
        except OSError:
            continue
        peak = max(peak, int(match.group(1)) if match else 0)
    return peak / 1024


def medians(measure: Callable[[], dict[str, float]], runs: int) -> dict[str, float]:
    """Run a measurement several times and return the median of each figure."""
    seen = [measure() for _ in range(runs)]
    return {name: statistics.median(one[name] for one in seen) for name in seen[0]}


def wait(awaitable: Awaitable[Result]) -> Result:
    """Run an awaitable to its end."""

    async def whole() -> Result:
        return await awaitable

    return asyncio.run(whole())
