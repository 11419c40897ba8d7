# SPDX-License-Identifier: AGPL-3.0-or-later
"""Which requests of this process write uploads now, and how another request, here or elsewhere, takes one over."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import sqlalchemy as sa

from amana.api.body import Body
from amana.intake.models import ServerProcess, UploadedObject
from amana.protocol.encoding import random_id
from amana.storage.database import Database, DatabaseUnavailable

BEAT_SECONDS = 0.75
LOOK_SECONDS = 0.1
DEAD_AFTER_SECONDS = 3.0


class Writers:
    """The writers of one process. Owns a thread that, while there are writers, beats and looks for takeovers.

    A database row per process holds a counter, not a time: nothing here tells when a witness sent.
    """

    def __init__(self, database: Database) -> None:
        self.process = random_id()
        self._database = database
        self._lock = threading.Lock()
        self._bodies: dict[tuple[str, int], Body | None] = {}
        self._busy = threading.Event()
        self._thread: threading.Thread | None = None

    @contextmanager
    def writing(self, case: str, n: int, body: Body | None) -> Iterator[None]:
        """Count as the writer of an upload while the block runs; `body` is what a takeover ends."""
        with self._lock:
            self._bodies[case, n] = body
            self._busy.set()
        try:
            yield
        finally:
            with self._lock:
                del self._bodies[case, n]

    def announce(self) -> None:
        """Make sure that this process is known before it claims anything."""
        with self._lock:
            if self._thread is None:
                self._beat()
                self._thread = threading.Thread(target=self._run, name="writers", daemon=True)
                self._thread.start()

    def supersede(self, case: str, n: int) -> None:
        """End the body of the request of this process that writes an upload, if there is one."""
        with self._lock:
            body = self._bodies.get((case, n))
        if body is not None:
            body.supersede()

    def _run(self) -> None:
        beat_at = 0.0
        while True:
            # Without writers the thread sleeps, so that an idle service writes nothing.
            self._busy.wait()
            with self._lock:
                if not self._bodies:
                    self._busy.clear()
            try:
                if time.monotonic() - beat_at >= BEAT_SECONDS:
                    self._beat()
                    beat_at = time.monotonic()
                for case, n in self._wanted():
                    self.supersede(case, n)
            except DatabaseUnavailable:
                pass
            time.sleep(LOOK_SECONDS)

    def _beat(self) -> None:
        with self._database.transaction() as session:
            query = sa.update(ServerProcess).where(ServerProcess.id == self.process)
            done = cast(
                "sa.CursorResult[Any]", session.execute(query.values(beat=ServerProcess.beat + 1))
            )
            if done.rowcount == 0:
                session.execute(sa.insert(ServerProcess).values(id=self.process, beat=0))

    def _wanted(self) -> list[tuple[str, int]]:
        with self._database.reading() as session:
            query = (
                sa.select(UploadedObject.case, UploadedObject.n)
                .where(UploadedObject.process == self.process)
                .where(UploadedObject.wanted)
            )
            return [(row.case, row.n) for row in session.execute(query)]
