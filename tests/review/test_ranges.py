"""Byte ranges: what is given is inside the object, and joined pieces are the whole."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amana.review.ranges import RangeNotSatisfiable, parse_range


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=2-5", (2, 6)),
        ("bytes=4-", (4, 10)),
        ("bytes=-3", (7, 10)),
        ("bytes=-99", (0, 10)),
        ("bytes=3-99", (3, 10)),
        (None, None),
        ("", None),
        ("bytes=-", None),
        ("bytes=5-2", None),
        ("bytes=0-1,4-5", None),
        ("lines=0-1", None),
        ("bytes=a-b", None),
        ("bytes=0x0-1", None),
        ("bytes=١-٢", None),
    ],
)
def test_one_range_is_read_and_everything_else_is_the_whole(
    header: str | None, expected: tuple[int, int] | None
) -> None:
    assert parse_range(header, 10) == expected


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=10-11", "bytes=-0", "bytes=9999999999-"])
def test_a_range_behind_the_end_is_refused(header: str) -> None:
    with pytest.raises(RangeNotSatisfiable):
        parse_range(header, 10)


@given(header=st.text(max_size=40) | st.from_regex(r"bytes=\d*-\d*"), size=st.integers(1, 100))
def test_a_range_is_never_outside_nor_empty(header: str, size: int) -> None:
    try:
        found = parse_range(header, size)
    except RangeNotSatisfiable:
        return
    if found is not None:
        assert 0 <= found[0] < found[1] <= size


@given(size=st.integers(1, 1000), cuts=st.lists(st.integers(0, 999)))
def test_what_was_cut_anywhere_is_gone_on_with_without_gap(size: int, cuts: list[int]) -> None:
    have = 0
    for cut in sorted({one for one in cuts if one < size}):
        found = parse_range(f"bytes={have}-", size)
        assert found == (have, size)
        have = max(have, cut)
    assert parse_range(f"bytes={have}-", size) == (have, size)
