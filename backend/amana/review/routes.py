# SPDX-License-Identifier: AGPL-3.0-or-later
"""The desk's surface: the queue, openings, and sealed bytes under them."""

import json
from collections.abc import Iterator
from typing import Any

from flask import Response, request

from amana.access.doors import actor, directory_now, staff_must_sign_in
from amana.access.routes import DPOP_HEADER
from amana.api.blueprints import Blueprint
from amana.api.problems import MEDIA_TYPE, Problem
from amana.api.services import services
from amana.protocol.encoding import b64, sha256_hex, unb64
from amana.review import service
from amana.review.ranges import RangeNotSatisfiable, parse_range
from amana.review.schemas import (
    CaseOut,
    GrantsOut,
    HeldKeysOut,
    OpeningIn,
    OpeningOut,
    QueueIn,
    QueueOut,
    RewrapIn,
)

cases = Blueprint("cases", __name__, description="Cases, openings, and sealed bytes under them.")
cases.before_request(staff_must_sign_in)


def problems(*statuses: int) -> Any:
    """Document the problems that a view answers with, and that it needs a token."""

    def decorate(view: Any) -> Any:
        for status in reversed((401, *statuses)):
            view = cases.alt_response(status, schema=Problem, content_type=MEDIA_TYPE)(view)
        return cases.doc(security=[{"dpop": []}], parameters=[DPOP_HEADER])(view)

    return decorate


@cases.get("/v1/cases")
@cases.arguments(QueueIn, location="query", unknown="raise")
@cases.response(200, QueueOut)
@problems(403)
def queue(fields: dict[str, Any]) -> dict[str, Any]:
    """List the cases that were sealed to you, newest first."""
    with services().database.reading() as session:
        page, following = service.queue(
            session,
            actor(),
            desk=fields.get("desk"),
            state=fields.get("state"),
            cursor=fields.get("cursor"),
            limit=fields["limit"],
        )
    return {"cases": page, "next": following}


@cases.get("/v1/cases/<case>")
@cases.response(200, CaseOut)
@problems(404)
def describe(case: str) -> dict[str, Any]:
    """Tell what may be known of a case without opening it."""
    with services().database.reading() as session:
        testimony = service.case_of(session, actor(), case)
        uploads = service.objects_of(session, case)
    inline = testimony.account
    return {
        "case": testimony.case,
        "desk": testimony.desk,
        "state": testimony.state,
        "received_on": testimony.received_on,
        "policy": b64(testimony.policy),
        "receipt": json.loads(testimony.receipt or "{}"),
        "objects": [
            *(
                [{"i": 0, "size": len(inline), "sealed_sha256": sha256_hex(inline)}]
                if inline
                else []
            ),
            *({"i": x.n, "size": x.size, "sealed_sha256": x.sealed_sha256} for x in uploads),
        ],
    }


@cases.post("/v1/cases/<case>/openings")
@cases.arguments(OpeningIn)
@cases.response(201, OpeningOut)
@problems(403, 404, 409, 422)
def open_case(fields: dict[str, Any], case: str) -> dict[str, Any]:
    """Open a case with a signed action; this is recorded."""
    given = services()
    with given.database.transaction() as session:
        action, until = service.open_case(
            session, actor(), case, fields["action"], directory_now(), given.clock()
        )
    return {"opening": action.nonce, "valid_until": until}


@cases.get("/v1/cases/<case>/grants")
@cases.response(200, GrantsOut)
@problems(403, 404)
def grants(case: str) -> dict[str, Any]:
    """Give your own grant of an opened case."""
    given = services()
    with given.database.reading() as session:
        grant = service.opened_grant(session, actor(), case, given.clock())
    sealed = {"reader": grant.reader, "intake_key": grant.intake_key, "grant": b64(grant.sealed)}
    return {"grants": [sealed]}


@cases.post("/v1/cases/<case>/re-wrappings")
@cases.arguments(OpeningIn)
@cases.response(204)
@problems(403, 404, 409, 422)
def announce_rewrap(fields: dict[str, Any], case: str) -> Response:
    """Say with a signed action that you seal your own grant anew; nothing else of the case is served."""
    given = services()
    act = (fields["action"], directory_now(), given.clock())
    with given.database.transaction() as session:
        service.announce_rewrap(session, actor(), case, *act)
    return Response(status=204)


@cases.get("/v1/intake-keys")
@cases.response(200, HeldKeysOut)
@problems(403)
def held_keys() -> dict[str, Any]:
    """Count what is sealed to each of your keys, also what is still arriving and what lies at other desks."""
    with services().database.reading() as session:
        return {"intake_keys": service.held_keys(session, actor())}


@cases.post("/v1/cases/<case>/grants")
@cases.arguments(RewrapIn)
@cases.response(204)
@problems(403, 404, 409, 422)
def rewrap(fields: dict[str, Any], case: str) -> Response:
    """Replace your own grant of an opened case by one to your next key."""
    given, name, grant = services(), fields["intake_key"], unb64(fields["grant"])
    act = (fields["action"], directory_now(), given.clock())
    with given.database.transaction() as session:
        service.rewrap(session, actor(), case, *act, intake_key=name, grant=grant)
    return Response(status=204)


@cases.get("/v1/cases/<case>/manifest")
@cases.response(200, content_type="application/octet-stream")
@problems(403, 404)
def manifest(case: str) -> Response:
    """Give the sealed manifest of an opened case."""
    given = services()
    with given.database.reading() as session:
        testimony = service.opened(session, actor(), case, given.clock())
    return Response(testimony.manifest, content_type="application/octet-stream")


@cases.get("/v1/cases/<case>/objects/<int:n>")
@cases.response(200, content_type="application/octet-stream")
@cases.alt_response(206, description="The range that was asked for.")
@problems(403, 404, 416)
def sealed_object(case: str, n: int) -> Response:
    """Give a sealed object of an opened case, or a range of it; whoever takes it checks its hash."""
    given = services()
    with given.database.reading() as session:
        testimony = service.opened(session, actor(), case, given.clock())
        stored = service.stored_object(session, testimony, n)
    etag = f'"{stored.sha256}"'
    # A part is worth nothing to whoever holds parts of something else (RFC 9110 §13.1.5).
    same = request.headers.get("If-Range", etag) == etag
    try:
        wanted = parse_range(request.headers.get("Range") if same else None, stored.size)
    except RangeNotSatisfiable:
        raise service.RangeRefused(headers={"Content-Range": f"bytes */{stored.size}"}) from None
    start, end = wanted or (0, stored.size)
    body: Iterator[bytes] | bytes = (
        given.blobs.read(stored.key, start, end - start)
        if stored.inline is None
        else stored.inline[start:end]
    )
    response = Response(body, 206 if wanted else 200, content_type="application/octet-stream")
    response.headers["Content-Length"] = str(end - start)
    response.headers["Accept-Ranges"] = "bytes"
    response.headers["ETag"] = etag
    response.headers["Content-Disposition"] = "attachment"
    if wanted:
        response.headers["Content-Range"] = f"bytes {start}-{end - 1}/{stored.size}"
    return response
