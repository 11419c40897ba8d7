# SPDX-License-Identifier: AGPL-3.0-or-later
"""Places do not wait for PostgreSQL's disk, and nothing is signed for them before they are on it."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from amana.custody.publishing import checkpoint_file
from amana.custody.sequencing import Term
from amana.storage.blobs import BlobStore
from amana.storage.database import Database, DatabaseUnavailable
from amana.storage.folder import FolderStore
from amana.storage.migrations import migrate
from tests.custody.conftest import Logging
from tests.support.postgres import Mortal, mortal_postgres


@pytest.fixture
def mortal() -> Iterator[Mortal]:
    with (
        tempfile.TemporaryDirectory(prefix="amana-postgres-") as folder,
        mortal_postgres(Path(folder) / "data") as server,
    ):
        yield server


@pytest.fixture
def log(mortal: Mortal, tmp_path: Path) -> Iterator[Logging]:
    database = Database(
        make_url(mortal.url)
        .set(drivername="postgresql+psycopg")
        .render_as_string(hide_password=False)
    )
    migrate(database)
    store = FolderStore(tmp_path / "objects")
    store.prepare()
    yield Logging(database, store)
    database.dispose()


class Last:
    """A store after whose first checkpoint the power of the database fails."""

    def __init__(self, store: BlobStore, mortal: Mortal, name: str) -> None:
        self._store, self._mortal, self._name = store, mortal, name

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def put_files(self, files: dict[str, bytes]) -> None:
        self._store.put_files(files)
        if self._name in files:
            self._mortal.fail()


def placed(log: Logging) -> Term:
    """Publish three leaves, and give five more their places."""
    log.run(3)
    log.record(5)
    term = log.lease().hold()
    assert term is not None
    assert log.number(term) == 5
    return term


def come_back(log: Logging, mortal: Mortal) -> None:
    log.database.dispose()
    mortal.come_back()


def test_what_a_checkpoint_covers_is_there_after_the_power_failed(
    log: Logging, mortal: Mortal
) -> None:
    term = placed(log)
    last: BlobStore = Last(log.store, mortal, checkpoint_file("custody"))  # type: ignore[assignment]
    with pytest.raises(DatabaseUnavailable):
        log.publish(term, last)
    come_back(log, mortal)
    assert log.stored().size == 8
    assert log.places() == list(enumerate(log.recorded))
    log.publish(term)
    assert log.given_out() == log.stored()


def test_what_was_recorded_waits_again_where_its_place_was_lost(
    log: Logging, mortal: Mortal
) -> None:
    term = placed(log)
    mortal.fail()
    come_back(log, mortal)
    assert len(log.places()) + log.waiting() == 8
    log.number(term)
    log.publish(term)
    assert log.places() == list(enumerate(log.recorded))
    assert log.given_out().size == 8
