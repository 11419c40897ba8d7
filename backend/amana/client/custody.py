# SPDX-License-Identifier: AGPL-3.0-or-later
"""The custody of a case as its readers and auditors see it: who did what when, under which authority, and what proves it."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from amana.client.directory import VerifiedDirectory, custody_logs, fetch_version
from amana.client.errors import ClientError, NotVerified
from amana.client.evidence import directory_files
from amana.client.exporting import case_events
from amana.client.grounds import depth_of, what_of
from amana.client.log import prove_somewhere
from amana.client.reviewer import case_argument, verifying
from amana.client.staff import Staff
from amana.protocol.action import parse_action
from amana.protocol.custody import EVENT_LIMIT, Custody, sign_custody
from amana.protocol.directory import Directory, RootPins
from amana.protocol.encoding import check_sha256_hex, parse_canonical, parse_day
from amana.protocol.errors import ProtocolError
from amana.protocol.receipt import leaf
from amana.protocol.tlogproof import TlogProof

LOGGED, WAITING = "logged", "waiting"
VERIFIED, NOBODY_SIGNS = "verified", "none"
_WORD: Final = re.compile(r"[a-z-]{1,48}")

DirectoryOf = Callable[[int], Directory]
"""Gives a version of the directory; raises ProtocolError or ClientError where there is none that verifies."""


@dataclass(frozen=True)
class Facts:
    """What an event says in words: `who` is an id or the part that has no id, `when` a day or a second, UTC."""

    what: str
    who: str
    when: str
    authority: str
    signature: str
    """`verified`, `none` where nobody of staff signs, or what is wrong."""


@dataclass(frozen=True)
class Entry(Facts):
    """One event of a case, with what proves it."""

    proof: str
    """`logged`, `waiting`, or what is wrong."""
    place: int | None
    leaf: str
    event: Mapping[str, Any]
    key: str
    tlog_proof: str | None


@dataclass(frozen=True)
class CustodyFound:
    """What happened with a case, in the order of the log, and the signed document that proves it to others."""

    entries: Sequence[Entry]
    document: Custody


class CustodyReader(Staff):
    """Somebody who may see what happened with a case; opens nothing."""

    @property
    def root(self) -> bytes:
        """The root file that this person trusts."""
        return self._root

    def custody(self, case: str) -> CustodyFound:
        """Return the events of a case, each checked, and sign what was found. Raises Refused and NotVerified."""
        case_argument(case)
        verified = self._directory()
        entries = self._entries(case, verified)
        files = directory_files(self._get, self._root, self._versions(entries, verified))
        document = sign_custody(
            self.keys.signing,
            deployment=verified.pins.deployment,
            case=case,
            maker=self.keys.id,
            directory=verified.directory.version,
            made_on=self._desk.clock().date().isoformat(),
            events=[asdict(one) for one in entries],
            files={name: content.decode("utf-8") for name, content in files.items()},
        )
        return CustodyFound(entries, document)

    def _entries(self, case: str, verified: VerifiedDirectory) -> list[Entry]:
        directories: dict[int, Directory] = {verified.directory.version: verified.directory}

        def directory_of(version: int) -> Directory:
            if version not in directories:
                directories[version] = fetch_version(self._get, self._root, version).directory
            return directories[version]

        found = case_events(self._desk, case)
        logs = custody_logs(self._get, self._root)
        entries = []
        with self._progress.step("Checking", len(found)) as advance:
            for content, key in found:
                with verifying("an event"):
                    event = parse_canonical(content, limit=EVENT_LIMIT)
                    if not isinstance(event, dict) or event.get("case") != case:
                        raise NotVerified("An event is of another case.", slug="custody-differs")
                    facts = facts_of(event, directory_of)
                    entries.append(self._proven(facts, event, key, leaf(content, key), logs))
                advance(1)
        order = {pins.custody_log.name: place for place, pins in enumerate(logs)}
        return sorted(entries, key=lambda one: _place_of(one, order))

    def _proven(
        self,
        facts: Facts,
        event: Mapping[str, Any],
        key: bytes,
        commitment: bytes,
        logs: Sequence[RootPins],
    ) -> Entry:
        proof: TlogProof | None = None
        try:
            proof = prove_somewhere(self._desk.transport, logs, commitment)
            told = WAITING if proof is None else LOGGED
        except NotVerified as error:
            told = error.slug
        return Entry(
            **vars(facts),
            proof=told,
            place=None if proof is None else proof.index,
            leaf=commitment.hex(),
            event=event,
            key=key.hex(),
            tlog_proof=None if proof is None else bytes(proof).decode("utf-8"),
        )

    def _versions(self, entries: Sequence[Entry], verified: VerifiedDirectory) -> set[int]:
        """Return the versions under which somebody signed; one that does not verify is named where it is signed under."""
        versions = {verified.directory.version}
        for one in entries:
            if one.event["kind"] == "action" and one.signature == VERIFIED:
                versions.add(parse_action(one.event["action"]).directory)
        return versions


def _place_of(entry: Entry, order: Mapping[str, int]) -> tuple[bool, int, int, str, int]:
    """Return what a custody is ordered by; while both wait for a place, what another event needs stands before it."""
    if entry.tlog_proof is None or entry.place is None:
        return True, 0, 0, entry.when, depth_of(entry.what)
    return False, order[TlogProof.parse(entry.tlog_proof.encode()).origin], entry.place, "", 0


def facts_of(event: Mapping[str, Any], directory_of: DirectoryOf) -> Facts:
    """Return what an event says; raises ProtocolError, KeyError and TypeError for what is no event."""
    kind = str(event["kind"])
    if kind == "action":
        return _facts_of_action(event["action"], directory_of)
    if kind == "testimony-received":
        return Facts(kind, "witness", _day(event["received_on"]), "receipt", NOBODY_SIGNS)
    if kind == "control-statement":
        check_sha256_hex(event["statement_sha256"])
        what, day = _word(what_of(event)), _day(event["received_on"])
        return Facts(what, "witness", day, "control-key", NOBODY_SIGNS)
    days = [value for name, value in sorted(event.items()) if name.endswith("_on")]
    return Facts(_word(kind), "service", _day(days[0]) if days else "", "service", NOBODY_SIGNS)


def _facts_of_action(document: object, directory_of: DirectoryOf) -> Facts:
    action = parse_action(document)
    authority, signature = f"directory {action.directory}", VERIFIED
    try:
        person = directory_of(action.directory).person(action.actor)
        if person is None:
            signature = "nobody-listed"
        else:
            authority = f"{', '.join(sorted(person.roles))}; {authority}"
            action.verify(person.signing_key)
    except (ProtocolError, ClientError) as error:
        signature = error.slug
    when = f"{action.made_at:%Y-%m-%d %H:%M:%S}"
    return Facts(action.action, action.actor, when, authority, signature)


def _day(text: object) -> str:
    return parse_day(text).isoformat()


def _word(text: str) -> str:
    """Return a word that a server may choose, if it is one; nothing of it may steer a terminal or a page."""
    if not _WORD.fullmatch(text):
        raise KeyError
    return text
