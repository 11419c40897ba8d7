# SPDX-License-Identifier: AGPL-3.0-or-later
"""What the desk takes and answers about exports and the custody of a case."""

import json

import marshmallow as ma

from amana.access.schemas import ActionIn
from amana.export.stages import Stage
from amana.intake.schemas import PolicyVersionOut
from amana.protocol.custody import MAX_EVENTS
from amana.protocol.policy import IDENTITY_LEVELS
from amana.protocol.vault import VAULTS

_ID = ma.validate.Length(equal=32)
_HASH = ma.validate.Regexp(r"\A[0-9a-f]{64}\Z")


class ReleasedIn(ma.Schema):
    """A vault that is to leave with a testimony, and the release that allows it."""

    class Meta:
        unknown = ma.RAISE

    vault = ma.fields.String(required=True, validate=ma.validate.OneOf(VAULTS))
    request = ma.fields.String(required=True, validate=_ID)


class ExportIn(ActionIn):
    """To whom a testimony is to go and for what, with the action `export-request`."""

    to = ma.fields.String(required=True, validate=_ID)
    purpose = ma.fields.String(required=True, validate=ma.validate.Length(max=32))
    identity_level = ma.fields.String(required=True, validate=ma.validate.OneOf(IDENTITY_LEVELS))
    releases = ma.fields.List(
        ma.fields.Nested(ReleasedIn), required=True, validate=ma.validate.Length(max=len(VAULTS))
    )


class CommittedIn(ma.Schema):
    """What stands for the events of the case that the log held when somebody approved (docs/protocol.md §15.1)."""

    class Meta:
        unknown = ma.RAISE

    events = ma.fields.Integer(
        required=True, strict=True, validate=ma.validate.Range(1, MAX_EVENTS)
    )
    sha256 = ma.fields.String(required=True, validate=_HASH)


class ExportDecisionIn(ExportIn):
    """A second person's decision, with the action `export-approve`; it repeats what it is about."""

    export = ma.fields.String(required=True, validate=_ID)
    decision = ma.fields.String(required=True, validate=ma.validate.OneOf(["approve", "refuse"]))
    custody = ma.fields.Nested(CommittedIn, required=True, allow_none=True)
    request = ma.fields.String(required=True, validate=_ID)


class CompletionIn(ActionIn):
    """The bundle that was made, with the action `export-complete`."""

    export = ma.fields.String(required=True, validate=_ID)
    bag_sha256 = ma.fields.String(required=True, validate=_HASH)
    sealed_sha256 = ma.fields.String(required=True, validate=_HASH)
    size = ma.fields.Integer(required=True, strict=True, validate=ma.validate.Range(1, 2**53 - 1))


class HandoverIn(ActionIn):
    """What the partner signed (docs/protocol.md §15), with the action `export-receipt`."""

    export = ma.fields.String(required=True, validate=_ID)
    receipt = ma.fields.Dict(required=True)


class ExportsIn(ma.Schema):
    """Which exports."""

    class Meta:
        unknown = ma.RAISE

    state = ma.fields.String(validate=ma.validate.OneOf([one.value for one in Stage]))
    case = ma.fields.String(validate=_ID)


class ExportStateOut(ma.Schema):
    """Where an export stands."""

    export = ma.fields.String(attribute="id")
    state = ma.fields.String(metadata={"example": "pending"})


class SignedOut(ma.Schema):
    """A signed action and its body."""

    action = ma.fields.Dict()
    body = ma.fields.Dict(allow_none=True)


class SignedReleaseOut(ma.Schema):
    """What a reader and custodians signed about a release."""

    request = ma.fields.Nested(SignedOut)
    shares = ma.fields.List(ma.fields.Nested(SignedOut))


class ExportOut(ma.Schema):
    """An export as it was asked for, judged and decided."""

    export = ma.fields.String(attribute="export.id")
    case = ma.fields.String(attribute="export.case")
    state = ma.fields.String(attribute="export.state")
    to = ma.fields.String(attribute="export.partner")
    purpose = ma.fields.String(attribute="export.purpose")
    identity_level = ma.fields.String(attribute="export.identity_level")
    releases = ma.fields.Function(
        lambda one: json.loads(one.export.releases),
        metadata={"description": "The vaults that leave with it, each with its release."},
    )
    requested_by = ma.fields.String(attribute="export.requested_by")
    requested_on = ma.fields.Date(attribute="export.requested_on")
    decided_by = ma.fields.String(attribute="export.decided_by", allow_none=True)
    decided_on = ma.fields.Date(attribute="export.decided_on", allow_none=True)
    exported_on = ma.fields.Date(attribute="export.exported_on", allow_none=True)
    received_on = ma.fields.Date(attribute="export.received_on", allow_none=True)
    sealed_sha256 = ma.fields.String(attribute="export.sealed_sha256", allow_none=True)
    bag_sha256 = ma.fields.String(attribute="export.bag_sha256", allow_none=True)
    size = ma.fields.Integer(attribute="export.size", allow_none=True)
    evaluation = ma.fields.Function(
        lambda one: json.loads(one.export.evaluation),
        metadata={"description": "How consent was judged at each step."},
    )
    request = ma.fields.Nested(SignedOut, allow_none=True)
    approval = ma.fields.Nested(SignedOut, allow_none=True)
    policies = ma.fields.List(ma.fields.Nested(PolicyVersionOut))
    leaves = ma.fields.List(
        ma.fields.String(),
        metadata={"description": "The events so far as the custody log knows them, sorted."},
    )
    released = ma.fields.Dict(
        keys=ma.fields.String(), values=ma.fields.Nested(SignedReleaseOut, allow_none=True)
    )


class ExportsOut(ma.Schema):
    """The newest exports, at most a hundred."""

    exports = ma.fields.List(ma.fields.Nested(ExportOut))


class CustodyIn(ma.Schema):
    """From which event on."""

    class Meta:
        unknown = ma.RAISE

    after = ma.fields.String(validate=_HASH)


class CustodyEventOut(ma.Schema):
    """An event of the case, canonical, with the key that shows which leaf of the custody log it is."""

    leaf = ma.fields.String()
    event = ma.fields.String()
    key = ma.fields.String()


class CustodyOut(ma.Schema):
    """The next events of a case in the order of their leaves; none are left when the list is empty."""

    events = ma.fields.List(ma.fields.Nested(CustodyEventOut))
