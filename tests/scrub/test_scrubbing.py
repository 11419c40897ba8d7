"""What is stored is read again: what is spoiled is found, named and told, and never repaired; what is away is no damage."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest
import sqlalchemy as sa
from botocore.config import Config as BotoConfig

from amana.access.models import SignedAction
from amana.api.services import Services
from amana.consent.models import ControlStatement
from amana.custody.models import Event
from amana.directory import service as directory
from amana.intake import models
from amana.intake.models import Grant, ObjectState, PolicyVersion, UploadedObject
from amana.ops.doctor import examine
from amana.ops.maintenance import Report, maintain
from amana.protocol.case import intake_key_id, seal_grant
from amana.protocol.encoding import b64
from amana.protocol.sealing import Kind, seal
from amana.protocol.signing import SigningKey
from amana.review.models import Note
from amana.scrub import scrubbing, service
from amana.scrub.models import Damage
from amana.scrub.service import Fault
from amana.storage.blobs import Progress
from amana.storage.folder import MARK
from tests.support.casework import decide_case
from tests.support.organisation import Organisation
from tests.support.statements import Witness
from tests.support.testimonies import Made

DUE_DAYS = 68
"""When something is due again unless AMANA_SCRUB_DAYS is set: 90 days and a slack of 22."""


class Spoiler:
    """Reaches into the object store behind its back."""

    def __init__(self, own: Organisation) -> None:
        self.config = own.services.config
        self.is_folder = self.config.objects.kind == "folder"

    def path(self, key: str) -> Path:
        return self.config.data / "objects" / key[:2] / key

    @property
    def s3(self) -> Any:
        objects = self.config.objects
        return boto3.client(
            "s3",
            endpoint_url=objects.endpoint_url,
            aws_access_key_id=objects.access_key,
            aws_secret_access_key=objects.secret_key,
            region_name=objects.region,
            config=BotoConfig(
                s3={"addressing_style": "path"}, request_checksum_calculation="when_required"
            ),
        )

    def read(self, key: str) -> bytes:
        if self.is_folder:
            return self.path(key).read_bytes()
        answer = self.s3.get_object(Bucket=self.config.objects.bucket, Key=key)
        content: bytes = answer["Body"].read()
        return content

    def write(self, key: str, content: bytes) -> None:
        if self.is_folder:
            self.path(key).parent.mkdir(exist_ok=True)
            self.path(key).write_bytes(content)
        else:
            self.s3.put_object(Bucket=self.config.objects.bucket, Key=key, Body=content)

    def delete(self, key: str) -> None:
        if self.is_folder:
            self.path(key).unlink()
        else:
            self.s3.delete_object(Bucket=self.config.objects.bucket, Key=key)


def flipped(content: bytes, place: int = -1) -> bytes:
    changed = bytearray(content)
    changed[place] ^= 1
    return bytes(changed)


def damages(own: Organisation) -> set[tuple[str, str, str]]:
    """Return what is recorded as damaged now: case, part, fault."""
    with own.services.database.reading() as session:
        rows = session.scalars(sa.select(Damage).where(Damage.mended_on.is_(None)))
        return {(one.case, one.part, one.fault) for one in rows}


def events(own: Organisation, kind: str) -> list[dict[str, Any]]:
    with own.services.database.reading() as session:
        found = [json.loads(one) for one in session.scalars(sa.select(Event.event))]
    return [one for one in found if one["kind"] == kind]


def needs(report: Report) -> dict[str, Any]:
    return {one.kind: one for one in report.needs_a_person}


def stored_parts(own: Organisation) -> Any:
    [check] = [one for one in examine(own.services.config) if one.name == "stored parts"]
    return check


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (flipped, "differs"),
        (lambda x: flipped(x, 0), "differs"),
        (lambda x: x + b"\0", "differs"),
        (lambda x: x[:-1], "differs"),
        (lambda _: b"", "differs"),
        (None, "missing"),
    ],
)
def test_a_spoiled_object_is_found_named_told_and_when_it_is_whole_again_that_too(
    own: Organisation, spoil: Callable[[bytes], bytes] | None, fault: str
) -> None:
    spoiler = Spoiler(own)
    made, other = own.send(files=(b"a photo", b"a film")), own.send(files=(b"another",))
    key = f"{made.case}/2"
    good = spoiler.read(key)
    if spoil is None:
        spoiler.delete(key)
    else:
        spoiler.write(key, spoil(good))
    own.clock.turn(days=DUE_DAYS - 1)
    assert maintain(own.services).done["objects_checked"] == 0
    assert stored_parts(own).ok
    own.clock.turn(days=1)
    report = maintain(own.services)
    assert report.failed == ()
    assert (report.done["objects_checked"], report.done["cases_checked"]) == (3, 2)
    assert damages(own) == {(made.case, "object 2", fault)}
    today = own.clock().date().isoformat()
    [failed] = events(own, "verification-failed")
    assert failed == {
        "v": 1,
        "kind": "verification-failed",
        "case": made.case,
        "part": "object 2",
        "fault": fault,
        "found_on": today,
    }
    need = needs(report)["stored-parts-damaged"]
    assert (need.count, need.about) == (1, (made.case,))
    check = stored_parts(own)
    assert (check.ok, made.case in check.detail) == (False, False)
    # It blocks nothing else: the others are read as before.
    reader = own.as_person(own.desks["chemical"][0])
    own.clock.follow()
    reader.sign_in()
    assert reader.open(made.case).status_code == 201
    assert reader.get(f"/v1/cases/{made.case}/objects/1").data == made.sealed[0]
    assert reader.open(other.case).status_code == 201

    # Looked at again at each run, told once.
    own.clock.turn(days=DUE_DAYS + 1)
    report = maintain(own.services)
    assert report.done["objects_checked"] == 1
    assert len(events(own, "verification-failed")) == 1
    spoiler.write(key, good)
    report = maintain(own.services)
    assert (report.done["objects_checked"], damages(own)) == (1, set())
    assert "stored-parts-damaged" not in needs(report)
    assert stored_parts(own).ok
    [mended] = events(own, "verification-mended")
    assert (mended["case"], mended["part"]) == (made.case, "object 2")
    assert maintain(own.services).done["objects_checked"] == 0


def test_all_that_is_stored_is_read_at_once_when_that_is_asked_for(own: Organisation) -> None:
    spoiler, made = Spoiler(own), own.send(files=(b"a photo", b"a film"))
    assert stored_parts(own).detail.startswith("each was whole when it was last read, on ")
    came = own.clock().date().isoformat()
    assert came in stored_parts(own).detail
    other = own.send(files=(b"another",))
    own.clock.turn(days=1)
    key = f"{made.case}/2"
    good = spoiler.read(key)
    spoiler.write(key, flipped(good))
    change(own, other, Grant, sealed=b"something else")
    small = with_budget(own, 1)
    report = maintain(small)
    assert (report.done["objects_checked"], report.done["cases_checked"]) == (0, 0)
    assert stored_parts(own).ok
    report = maintain(small, scrub_now=True)
    assert report.failed == ()
    assert (report.done["objects_checked"], report.done["cases_checked"]) == (3, 2)
    found = damages(own)
    assert (made.case, "object 2", "differs") in found
    assert {case for case, part, _ in found if part.startswith("grant ")} == {other.case}
    assert not stored_parts(own).ok
    spoiler.write(key, good)
    own.clock.turn(days=1)
    assert maintain(small, scrub_now=True).done["objects_checked"] == 3
    assert (made.case, "object 2", "differs") not in damages(own)
    with own.services.database.reading() as session:
        assert service.longest_ago(session) == own.clock().date()


def test_who_cannot_read_all_because_another_reads_is_told(own: Organisation) -> None:
    own.send(files=(b"a photo",))
    with own.services.database.alone(scrubbing.OBJECTS):
        report = maintain(own.services, scrub_now=True)
        assert report.failed == ("objects_checked",)
        assert report.done["cases_checked"] == 1
        # What is only due is left to the other.
        assert maintain(own.services).failed == ()


def test_where_nothing_is_stored_nothing_is_called_whole(own: Organisation) -> None:
    assert stored_parts(own).detail == "nothing is stored"


def test_a_store_that_is_away_is_no_damage_and_stops_no_other_duty(own: Organisation) -> None:
    own.send(files=(b"a photo",))
    own.clock.turn(days=DUE_DAYS)
    services = own.services
    mark = services.config.data / "objects" / MARK
    if Spoiler(own).is_folder:
        mark.rmdir()
        away = services
    else:
        from amana.storage.s3 import S3Store

        there = services.blobs
        assert isinstance(there, S3Store)
        settings = replace(there.settings, endpoint_url="http://127.0.0.1:9")
        away = replace(services, blobs=S3Store(settings))
    report = maintain(away)
    assert "objects_checked" in report.failed
    # The logs' tiles go there too.
    assert set(report.failed) <= {"objects_checked", "leaves_published"}
    assert report.done["cases_checked"] == 1
    assert damages(own) == set()
    if Spoiler(own).is_folder:
        mark.mkdir()
    assert maintain(services).done["objects_checked"] == 1
    assert damages(own) == set()


# A folder in the place of an object is a fault that only a disk can have.
@pytest.mark.parametrize("own", ["sqlite and folder"], indirect=True)
def test_an_object_that_cannot_be_read_keeps_no_other_and_is_late_some_day(
    own: Organisation,
) -> None:
    spoiler = Spoiler(own)
    made, other = own.send(files=(b"a photo",)), own.send(files=(b"another",))
    path = spoiler.path(f"{made.case}/1")
    path.unlink()
    path.mkdir()
    own.clock.turn(days=DUE_DAYS)
    report = maintain(own.services)
    assert (report.failed, report.done["objects_checked"]) == ((), 1)
    assert (damages(own), "checks-late" in needs(report)) == (set(), False)
    own.clock.turn(days=90 - DUE_DAYS + 1)
    report = maintain(own.services)
    assert (damages(own), needs(report)["checks-late"].count) == (set(), 1)
    assert checked_on(own, other.case) != checked_on(own, made.case)


def checked_on(own: Organisation, case: str) -> Any:
    with own.services.database.reading() as session:
        row = session.get(UploadedObject, (case, 1))
        assert row is not None
        return row.checked_on


def with_budget(own: Organisation, budget: int) -> Services:
    return replace(own.services, config=replace(own.services.config, scrub_bytes=budget))


def test_a_run_reads_so_much_and_the_next_goes_on_with_what_was_checked_longest_ago(
    own: Organisation,
) -> None:
    sent = []
    for _ in range(3):
        sent.append(own.send(files=(b"x" * 100_000,)))
        own.clock.turn(days=1)
    size = len(sent[0].sealed[0])
    own.clock.turn(days=DUE_DAYS)
    read = []
    for _ in range(4):
        before = {made.case: checked_on(own, made.case) for made in sent}
        assert scrubbing.check_objects(with_budget(own, size + 1)) <= 1
        read += [case for case, day in before.items() if checked_on(own, case) != day]
    assert read == [made.case for made in sent]
    # A single one that is larger than the budget is read nevertheless.
    own.clock.turn(days=DUE_DAYS)
    assert scrubbing.check_objects(with_budget(own, 1)) == 1
    assert scrubbing.check_objects(with_budget(own, 2 * size)) == 2


def test_damaged_objects_are_looked_at_again_only_within_what_is_left(own: Organisation) -> None:
    spoiler, made = Spoiler(own), own.send(files=(b"a photo",))
    spoiler.delete(f"{made.case}/1")
    own.clock.turn(days=DUE_DAYS)
    assert scrubbing.check_objects(own.services) == 1
    other = own.send(files=(b"another",))
    own.clock.turn(days=DUE_DAYS)
    with own.services.database.transaction() as session:
        session.execute(
            sa.update(UploadedObject)
            .where(UploadedObject.case == made.case)
            .values(checked_on=own.clock().date())
        )
    assert scrubbing.check_objects(with_budget(own, len(other.sealed[0]))) == 1
    assert scrubbing.check_objects(with_budget(own, len(other.sealed[0]))) == 1
    assert checked_on(own, other.case) == own.clock().date()


# What is destroyed meanwhile


def test_what_is_withdrawn_is_checked_until_it_is_destroyed_and_never_after(
    own: Organisation,
) -> None:
    spoiler, made = Spoiler(own), own.send(files=(b"a photo",), withdrawal_delay_days=30)
    own.clock.turn(days=DUE_DAYS)
    assert Witness(own, made).change("withdraw").status_code == 200
    spoiler.delete(f"{made.case}/1")
    assert maintain(own.services).done["objects_checked"] == 1
    assert damages(own) == {(made.case, "object 1", "missing")}
    own.clock.turn(days=30)
    report = maintain(own.services)
    assert (report.failed, report.done["cases_destroyed"]) == ((), 1)
    assert "stored-parts-damaged" not in needs(report), "nobody can restore what is destroyed"
    assert stored_parts(own).ok
    own.clock.turn(days=200)
    done = maintain(own.services).done
    assert (done["objects_checked"], done["cases_checked"]) == (0, 0)


def test_an_object_that_is_given_up_while_it_is_read_is_not_told_as_damaged(
    own: Organisation,
) -> None:
    made = own.send(files=(b"a photo",))
    own.clock.turn(days=DUE_DAYS)
    services, today = own.services, own.clock().date()
    with services.database.reading() as session:
        [one] = service.objects_due(session, today, None)
    with services.database.transaction() as session:
        row = session.get(UploadedObject, (made.case, 1))
        assert row is not None
        # As a destruction begins: objects are given up first, and deleted after.
        row.state = ObjectState.DELETED
    services.blobs.delete(one.key, Progress(one.size))
    assert not scrubbing._check_object(services, one)
    with services.database.reading() as session:
        assert service.objects_due(session, today, None) == []
    with services.database.transaction() as session:
        session.execute(sa.delete(UploadedObject))
    assert not scrubbing._check_object(services, one)
    assert damages(own) == set()


# Parts in rows


def change(own: Organisation, made: Made, table: Any, **values: Any) -> None:
    with own.services.database.transaction() as session:
        session.execute(sa.update(table).where(table.case == made.case).values(**values))


def spoil_statement(own: Organisation, made: Made) -> None:
    with own.services.database.reading() as session:
        document = session.scalars(sa.select(ControlStatement.document)).one()
    change(own, made, ControlStatement, document=document.replace(b'"consent"', b'"c0nsent"'))


def spoil_action(own: Organisation, _made: Made) -> None:
    with own.services.database.transaction() as session:
        row = session.scalars(sa.select(SignedAction).where(SignedAction.action == "decide")).one()
        row.body = (row.body or b"").replace(b'"decline"', b'"accept"')


def spoil_receipt(own: Organisation, made: Made) -> None:
    with own.services.database.reading() as session:
        row = session.get(models.Testimony, made.case)
        assert row is not None
        text = row.receipt or ""
    change(own, made, models.Testimony, receipt=text.replace('"v":1', '"v":2', 1))


def lose_policy(own: Organisation, _made: Made) -> None:
    with own.services.database.transaction() as session:
        session.execute(sa.delete(PolicyVersion))


def lose_grant(own: Organisation, _made: Made) -> None:
    reader = own.desks["chemical"][1].id
    with own.services.database.transaction() as session:
        session.execute(sa.delete(Grant).where(Grant.reader == reader))


def lose_object(own: Organisation, _made: Made) -> None:
    with own.services.database.transaction() as session:
        session.execute(sa.delete(UploadedObject))


@pytest.mark.parametrize(
    ("spoil", "parts"),
    [
        (
            lambda own, made: change(
                own, made, models.Testimony, manifest=flipped(made.submission.manifest)
            ),
            {"manifest": "differs"},
        ),
        (
            lambda own, made: change(own, made, models.Testimony, manifest=b""),
            {"manifest": "missing"},
        ),
        (
            lambda own, made: change(
                own, made, models.Testimony, account=flipped(made.submission.account, 7)
            ),
            {"account": "differs"},
        ),
        (
            lambda own, made: change(
                own, made, models.Testimony, policy=flipped(made.submission.policy, 40)
            ),
            {"policies": "differs"},
        ),
        (spoil_receipt, {"receipt": "differs"}),
        (spoil_statement, {"statement 1": "differs", "later policies": "differs"}),
        (lose_policy, {"later policies": "differs"}),
        (
            lambda own, made: change(own, made, Note, sealed=bytes(5755)),
            {"note 1": "differs"},
        ),
        (spoil_action, {"action ": "differs", "note 1": "differs"}),
        (
            lambda own, made: change(own, made, Grant, sealed=bytes(1915)),
            {"grant 0": "differs", "grant 1": "differs"},
        ),
        (
            lambda own, made: change(own, made, Grant, intake_key="a" * 32),
            {"grant 0": "differs", "grant 1": "differs"},
        ),
        (lose_grant, {"grant 1": "missing"}),
        (
            lambda own, made: change(own, made, UploadedObject, sealed_sha256="a" * 64),
            {"row of object 1": "differs"},
        ),
        (lose_object, {"row of object 1": "missing"}),
    ],
)
def test_a_spoiled_part_in_a_row_is_found_and_named(
    own: Organisation, spoil: Callable[[Organisation, Made], None], parts: dict[str, str]
) -> None:
    made = own.send(files=(b"a photo",))
    assert Witness(own, made).consent({"review": "allow", "opcw": "ask"}).status_code == 200
    decide_case(own.as_person(own.desks["chemical"][0]).sign_in(), made)
    own.clock.turn(days=DUE_DAYS)
    assert maintain(own.services).done["cases_checked"] == 1
    assert damages(own) == set()
    spoil(own, made)
    own.clock.turn(days=DUE_DAYS)
    assert scrubbing.check_rows(own.services) == 1
    readers = [one.id for one in own.desks["chemical"]]
    expected = {
        (f"grant {readers[int(part[-1])]}" if part.startswith("grant") else part, fault)
        for part, fault in parts.items()
    }
    found = {
        ("action " if part.startswith("action") else part, fault)
        for case, part, fault in damages(own)
        if case == made.case
    }
    assert found == expected
    assert len(events(own, "verification-failed")) == len(parts)
    # Each later run looks at it again, and says nothing new.
    assert scrubbing.check_rows(own.services) == 1
    assert len(events(own, "verification-failed")) == len(parts)
    assert needs(maintain(own.services))["stored-parts-damaged"].about == (made.case,)


def test_what_was_put_right_in_a_row_is_told(own: Organisation) -> None:
    made = own.send()
    change(own, made, models.Testimony, manifest=flipped(made.submission.manifest))
    own.clock.turn(days=DUE_DAYS)
    maintain(own.services)
    change(own, made, models.Testimony, manifest=b"")
    maintain(own.services)
    assert damages(own) == {(made.case, "manifest", "missing")}
    change(own, made, models.Testimony, manifest=made.submission.manifest)
    assert maintain(own.services).done["cases_checked"] == 1
    assert damages(own) == set()
    [mended] = events(own, "verification-mended")
    assert (mended["part"], mended["fault"]) == ("manifest", "missing")
    assert len(events(own, "verification-failed")) == 2


def test_what_people_did_with_a_case_is_no_damage(own: Organisation) -> None:
    """Grants sealed anew and for colleagues, notes, a changed consent and a withdrawal taken back."""
    lead, reader = (own.as_person(one).sign_in() for one in own.desks["chemical"])
    listed = own.directory.readers_of("chemical")
    made = own.send(
        readers={one.id: one.intake_key for one in listed if one.id == lead.keys.id},
        files=(b"a photo",),
    )
    assert lead.open(made.case).status_code == 201
    assert lead.keys.intake is not None
    grant = seal_grant(made.case_key, lead.keys.intake.recipient)
    name = intake_key_id(lead.keys.intake.recipient)
    body = {"intake_key": name, "grant": b64(grant)}
    assert lead.act("grant", f"/v1/cases/{made.case}/grants", made.case, **body).status_code == 204
    note = seal(b"{}", made.case_key.recipient, Kind.NOTE)
    path = f"/v1/cases/{made.case}/notes"
    noted = lead.act("note", path, made.case, audience="desk", sealed=b64(note))
    assert noted.status_code == 201
    recipient = own.directory.intake_key(reader.keys.id)
    assert recipient is not None
    given = lead.hand_over(
        made.case,
        reader.keys.id,
        intake_key=intake_key_id(recipient),
        grant=b64(seal_grant(made.case_key, recipient)),
    )
    assert given.status_code == 204, given.get_json()
    decide_case(reader, made)
    witness = Witness(own, made)
    assert witness.consent({"review": "allow"}).status_code == 200
    assert witness.change("withdraw").status_code == 200
    assert witness.change("take-back").status_code == 200
    own.clock.turn(days=DUE_DAYS)
    report = maintain(own.services)
    assert (report.failed, report.done["cases_checked"]) == ((), 1)
    assert damages(own) == set()


def test_a_receipt_by_an_earlier_key_of_the_log_is_no_damage(
    own: Organisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    own.send()
    own.clock.turn(days=DUE_DAYS)
    secrets = replace(own.services.secrets, custody_log=SigningKey.generate())
    services = replace(own.services, secrets=secrets)
    assert maintain(services).done["cases_checked"] == 1
    assert damages(own) == set(), "the root still pins the key that signed it"
    monkeypatch.setattr(directory, "custody_log_keys", lambda *_: set())
    own.clock.turn(days=DUE_DAYS)
    maintain(services)
    assert {part for _, part, _ in damages(own)} == {"receipt"}


def test_a_fault_has_a_name() -> None:
    assert {one.value for one in Fault} == {"missing", "differs"}
