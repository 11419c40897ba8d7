"""Proofs of possession: made and checked as RFC 9449 says, with the key's name as RFC 7638 makes it."""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amana.protocol.dpop import (
    TYPE,
    ProofRefused,
    check_proof,
    make_proof,
    thumbprint,
    token_hash,
)
from amana.protocol.encoding import random_id, unb64
from amana.protocol.jws import ALGORITHM
from amana.protocol.signing import SigningKey

NOW = datetime(2026, 11, 24, 3, tzinfo=UTC)
URL = "https://desk.example/v1/cases"
KEY = SigningKey(bytes(range(32)))
JKT = thumbprint(unb64(KEY.public, 32))
TOKEN = "a.b.c"


def check(proof: str, **changes: Any) -> None:
    fields: dict[str, Any] = {
        "method": "GET",
        "urls": frozenset({URL}),
        "token": TOKEN,
        "jkt": JKT,
        "now": NOW,
    }
    check_proof(proof, **(fields | changes))


def test_the_thumbprint_is_that_of_rfc_8037() -> None:
    # RFC 8037 appendix A.2 and A.3.
    public = urlsafe_b64decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo=")
    assert thumbprint(public) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_the_hash_of_a_token_is_that_of_rfc_9449() -> None:
    # RFC 9449 §7.1, figure 12 and 13.
    token = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU"
    assert token_hash(token) == "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo"


def test_a_proof_is_good_for_its_request_alone() -> None:
    proof = make_proof(KEY, "GET", URL, NOW, TOKEN)
    check(proof)
    faults: list[dict[str, Any]] = [
        {"method": "POST"},
        {"urls": frozenset({URL + "/x", "http://desk.example/v1/cases"})},
        {"token": "a.b.d"},
        {"token": None},
        {"jkt": thumbprint(bytes(32))},
        {"now": NOW + timedelta(seconds=61)},
        {"now": NOW - timedelta(seconds=61)},
    ]
    for fault in faults:
        with pytest.raises(ProofRefused):
            check(proof, **fault)
    check(make_proof(KEY, "GET", URL, NOW), token=None)
    for seconds in (-60, 60):
        check(proof, now=NOW + timedelta(seconds=seconds))


def _base64url(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")


def build(claims: dict[str, Any], header: dict[str, Any]) -> str:
    good = {"jti": random_id(), "htm": "GET", "htu": URL, "iat": int(NOW.timestamp())}
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": _base64url(unb64(KEY.public, 32))}
    body = {**good, "ath": token_hash(TOKEN), **claims}
    kept = {name: value for name, value in body.items() if value is not ...}
    return str(
        jwt.api_jws.encode(
            json.dumps(kept).encode(),
            KEY.private,
            algorithm=ALGORITHM,
            headers={"typ": TYPE, "jwk": jwk, **header},
        )
    )


CLAIMS: list[dict[str, Any]] = [
    {"jti": ...},
    {"jti": "1"},
    {"jti": 7},
    {"htm": ...},
    {"htm": "get"},
    {"htu": ...},
    {"htu": URL + "?desk=chemical"},
    {"htu": [URL]},
    {"iat": ...},
    {"iat": NOW.timestamp() + 0.5},
    {"iat": str(int(NOW.timestamp()))},
    {"iat": True},
    {"iat": 10**30},
    {"ath": ...},
    {"ath": TOKEN},
]
X = _base64url(unb64(KEY.public, 32))
HEADERS: list[dict[str, Any]] = [
    {"typ": "JWT"},
    {"typ": "at+jwt"},
    {"typ": "amana-assertion+jwt"},
    {"jwk": None},
    {"jwk": X},
    {"jwk": {"kty": "OKP", "crv": "Ed448", "x": X}},
    {"jwk": {"kty": "OKP", "crv": "Ed25519"}},
    {"jwk": {"kty": "OKP", "crv": "Ed25519", "x": X[:-1]}},
    {"jwk": {"kty": "OKP", "crv": "Ed25519", "x": X, "d": _base64url(KEY.seed)}},
]


def test_the_proof_from_which_the_faults_are_made_is_good() -> None:
    check(build({}, {}))


@pytest.mark.parametrize("claims", CLAIMS, ids=str)
def test_a_proof_with_other_claims_is_refused(claims: dict[str, Any]) -> None:
    with pytest.raises(ProofRefused):
        check(build(claims, {}))


@pytest.mark.parametrize("header", HEADERS, ids=range(len(HEADERS)))
def test_a_proof_of_another_form_is_refused(header: dict[str, Any]) -> None:
    with pytest.raises(ProofRefused):
        check(build({}, header))


@pytest.mark.parametrize("algorithm", ["none", "HS256"])
def test_a_proof_by_another_algorithm_is_refused(algorithm: str) -> None:
    claims = jwt.decode(build({}, {}), options={"verify_signature": False})
    header = jwt.get_unverified_header(build({}, {}))
    secret = None if algorithm == "none" else KEY.public
    forged = jwt.encode(
        claims, secret, algorithm=algorithm, headers={"typ": TYPE, "jwk": header["jwk"]}
    )
    with pytest.raises(ProofRefused):
        check(forged)


@given(st.one_of(st.text(max_size=300), st.from_regex(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.x")))
def test_no_other_text_is_a_proof(text: str) -> None:
    with pytest.raises(ProofRefused):
        check(text)


GOOD_CLAIMS = {"jti": "a" * 32, "htm": "GET", "htu": URL, "iat": int(NOW.timestamp())}


def signed(header: dict[str, Any], payload: object, key: SigningKey = KEY) -> str:
    """Sign by hand what no library would, such as header members that it would have to understand."""
    good = {"alg": ALGORITHM, "typ": TYPE, "jwk": {"kty": "OKP", "crv": "Ed25519", "x": X}}
    parts = [_base64url(json.dumps(part).encode()) for part in ({**good, **header}, payload)]
    message = ".".join(parts)
    return f"{message}.{_base64url(key.private.sign(message.encode()))}"


BODY = {**GOOD_CLAIMS, "ath": token_hash(TOKEN)}


def test_the_proof_that_was_signed_by_hand_is_good() -> None:
    check(signed({}, BODY))


def test_a_proof_that_another_key_signed_is_refused() -> None:
    with pytest.raises(ProofRefused):
        check(signed({}, BODY, SigningKey.generate()))


@pytest.mark.parametrize("part", [0, 1, 2])
def test_a_proof_that_was_changed_after_it_was_signed_is_refused(part: int) -> None:
    one, other = (signed({}, {**BODY, "jti": letter * 32}).split(".") for letter in ("a", "b"))
    other[0] = signed({"x": 1}, BODY).split(".")[0]
    one[part] = other[part]
    with pytest.raises(ProofRefused):
        check(".".join(one))


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none"},
        {"alg": "Ed25519"},
        {"alg": "eddsa"},
        {"alg": ["EdDSA"]},
        {"alg": None},
        {"typ": "DPoP+jwt"},
        {"typ": None},
        {"crit": []},
        {"crit": ["exp"]},
        {"crit": ["b64"], "b64": False},
        {"b64": False},
        {"b64": True},
    ],
    ids=str,
)
def test_a_proof_whose_header_asks_for_something_else_is_refused(header: dict[str, Any]) -> None:
    with pytest.raises(ProofRefused):
        check(signed(header, BODY))


@pytest.mark.parametrize("payload", [[], [BODY], "text", 7, None, True, {}], ids=str)
def test_a_proof_that_claims_nothing_is_refused(payload: object) -> None:
    with pytest.raises(ProofRefused):
        check(signed({}, payload))


@pytest.mark.parametrize("added", ["=", "!", ",", " ", "\n", ".", ".x", ",a.b.c", "é"])
def test_nothing_may_follow_or_precede_a_proof(added: str) -> None:
    proof = signed({}, BODY)
    for text in (proof + added, added + proof):
        with pytest.raises(ProofRefused):
            check(text)


def test_a_proof_has_a_limited_size() -> None:
    def padded(letters: int) -> str:
        return signed({}, {**BODY, "more": "x" * letters})

    within = max(n for n in range(1000, 1600) if len(padded(n)) <= 2048)
    check(padded(within))
    with pytest.raises(ProofRefused):
        check(padded(within + 3))
