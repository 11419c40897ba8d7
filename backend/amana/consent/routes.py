# SPDX-License-Identifier: AGPL-3.0-or-later
"""Where a witness's statements come in, anonymously: the control key's signature is the only authority."""

from typing import Any

from flask import Response, request

from amana.access.doors import actor
from amana.access.staff import StaffBlueprint
from amana.api.blueprints import Blueprint
from amana.api.doors import nobody_needs_to_sign_in
from amana.api.services import services
from amana.consent import service
from amana.consent.destroying import destroy_behind
from amana.consent.schemas import HistoryOut, StatementIn, StatusOut
from amana.directory import service as directory
from amana.errors import Unprocessable
from amana.protocol.control import LIMIT_BYTES, parse_control
from amana.protocol.encoding import canonical

PADDED_BYTES = 16 * 1024

control = Blueprint("control", __name__, description="What a witness says with the codename alone.")
control.before_request(nobody_needs_to_sign_in)
histories = StaffBlueprint("histories", __name__, description="What a witness signed about a case.")


@control.post("/v1/control")
@control.arguments(StatementIn)
@control.response(200, StatusOut)
@control.problems(404, 409, 410, 422)
def state(fields: dict[str, Any]) -> dict[str, Any]:
    """Tell how a testimony stands; change its consent, withdraw it, or take that back."""
    given, statement = services(), parse_control(fields["statement"])
    today = given.today()
    with given.database.reading() as session:
        now = directory.current(session, given.caches)
    if statement.deployment != now.deployment:
        raise Unprocessable(
            "The statement was made for another installation.", slug="deployment-unknown"
        )
    service.check_when(statement, today)
    receipt, is_due = None, False
    with given.database.transaction() as session:
        if statement.kind == "status":
            testimony = service.ask(session, statement, today)
        else:
            taken = service.change(
                session,
                statement,
                document=canonical(fields["statement"]),
                texts={(text.id, text.sha256) for text in now.consent_texts},
                today=today,
                custody_log=given.secrets.custody_log,
            )
            receipt, is_due, testimony = taken.receipt, taken.is_due, taken.testimony
        told = service.status(session, testimony, today)
    if is_due:
        destroy_behind(given)
    return {**told, "receipt": receipt}


@histories.get("/v1/cases/<case>/consent")
@histories.response(200, HistoryOut)
@histories.problems(403, 404, 410)
def history(case: str) -> service.History:
    """Give the policies and statements of an opened case, as its witness signed them."""
    given = services()
    with given.database.reading() as session:
        return service.history(session, actor(), case, given.clock())


@control.before_request
def limit_body() -> None:
    """Allow for a statement with a policy in it, in any spelling."""
    request.max_content_length = 2 * LIMIT_BYTES


@control.after_request
def pad(response: Response) -> Response:
    """Give answers one length: whoever watches the network is not to see that somebody was asked, or opened something."""
    body = response.get_data()
    response.set_data(body + b" " * (-len(body) % PADDED_BYTES))
    return response
