# SPDX-License-Identifier: AGPL-3.0-or-later
"""Compact JSON Web Signatures by Ed25519 (RFC 7515 §3.1, RFC 8037 §3.1), as assertions and proofs are: read in one way only.

PyJWT wants the key before it reads whose it is, reads doubled names, and looks at every character in Python.
"""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from amana.protocol.encoding import parse_strict
from amana.protocol.errors import BadSignature, ProtocolError

ALGORITHM = "EdDSA"
LIMIT_CHARACTERS = 2048
_PARTS = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]{86})")


class JwsMalformed(ProtocolError):
    """A text is not a compact JWS of this type and algorithm, or asks for what is not understood here."""

    slug = "jws-malformed"
    title = "This is not a signed token of the expected kind."


@dataclass(frozen=True)
class Unverified:
    """A JWS as it reads. Nothing in it counts before `verify`, except to find the key."""

    header: dict[str, Any]
    claims: dict[str, Any]
    _signed: bytes
    _signature: bytes

    def verify(self, public: bytes) -> None:
        """Verify the signature by the raw public key; raises BadSignature."""
        try:
            Ed25519PublicKey.from_public_bytes(public).verify(self._signature, self._signed)
        except (InvalidSignature, ValueError):
            raise BadSignature from None


def read_jws(text: str, typ: str) -> Unverified:
    """Read a JWS of at most 2048 characters whose header says `typ` (RFC 8725 §3.11) and nothing critical."""
    parts = _PARTS.fullmatch(text) if len(text) <= LIMIT_CHARACTERS else None
    if parts is None:
        raise JwsMalformed
    header, claims = (parse_strict(base64url_decode(parts[n])) for n in (1, 2))
    if not (isinstance(header, dict) and isinstance(claims, dict)):
        raise JwsMalformed
    if (
        header.get("typ") != typ
        or header.get("alg") != ALGORITHM
        or header.keys() & {"crit", "b64"}
    ):
        raise JwsMalformed
    signed = text[: parts.end(2)].encode("ascii")
    return Unverified(header, claims, signed, base64url_decode(parts[3]))


def base64url(data: bytes) -> str:
    """Return Base64url without padding (RFC 7515 §2)."""
    return urlsafe_b64encode(data).decode("ascii").rstrip("=")


def base64url_decode(text: str) -> bytes:
    """Decode Base64url without padding; refuses a second spelling of the same bytes."""
    try:
        data = urlsafe_b64decode(text + "==")
    except ValueError:
        raise JwsMalformed from None
    if base64url(data) != text:
        raise JwsMalformed
    return data
