# SPDX-License-Identifier: AGPL-3.0-or-later
"""What the desk takes and answers about cases."""

import marshmallow as ma

from amana.access.schemas import ActionIn
from amana.intake.models import State
from amana.intake.schemas import PolicyVersionOut
from amana.intake.workflow import DECISIONS
from amana.protocol.encoding import b64
from amana.routing.schemas import AssignmentOut

SEALED = {"description": "Base64 of a sealed note, 5755 or 34427 bytes."}
SEALED_LIMIT = ma.validate.Length(max=46_000)


class DeskIn(ma.Schema):
    """At which desk; at all of one's own when none is named."""

    class Meta:
        unknown = ma.RAISE

    desk = ma.fields.String(validate=ma.validate.Length(max=32))


class QueueIn(DeskIn):
    """Which cases, and from where on."""

    state = ma.fields.String(
        validate=ma.validate.OneOf(
            ["any", *(one.value for one in State if one is not State.ARRIVING)]
        )
    )
    cursor = ma.fields.String(validate=ma.validate.Length(max=128))
    limit = ma.fields.Integer(load_default=50, validate=ma.validate.Range(1, 100))


class CountsOut(ma.Schema):
    """How many cases are in each state; 1000 means a thousand or more."""

    counts = ma.fields.Dict(
        keys=ma.fields.String(), values=ma.fields.Integer(), metadata={"example": {"received": 3}}
    )


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
    assigned = ma.fields.String(
        metadata={"description": "`mine`, `offered` to you, `another`'s, or `nobody`'s."}
    )


class WithdrawnOut(ma.Schema):
    """A case of yours that its witness withdrew; nobody may read it any more, and copies of it are to be deleted."""

    case = ma.fields.String()
    withdrawn_on = ma.fields.Date()


class ExpiredOut(ma.Schema):
    """A case of yours whose time was over; it is destroyed, and copies of it are to be deleted."""

    case = ma.fields.String()
    expired_on = ma.fields.Date()


class ExpiringOut(ma.Schema):
    """A case of yours, or of a desk that you lead, that expires unless a lead prolongs it."""

    case = ma.fields.String()
    ends_on = ma.fields.Date()


class QueueOut(ma.Schema):
    """A page of the queue."""

    cases = ma.fields.List(ma.fields.Nested(ListedOut))
    withdrawn = ma.fields.List(ma.fields.Nested(WithdrawnOut))
    expired = ma.fields.List(ma.fields.Nested(ExpiredOut))
    expiring = ma.fields.List(ma.fields.Nested(ExpiringOut))
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
    policies = ma.fields.List(ma.fields.Nested(PolicyVersionOut))
    assignments = ma.fields.List(ma.fields.Nested(AssignmentOut))
    receipt = ma.fields.Dict()
    objects = ma.fields.List(ma.fields.Nested(ObjectOut))


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


class RewrapIn(ActionIn):
    """A grant that its reader sealed to their own next key, with the action `grant`."""

    intake_key = ma.fields.String(required=True, validate=ma.validate.Length(equal=32))
    grant = ma.fields.String(
        required=True,
        validate=ma.validate.Length(max=2600),
        metadata={"description": "Base64 of 1915 bytes."},
    )


class NoteIn(ActionIn):
    """A sealed note (docs/protocol.md §14), with the action `note`."""

    audience = ma.fields.String(required=True, validate=ma.validate.OneOf(["desk", "author"]))
    sealed = ma.fields.String(required=True, validate=SEALED_LIMIT, metadata=SEALED)


class NoteMadeOut(ma.Schema):
    """Which number a note got."""

    n = ma.fields.Integer()


class NotesIn(ma.Schema):
    """From which note on."""

    class Meta:
        unknown = ma.RAISE

    after = ma.fields.Integer(load_default=0, validate=ma.validate.Range(0, 10_000))


class NoteOut(ma.Schema):
    """A note as the server has it."""

    n = ma.fields.Integer()
    author = ma.fields.String()
    audience = ma.fields.String()
    made_on = ma.fields.Date()
    sealed = ma.fields.Function(lambda one: b64(one.sealed), metadata=SEALED)


class NotesOut(ma.Schema):
    """The next notes of a case; none are left when the list is empty."""

    notes = ma.fields.List(ma.fields.Nested(NoteOut))


class DecisionIn(ActionIn):
    """A decision with the note that gives its reason."""

    decision = ma.fields.String(required=True, validate=ma.validate.OneOf(sorted(DECISIONS)))
    reason = ma.fields.String(required=True, validate=SEALED_LIMIT, metadata=SEALED)


class ReopeningIn(ActionIn):
    """The note that gives the reason why a case is opened again."""

    reason = ma.fields.String(required=True, validate=SEALED_LIMIT, metadata=SEALED)


class StateOut(ma.Schema):
    """The state that follows."""

    state = ma.fields.String(metadata={"example": "accepted"})
