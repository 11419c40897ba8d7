# SPDX-License-Identifier: AGPL-3.0-or-later
"""The age v1 file format (C2SP age) with hybrid keys and passphrases; has no armor and no X25519.

What our own sealed objects may look like is narrower: see `sealing`.
"""

import base64
import binascii
import hmac
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Protocol, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, hpke
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from amana.protocol import bech32
from amana.protocol.errors import CannotOpen, NotSealed, ProtocolError

VERSION_LINE: Final = b"age-encryption.org/v1\n"
CHUNK: Final = 64 * 1024  # C2SP age, "Payload": plaintext bytes of one chunk.
TAG: Final = 16
SEALED_CHUNK: Final = CHUNK + TAG
NONCE: Final = 16
FILE_KEY: Final = 16

HYBRID: Final = "mlkem768x25519"  # C2SP age, "The mlkem768x25519 recipient type".
HYBRID_SHARE: Final = 1120  # ML-KEM-768 ciphertext (1088) and X25519 share (32).
RECIPIENT_SIZE: Final = 1216  # ML-KEM-768 encapsulation key (1184) and X25519 key (32).
_HYBRID_INFO = b"age-encryption.org/mlkem768x25519"
_HYBRID_SUITE = hpke.Suite(
    hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.CHACHA20_POLY1305
)
_RECIPIENT_PREFIX = "age1pq"
_IDENTITY_PREFIX = "age-secret-key-pq-"

SCRYPT: Final = "scrypt"
_SCRYPT_SALT = b"age-encryption.org/v1/scrypt"
_WRAPPED_KEY = FILE_KEY + TAG

MAX_HEADER: Final = 64 * 1024
_MAX_STANZAS = 64
_BODY_COLUMNS = 64


class BadHeader(NotSealed):
    """The header is not a well-formed age v1 header."""

    slug = "sealed-header"
    title = "The header of the sealed object is damaged or does not have the one allowed form."


class NoMatch(CannotOpen):
    """The file was sealed to another key."""

    slug = "no-match"
    title = "This was sealed to another key."


class WrongPassphrase(CannotOpen):
    """The passphrase does not open the file."""

    slug = "wrong-passphrase"
    title = "The passphrase does not open this file."


class BadHeaderMac(CannotOpen):
    """The header was altered after sealing."""

    slug = "header-altered"
    title = "The header of the sealed object was altered after sealing."


class BadPayload(CannotOpen):
    """The payload was cut, extended or altered after sealing."""

    slug = "payload-altered"
    title = "The sealed object was cut, extended or altered after sealing."


class BadKey(ProtocolError):
    """A text is not a recipient or an identity of the hybrid kind."""

    slug = "bad-key"
    title = "This is not a post-quantum age key (age1pq1… or AGE-SECRET-KEY-PQ-1…)."


@dataclass(frozen=True, slots=True, repr=False)
class Stanza:
    """One wrapping of the file key: type, arguments and body (C2SP age, "Recipient stanza")."""

    kind: str
    args: tuple[str, ...]
    body: bytes

    def encode(self) -> bytes:
        """Return the lines of the stanza; the last line of a body is shorter than 64 columns."""
        body = base64_encode(self.body)
        lines = [body[i : i + _BODY_COLUMNS] for i in range(0, len(body) + 1, _BODY_COLUMNS)]
        return "".join(
            (f"-> {' '.join((self.kind, *self.args))}\n", *(f"{line}\n" for line in lines))
        ).encode("ascii")


@dataclass(frozen=True, slots=True, repr=False)
class Header:
    """A parsed header: its stanzas, what the MAC covers, the MAC, and how many bytes it took."""

    stanzas: tuple[Stanza, ...]
    covered: bytes
    mac: bytes
    size: int


class Opener(Protocol):
    """A secret that may unwrap the file key of a stanza."""

    def unwrap(self, stanza: Stanza) -> bytes | None:
        """Return the file key, or None for a stanza of another kind or key; raises BadHeader."""


# Keys


@dataclass(frozen=True, slots=True)
class Recipient:
    """A public key that files are sealed to; `raw` has 1216 bytes."""

    raw: bytes

    def __post_init__(self) -> None:
        self._key()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `age1pq1…`; raises BadKey or BadBech32."""
        prefix, raw = bech32.decode(text)
        if prefix != _RECIPIENT_PREFIX or text != text.lower():
            raise BadKey
        return cls(raw)

    def __str__(self) -> str:
        return bech32.encode(_RECIPIENT_PREFIX, self.raw)

    def __repr__(self) -> str:
        return f"<Recipient {self.raw[:4].hex()}…>"

    def wrap(self, file_key: bytes) -> Stanza:
        """Seal `file_key` (16 bytes) to this recipient with HPKE (RFC 9180 §6.1, base mode)."""
        try:
            wrapped = _HYBRID_SUITE.encrypt(file_key, self._key(), _HYBRID_INFO)
        except ValueError:
            raise BadKey from None
        return Stanza(HYBRID, (base64_encode(wrapped[:HYBRID_SHARE]),), wrapped[HYBRID_SHARE:])

    def _key(self) -> hpke.MLKEM768X25519PublicKey:
        if len(self.raw) != RECIPIENT_SIZE:
            raise BadKey
        try:
            return hpke.MLKEM768X25519PublicKey(
                MLKEM768PublicKey.from_public_bytes(self.raw[:-32]),
                X25519PublicKey.from_public_bytes(self.raw[-32:]),
            )
        except ValueError:
            raise BadKey from None


class Identity:
    """The secret key of a recipient, grown from 32 bytes; shown only by `str` and `seed`."""

    def __init__(self, seed: bytes) -> None:
        if len(seed) != 32:
            raise BadKey
        # draft-ietf-hpke-pq, MLKEM768-X25519: SHAKE256(seed) gives both secret keys.
        expansion = hashes.Hash(hashes.SHAKE256(96))
        expansion.update(seed)
        secrets = expansion.finalize()
        self._seed = seed
        self._mlkem = MLKEM768PrivateKey.from_seed_bytes(secrets[:64])
        self._x25519 = X25519PrivateKey.from_private_bytes(secrets[64:])

    @classmethod
    def generate(cls) -> Self:
        """Make a fresh identity."""
        return cls(os.urandom(32))

    @classmethod
    def from_seed(cls, seed: bytes) -> Self:
        """Grow the identity of a seed of 32 bytes."""
        return cls(seed)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `AGE-SECRET-KEY-PQ-1…`; raises BadKey or BadBech32."""
        prefix, seed = bech32.decode(text)
        if prefix != _IDENTITY_PREFIX or text != text.upper():
            raise BadKey
        return cls(seed)

    @property
    def seed(self) -> bytes:
        """The 32 secret bytes."""
        return self._seed

    @cached_property
    def recipient(self) -> Recipient:
        """The public half."""
        return Recipient(
            self._mlkem.public_key().public_bytes_raw()
            + self._x25519.public_key().public_bytes_raw()
        )

    def __str__(self) -> str:
        return bech32.encode(_IDENTITY_PREFIX, self._seed).upper()

    def __repr__(self) -> str:
        return f"<Identity of {self.recipient!r}>"

    def unwrap(self, stanza: Stanza) -> bytes | None:
        """Return the file key of a stanza sealed to this identity, or None; raises BadHeader."""
        if stanza.kind != HYBRID:
            return None
        if len(stanza.args) != 1 or len(stanza.body) != _WRAPPED_KEY:
            raise BadHeader
        share = base64_decode(stanza.args[0])
        if len(share) != HYBRID_SHARE:
            raise BadHeader
        try:
            # A share of low order contributes no secret; age refuses such a file.
            self._x25519.exchange(X25519PublicKey.from_public_bytes(share[-32:]))
        except ValueError:
            raise BadHeader from None
        try:
            key = hpke.MLKEM768X25519PrivateKey(self._mlkem, self._x25519)
            return _HYBRID_SUITE.decrypt(share + stanza.body, key, _HYBRID_INFO)
        except (InvalidTag, ValueError):
            return None


class Passphrase:
    """A passphrase as recipient and identity (C2SP age, "The scrypt recipient type").

    `work_factor` is the base-2 logarithm of scrypt's N when sealing; opening refuses more than
    `max_work_factor`, so that a forged file cannot take all memory (N = 2^22 takes 4 GiB).
    """

    def __init__(self, text: str, *, work_factor: int = 18, max_work_factor: int = 22) -> None:
        if not text:
            raise WrongPassphrase("no-passphrase", "The passphrase is empty.")
        self._secret = text.encode("utf-8")
        self._work_factor = work_factor
        self._max_work_factor = max_work_factor

    def __repr__(self) -> str:
        return "<Passphrase>"

    def wrap(self, file_key: bytes) -> Stanza:
        """Seal `file_key` (16 bytes) under the passphrase."""
        salt = os.urandom(16)
        wrapped = self._cipher(salt, self._work_factor).encrypt(bytes(12), file_key, None)
        return Stanza(SCRYPT, (base64_encode(salt), str(self._work_factor)), wrapped)

    def unwrap(self, stanza: Stanza) -> bytes | None:
        """Return the file key, or None when the passphrase is wrong; raises BadHeader."""
        if stanza.kind != SCRYPT:
            return None
        if len(stanza.args) != 2 or len(stanza.body) != _WRAPPED_KEY:
            raise BadHeader
        salt = base64_decode(stanza.args[0])
        if len(salt) != 16 or not re.fullmatch(r"[1-9][0-9]?", stanza.args[1]):
            raise BadHeader
        work_factor = int(stanza.args[1])
        if work_factor > self._max_work_factor:
            raise BadHeader("work-factor", "The file asks for more work than is allowed.")
        try:
            return self._cipher(salt, work_factor).decrypt(bytes(12), stanza.body, None)
        except InvalidTag:
            return None

    def _cipher(self, salt: bytes, work_factor: int) -> ChaCha20Poly1305:
        kdf = Scrypt(salt=_SCRYPT_SALT + salt, length=32, n=1 << work_factor, r=8, p=1)
        return ChaCha20Poly1305(kdf.derive(self._secret))


# Header

_STANZA_LINE = re.compile(rb"-> ([!-~]+(?: [!-~]+)*)\n")
_BODY_LINE = re.compile(rb"([A-Za-z0-9+/]{0,64})\n")
_MAC_LINE = re.compile(rb"--- ([A-Za-z0-9+/]{43})\n")


def write_header(file_key: bytes, stanzas: Iterable[Stanza]) -> bytes:
    """Return a header with its MAC over the given wrappings of `file_key`."""
    covered = VERSION_LINE + b"".join(stanza.encode() for stanza in stanzas) + b"---"
    return covered + f" {base64_encode(_mac(file_key, covered))}\n".encode("ascii")


def read_header(data: bytes) -> Header:
    """Parse the header that `data` begins with (C2SP age, "Header"); raises BadHeader.

    Reads at most 64 KiB and 64 stanzas. The MAC is checked by `file_key`.
    """
    data = data[:MAX_HEADER]
    if not data.startswith(VERSION_LINE):
        raise BadHeader
    position = len(VERSION_LINE)
    stanzas: list[Stanza] = []
    while (line := _STANZA_LINE.match(data, position)) and len(stanzas) < _MAX_STANZAS:
        kind, *args = line[1].decode("ascii").split(" ")
        position = line.end()
        body: list[str] = []
        while not body or len(body[-1]) == _BODY_COLUMNS:
            column = _BODY_LINE.match(data, position)
            if not column:
                raise BadHeader
            body.append(column[1].decode("ascii"))
            position = column.end()
        stanzas.append(Stanza(kind, tuple(args), base64_decode("".join(body))))
    footer = _MAC_LINE.match(data, position)
    if not footer or not stanzas:
        raise BadHeader
    mac = base64_decode(footer[1].decode("ascii"))
    return Header(tuple(stanzas), data[: position + 3], mac, footer.end())


def file_key(header: Header, opener: Opener) -> bytes:
    """Unwrap the file key (16 bytes) and check the header's MAC with it.

    Raises BadHeader, NoMatch, or BadHeaderMac.
    """
    if len(header.stanzas) > 1 and any(stanza.kind == SCRYPT for stanza in header.stanzas):
        raise BadHeader
    for stanza in header.stanzas:
        key = opener.unwrap(stanza)
        if key is not None:
            check_mac(header, key)
            return key
    raise NoMatch


def check_mac(header: Header, key: bytes) -> None:
    """Check that `key` is the one file key that this header commits to; raises BadHeaderMac."""
    if len(key) != FILE_KEY:
        raise BadHeader
    if not hmac.compare_digest(_mac(key, header.covered), header.mac):
        raise BadHeaderMac


def _mac(key: bytes, covered: bytes) -> bytes:
    return hmac.digest(_hkdf(key, b"", b"header"), covered, "sha256")


def _hkdf(key: bytes, salt: bytes, info: bytes) -> bytes:
    return HKDF(hashes.SHA256(), 32, salt, info).derive(key)


# Payload


class PayloadCipher:
    """The chunks of one payload, in order (C2SP age, "Payload"); owned by one thread.

    All calls but the last take whole chunks. A chunk's plaintext is written only after its tag
    verified, and the payload is complete only when a call with `last` returned.
    """

    def __init__(self, key: bytes, nonce: bytes) -> None:
        self._aead = ChaCha20Poly1305(_hkdf(key, nonce, b"payload"))
        self._count = 0

    def seal(self, plain: memoryview, out: memoryview, *, last: bool) -> int:
        """Seal `plain` into `out` and return how many bytes were written."""
        written = 0
        for start in range(0, len(plain) or 1, CHUNK):
            chunk = plain[start : start + CHUNK]
            final = last and start + CHUNK >= len(plain)
            end = written + len(chunk) + TAG
            written += self._aead.encrypt_into(
                self._nonce(final=final), chunk, None, out[written:end]
            )
        return written

    def open(self, sealed: memoryview, out: memoryview, *, last: bool) -> int:
        """Open `sealed` into `out` and return how many bytes were written; raises BadPayload."""
        written = 0
        for start in range(0, len(sealed) or 1, SEALED_CHUNK):
            chunk = sealed[start : start + SEALED_CHUNK]
            size = len(chunk) - TAG
            # The last chunk may be short, but empty only when it is the whole payload.
            if size < 0 or (size == 0 and self._count > 0):
                raise BadPayload
            final = last and start + SEALED_CHUNK >= len(sealed)
            try:
                written += self._aead.decrypt_into(
                    self._nonce(final=final), chunk, None, out[written : written + size]
                )
            except InvalidTag:
                raise BadPayload from None
        return written

    def _nonce(self, *, final: bool) -> bytes:
        nonce = (self._count << 8 | final).to_bytes(12, "big")
        self._count += 1
        return nonce


def payload_size(size: int) -> int:
    """Return how many bytes `size` bytes of plaintext take as chunks, without the nonce."""
    return size + TAG * max(1, -(-size // CHUNK))


def seal_payload(key: bytes, data: bytes) -> bytes:
    """Return nonce and chunks of `data`."""
    nonce = os.urandom(NONCE)
    out = bytearray(NONCE + payload_size(len(data)))
    out[:NONCE] = nonce
    PayloadCipher(key, nonce).seal(memoryview(data), memoryview(out)[NONCE:], last=True)
    return bytes(out)


def open_payload(key: bytes, payload: bytes) -> bytes:
    """Open nonce and chunks; raises BadPayload, and BadHeader when the nonce is cut."""
    if len(payload) < NONCE:
        raise BadHeader
    out = bytearray(len(payload))
    cipher = PayloadCipher(key, payload[:NONCE])
    size = cipher.open(memoryview(payload)[NONCE:], memoryview(out), last=True)
    return bytes(out[:size])


# Base64 as age writes it: standard alphabet, no padding, canonical.


def base64_encode(data: bytes) -> str:
    """Return unpadded standard Base64."""
    return base64.b64encode(data).rstrip(b"=").decode("ascii")


def base64_decode(text: str) -> bytes:
    """Decode canonical unpadded Base64; raises BadHeader."""
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise BadHeader from None
    if base64_encode(data) != text:
        raise BadHeader
    return data
