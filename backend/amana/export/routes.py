# SPDX-License-Identifier: AGPL-3.0-or-later
"""The desk's surface of exports and custody: asked, decided, reported, received. The bundle itself never passes here."""

from typing import Any

from amana.access.doors import actor, directory_now
from amana.access.staff import StaffBlueprint
from amana.api.services import services
from amana.export import schemas, service
from amana.export.service import Asked
from amana.routing.routes import act

exports = StaffBlueprint("exports", __name__, description="What leaves, with proof; custody.")


def _asked(fields: dict[str, Any]) -> Asked:
    releases = tuple((one["vault"], one["request"]) for one in fields["releases"])
    return Asked(fields["to"], fields["purpose"], fields["identity_level"], releases)


@exports.post("/v1/cases/<case>/exports")
@exports.arguments(schemas.ExportIn)
@exports.response(201, schemas.ExportStateOut)
@exports.problems(403, 404, 409, 410, 422)
def ask(fields: dict[str, Any], case: str) -> Any:
    """Ask that an accepted case may go to a partner; consent is judged at once."""
    with services().database.transaction() as session:
        return service.request(session, actor(), case, act(fields), _asked(fields))


@exports.get("/v1/exports")
@exports.arguments(schemas.ExportsIn, location="query", unknown="raise")
@exports.response(200, schemas.ExportsOut)
@exports.problems(403, 404)
def listed(fields: dict[str, Any]) -> dict[str, Any]:
    """List exports: all to administrators and auditors, to readers their own."""
    state, case = fields.get("state"), fields.get("case")
    with services().database.reading() as session:
        return {"exports": service.listed(session, actor(), state=state, case=case)}


@exports.post("/v1/exports/<export>/decisions")
@exports.arguments(schemas.ExportDecisionIn)
@exports.response(200, schemas.ExportStateOut)
@exports.problems(403, 404, 409, 410, 422)
def decide(fields: dict[str, Any], export: str) -> Any:
    """Approve or refuse an export that somebody else asked for."""
    decision, request = fields["decision"], fields["request"]
    with services().database.transaction() as session:
        return service.decide(
            session,
            actor(),
            export,
            act(fields),
            decision=decision,
            asked=_asked(fields),
            request=request,
            custody=fields["custody"],
        )


@exports.get("/v1/exports/<export>/leave")
@exports.response(200, schemas.ExportStateOut)
@exports.problems(403, 404, 409, 410, 422)
def leave(export: str) -> Any:
    """Tell whether an approved export may go on at this moment; its client asks while it assembles."""
    given = services()
    with given.database.reading() as session:
        return service.served(session, actor(), export, directory_now(), given.today())


@exports.post("/v1/exports/<export>/completion")
@exports.arguments(schemas.CompletionIn)
@exports.response(200, schemas.ExportStateOut)
@exports.problems(403, 404, 409, 410, 422)
def complete(fields: dict[str, Any], export: str) -> Any:
    """Report the hash and size of the bundle that was made."""
    made = {name: fields[name] for name in ("bag_sha256", "sealed_sha256", "size")}
    with services().database.transaction() as session:
        return service.complete(session, actor(), export, act(fields), **made)


@exports.post("/v1/exports/<export>/receipt")
@exports.arguments(schemas.HandoverIn)
@exports.response(200, schemas.ExportStateOut)
@exports.problems(403, 404, 409, 422)
def receipt(fields: dict[str, Any], export: str) -> Any:
    """File the receipt that the partner signed."""
    with services().database.transaction() as session:
        return service.file_receipt(session, actor(), export, act(fields), fields["receipt"])


@exports.get("/v1/cases/<case>/custody")
@exports.arguments(schemas.CustodyIn, location="query", unknown="raise")
@exports.response(200, schemas.CustodyOut)
@exports.problems(403, 404, 410)
def custody(fields: dict[str, str], case: str) -> dict[str, Any]:
    """Give what happened with a case, each event with the key that proves it."""
    with services().database.reading() as session:
        return {"events": service.custody_of(session, actor(), case, fields.get("after"))}
