# SPDX-License-Identifier: AGPL-3.0-or-later
"""Which requests of this process write uploads now, and how another request, here or elsewhere, takes one over."""

import math
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, cast

import sqlalchemy as sa

from amana.api.body import Body
from amana.intake.models import ServerProcess, UploadedObject
from amana.logs import log_failure
from amana.protocol.encoding import random_id
from amana.storage.database import Database, DatabaseUnavailable

BEAT_SECONDS = 0.75
KNOWN_SECONDS = 3600.0
"""For how long a process that did not beat is surely known still; maintenance forgets it after a day at the earliest."""
LOOK_SECONDS = 0.1
DEAD_AFTER_SECONDS = 3.0
VERIFIERS = 2


class Writers:
    """The writers of one process. Owns a thread that, while there are writers, beats and looks for takeovers.

    A database row per process holds a counter, not a time: nothing here tells when a witness sent.
    """

    def __init__(self, database: Database) -> None:
        self.process = random_id()
        self._database = database
        self._lock = threading.Lock()
        self._bodies: dict[str, Body | None] = {}
        self._busy = threading.Event()
        self._verifying: set[str] = set()
        self._verifiers = ThreadPoolExecutor(VERIFIERS, thread_name_prefix="verify")
        self._thread: threading.Thread | None = None
        self._beat_at = -math.inf

    @contextmanager
    def writing(self, body: Body | None) -> Iterator[str]:
        """Give the name under which a request may claim an upload while the block runs; `body` is what a takeover ends.

        The name is there before the claim and after the release: a row that carries a name of this process
        which is not here belongs to nobody, because its release failed.
        """
        writer = random_id()
        with self._lock:
            self._bodies[writer] = body
            self._busy.set()
        try:
            yield writer
        finally:
            with self._lock:
                del self._bodies[writer]

    def holds(self, upload: UploadedObject) -> bool | None:
        """Tell whether an upload's writer is a request of this process; None when that is another process's matter."""
        if upload.process != self.process:
            return None
        with self._lock:
            return upload.writer in self._bodies

    def announce(self) -> None:
        """Make sure that this process is known before it claims anything."""
        with self._lock:
            if time.monotonic() - self._beat_at > KNOWN_SECONDS:
                self._beat()
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="writers", daemon=True)
                self._thread.start()

    def supersede(self, writer: str | None) -> None:
        """End the body of a request of this process."""
        with self._lock:
            body = self._bodies.get(writer or "")
        if body is not None:
            body.supersede()

    def verify_behind(self, case: str, work: Callable[[], None]) -> None:
        """Do the reading back of a case in a thread; while that goes on, asking again adds nothing."""
        with self._lock:
            if case in self._verifying:
                return
            self._verifying.add(case)

        def run() -> None:
            try:
                work()
            finally:
                with self._lock:
                    self._verifying.discard(case)

        self._verifiers.submit(run)

    def _run(self) -> None:
        while True:
            # Without writers the thread sleeps, so that an idle service writes nothing.
            self._busy.wait()
            with self._lock:
                if not self._bodies:
                    self._busy.clear()
            try:
                if time.monotonic() - self._beat_at >= BEAT_SECONDS:
                    self._beat()
                for writer in self._wanted():
                    self.supersede(writer)
            except DatabaseUnavailable:
                pass
            except Exception as error:
                # Without its beat every upload of this process would soon look abandoned.
                log_failure(error, None, "writers")
            time.sleep(LOOK_SECONDS)

    def _beat(self) -> None:
        beat_at = time.monotonic()
        with self._database.transaction() as session:
            query = sa.update(ServerProcess).where(ServerProcess.id == self.process)
            done = cast(
                "sa.CursorResult[Any]", session.execute(query.values(beat=ServerProcess.beat + 1))
            )
            if done.rowcount == 0:
                session.execute(sa.insert(ServerProcess).values(id=self.process, beat=0))
        self._beat_at = beat_at

    def _wanted(self) -> list[str]:
        """Return the writers of this process that shall end; a row that one of them left behind is given back."""
        query = (
            sa.select(UploadedObject.writer)
            .where(UploadedObject.process == self.process)
            .where(UploadedObject.wanted)
        )
        with self._database.reading() as session:
            wanted = [writer for writer in session.scalars(query) if writer is not None]
        with self._lock:
            left = [writer for writer in wanted if writer not in self._bodies]
        if left:
            with self._database.transaction() as session:
                session.execute(
                    sa.update(UploadedObject)
                    .where(UploadedObject.writer.in_(left))
                    .values(writer=None, process=None)
                )
        return wanted
