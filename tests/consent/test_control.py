"""What a witness says with the codename alone: in its order, once, by the right key; and what follows from it."""

from datetime import date, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from amana.consent import service
from amana.consent.destroying import destroy_due, keep_statements, repeat_statements
from amana.consent.models import ControlStatement, Destruction, SpentNonce
from amana.custody.models import Event
from amana.errors import UploadGone
from amana.intake import models as intake
from amana.intake import receiving
from amana.intake import service as arriving
from amana.intake.models import Grant, UploadedObject
from amana.ops.maintenance import maintain
from amana.protocol.case import intake_key_id, seal_grant
from amana.protocol.control import Head
from amana.protocol.encoding import b64, canonical, parse_canonical, sha256_hex, unb64
from amana.protocol.policy import LIMIT_BYTES, TAG, parse_policy
from amana.protocol.receipt import verify_receipt
from amana.protocol.sealing import Kind, seal
from amana.protocol.signing import SigningKey
from amana.review.models import Note
from tests.support.organisation import Organisation, Person
from tests.support.questions import ask
from tests.support.server import wait_until
from tests.support.statements import Witness


def slug(answer: Any, status: int) -> str:
    assert answer.status_code == status, answer.get_json()
    found: str = answer.get_json()["type"]
    return found


def reader_of(witness: Witness, n: int = 0) -> Person:
    organisation = witness.organisation
    return organisation.as_person(organisation.desks["chemical"][n]).sign_in()


def rows(witness: Witness, table: Any) -> int:
    with witness.organisation.services.database.reading() as session:
        query = sa.select(sa.func.count()).select_from(table).where(table.case == witness.made.case)
        return session.scalar(query) or 0


def test_a_status_tells_everything_and_leaves_only_a_nonce(witness: Witness) -> None:
    person = reader_of(witness)
    assert person.open(witness.made.case).status_code == 201
    asked = witness.statement("status")
    answer = witness.say(asked)
    told = answer.get_json()
    today = witness.organisation.clock().date().isoformat()
    assert (told["case"], told["state"]) == (witness.made.case, "in-review")
    assert told["policies"] == [
        {"policy": b64(witness.made.submission.policy), "received_on": today}
    ]
    assert told["opened"] == [{"reader": person.keys.id, "day": today}]
    assert (told["withdrawal"], told["receipt"], told["seq"]) == (None, None, 0)
    assert slug(witness.say(asked), 409) == "control-known"
    assert rows(witness, ControlStatement) == 0
    organisation = witness.organisation
    with organisation.services.database.reading() as session:
        events = session.scalars(sa.select(Event.event)).all()
        assert session.get(SpentNonce, asked["nonce"]) is not None
    assert not any(
        b"control-statement" in one and witness.made.case.encode() in one for one in events
    )
    with organisation.services.database.transaction() as session:
        service.forget_nonces(session, organisation.clock().date() + timedelta(days=4))
        assert session.get(SpentNonce, asked["nonce"]) is None


def test_the_length_of_an_answer_tells_nothing(witness: Witness) -> None:
    def length() -> int:
        return len(witness.say(witness.statement("status")).get_data())

    before = length()
    person = reader_of(witness)
    assert person.open(witness.made.case).status_code == 201
    assert witness.consent({"review": "allow", "contact": "allow"}).status_code == 200
    witness.organisation.clock.turn(days=7)
    person.sign_in()
    assert ask(person, witness.made).status_code == 201
    assert witness.status()["state"] == "waiting"
    assert witness.status()["asked"] == [witness.organisation.clock().date().isoformat()]
    assert length() == before
    stranger = witness.statement("status", key=SigningKey.generate())
    assert len(witness.say(stranger).get_data()) == before


def test_statements_by_strangers_or_out_of_time_are_refused(witness: Witness) -> None:
    clock = witness.organisation.clock
    stranger = SigningKey.generate()
    assert slug(witness.say(witness.statement("status", key=stranger)), 404) == "control-unknown"
    assert slug(witness.say(witness.statement("withdraw", key=stranger)), 404) == "control-unknown"
    forged = {**witness.statement("withdraw"), "control": stranger.public}
    assert slug(witness.say(forged), 422) == "bad-signature"
    other = witness.statement("status", deployment="elsewhere")
    assert slug(witness.say(other), 422) == "deployment-unknown"
    for days in (-41, 2):
        late = witness.statement("withdraw", made_on=clock().date() + timedelta(days=days))
        assert slug(witness.say(late), 422) == "control-outdated"
    old = witness.statement("status", made_on=clock().date() - timedelta(days=2))
    assert slug(witness.say(old), 422) == "control-outdated"
    assert slug(witness.say({"v": 1}), 422) == "control-invalid"
    assert witness.status()["state"] == "received"


def test_consent_narrows_at_once_and_widens_after_the_delay(witness: Witness) -> None:
    person, clock = reader_of(witness), witness.organisation.clock
    case = witness.made.case
    assert person.open(case).status_code == 201
    changed = witness.consent({"review": "deny"})
    assert changed.status_code == 200, changed.get_json()
    pins = witness.organisation.services.secrets.custody_log.public
    receipt = verify_receipt(changed.get_json()["receipt"], pins)
    assert (receipt.case, receipt.event["statement"]) == (case, "consent")
    for path in ("manifest", "objects/0", "objects/1"):
        assert slug(person.get(f"/v1/cases/{case}/{path}"), 403) == "consent-denies"
    assert slug(person.open(case), 403) == "consent-denies"

    assert witness.consent({"review": "allow"}).status_code == 200
    assert slug(person.open(case), 403) == "consent-denies"
    assert [one["received_on"] for one in witness.status()["policies"]] == [
        clock().date().isoformat()
    ] * 3
    clock.turn(days=6)
    assert slug(reader_of(witness).open(case), 403) == "consent-denies"
    clock.turn(days=1)
    assert reader_of(witness).open(case).status_code == 201


def test_statements_and_policies_are_taken_in_their_order_once(witness: Witness) -> None:
    head = witness.head
    first = witness.statement("consent", head, policy=witness.policy({"iiim": "allow"}))
    second = witness.statement("consent", head, policy=witness.policy({"iiim": "deny"}))
    assert witness.say(first).status_code == 200
    assert slug(witness.say(first), 409) == "control-known"
    assert slug(witness.say(second), 409) == "control-order"
    later = witness.statement("consent", Head(5, "a" * 64), policy=witness.policy({}))
    assert slug(witness.say(later), 409) == "control-order"
    # The statement is in its place, the policy in it is not.
    stale = unb64(second["policy"])
    assert slug(witness.change("consent", policy=stale), 422) == "policy-order"
    assert slug(witness.change("take-back"), 409) == "state-forbids"
    assert len(witness.status()["policies"]) == 2


def test_a_consent_text_that_nobody_signed_is_refused(witness: Witness) -> None:
    last = witness.status()["policies"][-1]
    fields = parse_canonical(unb64(last["policy"]), limit=LIMIT_BYTES)
    known = fields["consent"]["text"]
    fields |= {"seq": 1, "prev_sha256": parse_policy(unb64(last["policy"])).sha256}
    del fields["sig"]
    for text, sha256 in ((known, sha256_hex(b"another")), ("another", sha256_hex(b"another"))):
        fields["consent"] = {"text": text, "text_sha256": sha256, "scopes": {}}
        policy = canonical(witness.made.control.sign_fields(TAG, fields))
        assert slug(witness.change("consent", policy=policy), 422) == "consent-text-unknown"
    fields["desk"] = "other"
    policy = canonical(witness.made.control.sign_fields(TAG, fields))
    assert slug(witness.change("consent", policy=policy), 422) == "policy-changes"
    assert len(witness.status()["policies"]) == 1


def test_a_withdrawal_stops_access_at_once_and_can_be_taken_back_in_time(witness: Witness) -> None:
    person, clock, case = reader_of(witness), witness.organisation.clock, witness.made.case
    assert person.open(case).status_code == 201
    withdrawn = witness.change("withdraw").get_json()
    today = clock().date()
    assert withdrawn["state"] == "withdrawn"
    assert withdrawn["withdrawal"] == {
        "asked_on": today.isoformat(),
        "destroy_on": (today + timedelta(days=7)).isoformat(),
        "destroyed_on": None,
        "backups_until": (today + timedelta(days=42)).isoformat(),
    }
    assert [one["reader"] for one in withdrawn["opened"]] == [person.keys.id]
    for path in ("manifest", "objects/0", "objects/1", "notes"):
        assert slug(person.get(f"/v1/cases/{case}/{path}"), 410) == "case-withdrawn"
    assert slug(person.get(f"/v1/cases/{case}/grants"), 403) == "opening-needed"
    assert slug(person.open(case), 410) == "case-withdrawn"
    assert slug(person.claim(case), 410) == "case-withdrawn"
    assert slug(witness.change("withdraw"), 410) == "case-withdrawn"
    assert slug(witness.change("consent", policy=witness.policy({})), 410) == "case-withdrawn"
    told = person.get("/v1/cases").get_json()
    assert [(one["case"], one["withdrawn_on"]) for one in told["withdrawn"]] == [
        (case, today.isoformat())
    ]
    assert case not in {one["case"] for one in told["cases"]}

    clock.turn(days=6)
    assert witness.change("take-back").get_json()["state"] == "received"
    assert witness.status()["withdrawal"] is None
    clock.turn(days=10)
    assert not destroy_due(witness.organisation.services)
    assert reader_of(witness).open(case).status_code == 201
    # A withdrawal that lay in a queue since before must not undo the taking back.
    queued = witness.statement("withdraw", made_on=today)
    assert slug(witness.say(queued), 409) == "control-order"
    assert witness.change("withdraw").get_json()["state"] == "withdrawn"
    clock.turn(days=7)
    assert slug(witness.change("take-back"), 410) == "case-destroyed"


def test_after_the_delay_nothing_is_left_that_opens_the_case(witness: Witness) -> None:
    organisation, case = witness.organisation, witness.made.case
    person, clock = reader_of(witness), organisation.clock
    assert person.open(case).status_code == 201
    grant = seal_grant(witness.made.case_key, person.keys.intake.recipient)
    name = intake_key_id(person.keys.intake.recipient)
    person.act("grant", f"/v1/cases/{case}/grants", case, intake_key=name, grant=b64(grant))
    note = seal(b"{}", witness.made.case_key.recipient, Kind.NOTE)
    noted = person.act("note", f"/v1/cases/{case}/notes", case, audience="desk", sealed=b64(note))
    assert noted.status_code == 201, noted.get_json()
    assert witness.consent({"review": "allow", "iiim": "ask"}).status_code == 200
    # Signed on a phone that knew nothing of the chain.
    assert witness.say(witness.statement("withdraw")).status_code == 200
    clock.turn(days=6)
    assert maintain(organisation.services).done["cases_destroyed"] == 0
    assert rows(witness, Grant) > 0
    clock.turn(days=1)
    assert maintain(organisation.services).done["cases_destroyed"] == 1
    assert maintain(organisation.services).done["cases_destroyed"] == 0
    for table in (Grant, UploadedObject, Note):
        assert rows(witness, table) == 0
    assert organisation.services.blobs.size(f"{case}/1") is None

    sealed = witness.made.submission
    secrets = [sealed.manifest, sealed.account, sealed.policy, *witness.made.sealed, note, grant]
    size = len(grant)
    secrets += [sealed.grants[at : at + size] for at in range(0, len(sealed.grants), size)]
    with organisation.services.database.reading() as session:
        for table in sorted(intake.Testimony.metadata.tables.values(), key=lambda one: one.name):
            for row in session.execute(sa.select(table)):
                for value in row:
                    data = value.encode() if isinstance(value, str) else value
                    if isinstance(data, bytes):
                        for secret in secrets:
                            assert secret not in data, table.name
                            assert b64(secret).encode() not in data, table.name
    if organisation.services.database.is_sqlite:
        folder = organisation.services.config.data
        kept = b"".join(path.read_bytes() for path in folder.rglob("*.db*"))
        assert case.encode() in kept
        assert not any(secret[-200:] in kept for secret in secrets)

    told = witness.status()
    assert (told["state"], told["policies"]) == ("withdrawn", [])
    assert told["withdrawal"]["destroyed_on"] == clock().date().isoformat()
    assert [one["reader"] for one in told["opened"]] == [person.keys.id]
    assert slug(witness.change("take-back"), 410) == "case-destroyed"
    # The same bytes sent again do not bring it back.
    assert organisation_knows(organisation, witness)
    assert rows(witness, Grant) == 0


def organisation_knows(organisation: Organisation, witness: Witness) -> bool:
    told = receiving.take(organisation.services, witness.made.submission, None)
    return told.document["receipt"] is not None and not told.new


def test_what_is_still_arriving_is_withdrawn_at_once(organisation: Organisation) -> None:
    organisation.clock.follow()
    made = organisation.seal(files=(b"a film" * 1000,))
    announced = organisation.announce(made)
    witness = Witness(organisation, made)
    assert witness.status()["state"] == "arriving"
    assert slug(witness.change("take-back"), 409) == "state-forbids"
    answer = witness.say(witness.statement("withdraw"))
    assert answer.status_code == 200, answer.get_json()
    assert answer.get_json()["withdrawal"]["destroy_on"] == organisation.clock().date().isoformat()
    client = organisation.app.test_client()
    sent = client.patch(
        announced["uploads"][0]["location"],
        data=made.sealed[0],
        headers={"Tus-Resumable": "1.0.0", "Upload-Offset": "0"},
        content_type="application/offset+octet-stream",
    )
    assert sent.status_code in (404, 410)
    maintain(organisation.services)
    # The thread behind the answer may be about it just now.
    wait_until(
        lambda: witness.say(witness.statement("status")).status_code == 404, "it to be deleted"
    )
    assert slug(witness.say(witness.statement("status")), 404) == "control-unknown"


def test_what_was_withdrawn_while_arriving_is_neither_revived_nor_received(
    organisation: Organisation,
) -> None:
    organisation.clock.follow()
    services = organisation.services
    made = organisation.seal(files=(b"a film" * 1000,))
    announced = organisation.announce(made)
    sent = organisation.app.test_client().patch(
        announced["uploads"][0]["location"],
        data=made.sealed[0],
        headers={"Tus-Resumable": "1.0.0", "Upload-Offset": "0"},
        content_type="application/offset+octet-stream",
    )
    assert sent.status_code == 204
    with services.database.transaction() as session:
        testimony = session.get(intake.Testimony, made.case)
        assert testimony is not None
        # As a withdrawal does; the thread that deletes comes later.
        arriving.abandon(session, testimony)
    with pytest.raises(UploadGone):
        receiving.take(services, made.submission, None)
    with services.database.transaction() as session:
        testimony = session.get(intake.Testimony, made.case)
        assert testimony is not None
        checked = arriving.stored_submission(session, testimony)
        for one in arriving.objects_of(session, made.case):
            one.state = intake.ObjectState.VERIFIED
        session.flush()
        with pytest.raises(UploadGone):
            arriving.complete(
                session, checked, organisation.clock().date(), services.secrets.custody_log
            )
    assert maintain(services).done["whole_testimonies_received"] == 0
    assert receiving.expire(services) == 0, "it is gone already"


def test_nothing_is_destroyed_before_its_day_or_after_it_was_taken_back(witness: Witness) -> None:
    services, case = witness.organisation.services, witness.made.case
    today = witness.organisation.clock().date()
    later = today + timedelta(days=7)

    def begin(day: date) -> bool:
        with services.database.transaction() as session:
            found = service.begin_destroying(session, case, day)
            session.rollback()
        return found is not None

    assert not begin(later)
    assert witness.change("withdraw").status_code == 200
    assert not begin(later - timedelta(days=1))
    assert begin(later)
    # Between the list of what is due and the destruction the witness may take it back.
    assert witness.change("take-back").status_code == 200
    assert not begin(later)


def test_a_restored_database_is_told_again_what_witnesses_said(witness: Witness) -> None:
    organisation, case = witness.organisation, witness.made.case
    services = organisation.services
    assert witness.consent({"review": "allow", "opcw": "allow"}).status_code == 200
    today = organisation.clock().date()
    withdraw = witness.change("withdraw")
    assert withdraw.status_code == 200
    assert keep_statements(services) >= 2
    assert keep_statements(services) == 0
    # What a backup of yesterday would bring back.
    with services.database.transaction() as session:
        session.execute(sa.delete(ControlStatement).where(ControlStatement.case == case))
        session.execute(sa.delete(Destruction).where(Destruction.case == case))
        session.execute(sa.text('DELETE FROM policy_versions WHERE "case" = :case'), {"case": case})
        session.execute(
            sa.update(intake.Testimony)
            .where(intake.Testimony.case == case)
            .values(state="received", kept_since=today)
        )
        session.execute(sa.update(Grant).where(Grant.case == case).values(state="received"))
    assert witness.status()["state"] == "received"
    organisation.clock.turn(days=3)
    assert repeat_statements(services) == 2
    assert repeat_statements(services) == 0
    told = witness.status()
    assert (told["state"], told["seq"], len(told["policies"])) == ("withdrawn", 2, 2)
    assert told["withdrawal"]["asked_on"] == today.isoformat()
    journal = services.config.journal
    assert journal.stat().st_mode & 0o777 == 0o600
    with journal.open("ab") as file:
        file.write(b'{"received_on":"2026-')
    assert repeat_statements(services) == 0


def test_a_withdrawal_is_repeated_also_when_what_came_before_it_is_gone(witness: Witness) -> None:
    services, case = witness.organisation.services, witness.made.case
    assert witness.consent({"review": "allow"}).status_code == 200
    assert witness.change("withdraw").status_code == 200
    keep_statements(services)
    journal = services.config.journal
    lines = [one for one in journal.read_bytes().splitlines(keepends=True) if b'"withdraw"' in one]
    journal.write_bytes(b"".join(lines))
    with services.database.transaction() as session:
        for table in (ControlStatement, Destruction, intake.PolicyVersion):
            session.execute(sa.delete(table).where(table.case == case))
        session.execute(
            sa.update(intake.Testimony)
            .values(state="received", kept_since=services.today())
            .where(intake.Testimony.case == case)
        )
    assert repeat_statements(services) == 1
    assert (witness.status()["state"], witness.status()["seq"]) == ("withdrawn", 2)


def test_whoever_changes_a_consent_too_often_can_still_withdraw(
    witness: Witness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "MAX_POLICIES", 2)
    for _ in range(2):
        assert witness.consent({}).status_code == 200
    assert slug(witness.consent({}), 409) == "consent-limit"
    assert witness.change("withdraw").status_code == 200
    assert witness.change("take-back").status_code == 200


def test_without_a_delay_it_is_destroyed_at_once(organisation: Organisation) -> None:
    organisation.clock.follow()
    witness = Witness(organisation, organisation.send(withdrawal_delay_days=0))
    answer = witness.change("withdraw").get_json()
    today = organisation.clock().date()
    assert answer["withdrawal"]["destroy_on"] == today.isoformat()
    wait_until(lambda: rows(witness, Grant) == 0, "the case to be destroyed")
    assert date.fromisoformat(witness.status()["withdrawal"]["destroyed_on"]) == today
