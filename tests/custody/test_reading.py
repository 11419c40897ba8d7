"""The logs as everybody reads them: addresses, caching, proofs; and what every stage records is in them."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from amana.client.directory import read_root
from amana.custody.models import Event, Log, SequencerLease
from amana.ops.sequencer import Sequencer, sequence
from amana.protocol.checkpoint import NoteKey, open_checkpoint
from amana.protocol.encoding import sha256_hex
from amana.protocol.logleaf import DirectoryLeaf, parse_directory_leaf
from amana.protocol.tiles import ENTRIES, Tile, split_bundle
from amana.protocol.tlogproof import TlogProof
from amana.storage.folder import FolderStore
from tests.custody.test_recovery import bare_services
from tests.support.organisation import Organisation, organisation_on
from tests.support.server import wait_until
from tests.support.statements import Witness


@pytest.fixture(params=["sqlite", "postgresql"], scope="module")
def organisation(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Organisation]:
    with organisation_on(request.param, request, tmp_path_factory.mktemp("organisation")) as made:
        yield made


def custody_key(organisation: Organisation) -> NoteKey:
    return read_root(organisation.root).custody_log


def get(organisation: Organisation, path: str) -> tuple[int, bytes, dict[str, str]]:
    answer = organisation.app.test_client().get(path)
    return answer.status_code, answer.data, dict(answer.headers)


def size_of(organisation: Organisation, name: str = "custody") -> int:
    status, note, _ = get(organisation, f"/log/{name}/checkpoint")
    assert status == 200
    return int(note.split(b"\n")[1])


def commitments(organisation: Organisation) -> list[bytes]:
    size = size_of(organisation)
    found: list[bytes] = []
    for index in range(-(-size // 256)):
        tile = Tile(ENTRIES, index, min(256, size - 256 * index))
        status, content, _ = get(organisation, f"/log/custody/tile/{tile.path}")
        assert status == 200
        found += split_bundle(tile, content)
    return found


def recorded(organisation: Organisation) -> dict[bytes, dict[str, object]]:
    with organisation.services.database.reading() as session:
        rows = session.execute(sa.select(Event.leaf, Event.event)).all()
    return {bytes(row.leaf): json.loads(row.event) for row in rows}


def test_all_that_happens_is_in_the_custody_log_as_commitments_alone(
    organisation: Organisation,
) -> None:
    witness = Witness(organisation, organisation.send(files=(b"a photo",)))
    case = witness.made.case
    reviewer = organisation.as_person(organisation.desks["chemical"][0]).sign_in()
    assert reviewer.open(case).status_code in {200, 201}
    sequence(organisation.services)
    events = recorded(organisation)
    assert sorted(commitments(organisation)) == sorted(events)
    assert {one["kind"] for one in events.values()} >= {"testimony-received", "action"}
    acts = {one["action"]["action"] for one in events.values() if one["kind"] == "action"}  # type: ignore[index]
    assert acts >= {"claim", "open"}
    for name in ("checkpoint", "tile/0/000.p/{size}", "tile/entries/000.p/{size}"):
        _, content, _ = get(organisation, f"/log/custody/{name}".format(size=size_of(organisation)))
        assert case.encode() not in content


def test_every_root_and_list_is_in_the_directory_log_in_clear(organisation: Organisation) -> None:
    sequence(organisation.services)
    size = size_of(organisation, "directory")
    _, content, _ = get(organisation, f"/log/directory/tile/entries/000.p/{size}")
    leaves = [parse_directory_leaf(one) for one in split_bundle(Tile(ENTRIES, 0, size), content)]
    client = organisation.app.test_client()
    published = {
        kind: sha256_hex(client.get(f"/v1/directory/1.{kind}.json").data)
        for kind in ("root", "targets")
    }
    assert leaves[:2] == [
        DirectoryLeaf("root", 1, published["root"], 1),
        DirectoryLeaf("targets", 1, published["targets"], 1),
    ]


def test_a_checkpoint_is_fresh_and_a_tile_is_for_good(organisation: Organisation) -> None:
    organisation.send()
    sequence(organisation.services)
    status, note, headers = get(organisation, "/log/custody/checkpoint")
    assert (status, headers["Content-Type"]) == (200, "text/plain; charset=utf-8")
    assert headers["Cache-Control"] == "public, max-age=2"
    checkpoint = open_checkpoint(note, custody_key(organisation)).checkpoint
    status, tile, headers = get(organisation, f"/log/custody/tile/0/000.p/{checkpoint.size}")
    assert (status, headers["Content-Type"]) == (200, "application/octet-stream")
    assert headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert "Last-Modified" not in headers
    assert "Set-Cookie" not in headers
    assert len(tile) == 32 * checkpoint.size
    again = organisation.app.test_client().get(
        "/log/custody/checkpoint", headers={"If-None-Match": _etag(organisation)}
    )
    assert again.status_code == 304


def _etag(organisation: Organisation) -> str:
    return get(organisation, "/log/custody/checkpoint")[2]["ETag"]


@pytest.mark.parametrize(
    "path",
    [
        "/log/custody/tile/0/000",
        "/log/custody/tile/0/000.p/255",
        "/log/custody/tile/0/001.p/1",
        "/log/custody/tile/1/000.p/1",
        "/log/custody/tile/0/0",
        "/log/custody/tile/entries/../0/000",
        "/log/custody/tile/data/000",
        "/log/other/checkpoint",
        "/log/other/tile/0/000.p/1",
        "/log/..%2fcustody/checkpoint",
        "/log/custody/tile/",
        "/log/custody",
        "/log/custody/proof/00",
        "/log/custody/proof/" + "0" * 64,
        "/log/custody/proof/" + "G" * 64,
        "/log/directory/proof/" + "0" * 64,
    ],
)
def test_what_was_not_published_is_not_there(organisation: Organisation, path: str) -> None:
    organisation.send()
    sequence(organisation.services)
    status, content, _ = get(organisation, path)
    assert status == 404
    assert json.loads(content)["type"] in {"not-found", "leaf-unknown"}


def test_whoever_knows_a_leaf_gets_its_proof(organisation: Organisation) -> None:
    for _ in range(3):
        organisation.send()
    sequence(organisation.services)
    size = size_of(organisation)
    for leaf in recorded(organisation):
        status, content, headers = get(organisation, f"/log/custody/proof/{leaf.hex()}")
        assert status == 200
        assert headers["Cache-Control"] == "no-store"
        proof = TlogProof.parse(content)
        assert proof.verify(leaf, custody_key(organisation)).checkpoint.size == size


def test_a_leaf_that_waits_is_not_there_yet(organisation: Organisation) -> None:
    sequence(organisation.services)
    before = set(recorded(organisation))
    organisation.send()
    [leaf] = set(recorded(organisation)) - before
    status, content, _ = get(organisation, f"/log/custody/proof/{leaf.hex()}")
    assert (status, json.loads(content)["type"]) == (404, "leaf-unknown")
    sequence(organisation.services)
    assert get(organisation, f"/log/custody/proof/{leaf.hex()}")[0] == 200


def test_a_damaged_tile_gives_no_proof_and_a_lost_one_is_not_made_up(
    organisation: Organisation, capsys: pytest.CaptureFixture[str]
) -> None:
    organisation.services.caches.pop("log-damaged", None)
    organisation.send()
    sequence(organisation.services)
    size, leaf = size_of(organisation), next(iter(recorded(organisation)))
    store = organisation.services.blobs
    assert isinstance(store, FolderStore)
    path = store.root / "log" / "custody" / "tile" / "0" / "000.p" / str(size)
    whole = path.read_bytes()
    damaged = bytearray(whole)
    for at in range(0, len(damaged), 32):
        damaged[at] ^= 1
    path.write_bytes(damaged)
    status, content, _ = get(organisation, f"/log/custody/proof/{leaf.hex()}")
    assert (status, json.loads(content)["type"]) == (503, "log-damaged")
    path.unlink()
    for address in (f"proof/{leaf.hex()}", f"tile/0/000.p/{size}"):
        status, content, _ = get(organisation, f"/log/custody/{address}")
        assert (status, json.loads(content)["type"]) == (503, "log-damaged")
    # The operator is told what outsiders are, once in a while however often they ask.
    assert capsys.readouterr().out.count("log-damaged") == 1
    path.write_bytes(whole)
    assert get(organisation, f"/log/custody/proof/{leaf.hex()}")[0] == 200


def test_the_threads_beside_a_service_number_and_publish_and_leave_the_lease(
    organisation: Organisation,
) -> None:
    with organisation.services.database.transaction() as session:
        session.execute(sa.text("UPDATE sequencer_lease SET holder = ''"))
    first, second = Sequencer(organisation.services), Sequencer(organisation.services)
    for one in (first, second):
        one.start()
    try:
        before = size_of(organisation)
        threads = [threading.Thread(target=organisation.send) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wait_until(lambda: size_of(organisation) == before + 4, "four leaves to be published")
    finally:
        first.stop()
        organisation.send()
        wait_until(lambda: size_of(organisation) == before + 5, "the other to go on")
        second.stop()
    assert holder(organisation) == ""
    with organisation.services.database.reading() as session:
        assert session.scalar(sa.select(Log.size).where(Log.kind == "custody")) == before + 5
    assert sorted(commitments(organisation)) == sorted(recorded(organisation))


def holder(organisation: Organisation) -> str:
    with organisation.services.database.reading() as session:
        return str(session.scalar(sa.select(SequencerLease.holder)))


def test_a_running_server_that_holds_the_lease_is_left_to_do_the_work(
    organisation: Organisation,
) -> None:
    running = Sequencer(organisation.services)
    running.start()
    try:
        wait_until(lambda: holder(organisation) != "", "the lease to be taken")
        organisation.send()
        assert sequence(organisation.services)["leaves_numbered"] == 0
    finally:
        running.stop()


def test_nothing_is_numbered_before_there_is_a_root(tmp_path: Path) -> None:
    services = bare_services(tmp_path)
    assert sequence(services) == {"leaves_numbered": 0, "leaves_published": 0}
    services.database.dispose()
