# SPDX-License-Identifier: AGPL-3.0-or-later
"""What the log costs those whose doings it records, how soon a leaf has its place, and what proofs cost in a large tree."""

import multiprocessing
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from statistics import median, quantiles
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from amana.custody import service as custody
from amana.custody.models import Event, Log, LoggedLeaf, PublishedCheckpoint
from amana.intake.models import Grant, Testimony
from amana.protocol.encoding import canonical, random_id
from amana.storage.database import Database, table_of

TODAY = date(2026, 11, 24)
PROCESSES, THREADS = 4, 8
FILL = """
INSERT INTO log_leaves (log, place, entry)
SELECT 1, n, sha256(CAST(CAST(n AS text) AS bytea)) FROM generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) AS n
"""


def arrival(session: Session, *, recorded: bool) -> bytes:
    """Write what a testimony of text for three readers writes; its event waits for the log, or only lies there."""
    case = random_id()
    connection = session.connection()
    connection.execute(
        sa.insert(table_of(Testimony)),
        {
            "case": case,
            "state": "received",
            "desk": "chemical",
            "language": "ar",
            "flags": "",
            "control": random_id() + "x" * 12,
            "directory": 1,
            "digest": os.urandom(32),
            "paid": 8,
            "policy": bytes(700),
            "labels": bytes(300),
            "manifest": os.urandom(9851),
            "account": os.urandom(34427),
            "declared": b"[]",
            "object_count": 1,
            "size": 34427,
            "announced_on": TODAY,
            "received_on": TODAY,
            "receipt": "x" * 900,
            "routed": True,
        },
    )
    connection.execute(
        sa.insert(table_of(Grant)),
        [
            {
                "case": case,
                "reader": random_id(),
                "intake_key": random_id(),
                "sealed": os.urandom(1915),
                "desk": "chemical",
                "received_on": TODAY,
                "state": "received",
                "rank": 8,
            }
            for _ in range(3)
        ],
    )
    event = {"v": 1, "kind": "testimony-received", "case": case, "more": "x" * 900}
    if recorded:
        return custody.record(session, event)
    leaf = os.urandom(32)
    row = {"leaf": leaf, "case": case, "event": canonical(event), "key": os.urandom(32)}
    connection.execute(sa.insert(table_of(Event)), row)
    return leaf


def _write(url: str, seconds: float, recorded: bool, begin: Any, counts: Any) -> None:
    """Be one of the processes that write, with some threads."""
    database = Database(url, pool_size=THREADS)
    done = [0] * THREADS

    def work(thread: int) -> None:
        with database.reading():
            pass
        begin.wait()
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            with database.transaction() as session:
                arrival(session, recorded=recorded)
            done[thread] += 1

    threads = [threading.Thread(target=work, args=(one,)) for one in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    database.dispose()
    counts.put(sum(done))


@contextmanager
def writing(url: str, seconds: float, *, recorded: bool) -> Iterator[list[float]]:
    """Let 4 processes of 8 threads write while the block runs; gives a list that gets transactions per second."""
    context = multiprocessing.get_context("spawn")
    begin, counts = context.Barrier(PROCESSES * THREADS + 1), context.Queue()
    writers = [
        context.Process(target=_write, args=(url, seconds, recorded, begin, counts))
        for _ in range(PROCESSES)
    ]
    for one in writers:
        one.start()
    rate: list[float] = []
    begin.wait(timeout=120)
    try:
        yield rate
    finally:
        rate.append(sum(counts.get(timeout=120) for _ in writers) / seconds)
        for one in writers:
            one.join()


def probe(database: Database, count: int, pause_seconds: float) -> dict[str, float]:
    """Record events and see when each has its place, and when a published checkpoint covers it; milliseconds."""
    placed, published = [], []
    for _ in range(count):
        time.sleep(pause_seconds)
        key = random_id()
        entry = None
        with database.transaction() as session:
            custody.record(session, {"v": 1, "kind": "probe", "key": key})
            entry = session.scalar(
                sa.select(Event.leaf).where(
                    Event.event.contains(key.encode()), Event.case.is_(None)
                )
            )
        began = time.perf_counter()
        place = None
        while place is None:
            with database.watching() as connection:
                place = connection.execute(
                    sa.select(LoggedLeaf.place).where(LoggedLeaf.entry == entry)
                ).scalar()
        placed.append(1000 * (time.perf_counter() - began))
        size = 0
        while size <= place:
            with database.watching() as connection:
                size = connection.execute(
                    sa.select(PublishedCheckpoint.size)
                    .join(Log, Log.id == PublishedCheckpoint.log)
                    .where(Log.kind == "custody")
                ).scalar_one()
        published.append(1000 * (time.perf_counter() - began))
    return {
        "placed_ms_p50": round(median(placed), 1),
        "placed_ms_p99": round(quantiles(placed, n=100)[98], 1),
        "published_ms_p50": round(median(published), 1),
        "published_ms_p99": round(quantiles(published, n=100)[98], 1),
    }
