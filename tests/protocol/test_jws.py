"""A compact JWS is read in one way, and no way but PyJWT's; what is wrong with it is refused before anything counts."""

import json
from base64 import urlsafe_b64encode
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amana.protocol.errors import ProtocolError
from amana.protocol.jws import ALGORITHM, base64url, base64url_decode, read_header, split_jws
from amana.protocol.signing import SigningKey

KEY = SigningKey(bytes(range(32)))
PUBLIC = KEY.private.public_key().public_bytes_raw()
TYPE = "test+jwt"
CLAIMS = {"sub": "a", "iat": 7}


def read(text: str, public: bytes = PUBLIC) -> dict[str, Any]:
    jws = split_jws(text)
    read_header(jws.header, TYPE)
    jws.verify(public)
    return jws.claims()


def signed(header: bytes, payload: bytes) -> str:
    message = f"{base64url(header)}.{base64url(payload)}"
    return f"{message}.{base64url(KEY.private.sign(message.encode()))}"


def header(**changes: Any) -> bytes:
    return json.dumps({"alg": ALGORITHM, "typ": TYPE, **changes}).encode()


PAYLOAD = json.dumps(CLAIMS).encode()
values = (
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text("aä€𝄞", max_size=9)
)
keys = st.text("abcdefgh", min_size=1, max_size=5)
objects = st.dictionaries(keys, values | st.lists(values, max_size=3), max_size=5)


@given(objects)
def test_what_pyjwt_signs_is_read_as_pyjwt_reads_it(claims: dict[str, Any]) -> None:
    text = jwt.api_jws.encode(
        json.dumps(claims).encode(), KEY.private, algorithm=ALGORITHM, headers={"typ": TYPE}
    )
    other = jwt.api_jws.decode_complete(text, KEY.private.public_key(), algorithms=[ALGORITHM])
    assert read(text) == claims == json.loads(other["payload"])


def test_the_example_of_rfc_8037_verifies() -> None:
    # RFC 8037 appendix A.4 and A.5; its header names no type, and its payload is no JSON.
    x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
    example = split_jws(
        "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc."
        "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
    )
    example.verify(base64url_decode(x))
    with pytest.raises(ProtocolError):
        read_header(example.header, TYPE)
    with pytest.raises(ProtocolError):
        example.claims()


GOOD = signed(header(), PAYLOAD)
FAULTS = {
    "empty": "",
    "two parts": ".".join(GOOD.split(".")[:2]),
    "four parts": GOOD + ".e30",
    "padded": GOOD + "==",
    "a line break": GOOD + "\n",
    "a comma": f"{GOOD},{GOOD}",
    "the other alphabet": "+" + GOOD[1:],
    "too long": signed(header(), json.dumps({"a": "a" * 2000}).encode()),
    "a short signature": GOOD[:-1],
    "no signature": GOOD.rpartition(".")[0] + ".",
    "another type": signed(header(typ="JWT"), PAYLOAD),
    "no type": signed(json.dumps({"alg": ALGORITHM}).encode(), PAYLOAD),
    "another algorithm": signed(header(alg="none"), PAYLOAD),
    "an algorithm that is a list": signed(header(alg=[ALGORITHM]), PAYLOAD),
    "a critical header": signed(header(crit=["exp"], exp=1), PAYLOAD),
    "an unencoded payload": signed(header(b64=False), PAYLOAD),
    "a header that is a list": signed(b"[]", PAYLOAD),
    "claims that are a list": signed(header(), b"[]"),
    "claims that are no JSON": signed(header(), b"rubbish"),
    "a name twice in the header": signed(b'{"typ":"JWT",' + header().removeprefix(b"{"), PAYLOAD),
    "a name twice in the claims": signed(header(), b'{"sub":"b",' + PAYLOAD.removeprefix(b"{")),
    "a fraction": signed(header(), b'{"iat":7.5}'),
    "not a number": signed(header(), b'{"iat":NaN}'),
    "another charset": signed(header(), '{"sub":"ä"}'.encode("latin-1")),
    "nested deep": signed(header(), b'{"a":' + b"[" * 17 + b"]" * 17 + b"}"),
    "nested beyond the stack": signed(header(), b"[" * 1300),
}


def test_the_token_from_which_the_faults_are_made_is_good() -> None:
    assert read(GOOD) == CLAIMS


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_token_is_refused(fault: str) -> None:
    with pytest.raises(ProtocolError):
        read(FAULTS[fault])


@given(st.data())
def test_a_token_with_one_other_character_is_refused(data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(GOOD) - 1))
    other = data.draw(
        st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.")
    )
    changed = GOOD[:place] + other + GOOD[place + 1 :]
    if changed != GOOD:
        with pytest.raises(ProtocolError):
            read(changed)


def test_a_signature_has_one_spelling() -> None:
    # 64 bytes leave four bits of the last character over.
    last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".index(GOOD[-1])
    other = GOOD[:-1] + "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[last + 1]
    assert urlsafe_b64encode(base64url_decode(GOOD[-86:])).decode().rstrip("=") == GOOD[-86:]
    with pytest.raises(ProtocolError):
        read(other)


def test_a_signature_cannot_be_written_as_another_one() -> None:
    # RFC 8032 §5.1.7: S is below the order of the group; without that check S plus the order signs the same.
    order = 2**252 + 27742317777372353535851937790883648493
    message, signature = GOOD[:-87], base64url_decode(GOOD[-86:])
    more = int.from_bytes(signature[32:], "little") + order
    with pytest.raises(ProtocolError):
        read(f"{message}.{base64url(signature[:32] + more.to_bytes(32, 'little'))}")


def test_a_key_for_which_one_signature_fits_everything_verifies_nothing() -> None:
    # The neutral point: S = 0 and R = the key itself solve the equation for every message.
    neutral = bytes([1]) + bytes(31)
    anything = base64url(neutral + bytes(32))
    with pytest.raises(ProtocolError):
        read(f"{GOOD[:-87]}.{anything}", neutral)


def test_another_key_does_not_verify() -> None:
    with pytest.raises(ProtocolError):
        read(GOOD, SigningKey.generate().private.public_key().public_bytes_raw())


@given(
    st.text(max_size=300) | st.from_regex(r"\A[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{86}\Z")
)
def test_no_other_text_is_a_token(text: str) -> None:
    with pytest.raises(ProtocolError):
        read(text)
