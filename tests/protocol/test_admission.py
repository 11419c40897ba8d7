"""The price of admission is bound to one submission, one day and one price."""

import os
from dataclasses import replace

import pytest

from amana.protocol.admission import (
    AdmissionRefused,
    Notice,
    Proof,
    check_proof,
    pay,
    total_price,
    work,
)
from amana.protocol.errors import ProtocolError

NOTICE = Notice("2026-11-23", os.urandom(32), 3)
DIGEST = os.urandom(32)


def test_a_paid_price_is_accepted_and_counted() -> None:
    proof = Proof.parse(pay(NOTICE, DIGEST, 0).to_bytes())
    assert check_proof(proof, NOTICE, DIGEST, 0) == work(NOTICE.seed, DIGEST, proof.nonce) >= 3


def refused(proof: Proof, notice: Notice, digest: bytes, declared_bytes: int = 0) -> str:
    with pytest.raises(AdmissionRefused) as error:
        check_proof(proof, notice, digest, declared_bytes)
    return error.value.slug


def unlucky(notice: Notice, digest: bytes, below: int) -> bytes:
    """A nonce that pays less than `below`."""
    return next(n for _ in range(1000) if work(notice.seed, digest, n := os.urandom(16)) < below)


def test_another_submission_cannot_use_it() -> None:
    proof = pay(NOTICE, DIGEST, 0)
    stolen_for = next(
        d for _ in range(1000) if work(NOTICE.seed, d := os.urandom(32), proof.nonce) < 3
    )
    assert refused(proof, NOTICE, stolen_for) == "admission-wrong"


def test_a_wrong_nonce_is_refused() -> None:
    proof = Proof(NOTICE.day, NOTICE.price, unlucky(NOTICE, DIGEST, 3))
    assert refused(proof, NOTICE, DIGEST) == "admission-wrong"


def test_yesterday_is_stale_and_a_risen_price_says_so() -> None:
    proof = pay(NOTICE, DIGEST, 0)
    assert refused(proof, replace(NOTICE, day="2026-11-24"), DIGEST) == "admission-stale"
    assert refused(proof, replace(NOTICE, price=9), DIGEST) == "admission-price"


def test_a_reservation_of_gigabytes_costs_more_than_a_text() -> None:
    prices = [total_price(5, size) for size in (0, 2**26, 2**26 + 1, 2**28, 2**32, 2**34, 2**50)]
    assert prices[0] == prices[1] == 5
    assert prices == sorted(prices)
    assert prices[-1] == 13
    nonce = unlucky(NOTICE, DIGEST, 4)
    while work(NOTICE.seed, DIGEST, nonce) < 3:
        nonce = unlucky(NOTICE, DIGEST, 4)
    cheap = Proof(NOTICE.day, NOTICE.price, nonce)
    assert check_proof(cheap, NOTICE, DIGEST, 0) == 3
    assert refused(cheap, NOTICE, DIGEST, 2**32) == "admission-wrong"


@pytest.mark.parametrize(
    "data", [b"", b"{}", b'{"day":"2026-11-23","nonce":"","price":1,"v":1}', b"x" * 2000]
)
def test_what_is_no_proof_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        Proof.parse(data)


def test_a_server_cannot_ask_for_a_price_beyond_all_reason() -> None:
    with pytest.raises(AdmissionRefused):
        Notice.parse(replace(NOTICE, price=60).document())
