# SPDX-License-Identifier: AGPL-3.0-or-later
"""The officers' ceremony: a proposal is a folder carried by hand; each officer signs it on their own machine."""

from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from securesystemslib.signer import CryptoSigner, SSlibKey
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, TargetFile, Targets
from tuf.api.serialization.json import JSONSerializer

from amana.client.directory import (
    OFFICERS_SIGN,
    SERVER_SIGNS,
    Published,
    check_next_root,
    check_root,
    key_of,
    read_root,
    refusals,
    root_keys,
    signing_root,
    tuf_key,
)
from amana.client.errors import NotVerified, Usage
from amana.client.keyfile import PersonKeys
from amana.client.verify import read_limited
from amana.protocol.checkpoint import KeyType, NoteKey, check_name
from amana.protocol.directory import (
    DIRECTORY_TARGET,
    PEOPLE_TARGET,
    TARGETS_DAYS,
    Directory,
    DirectoryIncomplete,
    DirectoryInvalid,
    RootPins,
    check_signed,
    desk_target,
    fingerprint,
    parse_directory,
    target_names,
)
from amana.protocol.encoding import b64, canonical, parse_canonical, parse_strict
from amana.protocol.errors import ProtocolError
from amana.protocol.signing import SigningKey

ROOT_DAYS = 365
LIMIT_BYTES = 2**20
CURRENT_ROOT = "current-root.json"
CURRENT_TARGETS = "current-targets"
FRESHNESS_HOURS = 72
NO_COSIGNERS: Mapping[str, Any] = {"cosigners": [], "quorum": 0}
_COSIGNING = ("cosigners", "quorum", "freshness_hours")
_JSON = JSONSerializer(compact=False)


def tuf_signer(key: SigningKey) -> CryptoSigner:
    """Return a key as python-tuf signs with it."""
    return CryptoSigner(key.private, tuf_key(key.public))


@dataclass(frozen=True)
class Signatures:
    """How many officers signed something, and how many must."""

    what: str
    valid: int
    needed: int

    @property
    def missing(self) -> int:
        return max(0, self.needed - self.valid)

    def __str__(self) -> str:
        return f"{self.what}: {self.valid} of {self.needed} signatures"


def _count(what: str, root: Metadata[Root], signed: Metadata[Any]) -> Signatures:
    result = root.signed.get_verification_result(
        signed.signed.type, signed.signed_bytes, signed.signatures
    )
    return Signatures(what, len(result.signed), result.threshold)


class Version(NamedTuple):
    """A version of the directory with the root under which it counts, where that is known."""

    files: Mapping[str, bytes]
    targets: Metadata[Targets]
    root: Metadata[Root] | None


@dataclass
class Proposal:
    """A version of the directory on its way to enough signatures.

    `root` is there when it is new, `current` when another version was published before: it tells who must
    sign and what changes. Its root is worth no more than the folder it travels in; server and clients judge
    by their own, and so does an officer who gives one.
    """

    targets: Metadata[Targets]
    files: dict[str, bytes]
    root: Metadata[Root] | None
    current: Version | None = None

    @property
    def current_root(self) -> Metadata[Root] | None:
        """The root in force before this version."""
        return self.current.root if self.current else None

    @property
    def governing_root(self) -> Metadata[Root] | None:
        """The root under which this version will be judged, where it is known."""
        return self.root or self.current_root

    def save(self, folder: Path) -> None:
        """Write the proposal into a folder."""
        contents = _contents("targets", self.targets, self.files)
        if self.root is not None:
            contents["root.json"] = self.root.to_bytes(_JSON)
        if self.current is not None and self.current.root is not None:
            contents |= _contents(CURRENT_TARGETS, self.current.targets, self.current.files)
            contents[CURRENT_ROOT] = self.current.root.to_bytes(_JSON)
        try:
            for name, content in contents.items():
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        except OSError:
            raise Usage(
                "The folder of the proposal cannot be written.", slug="folder-unusable"
            ) from None

    @classmethod
    def load(cls, folder: Path, *, expired_too: bool = False) -> "Proposal":
        """Read a proposal and check that its parts belong together."""
        try:
            targets, files = _read_version(folder, "targets")
            root, current_root = (
                Metadata[Root].from_bytes(_read(path)) if path.exists() else None
                for path in (folder / "root.json", folder / CURRENT_ROOT)
            )
            current = None
            if current_root is not None:
                before = _read_version(folder, CURRENT_TARGETS)
                current = Version(before[1], before[0], current_root)
        except ProtocolError as error:
            raise NotVerified(error.title, slug=error.slug) from None
        except (RepositoryError, ValueError, KeyError, AttributeError):
            raise NotVerified("The proposal is damaged.", slug="proposal-invalid") from None
        proposal = cls(targets, files, root, current)
        now = datetime.now(UTC)
        if expired_too:
            now = min(now, targets.signed.expires - timedelta(seconds=1))
        proposal.check(now)
        return proposal

    def check(self, now: datetime) -> Directory:
        """Return the directory if its parts agree; what server and clients would refuse is refused here first."""
        signed = self.targets.signed
        root = self.governing_root.signed if self.governing_root else None
        try:
            self._check_roots()
            self._check_current()
            if set(signed.targets) != set(self.files):
                raise DirectoryIncomplete
            directory = parse_directory(self.files)
            check_signed(
                directory,
                version=signed.version,
                expires=signed.expires,
                deployment=check_root(root).deployment if root else directory.deployment,
                root_keys=root_keys(root) if root else (),
                now=now,
            )
        except ProtocolError as error:
            raise NotVerified(error.title, slug=error.slug) from None
        return directory

    def _check_roots(self) -> None:
        """Check that the current root is whole and a new one follows it, whatever signatures that has by now."""
        if self.current_root is None:
            return
        read_root(self.current_root.to_bytes())
        if self.root is None:
            return
        new, old = self.root.signed, self.current_root.signed
        if new.type != Root.type or new.version != old.version + 1:
            raise NotVerified("The new root is not the next one.", slug="proposal-invalid")
        if check_root(new).deployment != check_root(old).deployment:
            raise DirectoryInvalid(title="The new root is of another installation.")

    def _check_current(self) -> None:
        """Check that the version before is what officers of its root signed, and that this one follows it."""
        if self.current is None or (root := self.current.root) is None:
            return
        files, targets = self.current.files, self.current.targets
        directory = parse_directory(files)
        if (
            set(targets.signed.targets) != set(files)
            or targets.signed.type != Targets.type
            or not targets.signed.version == directory.version == self.targets.signed.version - 1
            or directory.deployment != check_root(root.signed).deployment
        ):
            raise NotVerified(
                "The proposal does not follow the version that it carries.", slug="proposal-invalid"
            )
        if _count("", root, targets).missing:
            raise NotVerified(
                "Too few officers signed the version before, which the proposal carries.",
                slug="directory-threshold",
            )

    def signatures(self) -> list[Signatures]:
        """Count whose valid signatures are there; empty when no root travels with the proposal."""
        counted = []
        if self.governing_root is not None:
            counted.append(_count("directory", self.governing_root, self.targets))
        if self.root is not None:
            counted.append(_count("root", self.root, self.root))
            if self.current_root is not None:
                counted.append(_count("root, by the officers before", self.current_root, self.root))
        return counted

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
        custodians = directory.document["custodians"]
        holders = [*custodians["members"], *directory.document["partners"]]
        for one in self._listed(PEOPLE_TARGET, "people"):
            shown = fingerprint(public_part(one, holders))
            lines.append(
                f"  {', '.join(one['roles'])} {one['id']},"
                f" signing key {one['signing_key']}, fingerprint {shown}"
            )
        members = len(custodians["members"])
        lines.append(f"custodians: {custodians['k']} of {members} open what is kept apart")
        for one in directory.document["partners"]:
            lines.append(f"partner {one['id']}: {', '.join(one['purposes']) or 'no purpose'}")
        lines += [f"consent text {one.id}: {one.sha256}" for one in directory.consent_texts]
        # Whatever a proposal holds, it must not steer the terminal of the one who reads it.
        return [printable(line) for line in lines]

    def _listed(self, target: str, part: str) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = parse_canonical(self.files[target], limit=LIMIT_BYTES)[part]
        return listed


def _contents(
    name: str, targets: Metadata[Targets], files: Mapping[str, bytes]
) -> dict[str, bytes]:
    """Return the files of a folder that hold a version: the officers' list, and beside it what it lists."""
    listed = {f"{name}/{target}": content for target, content in files.items()}
    return {**listed, f"{name}.json": targets.to_bytes(_JSON)}


def _read_version(folder: Path, name: str) -> tuple[Metadata[Targets], dict[str, bytes]]:
    targets = Metadata[Targets].from_bytes(_read(folder / f"{name}.json"))
    names = target_names(_read(folder / name / DIRECTORY_TARGET))
    files = {target: _read(folder / name / target) for target in sorted(names)}
    for target, info in targets.signed.targets.items():
        info.verify_length_and_hashes(files[target])
    return targets, files


def check_current_root(proposal: Proposal, root: bytes) -> None:
    """Check that the root in force, as a proposal carries it, is a trusted one or the next; raises NotVerified."""
    read_root(root)
    trusted, carried = Metadata[Root].from_bytes(root), proposal.current_root
    if carried is None:
        raise NotVerified("The proposal does not carry the root in force.", slug="root-missing")
    if carried.signed.version == trusted.signed.version:
        if carried.signed_bytes != trusted.signed_bytes:
            raise NotVerified("The proposal carries another root than yours.", slug="other-root")
        return
    with refusals():
        check_next_root(trusted.signed, carried)


def printable(text: str) -> str:
    """Return text without what would steer a terminal."""
    return "".join(filter(str.isprintable, text))


def public_part(one: Mapping[str, Any], holders: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return what the fingerprint of one of `people` speaks for; `holders` are custodians and partners."""
    public = {"id": one["id"], "signing_key": one["signing_key"]}
    for holder in holders:
        if holder["id"] == one["id"]:
            public |= {name: holder[name] for name in ("intake_key", "intake_key_sig")}
    return public


def _root_lines(root: Root) -> list[str]:
    pinned = check_root(root)
    lines = [f"root of {pinned.deployment}, version {root.version}, until {root.expires:%Y-%m-%d}"]
    for name, role in root.roles.items():
        who = "officers" if name in OFFICERS_SIGN else "server keys"
        lines.append(f"  {name}: {role.threshold} of {len(role.keyids)} {who}")
        lines += [f"    signed by {key_of(root.keys[keyid])}" for keyid in role.keyids]
    for name, log in (("directory", pinned.directory_log), ("custody", pinned.custody_log)):
        lines.append(f"  {name} log {log.name}, key {log.public}")
    return [*lines, *_cosigner_lines(pinned)]


def _cosigner_lines(pinned: RootPins) -> list[str]:
    if not pinned.cosigners:
        return ["  no cosigners: clients believe the server which directory is the newest"]
    operators = len({one.operator for one in pinned.cosigners})
    hours = pinned.freshness // timedelta(hours=1)
    demand = (
        f"{pinned.quorum} of {operators} operators within the last {hours} hours;"
        " without them nothing is sealed"
        if pinned.quorum
        else f"none of {operators} operators is demanded"
    )
    return [
        f"  cosigners: {demand}",
        *(f"    {one.operator}: {one.key.vkey}" for one in pinned.cosigners),
    ]


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
    for role in SERVER_SIGNS:
        root.add_key(tuf_key(online), role)
    for public in officers:
        _add_officer(root, public)
    root.roles["root"].threshold = root_threshold
    root.roles["targets"].threshold = targets_threshold
    return Metadata(root)


def rotate_root(
    current: Root,
    *,
    add: Iterable[str] = (),
    drop: Iterable[str] = (),
    root_threshold: int | None = None,
    targets_threshold: int | None = None,
    online: Mapping[str, Any] | None = None,
    reopen: Iterable[str] = (),
    cosigning: Mapping[str, Any] | None = None,
    now: datetime,
) -> Metadata[Root]:
    """Return the unsigned root after `current`: officers added and dropped by public key (Base64), thresholds, a new expiry.

    Enough officers of both roots must sign it, so officers whose keys are lost can be dropped as long
    as the others reach the threshold. `online` are new keys of the server, as `online_keys` gives them. The logs
    named in `reopen`, of "custody" and "directory", end, and others begin in their place. `cosigning` takes the
    place of all that was pinned of cosigners, as `cosigning_pins` gives it.
    """
    root = deepcopy(current)
    root.version += 1
    root.expires = _day(now, ROOT_DAYS)
    if online is not None:
        _replace_server_keys(root, online)
    for kind in reopen:
        _reopen(root, f"{kind}_log", current)
    if cosigning is not None:
        kept = without(root.unrecognized_fields["x-amana"], *_COSIGNING)
        root.unrecognized_fields["x-amana"] = {**kept, **cosigning}
    for public in drop:
        keyid = _officer_key(public).keyid
        if not all(keyid in root.roles[role].keyids for role in OFFICERS_SIGN):
            raise Usage("The root names no officer with this key.", slug="not-an-officer")
        for role in OFFICERS_SIGN:
            root.revoke_key(keyid, role)
    for public in add:
        _add_officer(root, public)
    for role, threshold in zip(OFFICERS_SIGN, (root_threshold, targets_threshold), strict=True):
        root.roles[role].threshold = threshold or root.roles[role].threshold
        if root.roles[role].threshold > len(root.roles[role].keyids):
            raise Usage("A threshold does not fit the number of officers.", slug="bad-threshold")
    try:
        check_root(root)
    except ProtocolError as error:
        raise Usage(error.title, slug=error.slug) from None
    return Metadata(root)


def _replace_server_keys(root: Root, keys: Mapping[str, Any]) -> None:
    for role in SERVER_SIGNS:
        for keyid in list(root.roles[role].keyids):
            root.revoke_key(keyid, role)
        root.add_key(tuf_key(keys["online"]), role)
    for name in ("directory_log", "custody_log"):
        pinned = root.unrecognized_fields["x-amana"][name]
        if pinned["key"] != keys[name]["key"]:
            pinned["key"] = keys[name]["key"]
            # Nobody could tell a log that goes on under another key from one that was taken over.
            pinned["origin"] = next_origin(pinned["origin"])


def _reopen(root: Root, name: str, current: Root) -> None:
    pinned = root.unrecognized_fields["x-amana"][name]
    if pinned["origin"] == current.unrecognized_fields["x-amana"][name]["origin"]:
        pinned["origin"] = next_origin(pinned["origin"])


def next_origin(origin: str) -> str:
    """Return the origin of the log that begins where one ends: `x/custody`, `x/custody-2`, `x/custody-3`."""
    name, _, number = origin.rpartition("-")
    if name.rpartition("/")[2] and number.isascii() and number.isdecimal():
        return f"{name}-{int(number) + 1}"
    return f"{origin}-2"


def _add_officer(root: Root, public: str) -> None:
    """Name an officer; a key that has a part in the root already must not get a second one."""
    if public in root_keys(root):
        raise Usage("The root names this key already.", slug="key-known")
    for role in OFFICERS_SIGN:
        root.add_key(_officer_key(public), role)


def _officer_key(public: str) -> SSlibKey:
    try:
        return tuf_key(public)
    except ProtocolError:
        raise Usage(
            "An officer's public key is given as 'amana officer init' printed it.", slug="bad-key"
        ) from None


def propose(
    description: Mapping[str, Any],
    *,
    version: int,
    now: datetime,
    days: int = TARGETS_DAYS,
    root: Metadata[Root] | None = None,
    current: Published | None = None,
) -> Proposal:
    """Return an unsigned version of the directory from its description; `current` is the one that it follows.

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
    except (KeyError, TypeError, AttributeError, ValueError):
        raise Usage(
            "The description of the directory lacks a part.", slug="directory-invalid"
        ) from None
    targets = Targets(version=version, expires=_day(now, days))
    for name, content in files.items():
        targets.targets[name] = TargetFile.from_data(name, content, ["sha256"])
    before = None if current is None else Version(current.files, current.targets, current.root)
    return Proposal(Metadata(targets), files, root, before)


def read_published(folder: Path, root: bytes) -> Published:
    """Return a version from the folder in which enough officers signed it; it may have expired since.

    `root` is the trusted root, or at most two before the one that signed.
    """
    proposal = Proposal.load(folder, expired_too=True)
    with refusals():
        pins = read_root(root)
        chain = [Metadata[Root].from_bytes(root)]
        for following in (proposal.current_root, proposal.root):
            if following is not None and following.signed.version > chain[-1].signed.version:
                check_next_root(chain[-1].signed, following)
                chain.append(following)
        signing_root(chain[::-1], proposal.targets)
    directory = parse_directory(proposal.files)
    if directory.deployment != pins.deployment:
        raise NotVerified("The directory is of another installation.", slug="directory-tampered")
    listed = proposal.targets.to_bytes(_JSON)
    return Published(directory, chain[-1], proposal.targets, proposal.files, listed)


def describe(files: Mapping[str, bytes]) -> dict[str, Any]:
    """Return the description from which `propose` makes these targets again, with another version."""
    description: dict[str, Any] = parse_canonical(files[DIRECTORY_TARGET], limit=LIMIT_BYTES)
    for desk in description["desks"]:
        listed = parse_canonical(files[desk_target(desk["id"])], limit=LIMIT_BYTES)
        desk["readers"] = listed["readers"]
    description["people"] = parse_canonical(files[PEOPLE_TARGET], limit=LIMIT_BYTES)["people"]
    return without(description, "v", "version")


def without(fields: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in names}


def sign(proposal: Proposal, keys: PersonKeys) -> list[str]:
    """Add one officer's signatures; signing twice counts once. Returns what was signed."""
    signer = tuf_signer(keys.signing)
    roots = [one.signed for one in (proposal.root, proposal.current_root) if one is not None]
    signed = []
    if not roots or signer.public_key.keyid in roots[0].roles[Targets.type].keyids:
        proposal.targets.sign(signer, append=True)
        signed.append("directory")
    # An officer who goes signs the root that names them no more, and nothing else.
    if proposal.root is not None and any(
        signer.public_key.keyid in one.roles[Root.type].keyids for one in roots
    ):
        proposal.root.sign(signer, append=True)
        signed.append("root")
    if not signed:
        raise Usage("The root does not name this key as an officer's.", slug="not-an-officer")
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
    try:
        for log in logs.values():
            check_name(log["origin"])
    except ProtocolError:
        raise Usage(
            "A deployment's name has no space and no plus.", slug="bad-deployment"
        ) from None
    return {"v": 1, "deployment": deployment, **logs, **NO_COSIGNERS}


def cosigning_pins(
    cosigners: Iterable[str], quorum: int, freshness_hours: int = FRESHNESS_HOURS
) -> dict[str, Any]:
    """Return what a root pins of cosigners, each given as `OPERATOR=VKEY`, or as `VKEY` whose operator is named in it.

    The name of a key is `operator/which`; several keys of one operator count once.
    """
    listed = []
    for given in cosigners:
        operator, equals, vkey = given.partition("=")
        if not equals or "+" in operator:
            operator, vkey = given.partition("+")[0].partition("/")[0], given
        try:
            key = NoteKey.parse(vkey)
        except ProtocolError as error:
            raise Usage(error.title, slug=error.slug) from None
        if key.type is not KeyType.COSIGNER:
            raise Usage("This is the key of a log, not of a cosigner.", slug="vkey-invalid")
        listed.append({"operator": operator, "key": key.vkey})
    if not listed:
        return dict(NO_COSIGNERS)
    if not 0 <= quorum <= len({one["operator"] for one in listed}):
        raise Usage("The quorum is larger than the number of operators.", slug="bad-quorum")
    return {"cosigners": listed, "quorum": quorum, "freshness_hours": freshness_hours}


def read_json(path: Path) -> Any:
    """Read a JSON file of at most 1 MiB; raises Usage, also for doubled names, floats and deep nesting."""
    try:
        return parse_strict(_read(path))
    except ProtocolError:
        raise Usage(
            f"{path} is not JSON, or not of the kind that is used here.", slug="unreadable-file"
        ) from None


def _read(path: Path) -> bytes:
    return read_limited(path, LIMIT_BYTES)


def _day(now: datetime, days: int) -> datetime:
    return now.astimezone(UTC).replace(microsecond=0) + timedelta(days=days)
