# SPDX-License-Identifier: AGPL-3.0-or-later
"""Sign in and out, and take new versions of the directory from whoever brings the officers' signatures."""

from typing import Any

from flask import Response, request

from amana.access import service, signing_in
from amana.access.doors import actor, proof_header, request_urls
from amana.access.publishing import publish
from amana.access.schemas import AssertionIn, SessionOut
from amana.access.staff import DPOP_HEADER, StaffBlueprint
from amana.access.tokens import SCHEME, issue
from amana.api.blueprints import Blueprint
from amana.api.doors import nobody_needs_to_sign_in
from amana.api.services import services
from amana.directory.schemas import BundleIn, PublishedOut
from amana.protocol.encoding import unb64

BUNDLE_LIMIT_BYTES = 2**20

sessions = Blueprint("sessions", __name__, description="Staff sign in with a signed assertion.")
directory_publication = Blueprint("directory-publication", __name__, description="New versions.")
for blueprint in (sessions, directory_publication):
    blueprint.before_request(nobody_needs_to_sign_in)
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


@directory_publication.post("/v1/directory")
@directory_publication.arguments(BundleIn)
@directory_publication.response(200, PublishedOut)
@directory_publication.problems(409)
def publish_directory(bundle: dict[str, dict[str, str]]) -> dict[str, int]:
    """Publish a version that the officers signed."""
    given = services()
    files = {
        part: {name: unb64(content) for name, content in bundle[part].items()}
        for part in ("metadata", "targets")
    }
    with given.database.transaction() as session:
        version = publish(
            session,
            **files,
            trusted_root=given.trusted_root(),
            online=given.secrets.online,
            now=given.clock(),
        )
    return {"version": version}


@directory_publication.before_request
def limit_body() -> None:
    """Allow for more than other requests bring."""
    request.max_content_length = BUNDLE_LIMIT_BYTES
