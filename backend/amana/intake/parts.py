# SPDX-License-Identifier: AGPL-3.0-or-later
"""Take a multipart body apart (RFC 7578) in one pass over bytes that are in memory and small; refuses what is ambiguous.

General parsers read streams of any size, byte pattern by byte pattern; on the busiest request there
is, that cost more than storing it (docs/performance.md). Tests hold this one against Werkzeug's.
"""

import re

from amana.protocol.submission import SubmissionInvalid

PARTS_FAULT = "A part is missing, unknown, cut, or there twice."
MAX_PARTS = 16
HEADERS_LIMIT_BYTES = 1024

_BOUNDARY = re.compile(
    r"[0-9A-Za-z'()+_,./:=?-]{1,100}"
)  # RFC 2046 §5.1.1 says 70; some clients use a few more.
_DISPOSITION = re.compile(
    rb'(?i:content-disposition): ?form-data; ?name="([a-z_]{1,32})"(?:; ?filename="[ !#-\[\]-~]*")?'
)
_OTHER = re.compile(rb"(?i:content-(?:type|length)): ?[ -~]*")


def parse_parts(boundary: str, body: bytes) -> dict[str, bytes]:
    """Return the parts of a body by name; each is there once, whatever its file name and type."""
    if not _BOUNDARY.fullmatch(boundary):
        raise SubmissionInvalid("parts-invalid", PARTS_FAULT)
    marker = b"--" + boundary.encode("ascii")
    delimiter = b"\r\n" + marker
    # The first delimiter may come without a line break before it.
    pieces = (b"\r\n" + body).split(delimiter)
    first, last = pieces[0], pieces[-1]
    if first not in {b"", b"\r\n"} or not last.startswith(b"--") or len(pieces) > MAX_PARTS + 2:
        raise SubmissionInvalid("parts-invalid", PARTS_FAULT)
    parts: dict[str, bytes] = {}
    for piece in pieces[1:-1]:
        head, separator, data = piece.partition(b"\r\n\r\n")
        if not separator or not head.startswith(b"\r\n") or len(head) > HEADERS_LIMIT_BYTES:
            raise SubmissionInvalid("parts-invalid", PARTS_FAULT)
        disposition, *others = head.removeprefix(b"\r\n").split(b"\r\n")
        match = _DISPOSITION.fullmatch(disposition)
        # Parsers that take bare line feeds would see another part where the marker stands inside one.
        if match is None or marker in piece or not all(map(_OTHER.fullmatch, others)):
            raise SubmissionInvalid("parts-invalid", PARTS_FAULT)
        if (name := match[1].decode("ascii")) in parts:
            raise SubmissionInvalid("parts-invalid", PARTS_FAULT)
        parts[name] = data
    return parts
