# SPDX-License-Identifier: AGPL-3.0-or-later
"""What the directory log holds, in clear: which roots and lists of the officers were published (docs/protocol.md §10)."""

from dataclasses import dataclass
from typing import Final

from amana.protocol import schema
from amana.protocol.encoding import canonical, parse_canonical, sha256_hex

LIMIT_BYTES: Final = 1024
ROLES: Final = ("root", "targets")


class _Leaf(schema.StrictSchema):
    v = schema.one_of(1)
    kind = schema.one_of(*ROLES)
    version = schema.counting()
    sha256 = schema.sha256_hex()


_LEAF = _Leaf()


@dataclass(frozen=True)
class DirectoryLeaf:
    """One root or list of targets: its version, and the hash of its file as it is served."""

    kind: str
    version: int
    sha256: str


def directory_leaf(kind: str, version: int, content: bytes) -> bytes:
    """Return the entry for a published root or list of targets, whose file has these bytes."""
    return canonical({"v": 1, "kind": kind, "version": version, "sha256": sha256_hex(content)})


def parse_directory_leaf(entry: bytes) -> DirectoryLeaf:
    """Read an entry of the directory log."""
    document = parse_canonical(entry, limit=LIMIT_BYTES)
    fields = schema.checked(_LEAF, document, "leaf-invalid")
    return DirectoryLeaf(fields["kind"], fields["version"], fields["sha256"])
