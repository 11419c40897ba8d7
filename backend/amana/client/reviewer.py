# SPDX-License-Identifier: AGPL-3.0-or-later
"""The reviewer's end: the queue, and a case opened on their own device. What does not verify leaves nothing behind.

Nothing is shown, played or run here: a file of a stranger stays a file.
"""

import fcntl
import hashlib
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Final

from amana.client.desk import DeskClient
from amana.client.directory import VerifiedDirectory, fetch_directory, read_root
from amana.client.errors import ClientError, NetworkFailed, NotVerified, Usage
from amana.client.filenames import safe_name
from amana.client.keyfile import PersonKeys
from amana.client.progress import Advance, Progress, Silent
from amana.client.transport import Patience, Transport
from amana.protocol.account import LIMIT_BYTES as ACCOUNT_LIMIT
from amana.protocol.account import parse_account
from amana.protocol.action import sign_action
from amana.protocol.case import GRANT_SIZE, intake_key_id, open_grant
from amana.protocol.directory import Directory, RootPins, eligible
from amana.protocol.encoding import check_id, check_sha256_hex, parse_day, sha256_hex, unb64
from amana.protocol.errors import ProtocolError
from amana.protocol.manifest import LIMIT_BYTES as MANIFEST_LIMIT
from amana.protocol.manifest import Manifest, SealedObject, parse_manifest
from amana.protocol.policy import DESK, Policy, parse_policy
from amana.protocol.receipt import Receipt, verify_receipt
from amana.protocol.sealing import (
    Digests,
    Identity,
    Kind,
    check_size,
    open_sealed,
    open_stream,
    sealed_size,
)

ACCOUNT: Final = "account.json"
UNREADABLE_ACCOUNT: Final = "account.raw"
MANIFEST: Final = "manifest.json"
PAGE: Final = 100
BLOCK_BYTES: Final = 2**20
_STATE: Final = re.compile(r"[a-z][a-z-]{0,31}")
_CURSOR: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")


class NoGrant(ClientError):
    """The case was not sealed to this reader."""

    exit_status = 1
    slug = "no-grant"


@dataclass(frozen=True)
class ListedCase:
    """A case in the queue; `objects` counts the account too, `size` is in sealed bytes."""

    case: str
    desk: str
    state: str
    received_on: str
    objects: int
    size: int
    language: str
    flags: tuple[str, ...]


@dataclass(frozen=True)
class Opened:
    """What an opening left in `folder`: names of files in the order of the objects, and what a reader should know."""

    case: str
    folder: Path
    received_on: str
    directory: int
    files: tuple[str, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, repr=False)
class _Case:
    """A case whose receipt, policy, grant and manifest were verified against each other."""

    manifest: Manifest
    manifest_bytes: bytes
    policy: Policy
    receipt: Receipt
    key: Identity
    sizes: tuple[int, ...]
    """Sealed sizes of the objects, in bytes."""


class Reviewer:
    """One reader at one server: owns their sign-in, and in `cache` the memory of which directory was seen last."""

    def __init__(
        self,
        transport: Transport,
        root: bytes,
        keys: PersonKeys,
        *,
        cache: Path | None = None,
        progress: Progress | None = None,
        patience: Patience | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._desk = DeskClient(
            transport, keys, read_root(root).deployment, patience=patience, clock=clock
        )
        self._root = root
        self._cache = cache
        self._progress = progress or Silent()

    def cases(self, desk: str | None = None, state: str | None = None) -> list[ListedCase]:
        """Return the cases that were sealed to this reader, newest first; raises Refused."""
        for value, form in ((desk, DESK), (state, _STATE)):
            if value is not None and not re.fullmatch(form, value):
                raise Usage("This is not the name of a desk or a state.")
        query = "".join(f"&{k}={v}" for k, v in (("desk", desk), ("state", state)) if v)
        found: list[ListedCase] = []
        cursor = ""
        while True:
            after = f"&cursor={cursor}" if cursor else ""
            page = self._desk.get(f"/v1/cases?limit={PAGE}{query}{after}").document()
            try:
                listed = [_listed(one) for one in page["cases"]]
                following = page["next"]
                if following is not None and not (listed and _CURSOR.fullmatch(following)):
                    raise ValueError
            except (KeyError, TypeError, ValueError):
                raise NotVerified("The queue is not in its form.", slug="bad-answer") from None
            found += listed
            if following is None:
                return found
            cursor = following

    def open(self, case: str, out: Path) -> Opened:
        """Sign an opening, verify everything that belongs to a case, and write it into the folder `out`.

        Raises NotVerified, after which nothing is left; NetworkFailed, after which sealed bytes are
        left from which a repetition goes on; Refused, NoGrant and Usage.
        """
        try:
            check_id(case)
        except ProtocolError:
            raise Usage("A case is called by 32 letters and digits.", slug="bad-case") from None
        with _folder(out, case) as workplace:
            verified = self._directory()
            described = self._desk.get(f"/v1/cases/{case}").document()
            _sign_opening(self._desk, verified, case)
            with _verifying("the case"):
                found = _verify_case(self._desk, verified.pins, case, described)
            warnings = _doubts(found, verified.directory)
            _download(self._desk, found, workplace, self._progress)
            plain = _open_objects(found, workplace, self._progress)
            names = _names(found.manifest, out)
            if fault := _fault_of_account(plain[0]):
                names[0] = UNREADABLE_ACCOUNT
                warnings.append(fault)
            described_by = workplace / f"{MANIFEST}.plain"
            described_by.write_bytes(found.manifest_bytes)
            # The manifest comes last: where it stands, the rest is whole.
            for path, name in zip((*plain, described_by), (*names, MANIFEST), strict=True):
                path.chmod(0o600)
                path.rename(out / name)
        return Opened(
            case=case,
            folder=out,
            received_on=found.receipt.received_on,
            directory=found.manifest.directory,
            files=(*names, MANIFEST),
            warnings=tuple(warnings),
        )

    def _directory(self) -> VerifiedDirectory:
        """Fetch and verify the directory; one version after the other, also when two commands run at once."""
        path = self._cache
        if path is None:
            return fetch_directory(self._get, self._root, None)
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = (path / "lock").open("w")
        except OSError:
            raise Usage(
                "The folder that remembers the directory cannot be written.", slug="cache-unusable"
            ) from None
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return fetch_directory(self._get, self._root, path)

    def _get(self, name: str) -> bytes | None:
        return self._desk.transport.get(f"/v1/directory/{name}", patience=self._desk.patience)


def _listed(fields: Mapping[str, Any]) -> ListedCase:
    """Read one entry; nothing but these forms may reach a terminal."""
    counts = (fields["objects"], fields["size"])
    words = (fields["desk"], fields["state"], fields["language"], *fields["flags"])
    if not all(type(one) is int and 0 <= one < 2**53 for one in counts):
        raise ValueError
    if not all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", one) for one in words):
        raise ValueError
    return ListedCase(
        case=check_id(fields["case"]),
        desk=fields["desk"],
        state=fields["state"],
        received_on=parse_day(fields["received_on"]).isoformat(),
        objects=fields["objects"],
        size=fields["size"],
        language=fields["language"],
        flags=tuple(fields["flags"]),
    )


@contextmanager
def _folder(out: Path, case: str) -> Iterator[Path]:
    """Give a private folder inside `out`; it goes when the work ends, but for sealed bytes to go on with."""
    if any((out / name).exists() for name in (ACCOUNT, UNREADABLE_ACCOUNT, MANIFEST)):
        raise Usage("This folder holds an opened case already; name another.", slug="folder-taken")
    workplace = out / f".opening-{case}"
    is_new = not out.exists()
    keep = True
    try:
        out.mkdir(mode=0o700, parents=True, exist_ok=True)
        workplace.mkdir(mode=0o700, exist_ok=True)
        found = workplace.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise Usage("Somebody else made files in this folder.", slug="folder-unusable")
        yield workplace
        keep = False
    except NotVerified:
        keep = False
        raise
    except OSError:
        raise Usage("The folder cannot be written, or is full.", slug="folder-unusable") from None
    finally:
        for path in workplace.glob("*.plain"):
            path.unlink()
        if not keep:
            shutil.rmtree(workplace)
        for folder in (workplace, *([out] if is_new else [])):
            # Only what is empty goes.
            with suppress(OSError):
                folder.rmdir()


@contextmanager
def _verifying(what: str) -> Iterator[None]:
    """Say of what a form or a signature does not hold."""
    try:
        yield
    except ProtocolError as error:
        raise NotVerified(f"{what.capitalize()}: {error.title}", slug=error.slug) from None
    except (KeyError, TypeError, AttributeError):
        raise NotVerified(
            f"{what.capitalize()}: the server's answer is not in its form.", slug="bad-answer"
        ) from None


def _fault_of_account(path: Path) -> str | None:
    """Say what is wrong with the form of an authentic account.

    The witness's words must not be lost to a fault of their program or to a newer form, so such an
    account is kept byte for byte, under a name that promises nothing.
    """
    with path.open("rb") as file:
        content = file.read(ACCOUNT_LIMIT + 1)
    try:
        parse_account(content)
    except ProtocolError as error:
        return (
            f"The account is what the witness sealed but not in its form ({error.slug});"
            f" it is in {UNREADABLE_ACCOUNT}."
        )
    return None


def _sign_opening(desk: DeskClient, verified: VerifiedDirectory, case: str) -> None:
    action = sign_action(
        desk.keys.signing,
        deployment=verified.pins.deployment,
        directory=verified.directory.version,
        action="open",
        case=case,
        actor=desk.keys.id,
        body={},
        made_at=desk.clock(),
    )
    answer = desk.patience.persist(
        lambda: desk.ask("POST", f"/v1/cases/{case}/openings", document={"action": action})
    )
    if answer.status == 201:
        return
    refusal = answer.refusal()
    # Its own nonce can be known only from a request whose answer was lost.
    if refusal.slug != "action-replayed":
        raise refusal


def _verify_case(
    desk: DeskClient, pins: RootPins, case: str, described: Mapping[str, Any]
) -> _Case:
    """Fetch receipt, policy, own grant and manifest, and check that they are about one case and agree."""
    receipt = verify_receipt(described["receipt"], pins.custody_log_key)
    policy = parse_policy(unb64(described["policy"]))
    event = receipt.event
    deployment = pins.deployment
    _demand(
        receipt.case == case
        and receipt.deployment == deployment
        and event["kind"] == "testimony-received",
        "receipt-differs",
        "The receipt is of another case.",
    )
    _demand(
        policy.sha256 == event["policy_sha256"] and policy.deployment == deployment,
        "policy-differs",
        "The policy is not the one with which the testimony arrived.",
    )
    key = _open_own_grant(desk, case, event["grants"])
    sealed = desk.get(f"/v1/cases/{case}/manifest", limit=sealed_size(MANIFEST_LIMIT)).body
    _demand(
        sha256_hex(sealed) == event["manifest_sha256"],
        "manifest-differs",
        "The manifest is not the one that arrived.",
    )
    content = open_sealed(sealed, key, Kind.MANIFEST)
    manifest = parse_manifest(content)
    _demand(
        manifest.case == case and manifest.deployment == deployment,
        "manifest-differs",
        "The manifest is of another case.",
    )
    _demand(
        manifest.policy_sha256 == policy.sha256,
        "policy-differs",
        "The policy is not the one that the witness sealed the testimony under.",
    )
    arrived = event["objects"]
    _demand(
        [(one["i"], check_sha256_hex(one["sealed_sha256"])) for one in arrived]
        == [(one.i, one.sealed_sha256) for one in manifest.objects],
        "objects-differ",
        "The objects that arrived are not those that the witness lists.",
    )
    sizes = tuple(one["size"] for one in arrived)
    for size in sizes:
        _demand(type(size) is int, "objects-differ", "An object has no size.")
    check_size(Kind.ACCOUNT if is_small(sizes[0]) else Kind.FILE, sizes[0])
    for size in sizes[1:]:
        check_size(Kind.FILE, size)
    return _Case(manifest, content, policy, receipt, key, sizes)


def is_small(size: int) -> bool:
    """Tell whether a sealed account of `size` bytes is of its own kind, not a file."""
    try:
        check_size(Kind.ACCOUNT, size)
    except ProtocolError:
        return False
    return True


def _open_own_grant(desk: DeskClient, case: str, arrived: list[Mapping[str, Any]]) -> Identity:
    """Fetch this reader's grant and open it; it must be the one that arrived with the testimony."""
    intake = desk.keys.intake
    label = next((one for one in arrived if one["reader"] == desk.keys.id), None)
    if intake is None or label is None:
        raise NoGrant("This case was not sealed to you: there is no grant of yours.")
    if label["intake_key"] != intake_key_id(intake.recipient):
        raise NoGrant("This case was sealed to another key of yours.", slug="grant-for-other-key")
    grants = desk.get(f"/v1/cases/{case}/grants").document()["grants"]
    for one in grants:
        sealed = unb64(one["grant"], GRANT_SIZE)
        if sha256_hex(sealed) == label["sha256"]:
            return open_grant(sealed, intake, case)
    raise NotVerified(
        "The server does not give the grant that arrived with the testimony.", slug="grant-differs"
    )


def _demand(condition: bool, slug: str, title: str) -> None:
    if not condition:
        raise NotVerified(title, slug=slug)


def _doubts(found: _Case, directory: Directory) -> list[str]:
    """Say what does not forbid reading but a reader should know."""
    if found.manifest.directory != directory.version:
        return [
            f"The testimony was sealed under version {found.manifest.directory} of the directory;"
            f" whom it was sealed to was not compared with version {directory.version}."
        ]
    try:
        admitted = eligible(directory, found.policy)
    except ProtocolError:
        admitted = frozenset()
    strangers = [
        check_id(label["reader"])
        for label in found.receipt.event["grants"]
        if label["reader"] not in admitted
    ]
    return [
        f"It was also sealed to {one}, whom the directory does not let read it."
        for one in strangers
    ]


def _download(desk: DeskClient, found: _Case, workplace: Path, progress: Progress) -> None:
    """Fetch every object as it is sealed; go on where an earlier connection, or run, was cut."""
    parts = [workplace / f"{item.i}.age" for item in found.manifest.objects]
    there = sum(path.stat().st_size for path in parts if path.exists())
    with progress.step("Downloading", sum(found.sizes), done=there) as advance:
        for item, size, path in zip(found.manifest.objects, found.sizes, parts, strict=True):
            _demand(
                _download_one(desk, found.manifest.case, item, size, path, advance)
                == item.sealed_sha256,
                "object-differs",
                f"Object {item.i} is not what the witness sealed.",
            )


def _download_one(
    desk: DeskClient, case: str, item: SealedObject, size: int, path: Path, advance: Advance
) -> str:
    """Complete one sealed object in `path`; returns its hash."""
    digest = hashlib.sha256()
    with path.open("a+b") as file:
        file.seek(0)
        while block := file.read(BLOCK_BYTES):
            digest.update(block)

        def write(block: bytes) -> None:
            file.write(block)
            digest.update(block)
            advance(len(block))

        failures = 0
        while (have := file.tell()) < size:
            headers = {"Range": f"bytes={have}-", "If-Range": f'"{item.sealed_sha256}"'}
            try:
                answer = desk.ask(
                    "GET",
                    f"/v1/cases/{case}/objects/{item.i}",
                    headers=headers if have else None,
                    limit=size - have,
                    write=write,
                )
                if answer.status not in {200, 206}:
                    raise answer.refusal()
                if file.tell() < size:
                    raise NetworkFailed("The connection to the server was cut.")
            except NetworkFailed as failure:
                failures = 1 if file.tell() > have else failures + 1
                desk.patience.wait(failures, failure)
    return digest.hexdigest()


def _open_objects(found: _Case, workplace: Path, progress: Progress) -> list[Path]:
    """Open every object to a temporary name and check that it is what the manifest says."""
    opened = []
    with progress.step("Opening", sum(one.len for one in found.manifest.objects)) as advance:
        for item, size in zip(found.manifest.objects, found.sizes, strict=True):
            sealed, plain = workplace / f"{item.i}.age", workplace / f"{item.i}.plain"
            kind = Kind.ACCOUNT if item.i == 0 and is_small(size) else Kind.FILE
            with (
                _verifying(f"object {item.i}"),
                sealed.open("rb") as source,
                plain.open("wb") as target,
            ):
                digests = _open_one(source, target, found.key, kind, advance)
            _demand(
                (digests.sha256, digests.length, digests.sealed_sha256)
                == (item.sha256, item.len, item.sealed_sha256),
                "object-differs",
                f"Object {item.i} opens, but is not what the witness's manifest says.",
            )
            sealed.unlink()
            opened.append(plain)
    return opened


def _open_one(
    source: BinaryIO, target: BinaryIO, key: Identity, kind: Kind, advance: Advance
) -> Digests:
    digests = open_stream(source, target, key, kind=kind, progress=advance)
    target.flush()
    os.fsync(target.fileno())
    return digests


def _names(manifest: Manifest, out: Path) -> list[str]:
    """Give every object a name that is safe and not taken, also not by a file that was there before."""
    names = [ACCOUNT]
    taken = {ACCOUNT, UNREADABLE_ACCOUNT, MANIFEST, *(path.name for path in out.iterdir())}
    for item in manifest.objects[1:]:
        name = safe_name(item.name, taken)
        taken.add(name)
        names.append(name)
    return names
