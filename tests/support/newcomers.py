"""Somebody whom an administrator invites, and what they bring."""

from datetime import timedelta
from typing import Any

from amana.client.keyfile import PersonKeys, intake_key_fields
from amana.ops.demo import DEPLOYMENT
from amana.protocol.enrolment import WITH_INTAKE_KEY, make_enrolment
from tests.support.organisation import Organisation, Person

KEY_ROLES = {"lead": "reviewer"}


def invite(
    administrator: Person,
    role: str = "reviewer",
    desks: tuple[str, ...] = ("chemical",),
    days: int = 7,
) -> str:
    """Let an administrator invite somebody; returns the token."""
    return invitation(administrator, role, desks, days)[1]


def invitation(
    administrator: Person,
    role: str = "reviewer",
    desks: tuple[str, ...] = ("chemical",),
    days: int = 7,
) -> tuple[str, str]:
    """Let an administrator invite somebody; returns the invitation's id and its token."""
    answer = administrator.act("invite", "/v1/invitations", role=role, desks=list(desks), days=days)
    assert answer.status_code == 201, answer.get_json()
    made = answer.get_json()
    return made["id"], made["token"]


def withdraw(administrator: Person, made: str) -> Any:
    """Let an administrator withdraw an invitation."""
    path = f"/v1/invitations/{made}/withdrawal"
    return administrator.act("withdraw-invite", path, invitation=made)


def new_keys(role: str = "reviewer") -> PersonKeys:
    return PersonKeys.generate(KEY_ROLES.get(role, role))


def enrolment(
    organisation: Organisation,
    keys: PersonKeys,
    token: str,
    role: str = "reviewer",
    desks: tuple[str, ...] = ("chemical",),
    **changes: Any,
) -> dict[str, Any]:
    """Make what a person signs when they come."""
    fields: dict[str, Any] = {
        "deployment": DEPLOYMENT,
        "token": token,
        "role": role,
        "desks": list(desks),
        "person": keys.id,
        "intake": intake_key_fields(keys) if role in WITH_INTAKE_KEY else None,
        "made_on": organisation.clock().date().isoformat(),
    }
    return make_enrolment(keys.signing, **(fields | changes))


def bring(organisation: Organisation, token: str, document: Any) -> Any:
    """Bring an enrolment, without any sign-in."""
    client = organisation.app.test_client()
    return client.post("/v1/enrolments", json={"token": token, "enrolment": document})


def vetting(organisation: Organisation, days: int = 60) -> dict[str, Any]:
    """What a vetting records."""
    today = organisation.clock().date()
    return {
        "vouchers": ["Dr. A", "Advocate B"],
        "vetted_on": today.isoformat(),
        "valid_until": (today + timedelta(days=days)).isoformat(),
        "languages": ["ar", "en"],
        "specialities": ["chemical"],
        "conflicts": ["place:SY-07"],
    }


def list_by_hand(description: dict[str, Any], keys: PersonKeys, desk: str = "general") -> None:
    """Let officers list a reader whom they know and nobody invited."""
    fields = {"id": keys.id, "roles": ["reviewer"], "signing_key": keys.signing.public, "takes": []}
    [at] = [one for one in description["desks"] if one["id"] == desk]
    at["readers"].append({**fields, **intake_key_fields(keys)})
