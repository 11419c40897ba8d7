# SPDX-License-Identifier: AGPL-3.0-or-later
"""File names of strangers, made safe to write on any system; what a name really was stands in the manifest."""

import re
import unicodedata
from collections.abc import Collection
from typing import Final

LIMIT_BYTES: Final = 120
EXTENSION_LIMIT_BYTES: Final = 16

# What Windows refuses in a name; a colon would name another stream of a file.
_FORBIDDEN: Final = re.compile(r'[<>:"|?*]')
# Names of devices on Windows, with any extension.
_DEVICE: Final = re.compile(
    r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])(?![^. ])", re.IGNORECASE
)
# Controls, overrides and isolates of direction, surrogates, line and paragraph separators.
_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def safe_name(name: str, taken: Collection[str] = ()) -> str:
    """Return a name of at most 120 bytes that leads nowhere, shows as it is, and is none of `taken`.

    Only the last part of a path counts. Two names are the same when a file system that ignores case
    or Unicode forms would think so.
    """
    last = re.split(r"[/\\]", name)[-1]
    seen = "".join(
        " " if unicodedata.category(letter) == "Zs" else letter
        for letter in last
        if unicodedata.category(letter) not in _UNSEEN
    )
    plain = (
        _FORBIDDEN.sub("_", unicodedata.normalize("NFC", seen)).lstrip(".- ~").rstrip(". ")
        or "file"
    )
    if _DEVICE.match(plain):
        plain = f"_{plain}"
    stem, extension = _parts(plain)
    known = {_same(one) for one in taken}
    candidate = _shortened(stem, extension)
    number = 2
    while _same(candidate) in known:
        candidate = _shortened(stem, f" ({number}){extension}")
        number += 1
    return candidate


def _parts(name: str) -> tuple[str, str]:
    """Split off a short extension, with its dot."""
    stem, dot, extension = name.rpartition(".")
    if not stem or len(extension.encode("utf-8")) > EXTENSION_LIMIT_BYTES:
        return name, ""
    return stem, dot + extension


def _shortened(stem: str, end: str) -> str:
    room = LIMIT_BYTES - len(end.encode("utf-8"))
    return stem.encode("utf-8")[:room].decode("utf-8", "ignore").rstrip(". ") + end


def _same(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()
