"""Values have one spelling; everything else is refused."""

import json

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from amana.protocol.encoding import (
    BadEncoding,
    NotCanonical,
    b64,
    canonical,
    check_id,
    parse_canonical,
    parse_day,
    random_id,
    tagged_sha256,
    unb64,
)

ascii_keys = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=8)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ascii_keys, inner, max_size=4),
    max_leaves=12,
)


@given(values)
def test_a_canonical_value_survives_the_way_there_and_back(value: object) -> None:
    assert parse_canonical(canonical(value), limit=10**6) == value


@given(st.binary(max_size=200))
def test_whatever_is_parsed_is_its_own_only_spelling(data: bytes) -> None:
    try:
        value = parse_canonical(data, limit=200)
    except NotCanonical:
        return
    assert canonical(value) == data


@pytest.mark.parametrize(
    "text",
    [
        '{"a":1,"a":1}',
        '{"b":1,"a":1}',
        '{"a": 1}',
        '{"a":1.0}',
        '{"a":1e2}',
        '{"a":9007199254740992}',
        '{"ا":1}',
        '{"a":NaN}',
        '"\\u0061"',
        "﻿1",
        "",
        "[" * 20 + "]" * 20,
        '"\\ud800"',
    ],
)
def test_a_second_spelling_is_refused(text: str) -> None:
    with pytest.raises(NotCanonical):
        parse_canonical(text.encode("utf-8", "surrogatepass"), limit=1000)


def test_more_than_the_limit_is_refused_before_it_is_parsed() -> None:
    data = json.dumps("x" * 100).encode()
    assert parse_canonical(data, limit=len(data))
    with pytest.raises(NotCanonical) as refused:
        parse_canonical(data, limit=len(data) - 1)
    assert refused.value.slug == "too-large"


@given(st.binary(max_size=64))
def test_base64_goes_back_to_its_bytes(data: bytes) -> None:
    assert unb64(b64(data), len(data)) == data


@pytest.mark.parametrize("text", ["YQ", "YR==", "YQ==\n", " YQ==", "YQ=", "Y-==", "ي", None, 5])
def test_base64_in_another_spelling_is_refused(text: object) -> None:
    with pytest.raises(BadEncoding):
        unb64(text)


@pytest.mark.parametrize("text", ["2026-1-2", "2026-02-30", "20260102", "2026-01-02T00:00", "", 5])
def test_a_day_in_another_spelling_is_refused(text: object) -> None:
    with pytest.raises(BadEncoding):
        parse_day(text)


def test_ids_are_what_check_id_takes_and_are_never_the_same() -> None:
    made = {random_id() for _ in range(100)}
    assert len(made) == 100
    assert all(check_id(one) == one for one in made)
    for bad in ("A" * 32, "a" * 31, "a" * 31 + "1", "a" * 33, None):
        with pytest.raises(BadEncoding):
            check_id(bad)


def test_a_tag_separates_what_would_hash_the_same() -> None:
    assert tagged_sha256("amana-a", b"bc") != tagged_sha256("amana-ab", b"c")


@given(values)
def test_the_canonical_form_is_that_of_an_independent_implementation(value: object) -> None:
    assert canonical(value) == rfc8785.dumps(value)  # type: ignore[arg-type]
