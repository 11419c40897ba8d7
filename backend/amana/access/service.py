# SPDX-License-Identifier: AGPL-3.0-or-later
"""Sign in with a signed assertion; be somebody only as long as the directory says so. Never imports Flask, never commits."""

from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from amana.access.models import UsedAssertion
from amana.access.roles import Actor, Permission
from amana.errors import NotAllowed, NotSignedIn
from amana.protocol.assertion import ALGORITHM, CLOCK_SKEW_SECONDS, MAX_SECONDS, TYPE
from amana.protocol.directory import Directory
from amana.protocol.encoding import check_id
from amana.protocol.errors import ProtocolError
from amana.protocol.signing import public_key

LIMIT_CHARACTERS = 2048


def refused() -> NotSignedIn:
    """Return the one answer to every failed sign-in, whatever was wrong."""
    return NotSignedIn(headers={"WWW-Authenticate": "Bearer"})


def sign_in(session: Session, assertion: str, directory: Directory, now: datetime) -> Actor:
    """Verify an assertion (RFC 7523 §3) and return who signed it; it works once."""
    try:
        if len(assertion) > LIMIT_CHARACTERS:
            raise refused()
        header = jwt.get_unverified_header(assertion)
        claimed = jwt.decode(assertion, options={"verify_signature": False})
        if header.get("typ") != TYPE or header.get("alg") != ALGORITHM:
            raise refused()
        actor = actor_of(directory, check_id(claimed.get("sub")))
        claims = _verified(assertion, actor, directory.deployment, now)
        jti, expires_at = check_id(claims["jti"]), datetime.fromtimestamp(claims["exp"], UTC)
    except (jwt.PyJWTError, ProtocolError, KeyError, ValueError, TypeError, OverflowError):
        raise refused() from None
    _use_once(session, jti, expires_at, now)
    return actor


def _verified(assertion: str, actor: Actor, audience: str, now: datetime) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(
        assertion,
        key=public_key(actor.signing_key),
        algorithms=[ALGORITHM],
        audience=audience,
        issuer=actor.id,
        options={
            "require": ["iss", "sub", "aud", "exp", "iat", "jti"],
            # The times are compared below, with the clock that the service was given.
            "verify_exp": False,
            "verify_iat": False,
            "verify_nbf": False,
        },
    )
    moment = now.timestamp()
    issued, expires = claims["iat"], claims["exp"]
    if not (type(issued) is int and type(expires) is int and 0 < expires - issued <= MAX_SECONDS):
        raise refused()
    if not issued - CLOCK_SKEW_SECONDS <= moment < expires + CLOCK_SKEW_SECONDS:
        raise refused()
    if not isinstance(claims["aud"], str):
        raise refused()
    return claims


def _use_once(session: Session, jti: str, expires_at: datetime, now: datetime) -> None:
    gone = now - timedelta(seconds=MAX_SECONDS + 2 * CLOCK_SKEW_SECONDS)
    session.execute(sa.delete(UsedAssertion).where(UsedAssertion.expires_at < gone))
    try:
        session.execute(sa.insert(UsedAssertion).values(jti=jti, expires_at=expires_at))
    except IntegrityError:
        raise refused() from None


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
