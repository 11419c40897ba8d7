"""Testimonies for tests: whole submissions with their keys, sealed by the real protocol code."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from amana.protocol.case import case_id, intake_key_id, seal_grant
from amana.protocol.codename import ThreadKeys, thread_keys
from amana.protocol.encoding import random_id, sha256_hex
from amana.protocol.manifest import SealedObject, manifest_bytes
from amana.protocol.policy import first_policy, parse_policy
from amana.protocol.sealing import Identity, Kind, Recipient, seal
from amana.protocol.signing import SigningKey
from amana.protocol.submission import (
    DeclaredObject,
    Label,
    Submission,
    labels_bytes,
    objects_bytes,
)
from amana.protocol.vault import (
    IDENTITY,
    OBJECT_KINDS,
    ORIGINALS,
    SealedVault,
    seal_vault,
    shares_bytes,
)

DEPLOYMENT = "amana-test"


@dataclass(frozen=True)
class Made:
    """A submission together with everything that only its sender knows."""

    submission: Submission
    case: str
    case_key: Identity
    control: SigningKey
    thread: SigningKey
    reply: Identity
    files: tuple[bytes, ...]
    sealed: tuple[bytes, ...]
    """Everything that is uploaded: the files, and then what lies in the vault."""
    vault_keys: Mapping[str, Identity] = field(default_factory=dict)
    vaults: tuple[SealedVault, ...] = ()


def make_policy(control: SigningKey, **changes: Any) -> bytes:
    fields: dict[str, Any] = {
        "deployment": DEPLOYMENT,
        "desk": "chemical",
        "language": "ar",
        "consent_text": "consent-1",
        "consent_text_sha256": sha256_hex(b"consent"),
        "scopes": {"review": "allow"},
        "identity_level": "anonymous",
        "flags": [],
        "withdrawal_delay_days": 7,
        "made_on": "2026-11-23",
    }
    return first_policy(control, **(fields | changes))


def make_testimony(
    readers: Mapping[str, Recipient] | None = None,
    *,
    account: bytes = b'{"synthetic":true}',
    files: Sequence[bytes] = (),
    directory: int = 1,
    control: SigningKey | None = None,
    codename: ThreadKeys | None = None,
    number: int = 0,
    adds_to: str | None = None,
    custodians: Mapping[str, Recipient] | None = None,
    k: int = 2,
    identity: bytes | None = None,
    originals: Sequence[bytes] = (),
    **policy: Any,
) -> Made:
    """Seal a testimony for `readers`, each under its id; under fresh keys unless a control key or a codename is given.

    `identity` and `originals`, of which the first are those of the first files, go to a vault of `custodians`.
    """
    if readers is None:
        readers = {random_id(): Identity.generate().recipient}
    case_key, keys = Identity.generate(), codename or thread_keys(os.urandom(32))
    thread = keys.thread
    control = control or (keys.control(number) if codename else SigningKey.generate())
    case = case_id(case_key.recipient)
    signed_policy = make_policy(control, **policy)
    kept = {
        name: contents
        for name, contents in ((IDENTITY, [identity] if identity else []), (ORIGINALS, originals))
        if contents
    }
    vault_keys = {name: Identity.generate() for name in kept}
    everything = [
        ("account", account, case_key),
        *(("file", data, case_key) for data in files),
        *(
            (OBJECT_KINDS[name], data, vault_keys[name])
            for name, contents in kept.items()
            for data in contents
        ),
    ]
    sealed = tuple(
        seal(data, key.recipient, Kind.ACCOUNT if kind == "account" else Kind.FILE)
        for kind, data, key in everything
    )
    sources = dict(enumerate(map(sha256_hex, originals), start=1))
    described = [
        SealedObject(
            i=i,
            kind=kind,
            name="account.json" if i == 0 else f"{kind}-{i}.bin",
            mime="application/json" if i == 0 else "application/octet-stream",
            len=len(data),
            sha256=sha256_hex(data),
            sealed_sha256=sha256_hex(sealed[i]),
            derived_from=sources.get(i) if kind == "file" else None,
            cleaned=kind == "file" and i in sources,
        )
        for i, (kind, data, _) in enumerate(everything)
    ]
    vaults = [
        seal_vault(
            key,
            case=case,
            vault=name,
            custodians=custodians or {},
            k=k,
            objects=[item.i for item in described if item.kind == OBJECT_KINDS[name]],
        )
        for name, key in vault_keys.items()
    ]
    manifest = manifest_bytes(
        thread,
        deployment=policy.get("deployment", DEPLOYMENT),
        case=case,
        salt=os.urandom(32),
        directory=directory,
        policy_sha256=parse_policy(signed_policy).sha256,
        objects=described,
        vaults=[one.entry for one in vaults],
        reply=keys.reply.recipient,
        adds_to=adds_to,
    )
    chosen = sorted(readers)
    submission = Submission(
        case=case.encode("ascii"),
        policy=signed_policy,
        labels=labels_bytes([Label(one, intake_key_id(readers[one])) for one in chosen]),
        grants=b"".join(seal_grant(case_key, readers[one]) for one in chosen),
        manifest=seal(manifest, case_key.recipient, Kind.MANIFEST),
        account=sealed[0],
        objects=objects_bytes(
            [
                DeclaredObject(i, len(data), sha256_hex(data))
                for i, data in enumerate(sealed[1:], start=1)
            ]
        ),
        shares=shares_bytes(vaults),
    )
    return Made(
        submission,
        case,
        case_key,
        control,
        thread,
        keys.reply,
        tuple(files),
        sealed[1:],
        vault_keys,
        tuple(vaults),
    )


def sample_files(folder: Path) -> list[Path]:
    """Write a few files of arbitrary bytes: one below a chunk, one of some chunks, one of several S3 parts."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, size in (("note.bin", 3000), ("scan.bin", 700_000), ("film.bin", 20_000_000)):
        path = folder / name
        path.write_bytes(os.urandom(size))
        paths.append(path)
    return paths
