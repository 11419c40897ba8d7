# SPDX-License-Identifier: AGPL-3.0-or-later
"""Bech32 (BIP 173) without its length limit, as age writes keys; refuses every second spelling."""

import base64
import binascii

from amana.protocol.errors import ProtocolError

MAX_LENGTH = 4096  # An age1pq recipient has 1959 characters.

_BECH32 = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_BASE32 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_TO_BECH32 = bytes.maketrans(_BASE32, _BECH32)
_TO_BASE32 = bytes.maketrans(_BECH32, _BASE32)
_VALUES = bytes.maketrans(_BECH32, bytes(range(32)))
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)


def _feedback(top: int) -> int:
    value = 0
    for bit, constant in enumerate(_GENERATOR):
        if top >> bit & 1:
            value ^= constant
    return value


# One look-up a character: a recipient has two thousand of them.
_FEEDBACK = tuple(_feedback(top) for top in range(32))


class BadBech32(ProtocolError):
    """A key is not Bech32: mistyped, cut, or of mixed case."""

    slug = "bad-bech32"
    title = "A key is mistyped or cut: its check characters do not match."


def encode(prefix: str, data: bytes) -> str:
    """Return `data` under a lower-case human-readable `prefix`, in lower case."""
    symbols = base64.b32encode(data).rstrip(b"=").translate(_TO_BECH32)
    checksum = _polymod(prefix, symbols.translate(_VALUES) + bytes(6)) ^ 1
    tail = bytes(_BECH32[checksum >> 5 * (5 - index) & 31] for index in range(6))
    return f"{prefix}1{(symbols + tail).decode('ascii')}"


def decode(text: str) -> tuple[str, bytes]:
    """Return the lower-case prefix and the data of `text`, which is all lower or all upper case."""
    if len(text) > MAX_LENGTH or not text.isascii() or text not in (text.lower(), text.upper()):
        raise BadBech32
    prefix, separator, rest = text.lower().rpartition("1")
    symbols = rest.encode("ascii")
    if not (prefix and separator and len(symbols) >= 6 and all(33 <= ord(c) < 127 for c in prefix)):
        raise BadBech32
    if symbols.translate(None, _BECH32) or _polymod(prefix, symbols.translate(_VALUES)) != 1:
        raise BadBech32
    body = symbols[:-6].translate(_TO_BASE32)
    try:
        data = base64.b32decode(body + b"=" * (-len(body) % 8))
    except binascii.Error:
        raise BadBech32 from None
    if base64.b32encode(data).rstrip(b"=") != body:
        raise BadBech32
    return prefix, data


def _polymod(prefix: str, values: bytes) -> int:
    letters = prefix.encode("ascii")
    expanded = bytes(c >> 5 for c in letters) + b"\0" + bytes(c & 31 for c in letters)
    check = 1
    for value in expanded + values:
        check = (check & 0x1FFFFFF) << 5 ^ value ^ _FEEDBACK[check >> 25]
    return check
