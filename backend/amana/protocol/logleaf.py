# SPDX-License-Identifier: AGPL-3.0-or-later
"""What the directory log holds, in clear: which roots and lists of the officers were published (docs/protocol.md §10)."""

from dataclasses import dataclass
from typing import Any, Final

from amana.protocol import schema
from amana.protocol.encoding import canonical, parse_canonical, sha256_hex

LIMIT_BYTES: Final = 1024


class _RootLeaf(schema.StrictSchema):
    v = schema.one_of(1)
    kind = schema.one_of("root")
    version = schema.counting()
    sha256 = schema.sha256_hex()


class _TargetsLeaf(_RootLeaf):
    kind = schema.one_of("targets")
    root = schema.counting()


_ROOT, _TARGETS = _RootLeaf(), _TargetsLeaf()


@dataclass(frozen=True)
class DirectoryLeaf:
    """One root or list of targets: its version, and the hash of its file as it is served.

    `root` is the version of the root in force, so that the newest leaf alone tells whether a newer root is
    withheld from somebody; of a root it is its own.
    """

    kind: str
    version: int
    sha256: str
    root: int


def root_leaf(version: int, content: bytes) -> bytes:
    """Return the entry for a published root, whose file has these bytes."""
    return _leaf("root", version, content)


def targets_leaf(version: int, content: bytes, root: int) -> bytes:
    """Return the entry for a published list of targets, under a version of the root."""
    return _leaf("targets", version, content, root=root)


def _leaf(kind: str, version: int, content: bytes, **more: Any) -> bytes:
    fields = {"v": 1, "kind": kind, "version": version, "sha256": sha256_hex(content)}
    return canonical(fields | more)


def parse_directory_leaf(entry: bytes) -> DirectoryLeaf:
    """Read an entry of the directory log."""
    document = parse_canonical(entry, limit=LIMIT_BYTES)
    kind = document.get("kind") if isinstance(document, dict) else None
    fields = schema.checked(_ROOT if kind == "root" else _TARGETS, document, "leaf-invalid")
    root = fields.get("root", fields["version"])
    return DirectoryLeaf(fields["kind"], fields["version"], fields["sha256"], root)
