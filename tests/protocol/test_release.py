"""A request for a release: its form, what consent it needs, and a reason that every custodian reads alike."""

from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amana.protocol.consent import Entry
from amana.protocol.encoding import b64, canonical, random_id
from amana.protocol.errors import ProtocolError
from amana.protocol.policy import IDENTITY_LEVELS, SCOPES, parse_policy
from amana.protocol.release import (
    REASON_LIMIT,
    Request,
    SealedReason,
    least_level,
    may_release,
    open_reason,
    parse_request,
    reason_document,
    reason_sha256,
    seal_reason,
)
from amana.protocol.sealing import Identity, Kind, seal
from amana.protocol.signing import SigningKey
from tests.support.testimonies import make_policy

CASE, REQUEST = random_id(), random_id()
CUSTODIAN = Identity.generate()
DAY = date(2026, 11, 24)
WORDS = "The court asks for the witness. تطلب المحكمة الشاهد."
DOCUMENT = reason_document(WORDS, case=CASE, request=REQUEST)
SEALED = seal_reason(DOCUMENT, CUSTODIAN.recipient)


def request(**changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "request": REQUEST,
        "vault": "identity",
        "purpose": "icc",
        "to": None,
        "days": 7,
        "intake_key": random_id(),
        "reason_sha256": reason_sha256(DOCUMENT),
        "reasons": (SealedReason("a" * 32, "b" * 32, SEALED),),
    }
    return Request(**fields).body() | changes


def test_a_request_is_read_as_it_was_signed() -> None:
    body = request()
    assert parse_request(body).body() == body
    assert len(SEALED) == 5755


@pytest.mark.parametrize(
    "changes",
    [
        {"request": "x"},
        {"vault": "both"},
        {"purpose": "curiosity"},
        {"purpose": "national_court:xx"},
        {"days": 0},
        {"days": 31},
        {"days": True},
        {"days": "7"},
        {"intake_key": "x"},
        {"reason_sha256": "x"},
        {"reasons": []},
        {"reasons": [{}]},
        {"reasons": request()["reasons"] * 2},
        {"reasons": request()["reasons"] * 6},
        {"reasons": [{**request()["reasons"][0], "sealed": b64(b"plain")}]},
        {"reasons": [{**request()["reasons"][0], "more": 1}]},
        {"more": 1},
    ],
)
def test_a_request_out_of_its_form_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError):
        parse_request(request(**changes))
    with pytest.raises(ProtocolError):
        parse_request({name: value for name, value in request().items() if name != "days"})


def chain(scopes: dict[str, str], level: str) -> list[Entry]:
    key = SigningKey.generate()
    return [Entry(parse_policy(make_policy(key, scopes=scopes, identity_level=level)), DAY)]


@pytest.mark.parametrize(
    ("purpose", "level"),
    [
        ("contact", "pseudonym"),
        ("review", "pseudonym"),
        ("icc", "prosecutors"),
        ("expert", "prosecutors"),
        ("national_court:DE", "prosecutors"),
        ("publication", "public"),
        ("media_voice", "public"),
    ],
)
def test_consent_must_cover_purpose_and_identity(purpose: str, level: str) -> None:
    place = IDENTITY_LEVELS.index(level)
    for wide in IDENTITY_LEVELS:
        covered = may_release(chain({purpose: "allow"}, wide), purpose, DAY)
        assert covered.allowed == (IDENTITY_LEVELS.index(wide) >= place)
        assert covered.allowed or covered.reason == "identity-denied"
    assert may_release(chain({purpose: "ask"}, "public"), purpose, DAY).reason == "consent-asks"
    assert may_release(chain({}, "public"), purpose, DAY).reason == "consent-denies"


@given(st.sampled_from(sorted(SCOPES)))
def test_nothing_is_released_of_who_wants_to_be_anonymous(purpose: str) -> None:
    assert least_level(purpose) != "anonymous"
    allowing_all = dict.fromkeys(SCOPES, "allow")
    assert not may_release(chain(allowing_all, "anonymous"), purpose, DAY).allowed


@given(
    st.text(
        st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=600
    )
)
def test_a_reason_is_read_as_it_was_written(words: str) -> None:
    try:
        document = reason_document(words, case=CASE, request=REQUEST)
    except ProtocolError:
        assert not words.strip() or len(canonical(words)) > 3000
        return
    sealed = seal_reason(document, CUSTODIAN.recipient)
    assert len(sealed) == 5755
    read = open_reason(
        sealed, CUSTODIAN, case=CASE, request=REQUEST, sha256=reason_sha256(document)
    )
    assert read == words


def test_a_reason_is_for_one_request_and_the_same_for_everybody() -> None:
    labels = {"case": CASE, "request": REQUEST}
    assert open_reason(SEALED, CUSTODIAN, **labels) == WORDS
    for wrong in ({"case": random_id()}, {"request": random_id()}):
        with pytest.raises(ProtocolError) as refused:
            open_reason(SEALED, CUSTODIAN, **{**labels, **wrong})
        assert refused.value.slug == "reason-invalid"
    again = reason_document(WORDS, case=CASE, request=REQUEST)
    assert reason_sha256(again) != reason_sha256(DOCUMENT), "the hash confirms no guess"
    with pytest.raises(ProtocolError) as refused:
        open_reason(SEALED, CUSTODIAN, **labels, sha256=reason_sha256(again))
    assert refused.value.slug == "reason-differs"
    odd = seal(b"{}", CUSTODIAN.recipient, Kind.REASON)
    with pytest.raises(ProtocolError):
        open_reason(odd, CUSTODIAN, **labels)


@pytest.mark.parametrize("words", ["", "  \n", "\0", "x" * (REASON_LIMIT + 1), "𓂀" * REASON_LIMIT])
def test_a_reason_is_neither_empty_nor_too_long(words: str) -> None:
    with pytest.raises(ProtocolError) as refused:
        reason_document(words, case=CASE, request=REQUEST)
    assert refused.value.slug == "reason-invalid"
