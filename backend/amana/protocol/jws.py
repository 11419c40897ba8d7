# SPDX-License-Identifier: AGPL-3.0-or-later
"""Compact JSON Web Signatures by Ed25519 (RFC 7515 §3.1, RFC 8037 §3.1), as assertions and proofs are: read in one way only.

PyJWT wants the key before it reads whose it is, takes doubled names, and looks at every character in Python.
"""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from typing import Any

from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from amana.protocol.encoding import parse_strict
from amana.protocol.errors import BadSignature, ProtocolError

ALGORITHM = "EdDSA"
LIMIT_CHARACTERS = 2048
_PARTS = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]{86})")


class JwsMalformed(ProtocolError):
    """A text is not a compact JWS of this type and algorithm, or asks for what is not understood here."""

    slug = "jws-malformed"
    title = "This is not a signed token of the expected kind."


@dataclass(frozen=True, slots=True)
class Jws:
    """A JWS in its parts as they came. Nothing in it counts before `verify`, except to find the key."""

    header: str
    payload: str
    signature: str

    def claims(self) -> dict[str, Any]:
        """Return what it says."""
        return _object(self.payload)

    def verify(self, public: bytes) -> None:
        """Verify the signature by a raw Ed25519 public key; raises BadSignature.

        By libsodium, in less than half the time of OpenSSL: every request of staff waits for it
        (docs/decisions/0022-libsodium.md).
        """
        signed = f"{self.header}.{self.payload}".encode("ascii")
        try:
            VerifyKey(public).verify(signed, base64url_decode(self.signature))
        except BadSignatureError:
            raise BadSignature from None


def split_jws(text: str) -> Jws:
    """Take a compact JWS of at most 2048 characters apart."""
    parts = _PARTS.fullmatch(text) if len(text) <= LIMIT_CHARACTERS else None
    if parts is None:
        raise JwsMalformed
    return Jws(*parts.groups())


def read_header(part: str, typ: str) -> dict[str, Any]:
    """Return a header that says `typ` (RFC 8725 §3.11) and this algorithm, and asks for nothing more."""
    header = _object(part)
    is_ours = header.get("typ") == typ and header.get("alg") == ALGORITHM
    if not is_ours or header.keys() & {"crit", "b64"}:
        raise JwsMalformed
    return header


def _object(part: str) -> dict[str, Any]:
    value = parse_strict(base64url_decode(part))
    if not isinstance(value, dict):
        raise JwsMalformed
    return value


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
