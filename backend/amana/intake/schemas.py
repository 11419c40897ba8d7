# SPDX-License-Identifier: AGPL-3.0-or-later
"""What intake answers, as marshmallow schemas; requests are parsed by protocol/submission.py, byte for byte."""

import marshmallow as ma


class NoticeOut(ma.Schema):
    """Today's price of admission."""

    v = ma.fields.Integer(metadata={"example": 1})
    day = ma.fields.String(metadata={"example": "2026-11-23"})
    seed = ma.fields.String(metadata={"description": "Base64 of 32 bytes."})
    price = ma.fields.Integer(metadata={"description": "Zero bits asked.", "example": 8})


class UploadOut(ma.Schema):
    """Where one object is to be sent."""

    i = ma.fields.Integer(metadata={"example": 1})
    location = ma.fields.String(metadata={"description": "Relative address of the upload (tus)."})


class ReceiptOut(ma.Schema):
    """The signed proof of arrival (docs/protocol.md §10)."""

    v = ma.fields.Integer()
    deployment = ma.fields.String()
    case = ma.fields.String()
    received_on = ma.fields.String(metadata={"example": "2026-11-23"})
    event = ma.fields.Dict()
    key = ma.fields.String()
    sig = ma.fields.String()


class AnnouncedOut(ma.Schema):
    """What is left to do after a submission was taken."""

    case = ma.fields.String(metadata={"example": "mfrggzdfmztwq2lknnwg23tpobyxe43u"})
    uploads = ma.fields.List(ma.fields.Nested(UploadOut))
    completion = ma.fields.String(allow_none=True)
    expires_on = ma.fields.String(allow_none=True)
    receipt = ma.fields.Nested(ReceiptOut, allow_none=True)


class CompletionOut(ma.Schema):
    """The receipt, or that large objects are still being read back."""

    receipt = ma.fields.Nested(ReceiptOut)
    verifying = ma.fields.Boolean()


class PolicyVersionOut(ma.Schema):
    """A version of the policy, Base64 of its bytes as they were signed, and the day on which it came."""

    policy = ma.fields.String()
    received_on = ma.fields.Date()
