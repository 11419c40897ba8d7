# SPDX-License-Identifier: AGPL-3.0-or-later
"""The surface of people: invitations, enrolments, decisions about people, and the record. It serves nothing sealed."""

import json
from datetime import date
from typing import Any

from flask import Response, request

from amana.access.actions import Moment
from amana.access.doors import actor, directory_now
from amana.access.staff import StaffBlueprint
from amana.api.blueprints import Blueprint
from amana.api.doors import nobody_needs_to_sign_in
from amana.api.services import services
from amana.directory import service as directory
from amana.errors import Unprocessable
from amana.people import record, schemas, service

ENROLMENT_LIMIT_BYTES = 32 * 1024

people = StaffBlueprint("people", __name__, description="Who may enter, and who did what.")
enrolling = Blueprint("enrolling", __name__, description="The invited bring their keys.")
enrolling.before_request(nobody_needs_to_sign_in)


def _moment() -> Moment:
    return Moment(directory_now(), services().clock())


def _split(fields: dict[str, Any], person: str | None = None) -> tuple[Any, dict[str, Any]]:
    """Return the action, and the body that it signs; what is signed of a person is the person of the address."""
    if person is not None and fields.pop("person") != person:
        raise Unprocessable("The action is about another person.", slug="action-refused")
    return fields.pop("action"), fields


@people.post("/v1/invitations")
@people.arguments(schemas.InvitationIn)
@people.response(201, schemas.InvitationMadeOut)
@people.problems(403, 409, 422)
def invite(fields: dict[str, Any]) -> dict[str, Any]:
    """Invite somebody, once, for a role."""
    action, body = _split(fields)
    with services().database.transaction() as session:
        made, token = service.invite(session, actor(), _moment(), action, body)
    return {"id": made.id, "token": token, "expires_on": made.expires_on}


@people.get("/v1/invitations")
@people.response(200, schemas.InvitationsOut)
@people.problems(403)
def invitations() -> dict[str, Any]:
    """List the invitations."""
    with services().database.reading() as session:
        return {"invitations": list(service.invitations(session, actor()))}


@people.post("/v1/invitations/<invitation>/withdrawal")
@people.arguments(schemas.WithdrawInvitationIn)
@people.response(204)
@people.problems(403, 404, 409, 422)
def withdraw_invitation(fields: dict[str, Any], invitation: str) -> Response:
    """Let nobody come with an invitation any more."""
    if fields["invitation"] != invitation:
        raise Unprocessable("The action is about another invitation.", slug="action-refused")
    with services().database.transaction() as session:
        service.withdraw_invitation(session, actor(), _moment(), invitation, fields["action"])
    return Response(status=204)


@enrolling.before_request
def limit_body() -> None:
    """Allow for an enrolment and nothing more."""
    request.max_content_length = ENROLMENT_LIMIT_BYTES


@enrolling.post("/v1/enrolments")
@enrolling.arguments(schemas.EnrolmentIn)
@enrolling.response(201, schemas.EnrolledOut)
@enrolling.problems(403, 409, 422)
def enrol(fields: dict[str, Any]) -> dict[str, str]:
    """Bring the public keys with which an invited person will work; the invitation is used up."""
    given = services()
    with given.database.transaction() as session:
        at = Moment(directory.current(session, given.caches), given.clock())
        return {"id": service.enrol(session, at, fields["token"], fields["enrolment"])}


@people.get("/v1/enrolments")
@people.response(200, schemas.WaitingListOut)
@people.problems(403)
def waiting() -> dict[str, Any]:
    """List who waits for the officers, with what they signed and what vetting recorded."""
    given = services()
    with given.database.reading() as session:
        found = service.waiting(session, actor(), _moment(), given.caches)
        return {"enrolments": [_waiting(one) for one in found]}


def _waiting(one: service.Waiting) -> dict[str, Any]:
    if one.replacement is not None:
        return {
            "id": one.person.id,
            "kind": "replacement",
            "intake_key": one.replacement.intake_key,
            "intake_key_sig": one.replacement.intake_key_sig,
            "action": json.loads(one.replacement.action),
            "asked_on": one.replacement.asked_on,
        }
    newcomer: dict[str, Any] = {
        "id": one.person.id,
        "kind": "new",
        "vetting": _vetting(one.person),
    }
    if one.enrolment is not None:
        newcomer["enrolment"] = json.loads(one.enrolment.document)
        newcomer["enrolled_on"] = one.enrolment.enrolled_on
    return newcomer


def _vetting(person: Any) -> dict[str, Any] | None:
    if person.vouchers is None:
        return None
    codes = ("languages", "specialities", "conflicts")
    return {
        "vouchers": json.loads(person.vouchers),
        "vetted_on": person.vetted_on,
        "valid_until": person.valid_until,
        **{name: [x for x in getattr(person, name).split(",") if x] for name in codes},
    }


@people.get("/v1/people")
@people.response(200, schemas.PeopleOut)
@people.problems(403)
def everybody() -> dict[str, Any]:
    """List everybody, and how they stand."""
    given = services()
    with given.database.reading() as session:
        return {"people": service.people(session, actor(), _moment(), given.caches)}


@people.post("/v1/people/<person>/vetting")
@people.arguments(schemas.VettingIn)
@people.response(204)
@people.problems(403, 404, 409, 422)
def vet(fields: dict[str, Any], person: str) -> Response:
    """Record what vetting found."""
    action, body = _split(fields, person)
    with services().database.transaction() as session:
        service.vet(session, actor(), _moment(), person, action, body)
    return Response(status=204)


@people.post("/v1/people/<person>/suspension")
@people.arguments(schemas.ReasonIn)
@people.response(201)
@people.problems(403, 404, 409, 422)
def suspend(fields: dict[str, Any], person: str) -> Response:
    """Put somebody out at once."""
    action, body = _split(fields, person)
    with services().database.transaction() as session:
        service.suspend(session, actor(), _moment(), person, action, body["reason"])
    return Response(status=201)


@people.post("/v1/people/<person>/reinstatement")
@people.arguments(schemas.ReasonIn)
@people.response(200, schemas.ReinstatedOut)
@people.problems(403, 404, 409, 422)
def reinstate(fields: dict[str, Any], person: str) -> dict[str, Any]:
    """Agree that a suspension ends; two administrators must."""
    action, body = _split(fields, person)
    with services().database.transaction() as session:
        consents = service.reinstate(session, actor(), _moment(), person, action, body["reason"])
    return {"reinstated": consents >= service.REINSTATING, "consents": consents}


@people.post("/v1/people/<person>/confirmation")
@people.arguments(schemas.ConfirmationIn)
@people.response(204)
@people.problems(403, 404, 409, 422)
def confirm(fields: dict[str, Any], person: str) -> Response:
    """Review a person's access: it goes on."""
    action, _ = _split(fields, person)
    with services().database.transaction() as session:
        service.confirm(session, actor(), _moment(), person, action)
    return Response(status=204)


@people.get("/v1/access-reviews")
@people.response(200, schemas.DueOut)
@people.problems(403)
def access_reviews() -> dict[str, Any]:
    """List whose access ends soon, or has ended, unless somebody confirms it, and who can."""
    given = services()
    with given.database.reading() as session:
        return vars(service.access_review(session, actor(), _moment(), given.caches))


@people.get("/v1/desks")
@people.response(200, schemas.DesksOut)
@people.problems(403)
def desks() -> dict[str, Any]:
    """List the desks and how much lies there."""
    with services().database.reading() as session:
        return {"desks": service.desks(session, actor(), _moment())}


@people.get("/v1/record")
@people.arguments(schemas.RecordIn, location="query", unknown="raise")
@people.response(200, schemas.RecordOut)
@people.problems(403, 404, 422)
def records(fields: dict[str, str]) -> dict[str, Any]:
    """Tell who could open what until the end of a day, who did, and who was suspended, reinstated or confirmed by whom."""
    given, person = services(), fields.get("person")
    day = date.fromisoformat(fields["day"]) if "day" in fields else given.today()
    with given.database.reading() as session:
        if person is None:
            found = record.of_day(session, actor(), day, given.caches, fields.get("cursor"))
            return {"day": day, **vars(found)}
        one = record.of_person(session, actor(), person, day, fields.get("cursor"))
    return {"day": day, "person": person, **vars(one)}


@people.post("/v1/conflicts")
@people.arguments(schemas.ConflictsIn)
@people.response(204)
@people.problems(403, 409, 422)
def declare_conflicts(fields: dict[str, Any]) -> Response:
    """Name places or people whose cases must not reach you."""
    action, body = _split(fields)
    with services().database.transaction() as session:
        service.declare_conflicts(session, actor(), _moment(), action, body["conflicts"])
    return Response(status=204)


@people.post("/v1/key-replacements")
@people.arguments(schemas.KeyReplacementIn)
@people.response(204)
@people.problems(403, 409, 422)
def replace_key(fields: dict[str, Any]) -> Response:
    """Ask the officers to list your new intake key."""
    action, body = _split(fields)
    with services().database.transaction() as session:
        service.replace_key(session, actor(), _moment(), action, body)
    return Response(status=204)


@people.get("/v1/returned-cases")
@people.response(200, schemas.ReturnedOut)
@people.problems(403)
def returned_cases() -> dict[str, Any]:
    """List the cases of your desks whose reader is gone: suspended, lapsed, dormant, expired, or not listed."""
    with services().database.reading() as session:
        return {"cases": record.returned(session, actor(), _moment())}


@people.get("/v1/leavers/<person>")
@people.arguments(schemas.CursorIn, location="query", unknown="raise")
@people.response(200, schemas.LeaverOut)
@people.problems(403, 404, 422)
def leaver(fields: dict[str, str], person: str) -> Any:
    """List what somebody who is gone could open at your desks."""
    with services().database.reading() as session:
        return record.leaver(session, actor(), _moment(), person, fields.get("cursor"))
