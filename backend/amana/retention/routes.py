# SPDX-License-Identifier: AGPL-3.0-or-later
"""The surface of keeping: whose review day has come, and a lead's word that a case is kept longer."""

from typing import Any

from amana.access.doors import actor, directory_now
from amana.access.staff import StaffBlueprint
from amana.api.services import services
from amana.retention import service
from amana.retention.schemas import ProlongationIn, ReviewOut, ReviewsOut
from amana.routing.routes import act

retention = StaffBlueprint("retention", __name__, description="How long cases are kept.")


@retention.get("/v1/retention")
@retention.response(200, ReviewsOut)
@retention.problems(403)
def due() -> dict[str, Any]:
    """List the cases of your desks whose review day has come, the longest kept first."""
    given = services()
    with given.database.reading() as session:
        return {"cases": service.due(session, actor(), directory_now(), given.today())}


@retention.get("/v1/cases/<case>/retention")
@retention.response(200, ReviewOut)
@retention.problems(403, 404, 410)
def of_case(case: str) -> Any:
    """Tell the review day of a case, and what follows on it."""
    given = services()
    with given.database.reading() as session:
        return service.of_case(session, actor(), case, directory_now(), given.today())


@retention.post("/v1/cases/<case>/prolongations")
@retention.arguments(ProlongationIn)
@retention.response(201, ReviewOut)
@retention.problems(403, 404, 409, 410, 422)
def prolong(fields: dict[str, Any], case: str) -> Any:
    """Set the review day of a case of your desk later, for a year at most."""
    until, reason = fields["until"], fields["reason"]
    with services().database.transaction() as session:
        return service.prolong(session, actor(), case, until=until, reason=reason, act=act(fields))
