# SPDX-License-Identifier: AGPL-3.0-or-later
"""Serve the directory to everyone, and take new versions from whoever brings the officers' signatures."""

from flask import Response, request

from amana.api.blueprints import Blueprint
from amana.api.doors import nobody_needs_to_sign_in
from amana.api.services import services
from amana.directory import service
from amana.directory.schemas import BundleIn, PublishedOut
from amana.protocol.encoding import unb64

BUNDLE_LIMIT_BYTES = 2**20

directory = Blueprint("directory", __name__, description="Whom the officers vouch for (TUF).")
directory_publication = Blueprint("directory-publication", __name__, description="New versions.")
for blueprint in (directory, directory_publication):
    blueprint.before_request(nobody_needs_to_sign_in)


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


@directory_publication.post("/v1/directory")
@directory_publication.arguments(BundleIn)
@directory_publication.response(200, PublishedOut)
@directory_publication.problems(409)
def publish(bundle: dict[str, dict[str, str]]) -> dict[str, int]:
    """Publish a version that the officers signed."""
    given = services()
    files = {
        part: {name: unb64(content) for name, content in bundle[part].items()}
        for part in ("metadata", "targets")
    }
    with given.database.transaction() as session:
        version = service.publish(
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
