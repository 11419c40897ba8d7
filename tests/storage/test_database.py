"""The database tells that it cannot be had, soon and in one way, whatever the reason."""

import fcntl
import os
from pathlib import Path

import pytest

from amana.storage import database as module
from amana.storage.database import Database, DatabaseUnavailable


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(f"sqlite:///{tmp_path}/amana.db")


def test_a_writer_that_stands_still_stops_nobody_for_good(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOCK_SECONDS", 0.2)
    descriptor = os.open(tmp_path / "amana.db.lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(DatabaseUnavailable), database.transaction():
            pass
    finally:
        os.close(descriptor)
    with database.transaction():
        pass
    database.dispose()


def test_a_lock_that_cannot_be_opened_is_a_database_that_cannot_be_had(
    database: Database, tmp_path: Path
) -> None:
    (tmp_path / "amana.db.lock").mkdir()
    with pytest.raises(DatabaseUnavailable), database.transaction():
        pass
    (tmp_path / "amana.db.lock").rmdir()
    with database.transaction():
        pass
    database.dispose()
