# SPDX-License-Identifier: AGPL-3.0-or-later
"""Write tests/vectors/formats.json anew: `python -m scripts.make_vectors_formats`. All keys are fixed, so runs agree."""

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from amana.protocol import action as actions
from amana.protocol import reply as replies
from amana.protocol.account import account_bytes, text_account
from amana.protocol.admission import Notice, total_price, work
from amana.protocol.assertion import TYPE
from amana.protocol.case import case_id, intake_key_id
from amana.protocol.codename import Codename, thread_keys
from amana.protocol.custody import commitment_to
from amana.protocol.drop import shard_of
from amana.protocol.encoding import b64, canonical, sha256_hex
from amana.protocol.manifest import SealedObject, manifest_bytes
from amana.protocol.policy import first_policy, parse_policy
from amana.protocol.receipt import leaf, sign_receipt
from amana.protocol.sealing import Identity, Recipient
from amana.protocol.signing import SigningKey
from amana.protocol.submission import (
    DeclaredObject,
    Label,
    Submission,
    labels_bytes,
    objects_bytes,
)

TARGET = Path(__file__).parents[1] / "tests" / "vectors" / "formats.json"
DEPLOYMENT = "amana-vectors"
DAY = "2026-11-23"


def seed(name: str) -> bytes:
    """Return the 32 bytes of a fixed key: SHA-256 of its name."""
    return hashlib.sha256(f"amana-vectors {name}".encode()).digest()


def vectors() -> dict[str, Any]:
    """Return one vector for each format, with every input."""
    case_key, reader = Identity.from_seed(seed("case")), Identity.from_seed(seed("reader"))
    control, thread, custody = (SigningKey(seed(name)) for name in ("control", "thread", "custody"))
    case = case_id(case_key.recipient)
    account = account_bytes(text_account(text="[SYNTHETIC] شهادة", language="ar"))
    policy = first_policy(
        control,
        deployment=DEPLOYMENT,
        desk="chemical",
        language="ar",
        consent_text="consent-1.ar",
        consent_text_sha256=sha256_hex(b"consent"),
        scopes={"review": "allow", "iiim": "ask"},
        identity_level="anonymous",
        flags=["urgent"],
        withdrawal_delay_days=7,
        made_on=DAY,
    )
    policy_sha256 = parse_policy(policy).sha256
    manifest = manifest_bytes(
        thread,
        deployment=DEPLOYMENT,
        case=case,
        salt=seed("salt"),
        directory=1,
        policy_sha256=policy_sha256,
        objects=[
            SealedObject(
                0,
                "account",
                "account.json",
                "application/json",
                len(account),
                sha256_hex(account),
                sha256_hex(b"sealed"),
                None,
                cleaned=False,
            )
        ],
        reply=reader.recipient,
    )
    label = Label("a" * 32, intake_key_id(reader.recipient))
    submission = Submission(
        case=case.encode(),
        policy=policy,
        labels=labels_bytes([label]),
        grants=b"grants",
        manifest=b"manifest",
        account=b"",
        objects=objects_bytes([DeclaredObject(0, 67195, sha256_hex(b"sealed"))]),
        shares=b"[]",
    )
    notice = Notice(DAY, seed("admission"), 4)
    nonce = next(
        n for n in map(_nonce, range(1000)) if work(notice.seed, submission.digest(), n) >= 4
    )
    event = {
        "v": 1,
        "kind": "testimony-received",
        "deployment": DEPLOYMENT,
        "case": case,
        "received_on": DAY,
    }
    opening = {
        "v": 1, "deployment": DEPLOYMENT, "directory": 1, "action": "open", "case": case,
        "actor": "a" * 32, "body_sha256": actions.body_sha256({}), "made_at": _instant(), "nonce": "b" * 32,
    }  # fmt: skip
    codename = Codename(2**91 + 12345)
    keys = thread_keys(codename.master(DEPLOYMENT))
    return {
        "about": "One vector a format (docs/protocol.md). Seeds are Base64 of 32 bytes.",
        "account": {"bytes": account.decode()},
        "case": {
            "identity_seed": b64(seed("case")),
            "recipient_sha256": sha256_hex(case_key.recipient.raw),
            "case": case,
        },
        "grant": {
            "text": f"amana-grant-v1\n{case}\n{case_key}\n",
            "reader_seed": b64(seed("reader")),
            "intake_key": label.intake_key,
        },
        "policy": {
            "control_seed": b64(seed("control")),
            "bytes": policy.decode(),
            "sha256": policy_sha256,
        },
        "manifest": {"thread_seed": b64(seed("thread")), "bytes": manifest.decode()},
        "submission": {
            "parts": {
                name: b64(getattr(submission, name)) for name in Submission.__dataclass_fields__
            },
            "digest": submission.digest().hex(),
        },
        "admission": {
            "notice": notice.document(),
            "digest": submission.digest().hex(),
            "nonce": b64(nonce),
            "zero_bits": work(notice.seed, submission.digest(), nonce),
            "total_price": {
                str(size): total_price(4, size) for size in (0, 2**26, 2**26 + 1, 2**30, 2**34)
            },
        },
        "action": {
            "signing_seed": b64(seed("thread")),
            "document": thread.sign_fields(actions.TAG, opening),
        },
        "receipt": {
            "custody_seed": b64(seed("custody")),
            "document": sign_receipt(custody, event, seed("event")),
            "leaf": leaf(canonical(event), seed("event")).hex(),
        },
        "leaves": {
            "leaves": [seed(one).hex() for one in ("event", "thread", "custody")],
            "commitment": commitment_to([seed(one) for one in ("event", "thread", "custody")]),
        },
        "reply": _reply(thread, keys.reply.recipient, case),
        "assertion": {"typ": TYPE, "alg": "EdDSA"},
        "codename": {
            "value": str(codename.value),
            "words": codename.words("en"),
            "words_ar": codename.words("ar"),
            "digits": codename.digits(),
            "deployment": DEPLOYMENT,
            "master": codename.master(DEPLOYMENT).hex(),
            "thread": keys.thread.public,
            "reply_recipient_sha256": sha256_hex(keys.reply.recipient.raw),
            "control": [keys.control(n).public for n in range(3)],
        },
    }


def _reply(reader: SigningKey, recipient: Recipient, case: str) -> dict[str, Any]:
    """Return a signed reply, the shards of its recipient, and what an action commits to two slots by."""
    fields = {
        "v": 1, "deployment": DEPLOYMENT, "case": case, "actor": "a" * 32, "id": "c" * 32, "directory": 1,
        "n": 1, "of": 1, "text": "[SYNTHETIC] من كان هناك؟", "sent_on": DAY,
    }  # fmt: skip
    signed = canonical({**fields, "reply_sha256": sha256_hex(recipient.raw)})
    slots = [sha256_hex(seed(f"slot {n}")) for n in range(2)]
    return {
        "reader_seed": b64(seed("thread")),
        "recipient_sha256": sha256_hex(recipient.raw),
        "bytes": canonical({**fields, "sig": reader.sign(replies.TAG, signed)}).decode(),
        "shards": {str(bits): shard_of(recipient, bits) for bits in (0, 1, 4, 16)},
        "salt": b64(seed("salt")),
        "slots_sha256": slots,
        "commitment": replies.commitment(seed("salt"), slots),
    }


def _nonce(number: int) -> bytes:
    return number.to_bytes(16, "big")


def _instant() -> str:
    return datetime(2026, 11, 23, 12, tzinfo=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def text() -> str:
    return json.dumps(vectors(), indent=1, ensure_ascii=False, sort_keys=True) + "\n"


if __name__ == "__main__":
    TARGET.write_text(text(), encoding="utf-8")
