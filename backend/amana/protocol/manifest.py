# SPDX-License-Identifier: AGPL-3.0-or-later
"""The manifest (docs/protocol.md §4): what a testimony consists of, sealed to the case key and signed by the thread key."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import marshmallow as ma

from amana.protocol import schema
from amana.protocol.encoding import b64, canonical, parse_canonical
from amana.protocol.errors import ProtocolError
from amana.protocol.sealing import Recipient
from amana.protocol.signing import SigningKey, verify_fields
from amana.protocol.vault import OBJECT_KINDS as VAULT_KINDS
from amana.protocol.vault import VaultEntry, VaultInvalid, parse_entries

TAG = "amana-manifest-v1"
LIMIT_BYTES = 131072
MAX_OBJECTS = 64
NAME_LIMIT = 255
OBJECT_KINDS = ("account", "file", *VAULT_KINDS.values())


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


def _is_vault(value: object) -> None:
    try:
        if not parse_entries(value):
            raise VaultInvalid
    except ProtocolError:
        raise ma.ValidationError("Not in its allowed form.") from None


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
    vault = ma.fields.Raw(required=True, allow_none=True, validate=_is_vault)
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

    @property
    def in_vault(self) -> bool:
        """Whether it is sealed to a vault's key, and not to the case key."""
        return self.kind in VAULT_KINDS.values()


@dataclass(frozen=True)
class Manifest:
    """A manifest whose signature by its thread key was verified."""

    deployment: str
    case: str
    salt: str
    directory: int
    policy_sha256: str
    objects: tuple[SealedObject, ...]
    vaults: tuple[VaultEntry, ...]
    reply: Recipient
    thread: str
    adds_to: str | None
    document: dict[str, Any]

    def vault(self, name: str) -> VaultEntry | None:
        """Return one vault of the testimony."""
        return next((one for one in self.vaults if one.vault == name), None)


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
    vaults: Sequence[VaultEntry] = (),
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
        "vault": [one.document() for one in vaults] or None,
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
    vaults = () if fields["vault"] is None else parse_entries(fields["vault"])
    _check_vaults(objects, vaults)
    return Manifest(
        deployment=fields["deployment"],
        case=fields["case"],
        salt=fields["salt"],
        directory=fields["directory"],
        policy_sha256=fields["policy_sha256"],
        objects=objects,
        vaults=vaults,
        reply=Recipient.parse(fields["reply"]),
        thread=fields["thread"],
        adds_to=fields["adds_to"],
        document=document,
    )


def _check_vaults(objects: tuple[SealedObject, ...], vaults: tuple[VaultEntry, ...]) -> None:
    """Refuse objects of a vault that is not there, a vault of other objects, and an original that is of no file."""
    listed = {i: VAULT_KINDS[one.vault] for one in vaults for i in one.objects}
    described = {item.i: item.kind for item in objects if item.in_vault}
    sources = {item.derived_from for item in objects if item.kind == "file"}
    originals = [item.sha256 for item in objects if item.kind == "original"]
    if (
        listed != described
        or any(item.in_vault and (item.derived_from or item.cleaned) for item in objects)
        or list(described.values()).count("identity") > 1
        or len(set(originals)) < len(originals)
        or not sources.issuperset(originals)
    ):
        raise schema.Fault("manifest-invalid", "The vault and its objects do not fit together.")
