"""Openings: one sealed file, one plaintext, and a header whose MAC must hold."""

import base64
import hashlib
import hmac
import io
import json
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from amana.protocol import age
from amana.protocol.encoding import canonical, sha256_hex, unb64
from amana.protocol.errors import CannotOpen, NotSealed, ProtocolError
from amana.protocol.opening import LIMIT_BYTES, Opening, OpeningDiffers, make_opening
from amana.protocol.sealing import (
    HEADER_SIZE,
    BadFrame,
    Identity,
    Kind,
    frame,
    framed_size,
    seal,
)

CASE = Identity.from_seed(b"\7" * 32)
TEXT = b"[SYNTHETIC] " + bytes(range(256)) * 700


def opened(data: bytes = TEXT, kind: Kind = Kind.FILE) -> tuple[bytes, Opening]:
    sealed = seal(data, CASE.recipient, kind)
    return sealed, opening_of(sealed, data)


def opening_of(sealed: bytes, data: bytes) -> Opening:
    return make_opening(
        io.BytesIO(sealed),
        CASE,
        sealed_sha256=sha256_hex(sealed),
        sha256=sha256_hex(data),
        length=len(data),
    )


@pytest.mark.parametrize("kind", [Kind.FILE, Kind.ACCOUNT])
@pytest.mark.parametrize("size", [0, 1, 32760 - 8, 65528, 65529])
def test_an_opening_shows_what_a_sealed_file_holds(kind: Kind, size: int) -> None:
    data = os.urandom(size)
    sealed, opening = opened(data, kind)
    assert opening.verify(io.BytesIO(sealed)).sha256 == sha256_hex(data)
    assert b"".join(map(bytes, opening.blocks(io.BytesIO(sealed)))) == data
    assert Opening.parse(bytes(opening)) == opening


def test_the_key_of_another_file_does_not_open_although_it_has_one_case_key() -> None:
    sealed, opening = opened()
    other, _ = opened(b"another")
    with pytest.raises(age.BadHeaderMac):
        opening.verify(io.BytesIO(other))
    wrong = Opening(opening.sealed_sha256, bytes(16), opening.sha256, opening.len)
    with pytest.raises(age.BadHeaderMac):
        wrong.verify(io.BytesIO(sealed))


def test_a_payload_under_another_key_does_not_pass_a_header_that_commits_to_this_one() -> None:
    # Whoever made the file could put any payload behind the header; its MAC fits one key only.
    sealed, _ = opened()
    key, lie = os.urandom(16), b"what was never sealed"
    forged = sealed[:HEADER_SIZE] + age.seal_payload(
        key, frame(lie, framed_size(Kind.FILE, len(lie)))
    )
    opening = Opening(sha256_hex(forged), key, sha256_hex(lie), len(lie))
    with pytest.raises(age.BadHeaderMac):
        opening.verify(io.BytesIO(forged))


@given(place=st.integers(min_value=0), bit=st.integers(0, 7))
def test_every_flipped_bit_is_found(place: int, bit: int) -> None:
    sealed, opening = SMALL
    damaged = bytearray(sealed)
    damaged[place % len(sealed)] ^= 1 << bit
    with pytest.raises((NotSealed, CannotOpen, BadFrame, OpeningDiffers)):
        opening.verify(io.BytesIO(bytes(damaged)))


SMALL = opened(b"[SYNTHETIC]", Kind.ACCOUNT)


@given(length=st.integers(0, len(SMALL[0]) - 1))
def test_what_is_cut_is_found(length: int) -> None:
    sealed, opening = SMALL
    with pytest.raises((NotSealed, CannotOpen, BadFrame)):
        opening.verify(io.BytesIO(sealed[:length]))


def test_what_is_extended_is_found() -> None:
    sealed, opening = SMALL
    with pytest.raises((NotSealed, CannotOpen)):
        opening.verify(io.BytesIO(sealed + b"\0"))


@pytest.mark.parametrize("field", ["sealed_sha256", "sha256", "len"])
def test_an_opening_that_says_something_else_is_refused(field: str) -> None:
    sealed, opening = opened()
    fields = {
        "sealed_sha256": opening.sealed_sha256,
        "file_key": opening.file_key,
        "sha256": opening.sha256,
        "len": opening.len,
        field: 1 if field == "len" else "0" * 64,
    }
    with pytest.raises(OpeningDiffers) as refused:
        Opening(**fields).verify(io.BytesIO(sealed))  # type: ignore[arg-type]
    assert refused.value.slug == "opening-differs"


@pytest.mark.parametrize("kind", [Kind.MANIFEST, Kind.GRANT, Kind.REPLY, Kind.NOTE])
def test_only_an_account_or_a_file_is_opened(kind: Kind) -> None:
    # A manifest of 32768 bytes has the length of an account; the openings name objects of the receipt only.
    sealed = seal(b"closed", CASE.recipient, kind)
    with pytest.raises(NotSealed):
        opening_of(sealed, b"closed").verify(io.BytesIO(sealed))


FIELDS = {
    "v": 1,
    "sealed_sha256": "0" * 64,
    "file_key": "AAAAAAAAAAAAAAAAAAAAAA==",
    "sha256": "0" * 64,
    "len": 1,
}


@pytest.mark.parametrize(
    ("data", "slug"),
    [
        (b"", "not-canonical"),
        (b"{}", "opening-invalid"),
        (b" " * (LIMIT_BYTES + 1), "too-large"),
        *(
            (canonical({**FIELDS, **change}), "opening-invalid")
            for change in (
                {"v": 2},
                {"v": True},
                {"len": -1},
                {"len": True},
                {"file_key": "AA=="},
                {"sha256": "0" * 63},
                {"sealed_sha256": "A" * 64},
                {"more": 1},
            )
        ),
        (canonical(FIELDS)[:-1] + b" }", "not-canonical"),
    ],
)
def test_what_is_no_opening_is_refused(data: bytes, slug: str) -> None:
    with pytest.raises(ProtocolError) as refused:
        Opening.parse(data)
    assert refused.value.slug == slug


@given(st.binary(max_size=600))
def test_any_bytes_are_refused_in_our_own_words(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        Opening.parse(data)


VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "opening.json").read_text("utf-8"))


def test_the_committed_vectors_hold() -> None:
    opening = Opening.parse(VECTORS["opening"].encode("ascii"))
    found = opening.blocks(io.BytesIO(unb64(VECTORS["sealed"])))
    assert b"".join(map(bytes, found)) == unb64(VECTORS["data"])


@pytest.mark.parametrize("vector", VECTORS["refused"], ids=lambda one: one["why"])
def test_the_committed_refusals_hold(vector: dict[str, str]) -> None:
    opening = Opening.parse(vector["opening"].encode("ascii"))
    with pytest.raises(ProtocolError) as refused:
        opening.verify(io.BytesIO(unb64(vector["sealed"] or VECTORS["sealed"])))
    assert refused.value.slug == vector["slug"]


def test_the_vectors_are_read_alike_by_the_format_alone() -> None:
    """An independent reading of C2SP age: HKDF, HMAC and ChaCha20-Poly1305, and nothing of ours but Base64."""
    sealed, opening = unb64(VECTORS["sealed"]), json.loads(VECTORS["opening"])
    key = unb64(opening["file_key"])

    def hkdf(salt: bytes, info: bytes) -> bytes:
        return HKDF(SHA256(), length=32, salt=salt, info=info).derive(key)

    header, _, rest = sealed.partition(b"\n--- ")
    mac, _, payload = rest.partition(b"\n")
    expected = hmac.digest(hkdf(b"", b"header"), header + b"\n---", "sha256")
    assert mac == base64.b64encode(expected).rstrip(b"=")
    cipher = ChaCha20Poly1305(hkdf(payload[:16], b"payload"))
    framed = cipher.decrypt(bytes(11) + b"\1", payload[16:], None)
    length = int.from_bytes(framed[:8], "big")
    assert hashlib.sha256(framed[8 : 8 + length]).hexdigest() == opening["sha256"]
    assert hashlib.sha256(sealed).hexdigest() == opening["sealed_sha256"]
    assert length == opening["len"]
