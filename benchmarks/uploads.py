# SPDX-License-Identifier: AGPL-3.0-or-later
"""Large objects: one of 512 MiB beside nginx's own WebDAV PUT, and hundreds of slow ones beside a health probe."""

import asyncio
import hashlib
import os
import socket
import statistics
import time
from dataclasses import replace

from amana.protocol.sealing import OVERHEAD, Kind, framed_size, sealed_size
from amana.protocol.submission import DeclaredObject, objects_bytes
from benchmarks.load import Result, cpu_seconds, peak_memory_mib
from tests.support.server import Service
from tests.support.uploads import Client, OpenPatch

MIB = 2**20
SLOW_BYTES = 200_000


def sealed_body(head: bytes, size: int) -> bytes:
    """Return `size` bytes that have the form of a sealed object: a real header and noise."""
    noise = os.urandom(MIB)
    body = head + noise * (size // MIB + 1)
    return body[:size]


def announce(client: Client, size: int) -> tuple[str, bytes]:
    """Announce one object of at least `size` bytes and return its address and its bytes."""
    made = client.testimony(files=[b"x"])
    total = sealed_size(framed_size(Kind.FILE, size))
    body = sealed_body(made.sealed[0][:OVERHEAD], total)
    objects = objects_bytes([DeclaredObject(1, total, hashlib.sha256(body).hexdigest())])
    made = replace(made, submission=replace(made.submission, objects=objects), sealed=(body,))
    [location], _ = client.announce(made)
    return location, body


def one_large(service: Service, client: Client, address: str, size: int) -> dict[str, float]:
    """Send one object in one request over `address` (nginx, or the service itself)."""
    location, body = announce(client, size)
    assert service.process is not None
    before = cpu_seconds(service.process.pid)
    began = time.perf_counter()
    patch = OpenPatch(address, location, 0, len(body))
    patch.send(body)
    assert patch.answer() == 204
    seconds = time.perf_counter() - began
    return {
        "mb_per_second": round(len(body) / 1e6 / seconds, 1),
        "server_cpu_seconds": round(cpu_seconds(service.process.pid) - before, 2),
        "peak_memory_mib": round(peak_memory_mib(service.process.pid), 0),
    }


def webdav_put(port: int, name: str, body: bytes) -> float:
    """Send the same bytes to nginx's own PUT and return MB/s."""
    began = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port), timeout=120) as connection:
        connection.sendall(
            f"PUT /bench/{name} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        )
        connection.sendall(body)
        status = connection.recv(4096).split(b" ", 2)[1]
    assert status in {b"201", b"204"}, status
    return len(body) / 1e6 / (time.perf_counter() - began)


async def _slow(host: str, port: int, request: bytes, body: bytes, rate: int) -> bool:
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(request)
    step = rate // 4
    for start in range(0, len(body), step):
        writer.write(body[start : start + step])
        await writer.drain()
        await asyncio.sleep(0.25)
    head = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    return head.split(b" ", 2)[1] == b"204"


async def _probe(host: str, port: int, over: asyncio.Event) -> Result:
    result = Result()
    while not over.is_set():
        began = time.perf_counter()
        try:
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(
                b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
            )
            data = await asyncio.wait_for(reader.read(), 10)
            writer.close()
            if b" 200 " in data[:20]:
                result.latencies.append(time.perf_counter() - began)
            else:
                result.errors += 1
        except (OSError, TimeoutError):
            result.errors += 1
        await asyncio.sleep(0.05)
    return result


def slow_clients(
    service: Service, client: Client, port: int, count: int, rate: int
) -> dict[str, float]:
    """Begin `count` uploads in one instant, each at `rate` bytes a second, and probe the service until all are done."""
    prepared = []
    for _ in range(count):
        location, body = announce(client, SLOW_BYTES)
        head = (
            f"PATCH {location} HTTP/1.1\r\nHost: 127.0.0.1\r\nTus-Resumable: 1.0.0\r\n"
            "Content-Type: application/offset+octet-stream\r\nUpload-Offset: 0\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        prepared.append((head.encode(), body))

    async def run() -> tuple[list[bool], Result]:
        over = asyncio.Event()
        probe = asyncio.create_task(_probe("127.0.0.1", port, over))
        sent = await asyncio.gather(
            *(_slow("127.0.0.1", port, head, body, rate) for head, body in prepared),
            return_exceptions=True,
        )
        over.set()
        return [one is True for one in sent], await probe

    done, health = asyncio.run(run())
    assert service.process is not None
    return {
        "uploads_done": sum(done),
        "health_p50_ms": round(health.percentile_ms(50), 1),
        "health_p99_ms": round(health.percentile_ms(99), 1),
        "health_worst_ms": round(health.percentile_ms(100), 1),
        "health_probes": len(health.latencies),
        "health_errors": health.errors,
        "peak_memory_mib": round(peak_memory_mib(service.process.pid), 0),
    }


def median(values: list[float]) -> float:
    return round(statistics.median(values), 1)
