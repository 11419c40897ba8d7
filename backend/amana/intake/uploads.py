# SPDX-License-Identifier: AGPL-3.0-or-later
"""The rules of resumable uploads (tus 1.0.0) as pure functions: addresses, headers, and what a PATCH may do."""

import hmac
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from email.utils import format_datetime

from amana.api.secrets import Secrets
from amana.errors import NotFound, Refusal, TooLarge, UploadOffsetMismatch, WrongMediaType
from amana.protocol.encoding import unb64
from amana.protocol.errors import ProtocolError

TUS_VERSION = "1.0.0"
TUS_EXTENSIONS = "checksum,expiration,termination"
CHECKSUM_ALGORITHM = "sha256"
MEDIA_TYPE = "application/offset+octet-stream"
WHOLE_CASE = "c"

_CAPABILITY = re.compile(r"([a-z2-7]{32})\.(c|\d{1,2})\.([a-z2-7]{26})")
_NUMBER = re.compile(r"\d{1,16}")


class TusVersionUnknown(Refusal):
    slug = "tus-version"
    status = 412
    title = (
        "This server speaks version 1.0.0 of the tus protocol; the request names another, or none."
    )


class LengthRequired(Refusal):
    slug = "length-required"
    status = 411
    title = "The request does not say how many bytes it brings."


class HeaderInvalid(Refusal):
    slug = "header-invalid"
    status = 400
    title = "A header of the upload is missing or malformed."


class ChecksumMismatch(Refusal):
    slug = "checksum-mismatch"
    status = 460
    title = "The bytes do not have the checksum that came with them; they were discarded."


@dataclass(frozen=True)
class Patch:
    """What one PATCH wants: to append `length` bytes at `offset`."""

    offset: int
    length: int
    checksum: bytes | None


def capability(secrets: Secrets, case: str, target: int | str) -> str:
    """Return the address of an upload, or of the whole case: re-derivable, so it is stored nowhere."""
    return f"{case}.{target}.{secrets.mac('upload', case, str(target))}"


def parse_capability(secrets: Secrets, text: str) -> tuple[str, int | None]:
    """Return case and object number (None for the whole case); an address not made here does not exist."""
    match = _CAPABILITY.fullmatch(text)
    if match is None:
        raise NotFound
    case, target, mac = match.groups()
    if not hmac.compare_digest(mac, secrets.mac("upload", case, target)):
        raise NotFound
    return case, None if target == WHOLE_CASE else int(target)


def check_version(header: str | None) -> None:
    """Refuse a request that does not name the one version spoken here."""
    if header != TUS_VERSION:
        raise TusVersionUnknown(headers={"Tus-Version": TUS_VERSION})


def parse_patch(
    *, media_type: str | None, offset: str | None, length: str | None, checksum: str | None
) -> Patch:
    """Read the headers of a PATCH."""
    if media_type != MEDIA_TYPE:
        raise WrongMediaType
    if length is None:
        raise LengthRequired
    return Patch(_number(offset), _number(length), _checksum(checksum))


def check_patch(patch: Patch, *, offset: int, size: int) -> None:
    """Refuse bytes that do not continue what is there, or go beyond what was announced."""
    if patch.offset != offset:
        raise UploadOffsetMismatch(headers={"Upload-Offset": str(offset)}, offset=offset)
    if patch.offset + patch.length > size:
        raise TooLarge(slug="upload-too-long", headers={"Upload-Offset": str(offset)})


def http_date(day: str) -> str:
    """Return the end of a day as HTTP writes times (RFC 9110 §5.6.7)."""
    end = datetime.combine(date.fromisoformat(day), time(23, 59, 59), UTC)
    return format_datetime(end, usegmt=True)


def _number(text: str | None) -> int:
    if text is None or not _NUMBER.fullmatch(text):
        raise HeaderInvalid
    return int(text)


def _checksum(text: str | None) -> bytes | None:
    if text is None:
        return None
    algorithm, _, value = text.partition(" ")
    if algorithm != CHECKSUM_ALGORITHM:
        raise HeaderInvalid(slug="checksum-unknown")
    try:
        return unb64(value, 32)
    except ProtocolError:
        raise HeaderInvalid from None
