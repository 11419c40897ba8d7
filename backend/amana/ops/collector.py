# SPDX-License-Identifier: AGPL-3.0-or-later
"""Bring checkpoints to the cosigners: beside the service, or one pass of `amana maintain`. Nothing waits for it."""

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from amana.api.services import Services
from amana.custody.cosigning import Address, ask, keep, newest, operators, times
from amana.custody.models import Log
from amana.custody.publishing import TileFetcher
from amana.directory import service as directory
from amana.ops.asking import Asker
from amana.protocol.checkpoint import Cosigner, Note, NoteKey, with_signatures
from amana.protocol.directory import RootPins

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
class Collector(Asker):
    """Asks every cosigner that the root in force pins and the settings give an address.

    Those that ask only add to a gathering, under the lock. Two processes may do it at once: a cosigner signs for both.
    """

    name = "cosigning"
    look_seconds = LOOK_SECONDS
    first_seconds = 1.0

    again_seconds: float = AGAIN_SECONDS
    custody_seconds: float = CUSTODY_SECONDS
    _gatherings: dict[str, Gathering] = field(default_factory=dict)
    _pins: tuple[int | None, RootPins | None] = (None, None)

    @property
    def is_needed(self) -> bool:
        return bool(self.services.config.cosigners)

    def round(self, seconds: float = ROUND_SECONDS) -> int:
        """Ask whoever is due about both logs and wait for answers; returns how many of the logs have their quorum."""
        self.ask_and_wait(seconds)
        _, pins = self._pins
        if pins is None:
            return 0
        with self._lock:
            return sum(
                len(operators(one.note, pins)) >= max(1, pins.quorum)
                for one in self._gatherings.values()
            )

    def ask_all(self) -> list[threading.Thread]:
        pins = self._pinned()
        if pins is None:
            return []
        return [
            thread
            for log in (pins.directory_log, pins.custody_log)
            for thread in self._ask_about(log, pins)
        ]

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
        return [
            thread
            for cosigner in self._due(gathering, pins)
            for thread in self._begin(
                (log.name, cosigner.key.vkey), partial(self._ask, gathering, cosigner, pins)
            )
        ]

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
        return [
            one
            for one in pins.cosigners
            if one.key.name in self.services.config.cosigners
            and signed.get((one.key.name, one.key.id), 0) < oldest
        ]

    def _ask(self, gathering: Gathering, cosigner: Cosigner, pins: RootPins) -> None:
        config = self.services.config
        address = Address(config.cosigners[cosigner.key.name], config.cosigner_proxy)
        tiles = TileFetcher(self.services.blobs, gathering.log.name)
        signature = ask(cosigner, address, gathering.note, tiles)
        with self._lock:
            gathering.note = with_signatures(gathering.note, [signature])
            with self.database.transaction() as session:
                keep(session, self.services.blobs, gathering.log, gathering.note, pins)


def collect(services: Services) -> dict[str, int]:
    """Ask all cosigners that are due once; returns how many logs have their quorum."""
    if not services.config.cosigners:
        return {}
    return {"logs_cosigned": Collector(services, services.database).round()}
