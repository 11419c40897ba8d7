# SPDX-License-Identifier: AGPL-3.0-or-later
"""A request to release a vault (docs/protocol.md §3.2): what its reader signs, what consent must cover, and why, sealed."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

from amana.protocol import schema
from amana.protocol.consent import Covered, Entry, Recipient, covers
from amana.protocol.encoding import (
    b64,
    canonical,
    check_id,
    check_sha256_hex,
    parse_canonical,
    tagged_sha256,
    unb64,
)
from amana.protocol.errors import ProtocolError
from amana.protocol.policy import COURT_SCOPE, is_scope
from amana.protocol.sealing import Identity, Kind, check_sealed, open_sealed, seal
from amana.protocol.sealing import Recipient as SealingKey
from amana.protocol.vault import MAX_CUSTODIANS, VAULTS

MAX_DAYS: Final = 30
REASON_LIMIT: Final = 1000
"""Characters."""
REASON_LIMIT_BYTES: Final = 4096 - 8
"""What is sealed, so that every reason has one size."""
REASON_TAG: Final = "amana-release-reason-v1"
REASON_SIZE: Final = 5755

INSIDE: Final = frozenset({"contact", "review"})
"""Purposes of the desk itself: it may know who speaks where outsiders are told a pseudonym."""
PROSECUTION: Final = frozenset({"expert", "icc", "iiim", "iiim_onward", "iimp", "opcw", "un_coi"})


class RequestInvalid(ProtocolError):
    """A request for a release is not in its form."""

    slug = "release-invalid"
    title = "The request is not in its form: a field is missing, unknown or not allowed."


class ReasonInvalid(ProtocolError):
    """A reason is not in its form, is too long, or is of another request."""

    slug = "reason-invalid"
    title = "The reason is empty, too long, or of another request."


class ReasonDiffers(ProtocolError):
    """A custodian was given another reason than the reader signed."""

    slug = "reason-differs"
    title = "The reason is not the one that the reader signed."


def least_level(purpose: str) -> str:
    """Return how much of their identity a witness must have allowed for a purpose, at least."""
    if purpose in INSIDE:
        return "pseudonym"
    return leaving_level(purpose)


def leaving_level(purpose: str) -> str:
    """Return how much of their identity a witness must have allowed for it to leave to a partner for a purpose."""
    if purpose in PROSECUTION or COURT_SCOPE.fullmatch(purpose):
        return "prosecutors"
    # Whoever is no part of the desk and no prosecutor is the public, whatever they call their purpose.
    return "public"


@dataclass(frozen=True)
class _Asking:
    """A reader who asks for a vault: they may ask for every purpose, the witness's consent decides."""

    id: str
    purposes: tuple[str, ...]


def may_release(
    entries: Sequence[Entry], purpose: str, day: date, partner: Recipient | None = None
) -> Covered:
    """Tell whether a witness's consent covers a release for a purpose on a day (§6); both vaults are held alike.

    An original tells place, device and time of who made it, so it is as much a part of the identity as the name.
    With a `partner`, to whom it is to be handed on, the directory must list them for the purpose too.
    """
    if partner is not None:
        return covers(entries, partner, purpose, leaving_level(purpose), day)
    asking = _Asking("release", (purpose,))
    return covers(entries, asking, purpose, least_level(purpose), day)


# What the reader signs


@dataclass(frozen=True)
class SealedReason:
    """A reason, sealed to one custodian's intake key of that short name."""

    custodian: str
    intake_key: str
    sealed: bytes


@dataclass(frozen=True)
class Request:
    """The body of the action `release-request`; `intake_key` is the reader's, to which the shares are to be sealed.

    `to` is the partner to whom the reader is to hand it in an export, null where it is for the reader alone.
    """

    request: str
    vault: str
    purpose: str
    to: str | None
    days: int
    intake_key: str
    reason_sha256: str
    reasons: tuple[SealedReason, ...]

    def body(self) -> dict[str, Any]:
        """Return what is signed and sent."""
        reasons = [{**vars(one), "sealed": b64(one.sealed)} for one in self.reasons]
        return {**vars(self), "reasons": reasons}


def parse_request(body: object) -> Request:
    """Parse the body of a request; raises RequestInvalid, and NotSealed for a reason that is not sealed in its form."""
    fields = schema.checked_by(_REQUEST, body, RequestInvalid.slug)
    reasons = tuple(_reason(one) for one in fields["reasons"])
    custodians = [one.custodian for one in reasons]
    if custodians != sorted(set(custodians)):
        raise RequestInvalid
    return Request(**{**fields, "reasons": reasons})


def _reason(document: object) -> SealedReason:
    fields = schema.checked_by(_REASON_LABEL, document, RequestInvalid.slug)
    sealed = unb64(fields["sealed"], REASON_SIZE)
    check_sealed(Kind.REASON, sealed, len(sealed))
    return SealedReason(fields["custodian"], fields["intake_key"], sealed)


def _are_days(value: object) -> bool:
    return type(value) is int and 1 <= value <= MAX_DAYS


def _are_reasons(value: object) -> bool:
    return isinstance(value, list) and 0 < len(value) <= MAX_CUSTODIANS


_REQUEST: Final[Mapping[str, schema.Check]] = {
    "request": check_id,
    "vault": schema.among(*VAULTS),
    "purpose": is_scope,
    "to": lambda value: value is None or check_id(value),
    "days": _are_days,
    "intake_key": check_id,
    "reason_sha256": check_sha256_hex,
    "reasons": _are_reasons,
}
_REASON_LABEL: Final[Mapping[str, schema.Check]] = {
    "custodian": check_id,
    "intake_key": check_id,
    "sealed": schema.short_text(8000),
}


# Reasons: a reader's, to every custodian, and a custodian's for declining, to the reader


def reason_document(text: str, *, case: str, request: str) -> bytes:
    """Return a reason as it is sealed, with a salt, so that its hash confirms no guess; raises ReasonInvalid."""
    fields = {"v": 1, "case": case, "request": request, "reason": text, "salt": b64(os.urandom(32))}
    document = canonical(fields)
    if len(document) > REASON_LIMIT_BYTES:
        raise ReasonInvalid
    read_reason(document, case=case, request=request)
    return document


def reason_sha256(document: bytes) -> str:
    """Return the hash that a request carries in clear: whoever opens a reason sees that all were given the same."""
    return tagged_sha256(REASON_TAG, document).hex()


def seal_reason(document: bytes, recipient: SealingKey) -> bytes:
    """Seal a reason to one person; returns 5755 bytes."""
    return seal(document, recipient, Kind.REASON)


def open_reason(
    sealed: bytes, identity: Identity, *, case: str, request: str, sha256: str | None = None
) -> str:
    """Open a reason and return its words; with `sha256` it must have that hash, or it is a ReasonDiffers."""
    document = open_sealed(sealed, identity, Kind.REASON)
    if sha256 is not None and reason_sha256(document) != sha256:
        raise ReasonDiffers
    return read_reason(document, case=case, request=request)


def read_reason(document: bytes, *, case: str, request: str) -> str:
    """Return the words of a reason; raises ReasonInvalid."""
    fields = schema.checked_by(
        _REASON, parse_canonical(document, limit=REASON_LIMIT_BYTES), ReasonInvalid.slug
    )
    if (fields["case"], fields["request"]) != (case, request) or not fields["reason"].strip():
        raise ReasonInvalid
    text: str = fields["reason"]
    return text


_REASON: Final[Mapping[str, schema.Check]] = {
    "v": schema.among(1),
    "case": check_id,
    "request": check_id,
    "reason": schema.short_text(REASON_LIMIT),
    "salt": lambda value: unb64(value, 32),
}
