"""The committed vectors still hold: whoever built another implementation from them is not left behind."""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from amana.protocol.account import parse_account
from amana.protocol.action import parse_action
from amana.protocol.admission import Notice, total_price, work
from amana.protocol.case import case_id, intake_key_id
from amana.protocol.codename import Codename, thread_keys
from amana.protocol.custody import commitment_to
from amana.protocol.drop import shard_of
from amana.protocol.encoding import sha256_hex, unb64
from amana.protocol.manifest import parse_manifest
from amana.protocol.policy import parse_policy
from amana.protocol.receipt import verify_receipt
from amana.protocol.reply import parse_reply
from amana.protocol.sealing import Identity
from amana.protocol.signing import SigningKey
from amana.protocol.submission import Submission
from scripts.make_vectors_formats import TARGET, text

VECTORS: dict[str, Any] = json.loads(Path(TARGET).read_text("utf-8"))


def test_the_same_inputs_still_make_the_same_bytes() -> None:
    assert Path(TARGET).read_text("utf-8") == text()


def test_case_and_grant() -> None:
    given = VECTORS["case"]
    identity = Identity.from_seed(unb64(given["identity_seed"], 32))
    assert sha256_hex(identity.recipient.raw) == given["recipient_sha256"]
    assert case_id(identity.recipient) == given["case"]
    grant = VECTORS["grant"]
    assert grant["text"].split("\n")[1:3] == [given["case"], str(identity)]
    reader = Identity.from_seed(unb64(grant["reader_seed"], 32))
    assert intake_key_id(reader.recipient) == grant["intake_key"]


def test_account_policy_and_manifest() -> None:
    parse_account(VECTORS["account"]["bytes"].encode())
    policy = parse_policy(VECTORS["policy"]["bytes"].encode())
    assert policy.sha256 == VECTORS["policy"]["sha256"]
    assert policy.control == SigningKey(unb64(VECTORS["policy"]["control_seed"], 32)).public
    manifest = parse_manifest(VECTORS["manifest"]["bytes"].encode())
    assert manifest.policy_sha256 == policy.sha256
    assert manifest.case == VECTORS["case"]["case"]


def test_submission_and_admission() -> None:
    parts = {name: unb64(part) for name, part in VECTORS["submission"]["parts"].items()}
    digest = Submission(**parts).digest()
    assert digest.hex() == VECTORS["submission"]["digest"] == VECTORS["admission"]["digest"]
    given = VECTORS["admission"]
    notice = Notice.parse(given["notice"])
    assert (
        work(notice.seed, digest, unb64(given["nonce"], 16)) == given["zero_bits"] >= notice.price
    )
    for size, price in given["total_price"].items():
        assert total_price(notice.price, int(size)) == price


def test_action_and_receipt() -> None:
    action = VECTORS["action"]
    parse_action(action["document"]).verify(SigningKey(unb64(action["signing_seed"], 32)).public)
    given = VECTORS["receipt"]
    custody = SigningKey(unb64(given["custody_seed"], 32)).public
    assert verify_receipt(given["document"], custody).leaf.hex() == given["leaf"]


def test_what_stands_for_the_events_of_a_case_by_hand() -> None:
    given = VECTORS["leaves"]
    leaves = [bytes.fromhex(one) for one in given["leaves"]]
    digest = hashlib.sha256(b"amana-case-leaves-v1\0" + b"".join(leaves)).hexdigest()
    assert given["commitment"] == {"events": 3, "sha256": digest} == commitment_to(leaves)


@pytest.mark.parametrize("form", ["words", "words_ar", "digits"])
def test_codename(form: str) -> None:
    given = VECTORS["codename"]
    codename = Codename.parse(given[form])
    assert str(codename.value) == given["value"]
    assert codename.master(given["deployment"]).hex() == given["master"]
    keys = thread_keys(codename.master(given["deployment"]))
    assert keys.thread.public == given["thread"]
    assert sha256_hex(keys.reply.recipient.raw) == given["reply_recipient_sha256"]
    assert [keys.control(n).public for n in range(3)] == given["control"]


def test_reply_and_drop_by_hand() -> None:
    """Made again from nothing but SHA-256, Ed25519 and a JSON encoder."""
    given = VECTORS["reply"]
    reply = json.loads(given["bytes"])
    parse_reply(given["bytes"].encode())
    sig = base64.b64decode(reply.pop("sig"))
    reply["reply_sha256"] = given["recipient_sha256"]
    text = json.dumps(reply, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    signing = Ed25519PrivateKey.from_private_bytes(base64.b64decode(given["reader_seed"]))
    signing.public_key().verify(sig, b"amana-reply-v1\0" + text.encode())

    committed = b"amana-slots-v1\0" + base64.b64decode(given["salt"])
    committed += b"".join(map(bytes.fromhex, given["slots_sha256"]))
    assert hashlib.sha256(committed).hexdigest() == given["commitment"]

    codename = VECTORS["codename"]
    recipient = thread_keys(bytes.fromhex(codename["master"])).reply.recipient
    assert hashlib.sha256(recipient.raw).hexdigest() == given["recipient_sha256"]
    digest = hashlib.sha256(b"amana-shard-v1\0" + recipient.raw).digest()
    binary = f"{int.from_bytes(digest, 'big'):0256b}"
    for bits, shard in given["shards"].items():
        assert int(binary[: int(bits)] or "0", 2) == shard
        assert shard_of(recipient, int(bits)) == shard
