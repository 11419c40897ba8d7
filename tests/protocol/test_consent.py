"""What a chain of policies allows on a day: narrowing counts at once, widening only when its delay is over."""

from dataclasses import dataclass
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amana.protocol.consent import (
    READERS,
    Entry,
    check_chain,
    covers,
    parse_chain,
    widest_identity,
)
from amana.protocol.encoding import b64
from amana.protocol.errors import ProtocolError
from amana.protocol.policy import ANSWERS, IDENTITY_LEVELS, Policy, next_policy, parse_policy
from amana.protocol.signing import SigningKey
from tests.support.testimonies import make_policy

CONTROL = SigningKey.generate()
DAY = date(2026, 5, 1)


@dataclass(frozen=True)
class Partner:
    id: str = "partner"
    purposes: tuple[str, ...] = ("iiim",)


def chain(*versions: tuple[int, str, str], delay: int = 7) -> list[Entry]:
    """Versions of one policy: the day of receipt, the answer to `iiim`, the identity level."""
    entries: list[Entry] = []
    for after, answer, level in versions:
        scopes = {"iiim": answer}
        if entries:
            data = next_policy(
                CONTROL, entries[-1].policy, scopes=scopes, identity_level=level, made_on="2026-05-01"
            )  # fmt: skip
        else:
            data = make_policy(
                CONTROL, scopes=scopes, identity_level=level, withdrawal_delay_days=delay
            )
        entries.append(Entry(parse_policy(data), DAY + timedelta(days=after)))
    check_chain(entries)
    return entries


def reason(entries: list[Entry], after: int, level: str = "anonymous") -> str:
    return covers(entries, Partner(), "iiim", level, DAY + timedelta(days=after)).reason


def test_widening_waits_for_the_delay_and_narrowing_does_not() -> None:
    entries = chain((0, "deny", "anonymous"), (1, "allow", "anonymous"), (9, "ask", "anonymous"))
    assert [reason(entries, after) for after in (0, 1, 7, 8, 9, 30)] == [
        "consent-denies",
        "consent-denies",
        "consent-denies",
        "consent-allows",
        "consent-asks",
        "consent-asks",
    ]


def test_a_widening_taken_back_before_its_day_never_counts() -> None:
    entries = chain((0, "ask", "anonymous"), (1, "allow", "public"), (3, "deny", "anonymous"))
    assert {reason(entries, after) for after in range(0, 3)} == {"consent-asks"}
    assert {reason(entries, after) for after in range(3, 30)} == {"consent-denies"}
    assert widest_identity(entries, DAY + timedelta(days=8)) == "anonymous"


def test_what_is_not_named_or_not_listed_is_refused() -> None:
    entries = chain((0, "allow", "pseudonym"))
    assert reason(entries, 0) == "consent-allows"
    assert reason(entries, 0, "prosecutors") == "identity-denied"
    assert covers(entries, Partner(), "opcw", "anonymous", DAY).reason == "purpose-not-listed"
    opcw = Partner(purposes=("opcw",))
    assert covers(entries, opcw, "opcw", "anonymous", DAY).reason == "consent-denies"
    assert not covers(entries, READERS, "review", "anonymous", DAY).allowed
    with pytest.raises(ValueError, match="not in tuple"):
        covers(entries, Partner(), "iiim", "level", DAY)


def test_nothing_is_allowed_before_the_first_version_came() -> None:
    entries = chain((0, "allow", "public"))
    assert reason(entries, -1) == "consent-denies"


@given(
    st.lists(
        st.tuples(st.integers(0, 12), st.sampled_from(ANSWERS), st.sampled_from(IDENTITY_LEVELS)),
        min_size=1,
        max_size=5,
    ),
    st.sampled_from([0, 7, 30]),
    st.integers(0, 50),
)
def test_nothing_is_ever_covered_that_the_newest_version_denies(
    versions: list[tuple[int, str, str]], delay: int, after: int
) -> None:
    days = sorted(day for day, _, _ in versions)
    entries = chain(
        *((day, answer, level) for day, (_, answer, level) in zip(days, versions, strict=True)),
        delay=delay,
    )
    day = DAY + timedelta(days=after)
    known = [entry.policy for entry in entries if entry.received_on <= day]
    for level in IDENTITY_LEVELS:
        allowed = covers(entries, Partner(), "iiim", level, day).allowed
        if known and (known[-1].scopes["iiim"] != "allow" or after < days[0]):
            assert not allowed
        if known and after >= days[-1] + delay:
            newest = known[-1]
            assert allowed == (
                newest.scopes["iiim"] == "allow"
                and IDENTITY_LEVELS.index(level) <= IDENTITY_LEVELS.index(newest.identity_level)
            )


def test_a_chain_has_its_order_and_changes_nothing_lasting() -> None:
    first, second, third = chain((0, "deny", "public"), (1, "ask", "public"), (2, "deny", "public"))
    for wrong in (
        [],
        [second, third],
        [first, third],
        [first, third, second],
        [first, Entry(second.policy, DAY - timedelta(days=1))],
    ):
        with pytest.raises(ProtocolError) as refused:
            check_chain(wrong)
        assert refused.value.slug == "policy-order"

    def following(policy: Policy) -> Policy:
        return parse_policy(
            next_policy(CONTROL, policy, scopes={}, identity_level="public", made_on="2026-05-02")
        )

    other = parse_policy(make_policy(CONTROL, desk="other"))
    object.__setattr__(other, "sha256", first.policy.sha256)
    with pytest.raises(ProtocolError) as refused:
        check_chain([first, Entry(following(other), DAY)])
    assert refused.value.slug == "policy-changes"


@pytest.mark.parametrize("flags", [[], ["minor"], ["minor", "urgent"], ["sexual_violence"]])
def test_nobody_under_age_is_asked_directly_whatever_is_allowed(flags: list[str]) -> None:
    policy = make_policy(CONTROL, scopes={"contact": "allow", "review": "allow"}, flags=flags)
    entries = [Entry(parse_policy(policy), DAY)]
    asked = covers(entries, READERS, "contact", "anonymous", DAY)
    assert asked.reason == ("minor-no-contact" if "minor" in flags else "consent-allows")
    assert asked.allowed == ("minor" not in flags)
    # Others than the desk do not contact them either.
    partner = covers(entries, Partner(purposes=("contact",)), "contact", "anonymous", DAY)
    assert partner.reason == asked.reason
    assert covers(entries, READERS, "review", "anonymous", DAY).allowed


def test_a_chain_is_read_as_a_server_tells_it() -> None:
    entries = chain((0, "deny", "public"), (1, "ask", "public"))
    first = make_policy(CONTROL, scopes={"iiim": "deny"}, identity_level="public")
    second = next_policy(
        CONTROL, parse_policy(first), scopes={}, identity_level="public", made_on="2026-05-02"
    )
    told = [
        {"policy": b64(policy), "received_on": entry.received_on.isoformat()}
        for policy, entry in zip((first, second), entries, strict=True)
    ]
    assert [one.policy.seq for one in parse_chain(told)] == [0, 1]
    for wrong in ([], told[1:], told[::-1], [{**told[0], "received_on": "today"}]):
        with pytest.raises(ProtocolError):
            parse_chain(wrong)
