"""Statements of a witness: signed by the control key, in their place, in their time."""

from datetime import date, timedelta
from typing import Any

import pytest

from amana.protocol.control import TAG, Head, parse_control, sign_control
from amana.protocol.encoding import b64
from amana.protocol.errors import BadSignature, ProtocolError
from amana.protocol.signing import SigningKey
from tests.support.testimonies import make_policy

KEY = SigningKey.generate()
TODAY = date(2026, 5, 1)
HEAD = Head(2, "a" * 64)


def made(kind: str, head: Head | None = None, policy: bytes | None = None) -> dict[str, Any]:
    return sign_control(KEY, deployment="demo", kind=kind, made_on=TODAY, head=head, policy=policy)


def test_a_statement_is_read_as_it_was_made() -> None:
    policy = make_policy(KEY)
    statement = parse_control(made("consent", HEAD, policy))
    assert (statement.kind, statement.seq, statement.prev_sha256) == ("consent", 3, "a" * 64)
    assert statement.policy_bytes == policy
    assert statement.follows(HEAD)
    assert not statement.follows(Head(3, "a" * 64))
    assert not statement.follows(Head(2, "b" * 64))
    assert parse_control(made("withdraw")).follows(HEAD)
    assert made("status")["nonce"] != made("status")["nonce"]


@pytest.mark.parametrize(
    ("kind", "age", "timely"),
    [
        ("status", 1, True), ("status", 2, False), ("status", -1, True), ("status", -2, False),
        ("withdraw", 40, True), ("withdraw", 41, False), ("withdraw", -2, False),
    ],
)  # fmt: skip
def test_a_status_is_of_today_and_a_change_may_have_waited(
    kind: str, age: int, timely: bool
) -> None:
    assert parse_control(made(kind)).is_timely(TODAY + timedelta(days=age)) == timely


FOREIGN = SigningKey.generate()


@pytest.mark.parametrize(
    ("kind", "head", "changes"),
    [
        ("status", None, {"seq": 1, "prev_sha256": "a" * 64}),
        ("status", None, {"prev_sha256": "a" * 64}),
        ("take-back", HEAD, {"seq": 0, "prev_sha256": None}),
        ("withdraw", HEAD, {"seq": 0}),
        ("withdraw", HEAD, {"prev_sha256": None}),
        ("withdraw", HEAD, {"policy": b64(make_policy(KEY))}),
        ("withdraw", HEAD, {"kind": "erase"}),
        ("withdraw", HEAD, {"kind": "consent"}),
        ("withdraw", HEAD, {"nonce": "1"}),
        ("withdraw", HEAD, {"more": 1}),
        ("withdraw", HEAD, {"v": 2}),
        ("consent", HEAD, {"policy": b64(make_policy(FOREIGN))}),
        ("consent", HEAD, {"policy": b64(b"{}")}),
        ("consent", HEAD, {"policy": b64(b" " * 20_000)}),
    ],
)
def test_other_forms_are_refused_also_with_a_good_signature(
    kind: str, head: Head | None, changes: dict[str, Any]
) -> None:
    fields = made(kind, head, make_policy(KEY) if kind == "consent" else None)
    del fields["sig"]
    with pytest.raises(ProtocolError):
        parse_control(KEY.sign_fields(TAG, fields | changes))


def test_a_statement_by_another_key_or_under_another_tag_is_refused() -> None:
    signed = made("withdraw", HEAD)
    fields = {name: value for name, value in signed.items() if name != "sig"}
    for wrong in (
        {**signed, "kind": "take-back"},
        {**signed, "control": FOREIGN.public},
        FOREIGN.sign_fields(TAG, fields),
        KEY.sign_fields("amana-policy-v1", fields),
    ):
        with pytest.raises(BadSignature):
            parse_control(wrong)
