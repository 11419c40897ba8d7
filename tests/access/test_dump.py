"""A dump of the database opens nothing: all that looks like a key or a token in it is tried, as thieves would."""

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jwt
import pytest
import sqlalchemy as sa

from amana.intake.models import Grant
from amana.ops.maintenance import maintain
from amana.protocol.age import Identity
from amana.protocol.case import open_grant
from amana.protocol.encoding import b64
from amana.protocol.errors import ProtocolError
from amana.protocol.sealing import Kind, open_sealed
from amana.protocol.signing import SigningKey
from tests.support.decisions import decide, newcomer
from tests.support.newcomers import bring, enrolment, invite, new_keys
from tests.support.organisation import Organisation, Person, organisation_in
from tests.support.vaults import Vaulted

LOOKS_LIKE_SOMETHING = re.compile(rb"[A-Za-z0-9+/=_.-]{16,4096}")
IDENTITY = re.compile(r"AGE-SECRET-KEY-[A-Z0-9-]+")
NONCE = re.compile(r"[a-z2-7]{32}")
SIGNATURE_ALONE = {
    "verify_exp": False,
    "verify_aud": False,
    "verify_iat": False,
    "verify_nbf": False,
}


def dump(organisation: Organisation) -> Iterator[bytes]:
    """Give every value of every row."""
    engine = organisation.services.database.engine
    with engine.connect() as connection:
        for table in sa.inspect(engine).get_table_names():
            for row in connection.execute(sa.select(sa.text("*")).select_from(sa.table(table))):
                for value in row:
                    is_binary = isinstance(value, bytes | memoryview)
                    yield bytes(value) if is_binary else str(value).encode()


def texts_in(values: Iterable[bytes]) -> set[str]:
    """Return all texts that could be a token, a nonce or a key, also what is inside Base64."""
    found: set[str] = set()
    waiting = list(values)
    while waiting:
        for one in LOOKS_LIKE_SOMETHING.findall(waiting.pop()):
            text = one.decode("ascii")
            if text not in found:
                found.add(text)
                waiting += decoded(text)
    return found


def decoded(text: str) -> list[bytes]:
    """Return what a text stands for in Base64 of either alphabet, and in hexadecimal."""
    found = []
    with suppress(binascii.Error, ValueError):
        found.append(base64.b64decode(text.translate(str.maketrans("-_", "+/")) + "==="))
    with suppress(ValueError):
        found.append(bytes.fromhex(text))
    return found


def seeds_in(values: Iterable[bytes], texts: Iterable[str]) -> set[bytes]:
    """Return all secrets of 32 bytes, of which every key here grows."""
    found = {one for one in values if len(one) == 32}
    for text in texts:
        found |= {one for one in decoded(text) if len(one) == 32}
        for identity in IDENTITY.findall(text):
            with suppress(ProtocolError):
                found.add(Identity.parse(identity).seed)
        if len(text) == 32:
            found.add(text.encode())
    return found


@dataclass
class Thief:
    """Somebody with a dump, keys of their own, and what was seen of one victim on the wire; tries everything everywhere."""

    victim: Person
    vaulted: Vaulted

    def __post_init__(self) -> None:
        self.organisation = self.victim.organisation
        self.me = Person(self.organisation, new_keys())
        with self.organisation.services.database.reading() as session:
            self.grants = session.execute(sa.select(Grant.case, Grant.sealed)).all()

    def opens(self, values: Iterable[bytes]) -> set[str]:
        """Return what the values open, by name."""
        kept = list(values)
        texts = texts_in(kept)
        seeds = seeds_in(kept, texts)
        tries: dict[str, tuple[Callable[[Any], bool], Iterable[Any]]] = {
            "door": (self.enters, texts),
            "sign-in": (self.signs_in, texts),
            "enrolment": (self.enrols, filter(NONCE.fullmatch, texts)),
            "person": (self.is_somebody, seeds),
            "tokens": (self.forges_tokens, seeds),
            "grant": (self.opens_grant, seeds),
            "case": (self.opens_case, seeds),
        }
        return {name for name, (attempt, things) in tries.items() if any(map(attempt, things))}

    def enters(self, text: str) -> bool:
        self.me.token = text
        return bool(self.me.get("/v1/cases").status_code == 200)

    def signs_in(self, text: str) -> bool:
        return bool(self.me.offer(text).status_code == 201)

    def enrols(self, text: str) -> bool:
        document = enrolment(self.organisation, self.me.keys, text)
        return bool(bring(self.organisation, text, document).status_code == 201)

    def is_somebody(self, seed: bytes) -> bool:
        key = SigningKey(seed)
        people = self.organisation.directory.people.values()
        whose = [one.id for one in people if one.signing_key == key.public]
        person = Person(self.organisation, replace(self.victim.keys, signing=key))
        return bool(whose) or person.offer(person.assertion()).status_code == 201

    def forges_tokens(self, seed: bytes) -> bool:
        """Tell whether this made the victim's token: it would make others."""
        with suppress(jwt.InvalidTokenError):
            jwt.decode(self.victim.token, seed, algorithms=["HS256"], options=SIGNATURE_ALONE)
            return True
        return False

    def opens_grant(self, seed: bytes) -> bool:
        identity = Identity(seed)
        for case, sealed in self.grants:
            with suppress(ProtocolError):
                open_grant(sealed, identity, case)
                return True
        return False

    def opens_case(self, seed: bytes) -> bool:
        with suppress(ProtocolError):
            open_sealed(self.vaulted.made.submission.manifest, Identity(seed), Kind.MANIFEST)
            return True
        return False


@pytest.fixture
def own(tmp_path: Path, database_url: str) -> Iterator[Organisation]:
    with organisation_in(tmp_path, database_url) as organisation:
        yield organisation


def test_all_that_a_database_holds_opens_nothing(own: Organisation) -> None:
    administrator = own.as_person(own.administrator).sign_in()
    newcomer(own, administrator)
    decide(administrator, "suspend", "suspension", own.desks["general"][1].id, reason="a test")
    vaulted = Vaulted.make(own)
    victim = vaulted.reader
    assert victim.open(vaulted.case).status_code == 201
    vaulted.released()
    assertion = victim.assertion()
    assert victim.offer(assertion).status_code == 201
    invitation = invite(administrator)
    maintain(own.services)
    thief = Thief(victim, vaulted)
    values = list(dump(own))
    assert thief.grants
    assert any(vaulted.case.encode() in one for one in values)
    assert thief.opens(values) == set()
    assert thief.opens([victim.token.encode(), assertion.encode(), victim.jkt.encode()]) == set()
    # That they are tried as they would have to be: this is what must not be in there.
    secrets = own.services.secrets
    assert victim.keys.intake is not None
    mine = thief.me.offer(victim.assertion(jkt=thief.me.jkt)).get_json()["access_token"]
    planted = {
        "door": mine.encode(),
        "sign-in": victim.assertion(jkt=thief.me.jkt).encode(),
        "tokens": secrets.tokens.current()[1],
        "grant": str(victim.keys.intake).encode(),
        "case": b64(vaulted.made.case_key.seed).encode(),
        "person": victim.keys.signing.seed.hex().encode(),
        "enrolment": b'{"token":"' + invitation.encode() + b'"}',
    }
    for name, secret in planted.items():
        assert thief.opens([secret]) == {name}
