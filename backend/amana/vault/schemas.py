# SPDX-License-Identifier: AGPL-3.0-or-later
"""What the desk takes and answers about releases and shares; amana.protocol checks what is signed."""

import marshmallow as ma

from amana.access.schemas import ActionIn
from amana.protocol.encoding import check_id
from amana.protocol.errors import ProtocolError
from amana.protocol.release import MAX_DAYS
from amana.protocol.vault import MAX_CUSTODIANS, MAX_PIECES, VAULTS

_SHARE = {"description": "Base64 of 1915 bytes."}
_REASON = {"description": "Base64 of 5755 bytes."}
_SHARE_LIMIT = ma.validate.Length(max=2600)
_REASON_LIMIT = ma.validate.Length(max=8000)


def _id(value: str) -> None:
    try:
        check_id(value)
    except ProtocolError:
        raise ma.ValidationError("Not an id.") from None


class _Strict(ma.Schema):
    class Meta:
        unknown = ma.RAISE


def _identifier() -> ma.fields.String:
    return ma.fields.String(required=True, validate=_id)


def _set() -> "ma.fields.List[str]":
    return ma.fields.List(
        ma.fields.String(validate=_id),
        required=True,
        validate=ma.validate.Length(1, MAX_CUSTODIANS),
        metadata={"description": "Custodians by id, sorted."},
    )


def _vault() -> ma.fields.String:
    return ma.fields.String(required=True, validate=ma.validate.OneOf(VAULTS))


class SealedReasonIn(_Strict):
    """A reader's reason, sealed to one custodian."""

    custodian = _identifier()
    intake_key = _identifier()
    sealed = ma.fields.String(required=True, validate=_REASON_LIMIT, metadata=_REASON)


class RequestIn(ActionIn):
    """A reader's request for one vault, with the action `release-request` over all of it."""

    request = _identifier()
    vault = _vault()
    purpose = ma.fields.String(required=True, validate=ma.validate.Length(max=32))
    to = ma.fields.String(
        required=True,
        allow_none=True,
        validate=_id,
        metadata={"description": "The partner to whom an export is to hand it, or null."},
    )
    days = ma.fields.Integer(required=True, strict=True, validate=ma.validate.Range(1, MAX_DAYS))
    intake_key = _identifier()
    reason_sha256 = ma.fields.String(required=True, validate=ma.validate.Length(equal=64))
    reasons = ma.fields.List(
        ma.fields.Nested(SealedReasonIn),
        required=True,
        validate=ma.validate.Length(1, MAX_CUSTODIANS),
    )


class RequestedOut(ma.Schema):
    """A request that was taken, and its last day."""

    request = ma.fields.String()
    expires_on = ma.fields.Date()


class AnswerOut(ma.Schema):
    """What one custodian answered; a reason for declining is sealed to the reader."""

    custodian = ma.fields.String()
    answer = ma.fields.String(metadata={"example": "shared"})
    answered_on = ma.fields.Date()
    reason = ma.fields.String(allow_none=True, metadata=_REASON)


class OwnReleaseOut(ma.Schema):
    """A request of one's own, and how it stands."""

    request = ma.fields.String()
    vault = ma.fields.String(metadata={"example": "identity"})
    purpose = ma.fields.String(metadata={"example": "icc"})
    to = ma.fields.String(allow_none=True)
    requested_on = ma.fields.Date()
    expires_on = ma.fields.Date(metadata={"description": "The last day on which it works."})
    released_on = ma.fields.Date(allow_none=True)
    opened_on = ma.fields.Date(allow_none=True)
    ended_because = ma.fields.String(allow_none=True, metadata={"example": "expired"})
    k = ma.fields.Integer(metadata={"description": "How many custodians are needed."})
    answers = ma.fields.List(ma.fields.Nested(AnswerOut))


class VaultOut(ma.Schema):
    """A vault of a case, and the custodians who would answer a request for it, `k` of whom are needed."""

    vault = ma.fields.String(metadata={"example": "identity"})
    k = ma.fields.Integer()
    custodians = ma.fields.List(ma.fields.String())


class OwnReleasesOut(ma.Schema):
    """What lies in the vault of a case, and one's own requests about it, the newest first."""

    vaults = ma.fields.List(ma.fields.Nested(VaultOut))
    releases = ma.fields.List(ma.fields.Nested(OwnReleaseOut))


class PendingOut(ma.Schema):
    """A request that waits for a custodian."""

    request = ma.fields.String()
    case = ma.fields.String()
    requested_on = ma.fields.Date()
    expires_on = ma.fields.Date()


class PendingsOut(ma.Schema):
    """The requests that wait for one's answer, the oldest first."""

    releases = ma.fields.List(ma.fields.Nested(PendingOut))


class PolicyOut(ma.Schema):
    """A version of the witness's policy, Base64 of its bytes, and the day on which it came."""

    policy = ma.fields.String()
    received_on = ma.fields.Date()


class EvidenceOut(PendingOut):
    """What a custodian's program verifies before anything is sealed to anybody."""

    k = ma.fields.Integer()
    custodians = ma.fields.List(ma.fields.String())
    shared = ma.fields.Integer(metadata={"description": "How many shared already."})
    action = ma.fields.Dict(metadata={"description": "What the reader signed."})
    body = ma.fields.Dict(metadata={"description": "Whose hash the action names."})
    policies = ma.fields.List(ma.fields.Nested(PolicyOut))
    receipt = ma.fields.Dict()


class OwnShareOut(ma.Schema):
    """A custodian's own share of a set, or one piece of it, as it is sealed to them."""

    subset = ma.fields.List(ma.fields.String())
    maker = ma.fields.String(metadata={"description": "`witness`, or who made this piece."})
    intake_key = ma.fields.String()
    sealed = ma.fields.String(metadata=_SHARE)


class OwnSharesOut(ma.Schema):
    """A custodian's own shares."""

    shares = ma.fields.List(ma.fields.Nested(OwnShareOut))


class ShareIn(_Strict):
    """A share of one set, sealed to the reader."""

    subset = _set()
    sealed = ma.fields.String(required=True, validate=_SHARE_LIMIT, metadata=_SHARE)


class SharesIn(ActionIn):
    """A custodian's shares for a request; the action `release-share` names their hashes."""

    shares = ma.fields.List(
        ma.fields.Nested(ShareIn), required=True, validate=ma.validate.Length(1, 10)
    )


class DeclineIn(ActionIn):
    """Why a custodian declines, sealed to the reader, with the action `release-decline`."""

    reason = ma.fields.String(required=True, validate=_REASON_LIMIT, metadata=_REASON)


class AnsweredOut(ma.Schema):
    """How a request stands after an answer."""

    released_on = ma.fields.Date(allow_none=True)
    ended_because = ma.fields.String(allow_none=True)


class ReleasedShareOut(ma.Schema):
    """A share that a custodian sealed to the reader."""

    subset = ma.fields.List(ma.fields.String())
    custodian = ma.fields.String()
    sealed = ma.fields.String(metadata=_SHARE)


class ReleasedSharesOut(ma.Schema):
    """The shares of every set all of whose members answered."""

    shares = ma.fields.List(ma.fields.Nested(ReleasedShareOut))


class AfterIn(_Strict):
    """From which case on."""

    after = ma.fields.String(load_default="", validate=ma.validate.Length(max=32))


class WorkOut(ma.Schema):
    """A vault that has to be shared anew; amana.protocol.vault.resharing says what follows."""

    case = ma.fields.String()
    vault = ma.fields.String()
    k = ma.fields.Integer()
    sets = ma.fields.List(ma.fields.List(ma.fields.String()))
    stale = ma.fields.List(
        ma.fields.List(ma.fields.String()),
        metadata={"description": "Sets in which a share is sealed to a key that was replaced."},
    )
    done = ma.fields.List(ma.fields.List(ma.fields.String()))


class WorksOut(ma.Schema):
    """A page of vaults that have to be shared anew, and how many shares are sealed to each key of one's own."""

    vaults = ma.fields.List(ma.fields.Nested(WorkOut))
    held = ma.fields.Dict(
        keys=ma.fields.String(), values=ma.fields.Integer(), metadata={"example": {"a" * 32: 12}}
    )


class SourceIn(ActionIn):
    """Of which vault, and with which custodians of its old set, somebody shares anew; with the action `re-share`."""

    vault = _vault()
    source = _set()


class PieceIn(ShareIn):
    """What is added to a new custodian's share."""

    custodian = _identifier()


class PiecesIn(SourceIn):
    """One custodian's pieces for one or more missing sets; the action `re-share` names their hashes."""

    pieces = ma.fields.List(
        ma.fields.Nested(PieceIn), required=True, validate=ma.validate.Length(max=MAX_PIECES)
    )


class SharedAnewOut(ma.Schema):
    """Whether all of the old set have added their pieces."""

    complete = ma.fields.Boolean()
