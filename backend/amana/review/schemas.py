# SPDX-License-Identifier: AGPL-3.0-or-later
"""What the desk takes and answers about cases."""

import marshmallow as ma

from amana.intake.models import State


class QueueIn(ma.Schema):
    """Which cases, and from where on."""

    class Meta:
        unknown = ma.RAISE

    desk = ma.fields.String(validate=ma.validate.Length(max=32))
    state = ma.fields.String(
        validate=ma.validate.OneOf([State.RECEIVED.value, State.IN_REVIEW.value])
    )
    cursor = ma.fields.String(validate=ma.validate.Length(max=128))
    limit = ma.fields.Integer(load_default=50, validate=ma.validate.Range(1, 100))


class ListedOut(ma.Schema):
    """A case in the queue."""

    case = ma.fields.String(metadata={"example": "mfrggzdfmztwq2lknnwg23tpobyxe43u"})
    desk = ma.fields.String(metadata={"example": "chemical"})
    state = ma.fields.String(metadata={"example": "received"})
    language = ma.fields.String(metadata={"example": "ar"})
    flags = ma.fields.List(ma.fields.String())
    received_on = ma.fields.Date()
    objects = ma.fields.Integer(metadata={"description": "Account included.", "example": 4})
    size = ma.fields.Integer(metadata={"description": "Sealed bytes, padded."})
    intake_key = ma.fields.String(metadata={"description": "Your key to which it is sealed."})


class QueueOut(ma.Schema):
    """A page of the queue."""

    cases = ma.fields.List(ma.fields.Nested(ListedOut))
    next = ma.fields.String(allow_none=True)


class ObjectOut(ma.Schema):
    """An object of a case; its hash is null for an account that came inline."""

    i = ma.fields.Integer()
    size = ma.fields.Integer()
    sealed_sha256 = ma.fields.String(allow_none=True)


class CaseOut(ma.Schema):
    """What may be known of a case without opening it."""

    case = ma.fields.String()
    desk = ma.fields.String()
    state = ma.fields.String()
    received_on = ma.fields.Date()
    policy = ma.fields.String(metadata={"description": "Base64 of the signed policy as it came."})
    receipt = ma.fields.Dict()
    objects = ma.fields.List(ma.fields.Nested(ObjectOut))


class OpeningIn(ma.Schema):
    """A signed action `open` (docs/protocol.md §12.3)."""

    class Meta:
        unknown = ma.RAISE

    action = ma.fields.Dict(required=True)


class OpeningOut(ma.Schema):
    """Until when the sealed case is served."""

    opening = ma.fields.String()
    valid_until = ma.fields.AwareDateTime()


class GrantOut(ma.Schema):
    """A grant of the reader who asks."""

    reader = ma.fields.String()
    intake_key = ma.fields.String()
    grant = ma.fields.String(metadata={"description": "Base64 of 1915 bytes."})


class GrantsOut(ma.Schema):
    """The grant of the reader who asks."""

    grants = ma.fields.List(ma.fields.Nested(GrantOut))


class HeldKeyOut(ma.Schema):
    """How many cases are sealed to one of your keys."""

    intake_key = ma.fields.String()
    open = ma.fields.Integer(metadata={"description": "Received, at your desks."})
    arriving = ma.fields.Integer(metadata={"description": "Not whole yet, at your desks."})
    elsewhere = ma.fields.Integer(metadata={"description": "At desks that you left."})


class HeldKeysOut(ma.Schema):
    """The keys to which anything is sealed for you."""

    intake_keys = ma.fields.List(ma.fields.Nested(HeldKeyOut))


class RewrapIn(ma.Schema):
    """A grant that its reader sealed to their own next key, with the action `grant`."""

    class Meta:
        unknown = ma.RAISE

    action = ma.fields.Dict(required=True)
    intake_key = ma.fields.String(required=True, validate=ma.validate.Length(equal=32))
    grant = ma.fields.String(
        required=True,
        validate=ma.validate.Length(max=2600),
        metadata={"description": "Base64 of 1915 bytes."},
    )
