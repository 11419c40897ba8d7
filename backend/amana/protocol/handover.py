# SPDX-License-Identifier: AGPL-3.0-or-later
"""A partner's receipt for a bundle (docs/protocol.md §15): signed with the key that the directory lists for them."""

from dataclasses import dataclass
from datetime import date
from typing import Any, Final

from amana.protocol import schema
from amana.protocol.encoding import check_id, check_sha256_hex, parse_day, unb64
from amana.protocol.signing import SigningKey, verify_fields

TAG: Final = "amana-handover-v1"
LIMIT_BYTES: Final = 4096

_HANDOVER: Final[schema.Checks] = {
    "v": schema.among(1),
    "deployment": schema.short_text(64),
    "case": check_id,
    "export": check_id,
    "partner": check_id,
    "sealed_sha256": check_sha256_hex,
    "bag_sha256": check_sha256_hex,
    "received_on": parse_day,
    "sig": lambda value: unb64(value, 64),
}


@dataclass(frozen=True)
class Handover:
    """What a partner says to have received, on which day; `verify` shows that they signed it."""

    deployment: str
    case: str
    export: str
    partner: str
    sealed_sha256: str
    bag_sha256: str
    received_on: str
    document: dict[str, Any]

    def verify(self, signing_key: str) -> None:
        """Verify the signature with the partner's key."""
        verify_fields(signing_key, TAG, self.document)


def sign_handover(
    key: SigningKey,
    *,
    deployment: str,
    case: str,
    export: str,
    partner: str,
    sealed_sha256: str,
    bag_sha256: str,
    received_on: date,
) -> dict[str, Any]:
    """Return the signed receipt for a sealed bundle and the list of hashes in it."""
    fields = {
        "v": 1,
        "deployment": deployment,
        "case": case,
        "export": export,
        "partner": partner,
        "sealed_sha256": sealed_sha256,
        "bag_sha256": bag_sha256,
        "received_on": received_on.isoformat(),
    }
    return key.sign_fields(TAG, fields)


def parse_handover(document: object) -> Handover:
    """Check the form of a receipt of a partner."""
    signed = schema.checked_by(_HANDOVER, document, "handover-invalid")
    fields = {name: value for name, value in signed.items() if name not in {"v", "sig"}}
    return Handover(**fields, document=signed)
