"""Questions go into the drop by right, wait, are published in a batch, and die; nobody learns from it whom they are for."""

from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from amana.access.models import SignedAction
from amana.intake import models as intake
from amana.intake.models import State
from amana.ops.maintenance import maintain
from amana.protocol.codename import ThreadKeys, thread_keys
from amana.protocol.drop import FILL, MAX_SLOTS, SLOT_BYTES, scan, shard_of, slots_of
from amana.protocol.encoding import b64, random_id, sha256, unb64
from amana.protocol.reply import parse_reply
from amana.protocol.sealing import Identity, Kind, seal
from amana.replies import service
from amana.replies.models import Shard, Slot, WaitingSlot
from amana.replies.publishing import publish_drop
from amana.review.models import Note
from tests.support.officers import Officers
from tests.support.organisation import Organisation, Person
from tests.support.questions import ask, bring, question, slots_for
from tests.support.statements import Witness
from tests.support.testimonies import Made

ALLOWED = {"review": "allow", "contact": "allow"}


def slug(answer: Any, status: int) -> str:
    assert answer.status_code == status, answer.get_json()
    found: str = answer.get_json()["type"]
    return found


@pytest.fixture
def made(organisation: Organisation, reader: Person) -> Made:
    """A case that its witness lets the reader ask about, and that the reader has."""
    return claimed(organisation, reader)


def claimed(organisation: Organisation, reader: Person, **options: Any) -> Made:
    sent = organisation.send(**{"scopes": ALLOWED, **options})
    assert reader.claim(sent.case).status_code == 204
    return sent


def fetch(organisation: Organisation, bits: int = 0, shard: int = 0, **headers: str) -> Any:
    client = organisation.app.test_client()
    return client.get(f"/v1/drop/{bits}/{shard}", headers=headers)


def found(organisation: Organisation, made: Made, **place: int) -> list[str]:
    """Return what the witness of a case reads in the drop."""
    data = fetch(organisation, **place).get_data()
    return [parse_reply(one)["text"] for one in scan(data, made.reply)]


def waiting(organisation: Organisation) -> int:
    with organisation.services.database.reading() as session:
        return session.scalar(sa.select(sa.func.count()).select_from(WaitingSlot)) or 0


def state_of(organisation: Organisation, made: Made) -> str:
    with organisation.services.database.reading() as session:
        return session.get_one(intake.Testimony, made.case).state


# The way of a question


def test_a_question_waits_for_the_batch_and_is_read_by_whom_it_is_for(
    organisation: Organisation, reader: Person, made: Made
) -> None:
    publish_drop(organisation.services, again=True)
    before = fetch(organisation)
    brought = question(reader, made, slots_for(reader, made, "Who else was there? من كان هناك؟"))
    answer = bring(reader, made.case, brought)
    assert (answer.status_code, answer.get_json()) == (201, {"left": service.ASKS_PER_CASE - 1})
    assert state_of(organisation, made) == State.WAITING
    assert fetch(organisation).get_data() == before.get_data(), "it is not there before the batch"
    assert waiting(organisation) == 1
    assert publish_drop(organisation.services, again=True) == 1
    assert waiting(organisation) == 0
    assert found(organisation, made) == ["Who else was there? من كان هناك؟"]
    assert found(organisation, claimed(organisation, reader)) == []
    # What is kept with the case: who asked, a commitment, and question and reason sealed.
    with organisation.services.database.reading() as session:
        asked = session.scalars(
            sa.select(SignedAction).where(
                SignedAction.case == made.case, SignedAction.action == "ask"
            )
        ).one()
        note = session.scalars(sa.select(Note).where(Note.case == made.case)).one()
    assert asked.actor == reader.keys.id
    assert brought["commitment"].encode() in (asked.body or b"")
    for secret in (brought["salt"], brought["slots"][0]):
        assert secret.encode() not in (asked.body or b"")
    assert note.sealed == unb64(brought["reason"])


def test_the_bytes_of_a_shard_stay_the_same_from_one_batch_to_the_next(
    organisation: Organisation, reader: Person, made: Made
) -> None:
    publish_drop(organisation.services, again=True)
    first = fetch(organisation)
    assert first.status_code == 200
    assert first.headers["Content-Type"] == "application/octet-stream"
    assert first.headers["Cache-Control"] == "public, max-age=600"
    assert len(slots_of(first.get_data())) % FILL == 0
    etag = first.headers["ETag"]
    same = fetch(organisation, **{"If-None-Match": etag})
    assert (same.status_code, same.get_data()) == (304, b"")
    assert fetch(organisation, Range="bytes=0-10").get_data() == first.get_data(), "never a part"
    ask(reader, made)
    # Another process, which has nothing in memory; and days later, when some of the slots are over.
    organisation.clock.turn(days=80)
    organisation.services.caches.pop("drop")
    assert fetch(organisation).get_data() == first.get_data()
    organisation.clock.follow()
    publish_drop(organisation.services, again=True)
    changed = fetch(organisation, **{"If-None-Match": etag})
    assert changed.status_code == 200
    assert changed.headers["ETag"] != etag
    # What stays is where it was; what is new lies anywhere: by random ids, not by what they are or how long they live.
    with organisation.services.database.reading() as session:
        by_id = session.scalars(sa.select(Slot.sealed).order_by(Slot.id)).all()
    assert b"".join(by_id) == changed.get_data()
    kept, now = slots_of(first.get_data()), slots_of(changed.get_data())
    assert [one for one in now if one in set(kept)] == [one for one in kept if one in set(now)]


def test_a_batch_is_published_once_a_day(organisation: Organisation) -> None:
    services = organisation.services
    publish_drop(services, again=True)
    before = fetch(organisation).get_data()
    assert maintain(services).done["drop_shards_published"] == 0
    assert fetch(organisation).get_data() == before
    organisation.clock.turn(days=1)
    assert maintain(services).done["drop_shards_published"] == 1
    assert maintain(services).done["drop_shards_published"] == 0
    # A clock that was set back does not publish the day again.
    organisation.clock.turn(days=-1)
    assert maintain(services).done["drop_shards_published"] == 0
    assert maintain(services, publish_now=True).done["drop_shards_published"] == 1


def test_replies_and_dummies_die_in_their_time(
    organisation: Organisation, reader: Person, made: Made
) -> None:
    services = organisation.services
    publish_drop(services, again=True)
    ask(reader, made)
    publish_drop(services, again=True)
    with services.database.reading() as session:
        sealed = {one.sealed: one.last_day for one in session.scalars(sa.select(Slot))}
    [mine] = [slot for slot in sealed if list(scan(slot * FILL, made.reply))]
    today = organisation.clock().date()
    assert 50 <= (sealed[mine] - today).days <= 70
    organisation.clock.now += timedelta(days=(sealed[mine] - today).days - 1)
    publish_drop(services)
    assert mine in slots_of(fetch(organisation).get_data())
    organisation.clock.turn(days=1)
    # Nothing goes without a batch, and then all that is over goes.
    assert mine in slots_of(fetch(organisation).get_data())
    publish_drop(services)
    left = slots_of(fetch(organisation).get_data())
    assert mine not in left
    assert not {slot for slot, last in sealed.items() if last <= organisation.clock().date()} & {
        *left
    }
    assert len(left) % FILL == 0


def test_of_two_machines_that_publish_at_once_one_does(organisation: Organisation) -> None:
    from concurrent.futures import ThreadPoolExecutor

    organisation.clock.turn(days=300)
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: publish_drop(organisation.services), range(4)))
    assert sorted(done) == [0, 0, 0, 1]
    assert len(slots_of(fetch(organisation).get_data())) % FILL == 0


def test_questions_asked_at_once_are_all_there(organisation: Organisation, reader: Person) -> None:
    from concurrent.futures import ThreadPoolExecutor

    publish_drop(organisation.services, again=True)
    cases = [claimed(organisation, reader) for _ in range(4)]
    people = [organisation.as_person(reader.keys).sign_in() for _ in cases]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(ask, people, cases))
    assert [one.status_code for one in answers] == [201] * 4
    assert waiting(organisation) == 4
    publish_drop(organisation.services, again=True)
    assert [len(found(organisation, one)) for one in cases] == [1] * 4


def test_a_long_question_comes_in_parts(
    organisation: Organisation, reader: Person, made: Made
) -> None:
    slots = slots_for(reader, made, "ماذا رأيت؟ " * 1000)
    assert len(slots) > 3
    assert bring(reader, made.case, question(reader, made, slots)).status_code == 201
    publish_drop(organisation.services, again=True)
    assert len(found(organisation, made)) == len(slots)


# Refusals


def test_nobody_is_asked_who_does_not_allow_it(organisation: Organisation, reader: Person) -> None:
    for contact, reason in (("deny", "consent-denies"), ("ask", "consent-asks")):
        made = claimed(organisation, reader, scopes={"review": "allow", "contact": contact})
        assert slug(ask(reader, made), 403) == reason
    unread = claimed(organisation, reader, scopes={"contact": "allow"})
    assert slug(ask(reader, unread), 403) == "consent-denies"
    mine = {reader.keys.id: reader.keys.intake_recipient}
    minor = claimed(organisation, reader, flags=["minor"], readers=mine)
    assert slug(ask(reader, minor), 403) == "minor-no-contact"
    # Less counts at once, also while a question waits; more only after the delay.
    made = claimed(organisation, reader)
    assert ask(reader, made).status_code == 201
    witness = Witness(organisation, made)
    assert witness.consent({"review": "allow"}).status_code == 200
    assert slug(ask(reader, made), 403) == "consent-denies"
    assert witness.consent(ALLOWED).status_code == 200
    assert slug(ask(reader, made), 403) == "consent-denies"
    for one in (minor, unread):
        assert state_of(organisation, one) == State.IN_REVIEW


def test_only_who_has_the_case_may_ask(organisation: Organisation, reader: Person) -> None:
    made = claimed(organisation, reader)
    colleague = organisation.as_person(organisation.desks["chemical"][1]).sign_in()
    outsider = organisation.as_person(organisation.desks["general"][0]).sign_in()
    assert slug(ask(colleague, made), 403) == "not-assigned"
    assert slug(ask(outsider, made), 404) == "not-found"
    assert reader.hand_over(made.case, colleague.keys.id, second=True).status_code == 204
    assert colleague.claim(made.case).status_code == 204
    assert slug(ask(colleague, made), 403) == "not-assigned"
    administrator = organisation.as_person(organisation.administrator).sign_in()
    assert slug(ask(administrator, made), 403) == "not-allowed"
    brought = question(reader, made)
    for case in (random_id(), None):
        assert slug(bring(reader, case, brought), 404) == "not-found"
    assert ask(reader, made).status_code == 201


def test_a_case_that_was_withdrawn_or_decided_is_not_asked_about(
    organisation: Organisation, reader: Person
) -> None:
    made = claimed(organisation, reader)
    assert Witness(organisation, made).change("withdraw").status_code == 200
    assert slug(ask(reader, made), 410) == "case-withdrawn"
    decided = claimed(organisation, reader)
    reason = b64(seal(b"because", Identity.generate().recipient, Kind.NOTE))
    path = f"/v1/cases/{decided.case}/decisions"
    done = reader.act("decide", path, decided.case, decision="accept", reason=reason)
    assert done.status_code == 201
    before = waiting(organisation)
    assert slug(ask(reader, decided), 409) == "state-forbids"
    assert waiting(organisation) == before


def test_a_withdrawal_does_not_reach_into_the_drop(
    organisation: Organisation, reader: Person, made: Made
) -> None:
    """The server cannot find the question of a case that is withdrawn; the witness is told until when it may be there."""
    assert ask(reader, made).status_code == 201
    witness = Witness(organisation, made)
    assert witness.change("withdraw").status_code == 200
    publish_drop(organisation.services, again=True)
    assert found(organisation, made) == ["Who else was there?"]
    assert witness.status()["asked"] == [organisation.clock().date().isoformat()]


def test_nobody_is_asked_again_and_again(
    organisation: Organisation, reader: Person, made: Made
) -> None:
    left = [ask(reader, made).get_json() for _ in range(service.ASKS_PER_CASE)]
    assert [one["left"] for one in left] == [4, 3, 2, 1, 0]
    before = waiting(organisation)
    assert slug(ask(reader, made), 409) == "replies-limit"
    assert waiting(organisation) == before
    # Not by another reader either, nor by the next day.
    organisation.clock.turn(days=2)
    colleague = organisation.as_person(organisation.desks["chemical"][1]).sign_in()
    reader.sign_in()
    assert reader.hand_over(made.case, colleague.keys.id).status_code == 204
    assert colleague.claim(made.case).status_code == 204
    assert slug(ask(colleague, made), 409) == "replies-limit"


def test_one_reader_cannot_fill_the_drop(
    organisation: Organisation, reader: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    organisation.clock.turn(days=5)
    reader.sign_in()
    monkeypatch.setattr(service, "ASKS_PER_READER", 2)
    first, second, third = (claimed(organisation, reader) for _ in range(3))
    assert [ask(reader, one).status_code for one in (first, second)] == [201, 201]
    assert slug(ask(reader, third), 409) == "replies-limit"
    assert state_of(organisation, third) == State.IN_REVIEW
    organisation.clock.turn(days=1, minutes=1)
    reader.sign_in()
    assert ask(reader, third).status_code == 201


def test_a_full_drop_takes_nothing(
    organisation: Organisation, reader: Person, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_drop(organisation.services, again=True)
    monkeypatch.setattr(service, "MAX_SLOTS", 3)
    assert slug(ask(reader, made), 409) == "drop-full"
    assert state_of(organisation, made) == State.IN_REVIEW
    monkeypatch.undo()
    assert service.MAX_SLOTS == MAX_SLOTS
    assert ask(reader, made).status_code == 201


def test_the_same_question_brought_again_is_one_question(
    organisation: Organisation, reader: Person, made: Made
) -> None:
    brought = question(reader, made)
    before = waiting(organisation)
    first, again = (bring(reader, made.case, brought) for _ in range(2))
    assert (first.get_json(), again.get_json()) == ({"left": 4}, {"left": 4})
    assert waiting(organisation) == before + 1
    action = reader.action(
        made.case,
        action="ask",
        body={name: brought[name] for name in ("commitment", "reason")},
        directory=organisation.directory.version,
    )
    other = {**question(reader, made), "action": action}
    assert slug(reader.post("/v1/drop", other), 422) == "action-refused"


def wrong_slots(reader: Person, made: Made) -> dict[str, tuple[dict[str, Any], int, str]]:
    """What is no slot, or not the slots that were signed: members that differ, and how each is refused."""
    [slot] = slots_for(reader, made)
    note = seal(b"", made.reply.recipient, Kind.NOTE)
    long = seal(b"x" * 5000, made.reply.recipient, Kind.NOTE)
    other = b64(seal(b"", made.reply.recipient, Kind.REPLY))
    return {
        "plain text": ({"slots": [b64(b"Who was there?")]}, 422, "sealed-plaintext"),
        "cut": ({"slots": [b64(slot[:-1])]}, 422, "sealed-size"),
        "longer": ({"slots": [b64(slot + b"\0")]}, 422, "sealed-size"),
        "of another size": ({"slots": [b64(long)]}, 422, "unprocessable-entity"),
        "a grant": (
            {"slots": [b64(seal(b"", made.reply.recipient, Kind.GRANT))]},
            422,
            "sealed-bucket",
        ),
        "no Base64": ({"slots": ["%"]}, 422, "bad-encoding"),
        "none": ({"slots": []}, 422, "unprocessable-entity"),
        "too many": ({"slots": [b64(slot)] * 9}, 422, "unprocessable-entity"),
        "others than signed": ({"slots": [other]}, 422, "commitment-wrong"),
        "one more than signed": ({"slots": [b64(slot), other]}, 422, "commitment-wrong"),
        "another salt": ({"salt": b64(bytes(32))}, 422, "commitment-wrong"),
        "a short salt": ({"salt": b64(bytes(31))}, 422, "bad-encoding"),
        "no reason": ({"reason": ""}, 422, "reason-missing"),
        "a reason in the clear": ({"reason": b64(b"because")}, 422, "sealed-plaintext"),
        "a commitment that is none": ({"commitment": "x"}, 422, "unprocessable-entity"),
        "another depth": ({"bits": 1}, 404, "shard-unknown"),
        "a shard beyond": ({"shard": 1}, 404, "shard-unknown"),
        "a depth beyond": ({"bits": 17}, 422, "unprocessable-entity"),
        "a shard below": ({"shard": -1}, 422, "unprocessable-entity"),
        "a shard in words": ({"shard": "0"}, 422, "unprocessable-entity"),
        "a case beside": ({"case": made.case}, 422, "unprocessable-entity"),
        "a note instead": ({"slots": [b64(note)]}, 422, "commitment-wrong"),
    }


def test_what_is_not_in_its_form_changes_nothing(
    organisation: Organisation, reader: Person, made: Made
) -> None:
    before = waiting(organisation)
    brought = question(reader, made)
    for what, (changes, status, reason) in wrong_slots(reader, made).items():
        answer = bring(reader, made.case, {**brought, **changes})
        assert (what, slug(answer, status)) == (what, reason)
    for missing in ("reason", "commitment", "salt", "slots", "bits", "shard"):
        less = {name: value for name, value in brought.items() if name != missing}
        assert slug(bring(reader, made.case, less), 422) == "unprocessable-entity"
    assert waiting(organisation) == before
    assert state_of(organisation, made) == State.IN_REVIEW
    with organisation.services.database.reading() as session:
        assert service.asked_on(session, made.case) == []
    assert bring(reader, made.case, brought).status_code == 201


@pytest.mark.parametrize(
    "place",
    [
        "0/1",
        "1/0",
        "1/2",
        "16/65536",
        "17/0",
        "00/0",
        "0/00",
        "-1/0",
        "0/x",
        "x/0",
        "0/9" + "9" * 5000,
    ],
)
def test_shards_that_are_none_are_not_found(organisation: Organisation, place: str) -> None:
    client = organisation.app.test_client()
    publish_drop(organisation.services, again=True)
    assert slug(client.get(f"/v1/drop/{place}"), 404) == "shard-unknown"
    assert client.get("/v1/drop/0/0").status_code == 200


# Another depth


def deepen(organisation: Organisation, bits: int) -> None:
    Officers(organisation).publish(lambda description: description.update(drop_bits=bits))


def codename_in(shard: int, bits: int) -> ThreadKeys:
    """A codename whose replies lie in a shard."""
    tried = (thread_keys(sha256(str(n).encode())) for n in range(1000))
    return next(one for one in tried if shard_of(one.reply.recipient, bits) == shard)


def test_a_deeper_drop_lets_old_replies_end_where_they_are(tmp_path_factory: Any) -> None:
    from tests.support.organisation import organisation_in

    with organisation_in(tmp_path_factory.mktemp("deeper")) as organisation:
        reader = organisation.as_person(organisation.desks["chemical"][0]).sign_in()
        old = claimed(organisation, reader)
        assert ask(reader, old).status_code == 201
        publish_drop(organisation.services)
        late = claimed(organisation, reader)
        assert ask(reader, late).status_code == 201
        deepen(organisation, 1)
        new = claimed(organisation, reader, codename=codename_in(1, 1))
        assert slug(ask(reader, new, bits=0, shard=0), 404) == "shard-unknown"
        assert slug(ask(reader, new, bits=1, shard=2), 404) == "shard-unknown"
        assert ask(reader, new).status_code == 201
        assert slug(fetch(organisation, 1, 1), 404) == "shard-unpublished"
        organisation.clock.turn(days=1)
        assert publish_drop(organisation.services) == 3
        assert found(organisation, new, bits=1, shard=1) == ["Who else was there?"]
        assert found(organisation, new, bits=1, shard=0) == []
        # What waited at the old depth when it changed is published there, and ends there.
        assert found(organisation, old) == found(organisation, late) == ["Who else was there?"]
        with organisation.services.database.reading() as session:
            [end] = session.scalars(sa.select(sa.func.max(Slot.last_day)).where(Slot.bits == 0))
        for _ in range(100):
            organisation.clock.turn(days=1)
            publish_drop(organisation.services)
            if organisation.clock().date() >= end:
                break
            assert len(slots_of(fetch(organisation).get_data())) % FILL == 0
        with organisation.services.database.reading() as session:
            depths = set(session.scalars(sa.select(Shard.bits)))
        publish_drop(organisation.services)
        assert slug(fetch(organisation), 404) == "shard-unknown"
        assert depths == {1}
        assert len(fetch(organisation, 1, 0).get_data()) == FILL * SLOT_BYTES
