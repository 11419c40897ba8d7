# SPDX-License-Identifier: AGPL-3.0-or-later
"""The case key, its id, and the grants that hand it to readers (docs/protocol.md §3)."""

from amana.protocol.encoding import b32, check_id, tagged_sha256
from amana.protocol.errors import CannotOpen, ProtocolError
from amana.protocol.sealing import Identity, Kind, Recipient, open_sealed, seal, sealed_size

GRANT_SIZE = sealed_size(256)


class GrantMismatch(CannotOpen):
    """A grant opens, but not the case it came with."""

    slug = "grant-mismatch"
    title = "The grant opens another case than the one it came with."


def case_id(recipient: Recipient) -> str:
    """Return the id of the case whose key is `recipient`: 32 characters."""
    return b32(tagged_sha256("amana-case-v1", recipient.raw)[:20])


def intake_key_id(recipient: Recipient) -> str:
    """Return the short name under which a grant's label calls an intake key: 32 characters."""
    return b32(tagged_sha256("amana-intake-key-v1", recipient.raw)[:20])


def seal_grant(case_key: Identity, reader: Recipient) -> bytes:
    """Seal the case key to one reader; returns 1915 bytes."""
    text = f"amana-grant-v1\n{case_id(case_key.recipient)}\n{case_key}\n"
    return seal(text.encode("ascii"), reader, Kind.GRANT)


def open_grant(grant: bytes, reader: Identity, case: str) -> Identity:
    """Open a grant and return the case key, which must be the key that `case` names."""
    check_id(case)
    try:
        tag, named, key, rest = open_sealed(grant, reader, Kind.GRANT).decode("ascii").split("\n")
        if tag != "amana-grant-v1" or rest:
            raise GrantMismatch
        case_key = Identity.parse(key)
    except CannotOpen:
        raise
    except (ProtocolError, ValueError):
        raise GrantMismatch from None
    if not named == case == case_id(case_key.recipient):
        raise GrantMismatch
    return case_key
