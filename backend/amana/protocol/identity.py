# SPDX-License-Identifier: AGPL-3.0-or-later
"""Who the witness is (docs/protocol.md §3.3): names, contacts, relatives; sealed to the identity vault and to nothing else.

Every field is optional, but one of them must say something. Its hash stands in the manifest, which readers open, so the
document carries a salt, and zeros that hide its length.
"""

import os
from typing import Any, Final

import marshmallow as ma

from amana.protocol import schema
from amana.protocol.account import vocabulary
from amana.protocol.encoding import b64, canonical, parse_canonical, parse_day
from amana.protocol.errors import ProtocolError

LIMIT_BYTES: Final = 32 * 1024
"""Of what a person writes, canonical."""
STEP_BYTES: Final = 8 * 1024
SEALED_LIMIT_BYTES: Final = LIMIT_BYTES + STEP_BYTES
NAME: Final = "identity.json"
MIME: Final = "application/json"
MAX_ENTRIES: Final = 64


class IdentityInvalid(ProtocolError):
    """What should tell who the witness is is not in its form, or tells nothing."""

    slug = "identity-invalid"
    title = "The identity is empty, too large, or not in its form."


def _filled(value: str) -> None:
    if not value.strip() or "\0" in value:
        raise ma.ValidationError("Not in its allowed form.")


def _words(limit: int, **options: Any) -> ma.fields.String:
    return ma.fields.String(validate=[ma.validate.Length(max=limit), _filled], **options)


def _day_month_or_year(value: str) -> None:
    try:
        parse_day(value + "-01" * ((10 - len(value)) // 3))
    except ProtocolError:
        raise ma.ValidationError("Not in its allowed form.") from None


def _choice(group: str, **options: Any) -> ma.fields.String:
    keys = [one["key"] for one in vocabulary("choices") if one["group"] == group]
    return ma.fields.String(validate=ma.validate.OneOf(keys), **options)


def _entries(form: type[ma.Schema], limit: int = MAX_ENTRIES) -> "ma.fields.List[Any]":
    return ma.fields.List(ma.fields.Nested(form), validate=ma.validate.Length(1, limit))


class Contact(schema.StrictSchema):
    """A way to reach the person, and when and how it is safe."""

    channel = _choice("channel", required=True)
    address = _words(500, required=True)
    safe_hours = _words(500)
    safe_words = _words(500)
    read_by_others = _words(500)


class Paper(schema.StrictSchema):
    """A document that shows who the person is."""

    kind = _words(200, required=True)
    number = _words(200)
    issued_by = _words(200)


class Relative(schema.StrictSchema):
    """Somebody who may be in danger because the person speaks, or whom they lost."""

    name = _words(200, required=True)
    relation = _words(200)
    whereabouts = _words(500)
    at_risk = _choice("answer")
    words = _words(2000)


class Named(schema.StrictSchema):
    """Somebody whom the account counts without a name: affected, responsible, or another who can speak."""

    name = _words(200, required=True)
    role = _words(500)
    contact = _words(500)
    agrees = _choice("answer")
    words = _words(2000)


class Identity(schema.StrictSchema):
    """What a person may say of themselves and of others by name."""

    name = _words(200)
    fathers_name = _words(200)
    mothers_name = _words(200)
    known_as = _words(200)
    born_on = ma.fields.String(validate=_day_month_or_year)
    born_in = _words(500)
    country = ma.fields.String(validate=ma.validate.Regexp(r"\A[A-Z]{2}\Z"))
    contacts = _entries(Contact, 16)
    papers = _entries(Paper, 16)
    relatives = _entries(Relative)
    persons = _entries(Named)
    words = _words(4000)


class _Sealed(Identity):
    v = schema.one_of(1)
    salt = schema.base64_of(32)
    # The name sorts behind all others, so that what a person reads comes first.
    zeros = ma.fields.String(required=True, validate=ma.validate.Regexp(r"\A0*\Z"))


_IDENTITY, _SEALED = Identity(), _Sealed()


def identity_document(fields: object) -> bytes:
    """Return what is sealed for what a person wrote: with a salt, and as long as many others; raises IdentityInvalid."""
    said = schema.checked(_IDENTITY, fields, IdentityInvalid.slug)
    if not said or len(canonical(said)) > LIMIT_BYTES:
        raise IdentityInvalid
    salted = {**said, "v": 1, "salt": b64(os.urandom(32)), "zeros": ""}
    missing = -len(canonical(salted)) % STEP_BYTES
    return canonical({**salted, "zeros": "0" * missing})


def parse_identity(data: bytes) -> dict[str, Any]:
    """Parse what was sealed and return what the person said; the error names places, never what stands there."""
    document = parse_canonical(data, limit=SEALED_LIMIT_BYTES)
    fields = schema.checked(_SEALED, document, IdentityInvalid.slug)
    said = {name: value for name, value in fields.items() if name not in {"v", "salt", "zeros"}}
    if not said or len(data) % STEP_BYTES:
        raise IdentityInvalid
    return said
