# SPDX-License-Identifier: AGPL-3.0-or-later
"""Sign in with a signed assertion; be somebody only as long as the directory and one's standing say so. Never commits."""

import json
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import jwt
import sqlalchemy as sa
from cryptography.exceptions import InvalidSignature
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from amana.access.models import Person, StaffSession, Suspension, UsedAssertion
from amana.access.roles import Actor, Permission
from amana.access.standing import Facts, Standing, standing
from amana.directory.models import DirectoryVersion
from amana.errors import NotAllowed, NotSignedIn
from amana.protocol.assertion import ALGORITHM, CLOCK_SKEW_SECONDS, MAX_SECONDS, TYPE
from amana.protocol.case import intake_key_id
from amana.protocol.directory import Directory
from amana.protocol.directory import Person as Listed
from amana.protocol.dpop import check_proof
from amana.protocol.encoding import check_id, random_id
from amana.protocol.errors import ProtocolError
from amana.protocol.signing import public_key
from amana.storage.database import table_of

LIMIT_CHARACTERS = 2048
SESSION_SECONDS = 600


@dataclass(frozen=True)
class Bound:
    """A session that began: its id, whose it is, and the thumbprint of the key that it is bound to."""

    id: str
    person: str
    jkt: str


_REFUSED_AT_SIGN_IN = {
    Standing.SUSPENDED: ("suspended", "An administrator suspended you."),
    Standing.LAPSED: ("access-lapsed", "No administrator confirmed your access in time."),
    Standing.DORMANT: ("access-dormant", "You were away for too long; ask an administrator."),
    Standing.EXPIRED: ("access-expired", "Your vetting is over; ask an administrator."),
}


def refused() -> NotSignedIn:
    """Return the one answer to every failed sign-in, whatever was wrong."""
    return NotSignedIn(headers={"WWW-Authenticate": f'DPoP algs="{ALGORITHM}"'})


def sign_in(
    session: Session,
    assertion: str,
    proof: str,
    urls: frozenset[str],
    directory: Directory,
    now: datetime,
) -> Bound:
    """Verify an assertion (RFC 7523 §3) and the proof of its DPoP key; the assertion works once.

    Whoever does not stand as they must is told so, having proven who they are: NotAllowed.
    """
    try:
        actor, claims = _verified(assertion, directory, now)
        jkt = claims["cnf"]["jkt"]
        check_proof(proof, method="POST", urls=urls, token=None, jkt=jkt, now=now)
        jti, expires_at = check_id(claims["jti"]), datetime.fromtimestamp(claims["exp"], UTC)
    except (jwt.PyJWTError, InvalidSignature, ProtocolError, RecursionError):
        raise refused() from None
    except (LookupError, ValueError, TypeError, AttributeError, ArithmeticError):
        raise refused() from None
    connection, today = session.connection(), now.date()
    try:
        connection.execute(_USE_ONCE, {"jti": jti, "expires_at": expires_at})
    except IntegrityError:
        raise refused() from None
    row = connection.execute(_STANDS, {"person": actor.id}).one_or_none()
    if row is None or _as_listed(directory, actor) != {k: getattr(row, k) for k in _LISTED}:
        person_row(session, directory, actor.id, today)
        row = connection.execute(_STANDS, {"person": actor.id}).one()
    found = standing(_facts(row), today)
    if found is not Standing.ACTIVE:
        slug, title = _REFUSED_AT_SIGN_IN[found]
        raise NotAllowed(title, slug=slug)
    if row.last_active_on != today:
        active = sa.update(Person).where(Person.id == actor.id)
        session.execute(active.values(last_active_on=today))
    made = Bound(random_id(), actor.id, jkt)
    expires_at = now.astimezone(UTC) + timedelta(seconds=SESSION_SECONDS)
    connection.execute(_BEGIN, {**asdict(made), "expires_at": expires_at})
    return made


def forget_what_is_over(session: Session, now: datetime) -> None:
    """Delete assertions that could not come again anyway, and sessions that are over."""
    gone = now - timedelta(seconds=MAX_SECONDS + 2 * CLOCK_SKEW_SECONDS)
    session.execute(sa.delete(UsedAssertion).where(UsedAssertion.expires_at < gone))
    session.execute(sa.delete(StaffSession).where(StaffSession.expires_at < now.astimezone(UTC)))


def sign_out(session: Session, person: str) -> None:
    """End all sessions of a person, at once."""
    session.execute(sa.delete(StaffSession).where(StaffSession.person == person))


def _verified(assertion: str, directory: Directory, now: datetime) -> tuple[Actor, dict[str, Any]]:
    if len(assertion) > LIMIT_CHARACTERS:
        raise refused()
    parts = jwt.api_jws.decode_complete(assertion, options={"verify_signature": False})
    header, claims = parts["header"], json.loads(parts["payload"])
    if (
        header.get("typ") != TYPE
        or header.get("alg") != ALGORITHM
        or header.keys() & {"crit", "b64"}
    ):
        raise refused()
    actor = actor_of(directory, check_id(claims.get("sub")))
    # PyJWT wants the key before it reads whose it is; the signature is verified before anything else counts.
    signed = assertion.rpartition(".")[0].encode("ascii")
    public_key(actor.signing_key).verify(parts["signature"], signed)
    if claims["iss"] != actor.id or claims["aud"] != directory.deployment:
        raise refused()
    moment = now.timestamp()
    issued, expires = claims["iat"], claims["exp"]
    if not (type(issued) is int and type(expires) is int and 0 < expires - issued <= MAX_SECONDS):
        raise refused()
    if not issued - CLOCK_SKEW_SECONDS <= moment < expires + CLOCK_SKEW_SECONDS:
        raise refused()
    return actor, claims


_PERSON, _SESSION, _SUSPENSION = table_of(Person), table_of(StaffSession), table_of(Suspension)
_LISTED = ("role", "desks", "signing_key", "intake_key")
_FACTS = (
    _PERSON.c.confirmed_on,
    _PERSON.c.last_active_on,
    _PERSON.c.first_seen_on,
    _PERSON.c.valid_until,
    sa.exists()
    .where(_SUSPENSION.c.person == _PERSON.c.id, _SUSPENSION.c.lifted_at.is_(None))
    .label("suspended"),
)
# Built once, and one statement: every request of staff begins with it.
_WHO = (
    sa.select(
        _SESSION.c.jkt,
        _SESSION.c.expires_at,
        _PERSON.c.signing_key,
        *_FACTS,
        sa.select(sa.func.max(table_of(DirectoryVersion).c.version))
        .scalar_subquery()
        .label("directory"),
    )
    .join(_PERSON, _PERSON.c.id == _SESSION.c.person)
    .where(_SESSION.c.id == sa.bindparam("session"), _PERSON.c.id == sa.bindparam("person"))
)
_STANDS = sa.select(*(_PERSON.c[name] for name in _LISTED), *_FACTS).where(
    _PERSON.c.id == sa.bindparam("person")
)
_USE_ONCE, _BEGIN = sa.insert(table_of(UsedAssertion)), sa.insert(_SESSION)


def _facts(row: Any) -> Facts:
    return Facts(
        suspended=row.suspended,
        confirmed_on=row.confirmed_on,
        seen_on=row.last_active_on or row.first_seen_on,
        valid_until=row.valid_until,
    )


def directory_of_session(
    connection: sa.Connection, token_id: str, person: str, jkt: str, now: datetime
) -> tuple[int, str]:
    """Return the version of today's directory, and the key by which the person of a session came.

    Refuses when the session is over, or its person does not stand as they must.
    """
    row = connection.execute(_WHO, {"session": token_id, "person": person}).one_or_none()
    if row is None or row.jkt != jkt or row.directory is None:
        raise refused()
    expires_at = (
        row.expires_at.replace(tzinfo=UTC) if row.expires_at.tzinfo is None else row.expires_at
    )
    if expires_at <= now or standing(_facts(row), now.date()) is not Standing.ACTIVE:
        raise refused()
    return row.directory, row.signing_key


def facts_of(session: Session, person: Person) -> Facts:
    """Return what decides how a person stands."""
    query = sa.select(Suspension.id).where(
        Suspension.person == person.id, Suspension.lifted_at.is_(None)
    )
    return Facts(
        suspended=session.scalar(query) is not None,
        confirmed_on=person.confirmed_on,
        seen_on=person.last_active_on or person.first_seen_on,
        valid_until=person.valid_until,
    )


def person_row(session: Session, directory: Directory, person: str, today: date) -> Person:
    """Return the row of somebody whom the directory lists, as it lists them now; made when it is missing.

    Those of the first directory, and whoever came by hand, never enrolled.
    """
    listed = directory.person(person)
    if listed is None:
        raise refused()
    row = session.get(Person, person) or _new_row(session, listed, today)
    if row.signing_key != listed.signing_key:
        # Whoever signed in with the key before may be a thief.
        sign_out(session, person)
    for name, value in _as_listed(directory, listed).items():
        setattr(row, name, value)
    session.flush()
    return row


def _as_listed(directory: Directory, listed: Listed | Actor) -> dict[str, str | None]:
    """Return what a person's row repeats of the directory."""
    return {
        "role": "lead" if "lead" in listed.roles else min(listed.roles),
        "desks": ",".join(sorted(listed.desks)),
        "signing_key": listed.signing_key,
        "intake_key": intake_key_of(directory, listed.id),
    }


def _new_row(session: Session, listed: Listed, today: date) -> Person:
    """Make the row of somebody who never enrolled; another request of theirs may be doing the same."""
    row = Person(
        id=listed.id,
        role="",
        signing_key=listed.signing_key,
        first_seen_on=today,
        confirmed_on=today,
    )
    try:
        with session.begin_nested():
            session.add(row)
    except IntegrityError:
        made = session.get(Person, listed.id)
        if made is None:
            # Somebody else here has this key.
            raise refused() from None
        return made
    return row


def intake_key_of(directory: Directory, person: str) -> str | None:
    """Return the short name of the intake key that the directory lists for somebody."""
    listed = directory.intake_key(person)
    return None if listed is None else intake_key_id(listed)


def actor_of(directory: Directory, person: str) -> Actor:
    """Return a person as the directory has them now; one who is not there is nobody."""
    found = directory.person(person)
    if found is None:
        raise refused()
    return Actor(found.id, found.roles, found.desks, found.signing_key)


def require(actor: Actor, permission: Permission) -> None:
    """Refuse an actor whose roles do not carry a permission."""
    if not actor.may(permission):
        raise NotAllowed
