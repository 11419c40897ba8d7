# SPDX-License-Identifier: AGPL-3.0-or-later
"""What a witness says about a testimony with the codename alone (docs/protocol.md §7): signed by its control key."""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final

from amana.protocol import schema
from amana.protocol.encoding import (
    b64,
    canonical,
    check_id,
    check_sha256_hex,
    parse_day,
    random_id,
    tagged_sha256,
    unb64,
)
from amana.protocol.policy import LIMIT_BYTES as POLICY_LIMIT_BYTES
from amana.protocol.policy import Policy, parse_policy
from amana.protocol.signing import SigningKey, verify_fields

TAG: Final = "amana-control-v1"
KINDS: Final = ("status", "consent", "withdraw", "take-back")
LIMIT_BYTES: Final = 2 * POLICY_LIMIT_BYTES
CLOCK_DAYS: Final = 1
"""How far a phone's day may be from the server's."""
QUEUED_DAYS: Final = 40
"""How old a statement may be that waited for a network, or was carried by hand."""


def _is_policy(value: object) -> bool:
    return value is None or len(unb64(value)) <= POLICY_LIMIT_BYTES


_CONTROL: schema.Checks = {
    "v": schema.among(1),
    "deployment": schema.short_text(64),
    "kind": schema.among(*KINDS),
    "control": lambda value: unb64(value, 32),
    "seq": schema.is_counting,
    "prev_sha256": lambda value: value is None or check_sha256_hex(value),
    "policy": _is_policy,
    "made_on": parse_day,
    "nonce": check_id,
    "sig": lambda value: unb64(value, 64),
}


@dataclass(frozen=True)
class Head:
    """The end of a testimony's chain of statements: how many there are, and the hash of the last.

    Before the first statement that is 0 and the hash of the first policy.
    """

    seq: int
    sha256: str


@dataclass(frozen=True)
class Control:
    """A statement whose signature was verified."""

    deployment: str
    kind: str
    control: str
    seq: int
    """Its place in the chain; 0 for a status, and for a withdrawal signed without knowing the chain."""
    prev_sha256: str | None
    policy: Policy | None
    policy_bytes: bytes | None
    made_on: date
    nonce: str
    sha256: str
    """Hex SHA-256("amana-control-v1" || 0x00 || statement without sig)."""

    @property
    def is_chained(self) -> bool:
        return self.seq > 0

    def is_timely(self, today: date) -> bool:
        """Tell whether it was made lately enough; a status within a day, what changes something within 40."""
        oldest = timedelta(days=CLOCK_DAYS if self.kind == "status" else QUEUED_DAYS)
        return today - oldest <= self.made_on <= today + timedelta(days=CLOCK_DAYS)

    def follows(self, head: Head) -> bool:
        """Tell whether it is the next of a chain, or stands outside of it."""
        return not self.is_chained or (self.seq, self.prev_sha256) == (head.seq + 1, head.sha256)


def sign_control(
    control: SigningKey,
    *,
    deployment: str,
    kind: str,
    made_on: date,
    head: Head | None = None,
    policy: bytes | None = None,
) -> dict[str, Any]:
    """Return a signed statement that follows `head`; without one, a status or a withdrawal outside the chain."""
    fields = {
        "v": 1,
        "deployment": deployment,
        "kind": kind,
        "control": control.public,
        "seq": 0 if head is None else head.seq + 1,
        "prev_sha256": None if head is None else head.sha256,
        "policy": None if policy is None else b64(policy),
        "made_on": made_on.isoformat(),
        "nonce": random_id(),
    }
    signed = control.sign_fields(TAG, fields)
    parse_control(signed)
    return signed


def parse_control(document: object) -> Control:
    """Check the form of a statement and verify its signature, and that of the policy in it."""
    signed = schema.checked_by(_CONTROL, document, "control-invalid")
    fields = verify_fields(signed["control"], TAG, signed)
    kind, seq = fields["kind"], fields["seq"]
    outside = kind == "status" or (kind == "withdraw" and seq == 0)
    if (seq == 0) != outside or (fields["prev_sha256"] is None) != outside:
        raise schema.Fault("control-invalid", "The statement's place in its chain is not clear.")
    if (fields["policy"] is not None) != (kind == "consent"):
        raise schema.Fault("control-invalid", "A change of consent brings a policy, nothing else.")
    raw = None if fields["policy"] is None else unb64(fields["policy"])
    policy = None if raw is None else parse_policy(raw)
    if policy is not None and policy.control != fields["control"]:
        raise schema.Fault("control-invalid", "The policy is signed by another key.")
    return Control(
        deployment=fields["deployment"],
        kind=kind,
        control=fields["control"],
        seq=seq,
        prev_sha256=fields["prev_sha256"],
        policy=policy,
        policy_bytes=raw,
        made_on=parse_day(fields["made_on"]),
        nonce=fields["nonce"],
        sha256=tagged_sha256(TAG, canonical(fields)).hex(),
    )


def control_event(control: Control, case: str, received_on: date) -> dict[str, Any]:
    """Return the event of a statement that changed something; its receipt is made of it."""
    return {
        "v": 1,
        "kind": "control-statement",
        "deployment": control.deployment,
        "case": case,
        "received_on": received_on.isoformat(),
        "statement": control.kind,
        "statement_sha256": control.sha256,
    }
