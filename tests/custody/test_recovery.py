"""Lost files come back from the database or from other files; a frozen log ends, and its leaves can still be proven."""

import json
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from amana.api.services import Services
from amana.app import make_services
from amana.client.directory import read_root
from amana.config import read_config
from amana.custody import service as custody
from amana.custody.models import CosignedCheckpoint, Log, LoggedLeaf, PublishedCheckpoint
from amana.custody.publishing import (
    LogDamaged,
    LogForked,
    LogFrozen,
    LogRefused,
    Publisher,
    checkpoint_file,
    open_log,
    tile_file,
)
from amana.custody.recovery import Recovered, look, recover
from amana.custody.sequencing import Deposed, Lease
from amana.errors import NotFound
from amana.ops.logkeeping import freeze_log, recover_log, standings
from amana.ops.sequencer import Sequencer, give_places, sequence, take_up
from amana.protocol.checkpoint import Checkpoint, log_key, sign_checkpoint
from amana.protocol.encoding import canonical
from amana.protocol.merkle import inclusion_proof, leaf_hash, verify_inclusion
from amana.protocol.receipt import leaf, verify_receipt
from amana.protocol.signing import SigningKey
from amana.protocol.tiles import ENTRIES, Edge, Tile, TileReader, bundle
from amana.protocol.tlogproof import TlogProof
from amana.storage.folder import FolderStore
from amana.storage.migrations import migrate
from tests.custody.conftest import Logging
from tests.custody.test_publishing import TileFetcher, files_of, go_back, run_sql
from tests.support.officers import Officers
from tests.support.organisation import Organisation, organisation_on
from tests.support.server import wait_until


def bare_services(folder: Path) -> Services:
    """Return a migrated installation without a root."""
    config = replace(read_config(folder / "data"), database_url=f"sqlite:///{folder}/amana.db")
    services = make_services(config, create_secrets=True)
    migrate(services.database)
    services.blobs.prepare()
    return services


def row(log: Logging) -> Log:
    with log.database.reading() as session:
        return session.scalars(sa.select(Log).where(Log.origin == log.origin)).one()


def recovered(log: Logging, **options: bool) -> Recovered:
    return recover(log.database, log.store, row(log), **{"is_closed": False, **options})


def test_nothing_is_missing_of_a_whole_log(log: Logging) -> None:
    log.run(600)
    assert recovered(log) == Recovered(0, 0)


def test_each_lost_or_damaged_file_comes_back_as_it_was(log: Logging) -> None:
    log.run(600)
    for path in files_of(log):
        whole = path.read_bytes()
        path.unlink()
        assert recovered(log, write=False) == Recovered(1, 0)
        assert not path.exists()
        assert recovered(log) == Recovered(1, 0)
        assert path.read_bytes() == whole
        path.write_bytes(bytes(len(whole)))
        assert recovered(log).files == 1
        assert path.read_bytes() == whole
    log.run(20)
    assert log.given_out().size == 620


def test_a_look_notices_each_lost_or_damaged_file_of_a_small_log(log: Logging) -> None:
    log.run(600)
    look(log.store, log.key)
    for path in files_of(log):
        if path.name == "checkpoint":
            continue
        whole = path.read_bytes()
        path.unlink()
        with pytest.raises(LogDamaged):
            look(log.store, log.key)
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(LogDamaged):
            look(log.store, log.key)
        path.write_bytes(whole)
    look(log.store, log.key)


@pytest.mark.parametrize("lost", ["tile/1/000", "tile/1/001.p/1", "tile/2/000.p/1", "tile/0/256"])
def test_a_look_reads_every_level_of_a_larger_log(folder: FolderStore, lost: str) -> None:
    count, signing = 257 * 256, SigningKey.generate()
    entries = [number.to_bytes(32, "big") for number in range(count)]
    edge, tiles = Edge().grown(list(map(leaf_hash, entries)))
    bundles = {
        Tile(ENTRIES, at // 256): bundle(entries[at : at + 256]) for at in range(0, count, 256)
    }
    note = sign_checkpoint(signing, Checkpoint("amana-test/custody", count, edge.root()))
    folder.put_files({tile_file("custody", tile): one for tile, one in (tiles | bundles).items()})
    folder.put_files({checkpoint_file("custody"): bytes(note)})
    key = log_key("amana-test/custody", signing.public)
    look(folder, key)
    path = folder.root / "log" / "custody" / lost
    whole = path.read_bytes()
    path.write_bytes(bytes(len(whole)))
    with pytest.raises(LogDamaged):
        look(folder, key)
    path.unlink()
    with pytest.raises(LogDamaged):
        look(folder, key)


def test_all_files_come_back_at_once(log: Logging) -> None:
    log.run(600)
    assert isinstance(log.store, FolderStore)
    before = {one: one.read_bytes() for one in files_of(log)}
    shutil.rmtree(log.store.root / "log")
    with pytest.raises(LogDamaged):
        log.open()
    assert recovered(log).files == len(before)
    assert {one: one.read_bytes() for one in files_of(log)} == before
    log.run(5)


def test_tiles_come_back_from_entries_where_the_database_is_behind(log: Logging) -> None:
    log.run(600)
    assert isinstance(log.store, FolderStore)
    go_back(log, 300)
    before = {one: one.read_bytes() for one in files_of(log)}
    for name in ("0", "1"):
        shutil.rmtree(log.store.root / "log" / "custody" / "tile" / name)
    assert recovered(log).files == 4
    assert {one: one.read_bytes() for one in files_of(log)} == before
    # It stays frozen: what was lost of the database is not made up for a log that goes on.
    with pytest.raises(LogRefused):
        log.open()
    assert row(log).size == 300


def test_where_neither_has_a_leaf_it_is_said_and_nothing_is_written(log: Logging) -> None:
    log.run(600)
    assert isinstance(log.store, FolderStore)
    go_back(log, 300)
    shutil.rmtree(log.store.root / "log" / "custody" / "tile" / "entries")
    before = {one: one.read_bytes() for one in files_of(log)}
    with pytest.raises(LogDamaged):
        recovered(log)
    assert {one: one.read_bytes() for one in files_of(log)} == before


def test_leaves_that_do_not_lead_to_the_checkpoint_are_not_published(log: Logging) -> None:
    log.run(600)
    before = {one: one.read_bytes() for one in files_of(log)}
    run_sql(log, "UPDATE log_leaves SET entry = :value WHERE place = 5", value=bytes(32))
    with pytest.raises(LogForked):
        recovered(log)
    assert {one: one.read_bytes() for one in files_of(log)} == before


def test_a_log_that_ended_gets_its_leaves_back_and_they_can_be_proven(log: Logging) -> None:
    log.run(600)
    lost = list(log.recorded)
    go_back(log, 300)
    assert recovered(log, is_closed=True, write=False) == Recovered(0, 300)
    assert recovered(log, is_closed=True) == Recovered(0, 300)
    assert [entry for _, entry in log.places()] == lost
    checkpoint = log.stored()
    read = TileReader(TileFetcher(log.store, "custody"), checkpoint.size)
    proof = inclusion_proof(read, 500, 600)
    verify_inclusion(leaf_hash(lost[500]), 500, 600, proof, checkpoint.root)
    assert recovered(log, is_closed=True) == Recovered(0, 0)


# The same for an installation: with officers who open another log


@pytest.fixture(params=["sqlite", "postgresql"])
def organisation(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Organisation]:
    with organisation_on(request.param, request, tmp_path) as made:
        yield made


def states(organisation: Organisation, *, whole: bool = False) -> dict[str, str]:
    found = standings(organisation.services, whole=whole)
    return {one.name: one.state for one in found}


def restore(organisation: Organisation, size: int) -> None:
    """Bring the rows of the custody log back to an earlier day."""
    with organisation.services.database.transaction() as session:
        log = session.scalars(sa.select(Log).where(Log.name == "custody")).one()
        session.execute(
            sa.delete(LoggedLeaf).where(LoggedLeaf.log == log.id, LoggedLeaf.place >= size)
        )
        session.execute(sa.delete(PublishedCheckpoint).where(PublishedCheckpoint.log == log.id))
        log.size = size


def test_a_frozen_log_ends_under_a_new_root_and_another_begins(
    organisation: Organisation,
) -> None:
    made = [organisation.send() for _ in range(3)]
    sequence(organisation.services)
    assert states(organisation) == {"custody": "open", "directory": "open"}
    restore(organisation, 1)
    assert states(organisation)["custody"] == "log-behind"
    made.append(organisation.send())
    done = sequence(organisation.services)
    assert done == {"leaves_numbered": 0, "leaves_published": 0}
    assert (
        next(one for one in standings(organisation.services) if one.kind == "custody").waiting == 1
    )
    officers = Officers(organisation)
    officers.rotate(reopen=["custody"])
    # The new root is published in the directory log, which goes on; what waited is in the new custody log.
    assert sequence(organisation.services)["leaves_numbered"] == 3
    assert states(organisation) == {
        "custody": "closed",
        "custody-2": "open",
        "directory": "open",
    }
    assert recover_log(organisation.services, "custody") == Recovered(0, 2)
    assert states(organisation, whole=True)["custody"] == "closed"
    client = organisation.app.test_client()
    newest = officers.pins()
    assert newest.custody_log.name == "amana-demo/custody-2"
    former = log_key("amana-demo/custody", newest.custody_log.public)
    for number, one in enumerate(made):
        receipt = verify_receipt(_receipt(organisation, one.case), newest.custody_log.public)
        name, key = ("custody", former) if number < 3 else ("custody-2", newest.custody_log)
        answer = client.get(f"/log/{name}/proof/{receipt.leaf.hex()}")
        assert answer.status_code == 200
        TlogProof.parse(answer.data).verify(receipt.leaf, key)


def _receipt(organisation: Organisation, case: str) -> object:
    with organisation.services.database.reading() as session:
        text = session.scalar(
            sa.text('SELECT receipt FROM testimonies WHERE "case" = :c'), {"c": case}
        )
    return json.loads(str(text))


def test_what_has_a_place_and_was_not_published_when_a_log_ends_goes_into_the_next(
    organisation: Organisation,
) -> None:
    services, database = organisation.services, organisation.services.database
    made = [organisation.send() for _ in range(2)]
    sequence(services)
    made += [organisation.send() for _ in range(2)]
    lease = Lease(database)
    term = lease.hold()
    assert term is not None
    before = take_up(services, database, term)
    assert give_places(database, before) == 2
    slow = Publisher(database, services.blobs)
    for opened, edge in before.open:
        slow.take_up(opened, edge)
    officers = Officers(organisation)
    officers.rotate(reopen=["custody"])
    after = take_up(services, database, term)
    # Whoever took the old log up before can give nothing more of it out.
    [custody] = [opened for opened, _ in before.open if opened.kind == "custody"]
    with pytest.raises(Deposed):
        slow.publish(term, custody)
    give_places(database, after)
    lease.release()
    sequence(services)
    sizes = {one.name: (one.size, one.published) for one in standings(services)}
    assert (sizes["custody"], sizes["custody-2"]) == ((2, 2), (2, 2))
    client, key = organisation.app.test_client(), officers.pins().custody_log
    for number, one in enumerate(made):
        leaf = verify_receipt(_receipt(organisation, one.case), key.public).leaf
        answers = [
            client.get(f"/log/{name}/proof/{leaf.hex()}") for name in ("custody", "custody-2")
        ]
        assert [one.status_code for one in answers] == ([200, 404] if number < 2 else [404, 200])
    assert states(organisation, whole=True)["custody"] == "closed"


def test_a_log_that_ends_while_places_are_given_leaves_no_leaf_behind(
    organisation: Organisation,
) -> None:
    services, database = organisation.services, organisation.services.database
    enough, written = threading.Event(), []

    def write() -> None:
        while not enough.is_set():
            event = {"v": 1, "kind": "test", "number": len(written)}
            with database.transaction() as session:
                written.append(leaf(canonical(event), custody.record(session, event)))

    def size(name: str) -> int:
        with database.reading() as session:
            return session.scalar(sa.select(Log.size).where(Log.name == name)) or 0

    sequencer, writer = Sequencer(services), threading.Thread(target=write)
    sequencer.start()
    writer.start()
    try:
        wait_until(lambda: size("custody") > 20, "places in the old log")
        Officers(organisation).rotate(reopen=["custody"])
        wait_until(lambda: size("custody-2") > 20, "places in the new log")
    finally:
        enough.set()
        writer.join()
        sequencer.stop()
    sequence(services)
    client, sizes = organisation.app.test_client(), {}
    for one in standings(services, whole=True):
        assert one.state == ("closed" if one.name == "custody" else "open")
        assert one.published == one.size
        sizes[one.name] = one.size
    assert sizes["custody"] + sizes["custody-2"] == len(written)
    for entry in written[:: len(written) // 20]:
        answers = [
            client.get(f"/log/{name}/proof/{entry.hex()}") for name in ("custody", "custody-2")
        ]
        assert sorted(one.status_code for one in answers) == [200, 404]


def test_what_no_cosigner_vouched_for_when_a_log_ends_goes_into_the_next_too(
    organisation: Organisation,
) -> None:
    services, database = organisation.services, organisation.services.database
    made = [organisation.send() for _ in range(3)]
    sequence(services)
    with database.transaction() as session:
        published = session.scalars(
            sa.select(PublishedCheckpoint)
            .join(Log, Log.id == PublishedCheckpoint.log)
            .where(Log.kind == "custody")
        ).one()
        session.add(CosignedCheckpoint(log=published.log, size=2, note=published.note))
    officers = Officers(organisation)
    for reopened in (1, 2):
        officers.rotate(reopen=["custody"])
        sequence(services)
        sizes = {one.name: one.published for one in standings(services)}
        # Once: the log after the next one does not take it again.
        assert (sizes["custody"], sizes["custody-2"]) == (3, 1)
        assert sizes.get("custody-3") == (None if reopened == 1 else 0)
    client, key = organisation.app.test_client(), officers.pins().custody_log
    for number, one in enumerate(made):
        leaf = verify_receipt(_receipt(organisation, one.case), key.public).leaf
        answers = [
            client.get(f"/log/{name}/proof/{leaf.hex()}").status_code
            for name in ("custody", "custody-2")
        ]
        assert answers == [200, 404 if number < 2 else 200]


def test_a_log_that_ended_is_not_brought_back_by_a_root(organisation: Organisation) -> None:
    organisation.send()
    sequence(organisation.services)
    pins = Officers(organisation).pins()
    Officers(organisation).rotate(reopen=["custody"])
    sequence(organisation.services)
    database, store = organisation.services.database, organisation.services.blobs
    signing = organisation.services.secrets.custody_log
    with pytest.raises(LogFrozen):
        open_log(database, store, "custody", pins.custody_log, signing)


def test_a_log_that_the_operator_froze_never_goes_on(organisation: Organisation) -> None:
    organisation.send()
    sequence(organisation.services)
    freeze_log(organisation.services, "custody")
    organisation.send()
    assert sequence(organisation.services)["leaves_numbered"] == 0
    assert states(organisation)["custody"] == "log-frozen"
    assert states(organisation)["directory"] == "open"
    with pytest.raises(NotFound):
        freeze_log(organisation.services, "nothing")
    with pytest.raises(NotFound):
        recover_log(organisation.services, "nothing")


def test_a_server_with_other_keys_signs_nothing(organisation: Organisation) -> None:
    organisation.send()
    sequence(organisation.services)
    secrets = replace(organisation.services.secrets, custody_log=SigningKey.generate())
    other = replace(organisation.services, secrets=secrets)
    organisation.send()
    assert sequence(other)["leaves_numbered"] == 0
    assert {one.name: one.state for one in standings(other)}["custody"] == "log-key-differs"
    assert read_root(organisation.root).custody_log.public != secrets.custody_log.public


def test_a_damaged_log_waits_until_it_is_recovered(organisation: Organisation) -> None:
    organisation.send()
    sequence(organisation.services)
    store = organisation.services.blobs
    assert isinstance(store, FolderStore)
    shutil.rmtree(store.root / "log" / "custody" / "tile")
    organisation.send()
    assert sequence(organisation.services)["leaves_numbered"] == 0
    assert states(organisation)["custody"] == "log-damaged"
    assert recover_log(organisation.services, "custody").files == 2
    assert states(organisation, whole=True) == {"custody": "open", "directory": "open"}
    assert sequence(organisation.services) == {"leaves_numbered": 1, "leaves_published": 1}
