"""An account takes what a witness has to say, in known fields, and nothing that names a person."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amana.protocol.account import (
    TEXT_LIMIT,
    account_bytes,
    parse_account,
    text_account,
    vocabulary,
)
from amana.protocol.encoding import canonical
from amana.protocol.errors import ProtocolError

WHOLE: dict[str, Any] = {
    **text_account(text="[SYNTHETIC] كنت في القبو", language="ar"),
    "prior_accounts": [{"told_to": "ngo", "recorded": "yes", "signed": "voluntarily"}],
    "relations": ["exposed_survivor"],
    "when": {"precision": "day", "date": "2099-01-01", "words": "بعد صلاة الفجر"},
    "where": {"words": "SY99", "pcode": "SY99", "latitude": "0.5", "longitude": "-0.25"},
    "observations": [{"what": "loud_explosion", "basis": "heard"}],
    "munitions": [{"kind": "unknown", "photographed": "no"}],
    "symptoms": [{"what": "pinpoint_pupils", "whose": "others", "onset": "immediate"}],
    "persons": [{"count": 3, "status": "injured", "age": "under_12"}],
    "documents": [{"kind": "photo", "object": 1, "made_by": "self", "copy": "original"}],
    "doubts": [{"kind": "unsure", "words": "الوقت"}],
    "minor": {
        "age": "16_to_17",
        "guardian": "parent",
        "guardian_consents": "yes",
        "assents": "yes",
    },
    "risk": {"level": "high", "devices": ["searched"], "referrals": ["medical"]},
    "interview": {"mode": "alone", "read_back": "no"},
}


def test_a_whole_account_goes_there_and_back() -> None:
    assert parse_account(account_bytes(WHOLE)) == WHOLE


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=200))
def test_the_witness_own_words_are_kept_as_they_are(text: str) -> None:
    fields = text_account(text=text, language="apc")
    assert parse_account(account_bytes(fields))["text"] == text


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"name": "canary"}, "name"),
        ({"v": 2}, "v"),
        ({"language": "Arabic!"}, "language"),
        ({"text": 5}, "text"),
        ({"text": "a\0b"}, "text"),
        ({"text": "x" * (TEXT_LIMIT + 1)}, "text"),
        ({"persons": [{"count": 1, "name": "canary"}]}, "persons.0.name"),
        ({"persons": [{"count": True}]}, "persons.0.count"),
        ({"persons": [{"count": -1}]}, "persons.0.count"),
        ({"observations": [{"what": "sarin"}]}, "observations.0.what"),
        ({"relations": ["exposed_survivor"] * 2}, "relations"),
        ({"when": {"date": "yesterday"}}, "when.date"),
        ({"where": {"latitude": 33.5}}, "where.latitude"),
        ({"other_witnesses": [{"who": "canary"}]}, "other_witnesses.0.who"),
        ({"doubts": [{}] * 65}, "doubts"),
        ({"when": {"precision": "day", "date": "2013-02-30"}}, "when.date"),
        ({"when": {"precision": "month", "date": "2013-02-01"}}, "when.date"),
        ({"when": {"precision": "year", "date": "2013", "season": "winter"}}, "when.precision"),
        ({"when": {"precision": "hours", "date": "2013-02-01"}}, "when.precision"),
        ({"where": {"pcode": "SY77"}}, "where.pcode"),
        ({"where": {"pcode": "SY0388"}}, "where.pcode"),
        ({"where": {"latitude": "90.1"}}, "where.latitude"),
        ({"where": {"longitude": "181"}}, "where.longitude"),
        ({"minor": {"age": "under_12", "guardian": "parent"}}, "minor."),
        ({"minor": WHOLE["minor"] | {"age": "18_to_59"}}, "minor.age"),
    ],
)
def test_what_has_no_place_is_refused_and_not_repeated(change: dict[str, Any], place: str) -> None:
    with pytest.raises(ProtocolError) as refused:
        account_bytes(WHOLE | change)
    assert refused.value.slug in {"account-invalid", "not-canonical"}
    assert "canary" not in str(refused.value)
    if refused.value.slug == "account-invalid":
        assert place in str(refused.value)


def test_every_part_but_language_and_text_is_optional() -> None:
    for missing in ("language", "text"):
        with pytest.raises(ProtocolError):
            account_bytes({k: v for k, v in WHOLE.items() if k != missing})
    for name in WHOLE.keys() - {"v", "language", "text"}:
        account_bytes({k: v for k, v in WHOLE.items() if k != name})


def test_an_account_that_is_not_canonical_is_refused() -> None:
    with pytest.raises(ProtocolError):
        parse_account(canonical(WHOLE) + b"\n")


def test_the_vocabularies_have_arabic_and_english_and_no_key_twice() -> None:
    for name in ("observations", "symptoms", "relation", "basis", "precision", "delivery"):
        terms = vocabulary(name)
        keys = [(term.get("group"), term["key"]) for term in terms]
        assert len(set(keys)) == len(keys) > 0
        assert all(term["en"] and term["ar"] for term in terms)


def test_no_agent_is_offered_to_a_witness() -> None:
    agents = {term["key"] for term in vocabulary("agents")} - {"other", "unknown", "mixed"}
    assert not agents & {term["key"] for term in vocabulary("observations")}


@pytest.mark.parametrize(
    "when",
    [
        {"precision": "exact", "date": "2013-08-21", "time_from": "02:30"},
        {"precision": "hours", "date": "2013-08-21", "time_from": "23:00", "time_to": "02:00"},
        {"precision": "month", "date": "2013-08"},
        {"precision": "season", "date": "2013", "season": "summer"},
        {"precision": "year", "date": "2013"},
        {"precision": "unknown", "words": "قبل العيد"},
        {"words": "بعد صلاة الفجر"},
    ],
)
def test_a_moment_is_taken_as_precisely_as_it_is_remembered(when: dict[str, Any]) -> None:
    fields = WHOLE | {"when": when}
    assert parse_account(account_bytes(fields)) == fields
