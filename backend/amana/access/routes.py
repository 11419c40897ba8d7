# SPDX-License-Identifier: AGPL-3.0-or-later
"""Sign in and out."""

from datetime import UTC, datetime, timedelta
from typing import Any

from flask import Response

from amana.access import service
from amana.access.doors import actor, proof_header, request_urls
from amana.access.schemas import AssertionIn, SessionOut
from amana.access.staff import DPOP_HEADER, StaffBlueprint
from amana.access.tokens import SCHEME, issue
from amana.api.blueprints import Blueprint
from amana.api.doors import nobody_needs_to_sign_in
from amana.api.problems import MEDIA_TYPE, Problem
from amana.api.services import services
from amana.directory import service as directory

sessions = Blueprint("sessions", __name__, description="Staff sign in with a signed assertion.")
sessions.before_request(nobody_needs_to_sign_in)
signing_out = StaffBlueprint("signing-out", __name__, description="Staff sign out.")

FORGET_EVERY = timedelta(minutes=1)
_NEVER = datetime.min.replace(tzinfo=UTC)


@sessions.post("/v1/sessions")
@sessions.arguments(AssertionIn)
@sessions.response(201, SessionOut)
@sessions.alt_response(401, schema=Problem, content_type=MEDIA_TYPE)
@sessions.alt_response(403, schema=Problem, content_type=MEDIA_TYPE)
@sessions.doc(parameters=[DPOP_HEADER])
def sign_in(fields: dict[str, str]) -> dict[str, Any]:
    """Exchange an assertion for an access token of ten minutes."""
    given = services()
    proof, urls = proof_header(), request_urls()
    now = given.clock()
    with given.database.transaction() as session:
        if now - given.caches.get("forgotten", _NEVER) > FORGET_EVERY:
            given.caches["forgotten"] = now
            service.forget_what_is_over(session, now)
        current = directory.current(session, given.caches)
        made = service.sign_in(session, fields["assertion"], proof, urls, current, now)
    return {
        "access_token": issue(made),
        "expires_in": service.SESSION_SECONDS,
        "token_type": SCHEME,
    }


@signing_out.delete("/v1/sessions")
@signing_out.response(204)
@signing_out.problems()
def sign_out() -> Response:
    """End all your sessions, wherever they are."""
    with services().database.transaction() as session:
        service.sign_out(session, actor().id)
    return Response(status=204)
