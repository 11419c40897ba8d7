# SPDX-License-Identifier: AGPL-3.0-or-later
"""The directory (docs/protocol.md §9): whom the officers vouch for, and who may read what; random ids only."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import marshmallow as ma

from amana.protocol import schema
from amana.protocol.checkpoint import CheckpointInvalid, Cosigner, KeyType, NoteKey, log_key
from amana.protocol.codename import WORD_BITS, word_list
from amana.protocol.drop import MAX_BITS
from amana.protocol.encoding import canonical, parse_canonical, sha256_hex, tagged_sha256
from amana.protocol.errors import ProtocolError
from amana.protocol.policy import DESK, FLAGS, LANGUAGE, RESTRICTING_FLAGS
from amana.protocol.sealing import Recipient
from amana.protocol.signing import SigningKey, public_key, verify

LIMIT_BYTES = 512 * 1024
MAX_READERS = 16
TARGETS_DAYS = 45
FINGERPRINT_WORDS = 11
INTAKE_KEY_TAG = "amana-intake-key-sig-v1"
DIRECTORY_TARGET = "directory.json"
PEOPLE_TARGET = "people.json"
MAX_FRESHNESS_HOURS = 24 * 90
LOG_NAME = r"[a-z0-9][a-z0-9-]{0,39}"
_BAD_ORIGIN = (
    "The origin of a log is its deployment, a slash and a short name, without a space or a plus."
)
READER_ROLES = frozenset({"reviewer", "lead"})
OTHER_ROLES = frozenset({"administrator", "auditor", "custodian", "partner"})


class DirectoryInvalid(ProtocolError):
    """What the officers signed contradicts itself or is not in its form."""

    slug = "directory-invalid"
    title = "The directory is not in its form, or contradicts itself."


class DirectoryIncomplete(ProtocolError):
    """The officers' list of parts and the parts at hand are not the same."""

    slug = "directory-incomplete"
    title = "A part of the directory is missing, or there is one too many."


class DirectoryExpired(ProtocolError):
    """The officers' signatures ended, or were given for longer than is allowed."""

    slug = "directory-expired"
    title = "The directory has expired, or is valid for longer than allowed."


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


class _Cosigner(_Extensible):
    operator = schema.pattern(r"\A[^\s\x00-\x1f\x7f]{1,64}\Z")
    key = schema.text(400)


def _hours(value: object) -> None:
    if type(value) is not int or not 1 <= value <= MAX_FRESHNESS_HOURS:
        raise ma.ValidationError("Not in its allowed form.")


class _Pins(_Extensible):
    v = schema.one_of(1)
    deployment = schema.text(64)
    directory_log = ma.fields.Nested(_Log, required=True)
    custody_log = ma.fields.Nested(_Log, required=True)
    cosigners = ma.fields.List(
        ma.fields.Nested(_Cosigner), required=True, validate=ma.validate.Length(max=32)
    )
    quorum = schema.counting()
    freshness_hours = ma.fields.Raw(required=False, validate=_hours)


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
    intake_key_sig = schema.base64_of(64)


class _Custodians(_Extensible):
    k = schema.counting()
    members = _list_of(_Custodian, 5)


class _Partner(_Extensible):
    id = schema.identifier()
    intake_key = schema.pattern(_RECIPIENT)
    intake_key_sig = schema.base64_of(64)
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
    drop_bits = schema.one_of(*range(MAX_BITS + 1))


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
    directory_log: NoteKey
    custody_log: NoteKey
    cosigners: tuple[Cosigner, ...]
    quorum: int
    """How many operators must have cosigned a checkpoint; 0 asks for none."""
    freshness: timedelta
    """How long a cosignature counts."""
    document: Mapping[str, Any]

    @property
    def directory_log_key(self) -> str:
        """The public key of the directory log, Base64."""
        return self.directory_log.public

    @property
    def custody_log_key(self) -> str:
        """The public key of the custody log, Base64, which signs receipts too."""
        return self.custody_log.public

    @classmethod
    def parse(cls, document: object) -> "RootPins":
        fields = schema.checked(_PINS, document, "directory-invalid")
        deployment = fields["deployment"]
        logs = [_log(fields[name], deployment) for name in ("directory_log", "custody_log")]
        _demand(
            logs[0].name != logs[1].name and logs[0].public != logs[1].public,
            "The root gives both logs one origin or one key.",
        )
        cosigners = tuple(map(_cosigner, fields["cosigners"]))
        _demand(
            len({one.key.public for one in cosigners} | {one.public for one in logs})
            == len(cosigners) + len(logs),
            "The root names a key of a log or a cosigner twice.",
        )
        if fields["quorum"] > len({one.operator for one in cosigners}):
            raise DirectoryInvalid(title="The root asks for more cosigners than it names.")
        _demand(
            bool(cosigners) == ("freshness_hours" in fields),
            "The root names cosigners and a freshness together, or neither.",
        )
        return cls(
            deployment=fields["deployment"],
            directory_log=logs[0],
            custody_log=logs[1],
            cosigners=cosigners,
            quorum=fields["quorum"],
            freshness=timedelta(hours=fields.get("freshness_hours", 0)),
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
class Partner:
    """An organisation that may receive testimonies, for the purposes that the officers signed."""

    id: str
    intake_key: Recipient
    purposes: tuple[str, ...]


@dataclass(frozen=True)
class ConsentText:
    """A consent text as it is shown; the policy names its id and hash."""

    id: str
    language: str
    text: str
    sha256: str


@dataclass(frozen=True)
class Custodians:
    """Who holds the shares of vaults: any `k` of them open one. Nobody where there is no vault."""

    k: int
    members: Mapping[str, Recipient]


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

    @property
    def drop_bits(self) -> int:
        """The depth of the dead drop: it has two to the power of so many shards."""
        return int(self.document["drop_bits"])

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

    def partner(self, partner: str) -> Partner | None:
        """Return a partner; None for everybody else."""
        for one in self.document["partners"]:
            if one["id"] == partner:
                key = Recipient.parse(one["intake_key"])
                return Partner(partner, key, tuple(one["purposes"]))
        return None

    def intake_key(self, person: str) -> Recipient | None:
        """Return the one intake key that is listed for a reader, a custodian or a partner."""
        for listed in self.readers.values():
            for reader in listed:
                if reader.id == person:
                    return reader.intake_key
        for one in self._holders():
            if one["id"] == person:
                return Recipient.parse(one["intake_key"])
        return None

    def intake_keys(self) -> frozenset[str]:
        """Return every intake key that is listed, whoever holds it."""
        readers = (one for listed in self.readers.values() for one in listed)
        return frozenset(
            [str(one.intake_key) for one in readers]
            + [one["intake_key"] for one in self._holders()]
        )

    @property
    def custodians(self) -> Custodians:
        """Return the custodians of this version with their intake keys."""
        listed = self.document["custodians"]
        members = {one["id"]: Recipient.parse(one["intake_key"]) for one in listed["members"]}
        return Custodians(listed["k"], members)

    def _holders(self) -> list[Mapping[str, Any]]:
        return [*self.document["custodians"]["members"], *self.document["partners"]]


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


def verify_intake_key(signing_key: str, fields: Mapping[str, Any]) -> Recipient:
    """Return the intake key of `{id, intake_key, intake_key_sig}` if its owner, with `signing_key`, signed it."""
    intake_key = Recipient.parse(fields["intake_key"])
    signed = canonical({"id": fields["id"], "intake_key": fields["intake_key"]})
    verify(signing_key, INTAKE_KEY_TAG, signed, fields["intake_key_sig"])
    return intake_key


def fingerprint(public: Mapping[str, str]) -> str:
    """Return 132 bits of the hash of a person's id and public keys as 11 words, to be read aloud (docs/protocol.md §9.1)."""
    digest = tagged_sha256("amana-fingerprint-v1", canonical(dict(public)))
    words = word_list("en")
    bits = int.from_bytes(digest, "big") >> 256 - WORD_BITS * FINGERPRINT_WORDS
    shifts = range(WORD_BITS * (FINGERPRINT_WORDS - 1), -1, -WORD_BITS)
    return " ".join(words[bits >> shift & len(words) - 1] for shift in shifts)


def desk_target(desk: str) -> str:
    """Return the name of the target that lists a desk's readers."""
    return f"desks/{desk}.json"


def target_names(directory: bytes, desk: str | None = None) -> frozenset[str]:
    """Return the names of the targets of the version that this `directory.json` describes.

    With `desk`, of the readers only those of that desk are among them: a witness needs no others.
    """
    return _target_names(_parsed(_DIRECTORY, directory), desk)


def parse_directory(targets: Mapping[str, bytes], desk: str | None = None) -> Directory:
    """Parse the targets of one version, each at most 512 KiB, and check that they agree.

    With `desk`, the readers of the others are neither there nor known; that no key is theirs too was checked
    by the officers' programs and the server.
    """
    if DIRECTORY_TARGET not in targets:
        raise DirectoryIncomplete
    fields = _parsed(_DIRECTORY, targets[DIRECTORY_TARGET])
    if set(targets) != _target_names(fields, desk):
        raise DirectoryIncomplete
    desks = tuple(_desk(one) for one in fields["desks"])
    members = _Members()
    for person in _parsed(_PEOPLE, targets[PEOPLE_TARGET])["people"]:
        _demand(person["id"] not in members.people, "A person is listed twice.")
        members.add(person)
    listed = {}
    for known in desks:
        if desk_target(known.id) not in targets:
            continue
        document = _parsed(_READERS, targets[desk_target(known.id)])
        _demand(document["desk"] == known.id, "The readers of one desk are listed under another.")
        for one in document["readers"]:
            members.add(one, known.id)
            members.own(one["intake_key"], one["id"], "intake")
        listed[known.id] = tuple(_reader(one) for one in document["readers"])
        _check_desk(known, listed[known.id])
    _check_custodians(fields["custodians"], members)
    _check_holders("partner", fields["partners"], members)
    return Directory(
        deployment=fields["deployment"],
        version=fields["version"],
        desks=desks,
        readers=listed,
        people=members.people,
        consent_texts=_consent_texts(fields["consent_texts"]),
        document=fields,
    )


def check_signed(
    directory: Directory,
    *,
    version: int,
    expires: datetime,
    deployment: str,
    root_keys: Collection[str],
    now: datetime,
) -> None:
    """Check that a directory is what the officers' signed list and their root say.

    `version` and `expires` stand in the list, `deployment` in the root; `root_keys` are the public keys
    (Base64) that the root names: they vouch for people and therefore belong to none of them.
    """
    if directory.deployment != deployment or directory.version != version:
        raise DirectoryInvalid(title="Parts of different directories were put together.")
    # An hour of grace, because the clocks of officers and readers differ.
    latest = now.astimezone(UTC) + timedelta(days=TARGETS_DAYS, hours=1)
    if not now < expires <= latest:
        raise DirectoryExpired
    if any(one.signing_key in root_keys for one in directory.people.values()):
        raise DirectoryInvalid(title="A person is listed with a key of the root.")


def _target_names(fields: Mapping[str, Any], only: str | None) -> frozenset[str]:
    names = [desk_target(desk["id"]) for desk in fields["desks"]]
    _demand(len(names) == len(set(names)), "A desk is listed twice.")
    wanted = names if only is None else {desk_target(only)} & set(names)
    return frozenset({DIRECTORY_TARGET, PEOPLE_TARGET, *wanted})


def _parsed(form: ma.Schema, document: bytes) -> dict[str, Any]:
    return schema.checked(form, parse_canonical(document, limit=LIMIT_BYTES), "directory-invalid")


def _log(fields: Mapping[str, Any], deployment: str) -> NoteKey:
    """Read a log's origin and key; what stands behind the deployment is the log's address and lasts as long as it."""
    public_key(fields["key"])
    name = fields["origin"].removeprefix(f"{deployment}/")
    if name == fields["origin"] or not re.fullmatch(LOG_NAME, name):
        raise DirectoryInvalid(title=_BAD_ORIGIN)
    try:
        return log_key(fields["origin"], fields["key"])
    except CheckpointInvalid:
        raise DirectoryInvalid(title=_BAD_ORIGIN) from None


def _cosigner(fields: Mapping[str, Any]) -> Cosigner:
    try:
        key = NoteKey.parse(fields["key"])
    except CheckpointInvalid:
        raise DirectoryInvalid(title="The root names a key that is no cosigner's.") from None
    _demand(key.type is KeyType.COSIGNER, "The root names a key that is no cosigner's.")
    return Cosigner(fields["operator"], key)


def _demand(condition: bool, title: str) -> None:
    if not condition:
        raise DirectoryInvalid(title=title)


def _all_differ(values: Iterable[str], title: str) -> None:
    found = list(values)
    _demand(len(found) == len(set(found)), title)


def _desk(fields: Mapping[str, Any]) -> Desk:
    return Desk(
        id=fields["id"],
        names=fields["names"],
        languages=tuple(fields["languages"]),
        flags=tuple(fields["flags"]),
        draw=fields["draw"],
        leads=tuple(fields["leads"]),
    )


def _reader(fields: Mapping[str, Any]) -> Reader:
    return Reader(
        id=fields["id"],
        roles=frozenset(fields["roles"]),
        signing_key=fields["signing_key"],
        intake_key=verify_intake_key(fields["signing_key"], fields),
        takes=frozenset(fields["takes"]),
    )


def _check_desk(desk: Desk, listed: tuple[Reader, ...]) -> None:
    _all_differ((one.id for one in listed), "A reader is listed twice at one desk.")
    _all_differ(desk.leads, "A lead is listed twice.")
    leads = {one.id for one in listed if "lead" in one.roles}
    _demand(leads == set(desk.leads), "The leads of a desk are not its readers with that role.")


def _check_custodians(fields: Mapping[str, Any], members: "_Members") -> None:
    count = len(fields["members"])
    _demand(min(1, count) <= fields["k"] <= count, "So many custodians cannot come together.")
    _check_holders("custodian", fields["members"], members)


def _check_holders(role: str, listed: list[Mapping[str, Any]], members: "_Members") -> None:
    """Check those who hold an intake key for another purpose than reading: custodians and partners."""
    _all_differ((one["id"] for one in listed), f"A {role} is listed twice.")
    for one in listed:
        person = members.people.get(one["id"])
        if person is None or role not in person.roles:
            raise DirectoryInvalid(
                title=f"A {role} does not stand among the people with that role."
            )
        verify_intake_key(person.signing_key, one)
        # What opens shares, or what partners get, must not open testimonies: each is another key.
        members.own(one["intake_key"], one["id"], role)


def _consent_texts(listed: list[Mapping[str, Any]]) -> tuple[ConsentText, ...]:
    texts = tuple(ConsentText(**{k: v for k, v in one.items() if k != "ext"}) for one in listed)
    _all_differ((one.id for one in texts), "Two consent texts have one id.")
    for one in texts:
        _demand(
            sha256_hex(one.text.encode("utf-8")) == one.sha256,
            "A consent text does not have its hash.",
        )
    return texts


class _Members:
    """Everybody of one version, gathered part by part; one key belongs to one person for one purpose."""

    def __init__(self) -> None:
        self.people: dict[str, Person] = {}
        self._owners: dict[str, tuple[str, str]] = {}
        self._keys: dict[tuple[str, str], str] = {}

    def add(self, fields: Mapping[str, Any], *desks: str) -> None:
        """Add a person, or another desk of theirs."""
        known = self.people.get(fields["id"])
        roles = frozenset(fields["roles"]) | (known.roles if known else frozenset())
        _demand(bool(fields["roles"]), "A person is listed without a role.")
        _demand(
            not ("administrator" in roles and roles & READER_ROLES),
            "Nobody both administers and reads.",
        )
        self.own(fields["signing_key"], fields["id"], "sign")
        self.people[fields["id"]] = Person(
            id=fields["id"],
            roles=roles,
            desks=frozenset(desks) | (known.desks if known else frozenset()),
            signing_key=fields["signing_key"],
        )

    def own(self, key: str, person: str, purpose: str) -> None:
        """Note whose key this is; the same person may be listed with it again for the same purpose."""
        _demand(
            self._owners.setdefault(key, (person, purpose)) == (person, purpose),
            "One key is listed for two people or purposes.",
        )
        _demand(
            self._keys.setdefault((person, purpose), key) == key,
            "One person has two keys for one purpose.",
        )
