"""A directory without a server: three officers, their people, and a mirror that may show clients whatever it likes."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, Timestamp

from amana.client.keyfile import PersonKeys, intake_key_fields
from amana.client.officer import (
    Proposal,
    new_root,
    online_keys,
    pins,
    propose,
    sign,
    tuf_signer,
)
from amana.protocol.action import sign_action
from amana.protocol.case import intake_key_id
from amana.protocol.encoding import sha256_hex
from amana.protocol.sealing import Recipient
from amana.protocol.signing import SigningKey

DEPLOYMENT = "amana-test"


def reader(keys: PersonKeys, *, lead: bool = False, takes: Iterable[str] = ()) -> dict[str, Any]:
    """Return the entry of a reader in their desk's target."""
    return {
        "id": keys.id,
        "roles": ["lead", "reviewer"] if lead else ["reviewer"],
        "signing_key": keys.signing.public,
        **intake_key_fields(keys),
        "takes": sorted(takes),
    }


def replacement_entry(
    new: PersonKeys, instead_of: Recipient, *, deployment: str = DEPLOYMENT
) -> dict[str, Any]:
    """Return what the server tells officers of a person who wants the intake key of `new` listed."""
    body = {**intake_key_fields(new), "replaces": intake_key_id(instead_of)}
    now = datetime.now(UTC)
    action = sign_action(
        new.signing,
        deployment=deployment,
        directory=1,
        action="replace-key",
        case=None,
        actor=new.id,
        body=body,
        made_at=now,
    )
    entry = {"id": new.id, "kind": "replacement", "action": action, "asked_on": f"{now:%Y-%m-%d}"}
    return entry | intake_key_fields(new)


def desk(name: str, readers: list[dict[str, Any]], *, draw: int = 0) -> dict[str, Any]:
    """Return a desk as a description of the directory has it, with its readers inside."""
    return {
        "id": name,
        "names": {"en": name},
        "languages": ["ar"],
        "flags": ["minor"],
        "draw": draw,
        "leads": [one["id"] for one in readers if "lead" in one["roles"]],
        "readers": readers,
    }


@dataclass
class Ceremony:
    """Officers (root and targets 2 of 3), the server's keys, and a small organisation."""

    officers: list[PersonKeys] = field(
        default_factory=lambda: [PersonKeys.generate("officer") for _ in range(3)]
    )
    online: SigningKey = field(default_factory=SigningKey.generate)
    directory_log: SigningKey = field(default_factory=SigningKey.generate)
    custody_log: SigningKey = field(default_factory=SigningKey.generate)
    lead: PersonKeys = field(default_factory=lambda: PersonKeys.generate("reviewer"))
    reviewer: PersonKeys = field(default_factory=lambda: PersonKeys.generate("reviewer"))
    custodian: PersonKeys = field(default_factory=lambda: PersonKeys.generate("custodian"))
    administrator: PersonKeys = field(default_factory=lambda: PersonKeys.generate("administrator"))

    def __post_init__(self) -> None:
        self.first_root = self.root(datetime.now(UTC))
        for officer in self.officers[:2]:
            self.first_root.sign(tuf_signer(officer.signing), append=True)

    def description(self, **changes: Any) -> dict[str, Any]:
        """Return a description: two desks, one lead, one reviewer, one custodian, one administrator."""
        listed = [
            reader(self.lead, lead=True, takes=["minor", "sexual_violence"]),
            reader(self.reviewer),
        ]
        text = "I agree"
        description: dict[str, Any] = {
            "deployment": DEPLOYMENT,
            "desks": [desk("chemical", listed), desk("general", listed[1:])],
            "custodians": {
                "k": 1,
                "members": [{"id": self.custodian.id, **intake_key_fields(self.custodian)}],
            },
            "partners": [],
            "consent_texts": [
                {"id": "c1.en", "language": "en", "text": text, "sha256": sha256_hex(text.encode())}
            ],
            "drop_bits": 0,
            "people": [
                {"id": one.id, "roles": [one.role], "signing_key": one.signing.public}
                for one in (self.custodian, self.administrator)
            ],
        }
        return description | changes

    def root(self, now: datetime, deployment: str = DEPLOYMENT) -> Metadata[Root]:
        """Return an unsigned first root."""
        keys = online_keys(self.online, self.directory_log, self.custody_log)
        return new_root(
            [one.signing.public for one in self.officers],
            online=keys["online"],
            root_threshold=2,
            targets_threshold=2,
            pins=pins(deployment, keys),
            now=now,
        )

    @property
    def root_bytes(self) -> bytes:
        return self.first_root.to_bytes()

    def proposal(
        self,
        version: int = 1,
        *,
        signers: Iterable[PersonKeys] | None = None,
        now: datetime | None = None,
        days: int = 45,
        **changes: Any,
    ) -> Proposal:
        """Return a version that two officers signed, or those who are given."""
        proposal = propose(
            self.description(**changes), version=version, now=now or datetime.now(UTC), days=days
        )
        for officer in self.officers[:2] if signers is None else signers:
            sign(proposal, officer)
        return proposal

    def extend(self, proposal: Proposal, expires: datetime) -> Proposal:
        """Let two officers sign an expiry that the command would not let them choose."""
        proposal.targets.signed.expires = expires
        proposal.targets.signatures.clear()
        for officer in self.officers[:2]:
            sign(proposal, officer)
        return proposal


class Mirror:
    """Holds what a server shows under `/v1/directory/`; its owner has the online key and no scruples."""

    def __init__(self, ceremony: Ceremony) -> None:
        self.ceremony = ceremony
        self.files: dict[str, bytes] = {"1.root.json": ceremony.root_bytes}
        self.asked: list[str] = []
        self.number = 0

    def get(self, name: str) -> bytes | None:
        self.asked.append(name)
        return self.files.get(name)

    def show(self, proposal: Proposal, *, now: datetime | None = None) -> None:
        """Publish a version without asking whether enough officers signed it."""
        version = proposal.targets.signed.version
        for name, content in proposal.files.items():
            folder, slash, last = name.rpartition("/")
            self.files[f"targets/{folder}{slash}{sha256_hex(content)}.{last}"] = content
        self.files[f"{version}.targets.json"] = proposal.targets.to_bytes()
        self.point_to(version, now=now)

    def point_to(
        self, version: int, *, number: int | None = None, now: datetime | None = None
    ) -> None:
        """Sign a snapshot and a time stamp that name a version of the targets."""
        self.number = self.number + 1 if number is None else number
        moment = now or datetime.now(UTC)
        snapshot = Snapshot(version=self.number, expires=moment + timedelta(days=7))
        snapshot.meta["targets.json"] = MetaFile(version)
        timestamp = Timestamp(version=self.number, expires=moment + timedelta(days=1))
        timestamp.snapshot_meta = MetaFile(self.number)
        self.files[f"{self.number}.snapshot.json"] = self._signed(snapshot)
        self.files["timestamp.json"] = self._signed(timestamp)

    def _signed(self, signed: Snapshot | Timestamp) -> bytes:
        metadata: Metadata[Any] = Metadata(signed)
        metadata.sign(tuf_signer(self.ceremony.online))
        return metadata.to_bytes()
