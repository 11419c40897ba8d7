# SPDX-License-Identifier: AGPL-3.0-or-later
"""The directory (docs/protocol.md §9): whom the officers vouch for, and who may read what; random ids only."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import marshmallow as ma

from amana.protocol import schema
from amana.protocol.encoding import canonical, parse_canonical, sha256_hex, tagged_sha256
from amana.protocol.errors import ProtocolError
from amana.protocol.policy import DESK, FLAGS, LANGUAGE, RESTRICTING_FLAGS
from amana.protocol.sealing import Recipient
from amana.protocol.signing import SigningKey, public_key, verify

LIMIT_BYTES = 512 * 1024
MAX_READERS = 16
TARGETS_DAYS = 45
INTAKE_KEY_TAG = "amana-intake-key-sig-v1"
DIRECTORY_TARGET = "directory.json"
PEOPLE_TARGET = "people.json"
READER_ROLES = frozenset({"reviewer", "lead"})
OTHER_ROLES = frozenset({"administrator", "auditor", "custodian"})


class DirectoryInvalid(ProtocolError):
    """What the officers signed contradicts itself or is not in its form."""

    slug = "directory-invalid"
    title = "The directory is not in its form, or contradicts itself."


class NoReader(ProtocolError):
    """Nobody of the desk may read a testimony with these flags."""

    slug = "no-reader"
    title = "No reader of this desk may open a testimony with these flags."


def _texts(value: object) -> None:
    if not isinstance(value, dict) or not all(
        isinstance(x, str) and len(x) <= 200 for x in value.values()
    ):
        raise ma.ValidationError("Not in its allowed form.")


def _subset(allowed: frozenset[str]) -> Callable[[object], None]:
    def validate(value: object) -> None:
        if not isinstance(value, list) or value != sorted(set(map(str, value)) & allowed):
            raise ma.ValidationError("Not in its allowed form.")

    return validate


def _list_of(nested: type[ma.Schema], limit: int) -> "ma.fields.List[Any]":
    return ma.fields.List(
        ma.fields.Nested(nested), required=True, validate=ma.validate.Length(max=limit)
    )


_RECIPIENT = r"\Aage1pq1[a-z0-9]{1900,2100}\Z"


class _Extensible(schema.StrictSchema):
    ext = ma.fields.Dict(required=False)


class _Log(schema.StrictSchema):
    origin = schema.text(200)
    key = schema.base64_of(32)


class _Pins(_Extensible):
    v = schema.one_of(1)
    deployment = schema.text(64)
    directory_log = ma.fields.Nested(_Log, required=True)
    custody_log = ma.fields.Nested(_Log, required=True)
    cosigners = ma.fields.List(ma.fields.Dict(), required=True, validate=ma.validate.Length(max=32))
    quorum = schema.counting()


class _Desk(_Extensible):
    id = schema.pattern(DESK)
    names = ma.fields.Raw(required=True, validate=_texts)
    languages = ma.fields.List(
        schema.pattern(LANGUAGE), required=True, validate=ma.validate.Length(max=64)
    )
    flags = ma.fields.Raw(required=True, validate=_subset(frozenset(FLAGS)))
    draw = schema.counting()
    leads = ma.fields.List(
        schema.identifier(), required=True, validate=ma.validate.Length(max=MAX_READERS)
    )


class _Custodian(_Extensible):
    id = schema.identifier()
    intake_key = schema.pattern(_RECIPIENT)


class _Custodians(_Extensible):
    k = schema.counting()
    members = _list_of(_Custodian, 5)


class _Partner(_Extensible):
    id = schema.pattern(DESK)
    recipient = schema.pattern(_RECIPIENT)
    purposes = ma.fields.List(schema.text(64), required=True, validate=ma.validate.Length(max=64))


class _ConsentText(_Extensible):
    id = schema.pattern(r"\A[a-z0-9][a-z0-9.-]{0,63}\Z")
    language = schema.pattern(LANGUAGE)
    text = schema.text(20_000)
    sha256 = schema.sha256_hex()


class _Directory(_Extensible):
    v = schema.one_of(1)
    deployment = schema.text(64)
    version = schema.counting()
    desks = _list_of(_Desk, 64)
    custodians = ma.fields.Nested(_Custodians, required=True)
    partners = _list_of(_Partner, 64)
    consent_texts = _list_of(_ConsentText, 64)
    drop_bits = schema.counting()


class _Reader(_Extensible):
    id = schema.identifier()
    roles = ma.fields.Raw(required=True, validate=_subset(READER_ROLES))
    signing_key = schema.base64_of(32)
    intake_key = schema.pattern(_RECIPIENT)
    intake_key_sig = schema.base64_of(64)
    takes = ma.fields.Raw(required=True, validate=_subset(RESTRICTING_FLAGS))


class _DeskReaders(_Extensible):
    v = schema.one_of(1)
    desk = schema.pattern(DESK)
    readers = _list_of(_Reader, MAX_READERS)


class _Person(_Extensible):
    id = schema.identifier()
    roles = ma.fields.Raw(required=True, validate=_subset(OTHER_ROLES))
    signing_key = schema.base64_of(32)


class _People(_Extensible):
    v = schema.one_of(1)
    people = _list_of(_Person, 1000)


_PINS, _DIRECTORY, _READERS, _PEOPLE = _Pins(), _Directory(), _DeskReaders(), _People()


@dataclass(frozen=True)
class RootPins:
    """What the root's signed field `x-amana` fixes for good."""

    deployment: str
    directory_log_key: str
    custody_log_key: str
    document: Mapping[str, Any]

    @classmethod
    def parse(cls, document: object) -> "RootPins":
        fields = schema.checked(_PINS, document, "directory-invalid")
        for log in ("directory_log", "custody_log"):
            public_key(fields[log]["key"])
        return cls(
            deployment=fields["deployment"],
            directory_log_key=fields["directory_log"]["key"],
            custody_log_key=fields["custody_log"]["key"],
            document=fields,
        )


@dataclass(frozen=True)
class Desk:
    """A group of readers; `draw` of them are drawn for each testimony, or all when it is 0."""

    id: str
    names: Mapping[str, str]
    languages: tuple[str, ...]
    flags: tuple[str, ...]
    draw: int
    leads: tuple[str, ...]


@dataclass(frozen=True)
class Reader:
    """A reviewer or lead of a desk: random id, keys, and the restricting flags this person may take."""

    id: str
    roles: frozenset[str]
    signing_key: str
    intake_key: Recipient
    takes: frozenset[str]


@dataclass(frozen=True)
class Person:
    """Anyone who signs: roles, the desks they read for, and the key that their signatures need."""

    id: str
    roles: frozenset[str]
    desks: frozenset[str]
    signing_key: str


@dataclass(frozen=True)
class ConsentText:
    """A consent text as it is shown; the policy names its id and hash."""

    id: str
    language: str
    text: str
    sha256: str


class Wanting(Protocol):
    """What a policy says about who may read."""

    @property
    def desk(self) -> str: ...
    @property
    def flags(self) -> tuple[str, ...]: ...


@dataclass(frozen=True)
class Directory:
    """One version of the directory, whole and free of contradictions."""

    deployment: str
    version: int
    desks: tuple[Desk, ...]
    readers: Mapping[str, tuple[Reader, ...]]
    people: Mapping[str, Person]
    consent_texts: tuple[ConsentText, ...]
    document: Mapping[str, Any]

    def desk(self, desk: str) -> Desk:
        """Return a desk; refuses one that is not there."""
        for one in self.desks:
            if one.id == desk:
                return one
        raise DirectoryInvalid("desk-unknown", "There is no such desk.")

    def readers_of(self, desk: str) -> tuple[Reader, ...]:
        return self.readers[self.desk(desk).id]

    def person(self, person: str) -> Person | None:
        return self.people.get(person)


def readers(
    directory: Directory, policy: Wanting, randomness: Callable[[int], int]
) -> list[Reader]:
    """Choose who gets a grant: the eligible leads and `draw` others, uniformly; all where nothing is drawn.

    `randomness(n)` gives a uniform integer below n; the client passes `secrets.randbelow`.
    """
    desk = directory.desk(policy.desk)
    able = [one for one in directory.readers_of(desk.id) if _takes(one, policy)]
    if not able:
        raise NoReader
    if not desk.draw:
        return able
    chosen = [one for one in able if one.id in desk.leads]
    others = [one for one in able if one.id not in desk.leads]
    for _ in range(min(desk.draw, len(others))):
        chosen.append(others.pop(randomness(len(others))))
    return sorted(chosen, key=lambda one: one.id)


def eligible(directory: Directory, policy: Wanting) -> frozenset[str]:
    """Return the ids of all who may get a grant under a policy."""
    return frozenset(one.id for one in directory.readers_of(policy.desk) if _takes(one, policy))


def _takes(reader: Reader, policy: Wanting) -> bool:
    return RESTRICTING_FLAGS & set(policy.flags) <= reader.takes


def sign_intake_key(signing: SigningKey, person: str, intake_key: Recipient) -> str:
    """Return a person's own signature under their intake key."""
    return signing.sign(INTAKE_KEY_TAG, canonical({"id": person, "intake_key": str(intake_key)}))


def fingerprint(public: Mapping[str, str]) -> str:
    """Return 128 bits of the hash of a person's id and public keys, in 8 groups of 4 digits, to be read aloud."""
    digits = tagged_sha256("amana-fingerprint-v1", canonical(dict(public)))[:16].hex()
    return " ".join(digits[k : k + 4] for k in range(0, 32, 4))


def desk_target(desk: str) -> str:
    """Return the name of the target that lists a desk's readers."""
    return f"desks/{desk}.json"


def parse_directory(targets: Mapping[str, bytes]) -> Directory:
    """Parse the targets of one version, each at most 512 KiB, and check that they agree."""
    fields = _parsed(_DIRECTORY, targets, DIRECTORY_TARGET)
    desks = tuple(
        Desk(
            id=desk["id"],
            names=desk["names"],
            languages=tuple(desk["languages"]),
            flags=tuple(desk["flags"]),
            draw=desk["draw"],
            leads=tuple(desk["leads"]),
        )
        for desk in fields["desks"]
    )
    expected = {DIRECTORY_TARGET, PEOPLE_TARGET, *(desk_target(desk.id) for desk in desks)}
    if set(targets) != expected or len(expected) != len(desks) + 2:
        raise DirectoryInvalid
    people: dict[str, Person] = {}
    keys: dict[str, str] = {}
    for person in _parsed(_PEOPLE, targets, PEOPLE_TARGET)["people"]:
        _add(people, keys, person, frozenset())
    listed = {}
    for desk in desks:
        document = _parsed(_READERS, targets, desk_target(desk.id))
        if document["desk"] != desk.id:
            raise DirectoryInvalid
        listed[desk.id] = tuple(_reader(one) for one in document["readers"])
        for one in document["readers"]:
            _add(people, keys, one, frozenset({desk.id}))
            _own(keys, one["intake_key"], one["id"])
        leads = {one.id for one in listed[desk.id] if "lead" in one.roles}
        if leads != set(desk.leads) or len(listed[desk.id]) != len({x.id for x in listed[desk.id]}):
            raise DirectoryInvalid(
                "directory-invalid", "The leads of a desk are not among its readers."
            )
    for custodian in fields["custodians"]["members"]:
        # A custodian's key opens shares only; under another's name it would open more.
        _own(keys, custodian["intake_key"], custodian["id"])
    texts = tuple(
        ConsentText(one["id"], one["language"], one["text"], one["sha256"])
        for one in fields["consent_texts"]
    )
    if any(sha256_hex(one.text.encode("utf-8")) != one.sha256 for one in texts):
        raise DirectoryInvalid("directory-invalid", "A consent text does not have its hash.")
    return Directory(
        deployment=fields["deployment"],
        version=fields["version"],
        desks=desks,
        readers=listed,
        people=people,
        consent_texts=texts,
        document=fields,
    )


def _parsed(form: ma.Schema, targets: Mapping[str, bytes], name: str) -> dict[str, Any]:
    if name not in targets:
        raise DirectoryInvalid("directory-incomplete", "A part of the directory is missing.")
    return schema.checked(
        form, parse_canonical(targets[name], limit=LIMIT_BYTES), "directory-invalid"
    )


def _reader(fields: Mapping[str, Any]) -> Reader:
    intake_key = Recipient.parse(fields["intake_key"])
    signed = canonical({"id": fields["id"], "intake_key": fields["intake_key"]})
    verify(fields["signing_key"], INTAKE_KEY_TAG, signed, fields["intake_key_sig"])
    return Reader(
        id=fields["id"],
        roles=frozenset(fields["roles"]),
        signing_key=fields["signing_key"],
        intake_key=intake_key,
        takes=frozenset(fields["takes"]),
    )


def _add(
    people: dict[str, Person],
    keys: dict[str, str],
    fields: Mapping[str, Any],
    desks: frozenset[str],
) -> None:
    """Add a person, or another desk of theirs; one key belongs to one person, and nobody both reads and administers."""
    known = people.get(fields["id"])
    roles = frozenset(fields["roles"]) | (known.roles if known else frozenset())
    if not fields["roles"] or ("administrator" in roles and roles & READER_ROLES):
        raise DirectoryInvalid("directory-invalid", "Nobody both administers and reads.")
    if known is not None and known.signing_key != fields["signing_key"]:
        raise DirectoryInvalid("directory-invalid", "One person has two signing keys.")
    _own(keys, fields["signing_key"], fields["id"])
    all_desks = desks | (known.desks if known else frozenset())
    people[fields["id"]] = Person(fields["id"], roles, all_desks, fields["signing_key"])


def _own(keys: dict[str, str], key: str, person: str) -> None:
    if keys.setdefault(key, person) != person:
        raise DirectoryInvalid("directory-invalid", "One key is listed for two people.")
