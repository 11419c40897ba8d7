# SPDX-License-Identifier: AGPL-3.0-or-later
"""A demonstration organisation: officers, desks, readers and custodians whose passphrase everybody knows."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from amana.access.publishing import publish
from amana.api.services import Services
from amana.client.errors import Usage
from amana.client.keyfile import PersonKeys, intake_key_fields, write_key
from amana.client.officer import (
    Proposal,
    cosigning_pins,
    new_root,
    online_keys,
    pins,
    propose,
    sign,
)
from amana.directory import service as directory
from amana.protocol.encoding import sha256_hex

DEPLOYMENT = "amana-demo"
PASSPHRASE = "demo"
# The passphrase is public, so slow derivation would protect nothing.
WORK_FACTOR = 10
CONSENT_TEXTS = {
    "ar": "[نص تجريبي] أفهم أن شهادتي تُحفظ مختومة، وأن مراجعين محددين فقط يمكنهم قراءتها، وأنني أستطيع سحب موافقتي لاحقاً.",
    "en": "[DEMONSTRATION] I understand that my testimony is kept sealed, that only certain reviewers can read it,"
    " and that I can withdraw my consent later.",
}


def make_demo(
    services: Services, out: Path, cosigners: Sequence[str] = (), quorum: int | None = None
) -> dict[str, list[str]]:
    """Make the organisation, publish its directory, write root and keys to `out`; a second call changes nothing.

    `cosigners` are keys as `cosigner init` prints them, all of which are needed unless `quorum` says how many.
    Returns the ids of the reviewers of each desk.
    """
    with services.database.reading() as session:
        exists = directory.latest_version(session) is not None
    if not exists:
        needed = len(cosigners) if quorum is None else quorum
        _make(services, out, cosigning_pins(cosigners, needed))
    elif not (out / "root.json").exists():
        raise Usage("The store has a directory already, and its keys are not in this folder.")
    with services.database.reading() as session:
        current = directory.current(session, services.caches)
    return {desk.id: [one.id for one in current.readers_of(desk.id)] for desk in current.desks}


def _make(services: Services, out: Path, cosigning: Mapping[str, Any]) -> None:
    people = {
        "officers": [PersonKeys.generate("officer") for _ in range(3)],
        "reviewers": [PersonKeys.generate("reviewer") for _ in range(4)],
        "custodians": [PersonKeys.generate("custodian") for _ in range(3)],
        # Reinstating somebody takes two administrators.
        "administrators": [PersonKeys.generate("administrator") for _ in range(2)],
        "auditors": [PersonKeys.generate("auditor")],
        "partners": [PersonKeys.generate("partner")],
    }
    keys = online_keys(
        services.secrets.online, services.secrets.directory_log, services.secrets.custody_log
    )
    officers = people["officers"]
    proposal = propose(
        _description(people),
        version=1,
        now=services.clock(),
        root=new_root(
            [one.signing.public for one in officers],
            online=keys["online"],
            root_threshold=2,
            targets_threshold=2,
            pins={**pins(DEPLOYMENT, keys), **cosigning},
            now=services.clock(),
        ),
    )
    for officer in officers[:2]:
        sign(proposal, officer)
    for group, members in people.items():
        for member in members:
            write_key(member, out / group, PASSPHRASE, work_factor=WORK_FACTOR)
    root = _publish(services, proposal)
    (out / "root.json").write_bytes(root)


def _publish(services: Services, proposal: Proposal) -> bytes:
    root = b"" if proposal.root is None else proposal.root.to_bytes()
    if not services.config.root.exists():
        services.config.root.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        services.config.root.write_bytes(root)
    with services.database.transaction() as session:
        publish(
            session,
            metadata={"1.targets.json": proposal.targets.to_bytes()},
            targets=proposal.files,
            trusted_root=services.trusted_root(),
            online=services.secrets.online,
            now=services.clock(),
        )
    return services.trusted_root()


def _description(people: dict[str, list[PersonKeys]]) -> dict[str, Any]:
    first, second, third, fourth = people["reviewers"]
    return {
        "deployment": DEPLOYMENT,
        "desks": [
            _desk("chemical", "Chemical attacks", "هجمات كيميائية", [first, second], lead=first),
            _desk("general", "Other grave crimes", "جرائم جسيمة أخرى", [third, fourth], lead=third),
        ],
        "custodians": {
            "k": 2,
            "members": [{"id": one.id, **intake_key_fields(one)} for one in people["custodians"]],
        },
        "partners": [
            {"id": one.id, **intake_key_fields(one), "purposes": ["iiim"]}
            for one in people["partners"]
        ],
        "consent_texts": [
            {
                "id": f"demo-1.{language}",
                "language": language,
                "text": text,
                "sha256": sha256_hex(text.encode("utf-8")),
            }
            for language, text in CONSENT_TEXTS.items()
        ],
        "drop_bits": 0,
        "people": [
            {"id": one.id, "roles": [one.role], "signing_key": one.signing.public}
            for group in ("administrators", "auditors", "custodians", "partners")
            for one in people[group]
        ],
    }


def _desk(
    name: str, en: str, ar: str, readers: list[PersonKeys], *, lead: PersonKeys
) -> dict[str, Any]:
    return {
        "id": name,
        "names": {"en": en, "ar": ar},
        "languages": ["ar", "en", "kmr", "tr"],
        "flags": ["minor", "names_others", "sexual_violence", "urgent"],
        "draw": 0,
        "leads": [lead.id],
        "readers": [_reader(one, lead=one is lead) for one in readers],
    }


def _reader(keys: PersonKeys, *, lead: bool) -> dict[str, Any]:
    return {
        "id": keys.id,
        "roles": ["lead", "reviewer"] if lead else ["reviewer"],
        "signing_key": keys.signing.public,
        **intake_key_fields(keys),
        "takes": ["minor", "sexual_violence"] if lead else [],
    }
