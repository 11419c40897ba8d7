"""Sealing: sizes tell only buckets, one form is accepted, a stream is all or nothing."""

import base64
import hashlib
import io
import json
import random
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from amana.protocol import age
from amana.protocol.errors import CannotOpen, NotSealed, ProtocolError
from amana.protocol.sealing import (
    HEADER_SIZE,
    OVERHEAD,
    BadFrame,
    Identity,
    Kind,
    Recipient,
    SealedSize,
    TooLarge,
    WrongLength,
    buckets,
    check_sealed,
    frame,
    framed_from_sealed,
    framed_size,
    open_sealed,
    open_stream,
    open_with_passphrase,
    padme,
    seal,
    seal_stream,
    seal_with_passphrase,
    sealed_size,
    unframe,
)
from tests.support.node import ask_node
from tests.support.sealed_faults import KEY, TEXT, sealed_faults, unopenable

IDENTITY = Identity.from_seed(hashlib.sha256(b"amana test vector 0").digest())
RECIPIENT = IDENTITY.recipient
FAULTS = sealed_faults(RECIPIENT)
UNOPENABLE = unopenable(RECIPIENT)
GRANT = seal(TEXT, RECIPIENT, Kind.GRANT)
VECTORS = json.loads(
    (Path(__file__).parents[1] / "vectors" / "sealing.json").read_text(encoding="utf-8")
)
MIB = 2**20


def unb64(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def vectors(name: str) -> list[Any]:
    assert VECTORS[name]
    return list(VECTORS[name])


# Frames and buckets


@pytest.mark.parametrize(
    ("kind", "wire"),
    [
        (Kind.GRANT, [1915]),
        (Kind.SHARE, [1915]),
        (Kind.REPLY, [5755]),
        (Kind.REASON, [5755]),
        (Kind.NOTE, [5755, 34427]),
        (Kind.MANIFEST, [9851, 34427, 132747]),
        (Kind.ACCOUNT, [34427, 132747]),
    ],
)
def test_the_sizes_on_the_wire_are_those_of_the_specification(kind: Kind, wire: list[int]) -> None:
    assert [sealed_size(framed) for framed in buckets(kind)] == wire
    assert sealed_size(framed_size(Kind.FILE, 0)) == 67195


@given(st.integers(2, 2**53))
def test_padme_adds_at_most_an_eighth_and_is_stable(size: int) -> None:
    padded = padme(size)
    assert size <= padded <= size + size // 8 + 1
    assert padme(padded) == padded


@given(st.integers(0, 2**40), st.integers(0, 2**40))
def test_a_longer_file_never_has_a_smaller_bucket(one: int, other: int) -> None:
    shorter, longer = sorted((one, other))
    assert framed_size(Kind.FILE, shorter) <= framed_size(Kind.FILE, longer)


@given(st.integers(1, 2**53))
def test_the_sealed_size_tells_the_framed_size(framed: int) -> None:
    assert framed_from_sealed(sealed_size(framed)) == framed


@given(st.integers(-(2**20), 2**24))
@example(OVERHEAD)
@example(OVERHEAD + 16)
@example(OVERHEAD + 65552 + 16)
def test_a_size_that_no_payload_has_is_refused(size: int) -> None:
    try:
        framed = framed_from_sealed(size)
    except SealedSize:
        return
    assert framed > 0
    assert sealed_size(framed) == size


def test_what_is_in_no_bucket_is_too_large() -> None:
    for kind in (Kind.GRANT, Kind.SHARE, Kind.REPLY, Kind.MANIFEST, Kind.ACCOUNT):
        largest = buckets(kind)[-1] - 8
        assert framed_size(kind, largest) == largest + 8
        with pytest.raises(TooLarge):
            framed_size(kind, largest + 1)
    with pytest.raises(TooLarge):
        framed_size(Kind.FILE, 2**53)
    with pytest.raises(TooLarge):
        frame(bytes(9), 16)


@given(st.binary(max_size=300), st.integers(0, 300))
def test_a_frame_gives_back_its_data(data: bytes, padding: int) -> None:
    assert unframe(frame(data, len(data) + 8 + padding)) == data


@given(st.binary(max_size=60))
@example(bytes(8))
@example(bytes(7) + b"\1" + b"a\0")
def test_only_what_frame_makes_is_unframed(framed: bytes) -> None:
    try:
        data = unframe(framed)
    except BadFrame:
        return
    assert frame(data, len(framed)) == framed


# Form


@pytest.mark.parametrize("kind", Kind)
def test_what_was_sealed_has_the_form_and_opens(kind: Kind) -> None:
    sealed = seal(TEXT, RECIPIENT, kind)
    check_sealed(kind, sealed[:OVERHEAD], len(sealed))
    assert open_sealed(sealed, IDENTITY, kind) == TEXT


@pytest.mark.parametrize("name", FAULTS)
def test_what_lacks_the_form_is_refused_with_its_reason(name: str) -> None:
    kind, slug, data = FAULTS[name]
    for head in (data, data[:OVERHEAD]):
        with pytest.raises(NotSealed) as refused:
            check_sealed(kind, head, len(data))
        assert refused.value.slug == slug
    with pytest.raises(NotSealed) as refused:
        open_sealed(data, IDENTITY, kind)
    assert refused.value.slug == slug


@pytest.mark.parametrize("name", FAULTS)
def test_a_stream_that_lacks_the_form_is_refused(name: str) -> None:
    kind, _, data = FAULTS[name]
    with pytest.raises((NotSealed, CannotOpen)):
        open_stream(io.BytesIO(data), io.BytesIO(), IDENTITY, kind=kind)


@pytest.mark.parametrize("name", UNOPENABLE)
def test_what_does_not_open_is_told_by_its_reason(name: str) -> None:
    kind, slug, data = UNOPENABLE[name]
    check_sealed(kind, data, len(data))
    with pytest.raises(ProtocolError) as refused:
        open_sealed(data, IDENTITY, kind)
    assert refused.value.slug == slug
    with pytest.raises(ProtocolError) as refused:
        open_stream(io.BytesIO(data), io.BytesIO(), IDENTITY, kind=kind)
    assert refused.value.slug == slug


def generally_one_hybrid_stanza(data: bytes) -> bool:
    """Say with the general parser what check_sealed says with its own."""
    try:
        header = age.read_header(data)
        if len(header.stanzas) != 1:
            return False
        (stanza,) = header.stanzas
        share = age.base64_decode(stanza.args[0]) if len(stanza.args) == 1 else b""
    except NotSealed:
        return False
    return stanza.kind == age.HYBRID and len(share) == 1120 and len(stanza.body) == 32


def accepted(data: bytes) -> bool:
    try:
        check_sealed(Kind.GRANT, data, len(data))
    except NotSealed:
        return False
    return True


# Where the header has its joints; elsewhere one letter of Base64 is like another.
PLACES = st.one_of(
    st.integers(0, HEADER_SIZE - 1),
    st.sampled_from([*range(50), *range(1530, 1540), *range(1570, HEADER_SIZE)]),
)


@settings(max_examples=400)
@given(PLACES, st.binary(min_size=1, max_size=1))
@example(1533, b"B")
@example(1577, b"B")
@example(1625, b"B")
def test_the_quick_check_and_the_parser_agree_on_every_changed_byte(
    place: int, byte: bytes
) -> None:
    changed = GRANT[:place] + byte + GRANT[place + 1 :]
    assert accepted(changed) == generally_one_hybrid_stanza(changed)


@given(st.integers(0, HEADER_SIZE), st.integers(0, 3), st.binary(max_size=3))
def test_the_quick_check_and_the_parser_agree_on_every_shifted_byte(
    place: int, gone: int, new: bytes
) -> None:
    changed = (GRANT[:place] + new + GRANT[place + gone :])[: len(GRANT)].ljust(len(GRANT), b"x")
    assert accepted(changed) == generally_one_hybrid_stanza(changed)


@given(
    st.lists(
        st.builds(
            age.Stanza,
            st.sampled_from([age.HYBRID, "X25519", "scrypt", "MLKEM768X25519"]),
            st.lists(
                st.sampled_from([1119, 1120, 1121]).map(lambda n: age.base64_encode(b"\xff" * n)),
                max_size=2,
            ).map(tuple),
            st.sampled_from([b"", bytes(31), b"\xff" * 32, bytes(33), bytes(48)]),
        ),
        max_size=2,
    )
)
def test_the_quick_check_and_the_parser_agree_on_every_header(stanzas: list[age.Stanza]) -> None:
    data = (age.write_header(KEY, stanzas) + bytes(len(GRANT)))[: len(GRANT)]
    assert accepted(data) == generally_one_hybrid_stanza(data)


@given(st.binary(max_size=200), st.sampled_from(Kind))
def test_any_bytes_are_refused_as_plaintext(data: bytes, kind: Kind) -> None:
    with pytest.raises(NotSealed):
        check_sealed(kind, data, len(data))


@given(st.data())
@settings(max_examples=60)
def test_one_changed_bit_anywhere_never_opens(draw: st.DataObject) -> None:
    place = draw.draw(st.one_of(PLACES, st.integers(0, len(GRANT) - 1)))
    bit = draw.draw(st.integers(0, 7))
    changed = bytearray(GRANT)
    changed[place] ^= 1 << bit
    with pytest.raises((NotSealed, CannotOpen)):
        open_sealed(bytes(changed), IDENTITY, Kind.GRANT)


def test_no_refusal_repeats_what_was_given() -> None:
    secret = b"a name that must not appear"
    with pytest.raises(NotSealed) as refused:
        check_sealed(Kind.GRANT, secret, len(secret))
    assert secret.decode() not in repr(refused.value)
    assert secret.decode() not in str(refused.value)


# Streams

LENGTHS = (0, 1, 65528, 65529, MIB - 8, MIB - 7, MIB, 2 * MIB - 8, 2 * MIB, 5 * MIB + 12345)


def synthetic(length: int) -> bytes:
    return random.Random(length).randbytes(length)


def sealed_stream(data: bytes) -> bytes:
    target = io.BytesIO()
    seal_stream(io.BytesIO(data), target, RECIPIENT, len(data))
    return target.getvalue()


@pytest.mark.parametrize("length", LENGTHS)
def test_a_stream_opens_to_what_was_sealed(length: int) -> None:
    data, sealed, opened = synthetic(length), io.BytesIO(), io.BytesIO()
    digests = seal_stream(io.BytesIO(data), sealed, RECIPIENT, length)
    wire = sealed.getvalue()
    assert digests.sha256 == hashlib.sha256(data).hexdigest()
    assert digests.sealed_sha256 == hashlib.sha256(wire).hexdigest()
    assert (digests.length, digests.sealed_size) == (length, len(wire))
    check_sealed(Kind.FILE, wire[:OVERHEAD], len(wire))
    assert open_stream(io.BytesIO(wire), opened, IDENTITY) == digests
    assert opened.getvalue() == data
    assert open_sealed(wire, IDENTITY, Kind.FILE) == data


@pytest.mark.parametrize("kind", Kind)
def test_a_stream_opens_what_was_sealed_in_memory(kind: Kind) -> None:
    opened = io.BytesIO()
    open_stream(io.BytesIO(seal(TEXT, RECIPIENT, kind)), opened, IDENTITY, kind=kind)
    assert opened.getvalue() == TEXT


class Trickle:
    """A source and target that takes and gives little at once, as sockets and raw files do."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = io.BytesIO(data)

    def read(self, size: int) -> bytes:
        return self.data.read(min(size, 70_001))

    def write(self, data: memoryview) -> int:
        return self.data.write(data[:33_333])


def test_a_stream_bears_short_reads_and_short_writes() -> None:
    data = synthetic(2 * MIB)
    sealed, opened = Trickle(), Trickle()
    seal_stream(Trickle(data), sealed, RECIPIENT, len(data))  # type: ignore[arg-type]
    open_stream(Trickle(sealed.data.getvalue()), opened, IDENTITY)  # type: ignore[arg-type]
    assert opened.data.getvalue() == data


@pytest.mark.parametrize("declared", [0, 999, 1001, 70_000, 3 * MIB])
def test_a_source_of_another_length_is_refused(declared: int) -> None:
    with pytest.raises(WrongLength):
        seal_stream(io.BytesIO(bytes(1000)), io.BytesIO(), RECIPIENT, declared)


LONG = sealed_stream(synthetic(2 * MIB + 100))


@settings(max_examples=40, suppress_health_check=[HealthCheck.data_too_large])
@given(st.integers(0, len(LONG) - 1))
@example(OVERHEAD)
@example(OVERHEAD + 16 * 65552)
@example(OVERHEAD + 17 * 65552)
@example(OVERHEAD + 32 * 65552)
def test_a_truncated_stream_is_refused(end: int) -> None:
    with pytest.raises((NotSealed, CannotOpen)):
        open_stream(io.BytesIO(LONG[:end]), io.BytesIO(), IDENTITY)


@pytest.mark.parametrize(
    "tail",
    [b"\0", bytes(16), bytes(65552), LONG[-65552:]],
    ids=["a byte", "a tag", "a chunk", "its own last chunk"],
)
def test_a_stream_with_something_behind_it_is_refused(tail: bytes) -> None:
    with pytest.raises(CannotOpen):
        open_stream(io.BytesIO(LONG + tail), io.BytesIO(), IDENTITY)


def test_chunks_in_another_order_are_refused() -> None:
    first, second = OVERHEAD, OVERHEAD + 65552
    end = second + 65552
    swapped = LONG[:first] + LONG[second:end] + LONG[first:second] + LONG[end:]
    with pytest.raises(CannotOpen):
        open_stream(io.BytesIO(swapped), io.BytesIO(), IDENTITY)


@pytest.mark.parametrize(
    ("framed", "error"),
    [
        (frame(b"x", 65537), NotSealed),
        (frame(b"x", 3 * MIB)[:-1] + b"\1", BadFrame),
        ((4 * MIB).to_bytes(8, "big") + bytes(3 * MIB - 8), BadFrame),
        (b"\xff" * 65536, BadFrame),
        (bytes(5), NotSealed),
    ],
)
def test_a_stream_whose_frame_is_wrong_is_refused(
    framed: bytes, error: type[ProtocolError]
) -> None:
    wire = age.write_header(KEY, [RECIPIENT.wrap(KEY)]) + age.seal_payload(KEY, framed)
    with pytest.raises(error):
        open_stream(io.BytesIO(wire), io.BytesIO(), IDENTITY)


def test_progress_counts_the_data_once() -> None:
    data, seen, seen_again, sealed = synthetic(3 * MIB), [], [], io.BytesIO()
    seal_stream(io.BytesIO(data), sealed, RECIPIENT, len(data), progress=seen.append)
    sealed.seek(0)
    open_stream(sealed, io.BytesIO(), IDENTITY, progress=seen_again.append)
    assert sum(seen) == sum(seen_again) == len(data)
    assert len(seen) > 1


class Endless:
    """A source that holds `length` zeros without keeping them, and a target that keeps nothing."""

    def __init__(self, length: int = 0) -> None:
        self.left = length

    def read(self, size: int) -> bytes:
        given = min(size, self.left)
        self.left -= given
        return bytes(given)

    def write(self, data: memoryview) -> int:
        return len(data)


def test_a_stream_takes_the_same_memory_for_any_length(tmp_path: Path) -> None:
    def peak(length: int) -> int:
        tracemalloc.start()
        try:
            with (tmp_path / "sealed").open("wb") as target:
                seal_stream(Endless(length), target, RECIPIENT, length)  # type: ignore[arg-type]
            with (tmp_path / "sealed").open("rb") as source:
                open_stream(source, Endless(), IDENTITY)  # type: ignore[arg-type]
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(64 * MIB) < peak(8 * MIB) + MIB < 16 * MIB


class FullDisk(io.RawIOBase):
    def write(self, _data: Any) -> int:
        raise OSError("no space left on device")


def test_a_target_that_fails_is_told_and_leaves_no_thread() -> None:
    before = threading.active_count()
    with pytest.raises(OSError, match="no space"):
        seal_stream(io.BytesIO(bytes(5 * MIB)), FullDisk(), RECIPIENT, 5 * MIB)  # type: ignore[arg-type]
    assert threading.active_count() == before


def test_sealing_the_same_twice_gives_nothing_in_common() -> None:
    one, other = seal(TEXT, RECIPIENT, Kind.GRANT), seal(TEXT, RECIPIENT, Kind.GRANT)
    assert one[40:1500] != other[40:1500]
    assert one[OVERHEAD:] != other[OVERHEAD:]


# Key files


def test_a_passphrase_opens_what_it_sealed_and_another_does_not() -> None:
    sealed = seal_with_passphrase(TEXT, "demo", work_factor=10)
    assert open_with_passphrase(sealed, "demo") == TEXT
    with pytest.raises(CannotOpen) as refused:
        open_with_passphrase(sealed, "Demo")
    assert refused.value.slug == "wrong-passphrase"


def test_a_key_file_that_asks_for_too_much_work_is_refused() -> None:
    sealed = seal_with_passphrase(TEXT, "demo", work_factor=12)
    with pytest.raises(NotSealed) as refused:
        open_with_passphrase(sealed, "demo", max_work_factor=11)
    assert refused.value.slug == "work-factor"


def test_a_key_file_has_at_most_a_mebibyte() -> None:
    largest = seal_with_passphrase(bytes(MIB), "demo", work_factor=2)
    assert open_with_passphrase(largest, "demo") == bytes(MIB)
    with pytest.raises(TooLarge):
        seal_with_passphrase(bytes(MIB + 1), "demo", work_factor=2)
    with pytest.raises(TooLarge):
        open_with_passphrase(bytes(2 * MIB), "demo")


def test_an_empty_passphrase_is_refused() -> None:
    with pytest.raises(CannotOpen) as refused:
        seal_with_passphrase(TEXT, "")
    assert refused.value.slug == "no-passphrase"


def test_a_key_file_sealed_to_a_key_does_not_open_with_a_passphrase() -> None:
    with pytest.raises(CannotOpen):
        open_with_passphrase(GRANT, "demo")


# Vectors for every implementation


def test_the_vectors_of_sizes_hold() -> None:
    for case in vectors("padme"):
        assert padme(case["size"]) == case["padded"]
    for case in vectors("buckets"):
        kind = Kind(case["kind"])
        if "slug" in case:
            with pytest.raises(TooLarge) as refused:
                framed_size(kind, case["length"])
            assert refused.value.slug == case["slug"]
        else:
            assert framed_size(kind, case["length"]) == case["framed"]
            assert sealed_size(case["framed"]) == case["sealed"]


def test_the_vectors_of_frames_hold() -> None:
    for case in vectors("frames"):
        assert frame(unb64(case["data"]), case["size"]) == unb64(case["framed"])
        assert unframe(unb64(case["framed"])) == unb64(case["data"])
    for case in vectors("frames_refused"):
        with pytest.raises(ProtocolError) as refused:
            unframe(unb64(case["framed"]))
        assert refused.value.slug == case["slug"]


def test_the_vectors_of_keys_hold() -> None:
    for case in vectors("identities"):
        identity = Identity.from_seed(unb64(case["seed"]))
        assert str(identity) == case["identity"]
        assert str(identity.recipient) == case["recipient"]
        assert hashlib.sha256(identity.recipient.raw).hexdigest() == case["recipient_sha256"]
    for text in vectors("keys_refused"):
        for parse in (Identity.parse, Recipient.parse):
            with pytest.raises(ProtocolError):
                parse(text)


def vector_identity(case: dict[str, Any]) -> Identity:
    return Identity.parse(VECTORS["identities"][case["identity"]]["identity"])


def test_the_vectors_of_sealed_objects_hold() -> None:
    for case in vectors("sealed"):
        data = open_sealed(unb64(case["sealed"]), vector_identity(case), Kind(case["kind"]))
        assert data == unb64(case["data"])
    for case in vectors("unopenable"):
        with pytest.raises(ProtocolError) as refused:
            open_sealed(unb64(case["object"]), vector_identity(case), Kind(case["kind"]))
        assert refused.value.slug == case["slug"], case["name"]
    for case in vectors("passphrase"):
        assert open_with_passphrase(unb64(case["sealed"]), case["passphrase"]) == unb64(
            case["data"]
        )


def test_the_vectors_of_form_hold() -> None:
    for case in vectors("heads"):
        slug = None
        try:
            check_sealed(Kind(case["kind"]), unb64(case["head"]), case["size"])
        except NotSealed as refused:
            slug = refused.slug
        assert slug == case["slug"]
    for case in vectors("refused"):
        data = unb64(case["object"])
        with pytest.raises(NotSealed) as refused_object:
            check_sealed(Kind(case["kind"]), data, len(data))
        assert refused_object.value.slug == case["slug"], case["name"]


# The JavaScript implementation


def ask_age(*tasks: dict[str, str]) -> Iterator[dict[str, str]]:
    results = ask_node("age.mjs", tasks)
    assert len(results) == len(tasks)
    return iter(results)


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def test_keys_are_the_same_keys_in_javascript() -> None:
    ours, made = ask_age({"task": "recipient", "identity": str(IDENTITY)}, {"task": "generate"})
    assert ours["recipient"] == str(RECIPIENT)
    assert str(Identity.parse(made["identity"]).recipient) == made["recipient"]


def test_what_we_seal_opens_in_javascript() -> None:
    objects = {kind: seal(TEXT, RECIPIENT, kind) for kind in Kind}
    objects["stream"] = LONG  # type: ignore[index]
    results = ask_age(
        *(
            {"task": "open", "identity": str(IDENTITY), "sealed": b64(sealed)}
            for sealed in objects.values()
        )
    )
    opened = [unframe(unb64(result["data"])) for result in results]
    assert opened == [TEXT] * len(Kind) + [synthetic(2 * MIB + 100)]


def test_what_javascript_seals_opens_here() -> None:
    lengths = {**{kind: len(TEXT) for kind in Kind}, Kind.FILE: 200_000}
    results = ask_age(
        *(
            {
                "task": "seal",
                "recipient": str(RECIPIENT),
                "data": b64(frame(synthetic(length), framed_size(kind, length))),
            }
            for kind, length in lengths.items()
        )
    )
    for (kind, length), result in zip(lengths.items(), results, strict=True):
        sealed, opened = unb64(result["sealed"]), io.BytesIO()
        assert open_sealed(sealed, IDENTITY, kind) == synthetic(length)
        open_stream(io.BytesIO(sealed), opened, IDENTITY, kind=kind)
        assert opened.getvalue() == synthetic(length)


def test_javascript_refuses_what_we_refuse_to_open() -> None:
    altered = [
        UNOPENABLE[name].data
        for name in ("another key", "a header of another file key", "a payload that was altered")
    ]
    results = ask_age(
        *({"task": "open", "identity": str(IDENTITY), "sealed": b64(sealed)} for sealed in altered)
    )
    assert all("error" in result for result in results)


def test_key_files_open_in_javascript_and_the_other_way_round() -> None:
    phrase = "عبارة مرور"
    ours, theirs = ask_age(
        {
            "task": "openWithPassphrase",
            "passphrase": phrase,
            "sealed": b64(seal_with_passphrase(TEXT, phrase, work_factor=10)),
        },
        {"task": "sealWithPassphrase", "passphrase": phrase, "data": b64(TEXT)},
    )
    assert unb64(ours["data"]) == TEXT
    assert open_with_passphrase(unb64(theirs["sealed"]), phrase) == TEXT
