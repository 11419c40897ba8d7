# SPDX-License-Identifier: AGPL-3.0-or-later
"""The surface of the vault: requests, answers, what is released, and custodians who come and go."""

from typing import Any

from flask import Response

from amana.access.doors import actor, directory_now
from amana.access.schemas import ActionIn
from amana.access.staff import StaffBlueprint
from amana.api.services import services
from amana.protocol.encoding import unb64
from amana.review.routes import serve_object
from amana.review.service import Stored
from amana.routing.routes import act
from amana.vault import resharing, schemas, service
from amana.vault.resharing import GivenPiece
from amana.vault.service import Given

releases = StaffBlueprint(
    "releases", __name__, description="Who the witness is, released by custodians."
)


@releases.post("/v1/cases/<case>/releases")
@releases.arguments(schemas.RequestIn)
@releases.response(201, schemas.RequestedOut)
@releases.problems(403, 404, 409, 410, 422)
def request_release(fields: dict[str, Any], case: str) -> Any:
    """Ask the custodians for a vault of a case that you have."""
    body = {name: value for name, value in fields.items() if name != "action"}
    with services().database.transaction() as session:
        return service.request(session, actor(), case, act(fields), body)


@releases.get("/v1/cases/<case>/releases")
@releases.response(200, schemas.OwnReleasesOut)
@releases.problems(403, 404)
def own_requests(case: str) -> dict[str, Any]:
    """Tell what lies in the vault of a case, your own requests about it, and what was answered."""
    given = services()
    with given.database.reading() as session:
        vaults = service.vaults_of(session, actor(), case, directory_now())
        found = service.requests_of(session, actor(), case, given.today())
    return {"vaults": vaults, "releases": found}


@releases.get("/v1/releases")
@releases.response(200, schemas.PendingsOut)
@releases.problems(403)
def pending() -> dict[str, Any]:
    """List the requests that wait for your answer as a custodian."""
    given = services()
    with given.database.reading() as session:
        return {"releases": service.pending(session, actor(), directory_now(), given.today())}


@releases.get("/v1/releases/<request>")
@releases.response(200, schemas.EvidenceOut)
@releases.problems(403, 404, 409, 410)
def evidence(request: str) -> dict[str, Any]:
    """Give what a custodian's program verifies of a request."""
    given = services()
    with given.database.reading() as session:
        seen = service.asked(session, actor(), request, directory_now(), given.today())
        return service.evidence(session, seen)


@releases.post("/v1/releases/<request>/openings")
@releases.arguments(ActionIn)
@releases.response(201, schemas.OwnSharesOut)
@releases.problems(403, 404, 409, 410, 422)
def own_shares(fields: dict[str, Any], request: str) -> dict[str, Any]:
    """Take your own shares of a vault, to seal them to the reader who asks; this is recorded."""
    with services().database.transaction() as session:
        return {"shares": service.announce_share(session, actor(), request, act(fields))}


@releases.post("/v1/releases/<request>/shares")
@releases.arguments(schemas.SharesIn)
@releases.response(201, schemas.AnsweredOut)
@releases.problems(403, 404, 409, 410, 422)
def share(fields: dict[str, Any], request: str) -> Any:
    """Release your part: your shares, sealed to the reader who asks."""
    given = [Given(tuple(one["subset"]), unb64(one["sealed"])) for one in fields["shares"]]
    with services().database.transaction() as session:
        return service.share(session, actor(), request, act(fields), given)


@releases.post("/v1/releases/<request>/refusals")
@releases.arguments(schemas.DeclineIn)
@releases.response(201, schemas.AnsweredOut)
@releases.problems(403, 404, 409, 410, 422)
def decline(fields: dict[str, Any], request: str) -> Any:
    """Decline a request, with a reason that only its reader can open."""
    reason = unb64(fields["reason"])
    with services().database.transaction() as session:
        return service.decline(session, actor(), request, act(fields), reason)


@releases.post("/v1/releases/<request>/readings")
@releases.arguments(ActionIn)
@releases.response(201, schemas.ReleasedSharesOut)
@releases.problems(403, 404, 409, 410, 422)
def open_release(fields: dict[str, Any], request: str) -> dict[str, Any]:
    """Take what custodians sealed to you; this is recorded, and told to the witness."""
    with services().database.transaction() as session:
        return {"shares": service.open_release(session, actor(), request, act(fields))}


@releases.get("/v1/releases/<request>/objects/<int:n>")
@releases.response(200, content_type="application/octet-stream")
@releases.alt_response(206, description="The range that was asked for.")
@releases.problems(403, 404, 409, 410, 416)
def released_object(request: str, n: int) -> Response:
    """Give a sealed object of a vault, or a range of it, while its release works."""
    given, reader, now = services(), actor(), directory_now()

    def find() -> Stored:
        with given.database.reading() as session:
            return service.released_object(session, reader, request, n, now, given.clock())

    return serve_object(find(), find)


@releases.get("/v1/re-sharings")
@releases.arguments(schemas.AfterIn, location="query", unknown="raise")
@releases.response(200, schemas.WorksOut)
@releases.problems(403, 422)
def to_share_anew(fields: dict[str, Any]) -> dict[str, Any]:
    """List vaults of which you hold shares and whose custodians, or their keys, changed."""
    with services().database.reading() as session:
        found = resharing.waiting(session, actor(), directory_now(), fields["after"])
        return {"vaults": found, "held": resharing.held(session, actor())}


@releases.post("/v1/cases/<case>/re-sharings/openings")
@releases.arguments(schemas.SourceIn)
@releases.response(201, schemas.OwnSharesOut)
@releases.problems(403, 404, 409, 410, 422)
def own_share_of_set(fields: dict[str, Any], case: str) -> dict[str, Any]:
    """Take your own share of a set, to split it for the new custodians; this is recorded."""
    vault, source = fields["vault"], tuple(fields["source"])
    with services().database.transaction() as session:
        shares = resharing.announce(session, actor(), case, vault, source, act(fields))
    return {"shares": shares}


@releases.post("/v1/cases/<case>/re-sharings")
@releases.arguments(schemas.PiecesIn)
@releases.response(201, schemas.SharedAnewOut)
@releases.problems(403, 404, 409, 410, 422)
def share_anew(fields: dict[str, Any], case: str) -> dict[str, Any]:
    """Add your pieces for the new custodians; once all of your set have, they are the shares."""
    vault, source = fields["vault"], tuple(fields["source"])
    given = [
        GivenPiece(tuple(one["subset"]), one["custodian"], unb64(one["sealed"]))
        for one in fields["pieces"]
    ]
    with services().database.transaction() as session:
        done = resharing.add_pieces(session, actor(), case, vault, source, act(fields), given)
    return {"complete": done}
