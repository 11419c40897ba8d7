# SPDX-License-Identifier: AGPL-3.0-or-later
"""The clear policy beside a testimony (docs/protocol.md §6): what the server enforces, and nothing that identifies."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from amana.protocol import schema
from amana.protocol.encoding import (
    canonical,
    check_sha256_hex,
    parse_canonical,
    parse_day,
    tagged_sha256,
    unb64,
)
from amana.protocol.signing import SigningKey, verify_fields

TAG = "amana-policy-v1"
LIMIT_BYTES = 16 * 1024

FLAGS = ("minor", "names_others", "sexual_violence", "urgent")
RESTRICTING_FLAGS = frozenset({"minor", "sexual_violence"})
IDENTITY_LEVELS = ("anonymous", "pseudonym", "prosecutors", "defence", "public")
MAX_SCOPES = 64
ANSWERS = ("allow", "deny", "ask")
WITHDRAWAL_DELAYS_DAYS = (0, 7, 30)
SCOPES = frozenset(
    [
        "review",
        "contact",
        "translate",
        "statistics",
        "iiim",
        "iiim_onward",
        "opcw",
        "un_coi",
        "iimp",
        "icc",
        "transitional_justice",
        "ngo",
        "expert",
        "publication",
        "media_voice",
        "media_no_voice",
        "archive",
        "research",
    ]
)
COURT_SCOPE = re.compile(r"national_court:[A-Z]{2}")
LANGUAGE = r"\A[a-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}\Z"
DESK = r"\A[a-z0-9][a-z0-9-]{0,31}\Z"


LASTING = ("deployment", "desk", "language", "flags", "withdrawal_delay_days", "control")
"""What no later version of a policy changes."""


def is_scope(text: object) -> bool:
    """Tell whether `text` names a use that a witness can consent to."""
    return isinstance(text, str) and (text in SCOPES or bool(COURT_SCOPE.fullmatch(text)))


def _are_scopes(scopes: object) -> bool:
    return (
        isinstance(scopes, dict)
        and len(scopes) <= MAX_SCOPES
        and all(is_scope(name) and answer in ANSWERS for name, answer in scopes.items())
    )


def _are_flags(flags: object) -> bool:
    return isinstance(flags, list) and flags == sorted(set(map(str, flags)) & set(FLAGS))


_CONSENT: Mapping[str, schema.Check] = {
    "text": schema.matching(r"[a-z0-9][a-z0-9.-]{0,63}"),
    "text_sha256": check_sha256_hex,
    "scopes": _are_scopes,
}

_POLICY: schema.Checks = {
    "v": schema.among(1),
    "deployment": schema.short_text(64),
    "seq": schema.is_counting,
    "prev_sha256": lambda value: value is None or check_sha256_hex(value),
    "desk": schema.matching(DESK),
    "language": schema.matching(LANGUAGE),
    "consent": _CONSENT,
    "identity_level": schema.among(*IDENTITY_LEVELS),
    "flags": _are_flags,
    "withdrawal_delay_days": schema.among(*WITHDRAWAL_DELAYS_DAYS),
    "control": lambda value: unb64(value, 32),
    "made_on": parse_day,
    "sig": lambda value: unb64(value, 64),
}


@dataclass(frozen=True)
class Policy:
    """A policy whose signature by its control key was verified."""

    deployment: str
    seq: int
    prev_sha256: str | None
    desk: str
    language: str
    consent_text: str
    consent_text_sha256: str
    scopes: Mapping[str, str]
    identity_level: str
    flags: tuple[str, ...]
    withdrawal_delay_days: int
    control: str
    made_on: str
    sha256: str
    """What the manifest names: hex SHA-256("amana-policy-v1" || 0x00 || policy without sig)."""


def first_policy(
    control: SigningKey,
    *,
    deployment: str,
    desk: str,
    language: str,
    consent_text: str,
    consent_text_sha256: str,
    scopes: Mapping[str, str],
    identity_level: str,
    flags: list[str],
    withdrawal_delay_days: int,
    made_on: str,
) -> bytes:
    """Return the signed policy with seq 0, canonical JSON."""
    fields = {
        "v": 1,
        "deployment": deployment,
        "seq": 0,
        "prev_sha256": None,
        "desk": desk,
        "language": language,
        "consent": {
            "text": consent_text,
            "text_sha256": consent_text_sha256,
            "scopes": dict(scopes),
        },
        "identity_level": identity_level,
        "flags": sorted(set(flags)),
        "withdrawal_delay_days": withdrawal_delay_days,
        "control": control.public,
        "made_on": made_on,
    }
    signed = canonical(control.sign_fields(TAG, fields))
    parse_policy(signed)
    return signed


def next_policy(
    control: SigningKey,
    previous: Policy,
    *,
    scopes: Mapping[str, str],
    identity_level: str,
    made_on: str,
) -> bytes:
    """Return the signed policy that follows `previous`, with other scopes and another identity level."""
    fields = {
        "v": 1,
        "deployment": previous.deployment,
        "seq": previous.seq + 1,
        "prev_sha256": previous.sha256,
        "desk": previous.desk,
        "language": previous.language,
        "consent": {
            "text": previous.consent_text,
            "text_sha256": previous.consent_text_sha256,
            "scopes": dict(scopes),
        },
        "identity_level": identity_level,
        "flags": list(previous.flags),
        "withdrawal_delay_days": previous.withdrawal_delay_days,
        "control": control.public,
        "made_on": made_on,
    }
    signed = canonical(control.sign_fields(TAG, fields))
    check_successor(previous, parse_policy(signed))
    return signed


def check_successor(previous: Policy, policy: Policy) -> None:
    """Refuse a policy that does not follow `previous`, or changes what never changes."""
    if (policy.seq, policy.prev_sha256) != (previous.seq + 1, previous.sha256):
        raise schema.Fault("policy-order", "The policy does not follow the one before it.")
    if any(getattr(policy, name) != getattr(previous, name) for name in LASTING):
        raise schema.Fault(
            "policy-changes", "A later policy changes what stays as it was at the beginning."
        )


def parse_policy(data: bytes) -> Policy:
    """Parse a signed policy of at most 16 KiB and verify its signature."""
    signed = schema.checked_by(_POLICY, parse_canonical(data, limit=LIMIT_BYTES), "policy-invalid")
    fields: dict[str, Any] = verify_fields(signed["control"], TAG, signed)
    if (fields["seq"] == 0) != (fields["prev_sha256"] is None):
        raise schema.Fault("policy-invalid", "The policy's place in its chain is not clear.")
    consent = fields.pop("consent")
    return Policy(
        **{name: value for name, value in fields.items() if name not in {"v", "flags"}},
        flags=tuple(fields["flags"]),
        consent_text=consent["text"],
        consent_text_sha256=consent["text_sha256"],
        scopes=consent["scopes"],
        sha256=tagged_sha256(TAG, canonical({**fields, "consent": consent})).hex(),
    )
