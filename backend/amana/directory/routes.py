# SPDX-License-Identifier: AGPL-3.0-or-later
"""Serve the directory to everyone."""

from flask import Response, request

from amana.api.blueprints import Blueprint
from amana.api.doors import nobody_needs_to_sign_in
from amana.api.services import services
from amana.directory import service

directory = Blueprint("directory", __name__, description="Whom the officers vouch for (TUF).")
directory.before_request(nobody_needs_to_sign_in)


@directory.get("/v1/directory/<path:name>")
@directory.response(200, description="The file.")
@directory.problems(404)
def get_file(name: str) -> Response:
    """Give one file of the directory."""
    given = services()
    with given.database.reading() as session:
        content = service.file(session, name)
    if name == service.TIMESTAMP and service.is_stale(content, given.clock()):
        with given.database.transaction() as session:
            service.refresh(session, given.secrets.online, given.clock())
            content = service.file(session, name)
    response = Response(content, content_type="application/json")
    # Names with a version or a hash in them never change.
    kept = name != service.TIMESTAMP
    response.headers["Cache-Control"] = "public, max-age=86400, immutable" if kept else "no-cache"
    response.add_etag()
    response.make_conditional(request)
    return response
