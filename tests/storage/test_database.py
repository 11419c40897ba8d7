"""The database tells that it cannot be had, soon and in one way, whatever the reason."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from amana.storage import database as module
from amana.storage.database import Database, DatabaseUnavailable
from tests.support.server import wait_until


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


def test_one_at_a_time_is_about_an_errand_and_the_others_are_told_at_once(
    database_url: str,
) -> None:
    first, second = Database(database_url), Database(database_url)
    with first.transaction(), first.alone("deleting") as alone:
        assert alone
        with second.alone("deleting") as also, first.alone("deleting") as again:
            assert (also, again) == (False, False)
        with second.alone("checking") as other:
            assert other
    with pytest.raises(ZeroDivisionError), second.alone("deleting"):
        raise ZeroDivisionError
    with first.alone("deleting") as alone:
        assert alone
    first.dispose()
    second.dispose()


def test_an_errand_whose_lock_cannot_be_opened_is_a_database_that_cannot_be_had(
    database: Database, tmp_path: Path
) -> None:
    (tmp_path / "amana.db.deleting.lock").mkdir()
    with pytest.raises(DatabaseUnavailable), database.alone("deleting"):
        pass
    database.dispose()


def test_who_dies_lets_go_of_the_errand(database_url: str) -> None:
    holder = (
        "import signal, sys; from amana.storage.database import Database\n"
        "with Database(sys.argv[1]).alone('deleting') as alone:\n"
        "    print(alone, flush=True); signal.pause()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", holder, database_url], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "True\n"
    database = Database(database_url)
    with database.alone("deleting") as alone:
        assert not alone
    child.kill()
    child.wait()
    child.stdout.close()

    def is_free() -> bool:
        with database.alone("deleting") as alone:
            return alone

    wait_until(is_free, "the errand to be free")
    database.dispose()
