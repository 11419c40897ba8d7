# SPDX-License-Identifier: AGPL-3.0-or-later
"""People who wait for the officers: each one's own signature is checked offline before anybody vouches for them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from amana.client.errors import NotVerified, Usage
from amana.client.officer import printable
from amana.protocol.action import body_sha256, parse_action
from amana.protocol.case import intake_key_id
from amana.protocol.directory import Directory, fingerprint, verify_intake_key
from amana.protocol.encoding import parse_day
from amana.protocol.enrolment import parse_enrolment
from amana.protocol.errors import ProtocolError

MAX_PENDING: Final = 1000
_INTAKE: Final = ("intake_key", "intake_key_sig")
_VETTING: Final = {
    "vouchers": "vouched for by",
    "vetted_on": "vetted on",
    "valid_until": "valid until",
    "languages": "languages",
    "specialities": "specialities",
    "conflicts": "conflicts of interest",
}


@dataclass(frozen=True)
class Pending:
    """A newcomer, or a person who replaces an intake key; nothing but `fault` counts where that is set."""

    id: str
    kind: str
    role: str = ""
    desks: tuple[str, ...] = ()
    public: Mapping[str, str] | None = None
    """`id`, `signing_key`, and where there is one the intake key with its owner's signature."""
    vetting: Mapping[str, Any] | None = None
    fault: str = ""

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.public) if self.public else ""

    def words(self) -> list[str]:
        """Say who this is, and what was recorded when they were vetted."""
        if self.fault:
            return [f"REFUSED {self.kind} {self.id}: {self.fault}"]
        where = f" for {', '.join(self.desks)}" if self.desks else ""
        what = f"new {self.role} {self.id}{where}"
        if self.kind == "replacement":
            what = f"new intake key of {self.id}"
        lines = [what, f"  fingerprint {self.fingerprint}"]
        if self.kind == "new":
            lines += self._vetting_words()
        return [printable(line) for line in lines]

    def _vetting_words(self) -> list[str]:
        if self.vetting is None:
            return ["  not vetted yet"]
        return [
            f"  {words}: {_text(self.vetting[name])}"
            for name, words in _VETTING.items()
            if self.vetting.get(name)
        ]


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def read_pending(
    document: object, current: Directory | None = None, *, deployment: str | None = None
) -> list[Pending]:
    """Return what `amana admin pending` fetched, each with its fault, if its signature or its keys are refused.

    A replaced key is its owner's only by the signing key that `current` lists, so it needs that.
    """
    waiting = document.get("enrolments") if isinstance(document, dict) else None
    if not isinstance(waiting, list) or len(waiting) > MAX_PENDING:
        raise Usage("This is not what 'amana admin pending' writes.", slug="bad-pending-file")
    if current is not None:
        deployment = current.deployment
    return [_pending(one, current, deployment) for one in waiting]


def _pending(fields: object, current: Directory | None, deployment: str | None) -> Pending:
    known = fields if isinstance(fields, dict) else {}
    person = printable(str(known.get("id")))[:32]
    kind = "replacement" if known.get("kind") == "replacement" else "new"
    try:
        if kind == "replacement":
            return _replacement(known, current)
        return _newcomer(known, current, deployment)
    except ProtocolError as error:
        return Pending(person, kind, fault=f"{error.slug}: {error.title}")
    except (KeyError, TypeError, ValueError, AttributeError):
        return Pending(person, kind, fault="enrolment-refused: It is not in its form.")


def _newcomer(
    fields: Mapping[str, Any], current: Directory | None, deployment: str | None
) -> Pending:
    document = fields["enrolment"]
    enrolment = parse_enrolment(document)
    if enrolment.id != fields["id"]:
        raise ProtocolError("enrolment-refused", "It was filed under another person's id.")
    if deployment is not None and enrolment.deployment != deployment:
        raise ProtocolError("enrolment-refused", "It was made for another installation.")
    public = {name: document[name] for name in ("id", "signing_key")}
    if document["intake_key"] is not None:
        public |= {name: document[name] for name in _INTAKE}
    if current is not None:
        _check_new(public, current)
    vetting = fields["vetting"]
    if vetting is not None:
        parse_day(vetting["vetted_on"])
        parse_day(vetting["valid_until"])
    return Pending(enrolment.id, "new", enrolment.role, tuple(document["desks"]), public, vetting)


def _check_new(public: Mapping[str, str], current: Directory) -> None:
    signing = {one.signing_key for one in current.people.values()}
    if public["id"] in current.people or public["signing_key"] in signing:
        raise ProtocolError("key-known", "The directory lists this person or signing key already.")
    _check_intake_key(public, current)


def _check_intake_key(public: Mapping[str, str], current: Directory) -> None:
    if public.get("intake_key") in current.intake_keys():
        raise ProtocolError("key-known", "The directory lists this intake key already.")


def _replacement(fields: Mapping[str, Any], current: Directory | None) -> Pending:
    if current is None:
        raise ProtocolError(
            "directory-needed", "Give the current directory, by which its signature is checked."
        )
    person = current.person(fields["id"])
    if person is None:
        raise ProtocolError("unknown-person", "The directory does not list this person.")
    public = {"id": person.id, "signing_key": person.signing_key}
    public |= {name: fields[name] for name in _INTAKE}
    verify_intake_key(person.signing_key, public)
    _check_intake_key(public, current)
    _check_request(fields["action"], public, current)
    return Pending(person.id, "replacement", public=public)


def _check_request(document: object, public: Mapping[str, str], current: Directory) -> None:
    """Check that the owner asked for this key in the place of the one that is listed now.

    A signature under a key stays good for ever, so without this a server could file a key again that was
    replaced because it was stolen.
    """
    listed = current.intake_key(public["id"])
    if listed is None:
        raise ProtocolError("no-intake-key", "The directory lists no intake key of this person.")
    action = parse_action(document)
    action.verify(public["signing_key"])
    body = {name: public[name] for name in _INTAKE} | {"replaces": intake_key_id(listed)}
    if (action.action, action.actor, action.deployment, action.body_sha256) != (
        "replace-key",
        public["id"],
        current.deployment,
        body_sha256(body),
    ):
        raise ProtocolError(
            "replacement-outdated",
            "Its owner did not ask for this key in the place of the one that is listed now.",
        )


def accepted(pending: list[Pending], ids: tuple[str, ...], now: datetime) -> list[Pending]:
    """Return those that an officer accepts; refuses whoever does not verify or was not vetted."""
    chosen = []
    for person in dict.fromkeys(ids):
        found = [one for one in pending if one.id == person]
        if not found:
            raise Usage(f"Nobody waits under the id {printable(person)}.", slug="unknown-person")
        for one in found:
            if one.fault:
                slug, _, title = one.fault.partition(": ")
                raise NotVerified(f"{one.id}: {title}", slug=slug)
            if one.kind == "new":
                _check_vetting(one, now)
        chosen += found
    return chosen


def _check_vetting(one: Pending, now: datetime) -> None:
    if one.vetting is None:
        raise Usage(f"{one.id} was not vetted yet.", slug="not-vetted")
    if parse_day(one.vetting["valid_until"]) < now.astimezone(UTC).date():
        raise Usage(f"The vetting of {one.id} is over.", slug="not-vetted")


def enter(description: dict[str, Any], one: Pending, *, purposes: list[str]) -> None:
    """Enter a newcomer, or a replaced key, into the description of a directory."""
    if one.public is None:
        raise ValueError("a person who was refused is entered nowhere")
    if one.kind == "replacement":
        for entry in _entries(description, one.id):
            if "intake_key" in entry:
                entry |= {name: one.public[name] for name in _INTAKE}
        return
    intake = {name: one.public[name] for name in _INTAKE if name in one.public}
    if one.role in {"reviewer", "lead"}:
        _seat(description, one, {**one.public, "takes": []})
        return
    signing_key = one.public["signing_key"]
    description["people"].append({"id": one.id, "roles": [one.role], "signing_key": signing_key})
    if one.role == "custodian":
        custodians = description["custodians"]
        custodians["members"].append({"id": one.id, **intake})
        custodians["k"] = max(1, custodians["k"])
    elif one.role == "partner":
        description["partners"].append({"id": one.id, **intake, "purposes": purposes})


def _seat(description: dict[str, Any], one: Pending, entry: dict[str, Any]) -> None:
    known = {desk["id"]: desk for desk in description["desks"]}
    roles = ["lead", "reviewer"] if one.role == "lead" else ["reviewer"]
    for name in one.desks:
        if name not in known:
            raise Usage(f"There is no desk {printable(name)}.", slug="desk-unknown")
        known[name]["readers"].append({**entry, "roles": roles})
        if one.role == "lead":
            known[name]["leads"].append(one.id)


def remove(description: dict[str, Any], person: str) -> None:
    """Remove a person from every place of a description."""
    if not _entries(description, person):
        raise Usage(f"The directory does not list {printable(person)}.", slug="unknown-person")
    for desk in description["desks"]:
        desk["leads"] = [one for one in desk["leads"] if one != person]
    for listed in _lists(description):
        listed[:] = [one for one in listed if one["id"] != person]


def set_takes(description: dict[str, Any], person: str, takes: list[str]) -> None:
    """Set which restricting flags a reader may take, at each of their desks."""
    readers = [one for one in _entries(description, person) if "takes" in one]
    if not readers:
        raise Usage(f"{printable(person)} reads at no desk.", slug="unknown-person")
    for one in readers:
        one["takes"] = takes


def _lists(description: dict[str, Any]) -> list[list[dict[str, Any]]]:
    return [
        *(desk["readers"] for desk in description["desks"]),
        description["people"],
        description["custodians"]["members"],
        description["partners"],
    ]


def _entries(description: dict[str, Any], person: str) -> list[dict[str, Any]]:
    return [one for listed in _lists(description) for one in listed if one["id"] == person]
