# SPDX-License-Identifier: AGPL-3.0-or-later
"""Bring checkpoints to the cosigners: beside the service, or one pass of `amana maintain`. Nothing waits for it."""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy.exc import IntegrityError

from amana.api.services import Services
from amana.custody.cosigning import Address, CosignerFailed, ask, keep, newest, operators, times
from amana.custody.models import Log
from amana.custody.publishing import LogRefused, TileFetcher
from amana.directory import service as directory
from amana.errors import Refusal
from amana.logs import log_event, log_failure
from amana.protocol.checkpoint import Cosigner, Note, NoteKey, with_signatures
from amana.protocol.directory import RootPins
from amana.storage.blobs import StoreUnavailable
from amana.storage.database import Database, DatabaseUnavailable

LOOK_SECONDS: Final = 0.5
ROUND_SECONDS: Final = 15.0
"""How long a round waits for answers; who comes later is added when they come."""

AGAIN_SECONDS: Final = 60.0
"""How long a cosigner that failed is left alone at most; at first a second, then twice as long each time."""

CUSTODY_SECONDS: Final = 300.0
"""How often the custody log asks at most: it grows with every event, and cosigners need not learn when."""

RENEWALS: Final = 6
"""A cosignature is renewed when this part of its life is over."""

RENEW_SECONDS: Final = 6 * 3600


@dataclass
class Gathering:
    """What one log gathers signatures for. Changed under the collector's lock."""

    log: Log
    note: Note
    began: float


@dataclass
class Collector:
    """Asks every cosigner that the root in force pins and the settings give an address.

    Owned by one thread; those that ask cosigners only add to a gathering, under the lock. Two processes may do
    it at once: a cosigner signs for both.
    """

    services: Services
    database: Database
    leads: Callable[[], bool] = lambda: True
    custody_seconds: float = CUSTODY_SECONDS
    again_seconds: float = AGAIN_SECONDS
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _gatherings: dict[str, Gathering] = field(default_factory=dict)
    _busy: set[tuple[str, str]] = field(default_factory=set)
    _failures: dict[tuple[str, str], int] = field(default_factory=dict)
    _not_before: dict[tuple[str, str], float] = field(default_factory=dict)
    _pins: tuple[int | None, RootPins | None] = (None, None)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to look after the logs, if any cosigner has an address."""
        if self.services.config.cosigners:
            self._thread = threading.Thread(target=self._repeat, name="cosigning", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End; what is being asked just now is lost, and asked again by who comes next."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout=5)
        self.database.dispose()

    def _repeat(self) -> None:
        while not self._stopping.wait(LOOK_SECONDS):
            try:
                if self.leads():
                    self.round(0)
            except (DatabaseUnavailable, StoreUnavailable, Refusal):
                log_event("cosigning-failed")
                self._stopping.wait(LOOK_SECONDS)
            except Exception as error:
                # Whatever it was: cosigners must be asked again once it is over.
                log_failure(error, None, "cosigning")
                self._stopping.wait(self.again_seconds)

    def round(self, seconds: float = ROUND_SECONDS) -> int:
        """Ask whoever is due about both logs and wait for answers; returns how many of the logs have their quorum."""
        pins = self._pinned()
        if pins is None:
            return 0
        asking = [
            thread
            for log in (pins.directory_log, pins.custody_log)
            for thread in self._ask_about(log, pins)
        ]
        until = time.monotonic() + seconds
        for thread in asking:
            thread.join(timeout=max(0.0, until - time.monotonic()))
        with self._lock:
            return sum(
                len(operators(one.note, pins)) >= max(1, pins.quorum)
                for one in self._gatherings.values()
            )

    def _pinned(self) -> RootPins | None:
        with self.database.reading() as session:
            version = directory.latest_version(session)
            if version is None:
                return None
            if self._pins[0] != version:
                root = self.services.trusted_root()
                self._pins = (version, directory.pinned(session, root))
        return self._pins[1]

    def _ask_about(self, log: NoteKey, pins: RootPins) -> list[threading.Thread]:
        gathering = self._gather(log, pins)
        if gathering is None:
            return []
        threads = []
        for cosigner in self._due(gathering, pins):
            self._busy.add((log.name, cosigner.key.vkey))
            thread = threading.Thread(
                target=self._ask, args=(gathering, cosigner, pins), name="asking", daemon=True
            )
            threads.append(thread)
            thread.start()
        return threads

    def _gather(self, log: NoteKey, pins: RootPins) -> Gathering | None:
        """Return what is to be cosigned now: the newest checkpoint, or the one that is being asked about."""
        with self._lock:
            before = self._gatherings.get(log.name)
        with self.database.reading() as session:
            found = newest(session, log.name)
        if found is None:
            return None
        if before is not None:
            rests = (
                log is pins.custody_log and time.monotonic() - before.began < self.custody_seconds
            )
            if before.note.text == found[1].text or rests:
                return before
        gathering = Gathering(*found, time.monotonic())
        with self._lock:
            self._gatherings[log.name] = gathering
        return gathering

    def _due(self, gathering: Gathering, pins: RootPins) -> Iterable[Cosigner]:
        life = pins.freshness.total_seconds()
        oldest = time.time() - min(life / RENEWALS, RENEW_SECONDS)
        with self._lock:
            signed = times(gathering.note, pins)
            busy = set(self._busy)
        origin = gathering.log.origin
        return [
            one
            for one in pins.cosigners
            if one.key.name in self.services.config.cosigners
            and signed.get((one.key.name, one.key.id), 0) < oldest
            and (origin, one.key.vkey) not in busy
            and self._not_before.get((origin, one.key.vkey), 0.0) <= time.monotonic()
        ]

    def _ask(self, gathering: Gathering, cosigner: Cosigner, pins: RootPins) -> None:
        which = (gathering.log.origin, cosigner.key.vkey)
        config = self.services.config
        address = Address(config.cosigners[cosigner.key.name], config.cosigner_proxy)
        tiles = TileFetcher(self.services.blobs, gathering.log.name)
        try:
            signature = ask(cosigner, address, gathering.note, tiles)
            with self._lock:
                gathering.note = with_signatures(gathering.note, [signature])
                with self.database.transaction() as session:
                    keep(session, self.services.blobs, gathering.log, gathering.note, pins)
            self._failures.pop(which, None)
            return
        except CosignerFailed as failed:
            log_event(failed.slug)
        except (DatabaseUnavailable, StoreUnavailable, LogRefused, IntegrityError):
            log_event("cosigning-failed")
        except Exception as error:
            log_failure(error, None, "cosigning")
        finally:
            self._busy.discard(which)
        failures = self._failures.get(which, 0)
        self._failures[which] = failures + 1
        self._not_before[which] = time.monotonic() + min(
            self.again_seconds, 2.0 ** min(failures, 16)
        )


def collect(services: Services) -> dict[str, int]:
    """Ask all cosigners that are due once; returns how many logs have their quorum."""
    if not services.config.cosigners:
        return {}
    return {"logs_cosigned": Collector(services, services.database).round()}
