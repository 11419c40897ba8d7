"""Replies: signed for one witness and one case, in slots of one size, found only by whom they are for."""

from dataclasses import dataclass
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amana.protocol.codename import thread_keys
from amana.protocol.directory import Directory
from amana.protocol.drop import (
    FILL,
    MAX_BITS,
    SLOT_BYTES,
    ShardInvalid,
    check_shard,
    check_slot,
    scan,
    shard_of,
    slots_of,
)
from amana.protocol.encoding import canonical, random_id, sha256_hex
from amana.protocol.errors import ProtocolError
from amana.protocol.reply import (
    LIMIT_BYTES,
    MAX_PARTS,
    Part,
    ReplyInvalid,
    check_reply,
    commitment,
    join,
    lacking,
    parse_reply,
    seal_reply,
)
from amana.protocol.sealing import Identity, Kind, open_sealed, seal
from amana.protocol.signing import SigningKey

WITNESS = thread_keys(b"w" * 32).reply
STRANGER = Identity.generate()
READER, ELSEWHERE, ADMINISTRATOR = (SigningKey.generate() for _ in range(3))
IDS = {READER: random_id(), ELSEWHERE: random_id(), ADMINISTRATOR: random_id()}
CASE, OTHER = random_id(), random_id()


@dataclass(frozen=True)
class Listed:
    roles: frozenset[str]
    desks: frozenset[str]
    signing_key: str


class People:
    """A directory, as far as replies ask one."""

    deployment = "demo"

    def __init__(self) -> None:
        self.people = {
            IDS[READER]: Listed(frozenset({"reviewer"}), frozenset({"chemical"}), READER.public),
            IDS[ELSEWHERE]: Listed(frozenset({"lead"}), frozenset({"other"}), ELSEWHERE.public),
            IDS[ADMINISTRATOR]: Listed(
                frozenset({"administrator"}), frozenset({"chemical"}), ADMINISTRATOR.public
            ),
        }

    def person(self, person: str) -> Listed | None:
        return self.people.get(person)


DIRECTORY = cast(Directory, People())


def reply(text: str, key: SigningKey = READER, **changes: Any) -> list[bytes]:
    fields: dict[str, Any] = {
        "deployment": "demo", "case": CASE, "actor": IDS[key], "directory": 1,
        "text": text, "sent_on": "2026-11-24", **changes,
    }  # fmt: skip
    return seal_reply(key, fields.pop("to", WITNESS.recipient), **fields)


def parts(slots: list[bytes]) -> list[Part]:
    opened = (open_sealed(slot, WITNESS, Kind.REPLY) for slot in slots)
    return [
        check_reply(parse_reply(one), WITNESS.recipient, DIRECTORY, {CASE: "chemical"})
        for one in opened
    ]


@settings(max_examples=30, deadline=None)
@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=3000))
def test_a_text_of_any_characters_comes_back_whole(text: str) -> None:
    if not text.strip():
        with pytest.raises(ReplyInvalid):
            reply(text)
        return
    slots = reply(text)
    assert {len(slot) for slot in slots} == {SLOT_BYTES}
    for slot in slots:
        check_slot(slot)
    [joined] = join(reversed(parts(slots)))
    assert (joined.text, joined.case, joined.verified) == (text, CASE, True)


def test_parts_are_joined_only_when_all_are_there_and_of_one_reply() -> None:
    first, second = reply("a" * 5000), reply("b" * 5000)
    assert len(first) == len(second) == 2
    assert [one.text for one in join(parts([*first, *second, first[0]]))] == [
        "a" * 5000,
        "b" * 5000,
    ]
    assert join(parts([first[0], second[1]])) == []
    assert lacking(parts([first[0], second[1], second[1]])) == 2
    assert lacking(parts([*first, second[1]])) == 1
    assert lacking(parts([*first, *second])) == 0
    with pytest.raises(ProtocolError) as refused:
        reply("c" * LIMIT_BYTES * MAX_PARTS)
    assert refused.value.slug == "reply-too-long"


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        (ELSEWHERE, {}),
        (ADMINISTRATOR, {}),
        (READER, {"actor": random_id()}),
        (READER, {"actor": IDS[ELSEWHERE]}),
        (READER, {"case": OTHER}),
        (READER, {"deployment": "elsewhere"}),
    ],
)
def test_a_reply_by_nobody_of_the_desk_or_for_another_case_is_not_verified(
    key: SigningKey, changes: dict[str, Any]
) -> None:
    assert [one.verified for one in parts(reply("Who was there?", key, **changes))] == [False]
    assert [one.verified for one in parts(reply("Who was there?"))] == [True]


def test_a_reply_sealed_again_to_another_witness_is_not_verified() -> None:
    [slot] = reply("Come to the bridge.")
    moved = seal(open_sealed(slot, WITNESS, Kind.REPLY), STRANGER.recipient, Kind.REPLY)
    document = parse_reply(open_sealed(moved, STRANGER, Kind.REPLY))
    found = check_reply(document, STRANGER.recipient, DIRECTORY, {CASE: "chemical"})
    assert not found.verified
    changed = {**document, "text": "Come to the well."}
    assert not check_reply(changed, WITNESS.recipient, DIRECTORY, {CASE: "chemical"}).verified
    assert check_reply(document, WITNESS.recipient, DIRECTORY, {CASE: "chemical"}).verified


@pytest.mark.parametrize(
    "changes",
    [
        {"n": 0},
        {"n": 2},
        {"of": 9},
        {"of": True},
        {"v": 2},
        {"text": None},
        {"more": 1},
        {"case": "x"},
    ],
)
def test_other_forms_are_refused(changes: dict[str, Any]) -> None:
    [slot] = reply("Who was there?")
    document = parse_reply(open_sealed(slot, WITNESS, Kind.REPLY))
    with pytest.raises(ProtocolError):
        parse_reply(canonical({**document, **changes}))


def test_a_shard_is_read_by_whom_its_slots_are_for() -> None:
    dummy = seal(b"", STRANGER.recipient, Kind.REPLY)
    slots = [dummy] * FILL
    slots[7:9] = reply("d" * 5000)
    data = b"".join(slots)
    assert len(slots_of(data)) == FILL
    found = [parse_reply(one) for one in scan(data, WITNESS)]
    assert [one["n"] for one in found] == [1, 2]
    assert list(scan(data, Identity.generate())) == []
    damaged = bytearray(data)
    damaged[7 * SLOT_BYTES + 3000] ^= 1
    assert [parse_reply(one)["n"] for one in scan(bytes(damaged), WITNESS)] == [2]


@pytest.mark.parametrize("size", [0, 1, SLOT_BYTES, SLOT_BYTES * FILL - 1, SLOT_BYTES * (FILL + 1)])
def test_what_is_no_shard_is_refused(size: int) -> None:
    with pytest.raises(ShardInvalid):
        slots_of(bytes(size))


def test_a_shard_is_named_by_the_first_bits_of_its_recipient() -> None:
    assert shard_of(WITNESS.recipient, 0) == 0
    deep = shard_of(WITNESS.recipient, MAX_BITS)
    for bits in range(MAX_BITS + 1):
        assert shard_of(WITNESS.recipient, bits) == deep >> (MAX_BITS - bits)
        check_shard(bits, shard_of(WITNESS.recipient, bits))
    for bits, shard in ((0, 1), (3, 8), (3, -1), (-1, 0), (MAX_BITS + 1, 0)):
        with pytest.raises(ProtocolError) as refused:
            check_shard(bits, shard)
        assert refused.value.slug == "shard-unknown"


@given(st.binary(min_size=32, max_size=32), st.lists(st.binary(), min_size=1, max_size=8))
def test_a_commitment_is_to_these_slots_in_this_order_under_this_salt(
    salt: bytes, slots: list[bytes]
) -> None:
    hashes = [sha256_hex(one) for one in slots]
    value = commitment(salt, hashes)
    assert value == commitment(salt, iter(hashes))
    others = [(salt, [*hashes, hashes[0]]), (bytes(one ^ 1 for one in salt), hashes)]
    if hashes != hashes[::-1]:
        others.append((salt, hashes[::-1]))
    assert all(commitment(*other) != value for other in others)
    with pytest.raises(ReplyInvalid):
        commitment(salt[:31], hashes)
