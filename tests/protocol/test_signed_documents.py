"""Grants, manifests, actions and receipts: each opens or verifies with its own key and nothing else."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from amana.protocol.action import body_sha256, parse_action, sign_action
from amana.protocol.case import GrantMismatch, case_id, open_grant, seal_grant
from amana.protocol.encoding import b64, canonical, parse_canonical, random_id
from amana.protocol.errors import BadSignature, CannotOpen, ProtocolError
from amana.protocol.manifest import LIMIT_BYTES, TAG, parse_manifest
from amana.protocol.receipt import leaf, sign_receipt, verify_receipt
from amana.protocol.sealing import Identity, Kind, open_sealed, seal
from amana.protocol.signing import SigningKey
from amana.protocol.submission import Limits, check_submission
from amana.protocol.vault import vault_key_id
from tests.support.testimonies import Made, make_testimony

READER = Identity.generate()
MADE = make_testimony({random_id(): READER.recipient}, files=[b"file"])


def manifest_of(made: Made) -> bytes:
    return open_sealed(made.submission.manifest, made.case_key, Kind.MANIFEST)


def test_a_grant_gives_the_case_key_to_its_reader_only() -> None:
    assert open_grant(MADE.submission.grants, READER, MADE.case).seed == MADE.case_key.seed
    with pytest.raises(CannotOpen):
        open_grant(MADE.submission.grants, Identity.generate(), MADE.case)


def test_a_grant_for_another_case_is_caught() -> None:
    other = seal_grant(Identity.generate(), READER.recipient)
    with pytest.raises(GrantMismatch):
        open_grant(other, READER, MADE.case)


@pytest.mark.parametrize(
    "text",
    [
        "amana-grant-v1\n{case}\n{other}\n",
        "amana-grant-v2\n{case}\n{key}\n",
        "amana-grant-v1\n{case}\n{key}\nmore",
        "amana-grant-v1\n{case}\n",
        "",
    ],
)
def test_a_grant_whose_key_is_not_the_case_is_caught(text: str) -> None:
    case = case_id(MADE.case_key.recipient)
    inside = text.format(case=case, key=MADE.case_key, other=Identity.generate())
    with pytest.raises(CannotOpen):
        open_grant(seal(inside.encode(), READER.recipient, Kind.GRANT), READER, case)


def test_a_manifest_is_read_as_it_was_made() -> None:
    manifest = parse_manifest(manifest_of(MADE))
    assert manifest.case == MADE.case
    assert [item.kind for item in manifest.objects] == ["account", "file"]
    assert manifest.thread == MADE.thread.public


@pytest.mark.parametrize(
    "changes",
    [
        {"v": 2},
        {"extra": 1},
        {"objects": []},
        {"case": "x"},
        {"vault": {}},
        {"reply": "age1pq1short"},
        {"salt": b64(b"short")},
    ],
)
def test_a_manifest_with_other_fields_is_refused(changes: dict[str, Any]) -> None:
    fields = parse_canonical(manifest_of(MADE), limit=LIMIT_BYTES) | changes
    fields.pop("sig")
    with pytest.raises(ProtocolError) as refused:
        parse_manifest(canonical(MADE.thread.sign_fields(TAG, fields)))
    assert refused.value.slug == "manifest-invalid"


def test_objects_must_be_numbered_from_the_account_on() -> None:
    fields = parse_canonical(manifest_of(MADE), limit=LIMIT_BYTES)
    fields.pop("sig")
    fields["objects"].reverse()
    with pytest.raises(ProtocolError):
        parse_manifest(canonical(MADE.thread.sign_fields(TAG, fields)))


VAULTED = make_testimony(
    files=(b"a photo", b"a voice"),
    custodians={random_id(): Identity.generate().recipient for _ in range(3)},
    identity=b"who I am",
    originals=(b"a photo as it was",),
)


def test_a_manifest_lists_what_lies_in_the_vault() -> None:
    manifest = parse_manifest(manifest_of(VAULTED))
    kinds = [item.kind for item in manifest.objects]
    assert kinds == ["account", "file", "file", "identity", "original"]
    assert [item.in_vault for item in manifest.objects] == [False] * 3 + [True] * 2
    assert [one.vault for one in manifest.vaults] == ["identity", "originals"]
    identity = manifest.vault("identity")
    assert identity is not None
    assert identity.key == vault_key_id(VAULTED.vault_keys["identity"].recipient)
    assert identity.objects == (3,)
    assert parse_manifest(manifest_of(MADE)).vaults == ()


def spoiled(change: Callable[[dict[str, Any]], object]) -> bytes:
    fields = parse_canonical(manifest_of(VAULTED), limit=LIMIT_BYTES)
    fields.pop("sig")
    change(fields)
    return canonical(VAULTED.thread.sign_fields(TAG, fields))


@pytest.mark.parametrize(
    "change",
    [
        lambda f: f.update(vault=None),
        lambda f: f.update(vault=[]),
        lambda f: f["vault"].pop(),
        lambda f: f["vault"][0]["objects"].append(4),
        lambda f: f["vault"][0].update(objects=[2]),
        lambda f: f["vault"][0]["sha256"].pop(),
        lambda f: f["vault"][0].update(k=1),
        lambda f: f["vault"][0].update(key="x"),
        lambda f: f["objects"][3].update(kind="file"),
        lambda f: f["objects"][4].update(kind="identity"),
        lambda f: f["objects"][4].update(sha256="a" * 64),
        lambda f: f["objects"][3].update(derived_from="a" * 64),
        lambda f: f["objects"][4].update(cleaned=True),
        lambda f: f["objects"][1].update(derived_from=None),
    ],
)
def test_a_vault_that_does_not_fit_its_objects_is_refused(
    change: Callable[[dict[str, Any]], object],
) -> None:
    parse_manifest(spoiled(lambda _: None))
    with pytest.raises(ProtocolError) as refused:
        parse_manifest(spoiled(change))
    assert refused.value.slug == "manifest-invalid"


def test_a_manifest_signed_by_another_thread_is_refused() -> None:
    fields = parse_canonical(manifest_of(MADE), limit=LIMIT_BYTES)
    fields.pop("sig")
    with pytest.raises(BadSignature):
        parse_manifest(canonical(SigningKey.generate().sign_fields(TAG, fields)))


def signed_opening(key: SigningKey, **changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "deployment": "amana-test",
        "directory": 1,
        "action": "open",
        "case": MADE.case,
        "actor": random_id(),
        "body": {},
        "made_at": datetime(2026, 11, 23, 12, tzinfo=UTC),
    }
    return sign_action(key, **(fields | changes))


def test_an_action_verifies_with_its_actors_key_only() -> None:
    key = SigningKey.generate()
    action = parse_action(signed_opening(key))
    action.verify(key.public)
    assert action.made_at == datetime(2026, 11, 23, 12, tzinfo=UTC)
    assert action.body_sha256 == body_sha256({})
    with pytest.raises(BadSignature):
        action.verify(SigningKey.generate().public)


@pytest.mark.parametrize(
    "changes",
    [{"action": "rewrite"}, {"made_at": "now"}, {"made_at": "2026-13-01T00:00:00Z"}, {"more": 1}],
)
def test_an_action_in_another_form_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError) as refused:
        parse_action(signed_opening(SigningKey.generate()) | changes)
    assert refused.value.slug == "action-invalid"


def test_a_changed_action_does_not_verify() -> None:
    key = SigningKey.generate()
    changed = signed_opening(key) | {"case": random_id()}
    with pytest.raises(BadSignature):
        parse_action(changed).verify(key.public)


CUSTODY = SigningKey.generate()
EVENT = check_submission(MADE.submission, Limits()).event("2026-11-23")


def test_a_receipt_commits_to_everything_that_was_sent() -> None:
    receipt = verify_receipt(sign_receipt(CUSTODY, EVENT, bytes(32)), CUSTODY.public)
    assert receipt.event == EVENT
    assert receipt.leaf == leaf(canonical(EVENT), bytes(32))
    for name in ("policy", "manifest", "account", "objects", "grants", "labels"):
        made = make_testimony({random_id(): READER.recipient}, files=[b"file"])
        parts = replace(MADE.submission, **{name: getattr(made.submission, name)})
        assert check_submission(parts, Limits()).event("2026-11-23") != EVENT


def test_a_receipt_by_another_key_or_with_another_event_is_refused() -> None:
    signed = sign_receipt(CUSTODY, EVENT, bytes(32))
    with pytest.raises(BadSignature):
        verify_receipt(signed, SigningKey.generate().public)
    with pytest.raises(BadSignature):
        verify_receipt(signed | {"received_on": "2026-11-24"}, CUSTODY.public)
    inconsistent = CUSTODY.sign_fields(
        "amana-receipt-v1",
        {k: v for k, v in signed.items() if k != "sig"} | {"case": random_id()},
    )
    with pytest.raises(BadSignature):
        verify_receipt(inconsistent, CUSTODY.public)
