"""Uploads that were left for too long end, and are deleted; announcing them again begins anew."""

import io
import os
import threading
from collections.abc import Container, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask.testing import FlaskClient

from amana.api.services import Services
from amana.app import create_app, make_services
from amana.config import read_config
from amana.directory import service as directory
from amana.errors import CaseIncomplete, UploadGone
from amana.intake import admission, appending, receiving, service
from amana.intake.appending import taken
from amana.intake.models import ObjectState, ServerProcess, UploadedObject
from amana.ops.demo import make_demo
from amana.ops.maintenance import maintain
from amana.protocol.admission import Notice, pay
from amana.storage.migrations import migrate
from tests.support.server import wait_until
from tests.support.testimonies import Made, make_testimony
from tests.support.uploads import OFFSET, TUS


class Clock:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def services(tmp_path: Path, clock: Clock) -> Iterator[Services]:
    config = replace(read_config(tmp_path / "data"), admission_price=0)
    built = replace(make_services(config, create_secrets=True), clock=clock)
    migrate(built.database)
    built.blobs.prepare()
    make_demo(built, tmp_path / "demo")
    yield built
    built.database.dispose()


@pytest.fixture
def client(services: Services) -> FlaskClient:
    return create_app(services).test_client()


def announce(
    client: FlaskClient,
    services: Services,
    made: Made | None = None,
    expected: Container[int] = (200, 201),
) -> tuple[Made, Any]:
    with services.database.reading() as session:
        current = directory.current(session, services.caches)
    text = current.consent_texts[0]
    made = made or make_testimony(
        {one.id: one.intake_key for one in current.readers_of("chemical")},
        files=[b"x"],
        deployment=current.deployment,
        consent_text=text.id,
        consent_text_sha256=text.sha256,
    )
    notice = Notice.parse(client.get("/v1/admission").json)
    parts = {name: getattr(made.submission, name) for name in made.submission.__dataclass_fields__}
    parts["admission"] = pay(notice, made.submission.digest(), 0).to_bytes()
    files = {name: (io.BytesIO(data), name) for name, data in parts.items()}
    answer = client.post("/v1/testimonies", data=files, content_type="multipart/form-data")
    assert answer.status_code in expected, answer.json
    return made, answer


def patch(client: FlaskClient, location: str, data: bytes) -> Any:
    return client.patch(location, data=data, headers={**TUS, **OFFSET, "Upload-Offset": "0"})


def test_an_abandoned_upload_is_gone_and_deleted_and_can_be_announced_again(
    client: FlaskClient, services: Services, clock: Clock
) -> None:
    made, answer = announce(client, services)
    location = answer.json["uploads"][0]["location"]
    assert patch(client, location, made.sealed[0][:5000]).status_code == 204
    clock.now += timedelta(days=services.config.upload_days)
    assert client.head(location, headers=TUS).status_code == 200
    clock.now += timedelta(days=1)
    assert client.head(location, headers=TUS).status_code == 410
    assert patch(client, location, b"x").json["type"] == "upload-gone"
    assert client.post(answer.json["completion"]).status_code == 410

    objects = services.config.data / "objects"
    assert [path for path in objects.glob("??/**/*") if path.is_file()]
    assert maintain(services).done["abandoned_uploads_deleted"] == 1
    assert maintain(services).done["abandoned_uploads_deleted"] == 0
    assert not [path for path in objects.glob("??/**/*") if path.is_file()]

    _, again = announce(client, services, made)
    assert again.status_code == 201
    assert client.head(location, headers=TUS).headers["Upload-Offset"] == "0"


def test_announcing_again_in_time_keeps_what_arrived(
    client: FlaskClient, services: Services, clock: Clock
) -> None:
    made, answer = announce(client, services)
    location = answer.json["uploads"][0]["location"]
    patch(client, location, made.sealed[0][:5000])
    clock.now += timedelta(days=services.config.upload_days + 1)
    _, again = announce(client, services, made)
    assert again.status_code == 200
    assert client.head(location, headers=TUS).headers["Upload-Offset"] == "5000"
    assert maintain(services).done["abandoned_uploads_deleted"] == 0


def test_what_was_received_never_expires(
    client: FlaskClient, services: Services, clock: Clock
) -> None:
    made, answer = announce(client, services)
    patch(client, answer.json["uploads"][0]["location"], made.sealed[0])
    receipt = client.post(answer.json["completion"]).json
    clock.now += timedelta(days=1000)
    assert maintain(services).done["abandoned_uploads_deleted"] == 0
    assert client.post(answer.json["completion"]).json == receipt


def test_the_price_rises_with_the_day_and_is_another_each_day(services: Services) -> None:
    def price(count: int) -> int:
        today = services.today()
        return admission.notice(
            services.secrets, today, base=3, announced_today=count, busy_per_day=100
        ).price

    assert [price(n) for n in (0, 99, 100, 199, 200, 400, 10**9)] == [3, 3, 4, 4, 5, 6, 27]
    seeds = {
        admission.notice(
            services.secrets,
            services.today() + timedelta(days=n),
            base=3,
            announced_today=0,
            busy_per_day=1,
        ).seed
        for n in range(3)
    }
    assert len(seeds) == 3


def test_an_object_that_a_dead_process_held_is_verified_by_another(
    client: FlaskClient, services: Services
) -> None:
    made, answer = announce(client, services)
    data, location = made.sealed[0], answer.json["uploads"][0]["location"]
    assert patch(client, location, data[:5000]).status_code == 204
    rest = {**TUS, **OFFSET, "Upload-Offset": "5000"}
    assert client.patch(location, data=data[5000:], headers=rest).status_code == 204
    with services.database.transaction() as session:
        session.add(ServerProcess(id="b" * 32, beat=7))
        held = {"writer": "a" * 32, "process": "b" * 32}
        session.execute(sa.update(UploadedObject).values(**held))
    assert client.post(answer.json["completion"]).status_code == 200


def held(services: Services, process: str) -> None:
    with services.database.transaction() as session:
        row = {"writer": "a" * 32, "process": process}
        session.execute(sa.update(UploadedObject).values(**row))


def test_a_row_whose_release_failed_in_this_process_is_free(
    client: FlaskClient, services: Services
) -> None:
    made, answer = announce(client, services)
    location = answer.json["uploads"][0]["location"]
    assert patch(client, location, made.sealed[0][:5000]).status_code == 204
    writers = client.application.extensions["amana.writers"]
    held(services, writers.process)
    assert client.head(location, headers=TUS).headers["Upload-Offset"] == "5000"
    held(services, writers.process)
    with services.database.transaction() as session:
        session.execute(sa.update(UploadedObject).values(wanted=True))
    with writers.writing(None):
        wait_until(lambda: free(services), "the row to be given back")


def free(services: Services) -> bool:
    with services.database.reading() as session:
        return session.scalar(sa.select(UploadedObject.writer)) is None


def test_an_abandoned_upload_that_is_still_written_is_deleted_only_after_its_end(
    client: FlaskClient, services: Services, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, answer = announce(client, services)
    location = answer.json["uploads"][0]["location"]
    assert patch(client, location, made.sealed[0][:5000]).status_code == 204
    writers = client.application.extensions["amana.writers"]
    with taken(services, writers, made.submission.case.decode(), 1, None):
        clock.now += timedelta(days=services.config.upload_days + 1)
        with monkeypatch.context() as patient:
            # A beat is a commit, and a busy disk may take seconds for one.
            patient.setattr(receiving, "DEAD_AFTER_SECONDS", 60)
            assert maintain(services).done["abandoned_uploads_deleted"] == 0
        assert [
            path for path in (services.config.data / "objects").glob("??/**/*") if path.is_file()
        ]
    assert maintain(services).done["abandoned_uploads_deleted"] == 1


def test_an_abandoned_upload_that_a_dead_process_held_is_deleted(
    client: FlaskClient, services: Services, clock: Clock
) -> None:
    announce(client, services)
    with services.database.transaction() as session:
        session.add(ServerProcess(id="b" * 32, beat=7))
    held(services, "b" * 32)
    clock.now += timedelta(days=services.config.upload_days + 1)
    assert maintain(services).done["abandoned_uploads_deleted"] == 1


def test_an_upload_that_is_being_deleted_cannot_be_announced_back_to_life(
    client: FlaskClient, services: Services, clock: Clock
) -> None:
    made, _ = announce(client, services)
    clock.now += timedelta(days=services.config.upload_days + 1)
    case = made.submission.case.decode()
    with services.database.transaction() as session:
        assert service.end_abandoned(session, case, services.today(), frozenset()) is not None
    _, again = announce(client, services, made, expected={410})
    assert again.json["type"] == "upload-gone"
    assert maintain(services).done["abandoned_uploads_deleted"] == 1
    _, again = announce(client, services, made)
    assert again.status_code == 201


def test_a_case_that_was_announced_again_meanwhile_is_not_forgotten(
    client: FlaskClient, services: Services, clock: Clock
) -> None:
    made, _ = announce(client, services)
    case, today = made.case, services.today()
    clock.now += timedelta(days=services.config.upload_days + 1)
    with services.database.transaction() as session:
        assert service.end_abandoned(session, case, services.today(), frozenset()) is not None
    # Another process was quicker, and the witness announced it again and sent it whole.
    with services.database.transaction() as session:
        assert service.forget_abandoned(session, case, services.today())
        assert not service.forget_abandoned(session, case, services.today())
    _, again = announce(client, services, made)
    with services.database.transaction() as session:
        assert not service.forget_abandoned(session, case, services.today())
    location = again.json["uploads"][0]["location"]
    assert patch(client, location, made.sealed[0]).status_code == 204
    assert client.post(again.json["completion"]).status_code == 200
    with services.database.transaction() as session:
        assert not service.forget_abandoned(session, case, today + timedelta(days=1000))


def test_abandoned_uploads_are_deleted_by_one_process_at_a_time(
    client: FlaskClient, services: Services, clock: Clock
) -> None:
    announce(client, services)
    clock.now += timedelta(days=services.config.upload_days + 1)
    with services.database.alone("abandoned-uploads"):
        assert maintain(services).done["abandoned_uploads_deleted"] == 0
    assert maintain(services).done["abandoned_uploads_deleted"] == 1


def processes(services: Services) -> set[str]:
    with services.database.reading() as session:
        return set(session.scalars(sa.select(ServerProcess.id)))


def test_processes_that_cannot_be_live_are_forgotten_and_no_others(
    client: FlaskClient, services: Services, clock: Clock
) -> None:
    made, answer = announce(client, services)
    location = answer.json["uploads"][0]["location"]
    assert patch(client, location, made.sealed[0][:100]).status_code == 204
    dead, holder, alive = "b" * 32, "c" * 32, "d" * 32
    with services.database.transaction() as session:
        session.add_all(ServerProcess(id=one, beat=7) for one in (dead, holder, alive))
    held(services, holder)
    mine = client.application.extensions["amana.writers"].process
    for _ in range(2):
        assert maintain(services).done["dead_processes_forgotten"] == 0
        clock.now += timedelta(days=1)
    with services.database.transaction() as session:
        session.execute(
            sa.update(ServerProcess)
            .where(ServerProcess.id == alive)
            .values(beat=ServerProcess.beat + 1)
        )
    assert processes(services) == {mine, dead, holder, alive}
    assert maintain(services).done["dead_processes_forgotten"] == 2
    assert processes(services) == {holder, alive}
    clock.now += timedelta(days=2)
    assert maintain(services).done["dead_processes_forgotten"] == 1
    assert processes(services) == {holder}


def test_a_process_that_was_idle_for_long_is_known_again_before_it_claims(
    client: FlaskClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, answer = announce(client, services)
    location = answer.json["uploads"][0]["location"]
    assert patch(client, location, made.sealed[0][:100]).status_code == 204
    writers = client.application.extensions["amana.writers"]
    wait_until(lambda: not writers._busy.is_set(), "the process to be idle")
    with services.database.transaction() as session:
        session.execute(sa.delete(ServerProcess))
    # Within the hour nothing is written; after it the process tells that it lives.
    writers.announce()
    assert processes(services) == set()
    monkeypatch.setattr("amana.intake.writers.KNOWN_SECONDS", -1.0)
    writers.announce()
    assert processes(services) == {writers.process}


def whole(client: FlaskClient, services: Services) -> tuple[Made, Any]:
    """Let every byte arrive, in two pieces, so that the hash is not known before the object is read back."""
    made, answer = announce(client, services)
    location, data = answer.json["uploads"][0]["location"], made.sealed[0]
    assert patch(client, location, data[:5000]).status_code == 204
    rest = {**TUS, **OFFSET, "Upload-Offset": "5000"}
    assert client.patch(location, data=data[5000:], headers=rest).status_code == 204
    return made, answer


def row_of(services: Services) -> UploadedObject:
    with services.database.reading() as session:
        row = session.scalars(sa.select(UploadedObject)).one()
        session.expunge(row)
        return row


def stored_file(services: Services) -> Path:
    [path] = [x for x in (services.config.data / "objects").glob("??/**/*") if x.is_file()]
    return path


def test_a_testimony_that_arrived_whole_is_received_though_nobody_asks(
    client: FlaskClient, services: Services, clock: Clock
) -> None:
    _, answer = whole(client, services)
    clock.now += timedelta(days=services.config.upload_days + 2)
    done = maintain(services).done
    assert (done["whole_testimonies_received"], done["abandoned_uploads_deleted"]) == (1, 0)
    assert maintain(services).done["whole_testimonies_received"] == 0
    assert client.post(answer.json["completion"]).json["receipt"]


def test_a_late_verification_touches_nothing_of_a_received_testimony(
    client: FlaskClient, services: Services
) -> None:
    _, answer = whole(client, services)
    stale = row_of(services)
    writers = client.application.extensions["amana.writers"]
    appending.verify(services, writers, stale)
    path = stored_file(services)
    good = path.read_bytes()
    path.chmod(0o600)
    path.write_bytes(bytes(len(good)))
    # Another completion that listed it before: what was verified once is not read again.
    appending.verify(services, writers, stale)
    assert row_of(services).state == ObjectState.VERIFIED
    path.write_bytes(good)
    assert client.post(answer.json["completion"]).status_code == 200
    path.write_bytes(bytes(len(good)))
    with pytest.raises(UploadGone):
        appending.verify(services, writers, stale)
    assert path.exists()
    assert row_of(services).state == ObjectState.VERIFIED
    # And should anything want to delete it nevertheless:
    with services.database.transaction() as session:
        row = session.scalars(sa.select(UploadedObject)).one()
        claim = service.claim(row, "w" * 32, writers.process, left_by_crash=False)
    with pytest.raises(service.ReceivedObjectAtRisk):
        appending._discard(services, claim)
    assert path.exists()


def test_a_late_verification_leaves_an_upload_that_began_anew(
    client: FlaskClient, services: Services
) -> None:
    made, answer = whole(client, services)
    stale = row_of(services)
    path = stored_file(services)
    path.chmod(0o600)
    path.write_bytes(bytes(path.stat().st_size))
    assert client.post(answer.json["completion"]).json["type"] == "sealed-plaintext"
    location = answer.json["uploads"][0]["location"]
    assert patch(client, location, made.sealed[0][:4000]).status_code == 204
    writers = client.application.extensions["amana.writers"]
    with pytest.raises(CaseIncomplete):
        appending.verify(services, writers, stale)
    assert client.head(location, headers=TUS).headers["Upload-Offset"] == "4000"


def test_whoever_lost_an_upload_deletes_and_notes_nothing(
    client: FlaskClient, services: Services
) -> None:
    made, answer = announce(client, services)
    location = answer.json["uploads"][0]["location"]
    assert patch(client, location, made.sealed[0][:5000]).status_code == 204
    writers = client.application.extensions["amana.writers"]
    with taken(services, writers, made.case, 1, None) as claim:
        with services.database.transaction() as session:
            session.execute(sa.update(UploadedObject).values(writer="z" * 32))
        with pytest.raises(appending.Superseded):
            appending._discard(services, claim)
        with pytest.raises(appending.Superseded):
            appending.close(services, claim, None)
    assert stored_file(services).stat().st_size == 5000
    assert (row_of(services).writer, row_of(services).durable_offset) == ("z" * 32, 5000)


def test_an_upload_whose_stored_bytes_are_lost_begins_anew(
    client: FlaskClient, services: Services
) -> None:
    made, answer = announce(client, services)
    location, data = answer.json["uploads"][0]["location"], made.sealed[0]
    assert patch(client, location, data[:5000]).status_code == 204
    os.truncate(stored_file(services), 3000)
    rest = {**TUS, **OFFSET, "Upload-Offset": "5000"}
    refused = client.patch(location, data=data[5000:], headers=rest)
    assert (refused.status_code, refused.json["type"]) == (409, "upload-offset-mismatch")
    assert refused.headers["Upload-Offset"] == "0"
    assert client.head(location, headers=TUS).headers["Upload-Offset"] == "0"
    assert patch(client, location, data).status_code == 204
    assert client.post(answer.json["completion"]).status_code == 200


def test_an_object_that_is_being_read_back_is_told_to_be_whole(
    client: FlaskClient, services: Services
) -> None:
    made, answer = whole(client, services)
    with services.database.transaction() as session:
        session.add(ServerProcess(id="b" * 32, beat=7))
    held(services, "b" * 32)
    told = client.head(answer.json["uploads"][0]["location"], headers=TUS)
    assert (told.status_code, told.headers["Upload-Offset"]) == (200, str(len(made.sealed[0])))


def test_one_case_that_cannot_be_deleted_keeps_no_other(
    client: FlaskClient, services: Services, clock: Clock
) -> None:
    first, answer = announce(client, services)
    assert (
        patch(client, answer.json["uploads"][0]["location"], first.sealed[0][:50]).status_code
        == 204
    )
    path = stored_file(services)
    path.unlink()
    path.mkdir()
    announce(client, services)
    clock.now += timedelta(days=services.config.upload_days + 2)
    assert maintain(services).done["abandoned_uploads_deleted"] == 1
    path.rmdir()
    assert maintain(services).done["abandoned_uploads_deleted"] == 1


def test_a_case_is_read_back_once_however_often_it_is_asked_for(client: FlaskClient) -> None:
    writers = client.application.extensions["amana.writers"]
    began, go_on, runs = threading.Event(), threading.Event(), []

    def work() -> None:
        runs.append(1)
        began.set()
        go_on.wait(30)

    before = threading.active_count()
    for _ in range(50):
        writers.verify_behind("a" * 32, work)
    assert began.wait(30)
    assert (len(runs), threading.active_count() - before) == (1, 1)
    go_on.set()
    wait_until(lambda: not writers._verifying, "the end of the reading")
    began.clear()
    writers.verify_behind("a" * 32, work)
    assert began.wait(30)


def test_a_known_case_is_told_so_whatever_came_as_its_price(
    client: FlaskClient, services: Services
) -> None:
    made, _ = announce(client, services)
    parts = {name: getattr(made.submission, name) for name in made.submission.__dataclass_fields__}
    for admission_part in (b"{", b'{"v": 1}'):
        files = {
            name: (io.BytesIO(data), name)
            for name, data in {**parts, "admission": admission_part}.items()
        }
        again = client.post("/v1/testimonies", data=files, content_type="multipart/form-data")
        assert again.status_code == 200, again.json
