"""Who may work today: the edges of every time limit, and what comes before what."""

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amana.access.standing import (
    DORMANT_DAYS,
    REVIEW_DAYS,
    Facts,
    Standing,
    is_gone,
    review_due_on,
    standing,
)

TODAY = date(2026, 11, 24)


def days_ago(days: int) -> date:
    return TODAY - timedelta(days=days)


def judged(
    *, suspended: bool = False, confirmed: int = 0, seen: int = 0, valid: int | None = None
) -> Standing:
    """Judge somebody who was confirmed and seen so many days ago, and is vetted for so many more."""
    until = None if valid is None else days_ago(-valid)
    return standing(Facts(suspended, days_ago(confirmed), days_ago(seen), until), TODAY)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, Standing.ACTIVE),
        ({"suspended": True}, Standing.SUSPENDED),
        ({"confirmed": 90}, Standing.ACTIVE),
        ({"confirmed": 91}, Standing.LAPSED),
        ({"seen": 90}, Standing.ACTIVE),
        ({"seen": 91}, Standing.DORMANT),
        ({"valid": 0}, Standing.ACTIVE),
        ({"valid": -1}, Standing.EXPIRED),
        ({"suspended": True, "valid": -1, "confirmed": 91, "seen": 91}, Standing.SUSPENDED),
        ({"valid": -1, "confirmed": 91, "seen": 91}, Standing.EXPIRED),
        ({"confirmed": 91, "seen": 91}, Standing.LAPSED),
    ],
    ids=str,
)
def test_every_limit_has_one_last_day(facts: dict[str, int], expected: Standing) -> None:
    assert judged(**facts) is expected  # type: ignore[arg-type]


def test_the_day_on_which_a_review_is_due_is_the_last_one_that_works() -> None:
    confirmed = days_ago(0)
    due = review_due_on(confirmed)
    assert standing(Facts(False, confirmed, due, None), due) is Standing.ACTIVE
    after = due + timedelta(days=1)
    assert standing(Facts(False, confirmed, after, None), after) is Standing.LAPSED


DAYS = st.integers(0, 200)


@given(
    suspended=st.booleans(),
    confirmed=DAYS,
    seen=DAYS,
    valid=st.none() | st.integers(-200, 200),
    later=DAYS,
)
def test_time_alone_gives_nobody_their_access_back(
    suspended: bool, confirmed: int, seen: int, valid: int | None, later: int
) -> None:
    facts = Facts(
        suspended,
        days_ago(confirmed),
        days_ago(seen),
        None if valid is None else days_ago(-valid),
    )
    now, then = standing(facts, TODAY), standing(facts, TODAY + timedelta(days=later))
    assert then is not Standing.ACTIVE or now is Standing.ACTIVE
    active = not suspended and confirmed <= REVIEW_DAYS and seen <= DORMANT_DAYS
    assert (now is Standing.ACTIVE) == (active and (valid is None or valid >= 0))


@given(
    st.booleans(),
    st.integers(0, 200),
    st.integers(0, 200),
    st.none() | st.integers(-200, 200),
    st.integers(0, 200),
)
def test_who_is_gone_since_a_day_stood_on_no_day_since(
    suspended: bool, confirmed: int, seen: int, valid: int | None, since: int
) -> None:
    until = None if valid is None else days_ago(-valid)
    facts = Facts(suspended, days_ago(confirmed), days_ago(seen), until)
    suspended_on = days_ago(since) if suspended else None
    gone = is_gone(facts, suspended_on, days_ago(since))
    days = [standing(facts, days_ago(n)) for n in range(since + 1)]
    assert gone == all(one is not Standing.ACTIVE for one in days)
    later = days_ago(since - 1) if suspended else None
    if suspended and not is_gone(facts, later, days_ago(since)):
        assert standing(Facts(False, *list(vars(facts).values())[1:]), days_ago(since)) is (
            Standing.ACTIVE
        )
