"""The age format: every C2SP/CCTV vector, and what its parsers must withstand."""

import base64
import hashlib
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amana.protocol import age, bech32
from amana.protocol.age import (
    BadHeader,
    BadHeaderMac,
    BadKey,
    BadPayload,
    Identity,
    NoMatch,
    Passphrase,
    PayloadCipher,
    Recipient,
    Stanza,
)
from amana.protocol.errors import NotSealed
from tests.support.age_testkit import BadArmor, Vector, armor, dearmor, read_all
from tests.support.node import ask_node

FAILURES = {
    "no match": NoMatch,
    "HMAC failure": BadHeaderMac,
    "header failure": BadHeader,
    "armor failure": BadArmor,
}
IDENTITY = Identity.from_seed(bytes(range(32)))


@cache
def vectors() -> dict[str, Vector]:
    found = ask_node("cctv.mjs", None)
    return {name: Vector.parse(name, base64.b64decode(data)) for name, data in found.items()}


def release(
    key: bytes, nonce: bytes, chunks: bytes, *, flip: int | None = None
) -> tuple[bytes, int | None]:
    """Open chunk by chunk; return what was released, and the index of the chunk that failed.

    The chunk `flip` is taken for the last when it is not, and the reverse, and ends the stream.
    """
    cipher, released = PayloadCipher(key, nonce), bytearray()
    for index, start in enumerate(range(0, len(chunks) or 1, age.SEALED_CHUNK)):
        chunk = memoryview(chunks)[start : start + age.SEALED_CHUNK]
        last = start + age.SEALED_CHUNK >= len(chunks)
        out = memoryview(bytearray(age.CHUNK))
        try:
            size = cipher.open(chunk, out, last=last != (index == flip))
        except BadPayload:
            return bytes(released), index
        released += out[:size]
        if index == flip:
            break
    return bytes(released), None


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_every_vector_of_the_age_testkit_has_the_expected_outcome() -> None:
    outcomes: dict[str, int] = {}
    for name, vector in vectors().items():
        outcomes[vector.expect] = outcomes.get(vector.expect, 0) + 1
        if vector.expect in FAILURES:
            with pytest.raises(FAILURES[vector.expect]):
                read_all(vector)
            continue
        key, nonce, chunks = read_all(vector)
        released, failed = release(key, nonce, chunks)
        if vector.expect == "success":
            assert failed is None
            assert age.open_payload(key, nonce + chunks) == released, name
        else:
            assert vector.expect == "payload failure"
            assert failed is not None
            with pytest.raises(BadPayload):
                age.open_payload(key, nonce + chunks)
            if sha256(released) != vector.payload_sha256:
                # The reference also releases an authentic chunk whose place as the last contradicts
                # the end of the file. Nothing of such a file counts here.
                released, _ = release(key, nonce, chunks, flip=failed)
        assert sha256(released) == vector.payload_sha256, name
    assert outcomes.keys() == {*FAILURES, "success", "payload failure"}
    assert sum(outcomes.values()) == 143


def test_headers_and_payloads_of_the_testkit_are_written_back_byte_for_byte() -> None:
    for name, vector in vectors().items():
        if vector.expect in ("header failure", "armor failure"):
            continue
        data = dearmor(vector.data) if vector.armored else vector.data
        header = age.read_header(data)
        lines = b"".join(stanza.encode() for stanza in header.stanzas)
        footer = f"--- {age.base64_encode(header.mac)}\n".encode()
        written = age.VERSION_LINE + lines + footer
        assert written == data[: header.size], name
        if vector.expect == "success":
            key, nonce, chunks = read_all(vector)
            plain, _ = release(key, nonce, chunks)
            out = bytearray(len(chunks))
            PayloadCipher(key, nonce).seal(memoryview(plain), memoryview(out), last=True)
            assert out == chunks, name


def test_armor_of_the_test_support_is_read_by_itself() -> None:
    assert dearmor(armor(bytes(range(256)))) == bytes(range(256))


@given(st.binary(max_size=300))
def test_a_header_parser_takes_any_bytes_or_refuses_them(data: bytes) -> None:
    with pytest.raises(NotSealed):
        age.read_header(age.VERSION_LINE + data)


WORD = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20)
STANZA = st.builds(Stanza, WORD, st.lists(WORD, max_size=3).map(tuple), st.binary(max_size=200))


@given(st.lists(STANZA, min_size=1, max_size=5), st.binary(min_size=16, max_size=16))
def test_a_written_header_is_read_as_it_was(stanzas: list[Stanza], key: bytes) -> None:
    written = age.write_header(key, stanzas)
    header = age.read_header(written + b"what follows")
    assert header.stanzas == tuple(stanzas)
    assert header.size == len(written)
    age.check_mac(header, key)
    with pytest.raises(BadHeaderMac):
        age.check_mac(header, bytes(b ^ 1 for b in key))


@pytest.mark.parametrize("count", [0, 65])
def test_a_header_of_no_or_too_many_stanzas_is_refused(count: int) -> None:
    with pytest.raises(BadHeader):
        age.read_header(age.write_header(bytes(16), [Stanza("x", (), b"")] * count))


def test_a_header_longer_than_its_limit_is_refused() -> None:
    long = age.write_header(bytes(16), [Stanza("x", (), bytes(age.MAX_HEADER))])
    with pytest.raises(BadHeader):
        age.read_header(long)


def test_the_header_mac_is_checked_with_the_unwrapped_key() -> None:
    stanza = IDENTITY.recipient.wrap(bytes(16))
    forged = age.write_header(b"another file key", [stanza])
    with pytest.raises(BadHeaderMac):
        age.file_key(age.read_header(forged), IDENTITY)


def test_two_stanzas_with_two_file_keys_cannot_both_open() -> None:
    """Why a payload that opens under two keys does not help a forger: the MAC names one of them."""
    other = Identity.generate()
    first, second = b"first  file  key", b"second file  key"
    stanzas = [IDENTITY.recipient.wrap(first), other.recipient.wrap(second)]
    header = age.read_header(age.write_header(first, stanzas))
    assert age.file_key(header, IDENTITY) == first
    with pytest.raises(BadHeaderMac):
        age.file_key(header, other)


# Keys


def test_keys_are_read_as_they_were_written() -> None:
    assert Identity.parse(str(IDENTITY)).seed == IDENTITY.seed == bytes(range(32))
    assert Recipient.parse(str(IDENTITY.recipient)) == IDENTITY.recipient
    assert len(IDENTITY.recipient.raw) == 1216


def test_no_representation_shows_a_secret() -> None:
    for shown in (repr(IDENTITY), repr(Passphrase("correct horse"))):
        assert "correct" not in shown
        assert str(IDENTITY)[20:30] not in shown
        assert IDENTITY.seed.hex()[:16] not in shown


@pytest.mark.parametrize(
    "text",
    [
        "",
        "age1pq1",
        str(IDENTITY.recipient).upper(),
        str(IDENTITY.recipient)[:-1],
        str(IDENTITY),
        bech32.encode("age", bytes(32)),
        bech32.encode("age1pq", bytes(1215)),
        bech32.encode("age1pq", b"\xff" * 1216),
        "ä" * 40,
        "q" * 100_000,
    ],
)
def test_what_is_no_recipient_is_refused(text: str) -> None:
    with pytest.raises((BadKey, bech32.BadBech32)):
        Recipient.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        str(IDENTITY).lower(),
        str(IDENTITY.recipient),
        bech32.encode("age-secret-key-", bytes(32)).upper(),
        bech32.encode("age-secret-key-pq-", bytes(31)).upper(),
    ],
)
def test_what_is_no_identity_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises((BadKey, bech32.BadBech32)) as refused:
        Identity.parse(text)
    assert not text or text not in str(refused.value)


def test_a_recipient_whose_x25519_half_is_of_low_order_is_refused() -> None:
    with pytest.raises(BadKey):
        Recipient(IDENTITY.recipient.raw[:1184] + bytes(32)).wrap(bytes(16))


@given(st.binary(max_size=100))
def test_bech32_reads_what_it_wrote(data: bytes) -> None:
    assert bech32.decode(bech32.encode("age", data)) == ("age", data)


@given(st.binary(max_size=40), st.data())
def test_bech32_notices_one_wrong_character(data: bytes, draw: st.DataObject) -> None:
    text = bech32.encode("age", data)
    place = draw.draw(st.integers(4, len(text) - 1))
    wrong = draw.draw(st.sampled_from("qpzry9x8gf2tvdw0s3jn54khce6mua7l".replace(text[place], "")))
    with pytest.raises(bech32.BadBech32):
        bech32.decode(text[:place] + wrong + text[place + 1 :])


@given(st.text(max_size=60))
def test_bech32_takes_any_text_or_refuses_it(text: str) -> None:
    try:
        prefix, data = bech32.decode(text)
    except bech32.BadBech32:
        return
    assert bech32.encode(prefix, data) == text.lower()


@pytest.mark.parametrize(
    ("text", "prefix", "data"),
    [
        # BIP 173, "Test vectors".
        ("A12UEL5L", "a", ""),
        ("abcdef1qpzry9x8gf2tvdw0s3jn54khce6mua7lmqqqxw", "abcdef", "00443214c74254b635cf84653a56d7c675be77df"),
    ],
)  # fmt: skip
def test_bech32_reads_the_vectors_of_its_specification(text: str, prefix: str, data: str) -> None:
    assert bech32.decode(text) == (prefix, bytes.fromhex(data))


def test_bech32_of_mixed_case_is_refused() -> None:
    assert bech32.decode("A12UEL5L") == bech32.decode("a12uel5l")
    with pytest.raises(bech32.BadBech32):
        bech32.decode("A12uel5l")


def test_bech32_whose_spare_bits_are_not_zero_is_refused() -> None:
    # One byte takes two characters, and the second has two bits that stand for no byte.
    letters = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
    refused = 0
    for value, letter in enumerate(letters):
        check = bech32._polymod("age", bytes([0, value]) + bytes(6)) ^ 1
        tail = "".join(letters[check >> 5 * (5 - place) & 31] for place in range(6))
        text = f"age1q{letter}{tail}"
        if value % 4 == 0:
            assert bech32.encode(*bech32.decode(text)) == text
        else:
            with pytest.raises(bech32.BadBech32):
                bech32.decode(text)
            refused += 1
    assert refused == 24
