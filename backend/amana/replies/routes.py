# SPDX-License-Identifier: AGPL-3.0-or-later
"""The dead drop's two doors: readers put questions in, and everybody downloads whole shards."""

import re
from typing import Any

from flask import Response, request

from amana.access.doors import actor, directory_now
from amana.access.staff import StaffBlueprint
from amana.api.blueprints import Blueprint
from amana.api.doors import nobody_needs_to_sign_in
from amana.api.services import services
from amana.directory import service as directory
from amana.protocol.encoding import unb64
from amana.replies import service
from amana.replies.schemas import AskedOut, QuestionIn
from amana.replies.service import Place, Question
from amana.routing.routes import act

QUESTION_LIMIT_BYTES = 128 * 1024
FRESH_SECONDS = 600
_NUMBER = re.compile(r"0|[1-9][0-9]{0,4}")

asking = StaffBlueprint("asking", __name__, description="Questions to witnesses.")
drop = Blueprint("drop", __name__, description="The dead drop: whole shards, for everybody.")
drop.before_request(nobody_needs_to_sign_in)


@asking.post("/v1/drop")
@asking.arguments(QuestionIn)
@asking.response(201, AskedOut)
@asking.problems(403, 404, 409, 410, 422)
def ask(fields: dict[str, Any]) -> dict[str, int]:
    """Ask the witness of the case that the action names; of the slots nothing is kept with the case."""
    question = Question(
        commitment=fields["commitment"],
        reason=unb64(fields["reason"]),
        salt=unb64(fields["salt"], 32),
        bits=fields["bits"],
        shard=fields["shard"],
        slots=tuple(unb64(one) for one in fields["slots"]),
    )
    bits = directory_now().drop_bits
    with services().database.transaction() as session:
        return {"left": service.ask(session, actor(), question, act(fields), bits=bits)}


@asking.before_request
def limit_body() -> None:
    """Allow for eight slots and a long note."""
    request.max_content_length = QUESTION_LIMIT_BYTES


@drop.get("/v1/drop/<bits>/<shard>")
@drop.response(200, content_type="application/octet-stream")
@drop.alt_response(304, description="The shard is the one that the client has.")
@drop.problems(404)
def shard(bits: str, shard: str) -> Response:
    """Give a whole shard; its bytes change once a day, with the batch."""
    if not (_NUMBER.fullmatch(bits) and _NUMBER.fullmatch(shard)):
        raise service.ShardUnknown
    given = services()
    with given.database.reading() as session:
        now = directory.current(session, given.caches).drop_bits
        cache = given.caches.setdefault("drop", {})
        found = service.served(session, Place(int(bits), int(shard)), now, cache)
    response = Response(found.content, content_type="application/octet-stream")
    response.headers["Cache-Control"] = f"public, max-age={FRESH_SECONDS}"
    response.set_etag(found.etag)
    response.make_conditional(request)
    return response
