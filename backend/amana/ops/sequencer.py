# SPDX-License-Identifier: AGPL-3.0-or-later
"""Keep both logs going: two threads beside the service, or one pass of `amana maintain`. One process at a time does it."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from amana.api.services import Services
from amana.custody.publishing import LogRefused, OpenLog, Publisher, open_log
from amana.custody.sequencing import (
    LEASE_SECONDS,
    Deposed,
    Lease,
    Term,
    is_waiting,
    keep_numbering,
    number,
)
from amana.custody.service import CUSTODY, DIRECTORY
from amana.directory import service as directory
from amana.errors import Refusal
from amana.logs import log_event, log_failure
from amana.protocol.checkpoint import NoteKey
from amana.protocol.signing import SigningKey
from amana.protocol.tiles import Edge
from amana.storage.blobs import StoreUnavailable
from amana.storage.database import Database, DatabaseUnavailable

GATHER_SECONDS: Final = 0.25
"""How long leaves gather between two checkpoints, when one comes after the other: each costs the same few files.

The first leaf after a pause is published at once."""

BEAT_SECONDS: Final = 1.0
TURN_SECONDS: Final = 5.0
"""How long places are given without a word between PostgreSQL and us. What waits between two turns waits for processors."""

PAUSE_SECONDS: Final = 1.0
"""How long nothing is tried after something failed, and how often whoever has not the lease asks for it."""

AGAIN_SECONDS: Final = 15.0
"""How often a refused log is looked at again: the operator may have recovered it."""


@dataclass(frozen=True)
class Pinned:
    """A log as the root pins it, and the key that this server has for it."""

    kind: str
    key: NoteKey
    signing: SigningKey


@dataclass(frozen=True)
class Work:
    """What one term works on: the logs that may go on, each with the edge it goes on from, and those that may not."""

    term: Term
    version: int | None
    pinned: tuple[Pinned, ...]
    open: tuple[tuple[OpenLog, Edge], ...]
    refused: frozenset[str]
    began: float

    @property
    def logs(self) -> dict[str, int]:
        """Return the logs that may go on, by kind."""
        return {log.kind: log.id for log, _ in self.open}


def pinned_logs(services: Services, database: Database) -> tuple[Pinned, ...]:
    """Return the logs of the root in force; none before the operator has configured a root."""
    try:
        root = services.trusted_root()
    except Refusal:
        return ()
    with database.reading() as session:
        pins = directory.pinned(session, root)
    return (
        Pinned(CUSTODY, pins.custody_log, services.secrets.custody_log),
        Pinned(DIRECTORY, pins.directory_log, services.secrets.directory_log),
    )


def take_up(
    services: Services, database: Database, term: Term, known: frozenset[str] = frozenset()
) -> Work:
    """Take up the logs that the root pins; of those that may not go on, what is not `known` is written to the log."""
    with database.reading() as session:
        version = directory.latest_version(session)
    pinned = pinned_logs(services, database)
    taken, refused = [], set()
    for one in pinned:
        try:
            taken.append(open_log(database, services.blobs, one.kind, one.key, one.signing))
        except LogRefused as error:
            refused.add(error.slug)
    for slug in sorted(refused - known):
        log_event(slug)
    return Work(term, version, pinned, tuple(taken), frozenset(refused), time.monotonic())


def give_places(database: Database, work: Work) -> int:
    """Give places to what waits for the open logs, a batch; returns how many leaves."""
    return number(database, work.term, work.logs)


class Sequencer:
    """Three threads of a server process: one holds the lease, one gives places, which neither that nor a slow store delays,
    one publishes.

    Every process has them, and those of the one with the lease work. Any may die at any instruction (why that harms
    nothing: custody/sequencing.py, custody/publishing.py); another takes over after three seconds, or, where PostgreSQL
    does not notice that nobody listens any more, after eight.
    The leading thread alone writes `_work`, the publishing thread `_publishing`.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        # Of its own, so that it never waits for a connection behind three hundred requests.
        self._database = Database(services.config.database_url, pool_size=3)
        self._lease = Lease(self._database)
        self._stopping = threading.Event()
        self._leading = threading.Event()
        self._placed = threading.Event()
        self._has_numbered = threading.Event()
        self._work: Work | None = None
        self._publishing: tuple[Work, Publisher] | None = None
        self._threads = [
            threading.Thread(target=self._repeat, args=(name, step, forget), name=name, daemon=True)
            for name, step, forget in (
                ("leading", self._lead, self._forget_work),
                ("numbering", self._number, lambda: None),
                ("publishing", self._publish, self._forget_publishing),
            )
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    @property
    def leads(self) -> bool:
        """Tell whether this process looks after the logs now."""
        return self._work is not None

    def stop(self) -> None:
        """End the threads and leave the lease to another process at once."""
        self._stopping.set()
        self._leading.set()
        self._placed.set()
        # Where the database gives the places it sees by this that it shall end; the lease may be taken just then.
        self._release()
        for thread in self._threads:
            thread.join(timeout=5)
        self._release()
        self._database.dispose()

    def _release(self) -> None:
        with suppress(DatabaseUnavailable):
            self._lease.release()

    def _repeat(self, name: str, step: Callable[[], None], forget: Callable[[], None]) -> None:
        while not self._stopping.is_set():
            try:
                step()
                continue
            except Deposed:
                pass
            except LogRefused as refused:
                log_event(refused.slug)
            except (DatabaseUnavailable, StoreUnavailable, Refusal):
                log_event(f"{name}-failed")
            except Exception as error:
                # Whatever it was: leaves must go on getting their places once it is over.
                log_failure(error, None, name)
            forget()
            self._stopping.wait(PAUSE_SECONDS)

    def _forget_work(self) -> None:
        self._leading.clear()
        self._work = None

    def _forget_publishing(self) -> None:
        # Its edges may be behind what another process published.
        self._publishing = None

    def _lead(self) -> None:
        # Whoever gave places since the last beat has beaten with each of them, and must not wait for this beat.
        has_beaten = self._has_numbered.is_set()
        self._has_numbered.clear()
        term = self._work.term if self._work and has_beaten else self._lease.hold()
        if term is None:
            self._forget_work()
        elif self._is_outdated(self._work, term):
            self._begin()
        self._stopping.wait(BEAT_SECONDS)

    def _begin(self) -> None:
        known = self._work.refused if self._work else frozenset()
        self._forget_work()
        # Places may still be given, or tiles written, for the logs as they were, one of which may end now.
        term = self._lease.begin_anew()
        if term is None:
            return
        self._work = take_up(self._services, self._database, term, known)
        self._leading.set()
        self._placed.set()

    def _number(self) -> None:
        self._leading.wait(PAUSE_SECONDS)
        work = self._work
        if work is None or self._stopping.is_set():
            return
        keep_numbering(
            self._database,
            work.term,
            work.logs,
            seconds=TURN_SECONDS,
            placed=self._have_placed,
            pause=self._stopping.wait,
        )

    def _have_placed(self) -> None:
        self._has_numbered.set()
        self._placed.set()

    def _is_outdated(self, work: Work | None, term: Term) -> bool:
        """Tell whether the logs have to be taken up: a new term, perhaps a new root, or something to be tried again."""
        if work is None or work.term != term or not work.pinned:
            return True
        if work.refused and time.monotonic() - work.began >= AGAIN_SECONDS:
            return True
        with self._database.reading() as session:
            return directory.latest_version(session) != work.version

    def _publish(self) -> None:
        self._placed.wait(PAUSE_SECONDS)
        self._placed.clear()
        work = self._work
        if work is None:
            return
        if self._publishing is None or self._publishing[0] is not work:
            publisher = Publisher(self._database, self._services.blobs)
            for log, edge in work.open:
                publisher.take_up(log, edge)
            self._publishing = (work, publisher)
        publisher = self._publishing[1]
        if sum(publisher.publish(work.term, log) for log, _ in work.open):
            self._placed.set()
            self._stopping.wait(GATHER_SECONDS)


def sequence(services: Services) -> dict[str, int]:
    """Number and publish all that waits, unless a server process does it; returns how many leaves of each."""
    lease = Lease(services.database)
    term = lease.hold()
    until = time.monotonic() + LEASE_SECONDS + PAUSE_SECONDS
    # A server that was killed seems to have the lease for as long as it might only be slow.
    while term is None and time.monotonic() < until and _is_waiting(services.database):
        time.sleep(0.1)
        term = lease.hold()
    done = {"leaves_numbered": 0, "leaves_published": 0}
    if term is None:
        return done
    try:
        work = take_up(services, services.database, term)
        publisher = Publisher(services.database, services.blobs)
        for log, edge in work.open:
            publisher.take_up(log, edge)
        while count := give_places(services.database, work):
            done["leaves_numbered"] += count
        while count := sum(publisher.publish(term, log) for log, _ in work.open):
            done["leaves_published"] += count
    finally:
        lease.release()
    return done


def _is_waiting(database: Database) -> bool:
    with database.watching() as connection:
        return is_waiting(connection, (CUSTODY, DIRECTORY))
