"""What the C2SP/CCTV age vectors need beyond the product: their format, ASCII armor, X25519 keys."""

import base64
import binascii
import re
import zlib
from dataclasses import dataclass
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from amana.protocol import age, bech32
from amana.protocol.age import BadHeader, Identity, Opener, Passphrase, Stanza

KNOWN_KEYS = {
    "expect", "payload", "file key", "identity", "passphrase", "armored", "compressed", "comment",
}  # fmt: skip


class BadArmor(Exception):
    """The ASCII armor is malformed."""


@dataclass(frozen=True)
class Vector:
    """One test vector: what to expect, the keys to try, and the age file."""

    name: str
    expect: str
    payload_sha256: str | None
    openers: tuple[Opener, ...]
    armored: bool
    data: bytes

    @classmethod
    def parse(cls, name: str, content: bytes) -> Self:
        text, _, data = content.partition(b"\n\n")
        fields: dict[str, list[str]] = {}
        for line in text.decode("ascii").splitlines():
            key, _, value = line.partition(": ")
            fields.setdefault(key, []).append(value)
        assert fields.keys() <= KNOWN_KEYS, name
        if "compressed" in fields:
            assert fields["compressed"] == ["zlib"], name
            data = zlib.decompress(data)
        return cls(
            name=name,
            expect=fields["expect"][0],
            payload_sha256=fields.get("payload", [None])[0],
            openers=(
                *(parse_identity(value) for value in fields.get("identity", [])),
                *(Passphrase(value) for value in fields.get("passphrase", [])),
            ),
            armored=fields.get("armored") == ["yes"],
            data=data,
        )


@dataclass(frozen=True)
class AnyOf:
    """Several secrets tried as one."""

    openers: tuple[Opener, ...]

    def unwrap(self, stanza: Stanza) -> bytes | None:
        found = (opener.unwrap(stanza) for opener in self.openers)
        return next((key for key in found if key is not None), None)


class X25519Identity:
    """A classical age key, which the product never accepts (C2SP age, "The X25519 recipient type")."""

    def __init__(self, raw: bytes | None = None) -> None:
        self._key = X25519PrivateKey.from_private_bytes(raw) if raw else X25519PrivateKey.generate()
        self.public = self._key.public_key().public_bytes_raw()

    def unwrap(self, stanza: Stanza) -> bytes | None:
        if stanza.kind != "X25519":
            return None
        if len(stanza.args) != 1 or len(stanza.body) != 32:
            raise BadHeader
        share = age.base64_decode(stanza.args[0])
        if len(share) != 32:
            raise BadHeader
        try:
            secret = self._key.exchange(X25519PublicKey.from_public_bytes(share))
        except ValueError:
            raise BadHeader from None
        try:
            return _x25519_cipher(secret, share, self.public).decrypt(bytes(12), stanza.body, None)
        except InvalidTag:
            return None

    def wrap(self, file_key: bytes) -> Stanza:
        ephemeral = X25519PrivateKey.generate()
        share = ephemeral.public_key().public_bytes_raw()
        secret = ephemeral.exchange(X25519PublicKey.from_public_bytes(self.public))
        body = _x25519_cipher(secret, share, self.public).encrypt(bytes(12), file_key, None)
        return Stanza("X25519", (age.base64_encode(share),), body)


def _x25519_cipher(secret: bytes, share: bytes, public: bytes) -> ChaCha20Poly1305:
    kdf = HKDF(hashes.SHA256(), 32, share + public, b"age-encryption.org/v1/X25519")
    return ChaCha20Poly1305(kdf.derive(secret))


def parse_identity(text: str) -> Opener:
    if text.startswith("AGE-SECRET-KEY-PQ-1"):
        return Identity.parse(text)
    prefix, raw = bech32.decode(text)
    assert prefix == "age-secret-key-"
    return X25519Identity(raw)


BEGIN, END = "-----BEGIN AGE ENCRYPTED FILE-----", "-----END AGE ENCRYPTED FILE-----"
FULL_LINE = re.compile(r"[A-Za-z0-9+/]{64}")


def armor(data: bytes) -> bytes:
    text = base64.b64encode(data).decode("ascii")
    lines = [text[start : start + 64] for start in range(0, len(text), 64)]
    return "\n".join((BEGIN, *lines, END, "")).encode("ascii")


def dearmor(data: bytes) -> bytes:
    """Decode strict PEM (RFC 7468 §3, figure 3) with white space allowed around it only."""
    try:
        text = data.decode("ascii").strip(" \t\r\n").replace("\r\n", "\n")
    except UnicodeDecodeError:
        raise BadArmor from None
    lines = text.split("\n")
    if len(lines) < 2 or lines[0] != BEGIN or lines[-1] != END:
        raise BadArmor
    body = lines[1:-1]
    if not all(FULL_LINE.fullmatch(line) for line in body[:-1]):
        raise BadArmor
    if body and not 1 <= len(body[-1]) <= 64:
        raise BadArmor
    joined = "".join(body)
    try:
        decoded = base64.b64decode(joined, validate=True)
    except (binascii.Error, ValueError):
        raise BadArmor from None
    if base64.b64encode(decoded).decode("ascii") != joined:
        raise BadArmor
    return decoded


def read_all(vector: Vector) -> tuple[bytes, bytes, bytes]:
    """Return the file key, the payload nonce, and the sealed chunks of a vector."""
    data = dearmor(vector.data) if vector.armored else vector.data
    header = age.read_header(data)
    key = age.file_key(header, AnyOf(vector.openers))
    nonce, chunks = data[header.size :][: age.NONCE], data[header.size + age.NONCE :]
    if len(nonce) < age.NONCE:
        raise BadHeader
    return key, nonce, chunks
