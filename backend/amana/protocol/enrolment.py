# SPDX-License-Identifier: AGPL-3.0-or-later
"""An enrolment (docs/protocol.md §9): with what keys a person comes, signed by themselves, under a one-time invitation."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from amana.protocol import schema
from amana.protocol.directory import verify_intake_key
from amana.protocol.encoding import canonical, check_id, check_sha256_hex, parse_day, unb64
from amana.protocol.encoding import sha256_hex as _sha256_hex
from amana.protocol.errors import BadSignature, ProtocolError
from amana.protocol.policy import DESK
from amana.protocol.signing import SigningKey, public_key, verify_fields

TAG = "amana-enrolment-v1"
LIMIT_BYTES = 16 * 1024
READERS = ("lead", "reviewer")
WITH_INTAKE_KEY = (*READERS, "custodian", "partner")
ROLES = (*WITH_INTAKE_KEY, "administrator", "auditor")
MAX_DESKS = 64


class EnrolmentRefused(ProtocolError):
    """An enrolment has another form than it must, or is not signed by the keys that it brings."""

    slug = "enrolment-refused"
    title = "The enrolment is not whole, or not signed with the keys that it brings."


_is_desk = schema.matching(DESK)


def are_desks(desks: object) -> bool:
    """Tell whether `desks` is a sorted list of desks' ids, none twice."""
    return (
        isinstance(desks, list)
        and len(desks) <= MAX_DESKS
        and all(map(_is_desk, desks))
        and desks == sorted(set(desks))
    )


_ENROLMENT: schema.Checks = {
    "v": schema.among(1),
    "deployment": schema.short_text(64),
    "invitation": check_sha256_hex,
    "role": schema.among(*ROLES),
    "desks": are_desks,
    "id": check_id,
    "signing_key": public_key,
    "intake_key": lambda key: key is None or isinstance(key, str),
    "intake_key_sig": lambda signature: signature is None or unb64(signature, 64),
    "made_on": parse_day,
    "sig": lambda signature: unb64(signature, 64),
}


@dataclass(frozen=True)
class Enrolment:
    """An enrolment whose signatures were verified; that of the intake key too, where the role has one."""

    deployment: str
    invitation: str
    role: str
    desks: tuple[str, ...]
    id: str
    signing_key: str
    intake_key: str | None
    intake_key_sig: str | None
    made_on: str


def invitation_hash(token: str) -> str:
    """Return what enrolment and server hold of an invitation's token: hex SHA-256."""
    return _sha256_hex(token.encode("ascii"))


def make_enrolment(
    key: SigningKey,
    *,
    deployment: str,
    token: str,
    role: str,
    desks: list[str],
    person: str,
    intake: Mapping[str, str] | None,
    made_on: str,
) -> dict[str, Any]:
    """Return a signed enrolment; `intake` holds `intake_key` and `intake_key_sig` where the role has such a key."""
    fields = {
        "v": 1,
        "deployment": deployment,
        "invitation": invitation_hash(token),
        "role": role,
        "desks": sorted(set(desks)),
        "id": person,
        "signing_key": key.public,
        "intake_key": intake["intake_key"] if intake else None,
        "intake_key_sig": intake["intake_key_sig"] if intake else None,
        "made_on": made_on,
    }
    signed = key.sign_fields(TAG, fields)
    parse_enrolment(signed)
    return signed


def parse_enrolment(document: object) -> Enrolment:
    """Check the form of an enrolment of at most 16 KiB and verify its signatures; raises EnrolmentRefused."""
    try:
        if len(canonical(document)) > LIMIT_BYTES:
            raise EnrolmentRefused
        signed = schema.checked_by(_ENROLMENT, document, EnrolmentRefused.slug)
        fields = verify_fields(signed["signing_key"], TAG, signed)
        if fields["intake_key"] is not None:
            verify_intake_key(fields["signing_key"], fields)
    except BadSignature:
        raise EnrolmentRefused from None
    except ProtocolError as error:
        raise EnrolmentRefused(title=error.title) from None
    has_key = fields["intake_key"] is not None
    if (
        has_key != (fields["role"] in WITH_INTAKE_KEY)
        or has_key != (fields["intake_key_sig"] is not None)
        or bool(fields["desks"]) != (fields["role"] in READERS)
    ):
        raise EnrolmentRefused
    rest = {name: value for name, value in fields.items() if name not in {"v", "desks"}}
    return Enrolment(**rest, desks=tuple(fields["desks"]))
