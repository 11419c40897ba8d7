# SPDX-License-Identifier: AGPL-3.0-or-later
"""Ed25519 signatures over tagged messages (docs/protocol.md §1, RFC 8032); never over a bare message."""

from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from amana.protocol.encoding import b64, canonical, unb64
from amana.protocol.errors import BadSignature, ProtocolError


class SigningKey:
    """An Ed25519 key that signs under a domain tag."""

    def __init__(self, seed: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)

    @classmethod
    def generate(cls) -> "SigningKey":
        return cls(Ed25519PrivateKey.generate().private_bytes_raw())

    @property
    def seed(self) -> bytes:
        """The 32 secret bytes."""
        return self._key.private_bytes_raw()

    @property
    def private(self) -> Ed25519PrivateKey:
        """The key as JWT and TUF libraries want it."""
        return self._key

    @property
    def public(self) -> str:
        """The public key, Base64 of 32 bytes."""
        return b64(self._key.public_key().public_bytes_raw())

    def sign(self, tag: str, message: bytes) -> str:
        """Sign `tag || 0x00 || message`; returns Base64 of 64 bytes."""
        return b64(self._key.sign(tag.encode("ascii") + b"\0" + message))

    def sign_fields(self, tag: str, fields: dict[str, Any]) -> dict[str, Any]:
        """Return `fields` with `sig` over their canonical form."""
        return {**fields, "sig": self.sign(tag, canonical(fields))}

    def __repr__(self) -> str:
        return f"SigningKey(public={self.public!r})"


def public_key(public: str) -> Ed25519PublicKey:
    """Parse a public key from Base64 of 32 bytes."""
    try:
        return Ed25519PublicKey.from_public_bytes(unb64(public, 32))
    except ValueError as error:
        if isinstance(error, ProtocolError):
            raise
        raise BadSignature("bad-key", "A public key is not an Ed25519 key.") from None


def verify(public: str, tag: str, message: bytes, signature: str) -> None:
    """Verify `signature` over `tag || 0x00 || message`."""
    try:
        public_key(public).verify(unb64(signature, 64), tag.encode("ascii") + b"\0" + message)
    except InvalidSignature:
        raise BadSignature from None


def verify_fields(public: str, tag: str, signed: dict[str, Any]) -> dict[str, Any]:
    """Verify `sig` over the canonical form of the other fields, and return those."""
    fields = {name: value for name, value in signed.items() if name != "sig"}
    signature = signed.get("sig")
    if not isinstance(signature, str):
        raise BadSignature
    verify(public, tag, canonical(fields), signature)
    return fields
