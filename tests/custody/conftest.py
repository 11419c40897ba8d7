"""A custody log over each database and each store, without a service around it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import sqlalchemy as sa

from amana.custody import service as custody
from amana.custody.models import Log, LoggedLeaf, PublishedCheckpoint, WaitingLeaf
from amana.custody.publishing import OpenLog, Publisher, checkpoint_file, open_log
from amana.custody.sequencing import Lease, Term, number
from amana.protocol.checkpoint import Checkpoint, NoteKey, log_key, open_checkpoint
from amana.protocol.encoding import canonical
from amana.protocol.receipt import leaf
from amana.protocol.signing import SigningKey
from amana.storage.blobs import BlobStore
from amana.storage.database import Database
from amana.storage.folder import FolderStore
from amana.storage.migrations import migrate
from amana.storage.s3 import S3Store


class Clock:
    """Counts seconds that tests let pass."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Logging:
    """A database, a store and a key of a log; each `lease` and `publisher` is what another process would build."""

    database: Database
    store: BlobStore
    signing: SigningKey = field(default_factory=SigningKey.generate)
    clock: Clock = field(default_factory=Clock)
    kind: str = custody.CUSTODY
    origin: str = "amana-test/custody"
    recorded: list[bytes] = field(default_factory=list)
    """The leaves of what was committed, in that order."""

    @property
    def key(self) -> NoteKey:
        return log_key(self.origin, self.signing.public)

    def lease(self) -> Lease:
        return Lease(self.database, self.clock)

    def record(self, count: int = 1) -> None:
        """Commit events, each in a transaction of its own."""
        for _ in range(count):
            event = {"v": 1, "kind": "test", "number": len(self.recorded)}
            with self.database.transaction() as session:
                self.recorded.append(leaf(canonical(event), custody.record(session, event)))

    def open(self) -> OpenLog:
        return open_log(self.database, self.store, self.kind, self.key, self.signing)[0]

    def number(self, term: Term, limit: int = 1000) -> int:
        return number(self.database, term, {self.kind: self.open().id}, limit)

    def publisher(self, store: BlobStore | None = None) -> tuple[Publisher, OpenLog]:
        """Take the log up as a process does that begins."""
        log, edge = open_log(self.database, store or self.store, self.kind, self.key, self.signing)
        publisher = Publisher(self.database, store or self.store)
        publisher.take_up(log, edge)
        return publisher, log

    def publish(self, term: Term, store: BlobStore | None = None) -> None:
        publisher, log = self.publisher(store)
        while publisher.publish(term, log):
            pass

    def run(self, count: int = 0) -> Term:
        """Record, number and publish as one process that has the lease and leaves it."""
        self.record(count)
        lease = self.lease()
        term = lease.hold()
        assert term is not None
        while self.number(term):
            pass
        self.publish(term)
        lease.release()
        return term

    def places(self) -> list[tuple[int, bytes]]:
        with self.database.reading() as session:
            rows = session.execute(
                sa.select(LoggedLeaf.place, LoggedLeaf.entry)
                .join(Log, Log.id == LoggedLeaf.log)
                .where(Log.origin == self.origin)
                .order_by(LoggedLeaf.place)
            ).all()
        return [(row.place, bytes(row.entry)) for row in rows]

    def waiting(self) -> int:
        with self.database.reading() as session:
            count = session.scalar(sa.select(sa.func.count()).select_from(WaitingLeaf))
        return count or 0

    def given_out(self) -> Checkpoint:
        """Return the checkpoint that the database says was published; it verifies."""
        with self.database.reading() as session:
            note = session.scalars(
                sa.select(PublishedCheckpoint.note)
                .join(Log, Log.id == PublishedCheckpoint.log)
                .where(Log.origin == self.origin)
            ).one()
        return open_checkpoint(note, self.key).checkpoint

    def stored(self) -> Checkpoint:
        name = checkpoint_file(self.origin.rpartition("/")[2])
        return open_checkpoint(self.store.get_file(name), self.key).checkpoint


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    if request.param == "folder":
        store: BlobStore = FolderStore(tmp_path / "objects")
    else:
        store = S3Store(request.getfixturevalue("s3_server").fresh_bucket())
    store.prepare()
    return store


@pytest.fixture
def folder(tmp_path: Path) -> FolderStore:
    store = FolderStore(tmp_path / "objects")
    store.prepare()
    return store


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    migrate(database)
    try:
        yield database
    finally:
        database.dispose()


@pytest.fixture
def log(database: Database, folder: FolderStore) -> Logging:
    return Logging(database, folder)
