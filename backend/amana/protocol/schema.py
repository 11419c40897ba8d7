# SPDX-License-Identifier: AGPL-3.0-or-later
"""Strict schemas for what people sign: unknown fields and wrong types are refused, by path, never by content.

Most are marshmallow's. What every request brings is checked by plain predicates instead, which take a tenth of the time.
"""

import re
from collections.abc import Callable, Mapping
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


_TITLE = "These fields are missing, unknown or not allowed: {}."


def checked(schema: ma.Schema, value: object, slug: str) -> dict[str, Any]:
    """Return `value` if `schema` accepts it; the error names the places of the faults only."""
    if not isinstance(value, dict):
        raise Fault(slug, "A JSON object was expected.")
    if faults := schema.validate(value):
        raise Fault(slug, _TITLE.format(", ".join(sorted(set(_places(faults)))[:8])))
    return value


Check = Callable[[Any], object]
"""Returns False, or raises ProtocolError, for a value that is not allowed."""

Checks = Mapping[str, Check | Mapping[str, Check]]


def checked_by(checks: Checks, value: object, slug: str) -> dict[str, Any]:
    """Return `value` if it has exactly the fields of `checks` and each passes; as `checked`, for the busiest path."""
    if not isinstance(value, dict):
        raise Fault(slug, "A JSON object was expected.")
    if faults := _faults(checks, value):
        raise Fault(slug, _TITLE.format(", ".join(sorted(_places(faults))[:8])))
    return value


def _faults(checks: Mapping[str, Any], value: dict[str, Any]) -> dict[str, Any]:
    faults: dict[str, Any] = {name: [] for name in checks.keys() ^ value.keys()}
    for name in checks.keys() & value.keys():
        check, field = checks[name], value[name]
        if isinstance(check, Mapping) and isinstance(field, dict):
            if below := _faults(check, field):
                faults[name] = below
        elif isinstance(check, Mapping) or not _passes(check, field):
            faults[name] = []
    return faults


def _passes(check: Check, value: object) -> bool:
    try:
        return check(value) is not False
    except ProtocolError:
        return False


def matching(expression: str) -> Check:
    """Allow text that `expression` matches from end to end."""
    whole = re.compile(expression).fullmatch
    return lambda value: isinstance(value, str) and whole(value) is not None


def among(*values: Any) -> Check:
    """Allow the given values, of exactly their types: JSON's true is no 1."""
    return lambda value: any(type(value) is type(one) and value == one for one in values)


def short_text(limit: int) -> Check:
    """Allow a string of at most `limit` characters, without NUL."""
    return lambda value: isinstance(value, str) and len(value) <= limit and "\0" not in value


def is_counting(value: object) -> bool:
    """Tell whether `value` is a whole number from 0 to 2**53 - 1."""
    return type(value) is int and 0 <= value < 2**53


def _places(faults: dict[Any, Any], prefix: str = "") -> list[str]:
    found = []
    for name, below in faults.items():
        # An unknown field's name comes from outside, so a long or odd one is not repeated.
        text = str(name) if str(name).isascii() and str(name).replace("_", "").isalnum() else "?"
        place = f"{prefix}{text[:40]}"
        found += _places(below, f"{place}.") if isinstance(below, dict) else [place]
    return found


def _validator(check: Check) -> Any:
    def validate(value: object) -> None:
        if not _passes(check, value):
            raise ma.ValidationError("Not in its allowed form.")

    return validate


def text(limit: int, **options: Any) -> ma.fields.String:
    """A string of at most `limit` characters, without NUL."""
    return ma.fields.String(required=True, validate=_validator(short_text(limit)), **options)


def one_of(*values: Any, **options: Any) -> ma.fields.Raw:
    return ma.fields.Raw(required=True, validate=_validator(among(*values)), **options)


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
    return ma.fields.Raw(required=True, validate=_validator(is_counting), **options)
