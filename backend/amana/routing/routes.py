# SPDX-License-Identifier: AGPL-3.0-or-later
"""The surface of assignment: claim, release, recuse, hand over; leads' tasks; the rules. Nothing sealed is served here."""

from typing import Any

from flask import Response

from amana.access.actions import Act
from amana.access.doors import actor, directory_now
from amana.access.schemas import ActionIn
from amana.access.staff import StaffBlueprint
from amana.api.services import services
from amana.protocol.encoding import unb64
from amana.routing import schemas, service
from amana.routing.service import HandOver

routing = StaffBlueprint("routing", __name__, description="Who works on a case, and by what rules.")


def act(fields: dict[str, Any]) -> Act:
    """Return the signed action of a request, and what it was made under."""
    return Act(directory_now(), services().clock(), fields["action"])


@routing.post("/v1/cases/<case>/claims")
@routing.arguments(ActionIn)
@routing.response(204)
@routing.problems(403, 404, 409, 422)
def claim(fields: dict[str, Any], case: str) -> Response:
    """Take a case that was offered to you, or that nobody has claimed."""
    with services().database.transaction() as session:
        service.claim(session, actor(), case, act(fields))
    return Response(status=204)


@routing.post("/v1/cases/<case>/claims/release")
@routing.arguments(ActionIn)
@routing.response(204)
@routing.problems(403, 404, 409, 422)
def release(fields: dict[str, Any], case: str) -> Response:
    """Give a case back."""
    with services().database.transaction() as session:
        service.release(session, actor(), case, act(fields))
    return Response(status=204)


@routing.post("/v1/cases/<case>/recusals")
@routing.arguments(schemas.RecusalIn)
@routing.response(204)
@routing.problems(403, 404, 409, 422)
def recuse(fields: dict[str, Any], case: str) -> Response:
    """Say that you must not have a case, or that your grant does not open it."""
    with services().database.transaction() as session:
        service.recuse(session, actor(), case, fields["reason"], act(fields))
    return Response(status=204)


@routing.post("/v1/cases/<case>/hand-overs")
@routing.arguments(schemas.HandOverIn)
@routing.response(204)
@routing.problems(403, 404, 409, 422)
def hand_over(fields: dict[str, Any], case: str) -> Response:
    """Offer a case to a colleague, or ask one to read it too."""
    grant = None if fields["grant"] is None else unb64(fields["grant"])
    given = HandOver(fields["to"], fields["second"], fields["intake_key"], grant)
    with services().database.transaction() as session:
        service.hand_over(session, actor(), case, given, act(fields))
    return Response(status=204)


@routing.get("/v1/routing-tasks")
@routing.response(200, schemas.TasksOut)
@routing.problems(403)
def tasks() -> dict[str, Any]:
    """List the cases that found nobody, and why: of your desks, and of desks where no lead works."""
    given = services()
    with given.database.reading() as session:
        return {"tasks": service.tasks(session, actor(), directory_now(), given.today())}


@routing.get("/v1/rules")
@routing.response(200, schemas.RulesOut)
@routing.problems(403)
def rules() -> dict[str, Any]:
    """Return the rules in force."""
    with services().database.reading() as session:
        version, found = service.rules_seen(session, actor())
    return {"version": version, "rules": service.rules_document(found)}


@routing.post("/v1/rules")
@routing.arguments(schemas.RulesIn)
@routing.response(201, schemas.RulesOut)
@routing.problems(403, 409, 422)
def set_rules(fields: dict[str, Any]) -> dict[str, Any]:
    """Put new rules in force."""
    new = fields["rules"]
    with services().database.transaction() as session:
        version = service.set_rules(session, actor(), act(fields), new, fields["replaces"])
    return {"version": version, "rules": new}


@routing.get("/v1/rules/trials")
@routing.arguments(schemas.TrialIn, location="query", unknown="raise")
@routing.response(200, schemas.ChoiceOut)
@routing.problems(403, 422)
def try_rules(fields: dict[str, Any]) -> Any:
    """Tell whom a testimony with this policy would reach today, and why."""
    given = services()
    with given.database.reading() as session:
        return service.try_rules(session, actor(), directory_now(), given.today(), **fields)
