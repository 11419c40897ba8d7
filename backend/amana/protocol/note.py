# SPDX-License-Identifier: AGPL-3.0-or-later
"""What a reviewer writes about a case (docs/protocol.md §14): signed, and sealed to its readers or to its author.

Labels and reasons stand here, apart from the witness's words, with their author and day.
"""

from dataclasses import dataclass
from typing import Any, Final

import marshmallow as ma
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from amana.protocol import schema
from amana.protocol.account import vocabulary
from amana.protocol.encoding import canonical, parse_canonical
from amana.protocol.errors import BadSignature, ProtocolError
from amana.protocol.reply import MAX_PARTS, SALT_BYTES
from amana.protocol.sealing import Identity, Kind, Recipient, open_sealed, seal
from amana.protocol.signing import SigningKey, verify_fields

TAG: Final = "amana-note-v1"
LIMIT_BYTES: Final = 32768 - 8
REASON_LIMIT: Final = 2000
AUDIENCES: Final = ("desk", "author")
DECISIONS: Final = ("accept", "decline", "duplicate", "refer")
RELATIONS: Final = ("duplicate", "same-codename", "same-event", "adds-to", "related")
CODED_WITH: Final = (
    "agents",
    "basis",
    "delivery",
    "districts",
    "governorates",
    "incidents",
    "observations",
    "onset",
    "precision",
    "relation",
    "reliability",
    "symptoms",
    "violation_status",
)
"""Vocabularies of labels; `violation_status` and `reliability` are HURIDOCS 41 and 42."""


class _Content(schema.StrictSchema):
    """What every kind of note may say in words."""

    text = schema.text(LIMIT_BYTES)


class _Label(schema.StrictSchema):
    vocabulary = schema.one_of(*CODED_WITH)
    code = schema.pattern(r"\A[A-Za-z0-9_.:-]{1,64}\Z")


class _Coding(_Content):
    labels = ma.fields.List(
        ma.fields.Nested(_Label), required=True, validate=ma.validate.Length(1, 200)
    )


class _Link(_Content):
    to = schema.identifier()
    relation = schema.one_of(*RELATIONS)


class _Decision(_Content):
    decision = schema.one_of(*DECISIONS)
    of = schema.identifier(allow_none=True)


class _Question(_Content):
    """What a witness was asked, in `text`; salt and hashes are what the action `ask` commits to (protocol.md §8)."""

    reason = schema.text(REASON_LIMIT)
    salt = schema.base64_of(SALT_BYTES)
    slots = ma.fields.List(
        schema.sha256_hex(), required=True, validate=ma.validate.Length(1, MAX_PARTS)
    )


_CONTENTS: Final = {
    "note": _Content(),
    "coding": _Coding(),
    "link": _Link(),
    "decision": _Decision(),
    "question": _Question(),
    "reopening": _Content(),
}


class _Note(schema.StrictSchema):
    v = schema.one_of(1)
    deployment = schema.text(64)
    case = schema.identifier()
    author = schema.identifier()
    audience = schema.one_of(*AUDIENCES)
    kind = schema.one_of(*_CONTENTS)
    content = ma.fields.Dict(required=True)
    made_on = schema.day()
    sig = schema.base64_of(64)


_NOTE = _Note()


class NoteInvalid(ProtocolError):
    slug = "note-invalid"
    title = "The note is not in its form, or of another case or author."


@dataclass(frozen=True)
class Note:
    """A note whose form was checked; `verify` tells whether its author signed it."""

    deployment: str
    case: str
    author: str
    audience: str
    kind: str
    content: dict[str, Any]
    made_on: str
    document: dict[str, Any]

    def verify(self, signing_key: str) -> bool:
        """Tell whether the holder of `signing_key` signed this."""
        try:
            verify_fields(signing_key, TAG, self.document)
        except BadSignature:
            return False
        return True


def own_notes(signing: SigningKey) -> Identity:
    """Return the identity to which a person seals notes for themselves alone.

    It comes from the signing key (HKDF-SHA256, RFC 5869), not from an intake key, which is replaced and destroyed.
    """
    hkdf = HKDF(SHA256(), length=32, salt=b"amana-own-notes-v1", info=b"")
    return Identity.from_seed(hkdf.derive(signing.seed))


def check_labels(labels: list[dict[str, str]]) -> None:
    """Refuse a label that is not in its vocabulary; only whoever writes it is asked, as vocabularies grow."""
    for label in labels:
        name = label["vocabulary"]
        if name not in CODED_WITH or label["code"] not in {one["key"] for one in vocabulary(name)}:
            raise NoteInvalid("label-unknown", "There is no such label in that vocabulary.")


def seal_note(
    key: SigningKey,
    recipient: Recipient,
    *,
    deployment: str,
    case: str,
    author: str,
    audience: str,
    kind: str,
    content: dict[str, Any],
    made_on: str,
) -> bytes:
    """Sign a note and seal it to the case's readers or to its author; returns 5755 or 34427 bytes."""
    fields = {
        "v": 1,
        "deployment": deployment,
        "case": case,
        "author": author,
        "audience": audience,
        "kind": kind,
        "content": content,
        "made_on": made_on,
    }
    document = key.sign_fields(TAG, fields)
    data = canonical(document)
    if len(data) > LIMIT_BYTES:
        raise NoteInvalid("note-too-long", f"A note has at most {LIMIT_BYTES} bytes.")
    parse_note(document)
    return seal(data, recipient, Kind.NOTE)


def open_note(sealed: bytes, identity: Identity) -> Note:
    """Open a sealed note; the caller verifies who wrote it."""
    data = open_sealed(sealed, identity, Kind.NOTE)
    return parse_note(parse_canonical(data, limit=LIMIT_BYTES))


def parse_note(document: object) -> Note:
    """Check the form of a note."""
    signed = schema.checked(_NOTE, document, "note-invalid")
    content = schema.checked(_CONTENTS[signed["kind"]], signed["content"], "note-invalid")
    fields = {name: value for name, value in signed.items() if name not in {"v", "sig", "content"}}
    return Note(**fields, content=content, document=signed)
