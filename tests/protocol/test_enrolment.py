"""An enrolment brings what its role needs, and is signed by the keys that it brings; its owner's signature mends nothing."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amana.client.keyfile import PersonKeys, intake_key_fields
from amana.protocol.encoding import canonical, random_id
from amana.protocol.enrolment import (
    LIMIT_BYTES,
    READERS,
    ROLES,
    TAG,
    WITH_INTAKE_KEY,
    EnrolmentRefused,
    make_enrolment,
    parse_enrolment,
)
from amana.protocol.sealing import Identity

KEYS = PersonKeys.generate("reviewer")
NO_KEY = {"intake_key": None, "intake_key_sig": None}


def made(role: str = "reviewer") -> dict[str, Any]:
    return make_enrolment(
        KEYS.signing,
        deployment="amana-test",
        token="a" * 32,
        role=role,
        desks=["chemical"] if role in READERS else [],
        person=KEYS.id,
        intake=intake_key_fields(KEYS) if role in WITH_INTAKE_KEY else None,
        made_on="2026-11-24",
    )


def signed_anew(document: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Change an enrolment as its owner could: with a right signature over the change."""
    fields = {name: value for name, value in {**document, **changes}.items() if name != "sig"}
    return KEYS.signing.sign_fields(TAG, fields)


@pytest.mark.parametrize("role", ROLES)
def test_an_enrolment_says_what_was_signed(role: str) -> None:
    document = made(role)
    parsed = parse_enrolment(document)
    assert (parsed.id, parsed.role, parsed.signing_key) == (KEYS.id, role, KEYS.signing.public)
    assert (parsed.intake_key is not None) == (role in WITH_INTAKE_KEY)
    assert parsed.desks == (("chemical",) if role in READERS else ())
    assert parse_enrolment(signed_anew(document)) == parsed


@pytest.mark.parametrize(
    ("role", "changes"),
    [
        ("reviewer", NO_KEY),
        ("custodian", NO_KEY),
        ("auditor", intake_key_fields(KEYS)),
        ("administrator", intake_key_fields(KEYS)),
        ("administrator", {"desks": ["chemical"]}),
        ("custodian", {"desks": ["chemical"]}),
        ("reviewer", {"desks": []}),
        ("lead", {"desks": ["general", "chemical"]}),
        ("lead", {"desks": ["chemical", "chemical"]}),
        ("lead", {"desks": ["Chemical"]}),
        ("lead", {"desks": [f"d{n:02}" for n in range(65)]}),
        ("reviewer", {"intake_key_sig": None}),
        ("reviewer", {"intake_key": None}),
        ("reviewer", {"intake_key": "age1pq1x"}),
        ("reviewer", {"intake_key": str(Identity.generate().recipient)}),
        ("reviewer", intake_key_fields(PersonKeys.generate("reviewer"))),
        ("reviewer", {"id": random_id()}),
        ("reviewer", {"id": "x"}),
        ("reviewer", {"role": "officer"}),
        ("reviewer", {"invitation": "a" * 32}),
        ("reviewer", {"made_on": "2026-11-31"}),
        ("reviewer", {"v": 2}),
        ("reviewer", {"v": True}),
        ("reviewer", {"deployment": "x" * LIMIT_BYTES}),
        ("reviewer", {"more": 1}),
    ],
)
def test_what_its_owner_signed_and_must_not_bring_is_refused(
    role: str, changes: dict[str, Any]
) -> None:
    with pytest.raises(EnrolmentRefused):
        parse_enrolment(signed_anew(made(role), **changes))


@pytest.mark.parametrize("name", sorted(made()))
def test_nothing_can_be_left_out_or_changed(name: str) -> None:
    document = made()
    less = {key: value for key, value in document.items() if key != name}
    other = {**document, name: made("lead")[name] if name == "role" else "x"}
    for wrong in (less, other):
        with pytest.raises(EnrolmentRefused):
            parse_enrolment(wrong)


def test_another_signature_of_the_same_person_is_refused() -> None:
    with pytest.raises(EnrolmentRefused):
        parse_enrolment({**made(), "sig": made("lead")["sig"]})


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
def test_rubbish_is_refused(rubbish: object) -> None:
    for document in (rubbish, {**made(), "desks": rubbish}, {**made(), "sig": rubbish}):
        with pytest.raises(EnrolmentRefused):
            parse_enrolment(document)


def test_the_largest_enrolment_is_within_its_limit() -> None:
    desks = [f"{n:032}" for n in range(64)]
    largest = signed_anew(made(), desks=desks, deployment="ä" * 64)
    assert len(canonical(largest)) <= LIMIT_BYTES
    assert parse_enrolment(largest).desks == tuple(desks)
