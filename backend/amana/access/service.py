# SPDX-License-Identifier: AGPL-3.0-or-later
"""Sign in with a signed assertion; be somebody only as long as the directory and one's standing say so. Never commits."""

from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from amana.access.models import Person, StaffSession, Suspension
from amana.access.roles import Actor, Permission
from amana.access.standing import Facts, Standing, review_due_on, standing
from amana.directory.models import DirectoryVersion
from amana.errors import NotAllowed, NotSignedIn
from amana.protocol.assertion import CLOCK_SKEW_SECONDS, MAX_SECONDS, TYPE
from amana.protocol.case import intake_key_id
from amana.protocol.directory import Directory
from amana.protocol.directory import Person as Listed
from amana.protocol.dpop import check_proof
from amana.protocol.encoding import check_id, unb64
from amana.protocol.errors import ProtocolError
from amana.protocol.jws import ALGORITHM, Jws, read_header, split_jws
from amana.storage.database import Database, insert_new, table_of

NOBODYS_KEY = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
SESSION_SECONDS = 600
"""Longer than an assertion can live, so that its session tells of it for as long (MAX_SECONDS and the clocks' skew)."""


@dataclass(frozen=True)
class Bound:
    """A session: its id, whose it is, and the thumbprint of the key that it is bound to."""

    id: str
    person: str
    jkt: str

    def row(self, now: datetime) -> dict[str, Any]:
        """Return the session's row, as it is when it begins."""
        expires_at = now.astimezone(UTC) + timedelta(seconds=SESSION_SECONDS)
        return {**asdict(self), "expires_at": expires_at, "is_over": False}


_REFUSED_AT_SIGN_IN = {
    Standing.SUSPENDED: ("suspended", "An administrator suspended you."),
    Standing.LAPSED: ("access-lapsed", "No administrator confirmed your access in time."),
    Standing.DORMANT: ("access-dormant", "You were away for too long; ask an administrator."),
    Standing.EXPIRED: ("access-expired", "Your vetting is over; ask an administrator."),
}


def refused() -> NotSignedIn:
    """Return the one answer to every failed sign-in, whatever was wrong."""
    return NotSignedIn(headers={"WWW-Authenticate": f'DPoP algs="{ALGORITHM}"'})


@dataclass(frozen=True)
class Assertion:
    """An assertion as it reads (RFC 7523 §3); nothing in it counts before `verified`, but to find whose it may be."""

    jws: Jws
    claims: dict[str, Any]
    person: str
    id: str

    @classmethod
    def read(cls, text: str) -> "Assertion":
        try:
            jws = split_jws(text)
            read_header(jws.header, TYPE)
            claims = jws.claims()
            return cls(jws, claims, check_id(claims.get("sub")), check_id(claims.get("jti")))
        except ProtocolError:
            raise refused() from None


def verified(
    assertion: Assertion, proof: str, urls: frozenset[str], directory: Directory, now: datetime
) -> Bound:
    """Verify an assertion and the proof of its DPoP key; returns the session that it may begin."""
    claims, listed = assertion.claims, directory.person(assertion.person)
    try:
        # Who is unknown takes as long as who signs wrongly.
        assertion.jws.verify(NOBODYS_KEY if listed is None else unb64(listed.signing_key, 32))
        actor = actor_of(directory, assertion.person)
        jkt = claims["cnf"]["jkt"]
        check_proof(proof, method="POST", urls=urls, token=None, jkt=jkt, now=now)
        names_us = claims["iss"] == actor.id and claims["aud"] == directory.deployment
        issued, expires = claims["iat"], claims["exp"]
    except (ProtocolError, KeyError, TypeError):
        raise refused() from None
    if not (names_us and type(issued) is int and type(expires) is int):
        raise refused()
    is_valid_now = issued - CLOCK_SKEW_SECONDS <= now.timestamp() < expires + CLOCK_SKEW_SECONDS
    if not (is_valid_now and 0 < expires - issued <= MAX_SECONDS):
        raise refused()
    return Bound(assertion.id, actor.id, jkt)


def entrant(database: Database, person: str) -> "Entrant":
    """Return what is known here of somebody who may be signing in, and the version of today's directory."""
    directory, signing_key, *others = database.ask(_ENTERS, person=person) or (None, None)
    if signing_key is None:
        return Entrant(directory, None, None, None)
    role, desks, intake_key, *facts = others
    listed = {"role": role, "desks": desks, "signing_key": signing_key, "intake_key": intake_key}
    return Entrant(directory, listed, _facts(*facts), facts[2])


@dataclass(frozen=True)
class Entrant:
    """What the database knows of somebody before they enter; all but the directory's version is None of a stranger."""

    directory: int | None
    listed: dict[str, str | None] | None
    facts: Facts | None
    last_active_on: date | None

    def may_work(self, today: date) -> bool:
        """Tell whether they stand as they must."""
        return self.facts is not None and standing(self.facts, today) is Standing.ACTIVE

    def has_nothing_new(self, directory: Directory, person: str, today: date) -> bool:
        """Tell whether nobody and nothing changed them since they signed in earlier today."""
        return (
            self.last_active_on == today
            and self.may_work(today)
            and self.listed == _as_listed(directory, actor_of(directory, person))
        )


def begin(session: Session, made: Bound, directory: Directory, now: datetime) -> None:
    """Begin a session after whatever the directory or the day changed about its person.

    Whoever does not stand as they must is told so, having proven who they are: NotAllowed.
    """
    today = now.date()
    row = person_row(session, directory, made.person)
    try:
        session.execute(sa.insert(StaffSession).values(made.row(now)))
    except IntegrityError:
        raise refused() from None
    found = standing(facts_of(session, row), today)
    if found is not Standing.ACTIVE:
        slug, title = _REFUSED_AT_SIGN_IN[found]
        raise NotAllowed(title, slug=slug)
    row.last_active_on = today


def forget_what_is_over(session: Session, now: datetime) -> None:
    """Delete sessions whose token is over, and with it the assertion, which lives shorter."""
    session.execute(sa.delete(StaffSession).where(StaffSession.expires_at < now.astimezone(UTC)))


def sign_out(session: Session, person: str) -> None:
    """End all sessions of a person, at once."""
    query = sa.update(StaffSession).where(StaffSession.person == person)
    session.execute(query.values(is_over=True))


SESSIONS = table_of(StaffSession)
_PERSON, _SUSPENSION = table_of(Person), table_of(Suspension)
_FACTS = (
    sa.exists().where(_SUSPENSION.c.person == _PERSON.c.id, _SUSPENSION.c.lifted_at.is_(None)),
    _PERSON.c.confirmed_on,
    _PERSON.c.last_active_on,
    _PERSON.c.first_seen_on,
    _PERSON.c.valid_until,
)
_NEWEST = sa.select(sa.func.max(table_of(DirectoryVersion).c.version).label("version")).subquery()
# Built once, and one statement each: with _WHO begins every request of staff.
_WHO = (
    sa.select(
        _NEWEST.c.version, _PERSON.c.signing_key, SESSIONS.c.jkt, SESSIONS.c.expires_at, *_FACTS
    )
    .select_from(SESSIONS.join(_PERSON, _PERSON.c.id == SESSIONS.c.person).join(_NEWEST, sa.true()))
    .where(
        SESSIONS.c.id == sa.bindparam("session"),
        _PERSON.c.id == sa.bindparam("person"),
        sa.not_(SESSIONS.c.is_over),
    )
)
_ENTERS = sa.select(
    _NEWEST.c.version,
    _PERSON.c.signing_key,
    _PERSON.c.role,
    _PERSON.c.desks,
    _PERSON.c.intake_key,
    *_FACTS,
).select_from(_NEWEST.outerjoin(_PERSON, _PERSON.c.id == sa.bindparam("person")))


def _facts(
    suspended: bool,
    confirmed_on: date,
    last_active_on: date | None,
    first_seen_on: date,
    valid_until: date | None,
) -> Facts:
    return Facts(suspended, confirmed_on, last_active_on or first_seen_on, valid_until)


def directory_of_session(
    database: Database, token_id: str, person: str, jkt: str, now: datetime
) -> tuple[int, str]:
    """Return the version of today's directory, and the key by which the person of a session came.

    Refuses when the session is over, or its person does not stand as they must.
    """
    row = database.ask(_WHO, session=token_id, person=person)
    if row is None:
        raise refused()
    version, signing_key, bound_to, expires_at, *facts = row
    if version is None or bound_to != jkt:
        raise refused()
    if expires_at.tzinfo is None:
        expires_at = expires_at.replace(tzinfo=UTC)
    if expires_at <= now or standing(_facts(*facts), now.date()) is not Standing.ACTIVE:
        raise refused()
    return version, signing_key


def facts_of(session: Session, person: Person) -> Facts:
    """Return the same, having asked whether they are suspended."""
    query = sa.select(Suspension.id).where(
        Suspension.person == person.id, Suspension.lifted_at.is_(None)
    )
    return facts(person, is_suspended=session.scalar(query) is not None)


def administrators(session: Session, directory: Directory, today: date) -> dict[str, date | None]:
    """Return who administers and may work today, each with the last day of their access if nobody confirms it.

    None stands for somebody of whom nothing else is known here.
    """
    found: dict[str, date | None] = {
        one.id: None for one in directory.people.values() if "administrator" in one.roles
    }
    suspended = sa.exists().where(Suspension.person == Person.id, Suspension.lifted_at.is_(None))
    for row, is_suspended in session.execute(
        sa.select(Person, suspended).where(Person.id.in_(found))
    ):
        if standing(facts(row, is_suspended=is_suspended), today) is Standing.ACTIVE:
            found[row.id] = review_due_on(row.confirmed_on)
        else:
            del found[row.id]
    return found


def facts(person: Person, *, is_suspended: bool) -> Facts:
    """Return what decides how a person stands."""
    return _facts(
        is_suspended,
        person.confirmed_on,
        person.last_active_on,
        person.first_seen_on,
        person.valid_until,
    )


def receive(session: Session, directory: Directory) -> None:
    """Make the rows of the listed who have none; their days begin with the publication of this version.

    Those of the first directory, and whoever came by hand, never enrolled. Whose key is another's here gets none.
    """
    published = sa.select(DirectoryVersion.published_on).where(
        DirectoryVersion.version == directory.version
    )
    day = session.scalar(published)
    rows = [
        {
            "id": one.id,
            **_as_listed(directory, one),
            "first_seen_on": day,
            "confirmed_on": day,
        }
        for _, one in sorted(directory.people.items())
    ]
    insert_new(session, table_of(Person), rows)


def person_row(session: Session, directory: Directory, person: str) -> Person:
    """Return the row of somebody whom the directory lists, as it lists them now."""
    listed = directory.person(person)
    if listed is None:
        raise refused()
    row = session.get(Person, person)
    if row is None:
        # The version is from before rows were made when it is published.
        receive(session, directory)
        row = session.get(Person, person)
    if row is None:
        raise refused()
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
