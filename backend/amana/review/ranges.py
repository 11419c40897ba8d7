# SPDX-License-Identifier: AGPL-3.0-or-later
"""Byte ranges (RFC 9110 §14): one range at a time; several, or another unit, are answered with the whole."""

import re

_RANGE = re.compile(r"bytes=([0-9]{0,16})-([0-9]{0,16})")


class RangeNotSatisfiable(Exception):
    """The range begins behind the end."""


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Return the half-open range [start, end) of the one range asked for; None for the whole."""
    match = _RANGE.fullmatch(header or "")
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        start = max(0, size - int(last))
        end = size
    else:
        start = int(first)
        end = min(size, int(last) + 1) if last else size
        if last and int(last) < start:
            return None
    if start >= size or start >= end:
        raise RangeNotSatisfiable
    return start, end
