# SPDX-License-Identifier: AGPL-3.0-or-later
"""The desk's surface: the queue, openings, and sealed bytes under them."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

from flask import Response, request

from amana.access.doors import actor, directory_now, must_still_be_let_in
from amana.access.schemas import ActionIn
from amana.access.staff import StaffBlueprint
from amana.api.services import services
from amana.intake.service import policy_versions
from amana.protocol.encoding import b64, sha256_hex, unb64
from amana.review import service
from amana.review.ranges import RangeNotSatisfiable, parse_range
from amana.review.schemas import (
    CaseOut,
    CountsOut,
    DecisionIn,
    DeskIn,
    GrantsOut,
    HeldKeysOut,
    NoteIn,
    NoteMadeOut,
    NotesIn,
    NotesOut,
    OpeningOut,
    QueueIn,
    QueueOut,
    ReopeningIn,
    RewrapIn,
    StateOut,
)
from amana.routing import service as routing
from amana.routing.routes import act

CHECK_AFTER_BYTES = 4 * 2**20
CHECK_AFTER_SECONDS = 1.0

cases = StaffBlueprint(
    "cases", __name__, description="Cases, openings, and sealed bytes under them."
)


@cases.get("/v1/cases")
@cases.arguments(QueueIn, location="query", unknown="raise")
@cases.response(200, QueueOut)
@cases.problems(403)
def queue(fields: dict[str, Any]) -> dict[str, Any]:
    """List the cases that were sealed to you: urgent ones, then the newest, first."""
    _route_what_waits()
    with services().database.reading() as session:
        page, following = service.queue(
            session,
            actor(),
            desk=fields.get("desk"),
            state=fields.get("state"),
            cursor=fields.get("cursor"),
            limit=fields["limit"],
        )
        told = service.told(session, actor(), directory_now(), services().today())
    return {"cases": page, "next": following, **told}


def _route_what_waits() -> None:
    """Let routing look at what arrived at the actor's desks; it is pulled here, so that intake knows nothing of it."""
    given, desks = services(), actor().desks
    with given.database.reading() as session:
        if not (desks and routing.something_to_route(session, desks, given.today())):
            return
    with given.database.transaction() as session:
        routing.end_unclaimed(session, given.today())
        routing.route_received(session, directory_now(), given.today(), desks=desks)


@cases.get("/v1/case-counts")
@cases.arguments(DeskIn, location="query", unknown="raise")
@cases.response(200, CountsOut)
@cases.problems(403)
def counts(fields: dict[str, str]) -> dict[str, Any]:
    """Count your cases in each state, up to a thousand each."""
    with services().database.reading() as session:
        return {"counts": service.counts(session, actor(), fields.get("desk"))}


@cases.get("/v1/cases/<case>")
@cases.response(200, CaseOut)
@cases.problems(404)
def describe(case: str) -> dict[str, Any]:
    """Tell what may be known of a case without opening it."""
    with services().database.reading() as session:
        testimony = routing.case_of(session, actor(), case)
        uploads = service.objects_of(session, case)
        policies = policy_versions(session, testimony)
        assignments = routing.assignments_seen(session, actor(), testimony, directory_now())
    inline = testimony.account
    return {
        "case": testimony.case,
        "desk": testimony.desk,
        "state": testimony.state,
        "received_on": testimony.received_on,
        "policies": [{"policy": b64(policy), "received_on": day} for policy, day in policies],
        "assignments": assignments,
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
@cases.arguments(ActionIn)
@cases.response(201, OpeningOut)
@cases.problems(403, 404, 409, 422)
def open_case(fields: dict[str, Any], case: str) -> dict[str, Any]:
    """Open a case with a signed action; this is recorded."""
    with services().database.transaction() as session:
        action, until = service.open_case(session, actor(), case, act(fields))
    return {"opening": action.nonce, "valid_until": until}


@cases.get("/v1/cases/<case>/grants")
@cases.response(200, GrantsOut)
@cases.problems(403, 404)
def grants(case: str) -> dict[str, Any]:
    """Give your own grant of an opened case."""
    given = services()
    with given.database.reading() as session:
        grant = service.opened_grant(session, actor(), case, given.clock())
    sealed = {"reader": grant.reader, "intake_key": grant.intake_key, "grant": b64(grant.sealed)}
    return {"grants": [sealed]}


@cases.post("/v1/cases/<case>/re-wrappings")
@cases.arguments(ActionIn)
@cases.response(204)
@cases.problems(403, 404, 409, 422)
def announce_rewrap(fields: dict[str, Any], case: str) -> Response:
    """Say with a signed action that you seal your own grant anew; nothing else of the case is served."""
    with services().database.transaction() as session:
        service.announce_rewrap(session, actor(), case, act(fields))
    return Response(status=204)


@cases.get("/v1/intake-keys")
@cases.response(200, HeldKeysOut)
@cases.problems(403)
def held_keys() -> dict[str, Any]:
    """Count what is sealed to each of your keys, also what is still arriving and what lies at other desks."""
    with services().database.reading() as session:
        return {"intake_keys": service.held_keys(session, actor())}


@cases.post("/v1/cases/<case>/grants")
@cases.arguments(RewrapIn)
@cases.response(204)
@cases.problems(403, 404, 409, 422)
def rewrap(fields: dict[str, Any], case: str) -> Response:
    """Replace your own grant of an opened case by one to your next key."""
    name, grant = fields["intake_key"], unb64(fields["grant"])
    with services().database.transaction() as session:
        service.rewrap(session, actor(), case, act(fields), intake_key=name, grant=grant)
    return Response(status=204)


@cases.get("/v1/cases/<case>/manifest")
@cases.response(200, content_type="application/octet-stream")
@cases.problems(403, 404)
def manifest(case: str) -> Response:
    """Give the sealed manifest of an opened case."""
    given = services()
    with given.database.reading() as session:
        testimony = service.opened(session, actor(), case, given.clock())
    return Response(testimony.manifest, content_type="application/octet-stream")


@cases.get("/v1/cases/<case>/objects/<int:n>")
@cases.response(200, content_type="application/octet-stream")
@cases.alt_response(206, description="The range that was asked for.")
@cases.problems(403, 404, 416)
def sealed_object(case: str, n: int) -> Response:
    """Give a sealed object of an opened case, or a range of it; whoever takes it checks its hash."""
    given = services()
    with given.database.reading() as session:
        testimony = service.opened(session, actor(), case, given.clock())
        stored = service.stored_object(session, testimony, n)
    reader = actor()

    def check() -> None:
        with given.database.reading() as session:
            service.served(session, reader, case, given.today())

    return serve_object(stored, check)


def serve_object(stored: service.Stored, check: Callable[[], object]) -> Response:
    """Answer with sealed bytes, or the range that was asked for; `check` raises when they may not be sent on.

    Neither may they when whoever asked is put out meanwhile.
    """
    given, who = services(), actor()

    def may_go_on() -> None:
        must_still_be_let_in(given, who)
        check()

    etag = f'"{stored.sha256}"'
    # A part is worth nothing to whoever holds parts of something else (RFC 9110 §13.1.5).
    same = request.headers.get("If-Range", etag) == etag
    try:
        wanted = parse_range(request.headers.get("Range") if same else None, stored.size)
    except RangeNotSatisfiable:
        raise service.RangeRefused(headers={"Content-Range": f"bytes */{stored.size}"}) from None
    start, end = wanted or (0, stored.size)
    body: Iterator[bytes] | bytes = (
        _while_served(given.blobs.read(stored.key, start, end - start), may_go_on)
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


def _while_served(blocks: Iterator[bytes], check: Callable[[], object]) -> Iterator[bytes]:
    """Go on only while it may be served; a withdrawal or a suspension ends what is already running."""
    sent, checked_at = 0, time.monotonic()
    for block in blocks:
        if sent >= CHECK_AFTER_BYTES or time.monotonic() - checked_at >= CHECK_AFTER_SECONDS:
            check()
            sent, checked_at = 0, time.monotonic()
        sent += len(block)
        yield block


@cases.post("/v1/cases/<case>/notes")
@cases.arguments(NoteIn)
@cases.response(201, NoteMadeOut)
@cases.problems(403, 404, 409, 422)
def add_note(fields: dict[str, Any], case: str) -> Any:
    """Add a sealed note to a case that you have."""
    sealed, audience = unb64(fields["sealed"]), fields["audience"]
    with services().database.transaction() as session:
        return service.add_note(
            session, actor(), case, act(fields), audience=audience, sealed=sealed
        )


@cases.get("/v1/cases/<case>/notes")
@cases.arguments(NotesIn, location="query", unknown="raise")
@cases.response(200, NotesOut)
@cases.problems(403, 404, 422)
def notes(fields: dict[str, int], case: str) -> dict[str, Any]:
    """Give the next notes of an opened case, those for its readers and your own."""
    given = services()
    with given.database.reading() as session:
        return {"notes": service.notes(session, actor(), case, given.clock(), fields["after"])}


@cases.post("/v1/cases/<case>/decisions")
@cases.arguments(DecisionIn)
@cases.response(201, StateOut)
@cases.problems(403, 404, 409, 422)
def decide(fields: dict[str, Any], case: str) -> dict[str, str]:
    """Decide a case, with a sealed reason."""
    reason, decision = unb64(fields["reason"]), fields["decision"]
    with services().database.transaction() as session:
        state = service.decide(
            session, actor(), case, act(fields), decision=decision, reason=reason
        )
    return {"state": state}


@cases.post("/v1/cases/<case>/resumptions")
@cases.arguments(ActionIn)
@cases.response(201, StateOut)
@cases.problems(403, 404, 409, 410, 422)
def resume(fields: dict[str, Any], case: str) -> dict[str, str]:
    """Go on with a case whose witness was asked."""
    with services().database.transaction() as session:
        return {"state": service.resume(session, actor(), case, act(fields))}


@cases.post("/v1/cases/<case>/reopenings")
@cases.arguments(ReopeningIn)
@cases.response(201, StateOut)
@cases.problems(403, 404, 409, 410, 422)
def reopen(fields: dict[str, Any], case: str) -> dict[str, str]:
    """Take the decision about a case back, with a sealed reason."""
    reason = unb64(fields["reason"])
    with services().database.transaction() as session:
        return {"state": service.reopen(session, actor(), case, act(fields), reason)}
