# SPDX-License-Identifier: AGPL-3.0-or-later
"""Sign in and out."""

from typing import Any

from flask import Response

from amana.access import service, signing_in
from amana.access.doors import actor, proof_header, request_urls
from amana.access.schemas import AssertionIn, SessionOut
from amana.access.staff import DPOP_HEADER, StaffBlueprint
from amana.access.tokens import SCHEME, issue
from amana.api.blueprints import Blueprint
from amana.api.doors import nobody_needs_to_sign_in
from amana.api.services import services

sessions = Blueprint("sessions", __name__, description="Staff sign in with a signed assertion.")
sessions.before_request(nobody_needs_to_sign_in)
signing_out = StaffBlueprint("signing-out", __name__, description="Staff sign out.")


@sessions.post("/v1/sessions")
@sessions.arguments(AssertionIn)
@sessions.response(201, SessionOut)
@sessions.problems(401, 403)
@sessions.doc(parameters=[DPOP_HEADER])
def sign_in(fields: dict[str, str]) -> dict[str, Any]:
    """Exchange an assertion for an access token of ten minutes."""
    began = signing_in.sign_in(services(), fields["assertion"], proof_header(), request_urls())
    return {
        "access_token": issue(began),
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
