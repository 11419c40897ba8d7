# SPDX-License-Identifier: AGPL-3.0-or-later
"""Where rows rest: SQLite or PostgreSQL behind one `transaction()`, which alone commits (docs/architecture.md)."""

import fcntl
import hashlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import psycopg
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import DeclarativeBase, Session

from amana.storage.asking import Line, Lines, PostgresLine, SqliteLine, inserting_new


class Base(DeclarativeBase):
    """The tables of all stages; constraints get names so that migrations can speak of them."""

    metadata = sa.MetaData(
        naming_convention={
            "ix": "ix_%(column_0_N_label)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


def table_of(model: type[Base]) -> sa.Table:
    """Return a model's table; statements over it skip the cost of the ORM."""
    return cast(sa.Table, model.__table__)


def insert_new(session: Session, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows, but those that clash with another: these are left out."""
    session.execute(inserting_new(table, session.get_bind().dialect), rows)


class DatabaseUnavailable(Exception):
    """The database cannot be reached, is full, or does not answer in time."""


LOCK_SECONDS = 20.0
LOCK_POLL_SECONDS = 0.005

# SQLSTATE classes: 08 connection, 25 a transaction that cannot be (a database that reads only, after a
# failover), 40 a retry may succeed, 53/57/58 out of resources, shut down, I/O.
_UNAVAILABLE = {"08", "25", "40", "53", "57", "58"}
_SQLITE_FULL = {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_READONLY,
}


class Database:
    """Owns the connections. One instance a process; every transaction begins and ends in here.

    SQLite takes one writer at a time and starves those who wait in its own busy loop, so writers
    queue on a lock of ours first: within the process by a thread lock, between processes by flock.
    """

    def __init__(self, url: str, *, pool_size: int = 4) -> None:
        self.url: URL = make_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self._options = {"timeout": LOCK_SECONDS} if self.is_sqlite else {}
        if self.is_sqlite:
            self._prepare_folder()
            self.engine = sa.create_engine(
                self.url,
                pool_size=pool_size,
                max_overflow=-1,
                connect_args=self._options,
                hide_parameters=True,
            )
            event.listen(self.engine, "connect", _configure_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)
        else:
            self.engine = sa.create_engine(
                self.url,
                pool_size=pool_size,
                max_overflow=0,
                pool_timeout=15,
                pool_pre_ping=False,
                hide_parameters=True,
            )
        self._writer = threading.Lock()
        self._lines = Lines(self._open_line, self.engine.dialect, pool_size)

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Commit when the block ends, roll back when it raises; the only place that commits."""
        with (
            self._one_sqlite_writer(),
            self._faults(),
            Session(self.engine, expire_on_commit=False) as session,
            session.begin(),
        ):
            session.connection(execution_options={"amana_writes": True})
            yield session

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Give a session that only reads; on SQLite it waits for no writer."""
        with self._faults(), Session(self.engine) as session:
            yield session

    def ask(self, statement: sa.Select[Any], **values: str) -> list[Any] | None:
        """Return the first row of one statement that only reads, as every request of staff does; it is built once."""
        with self._faults():
            return self._lines.first(statement, values)

    def add_once(self, table: sa.Table, row: Mapping[str, Any]) -> bool:
        """Insert a whole row in a transaction of its own; False, and nothing changes, if its key is taken."""
        with self._one_sqlite_writer(), self._faults():
            return self._lines.insert(table, row)

    def _open_line(self) -> Line:
        arguments, options = self.engine.dialect.create_connect_args(self.url)
        connection: Any = self.engine.dialect.connect(*arguments, **{**options, **self._options})
        if not self.is_sqlite:
            return PostgresLine(connection)
        _configure_sqlite(connection, None)
        return SqliteLine(connection)

    @contextmanager
    def alone(self, errand: str) -> Iterator[bool]:
        """Tell whether nobody else, in any process on any machine, is about an errand until the block ends; nobody waits.

        Whoever dies or loses the database lets go of it, so what is done under it must be right without it too.
        """
        if self.is_sqlite:
            with self._alone_on_this_disk(errand) as alone:
                yield alone
            return
        # Not of the pool: requests must not wait for one connection less while an errand takes its time.
        engine = sa.create_engine(
            self.url, poolclass=sa.NullPool, hide_parameters=True, isolation_level="AUTOCOMMIT"
        )
        with self._faults(), engine.connect() as connection:
            key = {"key": int.from_bytes(hashlib.sha256(errand.encode()).digest()[:8], signed=True)}
            lock = sa.text("SELECT pg_try_advisory_lock(:key)")
            alone = connection.execute(lock, key).scalar() is True
            try:
                yield alone
            finally:
                # Closing the connection would let go too, a moment later.
                with suppress(SQLAlchemyError):
                    connection.execute(sa.text("SELECT pg_advisory_unlock(:key)"), key)

    @contextmanager
    def _alone_on_this_disk(self, errand: str) -> Iterator[bool]:
        if self.url.database in (None, "", ":memory:"):
            yield True
            return
        descriptor = _open_lock(f"{self.url.database}.{errand}.lock")
        try:
            yield _lock_alone(descriptor)
        finally:
            os.close(descriptor)

    @contextmanager
    def watching(self) -> Iterator[sa.Connection]:
        """Give a connection to ask the same again and again; each answer is of its own moment, and nothing is locked."""
        options = {"isolation_level": "AUTOCOMMIT", "amana_watches": True}
        with self._faults(), self.engine.connect().execution_options(**options) as connection:
            yield connection

    def run_for_a_while(self, text: str, noticed: Callable[[str], object]) -> None:
        """Run a block of PostgreSQL's that takes its time and commits by itself; what it notices is told at once."""
        with self.watching() as connection:
            driver = cast(psycopg.Connection[Any], connection.connection.driver_connection)

            def told(notice: psycopg.errors.Diagnostic) -> None:
                noticed(notice.message_primary or "")

            driver.add_notice_handler(told)
            try:
                driver.execute(text.encode())
            finally:
                driver.remove_notice_handler(told)

    def settle(self) -> None:
        """Return when all that is seen to be committed is on the disk, also what did not wait for it."""
        if self.is_sqlite:
            return
        with self.watching() as connection:
            # A commit waits for all that stands before it in PostgreSQL's log, if it wrote something there.
            connection.execute(sa.text("SELECT pg_logical_emit_message(true, 'amana', '')"))

    def check(self) -> None:
        """Raise DatabaseUnavailable unless a statement passes."""
        with self.reading() as session:
            session.execute(sa.text("SELECT 1"))

    def forget_deleted(self) -> None:
        """Let go of what was deleted: SQLite's journal keeps pages as they were before.

        PostgreSQL's vacuum does it in its own time, and backups and disks later still (docs/threat-model.md).
        """
        if self.is_sqlite:
            with self._faults(), self.engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")

    def dispose(self) -> None:
        """Close all connections; a forked child calls this before it opens its own."""
        self._lines.close()
        self.engine.dispose()

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except PoolTimeout:
            raise DatabaseUnavailable from None
        except DBAPIError as error:
            # The driver's text may hold addresses and values, so nothing of it travels on.
            if _is_unavailable(error.orig):
                raise DatabaseUnavailable from None
            raise
        except (psycopg.Error, sqlite3.Error) as error:
            if _is_unavailable(error):
                raise DatabaseUnavailable from None
            raise

    @contextmanager
    def _one_sqlite_writer(self) -> Iterator[None]:
        if not self.is_sqlite or self.url.database in (None, "", ":memory:"):
            yield
            return
        deadline = time.monotonic() + LOCK_SECONDS
        if not self._writer.acquire(timeout=LOCK_SECONDS):
            raise DatabaseUnavailable
        try:
            descriptor = _lock_file(f"{self.url.database}.lock", deadline)
            try:
                yield
            finally:
                os.close(descriptor)
        finally:
            self._writer.release()

    def _prepare_folder(self) -> None:
        if self.url.database and self.url.database != ":memory:":
            Path(self.url.database).parent.mkdir(mode=0o700, parents=True, exist_ok=True)


def _lock_file(path: str, deadline: float) -> int:
    """Lock a file against other processes and return it; whoever holds it may have been stopped for good."""
    descriptor = _open_lock(path)
    try:
        while not _lock_alone(descriptor):
            if time.monotonic() > deadline:
                raise DatabaseUnavailable
            time.sleep(LOCK_POLL_SECONDS)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _open_lock(path: str) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        raise DatabaseUnavailable from None


def _lock_alone(descriptor: int) -> bool:
    """Lock a file unless another process has it, or another part of this one; tells whether it is locked now."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        raise DatabaseUnavailable from None
    return True


def _is_unavailable(original: BaseException | None) -> bool:
    if isinstance(original, sqlite3.Error):
        code = getattr(original, "sqlite_errorcode", None)
        return code is not None and (code & 0xFF) in _SQLITE_FULL
    state = getattr(original, "sqlstate", None)
    if state is None:
        return isinstance(original, psycopg.OperationalError | psycopg.InterfaceError)
    return str(state)[:2] in _UNAVAILABLE


def _configure_sqlite(connection: Any, _record: Any) -> None:
    # SQLAlchemy begins transactions itself (see _begin_sqlite), so the driver must not.
    connection.isolation_level = None
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        "secure_delete=ON",
        "temp_store=MEMORY",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: sa.Connection) -> None:
    options = connection.get_execution_options()
    if not options.get("amana_watches"):
        connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get("amana_writes") else "BEGIN")
