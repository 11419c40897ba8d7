# SPDX-License-Identifier: AGPL-3.0-or-later
"""Text-only testimonies: how many a second are accepted, how long each takes, and what it costs the server."""

import asyncio
import os
from pathlib import Path
from typing import Any

import httpx2

from amana.client.directory import fetch_directory
from amana.protocol.admission import Notice, pay
from amana.protocol.sealing import Recipient
from amana.protocol.submission import Submission
from benchmarks.load import Result, cpu_seconds, peak_memory_mib, run
from tests.support.server import Service
from tests.support.testimonies import make_testimony

BOUNDARY = "amana-bench"


def request_bytes(submission: Submission, admission: bytes) -> bytes:
    """Return a whole HTTP request for one submission."""
    parts = {name: getattr(submission, name) for name in Submission.__dataclass_fields__}
    body = bytearray()
    for name, data in {**parts, "admission": admission}.items():
        if name == "account" and not data:
            continue
        body += (
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"; filename="{name}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        ).encode()
        body += data + b"\r\n"
    body += f"--{BOUNDARY}--\r\n".encode()
    head = (
        "POST /v1/testimonies HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + bytes(body)


def prepare(service: Service, root: Path, count: int, **options: Any) -> list[bytes]:
    """Seal `count` testimonies for the readers of the demonstration organisation."""

    def get(path: str) -> bytes | None:
        response = httpx2.get(f"{service.url}/v1/directory/{path}")
        return response.content if response.status_code == 200 else None

    directory = fetch_directory(get, root.read_bytes(), None).directory
    desk = directory.desks[0]
    readers: dict[str, Recipient] = {r.id: r.intake_key for r in directory.readers_of(desk.id)}
    text = directory.consent_texts[0]
    notice = Notice.parse(httpx2.get(f"{service.url}/v1/admission").json())
    prepared = []
    for _ in range(count):
        made = make_testimony(
            readers,
            account=os.urandom(4096),
            directory=directory.version,
            deployment=directory.deployment,
            desk=desk.id,
            consent_text=text.id,
            consent_text_sha256=text.sha256,
            **options,
        )
        paid = pay(notice, made.submission.digest(), 0)
        prepared.append(request_bytes(made.submission, paid.to_bytes()))
    return prepared


def measure(service: Service, root: Path, concurrency: int, count: int) -> dict[str, float]:
    """Send `count` testimonies at one concurrency."""
    requests = prepare(service, root, count)
    assert service.process is not None
    group = service.process.pid
    before = cpu_seconds(group)
    result: Result = asyncio.run(run("127.0.0.1", service.port, requests, concurrency, 201))
    cpu = cpu_seconds(group) - before
    return {
        "accepted_per_second": round(result.rate, 1),
        "p50_ms": round(result.percentile_ms(50), 1),
        "p99_ms": round(result.percentile_ms(99), 1),
        "errors": result.errors,
        "server_cpu_ms_each": round(1000 * cpu / max(1, len(result.latencies)), 2),
        "peak_memory_mib": round(peak_memory_mib(group), 0),
    }
