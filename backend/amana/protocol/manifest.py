# SPDX-License-Identifier: AGPL-3.0-or-later
"""The manifest (docs/protocol.md §4): what a testimony consists of, sealed to the case key and signed by the thread key."""

from dataclasses import asdict, dataclass
from typing import Any

import marshmallow as ma

from amana.protocol import schema
from amana.protocol.encoding import b64, canonical, parse_canonical
from amana.protocol.sealing import Recipient
from amana.protocol.signing import SigningKey, verify_fields

TAG = "amana-manifest-v1"
LIMIT_BYTES = 131072
MAX_OBJECTS = 64
NAME_LIMIT = 255
OBJECT_KINDS = ("account", "file")


class _Object(schema.StrictSchema):
    i = schema.counting()
    kind = schema.one_of(*OBJECT_KINDS)
    name = schema.text(NAME_LIMIT)
    mime = schema.pattern(r"\A[a-z0-9!#$&^_.+-]{1,63}/[a-z0-9!#$&^_.+-]{1,127}\Z")
    len = schema.counting()
    sha256 = schema.sha256_hex()
    sealed_sha256 = schema.sha256_hex()
    derived_from = schema.sha256_hex(allow_none=True)
    cleaned = schema.one_of(True, False)


class _Manifest(schema.StrictSchema):
    v = schema.one_of(1)
    deployment = schema.text(64)
    case = schema.identifier()
    salt = schema.base64_of(32)
    directory = schema.counting()
    policy_sha256 = schema.sha256_hex()
    objects = ma.fields.List(
        ma.fields.Nested(_Object), required=True, validate=ma.validate.Length(1, MAX_OBJECTS)
    )
    vault = ma.fields.Raw(required=True, allow_none=True, validate=ma.validate.Equal(None))
    reply = schema.pattern(r"\Aage1pq1[a-z0-9]{1900,2100}\Z")
    thread = schema.base64_of(32)
    adds_to = schema.identifier(allow_none=True)
    token = ma.fields.Raw(required=True, allow_none=True, validate=ma.validate.Equal(None))
    sig = schema.base64_of(64)


_MANIFEST = _Manifest()


@dataclass(frozen=True)
class SealedObject:
    """One object of a testimony; `len` and `sha256` are of the plaintext, `sealed_sha256` of the age file."""

    i: int
    kind: str
    name: str
    mime: str
    len: int
    sha256: str
    sealed_sha256: str
    derived_from: str | None
    cleaned: bool


@dataclass(frozen=True)
class Manifest:
    """A manifest whose signature by its thread key was verified."""

    deployment: str
    case: str
    salt: str
    directory: int
    policy_sha256: str
    objects: tuple[SealedObject, ...]
    reply: Recipient
    thread: str
    adds_to: str | None
    document: dict[str, Any]


def manifest_bytes(
    thread: SigningKey,
    *,
    deployment: str,
    case: str,
    salt: bytes,
    directory: int,
    policy_sha256: str,
    objects: list[SealedObject],
    reply: Recipient,
    adds_to: str | None = None,
) -> bytes:
    """Return the signed manifest, canonical JSON."""
    fields = {
        "v": 1,
        "deployment": deployment,
        "case": case,
        "salt": b64(salt),
        "directory": directory,
        "policy_sha256": policy_sha256,
        "objects": [asdict(item) for item in objects],
        "vault": None,
        "reply": str(reply),
        "thread": thread.public,
        "adds_to": adds_to,
        "token": None,
    }
    signed = canonical(thread.sign_fields(TAG, fields))
    parse_manifest(signed)
    return signed


def parse_manifest(data: bytes) -> Manifest:
    """Parse a signed manifest of at most 128 KiB and verify its signature."""
    document = schema.checked(
        _MANIFEST, parse_canonical(data, limit=LIMIT_BYTES), "manifest-invalid"
    )
    fields = verify_fields(document["thread"], TAG, document)
    objects = tuple(SealedObject(**item) for item in fields["objects"])
    if [item.i for item in objects] != list(range(len(objects))) or [
        item.i for item in objects if item.kind == "account"
    ] != [0]:
        raise schema.Fault("manifest-invalid", "The objects are not numbered from the account on.")
    return Manifest(
        deployment=fields["deployment"],
        case=fields["case"],
        salt=fields["salt"],
        directory=fields["directory"],
        policy_sha256=fields["policy_sha256"],
        objects=objects,
        reply=Recipient.parse(fields["reply"]),
        thread=fields["thread"],
        adds_to=fields["adds_to"],
        document=document,
    )
