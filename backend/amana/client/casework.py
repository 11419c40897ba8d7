# SPDX-License-Identifier: AGPL-3.0-or-later
"""A reader at work on a case: hand it over, write notes and labels, ask its witness, decide; signed and sealed here."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

from amana.client.errors import ClientError, NotVerified, Refused, Usage
from amana.client.reviewer import (
    GrantUnusable,
    NoGrant,
    Reviewer,
    case_argument,
    open_with_own_key,
    own_grant,
    verify_case,
    verifying,
)
from amana.protocol.case import intake_key_id, seal_grant
from amana.protocol.consent import READERS, Entry, covers, parse_chain
from amana.protocol.directory import Directory
from amana.protocol.drop import shard_of
from amana.protocol.encoding import b64, check_id, parse_day, sha256_hex, unb64
from amana.protocol.errors import ProtocolError
from amana.protocol.note import check_labels, open_note, own_notes, seal_note
from amana.protocol.policy import IDENTITY_LEVELS
from amana.protocol.reply import SALT_BYTES, commitment, seal_reply
from amana.protocol.sealing import Identity

MAX_PAGES: Final = 100


class NotConsented(ClientError):
    """The witness does not allow it, whatever a server would say; nothing was sent."""

    exit_status = Refused.exit_status
    slug = "consent-denies"


@dataclass(frozen=True)
class ReadNote:
    """A note as it was read; `verified` means that the person whom the directory lists as its author signed it."""

    n: int
    author: str
    audience: str
    kind: str
    made_on: str
    content: dict[str, Any]
    verified: bool


class Caseworker(Reviewer):
    """A reader who works on cases that they have."""

    def release(self, case: str) -> None:
        """Give a case back; raises Refused."""
        case_argument(case)
        self.act("release", f"/v1/cases/{case}/claims/release", case=case, body={})

    def recuse(self, case: str, reason: str) -> None:
        """Say that one must not have a case, or that one's grant does not open it; raises Refused."""
        case_argument(case)
        self.act("recuse", f"/v1/cases/{case}/recusals", case=case, body={"reason": reason})

    def hand_over(self, case: str, to: str, *, second: bool) -> None:
        """Seal the case key to a colleague and offer them the case; raises Refused and Usage.

        A lead who cannot open the case passes it on to somebody who has a grant already.
        """
        case_argument(case)
        directory = self._directory().directory
        recipient = directory.intake_key(_person(to))
        if recipient is None:
            raise Usage("The directory lists no key of this person.", slug="key-not-listed")
        try:
            grant = b64(seal_grant(self._case_key(case, directory, "re-wrap"), recipient))
        except (NoGrant, GrantUnusable):
            grant = None
        except Refused as refused:
            # It was not sealed to this lead at all.
            if refused.slug != "not-found":
                raise
            grant = None
        body = {
            "to": to,
            "second": second,
            "intake_key": None if grant is None else intake_key_id(recipient),
            "grant": grant,
        }
        path = f"/v1/cases/{case}/hand-overs"
        self._desk.act("hand-over", path, directory=directory.version, case=case, body=body)

    def write(
        self, case: str, kind: str, content: dict[str, Any], *, audience: str = "desk"
    ) -> int:
        """Sign and seal a note, a coding or a link, and add it to a case; returns its number."""
        case_argument(case)
        if kind == "coding":
            with _usable():
                check_labels(content["labels"])
        directory = self._directory().directory
        sealed = self._sealed(case, directory, kind, content, audience)
        answer = self._desk.act(
            "note",
            f"/v1/cases/{case}/notes",
            directory=directory.version,
            case=case,
            body={"audience": audience, "sealed": b64(sealed)},
        ).document()
        if type(answer.get("n")) is not int:
            raise NotVerified("The server's answer is not in its form.", slug="bad-answer")
        return int(answer["n"])

    def decide(self, case: str, decision: str, reason: str, of: str | None) -> None:
        """Decide a case; the reason is signed and sealed like a note. Raises Refused."""
        case_argument(case)
        if of is not None and decision != "duplicate":
            raise Usage("Only a duplicate is one of another case.")
        directory = self._directory().directory
        content = {"decision": decision, "text": reason, "of": of}
        sealed = self._sealed(case, directory, "decision", content, "desk")
        body = {"decision": decision, "reason": b64(sealed)}
        path = f"/v1/cases/{case}/decisions"
        self._desk.act("decide", path, directory=directory.version, case=case, body=body)

    def ask(self, case: str, text: str, reason: str) -> int:
        """Ask the witness of a case through the dead drop, and return how often they may still be asked.

        Question and reason are kept with the case as a sealed note. Raises NotConsented, Refused and NotVerified.
        """
        case_argument(case)
        verified, today = self._directory(), self._desk.clock().date()
        directory = verified.directory
        described = self._desk.get(f"/v1/cases/{case}").document()
        with verifying("the case"):
            _check_consent(parse_chain(described["policies"]), today)
        self._case_key(case, directory, "open")
        with verifying("the case"):
            found = verify_case(self._desk, verified.pins, case, described)
        with _usable():
            slots = seal_reply(
                self.keys.signing,
                found.manifest.reply,
                deployment=directory.deployment,
                case=case,
                actor=self.keys.id,
                directory=directory.version,
                text=text,
                sent_on=today.isoformat(),
            )
        salt, hashes = os.urandom(SALT_BYTES), [sha256_hex(one) for one in slots]
        content = {"text": text, "reason": reason, "salt": b64(salt), "slots": hashes}
        note = self._sealed(case, directory, "question", content, "desk")
        body = {"commitment": commitment(salt, hashes), "reason": b64(note)}
        answer = self._desk.act(
            "ask",
            "/v1/drop",
            directory=directory.version,
            case=case,
            body=body,
            sent={
                **body,
                "salt": b64(salt),
                "bits": directory.drop_bits,
                "shard": shard_of(found.manifest.reply, directory.drop_bits),
                "slots": [b64(one) for one in slots],
            },
        ).document()
        if type(answer.get("left")) is not int:
            raise NotVerified("The server's answer is not in its form.", slug="bad-answer")
        return int(answer["left"])

    def resume(self, case: str) -> None:
        """Go on with a case without waiting for its witness any longer; raises Refused."""
        case_argument(case)
        self.act("resume", f"/v1/cases/{case}/resumptions", case=case, body={})

    def reopen(self, case: str, reason: str) -> None:
        """Take the decision about a case back; the reason is signed and sealed like a note. Raises Refused."""
        case_argument(case)
        directory = self._directory().directory
        sealed = self._sealed(case, directory, "reopening", {"text": reason}, "desk")
        path = f"/v1/cases/{case}/reopenings"
        body = {"reason": b64(sealed)}
        self._desk.act("reopen", path, directory=directory.version, case=case, body=body)

    def notes(self, case: str) -> list[ReadNote]:
        """Return the notes of a case that this reader may read, in their order; raises NotVerified."""
        case_argument(case)
        directory = self._directory().directory
        key = self._case_key(case, directory, "open")
        found: list[ReadNote] = []
        for _ in range(MAX_PAGES):
            after = found[-1].n if found else 0
            page = self._desk.get(f"/v1/cases/{case}/notes?after={after}", limit=4 * 2**20)
            with verifying("a note"):
                listed = page.document()["notes"]
                read = [self._read(one, case, key, directory) for one in listed]
                if sorted({one.n for one in read}) != [one.n for one in read]:
                    raise KeyError
            if not read:
                return found
            if read[0].n <= after:
                break
            found += read
        raise NotVerified("The server's notes do not end.", slug="bad-answer")

    def routing_tasks(self) -> list[dict[str, Any]]:
        """Return a lead's cases that found nobody, and why."""
        found = self._desk.get("/v1/routing-tasks").document()
        try:
            return [
                {
                    "case": check_id(one["case"]),
                    "desk": str(one["desk"]),
                    "reason": str(one["reason"]),
                    "made_on": parse_day(one["made_on"]).isoformat(),
                    "verdicts": {
                        check_id(person): str(verdict)
                        for person, verdict in one["explanation"]["verdicts"].items()
                    },
                }
                for one in found["tasks"]
            ]
        except (KeyError, TypeError, ValueError, AttributeError):
            raise NotVerified("The list is not in its form.", slug="bad-answer") from None

    def reviews_due(self) -> list[dict[str, Any]]:
        """Return a lead's cases whose review day has come, and what follows."""
        found = self._desk.get("/v1/retention").document()
        with verifying("the list"):
            return [_review(one) for one in found["cases"]]

    def review_of(self, case: str) -> dict[str, Any]:
        """Return the review day of one case, and what follows on it; raises Refused."""
        case_argument(case)
        found = self._desk.get(f"/v1/cases/{case}/retention").document()
        with verifying("the review day"):
            return _review(found)

    def prolong(self, case: str, until: date, reason: str) -> dict[str, Any]:
        """Set the review day of a case later, as a lead of its desk; raises Refused."""
        case_argument(case)
        body = {"until": until.isoformat(), "reason": reason}
        path = f"/v1/cases/{case}/prolongations"
        done = self.act("prolong", path, case=case, body=body).document()
        with verifying("the review day"):
            return _review(done)

    def _sealed(
        self, case: str, directory: Directory, kind: str, content: dict[str, Any], audience: str
    ) -> bytes:
        if audience == "author":
            recipient = own_notes(self.keys.signing).recipient
        else:
            recipient = self._case_key(case, directory, "open").recipient
        with _usable():
            return seal_note(
                self.keys.signing,
                recipient,
                deployment=directory.deployment,
                case=case,
                author=self.keys.id,
                audience=audience,
                kind=kind,
                content=content,
                made_on=self._desk.clock().date().isoformat(),
            )

    def _case_key(self, case: str, directory: Directory, kind: str) -> Identity:
        """Fetch one's own grant and open it; without a recent opening one is signed, and recorded, as `kind`."""
        path = {"open": "openings", "re-wrap": "re-wrappings"}[kind]
        try:
            with verifying("the grant"):
                name, sealed = own_grant(self._desk, case)
        except Refused as refused:
            if refused.slug != "opening-needed":
                raise
            version = directory.version
            self._desk.act(kind, f"/v1/cases/{case}/{path}", directory=version, case=case)
            with verifying("the grant"):
                name, sealed = own_grant(self._desk, case)
        return open_with_own_key(self._desk, case, name, sealed)

    def _read(
        self, listed: dict[str, Any], case: str, key: Identity, directory: Directory
    ) -> ReadNote:
        author, audience = check_id(listed["author"]), listed["audience"]
        identity = own_notes(self.keys.signing) if audience == "author" else key
        note = open_note(unb64(listed["sealed"]), identity)
        if type(listed["n"]) is not int:
            raise KeyError
        person = directory.person(note.author)
        signing_key = "" if person is None else person.signing_key
        # What the server says of a note counts for nothing where the note says otherwise.
        fits = (note.case, note.author, note.audience) == (case, author, audience)
        fits = fits and note.deployment == directory.deployment and person is not None
        return ReadNote(
            n=listed["n"],
            author=note.author,
            audience=note.audience,
            kind=note.kind,
            made_on=note.made_on,
            content=note.content,
            verified=fits and note.verify(signing_key),
        )


def _check_consent(entries: Sequence[Entry], today: date) -> None:
    """Refuse to ask a witness who does not allow it, before anything is signed."""
    covered = covers(entries, READERS, "contact", IDENTITY_LEVELS[0], today)
    if not covered.allowed:
        raise NotConsented(covered.title, slug=covered.reason)


def _review(told: dict[str, Any]) -> dict[str, Any]:
    """Return the review day of a case as it is shown; raises KeyError, TypeError, ValueError."""
    days = {name: told[name] for name in ("review_on", "ends_on", "prolonged_until")}
    return {
        "case": check_id(told["case"]),
        **{name: str(told[name]) for name in ("desk", "state", "then")},
        **{name: day and parse_day(day).isoformat() for name, day in days.items()},
    }


@contextmanager
def _usable() -> Iterator[None]:
    """Say that what the person wrote cannot be a note, as their fault and not as a server's lie."""
    try:
        yield
    except ProtocolError as error:
        raise Usage(error.title, slug=error.slug) from None


def _person(person: str) -> str:
    try:
        return check_id(person)
    except ProtocolError:
        raise Usage("A person is called by 32 letters and digits.", slug="bad-id") from None
