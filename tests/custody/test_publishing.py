"""What is published continues all that was published before; where it cannot, nothing is published."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import sqlalchemy as sa

from amana.custody import publishing
from amana.custody.models import Log, LoggedLeaf, PublishedCheckpoint
from amana.custody.publishing import (
    LogBehind,
    LogDamaged,
    LogForked,
    LogFrozen,
    LogKeyDiffers,
    LogRefused,
    TileFetcher,
    add_signatures,
    examine,
    open_log,
)
from amana.custody.sequencing import LEASE_SECONDS, Deposed
from amana.protocol.checkpoint import (
    Checkpoint,
    Cosigner,
    KeyType,
    NoteKey,
    cosign,
    open_checkpoint,
    sign_checkpoint,
)
from amana.protocol.merkle import (
    EMPTY_ROOT,
    inclusion_proof,
    leaf_hash,
    verify_inclusion,
)
from amana.protocol.signing import SigningKey
from amana.protocol.tiles import ENTRIES, Edge, Tile, TileReader, bundles_of, split_bundle, tiles_of
from amana.storage.blobs import BlobMissing, BlobStore, StoreUnavailable
from amana.storage.database import Database
from amana.storage.folder import FolderStore
from amana.storage.s3 import S3Store
from tests.custody.conftest import Logging

ROOT = Path(__file__).parents[2]
SQL_OF = {
    "entry": "UPDATE log_leaves SET entry = :value WHERE place = :place",
    "missing": "DELETE FROM log_leaves WHERE place = :place",
}


EMPTY = Checkpoint("amana-test/custody", 0, EMPTY_ROOT)


def run_sql(log: Logging, statement: str, **values: object) -> None:
    with log.database.transaction() as session:
        session.execute(sa.text(statement), values)


def entries_of(log: Logging, size: int) -> list[bytes]:
    fetch = TileFetcher(log.store, "custody")
    return [one for tile in bundles_of(size) for one in split_bundle(tile, fetch(tile))]


def test_a_log_grows_on_every_store_and_is_whole_at_every_size(
    database: Database, store: BlobStore
) -> None:
    log = Logging(database, store)
    log.run()
    assert log.given_out().root == EMPTY_ROOT
    for count in (1, 4, 250, 1, 256, 300):
        log.run(count)
        checkpoint, size = log.given_out(), len(log.recorded)
        assert checkpoint == log.stored()
        assert checkpoint.size == size
        edge, tiles = Edge().grown([leaf_hash(one) for one in log.recorded])
        assert checkpoint.root == edge.root()
        for tile in tiles_of(size):
            assert TileFetcher(store, "custody")(tile) == tiles[tile]
        assert entries_of(log, size) == log.recorded
        read = TileReader(TileFetcher(store, "custody"), size)
        for index in {0, size // 2, size - 1}:
            proof = inclusion_proof(read, index, size)
            verify_inclusion(leaf_hash(log.recorded[index]), index, size, proof, checkpoint.root)


def test_partial_tiles_are_there_for_every_checkpoint_until_the_full_one_is(log: Logging) -> None:
    for _ in range(3):
        log.run(80)
    for width in (80, 160, 240):
        log.store.get_file(f"log/custody/tile/0/000.p/{width}")
        log.store.get_file(f"log/custody/tile/entries/000.p/{width}")
    log.run(80)
    log.store.get_file("log/custody/tile/0/000")
    log.store.get_file("log/custody/tile/1/000.p/1")
    for name in ("tile/0/000.p/80", "tile/entries/000.p/240"):
        with pytest.raises(BlobMissing):
            log.store.get_file(f"log/custody/{name}")
    # A reader with an older checkpoint gets its part out of the full one.
    old = TileFetcher(log.store, "custody")(Tile(0, 0, 160))
    assert old == b"".join(map(leaf_hash, log.recorded[:160]))
    bundle = TileFetcher(log.store, "custody")(Tile(ENTRIES, 0, 80))
    assert split_bundle(Tile(ENTRIES, 0, 80), bundle) == log.recorded[:80]


def test_publishing_again_changes_nothing(log: Logging) -> None:
    log.run(10)
    before = {path: path.read_bytes() for path in files_of(log)}
    log.run()
    assert {path: path.read_bytes() for path in files_of(log)} == before


def files_of(log: Logging) -> list[Path]:
    assert isinstance(log.store, FolderStore)
    return sorted(one for one in (log.store.root / "log").rglob("*") if one.is_file())


class Failing:
    """A store around another whose files cannot be put any more from the n-th call on."""

    def __init__(self, store: BlobStore, calls: int) -> None:
        self._store, self.left = store, calls

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def put_files(self, files: dict[str, bytes]) -> None:
        self.left -= 1
        if self.left < 0:
            raise StoreUnavailable
        self._store.put_files(files)


class Noting:
    """A store around another that remembers every checkpoint that is put."""

    def __init__(self, store: BlobStore) -> None:
        self._store = store
        self.given_out: list[bytes] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def put_files(self, files: dict[str, bytes]) -> None:
        self.given_out += [one for name, one in files.items() if name.endswith("/checkpoint")]
        self._store.put_files(files)


@pytest.mark.parametrize("calls", range(5))
def test_a_store_that_fails_anywhere_costs_nothing_but_time(log: Logging, calls: int) -> None:
    log.run(250)
    before = log.given_out()
    log.record(10)
    term = log.lease().hold()
    assert term is not None
    log.number(term)
    failing: BlobStore = Failing(log.store, calls)  # type: ignore[assignment]
    try:
        log.publish(term, failing)
    except StoreUnavailable:
        assert log.given_out() == before
        assert log.stored() == before
    log.publish(term)
    assert log.given_out() == log.stored()
    assert log.given_out().size == 260


def test_who_lost_the_lease_publishes_nothing(log: Logging) -> None:
    log.run(3)
    first, second = log.lease(), log.lease()
    old = first.hold()
    assert old is not None
    publisher, opened = log.publisher()
    log.record(2)
    log.number(old)
    assert second.hold() is None
    log.clock.now += LEASE_SECONDS
    new = second.hold()
    assert new is not None
    with pytest.raises(Deposed):
        publisher.publish(old, opened)
    assert log.given_out().size == log.stored().size == 3
    log.publish(new)
    assert log.given_out().size == 5


def test_an_older_checkpoint_never_comes_after_a_newer_one(log: Logging) -> None:
    log.run(3)
    slow, opened = log.publisher()
    log.run(4)
    term = log.lease().hold()
    assert term is not None
    log.record(2)
    log.number(term)
    # It took the log up long ago; what it publishes next continues what others published since.
    assert slow.publish(term, opened) == 6
    assert log.given_out() == log.stored()
    assert log.given_out().size == 9


@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_a_sequencer_that_dies_at_any_line_is_continued_by_another(
    database: Database, database_url: str, tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    """Every 31st line here, every line under `make soak`."""
    database.dispose()
    if kind == "s3":
        settings = request.getfixturevalue("s3_server").fresh_bucket()
        S3Store(settings).prepare()
        place: dict[str, object] = {"s3": asdict(settings), "step": 61}
    else:
        FolderStore(tmp_path / "objects").prepare()
        place = {"folder": str(tmp_path / "objects"), "step": 31}
    if os.environ.get("AMANA_SOAK"):
        place["step"] = 1
    spec = {**place, "database": database_url, "seen": str(tmp_path / "seen"), "first": 230}
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.dying_sequencer", json.dumps(spec)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout) > 8


# Examination: what was published against what the database holds


def keep_files(log: Logging, to: Path) -> None:
    assert isinstance(log.store, FolderStore)
    shutil.copytree(log.store.root / "log", to)


def bring_back(log: Logging, kept: Path) -> None:
    assert isinstance(log.store, FolderStore)
    shutil.rmtree(log.store.root / "log")
    shutil.copytree(kept, log.store.root / "log")


def look(log: Logging) -> Edge:
    return examine(log.database, log.store, log.kind, log.key)


def go_back(log: Logging, size: int) -> None:
    """Bring the database back to the day when the log had `size` leaves."""
    run_sql(log, "DELETE FROM log_leaves WHERE place >= :size", size=size)
    run_sql(log, "UPDATE logs SET size = :size", size=size)
    run_sql(log, "DELETE FROM published_checkpoints")
    del log.recorded[size:]


def test_a_log_that_was_left_in_order_goes_on(log: Logging) -> None:
    assert look(log) == Edge()
    log.run(300)
    assert look(log).root() == log.given_out().root
    log.record(5)
    term = log.lease().hold()
    assert term is not None
    log.number(term)
    assert look(log).size == 300


def test_a_database_behind_its_published_checkpoint_freezes_the_log(log: Logging) -> None:
    log.run(300)
    go_back(log, 280)
    for attempt in (look, Logging.open, Logging.publisher):
        with pytest.raises(LogBehind) as refused:
            attempt(log)
        assert refused.value.slug == "log-behind"
    # Also when it has as many leaves again; they are others.
    log.record(20)
    term = log.lease().hold()
    assert term is not None
    with log.database.transaction() as session:
        row = session.scalars(sa.select(Log)).one()
        rows = [
            {"log": row.id, "place": 280 + n, "entry": log.recorded[280 + n]} for n in range(20)
        ]
        session.execute(sa.insert(LoggedLeaf), rows)
        row.size = 300
    with pytest.raises(LogForked):
        look(log)


def test_a_database_that_forgot_the_log_is_behind_too(log: Logging) -> None:
    log.run(3)
    for table in ("published_checkpoints", "log_leaves", "logs"):
        run_sql(log, f"DELETE FROM {table}")  # noqa: S608
    with pytest.raises(LogBehind):
        look(log)


def test_both_restored_to_another_day_after_each_other_is_a_fork(
    log: Logging, tmp_path: Path
) -> None:
    log.run(300)
    keep_files(log, tmp_path / "later")
    assert isinstance(log.store, FolderStore)
    go_back(log, 280)
    shutil.rmtree(log.store.root / "log")
    log.run(40)
    assert log.given_out().size == 320
    bring_back(log, tmp_path / "later")
    with pytest.raises(LogForked) as refused:
        look(log)
    assert refused.value.slug == "log-forked"


def test_a_store_of_an_earlier_day_follows(
    log: Logging, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In several steps, of which none is given out anew.
    monkeypatch.setattr(publishing, "BATCH", 256)
    log.run(250)
    keep_files(log, tmp_path / "earlier")
    log.run(300)
    newest, files = log.given_out(), {one: one.read_bytes() for one in files_of(log)}
    bring_back(log, tmp_path / "earlier")
    assert look(log).size == 250
    term = log.lease().hold()
    assert term is not None
    noting = Noting(log.store)
    log.publish(term, noting)  # type: ignore[arg-type]
    assert noting.given_out == [bytes(log.store.get_file("log/custody/checkpoint"))]
    assert log.given_out() == log.stored() == newest
    assert {one: one.read_bytes() for one in files_of(log) if one in files} == files


@pytest.mark.parametrize(("what", "place"), [("entry", 299), ("entry", 260), ("missing", 270)])
def test_leaves_that_were_changed_in_the_database_are_a_fork(
    log: Logging, what: str, place: int
) -> None:
    log.run(300)
    values = {"place": place} | ({"value": bytes(32)} if what == "entry" else {})
    run_sql(log, SQL_OF[what], **values)
    with pytest.raises(LogForked):
        look(log)


def test_a_checkpoint_that_the_database_says_otherwise_is_a_fork(log: Logging) -> None:
    log.run(10)
    with log.database.transaction() as session:
        row = session.scalars(sa.select(PublishedCheckpoint)).one()
        row.note = bytes(sign_checkpoint(log.signing, Checkpoint(log.origin, 10, bytes(32))))
    with pytest.raises(LogForked):
        look(log)


def every_file(log: Logging) -> list[Path]:
    return [one for one in files_of(log) if one.name != "checkpoint" and "entries" not in one.parts]


def test_a_flipped_bit_in_any_tile_or_in_the_checkpoint_is_found(log: Logging) -> None:
    log.run(600)
    examined = [one for one in files_of(log) if "entries" not in one.parts]
    assert len(examined) == 5
    for path in examined:
        whole = path.read_bytes()
        for at in (0, len(whole) // 2, len(whole) - 1):
            damaged = bytearray(whole)
            damaged[at] ^= 1
            path.write_bytes(damaged)
            with pytest.raises(LogDamaged) as refused:
                look(log)
            assert refused.value.slug == "log-damaged"
        path.write_bytes(whole[:-1])
        with pytest.raises(LogDamaged):
            look(log)
        path.write_bytes(whole)
        look(log)


def test_a_lost_file_is_found(log: Logging) -> None:
    log.run(600)
    for path in [one for one in files_of(log) if "entries" not in one.parts]:
        whole = path.read_bytes()
        path.unlink()
        with pytest.raises(LogDamaged):
            look(log)
        path.write_bytes(whole)
    look(log)


def test_a_frozen_log_or_one_with_another_key_does_not_go_on(log: Logging) -> None:
    log.run(3)
    other = Logging(log.database, log.store, SigningKey.generate())
    with pytest.raises(LogRefused):
        other.open()
    with pytest.raises(LogKeyDiffers):
        open_log(log.database, log.store, log.kind, other.key, log.signing)
    run_sql(log, "UPDATE logs SET frozen = :yes", yes=True)
    with pytest.raises(LogFrozen):
        log.open()


def test_cosignatures_are_added_to_the_published_checkpoint_and_stay(
    log: Logging, tmp_path: Path
) -> None:
    log.run(3)
    keep_files(log, tmp_path / "earlier")
    key = SigningKey.generate()
    cosigners = [Cosigner("one", NoteKey("one.example/a", KeyType.COSIGNER, key.public))]
    with log.database.transaction() as session:
        row = session.scalars(sa.select(Log)).one()
        text = log.given_out().text
        line = cosign("one.example/a", key, text, 1_795_000_000)
        assert add_signatures(session, log.store, row, 2, [line]) is None
        assert add_signatures(session, log.store, row, 3, [line]) is not None
    log.run()
    assert b"one.example/a" in log.store.get_file("log/custody/checkpoint")
    # A store of an earlier day gets what the database has, with all that was added.
    bring_back(log, tmp_path / "earlier")
    log.store.put_files({"log/custody/checkpoint": bytes(sign_checkpoint(log.signing, EMPTY))})
    log.run()
    data = log.store.get_file("log/custody/checkpoint")
    assert open_checkpoint(data, log.key, cosigners, 1).cosigned == {"one": 1_795_000_000}
    log.run(1)
    assert (
        open_checkpoint(log.store.get_file("log/custody/checkpoint"), log.key, cosigners).cosigned
        == {}
    )
