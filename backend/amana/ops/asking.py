# SPDX-License-Identifier: AGPL-3.0-or-later
"""Ask others over the network, beside the service: again and again, each alone, and rarely where it fails."""

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

from sqlalchemy.exc import IntegrityError

from amana.api.services import Services
from amana.errors import OtherFailed, Refusal
from amana.logs import log_event, log_failure
from amana.storage.blobs import StoreUnavailable
from amana.storage.database import Database, DatabaseUnavailable

Which = tuple[str, str]
"""What is asked about, and who is asked."""


@dataclass
class Asker(ABC):
    """Asks whoever is due, each in a thread of its own, so that nobody who is slow delays another.

    Owned by one thread; those that ask change only what is named below, under the lock.
    """

    name: ClassVar[str]
    """What it does, as its threads and its events are called."""
    look_seconds: ClassVar[float]
    first_seconds: ClassVar[float]
    """How long somebody who failed is left alone at first; then twice as long each time."""

    services: Services
    database: Database
    leads: Callable[[], bool] = lambda: True
    again_seconds: float = 60.0
    """How long somebody who failed is left alone at most."""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _busy: set[Which] = field(default_factory=set)
    _failures: dict[Which, int] = field(default_factory=dict)
    _not_before: dict[Which, float] = field(default_factory=dict)
    _thread: threading.Thread | None = None

    @property
    @abstractmethod
    def is_needed(self) -> bool:
        """Tell whether the settings name anybody to be asked."""

    @abstractmethod
    def ask_all(self) -> list[threading.Thread]:
        """Begin to ask everybody who is due; returns the threads that ask."""

    def start(self) -> None:
        """Begin to look after the logs, if anybody is to be asked."""
        if self.is_needed:
            self._thread = threading.Thread(target=self._repeat, name=self.name, daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End; what is being asked just now is lost, and asked again by who comes next."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout=5)
        self.database.dispose()

    def ask_and_wait(self, seconds: float) -> None:
        """Ask everybody who is due and wait for answers; who comes later is heard when they come."""
        until = time.monotonic() + seconds
        for thread in self.ask_all():
            thread.join(timeout=max(0.0, until - time.monotonic()))

    def _repeat(self) -> None:
        while not self._stopping.wait(self.look_seconds):
            try:
                if self.leads():
                    self.ask_all()
            except (DatabaseUnavailable, StoreUnavailable, Refusal):
                log_event(f"{self.name}-failed")
            except IntegrityError:
                # Another process did the same in this moment.
                continue
            except Exception as error:
                # Whatever it was: they must be asked again once it is over.
                log_failure(error, None, self.name)
                self._stopping.wait(self.again_seconds)

    def _begin(self, which: Which, ask: Callable[[], None]) -> list[threading.Thread]:
        """Ask in a thread of its own, unless that is done just now or failed too lately; returns the thread, if any."""
        with self._lock:
            if which in self._busy or self._not_before.get(which, 0.0) > time.monotonic():
                return []
            self._busy.add(which)
        thread = threading.Thread(
            target=self._try, args=(which, ask), name=f"{self.name}-one", daemon=True
        )
        thread.start()
        return [thread]

    def _try(self, which: Which, ask: Callable[[], None]) -> None:
        try:
            ask()
        except OtherFailed as failed:
            log_event(failed.slug)
        except (DatabaseUnavailable, StoreUnavailable, Refusal, IntegrityError):
            log_event(f"{self.name}-failed")
        except Exception as error:
            log_failure(error, None, self.name)
        else:
            with self._lock:
                self._failures.pop(which, None)
            return
        finally:
            with self._lock:
                self._busy.discard(which)
        with self._lock:
            failures = self._failures[which] = self._failures.get(which, 0) + 1
            pause = min(self.again_seconds, self.first_seconds * 2.0 ** min(failures - 1, 16))
            self._not_before[which] = time.monotonic() + pause
