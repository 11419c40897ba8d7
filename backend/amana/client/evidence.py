# SPDX-License-Identifier: AGPL-3.0-or-later
"""The officers' lists of the time, gathered to travel with what was signed under them, and read back from there."""

from collections.abc import Iterable, Mapping
from typing import Final

from amana.client.directory import MAX_ROOTS, Getter, fetch_version
from amana.client.errors import NotVerified

_TARGETS: Final = "targets/"


def directory_files(get: Getter, root: bytes, versions: Iterable[int]) -> dict[str, bytes]:
    """Return the files that show which keys the officers listed in these versions, from `root` on, by short names.

    Each version was verified. Raises NotVerified, NetworkFailed.
    """
    kept: dict[str, bytes] = {}

    def keeping(name: str) -> bytes | None:
        content = get(name)
        if content is not None:
            kept[short_name(name)] = content
        return content

    for version in sorted(set(versions)):
        fetch_version(keeping, root, version)
    # Whoever checks may hold an older root than this person.
    for number in range(1, MAX_ROOTS):
        if keeping(f"{number}.root.json") is None:
            break
    return kept


def short_name(name: str) -> str:
    """Return a file's name without what its hash does not need: `targets/<sha256>`, or the last part of its path."""
    last = name.rpartition("/")[2]
    return _TARGETS + last.partition(".")[0] if name.startswith(_TARGETS) else last


def getter_of(files: Mapping[str, bytes]) -> Getter:
    """Return what reads files that `directory_files` gathered."""
    return lambda name: files.get(short_name(name))


def versions_of(names: Iterable[str]) -> list[int]:
    """Return the versions of the directory whose lists are among these files; raises NotVerified for none."""
    found = sorted(int(one.partition(".")[0]) for one in names if one.endswith(".targets.json"))
    if not found:
        raise NotVerified("The directory is missing.", slug="directory-incomplete")
    return found
