# SPDX-License-Identifier: AGPL-3.0-or-later
"""What a witness's statement looks like, and what is told about a testimony."""

import marshmallow as ma

from amana.intake.schemas import PolicyVersionOut, ReceiptOut
from amana.protocol.encoding import b64


class StatementIn(ma.Schema):
    """A signed statement (docs/protocol.md §7)."""

    class Meta:
        unknown = ma.RAISE

    statement = ma.fields.Dict(required=True)


class WithdrawalOut(ma.Schema):
    """When a withdrawal was asked for, and until when what was withdrawn exists."""

    asked_on = ma.fields.Date()
    destroy_on = ma.fields.Date()
    destroyed_on = ma.fields.Date(allow_none=True)
    backups_until = ma.fields.Date(metadata={"description": "No backup holds it after this day."})


class ExpiryOut(ma.Schema):
    """That the time of a testimony was over, and until when backups hold it."""

    expired_on = ma.fields.Date()
    destroyed_on = ma.fields.Date(allow_none=True)
    backups_until = ma.fields.Date(metadata={"description": "No backup holds it after this day."})


class OpenedOut(ma.Schema):
    """A reader who opened the testimony, and on which day."""

    reader = ma.fields.String()
    day = ma.fields.Date()


class ReleaseOut(ma.Schema):
    """A vault that was released to a reader: for what, since when, and when they opened it."""

    vault = ma.fields.String(metadata={"example": "identity"})
    purpose = ma.fields.String(metadata={"example": "icc"})
    reader = ma.fields.String()
    to = ma.fields.String(allow_none=True)
    released_on = ma.fields.Date()
    opened_on = ma.fields.Date(allow_none=True)
    expires_on = ma.fields.Date()


class ExportedOut(ma.Schema):
    """To whom the testimony is to go, or went, and for what; from the day of `exported_on` it cannot be recalled."""

    to = ma.fields.String()
    purpose = ma.fields.String()
    identity_level = ma.fields.String()
    state = ma.fields.String()
    requested_on = ma.fields.Date()
    exported_on = ma.fields.Date(allow_none=True)


class HistoryOut(ma.Schema):
    """The versions of the policy and the statements of the witness, Base64 as they were signed."""

    policies = ma.fields.List(ma.fields.Nested(PolicyVersionOut))
    statements = ma.fields.Function(lambda one: [b64(said) for said in one.statements])


class StatusOut(ma.Schema):
    """How a testimony stands; `seq` and `prev_sha256` are the end of its chain of statements."""

    case = ma.fields.String()
    state = ma.fields.String()
    received_on = ma.fields.Date(allow_none=True)
    policies = ma.fields.List(ma.fields.Nested(PolicyVersionOut))
    seq = ma.fields.Integer()
    prev_sha256 = ma.fields.String()
    withdrawal = ma.fields.Nested(WithdrawalOut, allow_none=True)
    ends_on = ma.fields.Date(
        allow_none=True, metadata={"description": "It expires then, unless a lead keeps it."}
    )
    expiry = ma.fields.Nested(ExpiryOut, allow_none=True)
    opened = ma.fields.List(ma.fields.Nested(OpenedOut))
    asked = ma.fields.List(
        ma.fields.Date(), metadata={"description": "The days on which readers asked about it."}
    )
    releases = ma.fields.List(ma.fields.Nested(ReleaseOut))
    exports = ma.fields.List(ma.fields.Nested(ExportedOut))
    receipt = ma.fields.Nested(ReceiptOut, allow_none=True)
