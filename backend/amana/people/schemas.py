# SPDX-License-Identifier: AGPL-3.0-or-later
"""What the surface of people takes and answers. Nobody's role, desk or right can be written here."""

import marshmallow as ma

from amana.access.schemas import ActionIn
from amana.protocol import policy
from amana.protocol.encoding import parse_day
from amana.protocol.enrolment import MAX_DESKS, ROLES
from amana.protocol.errors import ProtocolError

WORDS = ma.validate.Regexp(
    r"\A(?!\s)[^\x00-\x1f\x7f]+(?<!\s)\Z",
    error="One line, not empty, without blanks around it.",
)
MAX_REASON, MAX_VOUCHER = 1000, 200
# So many of the longest, and the commas between them, have room in a person's row.
MAX_LANGUAGES, MAX_SPECIALITIES = 16, 15
CODE = ma.validate.Regexp(r"\A[A-Za-z0-9:._-]{1,64}\Z")
ID = {"description": "32 characters of Base32.", "example": "a" * 32}


def _day(value: str) -> None:
    try:
        parse_day(value)
    except ProtocolError:
        raise ma.ValidationError("Not a day.") from None


def _text(validate: ma.validate.Validator) -> ma.fields.String:
    return ma.fields.String(required=True, validate=validate)


def _days(description: str) -> ma.fields.String:
    return ma.fields.String(
        required=True, validate=_day, metadata={"description": description, "format": "date"}
    )


def _codes(limit: int) -> "ma.fields.List[str]":
    return ma.fields.List(
        ma.fields.String(validate=CODE), required=True, validate=ma.validate.Length(max=limit)
    )


class InvitationIn(ActionIn):
    """Whom to invite."""

    role = ma.fields.String(required=True, validate=ma.validate.OneOf(ROLES))
    desks = ma.fields.List(
        ma.fields.String(validate=ma.validate.Regexp(policy.DESK)),
        required=True,
        validate=ma.validate.Length(max=MAX_DESKS),
        metadata={"description": "Sorted; for readers only."},
    )
    days = ma.fields.Integer(required=True, strict=True, validate=ma.validate.Range(1, 30))


class WithdrawInvitationIn(ActionIn):
    """Which invitation nobody shall come with."""

    invitation = ma.fields.String(required=True, validate=ma.validate.Length(equal=32), metadata=ID)


class InvitationMadeOut(ma.Schema):
    """An invitation; its token is told once."""

    id = ma.fields.String(metadata=ID)
    token = ma.fields.String()
    expires_on = ma.fields.Date()


class InvitationOut(ma.Schema):
    """An invitation without its token, which nobody has but the invited."""

    id = ma.fields.String(metadata=ID)
    role = ma.fields.String()
    desks = ma.fields.Function(lambda one: [x for x in one.desks.split(",") if x])
    issued_by = ma.fields.String()
    issued_on = ma.fields.Date()
    expires_on = ma.fields.Date()
    used_by = ma.fields.String(allow_none=True)


class InvitationsOut(ma.Schema):
    """All invitations, newest first."""

    invitations = ma.fields.List(ma.fields.Nested(InvitationOut))


class EnrolmentIn(ma.Schema):
    """The keys with which an invited person comes."""

    class Meta:
        unknown = ma.RAISE

    token = _text(ma.validate.Length(max=64))
    enrolment = ma.fields.Dict(required=True)


class EnrolledOut(ma.Schema):
    """Who enrolled."""

    id = ma.fields.String(metadata=ID)


class VettingOut(ma.Schema):
    """What vetting recorded."""

    vouchers = ma.fields.List(ma.fields.String())
    vetted_on = ma.fields.Date()
    valid_until = ma.fields.Date()
    languages = ma.fields.List(ma.fields.String())
    specialities = ma.fields.List(ma.fields.String())
    conflicts = ma.fields.List(ma.fields.String())


class WaitingOut(ma.Schema):
    """Somebody for whom the officers have something to sign."""

    id = ma.fields.String(metadata=ID)
    kind = ma.fields.String(metadata={"description": "`new` or `replacement`."})
    enrolment = ma.fields.Dict(metadata={"description": "Of a newcomer."})
    enrolled_on = ma.fields.Date()
    vetting = ma.fields.Nested(VettingOut, allow_none=True)
    intake_key = ma.fields.String(metadata={"description": "Of a replacement."})
    intake_key_sig = ma.fields.String()
    action = ma.fields.Dict(metadata={"description": "What the owner of a replaced key signed."})
    asked_on = ma.fields.Date()


class WaitingListOut(ma.Schema):
    """All who wait for the officers."""

    enrolments = ma.fields.List(ma.fields.Nested(WaitingOut))


class _AboutPersonIn(ActionIn):
    person = ma.fields.String(
        required=True,
        validate=ma.validate.Length(equal=32),
        metadata={"description": "The id of the path, so that the signature names it."},
    )


class VettingIn(_AboutPersonIn):
    """What vetting found."""

    vouchers = ma.fields.List(
        ma.fields.String(validate=[ma.validate.Length(max=MAX_VOUCHER), WORDS]),
        required=True,
        validate=ma.validate.Length(equal=2),
    )
    vetted_on = _days("When they were vetted.")
    valid_until = _days("Until when that holds.")
    languages = ma.fields.List(
        ma.fields.String(validate=ma.validate.Regexp(policy.LANGUAGE)),
        required=True,
        validate=ma.validate.Length(max=MAX_LANGUAGES),
    )
    specialities = _codes(MAX_SPECIALITIES)
    conflicts = _codes(200)


class ReasonIn(_AboutPersonIn):
    """Why."""

    reason = _text(ma.validate.And(ma.validate.Length(max=MAX_REASON), WORDS))


class ConfirmationIn(_AboutPersonIn):
    """A review of access."""


class ReinstatedOut(ma.Schema):
    """Whether it was enough."""

    reinstated = ma.fields.Boolean()
    consents = ma.fields.Integer()


class PersonOut(ma.Schema):
    """A person as administrators and auditors see them."""

    id = ma.fields.String(metadata=ID)
    role = ma.fields.String(metadata={"description": "With which they came."})
    roles = ma.fields.List(
        ma.fields.String(), metadata={"description": "Which the directory lists now."}
    )
    desks = ma.fields.List(ma.fields.String())
    listed = ma.fields.Boolean()
    standing = ma.fields.String(
        metadata={
            "description": "active, pending, suspended, lapsed, dormant, expired or gone.",
            "example": "active",
        }
    )
    first_seen_on = ma.fields.Date(attribute="row.first_seen_on")
    confirmed_on = ma.fields.Date(attribute="row.confirmed_on")
    last_active_on = ma.fields.Date(attribute="row.last_active_on", allow_none=True)
    valid_until = ma.fields.Date(attribute="row.valid_until", allow_none=True)
    due_on = ma.fields.Date(allow_none=True)
    languages = ma.fields.Function(lambda one: _listed(one, "languages"))
    specialities = ma.fields.Function(lambda one: _listed(one, "specialities"))
    conflicts = ma.fields.Function(lambda one: _listed(one, "conflicts"))


def _listed(known: object, name: str) -> list[str]:
    text = getattr(getattr(known, "row", None), name, "")
    return [one for one in text.split(",") if one]


class PeopleOut(ma.Schema):
    """Everybody."""

    people = ma.fields.List(ma.fields.Nested(PersonOut))


class _DuePersonOut(ma.Schema):
    id = ma.fields.String(metadata=ID)
    role = ma.fields.String()
    confirmed_on = ma.fields.Date(attribute="row.confirmed_on")
    due_on = ma.fields.Date()
    standing = ma.fields.String()


class DueOut(ma.Schema):
    """Whose access is to be confirmed, or ends."""

    due = ma.fields.List(ma.fields.Nested(_DuePersonOut))
    administrators = ma.fields.List(
        ma.fields.String(),
        metadata={"description": "Who administers and may work today; nobody confirms themselves."},
    )


class DeskOut(ma.Schema):
    """A desk in numbers."""

    id = ma.fields.String()
    names = ma.fields.Dict()
    leads = ma.fields.List(ma.fields.String())
    readers = ma.fields.Integer()
    waiting = ma.fields.Integer()
    in_review = ma.fields.Integer()


class DesksOut(ma.Schema):
    """All desks."""

    desks = ma.fields.List(ma.fields.Nested(DeskOut))


class RecordIn(ma.Schema):
    """Of which day, and of whom."""

    class Meta:
        unknown = ma.RAISE

    day = ma.fields.String(validate=_day, metadata={"format": "date"})
    person = ma.fields.String(validate=ma.validate.Regexp(r"\A[a-z2-7]{32}\Z"))
    cursor = ma.fields.String(validate=ma.validate.Length(max=400))


class CursorIn(ma.Schema):
    """From where."""

    class Meta:
        unknown = ma.RAISE

    cursor = ma.fields.String(validate=ma.validate.Length(max=100))


class _OfPersonOut(ma.Schema):
    id = ma.fields.String(metadata=ID)
    listed = ma.fields.Boolean()
    suspended = ma.fields.Boolean()
    could_open = ma.fields.Integer(
        metadata={"description": "Cases that their key opens; the server serves the listed only."}
    )
    opened = ma.fields.Integer()


class _HeldOut(ma.Schema):
    case = ma.fields.String()
    desk = ma.fields.String()
    received_on = ma.fields.Date()
    handed_on = ma.fields.Date(
        allow_none=True,
        metadata={"description": "The day since which they could, where a colleague sealed it."},
    )
    destroyed_on = ma.fields.Date(allow_none=True)


class _OpenedOut(ma.Schema):
    case = ma.fields.String()
    opened_at = ma.fields.DateTime()


class _ActedOut(ma.Schema):
    action = ma.fields.String()
    case = ma.fields.String(allow_none=True)
    person = ma.fields.String(
        allow_none=True, metadata={"description": "Whom it decides about, if it does."}
    )
    made_at = ma.fields.DateTime()


class _DecidedOut(ma.Schema):
    action = ma.fields.String(metadata={"description": "`suspend`, `reinstate` or `confirm`."})
    person = ma.fields.String()
    by = ma.fields.String()
    made_at = ma.fields.DateTime()
    reason = ma.fields.String(
        allow_none=True, metadata={"description": "Why; a confirmation has none."}
    )


class RecordOut(ma.Schema):
    """Who could open what until the end of a day, who did, and what was decided about people.

    Lists go on together: a further page has more of those that have not ended.
    """

    day = ma.fields.Date()
    people = ma.fields.List(
        ma.fields.Nested(_OfPersonOut),
        metadata={"description": "Unless one person is asked for; whole on the first page."},
    )
    person = ma.fields.String()
    could_open = ma.fields.List(ma.fields.Nested(_HeldOut))
    opened = ma.fields.List(ma.fields.Nested(_OpenedOut))
    actions = ma.fields.List(ma.fields.Nested(_ActedOut))
    decisions = ma.fields.List(
        ma.fields.Nested(_DecidedOut),
        metadata={"description": "About the person, or about everybody; the newest first."},
    )
    next = ma.fields.String(allow_none=True)


class ConflictsIn(ActionIn):
    """Places or people, by code."""

    conflicts = _codes(200)


class KeyReplacementIn(ActionIn):
    """A new intake key, with its owner's signature."""

    intake_key = _text(ma.validate.Length(max=2200))
    intake_key_sig = _text(ma.validate.Length(max=88))
    replaces = _text(ma.validate.Length(equal=32))


class _ReturnedOut(ma.Schema):
    case = ma.fields.String()
    desk = ma.fields.String()
    claimed_by = ma.fields.String()
    claimed_on = ma.fields.Date()


class ReturnedOut(ma.Schema):
    """Cases whose reader is gone."""

    cases = ma.fields.List(ma.fields.Nested(_ReturnedOut))


class LeaverOut(ma.Schema):
    """What somebody who is gone could open at a lead's desks, the oldest first."""

    could_open = ma.fields.List(ma.fields.Nested(_HeldOut))
    next = ma.fields.String(allow_none=True)
