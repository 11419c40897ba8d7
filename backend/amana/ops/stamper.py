# SPDX-License-Identifier: AGPL-3.0-or-later
"""Bring checkpoints to authorities of time stamps: beside the service, or in `amana maintain`. Nothing waits for it."""

import threading
from dataclasses import dataclass
from functools import partial
from typing import Final

from amana.api.services import Services
from amana.custody.publishing import log_name
from amana.custody.stamping import (
    Owed,
    ask,
    begin,
    keep,
    owed,
    read_authority,
    round_number,
)
from amana.ops.asking import Asker
from amana.ops.sequencer import pinned_logs
from amana.protocol.checkpoint import NoteKey

LOOK_SECONDS: Final = 5.0
ROUND_SECONDS: Final = 30.0
"""How long `amana maintain` waits for answers; who answers later is asked again."""

AGAIN_SECONDS: Final = 900.0
"""How long an authority that failed is left alone at most; at first 30 seconds, then twice as long each time."""


@dataclass
class Stamper(Asker):
    """Asks every authority of the settings about both logs, once in a round.

    Those that ask only count what was kept, under the lock. Two processes may do it at once: an authority stamps
    for both, and what came first is kept.
    """

    name = "stamping"
    look_seconds = LOOK_SECONDS
    first_seconds = 30.0

    again_seconds: float = AGAIN_SECONDS
    anew: bool = False
    """Whether a round begins now, with the newest checkpoint."""
    _kept: int = 0

    @property
    def is_needed(self) -> bool:
        return bool(self.services.config.timestamp_authorities)

    def round(self, seconds: float = ROUND_SECONDS) -> int:
        """Ask for what is owed and wait for answers; returns how many stamps were kept meanwhile."""
        before = self._kept
        self.ask_and_wait(seconds)
        with self._lock:
            return self._kept - before

    def ask_all(self) -> list[threading.Thread]:
        return [
            thread
            for pinned in pinned_logs(self.services, self.database)
            for name in self.services.config.timestamp_authorities
            if (what := self._owed(pinned.key, name)) is not None
            for thread in self._begin(
                (pinned.key.name, name), partial(self._ask, pinned.key.name, name, what)
            )
        ]

    def _owed(self, key: NoteKey, name: str) -> Owed | None:
        services = self.services
        number = round_number(services.clock(), services.config.timestamp_hours)
        if not self.anew:
            try:
                with self.database.reading() as session:
                    return owed(session, key, name, number)
            except LookupError:
                pass
        with self.database.transaction() as session:
            begin(session, key, name, number, services.today(), anew=self.anew)
        try:
            with self.database.reading() as session:
                return owed(session, key, name, number)
        except LookupError:
            return None

    def _ask(self, origin: str, name: str, what: Owed) -> None:
        response, stamp = ask(read_authority(self.services.config, name), what.stamped)
        with self.database.transaction() as session:
            blobs = self.services.blobs
            is_new = keep(session, blobs, log_name(origin), name, what, response, stamp)
        with self._lock:
            self._kept += is_new


def stamp(services: Services, *, anew: bool = False) -> int:
    """Ask for all stamps that are owed once; returns how many were kept."""
    if not services.config.timestamp_authorities:
        return 0
    return Stamper(services, services.database, anew=anew).round()
