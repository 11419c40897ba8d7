# SPDX-License-Identifier: AGPL-3.0-or-later
"""The account (docs/protocol.md §5): what the witness tells, in their own words and order; nobody's name belongs in it.

Every part is optional but language and text. Choices come from the published vocabularies; agents
are not among them, because a witness says what was seen, heard and smelled, not what it was.
"""

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

import marshmallow as ma

from amana.protocol import schema
from amana.protocol.encoding import canonical, parse_canonical, parse_day
from amana.protocol.errors import ProtocolError
from amana.protocol.policy import LANGUAGE

LIMIT_BYTES = 2**20
TEXT_LIMIT = 100_000
NOTE_LIMIT = 4000
MAX_ENTRIES = 64
MINOR_AGES = frozenset({"under_12", "12_to_15", "16_to_17"})

# What a moment of each precision may consist of, besides `precision` and `words`.
WHEN_PARTS: Mapping[str, frozenset[str]] = {
    "exact": frozenset({"date", "time_from"}),
    "hours": frozenset({"date", "time_from", "time_to"}),
    "day": frozenset({"date"}),
    "month": frozenset({"date"}),
    "season": frozenset({"date", "season"}),
    "year": frozenset({"date"}),
    "unknown": frozenset(),
}


@cache
def vocabulary(name: str) -> tuple[dict[str, Any], ...]:
    """Return the terms of a published vocabulary, in their order."""
    file = resources.files("amana.protocol") / "vocabulary" / f"{name}.json"
    terms: list[dict[str, Any]] = json.loads(file.read_text("utf-8"))["terms"]
    return tuple(terms)


def _keys(name: str, group: str | None = None) -> tuple[str, ...]:
    field = "code" if name == "languages" else "key"
    return tuple(
        str(term.get(field, term.get("key")))
        for term in vocabulary(name)
        if group is None or term.get("group") == group
    )


def _choice(name: str, group: str | None = None) -> ma.fields.String:
    return ma.fields.String(validate=ma.validate.OneOf(_keys(name, group)))


def _choices(name: str, group: str | None = None) -> "ma.fields.List[Any]":
    return ma.fields.List(
        _choice(name, group), validate=[ma.validate.Length(max=MAX_ENTRIES), _no_repeats]
    )


def _no_repeats(values: list[Any]) -> None:
    if len(set(values)) < len(values):
        raise ma.ValidationError("Not in its allowed form.")


def _no_nul(value: str) -> None:
    if "\0" in value:
        raise ma.ValidationError("Not in its allowed form.")


def _words(limit: int = NOTE_LIMIT) -> ma.fields.String:
    return ma.fields.String(validate=[ma.validate.Length(max=limit), _no_nul])


def _matching(expression: str) -> ma.fields.String:
    return ma.fields.String(validate=ma.validate.Regexp(expression))


def _count() -> ma.fields.Raw:
    def whole(value: object) -> None:
        if type(value) is not int or not 0 <= value <= 1_000_000:
            raise ma.ValidationError("Not in its allowed form.")

    return ma.fields.Raw(validate=whole)


def _entries(form: type[ma.Schema]) -> "ma.fields.List[Any]":
    return ma.fields.List(ma.fields.Nested(form), validate=ma.validate.Length(max=MAX_ENTRIES))


def _answer() -> ma.fields.String:
    return _choice("choices", "answer")


class When(schema.StrictSchema):
    """A moment as well as it is remembered; `words` keeps how the person says it ("after the dawn prayer")."""

    precision = _choice("precision")
    date = _matching(r"\A[0-9]{4}(-[0-9]{2}(-[0-9]{2})?)?\Z")
    time_from = _matching(r"\A([01][0-9]|2[0-3]):[0-5][0-9]\Z")
    time_to = _matching(r"\A([01][0-9]|2[0-3]):[0-5][0-9]\Z")
    season = _choice("choices", "season")
    words = _words(500)

    @ma.validates_schema(skip_on_field_errors=True)
    def fits_its_precision(self, data: dict[str, Any], **_: Any) -> None:
        """Refuse a date that is none, or parts that the stated precision does not have."""
        date = data.get("date")
        if date is not None:
            try:
                parse_day(date + "-01" * ((10 - len(date)) // 3))
            except ProtocolError:
                raise ma.ValidationError("Not in its allowed form.", "date") from None
        if "precision" in data:
            given = frozenset(data) - {"precision", "words"}
            if given != WHEN_PARTS[data["precision"]]:
                raise ma.ValidationError("Not in its allowed form.", "precision")
            length = {"month": 7, "season": 4, "year": 4}.get(data["precision"], 10)
            if date is not None and len(date) != length:
                raise ma.ValidationError("Not in its allowed form.", "date")


def _known_place(code: str) -> None:
    """Refuse a P-code whose governorate or district is not published; SY99 is for synthetic accounts."""
    if code.startswith("SY") and not code.startswith("SY99"):
        known = code[:4] in _keys("governorates")
        if not known or (len(code) >= 6 and code[:6] not in _keys("districts")):
            raise ma.ValidationError("Not in its allowed form.")


class Where(schema.StrictSchema):
    """A place as it is known; coordinates, as decimal text, only if the person chooses."""

    words = _words(1000)
    pcode = ma.fields.String(
        validate=[
            ma.validate.Regexp(r"\A(SY[0-9]{2}([0-9]{2}){0,2}|C[0-9]{4,9}|SY99[0-9A-Z]{0,6})\Z"),
            _known_place,
        ]
    )
    level = _choice("choices", "place_level")
    known_by = _choice("choices", "place_known_by")
    latitude = _matching(r"\A-?(90(\.0{1,6})?|[1-8]?[0-9](\.[0-9]{1,6})?)\Z")
    longitude = _matching(r"\A-?(180(\.0{1,6})?|(1[0-7]|[1-9])?[0-9](\.[0-9]{1,6})?)\Z")


class PriorAccount(schema.StrictSchema):
    """An account given before: asked for first, so that nobody is interviewed again and again."""

    told_to = _choice("choices", "told_to")
    words = _words()
    when = ma.fields.Nested(When)
    recorded = _answer()
    has_copy = _answer()
    signed = _choice("choices", "signed")


class Position(schema.StrictSchema):
    """Where the person was during the event."""

    words = _words()
    shelter = _choice("choices", "shelter")
    distance_metres = _count()


class Observation(schema.StrictSchema):
    """One thing that was perceived, and how the person knows of it."""

    what = _choice("observations")
    basis = _choice("basis")
    words = _words()


class Munition(schema.StrictSchema):
    """What fell or was left; never to be touched or sent."""

    kind = _choice("delivery")
    basis = _choice("basis")
    words = _words()
    markings = _words(1000)
    photographed = _answer()
    now_where = _words(1000)
    taken_by = _words(1000)


class Symptom(schema.StrictSchema):
    """A symptom, the person's own or seen in others."""

    what = _choice("symptoms")
    whose = _choice("choices", "whose")
    onset = _choice("onset")
    duration = _words(500)
    words = _words()


class Treatment(schema.StrictSchema):
    """How it was treated, and what papers there are."""

    facility = _words(500)
    words = _words()
    records_held = _answer()
    lasting_effects = _words()
    decontaminated = _answer()


class Persons(schema.StrictSchema):
    """People affected, as a count of one kind; names go to the vault."""

    count = _count()
    status = _choice("choices", "status")
    role = _choice("choices", "role")
    sex = _choice("choices", "sex")
    age = _choice("choices", "age")
    basis = _choice("basis")
    words = _words()


class Sample(schema.StrictSchema):
    """A physical item: what, where, who handled it, how it is kept."""

    what = _words(1000)
    where = _words(1000)
    handled_by = _words(1000)
    kept = _words(1000)


class Document(schema.StrictSchema):
    """A document or file, attached (by object number) or held elsewhere."""

    kind = _choice("choices", "document")
    object = _count()
    made_by = _choice("choices", "made_by")
    copy = _choice("choices", "copy")
    published_at = _words(2000)
    edits = _words()
    taken_when = ma.fields.Nested(When)
    taken_where = ma.fields.Nested(Where)
    words = _words()


class OtherWitness(schema.StrictSchema):
    """Somebody else who can speak: only that they exist and how they agreed, never who."""

    words = _words(1000)
    agrees = _answer()


class Doubt(schema.StrictSchema):
    """What is uncertain or speaks against: a field of its own, so that it is never lost."""

    kind = _choice("choices", "doubt")
    words = _words()


class Minor(schema.StrictSchema):
    """For a person under 18: who consents with them, and that they themselves agree."""

    age = _choice("choices", "age")
    guardian = _choice("choices", "guardian")
    guardian_consents = _answer()
    assents = _answer()

    @ma.validates_schema(skip_on_field_errors=True)
    def is_under_18_with_guardian_and_assent(self, data: dict[str, Any], **_: Any) -> None:
        """Refuse a minor without the two answers that their protection rests on, or of another age."""
        for name in {"guardian", "guardian_consents", "assents"} - data.keys():
            raise ma.ValidationError("Missing.", name)
        if data.get("age", "unknown") not in MINOR_AGES | {"unknown"}:
            raise ma.ValidationError("Not in its allowed form.", "age")


class Risk(schema.StrictSchema):
    """What the person fears and needs."""

    level = _choice("choices", "risk")
    words = _words()
    relatives_at_risk = _answer()
    threatened = _words()
    pressed_to_lie = _words()
    devices = _choices("choices", "devices")
    do_not_contact = _answer()
    safe_hours = _words(500)
    referrals = _choices("choices", "referral")


class Interview(schema.StrictSchema):
    """How the account was taken, when somebody helped."""

    mode = _choice("choices", "mode")
    interpreter_languages = ma.fields.List(_matching(LANGUAGE), validate=ma.validate.Length(max=8))
    others_present = _words(1000)
    pauses = _words(1000)
    read_back = _answer()
    corrections = _words()
    mark = _choice("choices", "mark")


class Account(schema.StrictSchema):
    """The whole account, in the order in which it is asked."""

    v = schema.one_of(1)
    language = schema.pattern(LANGUAGE)
    text = schema.text(TEXT_LIMIT)
    prior_accounts = _entries(PriorAccount)
    relations = _choices("relation")
    incidents = _choices("incidents")
    when = ma.fields.Nested(When)
    where = ma.fields.Nested(Where)
    position = ma.fields.Nested(Position)
    observations = _entries(Observation)
    munitions = _entries(Munition)
    symptoms = _entries(Symptom)
    treatment = ma.fields.Nested(Treatment)
    persons = _entries(Persons)
    samples = _entries(Sample)
    documents = _entries(Document)
    other_witnesses = _entries(OtherWitness)
    doubts = _entries(Doubt)
    responsible = _words()
    minor = ma.fields.Nested(Minor)
    risk = ma.fields.Nested(Risk)
    interview = ma.fields.Nested(Interview)


_ACCOUNT = Account()


def parse_account(data: bytes) -> dict[str, Any]:
    """Parse an account of at most 1 MiB; the error names places, never what stands there."""
    return schema.checked(_ACCOUNT, parse_canonical(data, limit=LIMIT_BYTES), "account-invalid")


def account_bytes(fields: object) -> bytes:
    """Check an account's fields and return it as canonical JSON."""
    data = canonical(schema.checked(_ACCOUNT, fields, "account-invalid"))
    if len(data) > LIMIT_BYTES:
        raise schema.Fault("account-invalid", f"The account is larger than {LIMIT_BYTES} bytes.")
    return data


def text_account(*, text: str, language: str) -> dict[str, Any]:
    """Return the smallest account: free words in one language."""
    return {"v": 1, "language": language, "text": text}
