# SPDX-License-Identifier: AGPL-3.0-or-later
"""The officers' ceremony: a proposal is a folder carried by hand; each officer signs it on their own machine."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from securesystemslib.signer import CryptoSigner, SSlibKey
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, TargetFile, Targets
from tuf.api.serialization.json import JSONSerializer

from amana.client.directory import root_keys, root_pins
from amana.client.errors import NotVerified, Usage
from amana.client.keyfile import PersonKeys
from amana.protocol.directory import (
    DIRECTORY_TARGET,
    PEOPLE_TARGET,
    TARGETS_DAYS,
    Directory,
    DirectoryIncomplete,
    check_signed,
    desk_target,
    fingerprint,
    parse_directory,
    target_names,
)
from amana.protocol.encoding import b64, canonical, parse_canonical
from amana.protocol.errors import ProtocolError
from amana.protocol.signing import SigningKey, public_key

ROOT_DAYS = 365
LIMIT_BYTES = 2**20
_JSON = JSONSerializer(compact=False)


def tuf_key(public: str) -> SSlibKey:
    """Return an Ed25519 public key (Base64) as TUF writes keys."""
    return SSlibKey.from_crypto(public_key(public))


def tuf_signer(key: SigningKey) -> CryptoSigner:
    """Return a key as python-tuf signs with it."""
    return CryptoSigner(key.private, tuf_key(key.public))


@dataclass
class Proposal:
    """A version of the directory on its way to enough signatures; `root` is there when it is new."""

    targets: Metadata[Targets]
    files: dict[str, bytes]
    root: Metadata[Root] | None

    def save(self, folder: Path) -> None:
        """Write the proposal into a folder."""
        contents = {f"targets/{name}": content for name, content in self.files.items()}
        contents["targets.json"] = self.targets.to_bytes(_JSON)
        if self.root is not None:
            contents["root.json"] = self.root.to_bytes(_JSON)
        try:
            for name, content in contents.items():
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        except OSError:
            raise Usage("The folder of the proposal cannot be written.") from None

    @classmethod
    def load(cls, folder: Path) -> "Proposal":
        """Read a proposal and check that its parts belong together."""
        try:
            targets = Metadata[Targets].from_bytes(_read(folder / "targets.json"))
            root = None
            if (folder / "root.json").exists():
                root = Metadata[Root].from_bytes(_read(folder / "root.json"))
            names = target_names(_read(folder / "targets" / DIRECTORY_TARGET))
            files = {name: _read(folder / "targets" / name) for name in sorted(names)}
            for name, info in targets.signed.targets.items():
                info.verify_length_and_hashes(files[name])
        except ProtocolError as error:
            raise NotVerified(error.title, slug=error.slug) from None
        except (RepositoryError, ValueError, KeyError, AttributeError):
            raise NotVerified("The proposal is damaged.", slug="proposal-invalid") from None
        proposal = cls(targets, files, root)
        proposal.check(datetime.now(UTC))
        return proposal

    def check(self, now: datetime) -> Directory:
        """Return the directory if its parts agree; what server and clients would refuse is refused here first."""
        signed = self.targets.signed
        root = None if self.root is None else self.root.signed
        try:
            if set(signed.targets) != set(self.files):
                raise DirectoryIncomplete
            directory = parse_directory(self.files)
            check_signed(
                directory,
                version=signed.version,
                expires=signed.expires,
                deployment=root_pins(root).deployment if root else directory.deployment,
                root_keys=root_keys(root) if root else (),
                now=now,
            )
        except ProtocolError as error:
            raise NotVerified(error.title, slug=error.slug) from None
        return directory

    def bundle(self) -> dict[str, Any]:
        """Return what `POST /v1/directory` takes."""
        metadata = {f"{self.targets.signed.version}.targets.json": self.targets.to_bytes(_JSON)}
        if self.root is not None:
            metadata[f"{self.root.signed.version}.root.json"] = self.root.to_bytes(_JSON)
        return {
            "metadata": {name: b64(content) for name, content in metadata.items()},
            "targets": {name: b64(content) for name, content in self.files.items()},
        }

    def summary(self) -> list[str]:
        """Say in words what a signature would vouch for, with the fingerprints that people read out."""
        directory = parse_directory(self.files)
        lines = [
            f"directory of {directory.deployment}, version {directory.version},"
            f" until {self.targets.signed.expires:%Y-%m-%d}",
            *([] if self.root is None else _root_lines(self.root.signed)),
        ]
        for desk in directory.desks:
            drawn = f"{desk.draw} drawn, and leads" if desk.draw else "all read"
            lines.append(f"desk {desk.id}: {drawn}")
            lines += [_reader_line(one) for one in self._listed(desk_target(desk.id), "readers")]
        for one in self._listed(PEOPLE_TARGET, "people"):
            lines.append(
                f"  {', '.join(one['roles'])} {one['id']}, signing key {one['signing_key']}"
            )
        custodians = directory.document["custodians"]
        members = len(custodians["members"])
        lines.append(f"custodians: {custodians['k']} of {members} open what is kept apart")
        lines += [f"consent text {one.id}: {one.sha256}" for one in directory.consent_texts]
        # Whatever a proposal holds, it must not steer the terminal of the one who reads it.
        return ["".join(filter(str.isprintable, line)) for line in lines]

    def _listed(self, target: str, part: str) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = parse_canonical(self.files[target], limit=LIMIT_BYTES)[part]
        return listed


def _root_lines(root: Root) -> list[str]:
    pinned = root_pins(root)
    lines = [f"root of {pinned.deployment}, version {root.version}, until {root.expires:%Y-%m-%d}"]
    for name, role in root.roles.items():
        who = "officers" if name in {Root.type, Targets.type} else "server keys"
        lines.append(f"  {name}: {role.threshold} of {len(role.keyids)} {who}")
    lines += [f"  key {b64(bytes.fromhex(k.keyval['public']))}" for k in root.keys.values()]
    return [*lines, f"  custody log {pinned.custody_log_key}"]


def _reader_line(one: Mapping[str, Any]) -> str:
    public = {name: one[name] for name in ("id", "signing_key", "intake_key", "intake_key_sig")}
    takes = f", takes {', '.join(one['takes'])}" if one["takes"] else ""
    return f"  {', '.join(one['roles'])} {one['id']}{takes}, fingerprint {fingerprint(public)}"


def new_root(
    officers: list[str],
    *,
    online: str,
    root_threshold: int,
    targets_threshold: int,
    pins: Mapping[str, Any],
    now: datetime,
) -> Metadata[Root]:
    """Return an unsigned first root over the officers' public keys (Base64)."""
    if len(set(officers)) != len(officers):
        raise Usage("One officer's key is given twice.")
    if not 1 <= root_threshold <= len(officers) or not 1 <= targets_threshold <= len(officers):
        raise Usage("A threshold does not fit the number of officers.")
    root = Root(
        version=1,
        expires=_day(now, ROOT_DAYS),
        consistent_snapshot=True,
        unrecognized_fields={"x-amana": dict(pins)},
    )
    for public in officers:
        root.add_key(tuf_key(public), "root")
        root.add_key(tuf_key(public), "targets")
    for role in ("snapshot", "timestamp"):
        root.add_key(tuf_key(online), role)
    root.roles["root"].threshold = root_threshold
    root.roles["targets"].threshold = targets_threshold
    return Metadata(root)


def propose(
    description: Mapping[str, Any],
    *,
    version: int,
    now: datetime,
    days: int = TARGETS_DAYS,
    root: Metadata[Root] | None = None,
) -> Proposal:
    """Return an unsigned version of the directory from its description.

    The description is `directory.json` with each desk's `readers` inside, and `people`.
    """
    if not 1 <= days <= TARGETS_DAYS:
        raise Usage(f"A directory is valid for at most {TARGETS_DAYS} days.")
    try:
        desks = [dict(desk) for desk in description["desks"]]
        files = {
            desk_target(desk["id"]): canonical(
                {"v": 1, "desk": desk["id"], "readers": desk.pop("readers")}
            )
            for desk in desks
        }
        files[PEOPLE_TARGET] = canonical({"v": 1, "people": description["people"]})
        rest = {
            name: value for name, value in description.items() if name not in {"people", "desks"}
        }
        files[DIRECTORY_TARGET] = canonical({**rest, "v": 1, "version": version, "desks": desks})
        parse_directory(files)
    except ProtocolError as error:
        raise Usage(error.title, slug=error.slug) from None
    except (KeyError, TypeError, AttributeError):
        raise Usage(
            "The description of the directory lacks a part.", slug="directory-invalid"
        ) from None
    targets = Targets(version=version, expires=_day(now, days))
    for name, content in files.items():
        targets.targets[name] = TargetFile.from_data(name, content, ["sha256"])
    return Proposal(Metadata(targets), files, root)


def sign(proposal: Proposal, keys: PersonKeys) -> list[str]:
    """Add one officer's signatures; signing twice counts once. Returns what was signed."""
    signer = tuf_signer(keys.signing)
    if proposal.root is not None:
        officers = proposal.root.signed.roles[Targets.type].keyids
        if signer.public_key.keyid not in officers:
            raise Usage("The root does not name this key as an officer's.", slug="not-an-officer")
    proposal.targets.sign(signer, append=True)
    signed = ["directory"]
    if proposal.root is not None:
        proposal.root.sign(signer, append=True)
        signed.append("root")
    return signed


def online_keys(
    online: SigningKey, directory_log: SigningKey, custody_log: SigningKey
) -> dict[str, Any]:
    """Return the server's public keys that the root pins."""
    return {
        "online": online.public,
        "directory_log": {"origin": "directory", "key": directory_log.public},
        "custody_log": {"origin": "custody", "key": custody_log.public},
    }


def pins(deployment: str, keys: Mapping[str, Any]) -> dict[str, Any]:
    """Return the root's field `x-amana`; a log's origin begins with the deployment, as no two logs share one."""
    logs = {
        name: {"origin": f"{deployment}/{keys[name]['origin']}", "key": keys[name]["key"]}
        for name in ("directory_log", "custody_log")
    }
    return {"v": 1, "deployment": deployment, **logs, "cosigners": [], "quorum": 0}


def read_json(path: Path) -> Any:
    """Read a JSON file of at most 1 MiB."""
    try:
        return json.loads(_read(path))
    except ValueError:
        raise Usage(f"{path.name} is not JSON.") from None


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(LIMIT_BYTES + 1)
    except OSError:
        raise Usage(f"{path.name} cannot be read.") from None
    if len(content) > LIMIT_BYTES:
        raise Usage(f"{path.name} is larger than {LIMIT_BYTES} bytes.")
    return content


def _day(now: datetime, days: int) -> datetime:
    return now.astimezone(UTC).replace(microsecond=0) + timedelta(days=days)
