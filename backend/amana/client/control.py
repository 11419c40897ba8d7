# SPDX-License-Identifier: AGPL-3.0-or-later
"""What a witness asks and says with the codename alone, from any phone (docs/protocol.md §7).

The server is asked about one testimony after the other, each over a connection of its own, until three numbers in a
row are not there: nobody but the codename's holder knows how many there are.
"""

import json
import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from amana.client.errors import NotVerified, Refused, Usage
from amana.client.newfile import write_new
from amana.client.transport import Patience, Transport
from amana.client.verify import read_limited
from amana.protocol.codename import ThreadKeys
from amana.protocol.consent import Entry, parse_chain
from amana.protocol.control import Head, parse_control, sign_control
from amana.protocol.directory import RootPins
from amana.protocol.encoding import canonical, check_id, check_sha256_hex, parse_day
from amana.protocol.errors import ProtocolError
from amana.protocol.policy import IDENTITY_LEVELS, Policy, is_scope
from amana.protocol.receipt import verify_receipt
from amana.protocol.vault import VAULTS

PATH: Final = "/v1/control"
MISSES: Final = 3
MAX_TESTIMONIES: Final = 1000
"""How many testimonies of one codename are asked for at most; a server that says yes to everything ends here."""
DROP_DAYS: Final = 71
"""How many days after it was asked a question is gone from the dead drop: a day until its batch, 70 at most in it."""
QUEUE_LIMIT_BYTES: Final = 256 * 1024
MAX_QUEUED: Final = 100
_STATE: Final = re.compile(r"[a-z][a-z-]{0,31}")


@dataclass(frozen=True)
class Withdrawn:
    """A withdrawal as the server tells it."""

    asked_on: date
    destroy_on: date
    destroyed_on: date | None
    backups_until: date


@dataclass(frozen=True)
class Release:
    """A vault that custodians released to a reader, as the server tells it."""

    vault: str
    purpose: str
    reader: str
    to: str | None
    """The partner to whom the reader may hand it, if any."""
    released_on: date
    opened_on: date | None
    expires_on: date


@dataclass(frozen=True)
class Expired:
    """That the time of a testimony was over, as the server tells it."""

    expired_on: date
    destroyed_on: date | None
    backups_until: date


@dataclass(frozen=True)
class Leaving:
    """To whom a testimony is to go, or went on a day, and for what."""

    to: str
    purpose: str
    identity_level: str
    """`anonymous` where nothing leaves of who the witness is."""
    state: str
    requested_on: date
    exported_on: date | None


@dataclass(frozen=True)
class Standing:
    """How a testimony stands; its policies were verified, the rest is the server's word."""

    number: int
    case: str
    state: str
    entries: tuple[Entry, ...]
    """Empty when the testimony was destroyed."""
    head: Head
    withdrawal: Withdrawn | None
    opened: tuple[tuple[str, date], ...]
    """Readers who opened it, and on which day."""
    asked: tuple[date, ...]
    """The days on which readers asked about it; what they asked lies in the dead drop for a while."""
    releases: tuple[Release, ...] = ()
    ends_on: date | None = None
    """The day on which it expires, unless it is kept."""
    expired: Expired | None = None
    exports: tuple[Leaving, ...] = ()

    @property
    def is_over(self) -> bool:
        """Whether it was withdrawn, or has expired."""
        return self.withdrawal is not None or self.expired is not None

    @property
    def policy(self) -> Policy:
        """The newest version."""
        return self.entries[-1].policy


@dataclass
class Line:
    """A witness's way to one server under one codename; opens a connection for each question."""

    connect: Callable[[], Transport]
    thread: ThreadKeys
    pins: RootPins
    patience: Patience
    pause_seconds: float = 4.0
    """The longest pause between two questions; how long each lasts is drawn."""

    def standings(self) -> Iterator[Standing]:
        """Ask about one testimony after the other, and yield those that are there. Raises ClientError."""
        misses = 0
        for number in range(MAX_TESTIMONIES):
            if number:
                self.pause()
            found = self.standing(number)
            if found is not None:
                misses = 0
                yield found
            else:
                misses += 1
                if misses == MISSES:
                    return

    def standing(self, number: int) -> Standing | None:
        """Ask how one testimony stands; None where there is none under this number."""

        def ask() -> dict[str, Any] | None:
            # A new statement for each try: the server answers none of them twice.
            statement = sign_control(
                self.thread.control(number),
                deployment=self.pins.deployment,
                kind="status",
                made_on=_today(),
            )
            try:
                return self._send(statement)
            except Refused as error:
                if error.slug == "control-unknown":
                    return None
                raise

        answer = self.patience.persist(ask)
        return None if answer is None else self._read(number, answer)

    def say(self, standing: Standing, kind: str, policy: bytes | None = None) -> Standing:
        """State something about a testimony, check the receipt, and return how it stands then."""
        statement = sign_control(
            self.thread.control(standing.number),
            deployment=self.pins.deployment,
            kind=kind,
            made_on=_today(),
            head=standing.head,
            policy=policy,
        )
        self.pause()
        try:
            answer = self.patience.persist(lambda: self._send(statement))
        except Refused as error:
            if error.slug != "control-known":
                raise
            # An earlier try arrived, and its answer was lost.
            found = self.standing(standing.number)
            if found is None:
                raise
            return found
        check_answer(self.pins, statement, answer)
        return self._read(standing.number, answer)

    def pause(self) -> None:
        """Wait a drawn while, so that two connections do not seem to be one errand."""
        time.sleep(random.uniform(self.pause_seconds / 4, self.pause_seconds))  # noqa: S311

    def _send(self, statement: dict[str, Any]) -> dict[str, Any]:
        return send(self.connect, statement)

    def _read(self, number: int, answer: dict[str, Any]) -> Standing:
        try:
            return _standing(number, answer, self.thread.control(number).public, self.pins)
        except ProtocolError as error:
            raise NotVerified(error.title, slug=error.slug) from None
        except (KeyError, TypeError, ValueError):
            raise NotVerified(
                "The server's answer is not in its form.", slug="bad-answer"
            ) from None


def _today() -> date:
    return datetime.now(UTC).date()


def send(connect: Callable[[], Transport], statement: dict[str, Any]) -> dict[str, Any]:
    """Send a statement over a connection of its own and return the answer. Raises Refused, NetworkFailed."""
    with connect() as transport:
        answer = transport.ask(
            "POST",
            PATH,
            headers={"Content-Type": "application/json"},
            content=canonical({"statement": statement}),
        )
    if answer.status != 200:
        raise answer.refusal()
    return answer.document()


def check_answer(pins: RootPins, statement: dict[str, Any], answer: dict[str, Any]) -> None:
    """Refuse an answer without a receipt, signed by the log that the root pins, for this very statement."""
    try:
        receipt = verify_receipt(answer.get("receipt"), pins.custody_log_key)
    except ProtocolError as error:
        raise NotVerified(error.title, slug=error.slug) from None
    said = parse_control(statement)
    expected = (pins.deployment, answer.get("case"), said.kind, said.sha256)
    event = receipt.event
    found = (
        receipt.deployment,
        receipt.case,
        event.get("statement"),
        event.get("statement_sha256"),
    )
    if found != expected:
        raise NotVerified("The receipt is for something else.", slug="receipt-differs")


def _standing(number: int, answer: dict[str, Any], control: str, pins: RootPins) -> Standing:
    state = answer["state"]
    if not _STATE.fullmatch(state):
        raise ValueError
    withdrawal, expired = _withdrawal(answer["withdrawal"]), _expired(answer["expiry"])
    ends_on = answer["ends_on"]
    entries: tuple[Entry, ...] = ()
    ended = [one.destroyed_on for one in (withdrawal, expired) if one is not None]
    if answer["policies"] or not any(ended):
        entries = parse_chain(answer["policies"])
        first = entries[0].policy
        if (first.control, first.deployment) != (control, pins.deployment):
            raise ValueError
    return Standing(
        number=number,
        case=check_id(answer["case"]),
        state=state,
        entries=entries,
        head=Head(_counted(answer["seq"]), check_sha256_hex(answer["prev_sha256"])),
        withdrawal=withdrawal,
        opened=tuple((check_id(one["reader"]), parse_day(one["day"])) for one in answer["opened"]),
        asked=tuple(parse_day(day) for day in answer["asked"]),
        releases=tuple(map(_release, answer["releases"])),
        ends_on=None if ends_on is None else parse_day(ends_on),
        expired=expired,
        exports=tuple(map(_leaving, answer["exports"])),
    )


def _release(told: Any) -> Release:
    if told["vault"] not in VAULTS or not is_scope(told["purpose"]):
        raise ValueError
    opened = told["opened_on"]
    return Release(
        vault=told["vault"],
        purpose=told["purpose"],
        reader=check_id(told["reader"]),
        to=None if told["to"] is None else check_id(told["to"]),
        released_on=parse_day(told["released_on"]),
        opened_on=None if opened is None else parse_day(opened),
        expires_on=parse_day(told["expires_on"]),
    )


def _leaving(told: Any) -> Leaving:
    if not (_STATE.fullmatch(told["state"]) and is_scope(told["purpose"])):
        raise ValueError
    if told["identity_level"] not in IDENTITY_LEVELS:
        raise ValueError
    day = told["exported_on"]
    return Leaving(
        to=check_id(told["to"]),
        purpose=told["purpose"],
        identity_level=told["identity_level"],
        state=told["state"],
        requested_on=parse_day(told["requested_on"]),
        exported_on=None if day is None else parse_day(day),
    )


def _counted(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError
    return value


def _withdrawal(told: Any) -> Withdrawn | None:
    if told is None:
        return None
    destroyed = told["destroyed_on"]
    return Withdrawn(
        asked_on=parse_day(told["asked_on"]),
        destroy_on=parse_day(told["destroy_on"]),
        destroyed_on=None if destroyed is None else parse_day(destroyed),
        backups_until=parse_day(told["backups_until"]),
    )


def _expired(told: Any) -> Expired | None:
    if told is None:
        return None
    destroyed = told["destroyed_on"]
    return Expired(
        expired_on=parse_day(told["expired_on"]),
        destroyed_on=None if destroyed is None else parse_day(destroyed),
        backups_until=parse_day(told["backups_until"]),
    )


def cannot_be_recalled(standings: Sequence[Standing]) -> list[dict[str, str]]:
    """Return the honest list: who has seen a testimony or learned who spoke, and until when backups hold it."""
    found: list[dict[str, str]] = []
    for one in standings:
        found += [
            {"case": one.case, "what": "opened", "by": reader, "on": day.isoformat()}
            for reader, day in one.opened
        ]
        if one.asked:
            # Nobody can find it there without the codename, the server neither.
            gone = max(one.asked) + timedelta(days=DROP_DAYS)
            found.append({"case": one.case, "what": "questions", "until": gone.isoformat()})
        found += [
            {
                "case": one.case,
                "what": "released",
                "vault": release.vault,
                "purpose": release.purpose,
                "by": release.reader,
                "on": release.opened_on.isoformat(),
            }
            for release in one.releases
            if release.opened_on is not None
        ]
        found += [
            {
                "case": one.case,
                "what": "exported",
                "to": left.to,
                "purpose": left.purpose,
                "identity_level": left.identity_level,
                "on": left.exported_on.isoformat(),
            }
            for left in one.exports
            if left.exported_on is not None
        ]
        if one.withdrawal is not None:
            until = one.withdrawal.backups_until.isoformat()
            found.append({"case": one.case, "what": "backups", "until": until})
    return found


# Withdrawals that wait for a network


def write_queue(path: Path, thread: ThreadKeys, pins: RootPins, count: int) -> None:
    """Write signed withdrawals of the first `count` testimonies; the file holds no secret, and may be sent by anybody."""
    statements = [
        sign_control(
            thread.control(number), deployment=pins.deployment, kind="withdraw", made_on=_today()
        )
        for number in range(count)
    ]
    write_new(path, (json.dumps({"v": 1, "statements": statements}) + "\n").encode("ascii"))


def read_queue(path: Path) -> list[dict[str, Any]]:
    """Return the statements of a queue file; each is checked."""
    try:
        document = json.loads(read_limited(path, QUEUE_LIMIT_BYTES))
        statements = document["statements"]
        if document["v"] != 1 or not 0 < len(statements) <= MAX_QUEUED:
            raise ValueError
        for one in statements:
            parse_control(one)
    except (ValueError, KeyError, TypeError, RecursionError, ProtocolError):
        raise Usage("This is not a file of queued statements.", slug="queue-file") from None
    found: list[dict[str, Any]] = statements
    return found


@dataclass(frozen=True)
class Delivered:
    """What became of queued statements: cases that they reached, and how many led to none or were refused."""

    cases: tuple[str, ...]
    unknown: int
    refused: tuple[str, ...]


def deliver(
    path: Path,
    connect: Callable[[], Transport],
    pins: RootPins,
    patience: Patience,
    pause_seconds: float,
) -> Delivered:
    """Send what was queued, each over a connection of its own, and delete the file when all was answered.

    Raises NetworkFailed; the file stays then, and sending it again does nothing twice.
    """
    cases, unknown, refused = [], 0, []
    for place, statement in enumerate(read_queue(path)):
        if place:
            time.sleep(random.uniform(pause_seconds / 4, pause_seconds))  # noqa: S311
        try:
            answer = patience.persist(lambda one=statement: send(connect, one))  # type: ignore[misc]
            check_answer(pins, statement, answer)
            cases.append(check_id(answer.get("case")))
        except Refused as error:
            if error.slug == "control-unknown":
                unknown += 1
            elif error.slug not in {"control-known", "case-withdrawn", "case-expired"}:
                refused.append(error.slug)
    path.unlink()
    return Delivered(tuple(cases), unknown, tuple(refused))
