"""Cosignatures are collected from real cosigners: some down, some late, some of another opinion."""

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from amana.client.directory import fetch_directory, read_root
from amana.client.errors import NotVerified
from amana.client.log import from_server
from amana.client.transport import Transport
from amana.custody.models import CosignedCheckpoint, Log, LoggedLeaf, PublishedCheckpoint
from amana.ops.collector import Collector
from amana.ops.doctor import examine
from amana.ops.maintenance import maintain
from amana.ops.sequencer import sequence
from amana.protocol.checkpoint import (
    Checkpoint,
    SignedCheckpoint,
    open_checkpoint,
    parse_checkpoint,
    parse_note,
    sign_checkpoint,
)
from amana.protocol.tlogproof import TlogProof
from tests.support.cosigners import RunningCosigner
from tests.support.officers import Officers
from tests.support.organisation import Organisation, organisation_in
from tests.support.postgres import fresh_database

Cosigners = list[RunningCosigner]


@pytest.fixture
def cosigners(tmp_path: Path) -> Iterator[Cosigners]:
    running = [RunningCosigner(tmp_path, f"{name}.example/1") for name in ("one", "two", "three")]
    yield running
    for one in running:
        one.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def organisation(
    request: pytest.FixtureRequest, tmp_path: Path, cosigners: Cosigners
) -> Iterator[Organisation]:
    """An organisation whose root asks for two of three cosigners."""
    addresses = {one.vkey: one.url for one in cosigners}
    with ExitStack() as stack:
        url = None
        if request.param == "postgresql":
            url = stack.enter_context(fresh_database(request.getfixturevalue("postgres")))
        made = stack.enter_context(
            organisation_in(tmp_path / "o", url, cosigners=addresses, quorum=2)
        )
        sequence(made.services)
        yield made


def start(organisation: Organisation, *running: RunningCosigner) -> None:
    for one in running:
        one.start(["--root", str(organisation.folder / "demo" / "root.json")])


def collector(organisation: Organisation) -> Collector:
    return Collector(
        organisation.services, organisation.services.database, custody_seconds=0, again_seconds=0
    )


def cosigned(organisation: Organisation, name: str = "directory") -> SignedCheckpoint:
    """Return what is served, verified with all that the root pins."""
    pins = read_root(organisation.root)
    key = pins.directory_log if name == "directory" else pins.custody_log
    answer = organisation.app.test_client().get(f"/log/{name}/cosigned")
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "public, max-age=2"
    return open_checkpoint(answer.data, key, pins.cosigners)


def fetch(organisation: Organisation, cache: Path | None = None) -> int:
    with organisation.served() as url, Transport(url) as transport:
        return fetch_directory(
            lambda path: transport.get(f"/v1/directory/{path}"),
            organisation.root,
            cache,
            log=from_server(transport),
            pauses=(),
        ).directory.version


def refusal(organisation: Organisation) -> str:
    with pytest.raises(NotVerified) as refused:
        fetch(organisation)
    return refused.value.slug


def test_two_of_three_are_enough_and_the_third_is_added_when_it_comes(
    organisation: Organisation, cosigners: Cosigners
) -> None:
    one, two, three = cosigners
    assert organisation.app.test_client().get("/log/directory/cosigned").status_code == 404
    assert refusal(organisation) == "log-quorum"
    start(organisation, one)
    asking = collector(organisation)
    assert asking.round() == 0
    assert refusal(organisation) == "log-quorum"
    assert set(cosigned(organisation).cosigned) == {"one.example"}
    start(organisation, two)
    assert asking.round() == 1 + 1
    assert fetch(organisation) == 1
    assert set(cosigned(organisation).cosigned) == {"one.example", "two.example"}
    start(organisation, three)
    # By another process, which knows nothing of the rounds before.
    assert maintain(organisation.services).done["logs_cosigned"] == 2
    assert set(cosigned(organisation).cosigned) == {"one.example", "two.example", "three.example"}
    # The plain checkpoint has them too, for monitors that know no other address.
    plain = organisation.app.test_client().get("/log/directory/checkpoint").data
    assert len(parse_note(plain).signatures) == 1 + 3


def test_the_doctor_tells_of_a_quorum_that_is_missing(
    organisation: Organisation, cosigners: Cosigners
) -> None:
    def said() -> tuple[bool, str]:
        (check,) = [x for x in examine(organisation.services.config) if x.name == "cosigners"]
        return check.ok, check.detail

    assert said()[0] is False
    start(organisation, *cosigners[:2])
    maintain(organisation.services)
    assert said() == (True, "2 operators signed lately, 2 are asked for")
    Officers(organisation).publish(lambda _: None)
    sequence(organisation.services)
    assert said()[0] is False


def test_a_published_version_waits_for_its_cosigners(
    organisation: Organisation, cosigners: Cosigners, tmp_path: Path
) -> None:
    start(organisation, *cosigners)
    maintain(organisation.services)
    assert fetch(organisation, tmp_path / "cache") == 1
    Officers(organisation).publish(lambda _: None)
    assert refusal(organisation) == "directory-not-logged"
    maintain(organisation.services)
    assert fetch(organisation, tmp_path / "cache") == 2


def seen_by(organisation: Organisation, *, newest: bool = False) -> set[str]:
    """Return who cosigned the checkpoint to which the first or the newest leaf of the custody log is proven."""
    pins = read_root(organisation.root)
    with organisation.services.database.reading() as session:
        places = session.scalars(
            sa.select(LoggedLeaf).join(Log).where(Log.name == "custody").order_by(LoggedLeaf.place)
        ).all()
    entry = places[-1 if newest else 0].entry
    answer = organisation.app.test_client().get(f"/log/custody/proof/{entry.hex()}")
    return set(
        TlogProof.parse(answer.data).verify(entry, pins.custody_log, pins.cosigners).cosigned
    )


def test_an_older_cosigned_checkpoint_stays_until_the_newer_has_its_quorum(
    organisation: Organisation, cosigners: Cosigners
) -> None:
    start(organisation, *cosigners)
    asking = collector(organisation)
    organisation.send()
    sequence(organisation.services)
    assert asking.round() == 2
    before = cosigned(organisation, "custody").checkpoint
    assert seen_by(organisation) == {"one.example", "two.example", "three.example"}
    cosigners[1].kill()
    cosigners[2].kill()
    organisation.send()
    sequence(organisation.services)
    asking.round()
    assert cosigned(organisation, "custody").checkpoint == before
    # What is older is proven to a checkpoint with the quorum, what is too new for one to the newest of all.
    assert len(seen_by(organisation)) == 3
    assert len(seen_by(organisation, newest=True)) < 2
    start(organisation, cosigners[2])
    asking.round()
    after = cosigned(organisation, "custody")
    assert after.checkpoint.size > before.size
    assert set(after.cosigned) == {"one.example", "three.example"}


def test_a_fresh_cosignature_is_not_asked_for_again_and_an_old_one_is_renewed(
    organisation: Organisation, cosigners: Cosigners, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(organisation, *cosigners)
    maintain(organisation.services)
    first = cosigned(organisation).cosigned
    said = cosigners[0].log.read_text()
    maintain(organisation.services)
    assert cosigners[0].log.read_text() == said
    later = time.time() + 7 * 3600
    monkeypatch.setattr("amana.ops.collector.time.time", lambda: later)
    maintain(organisation.services)
    assert cosigners[0].log.read_text() != said
    assert cosigned(organisation).cosigned["one.example"] >= first["one.example"]


def test_a_stopped_cosigner_delays_nobody(organisation: Organisation, cosigners: Cosigners) -> None:
    start(organisation, *cosigners)
    asking = collector(organisation)
    assert cosigners[2].process is not None
    cosigners[2].process.send_signal(signal.SIGSTOP)
    asking.round(seconds=0)
    until = time.monotonic() + 30
    while not {"one.example", "two.example"} <= operators_of(organisation):
        assert time.monotonic() < until
        asking.round(seconds=0.1)
    assert fetch(organisation) == 1
    cosigners[2].process.send_signal(signal.SIGCONT)
    while "three.example" not in operators_of(organisation):
        assert time.monotonic() < until
        asking.round(seconds=0.1)


def operators_of(organisation: Organisation) -> set[str]:
    with organisation.services.database.reading() as session:
        if not session.query(CosignedCheckpoint).count():
            return set()
    answer = organisation.app.test_client().get("/log/directory/cosigned")
    return set(cosigned(organisation).cosigned) if answer.status_code == 200 else set()


def test_cosigners_hold_to_what_they_saw_when_the_log_forks(
    organisation: Organisation, cosigners: Cosigners, capsys: pytest.CaptureFixture[str]
) -> None:
    start(organisation, *cosigners)
    maintain(organisation.services)
    genuine = cosigned(organisation)
    services = organisation.services
    # The operator signs another tree of the same size with the log's own key and puts it in the place.
    forged = sign_checkpoint(
        services.secrets.directory_log,
        Checkpoint(genuine.checkpoint.origin, genuine.checkpoint.size, bytes(32)),
    )
    with services.database.transaction() as session:
        log = session.query(Log).filter_by(name="directory").one()
        row = session.get(PublishedCheckpoint, log.id)
        assert row is not None
        row.note = bytes(forged)
    capsys.readouterr()
    collector(organisation).round()
    said = capsys.readouterr()
    assert (said.out + said.err).count("cosigner-disagrees") == 3
    assert cosigned(organisation).checkpoint == genuine.checkpoint
    for one in cosigners:
        (evidence,) = one.state.glob("fork-*.txt")
        assert str(forged) in evidence.read_text("utf-8")
        assert str(parse_checkpoint(genuine.note.text).size) in evidence.read_text("utf-8")


def test_settings_name_addresses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from amana.config import ConfigInvalid, read_config

    monkeypatch.setenv("AMANA_COSIGNERS", "one.example/1=https://one.example,two/1=http://b?x=y")
    assert read_config(tmp_path).cosigners == {
        "one.example/1": "https://one.example",
        "two/1": "http://b?x=y",
    }
    for bad in ("one", "=https://one", "a=b,a=c"):
        monkeypatch.setenv("AMANA_COSIGNERS", bad)
        with pytest.raises(ConfigInvalid):
            read_config(tmp_path)


def test_an_address_that_sends_in_the_clear_is_not_used(
    organisation: Organisation, cosigners: Cosigners
) -> None:
    start(organisation, *cosigners)
    config = replace(
        organisation.services.config,
        cosigners={one.name: "http://192.0.2.1" for one in cosigners},
    )
    services = replace(organisation.services, config=config)
    assert Collector(services, services.database).round() == 0
    assert organisation.app.test_client().get("/log/directory/cosigned").status_code == 404
