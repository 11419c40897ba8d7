# SPDX-License-Identifier: AGPL-3.0-or-later
"""What a witness's statement looks like, and what is told about a testimony."""

import marshmallow as ma

from amana.intake.schemas import ReceiptOut


class StatementIn(ma.Schema):
    """A signed statement (docs/protocol.md §7)."""

    class Meta:
        unknown = ma.RAISE

    statement = ma.fields.Dict(required=True)


class PolicyVersionOut(ma.Schema):
    """A version of the policy, Base64 of its bytes as they were signed, and the day on which it came."""

    policy = ma.fields.String()
    received_on = ma.fields.Date()


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
    releases = ma.fields.List(ma.fields.Dict())
    exports = ma.fields.List(ma.fields.Dict())
    receipt = ma.fields.Nested(ReceiptOut, allow_none=True)
