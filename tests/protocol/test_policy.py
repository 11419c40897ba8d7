"""The clear policy holds exactly the listed fields, and only its control key makes it."""

from typing import Any

import pytest

from amana.protocol.encoding import canonical, parse_canonical
from amana.protocol.errors import BadSignature, ProtocolError
from amana.protocol.policy import LIMIT_BYTES, TAG, parse_policy
from amana.protocol.signing import SigningKey
from tests.support.testimonies import make_policy

CONTROL = SigningKey.generate()


def resigned(**changes: Any) -> bytes:
    """A policy with other fields, under a signature that does hold."""
    fields = parse_canonical(make_policy(CONTROL), limit=LIMIT_BYTES)
    fields.pop("sig")
    for name, value in changes.items():
        if value is ...:
            fields.pop(name)
        else:
            fields[name] = value
    return canonical(CONTROL.sign_fields(TAG, fields))


def test_a_policy_is_read_as_it_was_made() -> None:
    policy = parse_policy(make_policy(CONTROL, flags=["urgent", "minor"], scopes={"iiim": "ask"}))
    assert policy.desk == "chemical"
    assert policy.flags == ("minor", "urgent")
    assert policy.scopes == {"iiim": "ask"}
    assert policy.control == CONTROL.public


CONSENT = {"text": "consent-1", "text_sha256": "0" * 64, "scopes": {}}


@pytest.mark.parametrize(
    "changes",
    [
        {"v": 2},
        {"v": True},
        {"v": "1"},
        {"note": "anything"},
        {"desk": "../desk"},
        {"desk": ...},
        {"language": "arabic language"},
        {"seq": -1},
        {"seq": 1},
        {"seq": "0"},
        {"prev_sha256": "0" * 64},
        {"flags": ["urgent", "minor"]},
        {"flags": ["urgent", "urgent"]},
        {"flags": ["famous"]},
        {"flags": "urgent"},
        {"identity_level": "named"},
        {"withdrawal_delay_days": 1},
        {"withdrawal_delay_days": False},
        {"made_on": "yesterday"},
        {"consent": {**CONSENT, "scopes": {"everything": "allow"}}},
        {"consent": {**CONSENT, "scopes": {"review": "yes"}}},
        {"consent": {**CONSENT, "scopes": {"national_court:germany": "allow"}}},
        {"consent": {**CONSENT, "witness": "name"}},
        {"consent": {**CONSENT, "text_sha256": "short"}},
    ],
)
def test_anything_but_the_listed_fields_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError) as refused:
        parse_policy(resigned(**changes))
    assert refused.value.slug == "policy-invalid"


def test_a_court_of_a_country_is_a_scope() -> None:
    consent = {**CONSENT, "scopes": {"national_court:DE": "allow"}}
    assert parse_policy(resigned(consent=consent)).scopes == {"national_court:DE": "allow"}


def test_another_key_cannot_make_it() -> None:
    fields = parse_canonical(make_policy(CONTROL), limit=LIMIT_BYTES)
    fields.pop("sig")
    with pytest.raises(BadSignature):
        parse_policy(canonical(SigningKey.generate().sign_fields(TAG, fields)))


def test_a_refusal_names_places_and_never_repeats_a_value() -> None:
    with pytest.raises(ProtocolError) as refused:
        parse_policy(resigned(desk="canary value", **{"canary name!": 1}))
    assert "desk" in str(refused.value)
    assert "canary" not in str(refused.value)
