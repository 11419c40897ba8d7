# SPDX-License-Identifier: AGPL-3.0-or-later
"""An action (docs/protocol.md §9): the signed act by which a person of staff reads or changes a case."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from amana.protocol import schema
from amana.protocol.encoding import canonical, random_id, tagged_sha256
from amana.protocol.errors import BadSignature
from amana.protocol.signing import SigningKey, verify_fields

TAG = "amana-action-v1"
ACTIONS = [
    "open",
    "re-wrap",
    "grant",
    "claim",
    "release",
    "recuse",
    "hand-over",
    "decide",
    "note",
    "ask",
    "resume",
    "reopen",
    "release-request",
    "release-share",
    "release-decline",
    "release-open",
    "re-share",
    "export-request",
    "export-approve",
    "export-complete",
    "export-receipt",
    "invite",
    "withdraw-invite",
    "vet",
    "suspend",
    "reinstate",
    "confirm",
    "replace-key",
    "rule",
    "prolong",
]
TIME = r"\A\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z\Z"


class _Action(schema.StrictSchema):
    v = schema.one_of(1)
    deployment = schema.text(64)
    directory = schema.counting()
    action = schema.one_of(*ACTIONS)
    case = schema.identifier(allow_none=True)
    actor = schema.identifier()
    body_sha256 = schema.sha256_hex()
    made_at = schema.pattern(TIME)
    nonce = schema.identifier()
    sig = schema.base64_of(64)


_ACTION = _Action()


@dataclass(frozen=True)
class Action:
    """An action whose form was checked."""

    deployment: str
    directory: int
    action: str
    case: str | None
    actor: str
    body_sha256: str
    made_at: datetime
    nonce: str
    document: dict[str, Any]

    def verify(self, signing_key: str) -> None:
        """Verify the signature with the actor's key from the directory version that the action names."""
        verify_fields(signing_key, TAG, self.document)


def body_sha256(body: dict[str, Any]) -> str:
    return tagged_sha256("amana-action-body-v1", canonical(body)).hex()


def sign_action(
    key: SigningKey,
    *,
    deployment: str,
    directory: int,
    action: str,
    case: str | None,
    actor: str,
    body: dict[str, Any],
    made_at: datetime,
) -> dict[str, Any]:
    """Return a signed action with a fresh nonce; `made_at` is kept to the second."""
    fields = {
        "v": 1,
        "deployment": deployment,
        "directory": directory,
        "action": action,
        "case": case,
        "actor": actor,
        "body_sha256": body_sha256(body),
        "made_at": made_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "nonce": random_id(),
    }
    return key.sign_fields(TAG, fields)


def parse_action(document: object) -> Action:
    """Check the form of a signed action; the caller verifies it with the right key."""
    signed = schema.checked(_ACTION, document, "action-invalid")
    try:
        made_at = datetime.strptime(signed["made_at"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise BadSignature("action-invalid", "The time of the action is not a time.") from None
    fields = {name: value for name, value in signed.items() if name not in {"v", "sig", "made_at"}}
    return Action(**fields, made_at=made_at, document=signed)
