# SPDX-License-Identifier: AGPL-3.0-or-later
"""Destroy what was withdrawn or has expired; keep what witnesses said, to say it again to a restored database."""

import fcntl
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from amana.api.services import Services
from amana.consent import service
from amana.consent.models import ControlStatement
from amana.directory import service as directory
from amana.errors import Refusal
from amana.intake.receiving import expire
from amana.logs import log_event
from amana.protocol.control import parse_control
from amana.protocol.encoding import canonical, parse_day
from amana.protocol.errors import ProtocolError
from amana.storage.blobs import StoreUnavailable
from amana.storage.database import DatabaseUnavailable


def destroy_due(services: Services) -> int:
    """Destroy the cases whose day has come, and return how many; may run anywhere, as often as one likes."""
    with services.database.reading() as session:
        cases = service.due(session, services.today())
    done = sum(destroy(services, case) for case in cases)
    # Each time, not only when something went: while somebody reads, the journal cannot be emptied.
    services.database.forget_deleted()
    return done


def destroy(services: Services, case: str) -> bool:
    """Destroy one case if it is due: first its objects, then its rows, so that a crash between leaves no orphan."""
    with services.database.transaction() as session:
        objects = service.begin_destroying(session, case, services.today())
    if objects is None:
        return False
    try:
        for key, progress in objects:
            services.blobs.delete(key, progress)
    except StoreUnavailable:
        # One that cannot be deleted now must not keep the others; the next run finds it again.
        return False
    with services.database.transaction() as session:
        return service.finish_destroying(session, case, services.today())


def destroy_behind(services: Services) -> None:
    """Destroy in a thread what is due and what was withdrawn unfinished; `amana maintain` ends what fails here."""

    def work() -> None:
        try:
            destroy_due(services)
            expire(services)
        except (DatabaseUnavailable, StoreUnavailable):
            log_event("destroying-failed")

    threading.Thread(target=work, name="destroying", daemon=True).start()


# The journal: a restored backup does not know what witnesses have said since


def keep_statements(services: Services) -> int:
    """Write the statements that the journal lacks to it, and return how many."""
    with services.database.reading() as session:
        lines = [_line(one) for one in service.statements(session)]
    with _journal(services.config.journal) as journal:
        known = set(_read(journal))
        missing = [line for line in lines if line not in known]
        if missing:
            with journal.open("ab") as file:
                file.write(b"".join(missing))
                file.flush()
                os.fsync(file.fileno())
    return len(missing)


def repeat_statements(services: Services) -> int:
    """Say to the database what the journal holds and it does not: after a restore it forgot. Returns how many."""
    path = services.config.journal
    if not path.exists():
        return 0
    with services.database.reading() as session:
        known = {_line(one) for one in service.statements(session)}
    missing = [line for line in _read(path) if line not in known]
    return sum(_repeat(services, line) for line in missing)


def _line(statement: ControlStatement) -> bytes:
    kept = {
        "received_on": statement.received_on.isoformat(),
        "statement": json.loads(statement.document),
    }
    return canonical(kept) + b"\n"


def _repeat(services: Services, line: bytes) -> bool:
    try:
        kept = json.loads(line)
        document = kept["statement"]
        statement, received_on = parse_control(document), parse_day(kept["received_on"])
    except (ValueError, KeyError, TypeError, ProtocolError):
        # The end of a line that a crash cut off.
        return False
    try:
        with services.database.transaction() as session:
            service.change(
                session,
                statement,
                document=canonical(document),
                texts=_texts(services),
                today=received_on,
                custody_log=services.secrets.custody_log,
                is_repeated=True,
            )
    except (Refusal, ProtocolError):
        # Known in another place, or about a case that the backup is older than.
        return False
    return True


def _texts(services: Services) -> set[tuple[str, str]]:
    with services.database.reading() as session:
        now = directory.current(session, services.caches)
    return {(text.id, text.sha256) for text in now.consent_texts}


def _read(journal: Path) -> list[bytes]:
    return journal.read_bytes().splitlines(keepends=True)


@contextmanager
def _journal(path: Path) -> Iterator[Path]:
    """Give the journal, to one process at a time."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield path
    finally:
        os.close(descriptor)
