# SPDX-License-Identifier: AGPL-3.0-or-later
"""Strict marshmallow schemas for what people sign: unknown fields and wrong types are refused, by path, never by content."""

from typing import Any

import marshmallow as ma

from amana.protocol.encoding import check_id, check_sha256_hex, parse_day, unb64
from amana.protocol.errors import ProtocolError


class StrictSchema(ma.Schema):
    """Refuses unknown fields."""

    class Meta:
        unknown = ma.RAISE


class Fault(ProtocolError):
    """A document lacks a field, has one too many, or holds a value that is not allowed."""


def checked(schema: ma.Schema, value: object, slug: str) -> dict[str, Any]:
    """Return `value` if `schema` accepts it; the error names the places of the faults only."""
    if not isinstance(value, dict):
        raise Fault(slug, "A JSON object was expected.")
    if faults := schema.validate(value):
        places = ", ".join(sorted(set(_places(faults)))[:8])
        raise Fault(slug, f"These fields are missing, unknown or not allowed: {places}.")
    return value


def _places(faults: dict[Any, Any], prefix: str = "") -> list[str]:
    found = []
    for name, below in faults.items():
        # An unknown field's name comes from outside, so a long or odd one is not repeated.
        text = str(name) if str(name).isascii() and str(name).replace("_", "").isalnum() else "?"
        place = f"{prefix}{text[:40]}"
        found += _places(below, f"{place}.") if isinstance(below, dict) else [place]
    return found


def _validator(check: Any) -> Any:
    def validate(value: object) -> None:
        try:
            check(value)
        except ProtocolError:
            raise ma.ValidationError("Not in its allowed form.") from None

    return validate


def text(limit: int, **options: Any) -> ma.fields.String:
    """A string of at most `limit` characters, without NUL."""
    return ma.fields.String(
        required=True, validate=[ma.validate.Length(max=limit), _no_nul], **options
    )


def _no_nul(value: str) -> None:
    if "\0" in value:
        raise ma.ValidationError("Not in its allowed form.")


def one_of(*values: Any, **options: Any) -> ma.fields.Raw:
    return ma.fields.Raw(required=True, validate=_exactly(values), **options)


def _exactly(values: tuple[Any, ...]) -> Any:
    def validate(value: object) -> None:
        if not any(type(value) is type(allowed) and value == allowed for allowed in values):
            raise ma.ValidationError("Not in its allowed form.")

    return validate


def identifier(**options: Any) -> ma.fields.Raw:
    return ma.fields.Raw(required=True, validate=_validator(check_id), **options)


def sha256_hex(**options: Any) -> ma.fields.Raw:
    return ma.fields.Raw(required=True, validate=_validator(check_sha256_hex), **options)


def day(**options: Any) -> ma.fields.Raw:
    return ma.fields.Raw(required=True, validate=_validator(parse_day), **options)


def base64_of(size: int, **options: Any) -> ma.fields.Raw:
    return ma.fields.Raw(
        required=True, validate=_validator(lambda value: unb64(value, size)), **options
    )


def pattern(expression: str, **options: Any) -> ma.fields.String:
    return ma.fields.String(required=True, validate=ma.validate.Regexp(expression), **options)


def counting(**options: Any) -> ma.fields.Raw:
    """A whole number from 0 to 2**53 - 1."""
    return ma.fields.Raw(required=True, validate=_whole, **options)


def _whole(value: object) -> None:
    if type(value) is not int or not 0 <= value < 2**53:
        raise ma.ValidationError("Not in its allowed form.")
