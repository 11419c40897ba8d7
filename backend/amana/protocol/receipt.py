# SPDX-License-Identifier: AGPL-3.0-or-later
"""The receipt (docs/protocol.md §10): the custody log's signature under what arrived, on which day."""

import hmac
from dataclasses import dataclass
from typing import Any

import marshmallow as ma

from amana.protocol import schema
from amana.protocol.encoding import b64, canonical, unb64
from amana.protocol.errors import BadSignature
from amana.protocol.signing import SigningKey, verify_fields

TAG = "amana-receipt-v1"
LIMIT_BYTES = 64 * 1024


class _Receipt(schema.StrictSchema):
    v = schema.one_of(1)
    deployment = schema.text(64)
    case = schema.identifier()
    received_on = schema.day()
    event = ma.fields.Dict(required=True)
    key = schema.base64_of(32)
    sig = schema.base64_of(64)


_RECEIPT = _Receipt()


@dataclass(frozen=True)
class Receipt:
    """A receipt whose signature was verified; `leaf` is what the custody log holds of it."""

    deployment: str
    case: str
    received_on: str
    event: dict[str, Any]
    leaf: bytes


def leaf(event: bytes, key: bytes) -> bytes:
    """Return the commitment to a canonical event: HMAC-SHA256(key, event), 32 bytes."""
    return hmac.digest(key, event, "sha256")


def sign_receipt(custody: SigningKey, event: dict[str, Any], key: bytes) -> dict[str, Any]:
    """Return the receipt for the event of an arrival."""
    fields = {
        "v": 1,
        "deployment": event["deployment"],
        "case": event["case"],
        "received_on": event["received_on"],
        "event": event,
        "key": b64(key),
    }
    return custody.sign_fields(TAG, fields)


def verify_receipt(document: object, custody_log_key: str) -> Receipt:
    """Verify a receipt with the custody log's key, which the root pins."""
    signed = schema.checked(_RECEIPT, document, "receipt-invalid")
    fields = verify_fields(custody_log_key, TAG, signed)
    event = fields["event"]
    for name in ("deployment", "case", "received_on"):
        if event.get(name) != fields[name]:
            raise BadSignature("receipt-invalid", "The receipt and its event differ.")
    return Receipt(
        deployment=fields["deployment"],
        case=fields["case"],
        received_on=fields["received_on"],
        event=event,
        leaf=leaf(canonical(event), unb64(fields["key"], 32)),
    )
