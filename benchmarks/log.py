# SPDX-License-Identifier: AGPL-3.0-or-later
"""What the log costs those whose doings it records, how soon a leaf has its place, and what proofs cost in a large tree."""

import hashlib
import multiprocessing
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from random import Random
from statistics import median, quantiles
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from amana.custody import service as custody
from amana.custody.models import Event, Log, LoggedLeaf, PublishedCheckpoint
from amana.custody.publishing import OpenLog, Publisher, open_log
from amana.custody.reading import TileCache, prove
from amana.custody.sequencing import Lease, Term, number
from amana.intake.models import Grant, Testimony
from amana.protocol.checkpoint import log_key
from amana.protocol.encoding import canonical, random_id
from amana.protocol.receipt import leaf
from amana.protocol.signing import SigningKey
from amana.storage.database import Database, table_of
from amana.storage.folder import FolderStore
from amana.storage.migrations import migrate

TODAY = date(2026, 11, 24)
PROCESSES, THREADS = 4, 8
FILL = """
INSERT INTO log_leaves (log, place, entry)
SELECT 1, n, sha256(CAST(CAST(n AS text) AS bytea)) FROM generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) AS n
"""


def arrival(session: Session, *, recorded: bool) -> None:
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
            "kept_since": TODAY,
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
        custody.record(session, event)
        return
    key = os.urandom(32)
    content = canonical(event)
    row = {"leaf": leaf(content, key), "case": case, "event": content, "key": key}
    connection.execute(sa.insert(table_of(Event)), row)


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
    """Record events and see when each has its place, and when a published checkpoint covers one in ten; milliseconds."""
    placed, published = [], []
    for turn in range(count):
        time.sleep(pause_seconds)
        event = {"v": 1, "kind": "probe", "id": random_id()}
        with database.transaction() as session:
            entry = leaf(canonical(event), custody.record(session, event))
        began = time.perf_counter()
        place = None
        while place is None:
            # Whoever asks without a pause waits for a core like the writers, and measures that.
            time.sleep(0.001)
            with database.watching() as connection:
                place = connection.execute(
                    sa.select(LoggedLeaf.place).where(LoggedLeaf.entry == entry)
                ).scalar()
        placed.append(1000 * (time.perf_counter() - began))
        if turn % 10:
            continue
        size = 0
        while size <= place:
            time.sleep(0.001)
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
        "published_ms_most": round(max(published), 1),
    }


def beside(url: str, seconds: float, runs: int) -> dict[str, float]:
    """Return what the log takes off the rate of arrivals: with their event alone, and with a leaf that gets its place.

    A service runs beside them. Both kinds alternate, so that they see the same machine.
    """
    rates: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(runs):
        for recorded in rates:
            with writing(url, seconds, recorded=recorded) as rate:
                pass
            rates[recorded] += rate
    bare, logged = (median(rates[recorded]) for recorded in (False, True))
    costs = [100 * (1 - b / a) for a, b in zip(rates[False], rates[True], strict=True)]
    return {
        "bare_per_second": round(bare),
        "logged_per_second": round(logged),
        "cost_percent": round(median(costs), 1),
    }


def how_soon(url: str, seconds: float) -> dict[str, dict[str, float]]:
    """Return how soon a leaf has its place and is published, alone and while 32 write."""
    database = Database(url)
    idle = probe(database, 200, 0.02)
    with writing(url, seconds, recorded=True):
        busy = probe(database, 200, 0.02)
    database.dispose()
    return {"how soon, alone": idle, "how soon, while 32 write": busy}


@dataclass
class Prepared:
    """A log over a database and a folder of files, in this process."""

    database: Database
    store: FolderStore
    log: OpenLog
    publisher: Publisher
    term: Term


@contextmanager
def prepared(url: str, folder: Path) -> Iterator[Prepared]:
    database, store = Database(url), FolderStore(folder)
    migrate(database)
    store.prepare()
    term, signing = Lease(database).hold(), SigningKey.generate()
    assert term is not None
    key = log_key("amana-bench/custody", signing.public)
    log, edge = open_log(database, store, custody.CUSTODY, key, signing)
    publisher = Publisher(database, store)
    publisher.take_up(log, edge)
    yield Prepared(database, store, log, publisher, term)
    database.dispose()


def alone(url: str, folder: Path, count: int = 50_000) -> dict[str, float]:
    """Return how many waiting leaves a second get places, and how many are published, with nothing else to do."""
    with prepared(url, folder) as given:
        with given.database.transaction() as session:
            session.execute(
                sa.text(
                    "INSERT INTO waiting_leaves (kind, entry) SELECT 'custody', sha256(CAST(CAST(n AS text) AS bytea))"
                    " FROM generate_series(1, CAST(:count AS bigint)) AS n"
                ),
                {"count": count},
            )
        began = time.perf_counter()
        done = 1
        while done:
            done = number(given.database, given.term, given.log.id, custody.CUSTODY)
        placed = time.perf_counter()
        while given.publisher.publish(given.term, given.log):
            pass
        published = time.perf_counter()
    return {
        "placed_per_second": round(count / (placed - began)),
        "published_per_second": round(count / (published - placed)),
        "both_per_second": round(count / (published - began)),
    }


def large(url: str, folder: Path, count: int, proofs: int = 2000) -> dict[str, float]:
    """Return how fast the tiles of a log of `count` leaves are written, and how long a proof in it takes."""
    with prepared(url, folder) as given:
        with given.database.engine.begin() as connection:
            connection.execute(sa.text(FILL), {"first": 0, "last": count - 1})
            connection.execute(sa.update(table_of(Log)).values(size=count))
        with given.database.engine.connect().execution_options(
            isolation_level="AUTOCOMMIT"
        ) as connection:
            connection.execute(sa.text("VACUUM ANALYZE log_leaves"))
        began = time.perf_counter()
        while given.publisher.publish(given.term, given.log):
            pass
        written = time.perf_counter() - began
        random, cache, seconds = Random(1), TileCache(), []
        for turn in range(proofs + 200):
            entry = hashlib.sha256(str(random.randrange(count)).encode()).digest()
            began = time.perf_counter()
            with given.database.reading() as session:
                prove(session, given.store, cache, given.log.name, entry)
            # The first ones read the inner tiles, of which a process keeps what many proofs need.
            if turn >= 200:
                seconds.append(1000 * (time.perf_counter() - began))
    return {
        "tiles_leaves_per_second": round(count / written),
        "proof_ms_p50": round(median(seconds), 2),
        "proof_ms_p99": round(quantiles(seconds, n=100)[98], 2),
    }
