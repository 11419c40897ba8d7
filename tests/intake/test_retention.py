"""How long a case is kept: never destroyed undecided or unannounced, nor while a lead or an archive keeps it."""

from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amana.client import administrator
from amana.intake.models import State
from amana.intake.retention import (
    MAX_PROLONGED_DAYS,
    PERIOD_LIMITS,
    RETENTION,
    Allows,
    Kept,
    Periods,
    Step,
    Then,
    allows,
    next_step,
    review_day,
    then,
)
from amana.intake.workflow import DECIDED, OPEN
from amana.protocol.consent import Entry
from amana.protocol.policy import Policy, parse_policy
from amana.protocol.signing import SigningKey
from tests.support.testimonies import make_policy

TODAY = date(2026, 11, 24)
PERIODS = st.builds(
    Periods, **{name: st.integers(*between) for name, between in PERIOD_LIMITS.items()}
)
DAYS = st.dates(date(2020, 1, 1), date(2100, 1, 1))
KEPT = st.builds(
    Kept,
    state=st.sampled_from(sorted(RETENTION)),
    allows=st.sampled_from(Allows),
    since=DAYS,
    prolonged_until=st.none() | DAYS,
    ends_on=st.none() | DAYS,
)


def test_every_state_is_kept_under_a_rule_or_is_not_kept() -> None:
    assert set(RETENTION) == {*OPEN, *DECIDED}
    assert set(RETENTION) == set(State) - {State.ARRIVING, State.WITHDRAWN, State.EXPIRED}
    for name, row in RETENTION.values():
        assert name in PERIOD_LIMITS
        assert set(row) == set(Allows)


@given(KEPT, PERIODS)
def test_every_case_that_is_kept_has_a_review_day_after_it_came(
    kept: Kept, periods: Periods
) -> None:
    day = review_day(kept, periods)
    assert day is not None
    assert kept.since is not None
    assert day >= kept.since + timedelta(days=30)


@given(KEPT, PERIODS, DAYS)
def test_nothing_expires_undecided_unannounced_or_before_its_day(
    kept: Kept, periods: Periods, today: date
) -> None:
    step, day = next_step(kept, periods, today), review_day(kept, periods)
    assert day is not None
    assert (step is Step.KEEP) == (day > today)
    if step is Step.EXPIRE:
        assert kept.state in DECIDED
        assert kept.ends_on is not None
        assert kept.ends_on <= today
    if step is Step.TELL:
        assert kept.ends_on is None
    if kept.state in OPEN:
        assert step in {Step.KEEP, Step.LOOK}


@given(KEPT, PERIODS, DAYS)
def test_what_was_accepted_for_an_archive_never_expires_by_itself(
    kept: Kept, periods: Periods, today: date
) -> None:
    for state in (State.ACCEPTED, State.REFERRED):
        archived = replace(kept, state=state, allows=Allows.ARCHIVE)
        assert next_step(archived, periods, today) in {Step.KEEP, Step.LOOK}


@given(KEPT, PERIODS, DAYS)
def test_a_lead_keeps_it_longer_unless_nobody_may_use_it(
    kept: Kept, periods: Periods, until: date
) -> None:
    before, prolonged = review_day(kept, periods), replace(kept, prolonged_until=until)
    after = review_day(prolonged, periods)
    assert before is not None
    assert after is not None
    if kept.allows is Allows.NOTHING:
        assert after == before
    else:
        assert after >= until
        assert next_step(prolonged, periods, until - timedelta(days=1)) is Step.KEEP


@given(KEPT, PERIODS)
def test_what_nobody_may_use_is_never_kept_longer_than_what_somebody_may(
    kept: Kept, periods: Periods
) -> None:
    days = [review_day(replace(kept, allows=one), periods) for one in Allows]
    assert days[0] is not None
    assert kept.since is not None
    assert days[0] <= min(one for one in days if one is not None)
    assert days[0] <= kept.since + timedelta(days=periods.unused_days)


@given(st.sampled_from([State.ARRIVING, State.WITHDRAWN, State.EXPIRED]), PERIODS, DAYS)
def test_what_is_not_kept_has_no_review_day(state: State, periods: Periods, today: date) -> None:
    kept = Kept(state, Allows.NOTHING, None)
    assert review_day(kept, periods) is None
    assert next_step(kept, periods, today) is Step.KEEP


@dataclass(frozen=True)
class Turn:
    """What happens on a day: whether maintenance runs, and what a lead or the witness does before."""

    days: int
    runs: bool
    prolongs: bool = False
    allows: Allows | None = None


TURNS = st.lists(
    st.builds(
        Turn,
        days=st.integers(1, 400),
        runs=st.booleans(),
        prolongs=st.booleans(),
        allows=st.none() | st.sampled_from(Allows),
    ),
    max_size=60,
)


@given(KEPT, PERIODS, TURNS)
def test_over_the_years_readers_always_hear_of_it_long_enough_before(
    kept: Kept, periods: Periods, turns: list[Turn]
) -> None:
    assert kept.since is not None
    now = replace(kept, ends_on=None, prolonged_until=None)
    today, told_on = kept.since, None
    for turn in turns:
        today += timedelta(days=turn.days)
        if turn.allows is not None:
            now = replace(now, allows=turn.allows)
        if turn.prolongs:
            until = today + timedelta(days=MAX_PROLONGED_DAYS)
            now = replace(now, prolonged_until=until, ends_on=None)
        if not turn.runs:
            continue
        step = next_step(now, periods, today)
        if step is Step.TELL:
            told_on = today
            now = replace(now, ends_on=today + timedelta(days=periods.notice_days))
        elif step is Step.EXPIRE:
            assert told_on is not None
            assert today >= told_on + timedelta(days=periods.notice_days)
            assert then(now) is Then.EXPIRE
            return
        elif step is not Step.WAIT:
            now = replace(now, ends_on=None)
        assert (now.ends_on is None) or told_on is not None


# What a witness allows

CONTROL = SigningKey.generate()


def policy(scopes: dict[str, str], seq: int = 0) -> Policy:
    return replace(parse_policy(make_policy(CONTROL, scopes=scopes)), seq=seq)


@pytest.mark.parametrize(
    ("scopes", "expected"),
    [
        ({}, Allows.NOTHING),
        ({"review": "deny"}, Allows.NOTHING),
        ({"review": "allow"}, Allows.USES),
        ({"opcw": "ask"}, Allows.USES),
        ({"national_court:DE": "allow", "review": "deny"}, Allows.USES),
        ({"archive": "ask"}, Allows.USES),
        ({"archive": "allow"}, Allows.ARCHIVE),
        ({"archive": "allow", "review": "deny"}, Allows.ARCHIVE),
    ],
)
def test_what_is_allowed_is_read_from_the_scopes(scopes: dict[str, str], expected: Allows) -> None:
    assert allows([Entry(policy(scopes), TODAY)], TODAY) is expected


def test_less_counts_at_once_and_more_after_the_delay() -> None:
    chain = [Entry(policy({"review": "allow", "archive": "allow"}), TODAY)]
    chain.append(Entry(policy({}, 1), TODAY))
    assert allows(chain, TODAY) is Allows.NOTHING
    chain.append(Entry(policy({"archive": "allow"}, 2), TODAY))
    assert allows(chain, TODAY + timedelta(days=6)) is Allows.NOTHING
    assert allows(chain, TODAY + timedelta(days=7)) is Allows.ARCHIVE


def test_the_client_and_the_server_know_the_same_limits() -> None:
    forms: Any = administrator._RULES["retention"]
    assert forms.keys() == PERIOD_LIMITS.keys() == vars(Periods()).keys()
    for name, (least, most) in PERIOD_LIMITS.items():
        taken = [value for value in (least - 1, least, most, most + 1) if forms[name](value)]
        assert taken == [least, most]
        assert least <= vars(Periods())[name] <= most
