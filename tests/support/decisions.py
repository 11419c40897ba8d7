"""What administrators decide about people, and somebody about whom they can."""

from typing import Any

from amana.client.keyfile import PersonKeys
from tests.support.newcomers import bring, enrolment, invite, new_keys
from tests.support.organisation import Organisation, Person


def decide(by: Person, kind: str, path: str, person: str, **body: Any) -> Any:
    """Let an administrator decide about a person."""
    return by.act(kind, f"/v1/people/{person}/{path}", person=person, **body)


def newcomer(
    organisation: Organisation,
    administrator: Person,
    role: str = "reviewer",
    desks: tuple[str, ...] = ("chemical",),
) -> PersonKeys:
    """Let somebody enrol, by default as a reviewer of the chemical desk."""
    keys, token = new_keys(role), invite(administrator, role, desks)
    document = enrolment(organisation, keys, token, role, desks)
    assert bring(organisation, token, document).status_code == 201
    return keys


def waiting(administrator: Person, person: str) -> list[dict[str, Any]]:
    """Return what waits of a person for the officers."""
    found = administrator.get("/v1/enrolments").get_json()["enrolments"]
    return [one for one in found if one["id"] == person]


def shown(administrator: Person, person: str) -> dict[str, Any]:
    """Return how a person is shown to administrators."""
    known = administrator.get("/v1/people").get_json()["people"]
    [one] = [one for one in known if one["id"] == person]
    return dict(one)
