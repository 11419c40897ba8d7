# SPDX-License-Identifier: AGPL-3.0-or-later
"""What a reader brings with a question to a witness."""

import marshmallow as ma

from amana.access.schemas import ActionIn
from amana.protocol.drop import MAX_BITS
from amana.protocol.encoding import check_sha256_hex
from amana.protocol.errors import ProtocolError
from amana.protocol.reply import MAX_PARTS
from amana.review.schemas import SEALED, SEALED_LIMIT


def _hash(value: str) -> None:
    try:
        check_sha256_hex(value)
    except ProtocolError:
        raise ma.ValidationError("Not a hash.") from None


class QuestionIn(ActionIn):
    """A question: what the action `ask` signs, which stays with the case, and the slots, which do not."""

    commitment = ma.fields.String(
        required=True,
        validate=_hash,
        metadata={"description": "H(amana-slots-v1, salt ‖ SHA-256 of each slot), hex. Signed."},
    )
    reason = ma.fields.String(
        required=True,
        validate=SEALED_LIMIT,
        metadata={
            "description": f"{SEALED['description']} Of kind `question`: what is asked, and why. Signed."
        },
    )
    salt = ma.fields.String(
        required=True,
        validate=ma.validate.Length(equal=44),
        metadata={"description": "Base64 of 32 bytes; not kept."},
    )
    bits = ma.fields.Integer(required=True, strict=True, validate=ma.validate.Range(0, MAX_BITS))
    shard = ma.fields.Integer(
        required=True, strict=True, validate=ma.validate.Range(0, 2**MAX_BITS - 1)
    )
    slots = ma.fields.List(
        ma.fields.String(
            validate=ma.validate.Length(max=8000),
            metadata={"description": "Base64 of 5755 bytes."},
        ),
        required=True,
        validate=ma.validate.Length(1, MAX_PARTS),
    )


class AskedOut(ma.Schema):
    """How often the witness of this case may still be asked."""

    left = ma.fields.Integer(metadata={"example": 4})
