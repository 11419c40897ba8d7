# SPDX-License-Identifier: AGPL-3.0-or-later
"""Bring checkpoints to authorities of time stamps: beside the service, or in `amana maintain`. Nothing waits for it."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy.exc import IntegrityError

from amana.api.services import Services
from amana.custody.publishing import log_name
from amana.custody.stamping import (
    Owed,
    StampFailed,
    ask,
    begin,
    keep,
    owed,
    read_authority,
    round_number,
)
from amana.errors import Refusal
from amana.logs import log_event, log_failure
from amana.ops.sequencer import pinned_logs
from amana.protocol.checkpoint import NoteKey
from amana.storage.blobs import StoreUnavailable
from amana.storage.database import Database, DatabaseUnavailable

LOOK_SECONDS: Final = 5.0
ROUND_SECONDS: Final = 30.0
"""How long `amana maintain` waits for answers; who answers later is asked again."""

AGAIN_SECONDS: Final = 900.0
"""How long an authority that failed is left alone at most; at first 30 seconds, then twice as long each time."""


@dataclass
class Stamper:
    """Asks every authority of the settings about both logs, once in a round.

    Owned by one thread. Those that ask change only the three tables below, under the lock. Two processes may do it
    at once: an authority stamps for both, and what came first is kept.
    """

    services: Services
    database: Database
    leads: Callable[[], bool] = lambda: True
    again_seconds: float = AGAIN_SECONDS
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _busy: set[tuple[str, str]] = field(default_factory=set)
    _failures: dict[tuple[str, str], int] = field(default_factory=dict)
    _not_before: dict[tuple[str, str], float] = field(default_factory=dict)
    _kept: int = 0
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to look after the logs, if any authority is named."""
        if self.services.config.timestamp_authorities:
            self._thread = threading.Thread(target=self._repeat, name="stamping", daemon=True)
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
                log_event("stamping-failed")
            except IntegrityError:
                # Another process began the round in this moment.
                continue
            except Exception as error:
                # Whatever it was: stamps must be asked for again once it is over.
                log_failure(error, None, "stamping")
                self._stopping.wait(self.again_seconds)

    def round(self, seconds: float = ROUND_SECONDS, *, anew: bool = False) -> int:
        """Ask for what is owed and wait for answers; returns how many stamps were kept meanwhile.

        `anew` lets a round begin now, with the newest checkpoint.
        """
        before = self._kept
        asking = [
            thread
            for pinned in pinned_logs(self.services, self.database)
            for name in self.services.config.timestamp_authorities
            if (thread := self._ask_for(pinned.key, name, anew=anew)) is not None
        ]
        until = time.monotonic() + seconds
        for thread in asking:
            thread.join(timeout=max(0.0, until - time.monotonic()))
        with self._lock:
            return self._kept - before

    def _ask_for(self, key: NoteKey, name: str, *, anew: bool) -> threading.Thread | None:
        which = (key.name, name)
        what = self._owed(key, name, anew=anew)
        with self._lock:
            if what is None or which in self._busy:
                return None
            if self._not_before.get(which, 0.0) > time.monotonic():
                return None
            self._busy.add(which)
        thread = threading.Thread(
            target=self._ask, args=(which, what), name="asking-authority", daemon=True
        )
        thread.start()
        return thread

    def _owed(self, key: NoteKey, name: str, *, anew: bool) -> Owed | None:
        services = self.services
        number = round_number(services.clock(), services.config.timestamp_hours)
        if not anew:
            try:
                with self.database.reading() as session:
                    return owed(session, key, name, number)
            except LookupError:
                pass
        with self.database.transaction() as session:
            begin(session, key, name, number, services.today(), anew=anew)
        try:
            with self.database.reading() as session:
                return owed(session, key, name, number)
        except LookupError:
            return None

    def _ask(self, which: tuple[str, str], what: Owed) -> None:
        origin, name = which
        try:
            response, stamp = ask(read_authority(self.services.config, name), what.stamped)
            with self.database.transaction() as session:
                is_new = keep(
                    session, self.services.blobs, log_name(origin), name, what, response, stamp
                )
            with self._lock:
                self._failures.pop(which, None)
                self._kept += is_new
            return
        except StampFailed as failed:
            log_event(failed.slug)
        except (DatabaseUnavailable, StoreUnavailable, IntegrityError):
            log_event("stamping-failed")
        except Exception as error:
            log_failure(error, None, "stamping")
        finally:
            with self._lock:
                self._busy.discard(which)
        with self._lock:
            failures = self._failures[which] = self._failures.get(which, 0) + 1
            pause = min(self.again_seconds, 30.0 * 2.0 ** min(failures - 1, 10))
            self._not_before[which] = time.monotonic() + pause


def stamp(services: Services, *, anew: bool = False) -> int:
    """Ask for all stamps that are owed once; returns how many were kept."""
    if not services.config.timestamp_authorities:
        return 0
    return Stamper(services, services.database).round(anew=anew)
