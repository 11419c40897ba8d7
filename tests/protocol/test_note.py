"""Notes: what was signed and sealed is read again; what was changed, is of another, or of no form is not taken for it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amana.protocol.encoding import b64, random_id
from amana.protocol.errors import CannotOpen, ProtocolError
from amana.protocol.note import (
    LIMIT_BYTES,
    check_labels,
    open_note,
    own_notes,
    parse_note,
    seal_note,
)
from amana.protocol.sealing import Identity
from amana.protocol.signing import SigningKey

KEY = SigningKey(bytes(range(32)))
CASE_KEY = Identity.generate()
CASE, AUTHOR = random_id(), random_id()


def sealed(**changes: Any) -> bytes:
    fields: dict[str, Any] = {
        "deployment": "amana-test",
        "case": CASE,
        "author": AUTHOR,
        "audience": "desk",
        "kind": "note",
        "content": {"text": "x"},
        "made_on": "2026-11-24",
    }
    return seal_note(KEY, CASE_KEY.recipient, **(fields | changes))


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=2000))
def test_a_note_is_read_as_it_was_written(text: str) -> None:
    data = sealed(content={"text": text})
    assert len(data) in {5755, 34427}
    note = open_note(data, CASE_KEY)
    assert (note.case, note.author, note.content) == (CASE, AUTHOR, {"text": text})
    assert note.verify(KEY.public)
    assert not note.verify(SigningKey.generate().public)


@pytest.mark.parametrize(
    "change",
    [
        {"case": random_id()},
        {"author": random_id()},
        {"audience": "author"},
        {"deployment": "other"},
        {"made_on": "2026-11-23"},
        {"content": {"text": "y"}},
    ],
)
def test_a_changed_note_is_not_its_authors(change: dict[str, Any]) -> None:
    document = open_note(sealed(), CASE_KEY).document
    assert parse_note(document).verify(KEY.public)
    assert not parse_note({**document, **change}).verify(KEY.public)


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2},
        {"kind": "rumour"},
        {"kind": "link"},
        {"audience": "all"},
        {"content": {"text": 1}},
        {"content": {"text": "x", "more": 1}},
        {"content": []},
        {"case": "x"},
        {"made_on": "today"},
        {"sig": ""},
        {"extra": 1},
    ],
)
def test_what_is_no_note_is_refused(change: dict[str, Any]) -> None:
    document = open_note(sealed(), CASE_KEY).document
    with pytest.raises(ProtocolError):
        parse_note({**document, **change})


def test_a_note_has_a_limit() -> None:
    with pytest.raises(ProtocolError) as refused:
        sealed(content={"text": "x" * LIMIT_BYTES})
    assert refused.value.slug == "note-too-long"


def test_a_note_for_oneself_opens_for_nobody_else_and_after_every_key_replacement() -> None:
    data = seal_note(
        KEY,
        own_notes(KEY).recipient,
        deployment="amana-test",
        case=CASE,
        author=AUTHOR,
        audience="author",
        kind="note",
        content={"text": "mine"},
        made_on="2026-11-24",
    )
    with pytest.raises(CannotOpen):
        open_note(data, CASE_KEY)
    with pytest.raises(CannotOpen):
        open_note(data, own_notes(SigningKey.generate()))
    # The same secret bytes give the same identity on another day and another device.
    assert open_note(data, own_notes(SigningKey(bytes(range(32))))).content == {"text": "mine"}


@pytest.mark.parametrize(
    ("vocabulary", "code", "known"),
    [
        ("violation_status", "confirmed", True),
        ("violation_status", "sarin", False),
        ("languages", "ar", False),
        ("../agents", "sarin", False),
    ],
)
def test_labels_are_those_of_the_vocabularies(vocabulary: str, code: str, known: bool) -> None:
    label = {"vocabulary": vocabulary, "code": code}
    if known:
        check_labels([label])
        assert open_note(sealed(kind="coding", content={"text": "", "labels": [label]}), CASE_KEY)
        return
    with pytest.raises(ProtocolError):
        check_labels([label])


QUESTION = {
    "text": "Who else was there?",
    "reason": "The account names nobody.",
    "salt": b64(bytes(32)),
    "slots": ["a" * 64],
}


def test_a_question_is_kept_with_its_reason_and_what_it_commits_to() -> None:
    assert open_note(sealed(kind="question", content=QUESTION), CASE_KEY).content == QUESTION
    for change in (
        {"slots": []},
        {"slots": ["a" * 64] * 9},
        {"slots": ["x"]},
        {"salt": b64(bytes(31))},
        {"reason": "r" * 2001},
        {"reason": None},
        {"more": 1},
    ):
        with pytest.raises(ProtocolError):
            sealed(kind="question", content={**QUESTION, **change})
