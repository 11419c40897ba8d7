# SPDX-License-Identifier: AGPL-3.0-or-later
"""How values become bytes that are hashed and signed (docs/protocol.md §1); refuses every second spelling of one value."""

import base64
import binascii
import hashlib
import json
import os
from datetime import date
from typing import Any, NoReturn

from amana.protocol.errors import ProtocolError

MAX_DEPTH = 16
MAX_SAFE_INTEGER = 2**53 - 1  # RFC 8785 §3.2.2.3: what every JSON implementation holds exactly.


class NotCanonical(ProtocolError):
    """The JSON is not in the one canonical form, or uses what the formats do not allow."""

    slug = "not-canonical"
    title = "The JSON is not in canonical form (RFC 8785), or holds what is not allowed in it."


class BadEncoding(ProtocolError):
    """A Base64 text, a day or an id is not in its one allowed form."""

    slug = "bad-encoding"
    title = "A value is not encoded in its one allowed form."


def canonical(value: Any) -> bytes:
    """Return the RFC 8785 form of `value`, UTF-8; refuses floats, wide integers and non-ASCII keys.

    For what is left, the standard library's compact form with sorted keys is that form, and ten
    times faster than a general implementation; tests hold it against one.
    """
    _check(value, MAX_DEPTH)
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return text.encode("utf-8")


def parse_canonical(data: bytes, *, limit: int) -> Any:
    """Parse JSON of at most `limit` bytes that is byte for byte its own canonical form."""
    if len(data) > limit:
        raise NotCanonical("too-large", f"The JSON is larger than {limit} bytes.")
    try:
        value = json.loads(data.decode("utf-8"), parse_float=_refuse, parse_constant=_refuse)
    except (UnicodeDecodeError, ValueError, RecursionError):
        raise NotCanonical from None
    if canonical(value) != data:
        raise NotCanonical
    return value


def parse_strict(data: bytes) -> Any:
    """Parse JSON in any spelling, UTF-8; refuses doubled names, floats, wide integers and deep nesting."""
    try:
        value = _STRICT.decode(data.decode("utf-8"))
    except (UnicodeDecodeError, ValueError, RecursionError):
        raise NotCanonical from None
    _check(value, MAX_DEPTH)
    return value


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise NotCanonical
    return fields


def _refuse(_text: str) -> NoReturn:
    raise NotCanonical


_STRICT = json.JSONDecoder(
    parse_float=_refuse, parse_constant=_refuse, object_pairs_hook=_without_doubles
)


def _check(value: Any, depth: int) -> None:
    if depth == 0:
        raise NotCanonical("too-deep", f"The JSON is nested deeper than {MAX_DEPTH} levels.")
    match value:
        case None | bool():
            return
        case str():
            try:
                value.encode("utf-8")
            except UnicodeEncodeError:
                raise NotCanonical from None
        case int():
            if abs(value) > MAX_SAFE_INTEGER:
                raise NotCanonical
        case list() | tuple():
            for item in value:
                _check(item, depth - 1)
        case dict():
            for key, item in value.items():
                if not isinstance(key, str) or not key.isascii():
                    raise NotCanonical
                _check(item, depth - 1)
        case _:
            raise NotCanonical


def b64(data: bytes) -> str:
    """Return standard padded Base64."""
    return base64.b64encode(data).decode("ascii")


def unb64(text: object, size: int | None = None) -> bytes:
    """Decode canonical padded Base64, of exactly `size` bytes when given."""
    if not isinstance(text, str):
        raise BadEncoding
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError, ValueError):
        raise BadEncoding from None
    if b64(data) != text or (size is not None and len(data) != size):
        raise BadEncoding
    return data


def b32(data: bytes) -> str:
    """Return lower-case Base32 without padding."""
    return base64.b32encode(data).decode("ascii").rstrip("=").lower()


def random_id() -> str:
    """Return a random id: 160 bits, 32 characters."""
    return b32(os.urandom(20))


def check_id(text: object) -> str:
    """Return `text` if it has the form of an id: 32 characters of lower-case Base32."""
    if not (isinstance(text, str) and len(text) == 32 and set(text) <= ID_ALPHABET):
        raise BadEncoding("bad-id", "An id is not 32 characters of lower-case Base32.")
    return text


ID_ALPHABET = frozenset("abcdefghijklmnopqrstuvwxyz234567")


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def sha256_hex(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def check_sha256_hex(text: object) -> str:
    """Return `text` if it is 64 lower-case hexadecimal digits."""
    if not (isinstance(text, str) and len(text) == 64 and set(text) <= HEX_ALPHABET):
        raise BadEncoding("bad-hash", "A hash is not 64 lower-case hexadecimal digits.")
    return text


HEX_ALPHABET = frozenset("0123456789abcdef")


def tagged_sha256(tag: str, *parts: bytes) -> bytes:
    """Hash `parts` under a domain tag that ends in a zero byte."""
    digest = hashlib.sha256(tag.encode("ascii") + b"\0")
    for part in parts:
        digest.update(part)
    return digest.digest()


def parse_day(text: object) -> date:
    """Parse a day written YYYY-MM-DD."""
    try:
        day = date.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        day = None
    if day is None or day.isoformat() != text:
        raise BadEncoding("bad-day", "A day is not written YYYY-MM-DD.")
    return day
