"""Whom a case goes to: never somebody who must not have it, evenly among equals, and always with a reason for everybody."""

from collections import Counter
from dataclasses import replace
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amana.protocol.policy import FLAGS, RESTRICTING_FLAGS
from amana.routing.rules import (
    CaseFacts,
    NobodyBecause,
    ReaderFacts,
    Rules,
    Verdict,
    choose,
    may_take,
    order,
    route,
)

MONDAY = date(2026, 11, 23)
IDS = [f"reader-{n}" for n in range(8)]
DESKS = ["chemical", "general"]


def subsets(values: list[str]) -> st.SearchStrategy[frozenset[str]]:
    return st.frozensets(st.sampled_from(values))


@st.composite
def reader_facts(draw: st.DrawFn, person: str) -> ReaderFacts:
    return ReaderFacts(
        id=person,
        desks=draw(subsets(DESKS)),
        takes=draw(subsets(sorted(RESTRICTING_FLAGS))),
        works=draw(st.booleans()),
        languages=draw(subsets(["ar", "ar-SY", "en", "ku"])),
        specialities=draw(subsets(["minor", "sexual-violence", "medicine"])),
        conflicts=draw(subsets(["desk:general", "language:ku", "case:case-1", "place:SY07"])),
        load=draw(st.integers(0, 20)),
        today=draw(st.integers(0, 12)),
    )


READERS = st.sets(st.sampled_from(IDS)).flatmap(
    lambda chosen: st.tuples(*(reader_facts(one) for one in sorted(chosen)))
)


@st.composite
def case_facts(draw: st.DrawFn) -> CaseFacts:
    return CaseFacts(
        case=f"case-{draw(st.integers(0, 10_000))}",
        desk=draw(st.sampled_from(DESKS)),
        language=draw(st.sampled_from(["ar", "ar-SY", "ku", "fr"])),
        flags=draw(subsets(sorted(FLAGS))),
        received_on=MONDAY - timedelta(days=draw(st.integers(0, 30))),
        granted=draw(subsets(IDS)),
        paid=draw(st.integers(0, 20)),
        recused=draw(subsets(IDS)),
        tried=draw(subsets(IDS)),
    )


RULES = st.builds(
    Rules,
    cap_per_day=st.integers(1, 12),
    duty=st.dictionaries(st.sampled_from(IDS), st.just((0, 2)) | st.just((1,)), max_size=4),
)


@given(case_facts(), READERS, RULES, st.sampled_from([MONDAY, MONDAY + timedelta(days=1)]))
def test_nobody_gets_what_they_must_not_have_and_everybody_is_told_why(
    case: CaseFacts, readers: tuple[ReaderFacts, ...], rules: Rules, day: date
) -> None:
    choice = choose(case, readers, rules, day)
    assert choice.verdicts.keys() == {one.id for one in readers}
    assert (choice.reader is None) == (choice.nobody_because is not None)
    chosen = [one for one, verdict in choice.verdicts.items() if verdict is Verdict.CHOSEN]
    assert chosen == ([] if choice.reader is None else [choice.reader])
    if choice.reader is None:
        return
    [reader] = [one for one in readers if one.id == choice.reader]
    assert reader.works
    assert reader.id in case.granted - case.recused - case.tried
    assert case.desk in reader.desks
    assert case.flags & {"minor", "sexual_violence"} <= reader.takes
    assert not reader.conflicts & {f"desk:{case.desk}", f"language:{case.language}"}
    assert f"case:{case.case}" not in reader.conflicts
    assert reader.today < rules.cap_per_day or "urgent" in case.flags
    assert day.weekday() in rules.duty.get(reader.id, range(7))


@given(case_facts(), READERS, RULES)
def test_a_case_goes_to_somebody_whenever_somebody_may_have_it(
    case: CaseFacts, readers: tuple[ReaderFacts, ...], rules: Rules
) -> None:
    free = [
        one
        for one in readers
        if may_take(case, one) is None
        and one.id in case.granted - case.tried
        and rules.on_duty(one.id, MONDAY)
        and one.today < rules.cap_per_day
    ]
    choice = choose(case, readers, rules, MONDAY)
    assert choice.reader is not None or not free


@given(
    st.integers(1, 8),
    st.lists(st.integers(0, 10**6), max_size=60, unique=True),
    st.booleans(),
)
def test_equal_readers_get_equally_much(people: int, numbers: list[int], urgent: bool) -> None:
    readers = [
        ReaderFacts(one, frozenset(DESKS), RESTRICTING_FLAGS, languages=frozenset({"ar"}))
        for one in IDS[:people]
    ]
    cases = [
        CaseFacts(
            f"case-{n}",
            "chemical",
            "ar",
            frozenset({"urgent"} if urgent else ()),
            MONDAY,
            frozenset(IDS),
        )
        for n in numbers
    ]
    choices = route(cases, readers, Rules(cap_per_day=100), MONDAY)
    assert sorted(one.case for one in choices) == sorted(one.case for one in cases)
    loads = Counter({one.id: 0 for one in readers})
    loads.update(one.reader for one in choices if one.reader)
    assert max(loads.values()) - min(loads.values()) <= 1


@given(st.lists(case_facts(), unique_by=lambda one: one.case), READERS, RULES)
def test_the_same_snapshot_gives_the_same_choices_in_any_order_and_keeps_the_cap(
    cases: list[CaseFacts], readers: tuple[ReaderFacts, ...], rules: Rules
) -> None:
    first = route(cases, readers, rules, MONDAY)
    assert route(cases[::-1], readers[::-1], rules, MONDAY) == first
    urgent = {one.case for one in cases if one.is_urgent}
    for reader in readers:
        usual = [x for x in first if x.reader == reader.id and x.case not in urgent]
        if usual:
            assert reader.today + len(usual) <= max(rules.cap_per_day, reader.today)


CASE = CaseFacts("case-1", "chemical", "ar", frozenset(), MONDAY, frozenset(IDS))
READER = ReaderFacts("reader-0", frozenset({"chemical"}), frozenset())


@pytest.mark.parametrize(
    ("case", "reader", "verdict", "because"),
    [
        ({"granted": frozenset()}, {}, Verdict.NO_GRANT, NobodyBecause.NOBODY_MAY),
        ({}, {"works": False}, Verdict.NOT_WORKING, NobodyBecause.NOBODY_MAY),
        ({}, {"desks": frozenset()}, Verdict.NOT_AT_DESK, NobodyBecause.NOBODY_MAY),
        (
            {"flags": frozenset({"sexual_violence"})},
            {"takes": frozenset({"minor"}), "specialities": frozenset({"sexual-violence"})},
            Verdict.UNTRAINED,
            NobodyBecause.NO_TRAINED_READER,
        ),
        (
            {},
            {"conflicts": frozenset({"case:case-1"})},
            Verdict.CONFLICT,
            NobodyBecause.NOBODY_MAY,
        ),
        ({"recused": frozenset(IDS)}, {}, Verdict.RECUSED, NobodyBecause.NOBODY_MAY),
        ({"tried": frozenset(IDS)}, {}, Verdict.TRIED, NobodyBecause.NOBODY_CLAIMED),
        ({}, {"today": 10}, Verdict.FULL, NobodyBecause.NOBODY_TODAY),
        ({"flags": frozenset({"urgent"})}, {"today": 10}, Verdict.CHOSEN, None),
        ({}, {}, Verdict.CHOSEN, None),
    ],
)
def test_each_reason_has_its_name(
    case: dict[str, object],
    reader: dict[str, object],
    verdict: Verdict,
    because: NobodyBecause | None,
) -> None:
    choice = choose(replace(CASE, **case), [replace(READER, **reader)], Rules(), MONDAY)  # type: ignore[arg-type]
    assert choice.verdicts == {"reader-0": verdict}
    assert choice.nobody_because == because


def test_whoever_knows_the_language_comes_before_whoever_is_less_busy() -> None:
    knows = replace(READER, id="reader-1", languages=frozenset({"ar-SY"}), load=5)
    choice = choose(CASE, [READER, knows], Rules(), MONDAY)
    assert choice.reader == "reader-1"
    assert choice.verdicts["reader-0"] is Verdict.LESS_FITTING
    # Where nobody knows it, a case still goes to somebody.
    foreign = replace(CASE, language="fr")
    assert choose(foreign, [READER, knows], Rules(), MONDAY).reader == "reader-0"


def test_nobody_works_on_a_day_that_is_not_theirs() -> None:
    rules = Rules(duty={"reader-0": (1,)})
    assert choose(CASE, [READER], rules, MONDAY).verdicts == {"reader-0": Verdict.OFF_DUTY}
    assert choose(CASE, [READER], rules, MONDAY + timedelta(days=1)).reader == "reader-0"


def test_urgent_cases_come_first_then_what_was_paid_then_the_oldest() -> None:
    urgent = replace(CASE, case="urgent", flags=frozenset({"urgent"}))
    paid = replace(CASE, case="paid", paid=9)
    old = replace(CASE, case="old", received_on=MONDAY - timedelta(days=9))
    found = order([CASE, old, paid, urgent])
    assert [one.case for one in found] == ["urgent", "paid", "old", "case-1"]


def test_an_urgent_case_must_be_claimed_sooner() -> None:
    rules = Rules(claim_days=3, urgent_claim_days=1)
    assert rules.unclaimed_since(MONDAY, urgent=False) == MONDAY - timedelta(days=3)
    assert rules.unclaimed_since(MONDAY, urgent=True) == MONDAY - timedelta(days=1)
