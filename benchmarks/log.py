# SPDX-License-Identifier: AGPL-3.0-or-later
"""What the log costs those whose doings it records, how soon a leaf has its place, and what proofs cost in a large tree."""

import hashlib
import multiprocessing
import os
import threading
import time
from collections.abc import Iterator, Sequence
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
from tests.support.server import wait_until

TODAY = date(2026, 11, 24)
PROCESSES, THREADS = 4, 8
FILL = """
INSERT INTO log_leaves (log, place, entry)
SELECT 1, n, sha256(CAST(CAST(n AS text) AS bytea)) FROM generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) AS n
"""


def arrival(session: Session, *, recorded: bool) -> bytes:
    """Write what a testimony of text for three readers writes; its event waits for the log, or only lies there.

    Returns the event's leaf.
    """
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
    content = canonical(event)
    if recorded:
        return leaf(content, custody.record(session, event))
    key = os.urandom(32)
    row = {"leaf": leaf(content, key), "case": case, "event": content, "key": key}
    connection.execute(sa.insert(table_of(Event)), row)
    return row["leaf"]


Acknowledged = list[tuple[bytes, float]]
"""Leaves, and when whoever wrote one knew that it was committed, in seconds since 1970."""


def _write(url: str, seconds: float, turns: Sequence[bool], begin: Any, results: Any) -> None:
    """Be one of the processes that write, with some threads, in turns that all have together."""
    database = Database(url, pool_size=THREADS)
    done: list[Acknowledged] = [[] for _ in turns]

    def work() -> None:
        with database.reading():
            pass
        begin.wait()
        began = time.perf_counter()
        for turn, recorded in enumerate(turns):
            until = began + (turn + 1) * seconds
            while time.perf_counter() < until:
                with database.transaction() as session:
                    entry = arrival(session, recorded=recorded)
                done[turn].append((entry, time.time()))

    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    database.dispose()
    results.put(done)


@contextmanager
def writing(url: str, seconds: float, turns: Sequence[bool]) -> Iterator[list[Acknowledged]]:
    """Let 4 processes of 8 threads write while the block runs, for so many seconds with the log and without by turns.

    Gives a list for each turn, that gets what was written in it.
    """
    context = multiprocessing.get_context("spawn")
    begin, results = context.Barrier(PROCESSES * THREADS + 1), context.Queue()
    writers = [
        context.Process(target=_write, args=(url, seconds, turns, begin, results))
        for _ in range(PROCESSES)
    ]
    for one in writers:
        one.start()
    written: list[Acknowledged] = [[] for _ in turns]
    begin.wait(timeout=120)
    try:
        yield written
    finally:
        for _ in writers:
            for turn, done in enumerate(results.get(timeout=120 + seconds * len(turns))):
                written[turn] += done
        for one in writers:
            one.join()


def probe(database: Database, count: int, pause_seconds: float) -> tuple[Acknowledged, list[float]]:
    """Record events; returns them, and of one in ten the milliseconds until a published checkpoint covered it."""
    written, published = [], []
    for turn in range(count):
        time.sleep(pause_seconds)
        event = {"v": 1, "kind": "probe", "id": random_id()}
        with database.transaction() as session:
            entry = leaf(canonical(event), custody.record(session, event))
        written.append((entry, time.time()))
        began = time.perf_counter()
        while turn % 10 == 0 and not _is_published(database, entry):
            # Whoever asks without a pause takes a core from those who are measured.
            time.sleep(0.001)
        if turn % 10 == 0:
            published.append(1000 * (time.perf_counter() - began))
    return written, published


def _is_published(database: Database, entry: bytes) -> bool:
    found = sa.exists().where(
        LoggedLeaf.entry == entry,
        LoggedLeaf.log == PublishedCheckpoint.log,
        LoggedLeaf.place < PublishedCheckpoint.size,
    )
    with database.watching() as connection:
        return connection.execute(sa.select(found)).scalar() is True


def _placed(database: Database, written: Acknowledged) -> list[float]:
    """Return how many milliseconds after its acknowledgement each leaf got its place.

    By the clock of the database, which runs on this machine, at the moment in which the row was made: its
    commit follows at once, since it does not wait for the disk. Asking for a place again and again
    would measure how long whoever asks waits for a core.
    """
    wait_until(lambda: _is_published(database, written[-1][0]), "the last leaf to be published")
    with database.reading() as session:
        rows = session.execute(
            sa.text("SELECT entry, CAST(extract(epoch FROM placed_at) AS float) FROM log_leaves")
        )
        placed = {bytes(entry): at for entry, at in rows}
    return [max(0.0, 1000 * (placed[entry] - at)) for entry, at in written]


def beside(url: str, seconds: float, pairs: int) -> dict[str, float]:
    """Return what the log takes off the rate of arrivals: with their event alone, and with a leaf that gets its place.

    A service runs beside them. The same writers go from one kind to the other and back every few seconds,
    because the speed of a machine drifts by more than what is measured.
    """
    with writing(url, seconds, [False, True] * pairs) as written:
        pass
    rates = [len(turn) / seconds for turn in written]
    costs = [100 * (1 - b / a) for a, b in zip(rates[::2], rates[1::2], strict=True)]
    # The other way round too, since a drift has a direction.
    costs += [100 * (1 - b / a) for a, b in zip(rates[2::2], rates[1::2], strict=False)]
    return {
        "bare_per_second": round(median(rates[::2])),
        "logged_per_second": round(median(rates[1::2])),
        "cost_percent": round(median(costs), 1),
    }


def how_soon(url: str, seconds: float, runs: int) -> dict[str, dict[str, float]]:
    """Return how soon a leaf has its place and is published, alone and while 32 write."""
    database = Database(url)
    with database.engine.begin() as connection:
        connection.execute(
            sa.text("ALTER TABLE log_leaves ADD placed_at timestamptz DEFAULT clock_timestamp()")
        )
    alone, beside_others = [], []
    for _ in range(runs):
        alone.append(_soon(database, *probe(database, 200, 0.02)))
        with writing(url, seconds, [True]) as written:
            _, published = probe(database, 100, 0.02)
        beside_others.append(_soon(database, written[0], published))
    database.dispose()
    return {
        "how soon, alone": _medians(alone),
        "how soon, while 32 write": _medians(beside_others),
    }


def _medians(turns: list[dict[str, float]]) -> dict[str, float]:
    return {name: median(turn[name] for turn in turns) for name in turns[0]}


def _soon(database: Database, written: Acknowledged, published: list[float]) -> dict[str, float]:
    placed = _placed(database, written)
    return {
        "leaves": len(placed),
        "placed_ms_p50": round(median(placed), 1),
        "placed_ms_p99": round(quantiles(placed, n=100)[98], 1),
        "published_ms_p50": round(median(published), 1),
        "published_ms_most": round(max(published), 1),
    }


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
            done = number(given.database, given.term, {custody.CUSTODY: given.log.id})
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
