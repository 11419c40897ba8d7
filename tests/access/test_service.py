"""Sign-in: one assertion, once, by a key of the current directory, for this installation; everything else is one answer."""

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from amana.access.models import StaffSession
from amana.access.signing_in import sign_in
from amana.client.keyfile import PersonKeys
from amana.errors import NotSignedIn
from amana.ops.demo import DEPLOYMENT
from amana.protocol.assertion import TYPE, sign_assertion
from amana.protocol.dpop import make_proof, thumbprint
from amana.protocol.encoding import random_id, unb64
from amana.protocol.jws import ALGORITHM
from amana.protocol.signing import SigningKey
from tests.support.organisation import Organisation, organisation_in


@pytest.fixture
def organisation(tmp_path: Path, database_url: str) -> Iterator[Organisation]:
    with organisation_in(tmp_path, database_url) as made:
        yield made


@pytest.fixture(scope="module")
def one_organisation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Organisation]:
    with organisation_in(tmp_path_factory.mktemp("organisation")) as made:
        yield made


URL = "https://desk.example/v1/sessions"
DPOP = SigningKey.generate()
JKT = thumbprint(unb64(DPOP.public, 32))


def offer(organisation: Organisation, assertion: str, key: SigningKey = DPOP) -> str:
    """Try to sign in; returns who did."""
    proof = make_proof(key, "POST", URL, organisation.clock())
    return sign_in(organisation.services, assertion, proof, frozenset({URL})).person


def reader(organisation: Organisation) -> PersonKeys:
    return organisation.desks["chemical"][0]


def test_an_assertion_signs_in_once(organisation: Organisation) -> None:
    keys = reader(organisation)
    assertion = sign_assertion(keys.signing, keys.id, DEPLOYMENT, organisation.clock(), jkt=JKT)
    assert offer(organisation, assertion) == keys.id
    with pytest.raises(NotSignedIn):
        offer(organisation, assertion)


def test_used_assertions_are_forgotten_only_when_none_could_come_again(
    organisation: Organisation,
) -> None:
    keys = reader(organisation)
    used = sign_assertion(
        keys.signing, keys.id, DEPLOYMENT, organisation.clock(), jkt=JKT, seconds=120
    )
    offer(organisation, used)
    organisation.clock.turn(seconds=149)
    fresh = sign_assertion(keys.signing, keys.id, DEPLOYMENT, organisation.clock(), jkt=JKT)
    offer(organisation, fresh)
    with pytest.raises(NotSignedIn):
        offer(organisation, used)
    organisation.clock.turn(hours=1)
    offer(
        organisation,
        sign_assertion(keys.signing, keys.id, DEPLOYMENT, organisation.clock(), jkt=JKT),
    )
    with organisation.services.database.reading() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(StaffSession)) == 1


Change = Callable[[Organisation, dict[str, Any], dict[str, Any]], Any]
"""Changes claims and header; may return another key to sign with."""


def _claim(name: str, value: Any) -> Change:
    return lambda _organisation, claims, _header: claims.__setitem__(name, value)


def _without(name: str) -> Change:
    def change(_organisation: Organisation, claims: dict[str, Any], _header: Any) -> None:
        del claims[name]

    return change


def _time(**moved: int) -> Change:
    def change(_organisation: Organisation, claims: dict[str, Any], _header: Any) -> None:
        for name, seconds in moved.items():
            claims[name] += seconds

    return change


def _by_somebody_else(organisation: Organisation, _claims: Any, _header: Any) -> SigningKey:
    return organisation.desks["chemical"][1].signing


def _by_nobody(_organisation: Organisation, claims: dict[str, Any], _header: Any) -> SigningKey:
    claims["iss"] = claims["sub"] = random_id()
    return SigningKey.generate()


def _issued_for_somebody_else(
    organisation: Organisation, claims: dict[str, Any], _header: Any
) -> None:
    claims["sub"] = organisation.desks["chemical"][1].id


FAULTS: dict[str, Change] = {
    "expired": _time(iat=-200, exp=-200),
    "from the future": _time(iat=31, exp=31),
    "valid for too long": _time(exp=120),
    "ending before it begins": _time(exp=-61),
    "for another audience": _claim("aud", "another-installation"),
    "for several audiences": _claim("aud", [DEPLOYMENT, "another-installation"]),
    "by an unknown key": lambda *_: SigningKey.generate(),
    "by another person's key": _by_somebody_else,
    "by somebody who is not in the directory": _by_nobody,
    "issued by one for another": _issued_for_somebody_else,
    "without expiry": _without("exp"),
    "without time of issue": _without("iat"),
    "without an id": _without("jti"),
    "without an issuer": _without("iss"),
    "without a subject": _without("sub"),
    "without an audience": _without("aud"),
    "bound to no key": _without("cnf"),
    "bound to a thief's key": _claim("cnf", {"jkt": "A" * 43}),
    "bound to what is no key": _claim("cnf", JKT),
    "with an id of another form": _claim("jti", "1"),
    "with an id that is a number": _claim("jti", 7),
    "with an expiry that is text": _claim("exp", "soon"),
    "with an expiry beyond all time": _claim("exp", 10**30),
    "with a subject that is a list": _claim("sub", ["a"]),
    "of another type": lambda _o, _c, header: header.__setitem__("typ", "at+jwt"),
    "of no type": lambda _o, _c, header: header.__setitem__("typ", "JWT"),
}


def build(organisation: Organisation, change: Change) -> str:
    keys = reader(organisation)
    issued = int(organisation.clock().timestamp())
    claims = {
        "iss": keys.id,
        "sub": keys.id,
        "aud": DEPLOYMENT,
        "iat": issued,
        "exp": issued + 60,
        "jti": random_id(),
        "cnf": {"jkt": JKT},
    }
    header = {"typ": TYPE}
    key = change(organisation, claims, header) or keys.signing
    # The library refuses to sign some of these faults, which a thief's program would not.
    signed = jwt.api_jws.encode(
        jwt.api_jwt.json.dumps(claims).encode(), key.private, algorithm=ALGORITHM, headers=header
    )
    return str(signed)


def test_the_assertion_from_which_the_faults_are_made_is_good(
    one_organisation: Organisation,
) -> None:
    assert offer(one_organisation, build(one_organisation, lambda *_: None))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_assertion_is_refused(one_organisation: Organisation, fault: str) -> None:
    with pytest.raises(NotSignedIn) as refused:
        offer(one_organisation, build(one_organisation, FAULTS[fault]))
    assert refused.value.headers == {"WWW-Authenticate": 'DPoP algs="EdDSA"'}


@pytest.mark.parametrize("algorithm", ["none", "HS256"])
def test_an_assertion_by_another_algorithm_is_refused(
    one_organisation: Organisation, algorithm: str
) -> None:
    keys = reader(one_organisation)
    claims = jwt.decode(
        build(one_organisation, lambda *_: None), options={"verify_signature": False}
    )
    # The public key as a shared secret: the classical confusion of algorithms.
    secret = None if algorithm == "none" else keys.signing.public
    forged = jwt.encode(claims, secret, algorithm=algorithm, headers={"typ": TYPE})
    with pytest.raises(NotSignedIn):
        offer(one_organisation, forged)


def test_a_clock_may_be_wrong_by_half_a_minute(one_organisation: Organisation) -> None:
    keys = reader(one_organisation)
    for seconds in (-29, 29):
        there = one_organisation.clock() + timedelta(seconds=seconds)
        assertion = sign_assertion(keys.signing, keys.id, DEPLOYMENT, there, jkt=JKT, seconds=30)
        assert offer(one_organisation, assertion) == keys.id


@given(text=st.one_of(st.text(max_size=400), st.from_regex(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.x")))
def test_no_text_but_an_assertion_signs_in(one_organisation: Organisation, text: str) -> None:
    with pytest.raises(NotSignedIn):
        offer(one_organisation, text)


def test_an_assertion_is_worth_nothing_to_who_has_not_its_dpop_key(
    one_organisation: Organisation,
) -> None:
    assertion = build(one_organisation, lambda *_: None)
    with pytest.raises(NotSignedIn):
        offer(one_organisation, assertion, SigningKey.generate())
    assert offer(one_organisation, assertion)


def test_several_first_sign_ins_of_one_person_at_once_all_succeed(
    organisation: Organisation,
) -> None:
    keys = reader(organisation)
    together, signed_in = threading.Barrier(8), []

    def go() -> None:
        assertion = sign_assertion(keys.signing, keys.id, DEPLOYMENT, organisation.clock(), jkt=JKT)
        together.wait()
        signed_in.append(offer(organisation, assertion))

    threads = [threading.Thread(target=go) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert signed_in == [keys.id] * 8


def test_one_assertion_offered_eight_times_at_once_signs_in_once(
    organisation: Organisation,
) -> None:
    keys = reader(organisation)
    assertion = sign_assertion(keys.signing, keys.id, DEPLOYMENT, organisation.clock(), jkt=JKT)
    together, outcomes = threading.Barrier(8), []

    def go() -> None:
        together.wait()
        try:
            outcomes.append(offer(organisation, assertion))
        except NotSignedIn:
            outcomes.append("refused")

    threads = [threading.Thread(target=go) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == sorted([keys.id, *["refused"] * 7])
