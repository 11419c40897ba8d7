# SPDX-License-Identifier: AGPL-3.0-or-later
"""Which reader a case goes to: pure rules over a snapshot, with a reason for everybody. The content is never known here."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from enum import StrEnum

from amana.intake.retention import Periods
from amana.protocol.encoding import tagged_sha256
from amana.protocol.policy import RESTRICTING_FLAGS

WEEKDAYS = range(7)
DEFAULT_CAP_PER_DAY = 10
DEFAULT_CLAIM_DAYS = 3
DEFAULT_URGENT_CLAIM_DAYS = 1


class Verdict(StrEnum):
    """Why a reader does or does not get a case."""

    CHOSEN = "chosen"
    BUSIER = "busier"
    LESS_FITTING = "less-fitting"
    NO_GRANT = "no-grant"
    NOT_AT_DESK = "not-at-desk"
    NOT_WORKING = "not-working"
    UNTRAINED = "untrained"
    CONFLICT = "conflict"
    RECUSED = "recused"
    TRIED = "let-go"
    OFF_DUTY = "off-duty"
    FULL = "full-today"


class NobodyBecause(StrEnum):
    """Why nobody gets a case now, said to the lead."""

    NO_TRAINED_READER = "no-trained-reader"
    NOBODY_CLAIMED = "nobody-claimed"
    NOBODY_MAY = "nobody-may"
    NOBODY_TODAY = "nobody-today"


@dataclass(frozen=True)
class Rules:
    """What an administrator set: days to claim, how many cases a reader gets in a day, on which weekdays they work, and
    how long cases are kept."""

    claim_days: int = DEFAULT_CLAIM_DAYS
    urgent_claim_days: int = DEFAULT_URGENT_CLAIM_DAYS
    cap_per_day: int = DEFAULT_CAP_PER_DAY
    duty: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Weekdays (0 is Monday) by reader; whoever is not named works every day."""
    retention: Periods = field(default_factory=Periods)
    """How long cases are kept; routing does nothing with it."""

    def on_duty(self, reader: str, day: date) -> bool:
        return day.weekday() in self.duty.get(reader, WEEKDAYS)

    def unclaimed_since(self, day: date, *, urgent: bool) -> date:
        """Return the last day on which a case was offered that should be claimed by `day`."""
        return day - timedelta(days=self.urgent_claim_days if urgent else self.claim_days)


@dataclass(frozen=True)
class ReaderFacts:
    """A reader as routing sees them; codes are those of their vetting."""

    id: str
    desks: frozenset[str]
    takes: frozenset[str]
    works: bool = True
    languages: frozenset[str] = frozenset()
    specialities: frozenset[str] = frozenset()
    conflicts: frozenset[str] = frozenset()
    load: int = 0
    """Cases that they have and that are not decided."""
    today: int = 0
    """Cases that were offered to them today."""


@dataclass(frozen=True)
class CaseFacts:
    """A case as the clear policy and the server's own rows tell it."""

    case: str
    desk: str
    language: str
    flags: frozenset[str]
    received_on: date
    granted: frozenset[str]
    paid: int = 0
    recused: frozenset[str] = frozenset()
    tried: frozenset[str] = frozenset()
    """Who was offered it and did not claim it in time, or had it and gave it back."""

    @property
    def is_urgent(self) -> bool:
        return "urgent" in self.flags

    @property
    def codes(self) -> frozenset[str]:
        """What a conflict can name: the places and people of a case are sealed, so this is all."""
        return frozenset({f"case:{self.case}", f"desk:{self.desk}", f"language:{self.language}"})


@dataclass(frozen=True)
class Choice:
    """Who gets a case, if anybody, and why each of those who were looked at does or does not."""

    case: str
    reader: str | None
    verdicts: Mapping[str, Verdict]
    nobody_because: NobodyBecause | None = None


def order(cases: Iterable[CaseFacts]) -> list[CaseFacts]:
    """Return cases in the order in which they are routed: urgent ones, then by what was paid, then the oldest.

    The price of admission rises in a flood, so whoever paid more is not drowned by whoever paid less.
    """
    return sorted(cases, key=lambda one: (not one.is_urgent, -one.paid, one.received_on, one.case))


def choose(case: CaseFacts, readers: Iterable[ReaderFacts], rules: Rules, day: date) -> Choice:
    """Choose who gets a case: nobody who must not, then the fitting ones, of these the least loaded."""
    verdicts: dict[str, Verdict] = {}
    able: list[ReaderFacts] = []
    for reader in readers:
        verdict = _excluded(case, reader, rules, day)
        if verdict is None:
            able.append(reader)
        else:
            verdicts[reader.id] = verdict
    if not able:
        return Choice(case.case, None, verdicts, _nobody_because(verdicts))
    fitness = {one.id: _fitness(case, one) for one in able}
    best = max(fitness.values())
    fitting = [one for one in able if fitness[one.id] == best]
    chosen = min(fitting, key=lambda one: (one.load, one.today, _lot(case, one)))
    for one in able:
        fits = fitness[one.id] == best
        verdicts[one.id] = Verdict.BUSIER if fits else Verdict.LESS_FITTING
    verdicts[chosen.id] = Verdict.CHOSEN
    return Choice(case.case, chosen.id, verdicts)


def route(
    cases: Iterable[CaseFacts], readers: Iterable[ReaderFacts], rules: Rules, day: date
) -> list[Choice]:
    """Choose for many cases, one after the other, so that each choice counts for the next ones."""
    load = {one.id: one for one in readers}
    choices = []
    for case in order(cases):
        # Whoever holds no grant cannot be chosen, and a desk has sixteen readers at most.
        at_hand = [load[one] for one in sorted(case.granted) if one in load]
        choice = choose(case, at_hand, rules, day)
        if choice.reader is not None:
            load[choice.reader] = _with_one_more(load[choice.reader])
        choices.append(choice)
    return choices


def may_take(case: CaseFacts, reader: ReaderFacts) -> Verdict | None:
    """Return why a reader must not have a case at all, whatever the day; None if they may.

    It holds for whoever claims a case and whoever is handed one, too.
    """
    if not reader.works:
        return Verdict.NOT_WORKING
    if case.desk not in reader.desks:
        return Verdict.NOT_AT_DESK
    if not RESTRICTING_FLAGS & case.flags <= reader.takes:
        return Verdict.UNTRAINED
    if case.codes & reader.conflicts:
        return Verdict.CONFLICT
    if reader.id in case.recused:
        return Verdict.RECUSED
    return None


def _excluded(case: CaseFacts, reader: ReaderFacts, rules: Rules, day: date) -> Verdict | None:
    if reader.id not in case.granted:
        return Verdict.NO_GRANT
    if (never := may_take(case, reader)) is not None:
        return never
    if reader.id in case.tried:
        return Verdict.TRIED
    if not rules.on_duty(reader.id, day):
        return Verdict.OFF_DUTY
    # An urgent case is not kept waiting for tomorrow.
    if reader.today >= rules.cap_per_day and not case.is_urgent:
        return Verdict.FULL
    return None


def _fitness(case: CaseFacts, reader: ReaderFacts) -> tuple[bool, int]:
    """Rank how well a reader fits: who knows the language first, then who is trained for more of its flags."""
    wanted = {code.replace("_", "-") for code in case.flags}
    specialities = {code.replace("_", "-") for code in reader.specialities}
    knows = _primary(case.language) in {_primary(one) for one in reader.languages}
    return knows, len(wanted & specialities)


def _primary(language: str) -> str:
    return language.partition("-")[0]


def _lot(case: CaseFacts, reader: ReaderFacts) -> bytes:
    """Draw among equals, the same on every machine.

    Whoever seals a case could foresee it, and need not: they choose already who is given a grant.
    """
    return tagged_sha256("amana-lot-v1", case.case.encode("ascii"), reader.id.encode("ascii"))


def _with_one_more(reader: ReaderFacts) -> ReaderFacts:
    return replace(reader, load=reader.load + 1, today=reader.today + 1)


def _nobody_because(verdicts: Mapping[str, Verdict]) -> NobodyBecause:
    """Say the reason that a lead can do most about."""
    found = set(verdicts.values())
    if found & {Verdict.FULL, Verdict.OFF_DUTY}:
        return NobodyBecause.NOBODY_TODAY
    if Verdict.TRIED in found:
        return NobodyBecause.NOBODY_CLAIMED
    if Verdict.UNTRAINED in found:
        return NobodyBecause.NO_TRAINED_READER
    return NobodyBecause.NOBODY_MAY
