# SPDX-License-Identifier: AGPL-3.0-or-later
"""The door to everything of staff: a token and a proof of its key, of a person who may work at this moment."""

import re

from flask import g, request

from amana.access.roles import Actor
from amana.access.service import actor_of, directory_of_session, entrant, refused
from amana.access.tokens import SCHEME, verified_claims
from amana.api.services import Services, services
from amana.directory import service as directory
from amana.protocol.directory import Directory
from amana.protocol.dpop import check_proof
from amana.protocol.errors import ProtocolError

_TOKEN = re.compile(r"[A-Za-z0-9_.-]{1,2048}")


def staff_must_sign_in() -> None:
    """Let pass only who is signed in and proves it for this very request, and remember who it is."""
    token = _token(request.environ.get("HTTP_AUTHORIZATION", ""))
    given = services()
    now = given.clock()
    try:
        claims = verified_claims(given, token)
        jkt = str(claims["cnf"]["jkt"])
        check_proof(
            proof_header(),
            method=request.method,
            urls=request_urls(),
            token=token,
            jkt=jkt,
            now=now,
        )
        person, token_id = str(claims["sub"]), str(claims["jti"])
    except (ProtocolError, KeyError, TypeError, UnicodeError):
        raise refused() from None
    except RecursionError:
        # A token whose JSON is nested beyond the stack.
        raise refused() from None
    version, signing_key = directory_of_session(given.database, token_id, person, jkt, now)
    current = directory.known(given.database, version, given.caches)
    who = actor_of(current, person)
    if who.signing_key != signing_key:
        # The officers replaced the key that signed in.
        raise refused()
    g.directory, g.actor = current, who


def must_still_be_let_in(given: Services, who: Actor) -> None:
    """Refuse somebody who was let in and is put out since; what they were sent until then, they have.

    Asked while an answer is being sent that takes longer than a token lives, so not whether theirs is over.
    """
    known = entrant(given.database, who.id)
    if known.directory is None or not known.may_work(given.today()):
        raise refused()
    listed = actor_of(directory.known(given.database, known.directory, given.caches), who.id)
    if listed.signing_key != who.signing_key:
        raise refused()


def _token(header: str) -> str:
    """Return the token, which stands alone: flask-jwt-extended would pick it out of several credentials."""
    scheme, _, token = header.partition(" ")
    if scheme != SCHEME or not _TOKEN.fullmatch(token):
        raise refused()
    return token


def proof_header() -> str:
    """Return the one DPoP header of this request (RFC 9449 §4.3: not more than one).

    WSGI hands over several joined by commas, which no proof contains.
    """
    proof: str = request.environ.get("HTTP_DPOP", "")
    return proof


def request_urls() -> frozenset[str]:
    """Return what a proof may name as the address of this request; whether TLS ended before us is unknown here."""
    # As it was sent: a path that was decoded cannot be told from another that was not encoded.
    target: str = request.environ.get("RAW_URI", request.path)
    address = request.host + services().config.base_path + target.partition("?")[0]
    return frozenset({f"https://{address}", f"http://{address}"})


def actor() -> Actor:
    """Return who makes this request."""
    found: Actor = g.actor
    return found


def directory_now() -> Directory:
    """Return the directory under which this request was let in."""
    found: Directory = g.directory
    return found
