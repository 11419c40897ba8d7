# SPDX-License-Identifier: AGPL-3.0-or-later
"""What is taken and answered about who works on a case, and about the rules of routing."""

import json

import marshmallow as ma

from amana.access.schemas import ActionIn
from amana.intake.retention import PERIOD_LIMITS
from amana.protocol.encoding import check_id
from amana.protocol.errors import ProtocolError
from amana.protocol.policy import DESK, FLAGS, LANGUAGE
from amana.routing.rules import Rules
from amana.routing.service import RECUSAL_REASONS

MAX_PEOPLE_WITH_DUTY = 1000
_DAYS = ma.validate.Range(1, 30)


def _id(value: str) -> None:
    try:
        check_id(value)
    except ProtocolError:
        raise ma.ValidationError("Not an id.") from None


def _in_order(days: list[int]) -> None:
    if days != sorted(set(days)):
        raise ma.ValidationError("Each weekday once, in order.")


class RecusalIn(ActionIn):
    """Why a reader must not have a case; nothing more is asked."""

    reason = ma.fields.String(required=True, validate=ma.validate.OneOf(RECUSAL_REASONS))


class HandOverIn(ActionIn):
    """To whom a case goes; whoever has no grant of it is sealed one."""

    to = ma.fields.String(required=True, validate=_id)
    second = ma.fields.Boolean(
        required=True, metadata={"description": "As a second reader, beside the first."}
    )
    intake_key = ma.fields.String(required=True, allow_none=True, validate=_id)
    grant = ma.fields.String(
        required=True,
        allow_none=True,
        validate=ma.validate.Length(max=2600),
        metadata={"description": "Base64 of 1915 bytes."},
    )


def _period(name: str, what: str) -> ma.fields.Integer:
    least, most = PERIOD_LIMITS[name]
    return ma.fields.Integer(
        required=True,
        strict=True,
        validate=ma.validate.Range(least, most),
        metadata={"description": what},
    )


class PeriodsFields(ma.Schema):
    """How long cases are kept, in days (docs/workflow.md)."""

    class Meta:
        unknown = ma.RAISE

    open_days = _period("open_days", "Until a lead looks at what is not decided.")
    set_aside_days = _period("set_aside_days", "For what was declined, or repeats another case.")
    kept_days = _period("kept_days", "For what was accepted or referred.")
    unused_days = _period("unused_days", "At most, for what its witness lets nobody use.")
    notice_days = _period("notice_days", "How long readers are told before a case expires.")


class RulesFields(ma.Schema):
    """The rules of routing and of keeping."""

    class Meta:
        unknown = ma.RAISE

    claim_days = ma.fields.Integer(
        required=True,
        strict=True,
        validate=_DAYS,
        metadata={"description": "Days to claim what was offered."},
    )
    urgent_claim_days = ma.fields.Integer(required=True, strict=True, validate=_DAYS)
    cap_per_day = ma.fields.Integer(
        required=True,
        strict=True,
        validate=ma.validate.Range(1, 1000),
        metadata={"description": "Cases that routing offers to one reader in a day."},
    )
    duty = ma.fields.Dict(
        keys=ma.fields.String(validate=_id),
        values=ma.fields.List(
            ma.fields.Integer(strict=True, validate=ma.validate.Range(0, 6)), validate=_in_order
        ),
        required=True,
        validate=ma.validate.Length(max=MAX_PEOPLE_WITH_DUTY),
        metadata={"description": "Weekdays by reader, 0 is Monday; who is not named works daily."},
    )
    retention = ma.fields.Nested(PeriodsFields, required=True)


class RulesIn(ActionIn):
    """New rules, and the version that they replace."""

    rules = ma.fields.Nested(RulesFields, required=True)
    replaces = ma.fields.Integer(required=True, strict=True, validate=ma.validate.Range(0))


class RulesOut(ma.Schema):
    """The rules in force; version 0 are the defaults."""

    version = ma.fields.Integer(metadata={"example": 0})
    rules = ma.fields.Dict(metadata={"example": {"claim_days": Rules().claim_days}})


class TrialIn(ma.Schema):
    """The policy of a testimony that might come."""

    class Meta:
        unknown = ma.RAISE

    desk = ma.fields.String(required=True, validate=ma.validate.Regexp(DESK))
    language = ma.fields.String(load_default="ar", validate=ma.validate.Regexp(LANGUAGE))
    flags = ma.fields.List(
        ma.fields.String(validate=ma.validate.OneOf(FLAGS)),
        load_default=[],
        validate=ma.validate.Length(max=len(FLAGS)),
    )


class ChoiceOut(ma.Schema):
    """Whom a testimony would reach, if anybody, and why everybody else not."""

    reader = ma.fields.String(allow_none=True)
    verdicts = ma.fields.Dict(metadata={"example": {"a" * 32: "chosen"}})
    nobody_because = ma.fields.String(allow_none=True)


class TaskOut(ma.Schema):
    """A case that found nobody."""

    case = ma.fields.String()
    desk = ma.fields.String()
    reason = ma.fields.String(metadata={"example": "no-trained-reader"})
    made_on = ma.fields.Date()
    explanation = ma.fields.Function(lambda one: json.loads(one.explanation))


class TasksOut(ma.Schema):
    """Cases of a lead's desks that found nobody."""

    tasks = ma.fields.List(ma.fields.Nested(TaskOut))


class AssignmentOut(ma.Schema):
    """Who has a case, since when, and why it came to them."""

    reader = ma.fields.String()
    part = ma.fields.String(metadata={"example": "first"})
    by = ma.fields.String(metadata={"description": "`routing`, or who claimed or handed it over."})
    offered_on = ma.fields.Date()
    claimed_on = ma.fields.Date(allow_none=True)
    explanation = ma.fields.Dict(
        allow_none=True, metadata={"description": "Verdicts on all who were looked at; for leads."}
    )
