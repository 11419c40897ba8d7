"""A witness reads what readers asked, with the codename alone; a reader asks only whom they may; and servers lie."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from amana.client.casework import Caseworker, NotConsented
from amana.client.control import Line, cannot_be_recalled
from amana.client.directory import read_root
from amana.client.errors import NetworkFailed, NotVerified, Refused, Usage
from amana.client.keyfile import PersonKeys, intake_key_fields
from amana.client.replies import Found, read_replies
from amana.client.transport import Patience, Transport
from amana.protocol.account import account_bytes, text_account
from amana.protocol.codename import ThreadKeys, thread_keys
from amana.protocol.drop import FILL, SLOT_BYTES
from amana.protocol.encoding import b64, canonical, random_id, unb64
from amana.protocol.reply import commitment
from amana.protocol.sealing import Identity, Kind, open_sealed, seal
from amana.protocol.signing import SigningKey
from amana.replies import service
from amana.replies.publishing import publish_drop
from tests.support.lying import Lying, in_json
from tests.support.officers import Officers
from tests.support.organisation import Organisation, Person, organisation_in
from tests.support.questions import bring, question, slots_for
from tests.support.statements import Witness
from tests.support.testimonies import Made

ACCOUNT = account_bytes(text_account(text="شهادة تجريبية", language="ar"))
ALLOWED = {"review": "allow", "contact": "allow"}
TEXT = "من كان هناك؟ Who else was there?\nTake your time."
PATIENCE = Patience(attempts=3, first_seconds=0, longest_seconds=0)


@dataclass
class Scene:
    """An organisation, served by a server that can lie."""

    organisation: Organisation
    lying: Lying
    url: str

    @property
    def lead(self) -> PersonKeys:
        return self.organisation.desks["chemical"][0]

    @contextmanager
    def at_work(self, keys: PersonKeys) -> Iterator[Caseworker]:
        with Transport(self.url, silence_seconds=10) as transport:
            yield Caseworker(transport, self.organisation.root, keys, patience=PATIENCE)

    def send(self, keys: ThreadKeys, **options: Any) -> Made:
        """Let a testimony under a codename arrive, and its first reader take it."""
        fields = {"scopes": ALLOWED, "account": ACCOUNT, "codename": keys, **options}
        made = self.organisation.send(**fields)
        with self.at_work(self.lead) as lead:
            lead.claim(made.case)
        return made

    def line(self, keys: ThreadKeys) -> Line:
        return Line(
            connect=lambda: Transport(self.url),
            thread=keys,
            pins=read_root(self.organisation.root),
            patience=PATIENCE,
            pause_seconds=0,
        )

    def read(self, keys: ThreadKeys) -> Found:
        return read_replies(self.line(keys), self.organisation.root)

    def publish(self) -> None:
        publish_drop(self.organisation.services, again=True)

    def reader(self) -> Person:
        return self.organisation.as_person(self.lead).sign_in()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with organisation_in(tmp_path_factory.mktemp("organisation")) as organisation:
        lying = Lying(organisation.app.wsgi_app)
        organisation.app.wsgi_app = lying  # type: ignore[method-assign]
        with organisation.served() as url:
            yield Scene(organisation, lying, url)


@pytest.fixture
def scene(served: Scene, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """The served organisation, honest again."""
    served.lying.lies.clear()
    served.lying.denials.clear()
    served.lying.lost.clear()
    served.lying.seen.clear()
    served.organisation.clock.follow()
    monkeypatch.setattr(service, "ASKS_PER_READER", 1000)
    return served


@pytest.fixture
def codename() -> ThreadKeys:
    return thread_keys(os.urandom(32))


def test_a_witness_is_asked_and_reads_it_with_the_codename_alone(
    scene: Scene, codename: ThreadKeys
) -> None:
    made = scene.send(codename)
    with scene.at_work(scene.lead) as lead:
        assert lead.ask(made.case, TEXT, "The account names nobody.") == service.ASKS_PER_CASE - 1
        assert scene.read(codename).replies == ()
        scene.publish()
        [reply] = scene.read(codename).replies
        assert (reply.case, reply.text, reply.verified) == (made.case, TEXT, True)
        assert reply.actor == scene.lead.id
        [note] = lead.notes(made.case)
    # The readers of the case see what was asked, and why; and can show which slots that was.
    assert (note.kind, note.verified) == ("question", True)
    assert note.content["text"] == TEXT
    assert note.content["reason"] == "The account names nobody."
    assert len(note.content["slots"]) == 1
    assert scene.read(thread_keys(os.urandom(32))) == Found((), 0, 0)


def test_what_is_asked_of_the_server_is_the_same_whether_something_is_there_or_not(
    scene: Scene, codename: ThreadKeys
) -> None:
    other = thread_keys(os.urandom(32))
    made = scene.send(codename)
    scene.send(other)
    with scene.at_work(scene.lead) as lead:
        lead.ask(made.case, "x" * 9000, "because")
    scene.publish()
    seen = []
    for keys, count in ((codename, 1), (other, 0)):
        scene.lying.seen.clear()
        assert len(scene.read(keys).replies) == count
        seen.append(list(scene.lying.seen))
    assert seen[0] == seen[1]
    assert ("GET", "/v1/drop/0/0", None) in seen[0]


def lay(scene: Scene, made: Made, slots: list[bytes]) -> None:
    """Bring slots of any content, as a reader's own program may, and publish them."""
    reader = scene.reader()
    assert bring(reader, made.case, question(reader, made, slots)).status_code == 201
    scene.publish()


def test_what_no_reader_of_the_desk_signed_is_shown_and_not_believed(
    scene: Scene, codename: ThreadKeys
) -> None:
    made = scene.send(codename)
    reader = scene.reader()
    elsewhere = scene.organisation.desks["general"][0]
    administrator = scene.organisation.administrator
    forged = {
        "by nobody": {"key": SigningKey.generate(), "actor": random_id()},
        "by nobody in a reader's name": {"key": SigningKey.generate()},
        "by another desk's reader": {"key": elsewhere.signing, "actor": elsewhere.id},
        "by an administrator": {"key": administrator.signing, "actor": administrator.id},
        "for another installation": {"deployment": "elsewhere"},
    }
    for text, changes in forged.items():
        lay(scene, made, slots_for(reader, made, text, **changes))
    found = {one.text: one.verified for one in scene.read(codename).replies}
    assert found == dict.fromkeys(forged, False)


def test_a_reply_for_another_case_is_not_believed(scene: Scene, codename: ThreadKeys) -> None:
    made = scene.send(codename)
    other = scene.send(thread_keys(os.urandom(32)))
    reader = scene.reader()
    # Well signed, for a case that is not this witness's; and one of theirs, moved from another witness's slots.
    lay(scene, made, slots_for(reader, made, "for another case", case=other.case))
    [slot] = slots_for(reader, other, "moved")
    lay(
        scene,
        made,
        [seal(open_sealed(slot, other.reply, Kind.REPLY), made.reply.recipient, Kind.REPLY)],
    )
    found = {one.text: one.verified for one in scene.read(codename).replies}
    assert found == {"for another case": False, "moved": False}


def test_what_is_not_whole_or_no_reply_is_counted(scene: Scene, codename: ThreadKeys) -> None:
    made = scene.send(codename)
    reader = scene.reader()
    parts = slots_for(reader, made, "y" * 9000)
    lay(scene, made, parts[1:])
    lay(scene, made, [seal(b"{}", made.reply.recipient, Kind.REPLY)])
    lay(scene, made, [seal(b"\xff", made.reply.recipient, Kind.REPLY)])
    found = scene.read(codename)
    assert (found.replies, found.incomplete, found.unreadable) == ((), 1, 2)
    # The part that was missing completes it; a part that comes twice changes nothing.
    lay(scene, made, [parts[0], parts[2]])
    found = scene.read(codename)
    assert [one.text for one in found.replies] == ["y" * 9000]
    assert found.incomplete == 0


def test_a_reader_who_is_not_listed_any_more_is_not_believed(
    tmp_path: Path, codename: ThreadKeys
) -> None:
    with organisation_in(tmp_path) as organisation, organisation.served() as url:
        own = Scene(organisation, Lying(lambda *_: []), url)
        made = own.send(codename)
        with own.at_work(own.lead) as lead:
            lead.ask(made.case, TEXT, "because")
        own.publish()
        Officers(organisation).publish(replace_a_reader)
        assert [one.verified for one in own.read(codename).replies] == [False]


def replace_a_reader(description: dict[str, Any]) -> None:
    """Put a new person in the place of the desk's lead."""
    keys, desk = PersonKeys.generate("reviewer"), description["desks"][0]
    new = {"id": keys.id, "signing_key": keys.signing.public, **intake_key_fields(keys)}
    desk["readers"][0].update(new)
    desk["leads"] = [keys.id]


LIES = {
    "a shard that is cut": (lambda body: body[: SLOT_BYTES * (FILL - 1)], "shard-invalid"),
    "a shard with one slot more": (lambda body: body + body[:SLOT_BYTES], "shard-invalid"),
    "an empty shard": (lambda _body: b"", "shard-invalid"),
    "no slots": (lambda body: bytes(len(body) - 1), "shard-invalid"),
    "more than any shard has": (lambda _body: bytes(SLOT_BYTES * 4097), "answer-too-large"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_shard_that_is_none_is_not_used(scene: Scene, codename: ThreadKeys, lie: str) -> None:
    scene.send(codename)
    scene.publish()
    scene.lying.lies["/v1/drop/0/0"], slug = LIES[lie]
    with pytest.raises(NotVerified) as refused:
        scene.read(codename)
    assert refused.value.slug == slug


def test_slots_of_any_bytes_are_somebody_elses(scene: Scene, codename: ThreadKeys) -> None:
    scene.send(codename)
    scene.publish()
    for noise in (bytes, os.urandom):
        scene.lying.lies["/v1/drop/0/0"] = lambda body, noise=noise: noise(len(body))
        assert scene.read(codename) == Found((), 0, 0)


def test_a_download_that_was_cut_begins_anew(scene: Scene, codename: ThreadKeys) -> None:
    made = scene.send(codename)
    with scene.at_work(scene.lead) as lead:
        lead.ask(made.case, TEXT, "because")
    scene.publish()
    scene.lying.lost.add("/v1/drop/0/0")
    assert [one.text for one in scene.read(codename).replies] == [TEXT]
    scene.lying.denials["/v1/drop/0/0"] = [503, 503, 503]
    with pytest.raises(NetworkFailed):
        scene.read(codename)


def test_a_drop_that_the_directory_names_and_the_server_denies_is_told(
    scene: Scene, codename: ThreadKeys
) -> None:
    scene.send(codename)
    scene.lying.denials["/v1/drop/0/0"] = [404]
    with pytest.raises(Refused):
        scene.read(codename)


def test_replies_are_read_where_they_lay_before_the_drop_grew_deeper(tmp_path: Path) -> None:
    with organisation_in(tmp_path) as organisation, organisation.served() as url:
        own = Scene(organisation, Lying(lambda *_: []), url)
        codename = thread_keys(os.urandom(32))
        first = own.send(codename)
        with own.at_work(own.lead) as lead:
            lead.ask(first.case, "before", "because")
            own.publish()
            for bits in (1, 2):
                Officers(organisation).publish(
                    lambda description, bits=bits: description.update(drop_bits=bits)
                )
                # Nothing was published at that depth yet.
                assert {one.text for one in own.read(codename).replies} >= {"before"}
                lead.ask(first.case, f"at {bits}", "because")
                own.publish()
        found = own.read(codename).replies
        assert {one.text for one in found} == {"before", "at 1", "at 2"}
        assert all(one.verified for one in found)


# Asking


def test_nobody_is_asked_who_does_not_allow_it_whatever_the_server_would_take(
    scene: Scene, codename: ThreadKeys
) -> None:
    for number, options in enumerate(
        (
            {"scopes": {"review": "allow", "contact": "deny"}},
            {"scopes": {"review": "allow", "contact": "ask"}},
            {"flags": ["minor"], "readers": {scene.lead.id: scene.lead.intake_recipient}},
        )
    ):
        made = scene.send(codename, number=number, **options)
        scene.lying.seen.clear()
        with scene.at_work(scene.lead) as lead, pytest.raises(NotConsented) as refused:
            lead.ask(made.case, TEXT, "because")
        assert refused.value.exit_status == 1
        reasons = ("consent-denies", "consent-asks", "minor-no-contact")
        assert refused.value.slug == reasons[number]
        # Nothing was signed for it, not even an opening.
        assert {path for method, path, _ in scene.lying.seen if method == "POST"} <= {
            "/v1/sessions"
        }


def test_a_consent_that_the_server_widened_is_not_believed(
    scene: Scene, codename: ThreadKeys
) -> None:
    made = scene.send(codename, scopes={"review": "allow"})
    fields = json.loads(made.submission.policy)
    fields["consent"]["scopes"]["contact"] = "allow"

    def widen(document: dict[str, Any]) -> None:
        document["policies"][0]["policy"] = b64(canonical(fields))

    scene.lying.lies[f"/v1/cases/{made.case}"] = in_json(widen)
    with scene.at_work(scene.lead) as lead, pytest.raises(NotVerified) as refused:
        lead.ask(made.case, TEXT, "because")
    assert refused.value.slug == "bad-signature"
    # Signed by a key of the server's own, it is not what the witness sealed the testimony under.
    del fields["sig"]
    other = SigningKey.generate()
    signed = canonical(other.sign_fields("amana-policy-v1", {**fields, "control": other.public}))
    scene.lying.lies[f"/v1/cases/{made.case}"] = in_json(
        lambda document: document["policies"][0].update(policy=b64(signed))
    )
    with scene.at_work(scene.lead) as lead, pytest.raises(NotVerified) as refused:
        lead.ask(made.case, TEXT, "because")
    assert refused.value.slug == "policy-differs"
    assert ("POST", "/v1/drop", None) not in scene.lying.seen


def test_a_question_whose_answer_was_lost_is_asked_once(scene: Scene, codename: ThreadKeys) -> None:
    made = scene.send(codename)
    scene.lying.lost.add("/v1/drop")
    with scene.at_work(scene.lead) as lead:
        assert lead.ask(made.case, TEXT, "because") == service.ASKS_PER_CASE - 1
        assert len(lead.notes(made.case)) == 1
    scene.publish()
    assert [one.text for one in scene.read(codename).replies] == [TEXT]


def test_what_cannot_be_asked_is_not_sent(scene: Scene, codename: ThreadKeys) -> None:
    made = scene.send(codename)
    with scene.at_work(scene.lead) as lead:
        scene.lying.seen.clear()
        for text, slug in (("  ", "reply-empty"), ("z" * 40_000, "reply-too-long")):
            with pytest.raises(Usage) as refused:
                lead.ask(made.case, text, "because")
            assert refused.value.slug == slug
        with pytest.raises(Usage):
            lead.ask(made.case, TEXT, "r" * 2001)
        with pytest.raises(Usage):
            lead.ask("../people", TEXT, "because")
    assert ("POST", "/v1/drop", None) not in scene.lying.seen


def test_the_commitment_is_opened_by_what_the_note_keeps(
    scene: Scene, codename: ThreadKeys
) -> None:
    made = scene.send(codename)
    bodies: list[dict[str, Any]] = []
    original = scene.lying.application

    def listening(environ: Any, start_response: Any) -> Any:
        if environ["PATH_INFO"] == "/v1/drop":
            data = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
            bodies.append(json.loads(data))
            environ["wsgi.input"] = BytesIO(data)
        return original(environ, start_response)

    scene.lying.application = listening
    try:
        with scene.at_work(scene.lead) as lead:
            lead.ask(made.case, TEXT, "because")
            [note] = lead.notes(made.case)
    finally:
        scene.lying.application = original
    [brought] = bodies
    assert brought["commitment"] == commitment(unb64(note.content["salt"]), note.content["slots"])
    assert brought["action"]["case"] == made.case
    assert {name for name in brought if made.case in json.dumps(brought[name])} == {"action"}


# What a witness is told


def test_a_status_tells_when_somebody_asked_and_until_when_that_lies_there(
    scene: Scene, codename: ThreadKeys
) -> None:
    made = scene.send(codename)
    with scene.at_work(scene.lead) as lead:
        lead.ask(made.case, TEXT, "because")
    [standing] = scene.line(codename).standings()
    today = scene.organisation.clock().date()
    assert (standing.state, standing.asked) == ("waiting", (today,))
    honest = cannot_be_recalled([standing])
    [questions] = [one for one in honest if one["what"] == "questions"]
    assert questions["case"] == made.case
    assert (date.fromisoformat(questions["until"]) - today).days == 71


def test_a_withdrawal_of_one_testimony_leaves_the_other(scene: Scene, codename: ThreadKeys) -> None:
    first = scene.send(codename)
    second = scene.send(codename, number=1, adds_to=first.case)
    assert Witness(scene.organisation, first).change("withdraw").status_code == 200
    states = {one.case: one.state for one in scene.line(codename).standings()}
    assert states == {first.case: "withdrawn", second.case: "in-review"}
    with scene.at_work(scene.lead) as lead:
        lead.ask(second.case, TEXT, "because")
        with pytest.raises(Refused) as refused:
            lead.ask(first.case, TEXT, "because")
    assert refused.value.slug == "case-withdrawn"
    scene.publish()
    assert [one.verified for one in scene.read(codename).replies] == [True]


def test_what_is_for_somebody_else_is_not_seen(scene: Scene, codename: ThreadKeys) -> None:
    made = scene.send(codename)
    lay(scene, made, slots_for(scene.reader(), made, "secret", to=Identity.generate().recipient))
    assert scene.read(codename) == Found((), 0, 0)


# Threads, as readers see them


def test_readers_see_one_codename_where_they_opened_both(
    scene: Scene, codename: ThreadKeys, tmp_path: Path
) -> None:
    first = scene.send(codename)
    second = scene.send(codename, number=1, adds_to=first.case)
    stranger = scene.send(thread_keys(os.urandom(32)), adds_to=first.case)
    alone = scene.send(thread_keys(os.urandom(32)))
    with scene.at_work(scene.lead) as lead:
        opened = lead.open(second.case, tmp_path / "elsewhere" / "second")
        assert (opened.adds_to, opened.same_codename) == (first.case, ())
        assert any(first.case in one and "ANOTHER" not in one for one in opened.warnings)
        assert any("does not show who wrote" in one for one in opened.warnings)
        beside = lead.open(first.case, tmp_path / "first")
        assert (beside.adds_to, beside.same_codename, beside.warnings) == (None, (), ())
        opened = lead.open(second.case, tmp_path / "second")
        assert (opened.adds_to, opened.same_codename) == (first.case, (first.case,))
        assert any("same codename" in one for one in opened.warnings)
        # Whoever knows a case can say that theirs adds to it.
        opened = lead.open(stranger.case, tmp_path / "stranger")
        assert (opened.adds_to, opened.same_codename) == (first.case, ())
        assert any("ANOTHER codename" in one for one in opened.warnings)
        (tmp_path / "junk").mkdir()
        (tmp_path / "junk" / "manifest.json").write_bytes(b"[" * 200_000)
        os.mkfifo(tmp_path / "junk" / "fifo")
        (tmp_path / "pipe").mkdir()
        os.mkfifo(tmp_path / "pipe" / "manifest.json")
        opened = lead.open(alone.case, tmp_path / "alone")
        assert (opened.adds_to, opened.same_codename, opened.warnings) == (None, (), ())
