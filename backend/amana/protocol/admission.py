# SPDX-License-Identifier: AGPL-3.0-or-later
"""The price of admission (docs/protocol.md §13): work bound to one submission, so there is nothing to store or replay."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from amana.protocol import schema
from amana.protocol.encoding import b64, canonical, parse_canonical, parse_day, sha256, unb64
from amana.protocol.errors import ProtocolError

LIMIT_BYTES = 1024
MAX_PRICE = 32
FREE_BYTES = 64 * 2**20
MAX_EXTRA = 8
_SALT = sha256(b"amana-admission-v1\0")[:16]


class AdmissionRefused(ProtocolError):
    """The proof of work is missing, wrong, stale, too cheap, or was made for another submission."""

    slug = "admission-wrong"
    title = "The proof of admission was not made for this submission."


class _Notice(schema.StrictSchema):
    v = schema.one_of(1)
    day = schema.day()
    seed = schema.base64_of(32)
    price = schema.counting()


_NOTICE = _Notice()


@dataclass(frozen=True)
class Notice:
    """Today's seed and price, in zero bits, as `GET /v1/admission` gives them."""

    day: str
    seed: bytes
    price: int

    def document(self) -> dict[str, Any]:
        return {"v": 1, "day": self.day, "seed": b64(self.seed), "price": self.price}

    @classmethod
    def parse(cls, document: object) -> "Notice":
        fields = schema.checked(_NOTICE, document, "admission-invalid")
        if fields["price"] > MAX_PRICE:
            raise AdmissionRefused("admission-price", "The price asked is beyond all reason.")
        return cls(fields["day"], unb64(fields["seed"], 32), fields["price"])


@dataclass(frozen=True)
class Proof:
    """A paid price: the nonce that makes the hash begin with enough zero bits."""

    day: str
    price: int
    nonce: bytes

    def to_bytes(self) -> bytes:
        return canonical({"v": 1, "day": self.day, "price": self.price, "nonce": b64(self.nonce)})

    @classmethod
    def parse(cls, data: bytes) -> "Proof":
        document = parse_canonical(data, limit=LIMIT_BYTES)
        if not isinstance(document, dict) or document.keys() != {"v", "day", "price", "nonce"}:
            raise AdmissionRefused("admission-invalid", "The proof of admission has other fields.")
        price = document["price"]
        if (
            type(document["v"]) is not int
            or document["v"] != 1
            or type(price) is not int
            or not 0 <= price <= MAX_PRICE
        ):
            raise AdmissionRefused("admission-invalid", "The proof of admission is not one.")
        return cls(parse_day(document["day"]).isoformat(), price, unb64(document["nonce"], 16))


def total_price(price: int, declared_bytes: int) -> int:
    """Return the zero bits asked of a submission: one more for each doubling beyond 64 MiB, at most eight."""
    doublings = max(0, -(-declared_bytes // FREE_BYTES) - 1).bit_length()
    return price + min(doublings, MAX_EXTRA)


def work(seed: bytes, digest: bytes, nonce: bytes) -> int:
    """Return how many zero bits the hash of one attempt begins with; takes about 0.4 ms and 1 MiB."""
    attempt = Argon2id(salt=_SALT, length=32, iterations=1, lanes=1, memory_cost=1024)
    value = int.from_bytes(attempt.derive(seed + digest + nonce), "big")
    return 256 - value.bit_length()


def pay(
    notice: Notice,
    digest: bytes,
    declared_bytes: int,
    progress: Callable[[int], None] | None = None,
) -> Proof:
    """Search a nonce; 2**price attempts on average. `progress` is told the attempts so far."""
    asked = total_price(notice.price, declared_bytes)
    start = int.from_bytes(os.urandom(16), "big")
    attempts = 0
    while True:
        nonce = ((start + attempts) % 2**128).to_bytes(16, "big")
        attempts += 1
        if work(notice.seed, digest, nonce) >= asked:
            return Proof(notice.day, notice.price, nonce)
        if progress and attempts % 16 == 0:
            progress(attempts)


def check_proof(proof: Proof, notice: Notice, digest: bytes, declared_bytes: int) -> int:
    """Return the zero bits paid; refuses a proof of another day, at another price or for another submission."""
    if proof.day != notice.day:
        raise AdmissionRefused("admission-stale", "The proof of admission is of another day.")
    if proof.price < notice.price:
        raise AdmissionRefused("admission-price", "The price of admission has risen.")
    paid = work(notice.seed, digest, proof.nonce)
    if paid < total_price(notice.price, declared_bytes):
        raise AdmissionRefused
    return paid
