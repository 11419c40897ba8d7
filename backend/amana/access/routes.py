# SPDX-License-Identifier: AGPL-3.0-or-later
"""Sign in."""

from typing import Any

from flask_smorest import Blueprint

from amana.access import service
from amana.access.schemas import AssertionIn, SessionOut
from amana.access.tokens import TOKEN_SECONDS, issue
from amana.api.doors import nobody_needs_to_sign_in
from amana.api.problems import MEDIA_TYPE, Problem
from amana.api.services import services
from amana.directory import service as directory

sessions = Blueprint("sessions", __name__, description="Staff sign in with a signed assertion.")
sessions.before_request(nobody_needs_to_sign_in)


@sessions.post("/v1/sessions")
@sessions.arguments(AssertionIn)
@sessions.response(201, SessionOut)
@sessions.alt_response(401, schema=Problem, content_type=MEDIA_TYPE)
def sign_in(fields: dict[str, str]) -> dict[str, Any]:
    """Exchange an assertion for an access token of ten minutes."""
    given = services()
    with given.database.transaction() as session:
        now = directory.current(session, given.caches)
        actor = service.sign_in(session, fields["assertion"], now, given.clock())
    return {"access_token": issue(actor.id), "expires_in": TOKEN_SECONDS}
