"""Who the witness is: strict, with a salt, and as long as anybody else's."""

from typing import Any

import pytest

from amana.protocol.encoding import canonical, parse_canonical, sha256_hex
from amana.protocol.errors import ProtocolError
from amana.protocol.identity import (
    LIMIT_BYTES,
    SEALED_LIMIT_BYTES,
    STEP_BYTES,
    identity_document,
    parse_identity,
)

WHOLE: dict[str, Any] = {
    "name": "[SYNTHETIC] سناء التجريبية",
    "fathers_name": "x",
    "mothers_name": "x",
    "known_as": "Umm X",
    "born_on": "1985-03",
    "born_in": "x",
    "country": "DE",
    "contacts": [
        {
            "channel": "signal",
            "address": "+49 000",
            "safe_hours": "after nine",
            "safe_words": "how is the garden",
            "read_by_others": "my brother",
        }
    ],
    "papers": [{"kind": "passport", "number": "N 0", "issued_by": "x"}],
    "relatives": [
        {"name": "x", "relation": "sister", "whereabouts": "x", "at_risk": "yes", "words": "x"}
    ],
    "persons": [{"name": "x", "role": "nurse", "contact": "x", "agrees": "unknown", "words": "x"}],
    "words": "Call before you come.",
}


def test_what_a_person_says_is_read_as_it_was_written() -> None:
    for fields in (WHOLE, *({name: value} for name, value in WHOLE.items())):
        document = identity_document(fields)
        assert len(document) % STEP_BYTES == 0
        assert len(document) <= SEALED_LIMIT_BYTES
        assert parse_identity(document) == fields


def test_neither_hash_nor_length_confirms_a_guess() -> None:
    one, other = identity_document({"name": "x"}), identity_document({"name": "x"})
    assert sha256_hex(one) != sha256_hex(other)
    assert len(one) == len(identity_document(WHOLE))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        [],
        None,
        {"name": ""},
        {"name": "  "},
        {"name": None},
        {"name": 1},
        {"name": "a\0b"},
        {"name": "x" * 201},
        {"surname": "x"},
        {"born_on": "1985-13"},
        {"born_on": "1985-02-30"},
        {"born_on": "yesterday"},
        {"country": "de"},
        {"contacts": []},
        {"contacts": [{"channel": "signal"}]},
        {"contacts": [{"channel": "pigeon", "address": "x"}]},
        {"contacts": [{"channel": "phone", "address": "x"}] * 17},
        {"relatives": [{"relation": "sister"}]},
        {"relatives": [{"name": "x", "at_risk": "perhaps"}]},
        {"persons": [{"name": "x", "extra": 1}]},
        {"persons": [{"name": "x", "words": "ش" * 2000}] * 12},
        {"v": 1, "name": "x"},
        {"salt": "x", "name": "x"},
        {"zeros": "0", "name": "x"},
        {"words": "x" * 4001},
    ],
)
def test_an_identity_out_of_its_form_is_refused(fields: Any) -> None:
    with pytest.raises(ProtocolError) as refused:
        identity_document(fields)
    assert refused.value.slug == "identity-invalid"
    assert "sister" not in refused.value.title


def test_the_largest_fits_its_limit() -> None:
    fields = {"persons": [{"name": "x", "words": "x" * 1900}] * 16}
    assert LIMIT_BYTES - 2500 < len(canonical(fields)) <= LIMIT_BYTES
    assert len(identity_document(fields)) <= SEALED_LIMIT_BYTES


@pytest.mark.parametrize(
    "changes", [{"v": 2}, {"salt": "AA=="}, {"zeros": "1"}, {"zeros": ""}, {"name": None}, {"x": 1}]
)
def test_what_was_sealed_otherwise_is_refused(changes: dict[str, Any]) -> None:
    fields = parse_canonical(identity_document({"name": "x"}), limit=SEALED_LIMIT_BYTES)
    with pytest.raises(ProtocolError):
        parse_identity(canonical(fields | changes))
    with pytest.raises(ProtocolError):
        parse_identity(b"x" * (SEALED_LIMIT_BYTES + 1))
    silent = {k: v for k, v in fields.items() if k != "name"}
    silent["zeros"] += "0" * len(',"name":"x"')
    with pytest.raises(ProtocolError):
        parse_identity(canonical(silent))
