"""What is sent to cosigners: read again byte for byte, and refused in one way whatever else came."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amana.protocol.cosigning import (
    LIMIT_BYTES,
    AddCheckpoint,
    AddCheckpointInvalid,
    parse_size,
    write_size,
)
from amana.protocol.encoding import b64
from amana.protocol.merkle import MAX_PROOF_HASHES, MAX_SIZE
from tests.support.logbook import Logbook

LOG = Logbook("amana-test/custody").add(b"one", b"two", b"three")
NOTE = LOG.checkpoint()

# The request and the 409 of the specification's own example (C2SP tlog-witness.md).
EXAMPLE = (
    "old 20852014\n"
    "PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\n"
    "jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=\n"
    "5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=\n"
    "/6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=\n"
    "\n"
    "example.com/behind-the-sofa\n"
    "20852163\n"
    "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    "\n"
    "— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE"
    "+xeMcTOAYQ8=\n"
    "— example.com/behind-the-sofa opLqBQsREYCgu6xQkYQwJr9fo45a62DN9EdmHXnZdXNqlcVGlCum2Wks+49/V6267UEjw6QUXTS5Rovn"
    "zv++qbSzm9Q=\n"
).encode()


def test_the_example_of_the_specification_is_read_and_written_alike() -> None:
    request = AddCheckpoint.parse(EXAMPLE)
    assert request.old == 20852014
    assert len(request.proof) == 4
    assert request.checkpoint.text.startswith("example.com/behind-the-sofa\n20852163\n")
    assert len(request.checkpoint.signatures) == 2
    assert bytes(request) == EXAMPLE


@given(
    st.integers(0, MAX_SIZE),
    st.lists(st.binary(min_size=32, max_size=32), max_size=MAX_PROOF_HASHES),
)
def test_what_was_written_is_read(old: int, proof: list[bytes]) -> None:
    request = AddCheckpoint(old, tuple(proof), NOTE)
    assert AddCheckpoint.parse(bytes(request)) == request


@given(st.binary(max_size=400))
def test_whatever_comes_is_read_or_refused_in_one_way(data: bytes) -> None:
    for candidate in (data, b"old 1\n" + data, b"old 1\n\n" + data, bytes(LOG.request(1)) + data):
        try:
            request = AddCheckpoint.parse(candidate)
        except AddCheckpointInvalid:
            continue
        assert bytes(request) == candidate


@given(st.data())
def test_one_changed_byte_is_refused_or_read_as_it_stands(data: st.DataObject) -> None:
    good = bytearray(bytes(LOG.request(2)))
    at = data.draw(st.integers(0, len(good) - 1))
    good[at] = data.draw(st.integers(0, 255))
    try:
        request = AddCheckpoint.parse(bytes(good))
    except AddCheckpointInvalid:
        return
    assert bytes(request) == good


HASH = b64(bytes(32))


@pytest.mark.parametrize(
    "head",
    [
        "",
        "old",
        "old ",
        "old -1",
        "old +1",
        "old 01",
        "old 00",
        "old 1 ",
        " old 1",
        "Old 1",
        "old 1\r",
        "old ١",
        f"old {MAX_SIZE + 1}",
        "old 99999999999999999999999",
        f"old 1\n{HASH[:-1]}",
        f"old 1\n{HASH} ",
        f"old 1\n{b64(bytes(31))}",
        f"old 1\n{b64(bytes(33))}",
        "old 1\n" + "\n".join([HASH] * (MAX_PROOF_HASHES + 1)),
    ],
)
def test_a_malformed_head_is_refused(head: str) -> None:
    with pytest.raises(AddCheckpointInvalid):
        AddCheckpoint.parse(head.encode() + b"\n\n" + bytes(NOTE))


def test_requests_have_a_limit() -> None:
    with pytest.raises(AddCheckpointInvalid):
        AddCheckpoint.parse(bytes(LOG.request(1)) + b" " * LIMIT_BYTES)


@given(st.integers(0, MAX_SIZE))
def test_sizes_are_read_again(size: int) -> None:
    assert parse_size(write_size(size)) == size


@pytest.mark.parametrize(
    "body",
    [b"", b"\n", b"1", b"1\n\n", b"01\n", b"-1\n", b" 1\n", b"9007199254740992\n", b"1" * 99],
)
def test_another_answer_is_no_size(body: bytes) -> None:
    with pytest.raises(AddCheckpointInvalid):
        parse_size(body)
