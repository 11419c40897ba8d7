# SPDX-License-Identifier: AGPL-3.0-or-later
"""Fetch and verify the directory before anything is sealed: signatures, thresholds, expiry, rollback, mix-and-match."""

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from securesystemslib.signer import Key, SSlibKey
from tuf.api import exceptions as tuf
from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

from amana.client.errors import ClientError, NotVerified, Usage
from amana.client.log import Fetch
from amana.client.logwatch import (
    LogNotVerified,
    PublicLog,
    SeenCheckpoint,
    check_quorum,
    not_logged,
)
from amana.protocol.directory import (
    DIRECTORY_TARGET,
    LIMIT_BYTES,
    Directory,
    DirectoryExpired,
    DirectoryIncomplete,
    DirectoryInvalid,
    RootPins,
    check_signed,
    parse_directory,
    target_names,
)
from amana.protocol.encoding import b64, sha256_hex
from amana.protocol.errors import ProtocolError
from amana.protocol.logleaf import targets_leaf
from amana.protocol.signing import public_key

METADATA_LIMIT_BYTES = 256 * 1024
MAX_ROOTS = 256
WARNING_DAYS = 14
OFFICERS_SIGN = (Root.type, Targets.type)
SERVER_SIGNS = (Snapshot.type, Timestamp.type)
SEEN = "newest-version"
LOG_SEEN = "directory-log"
PAUSES_SECONDS = (0.5, 1.0, 2.0, 4.0)
"""How long a client waits, again and again, for cosigners of what was published a moment ago."""

PERHAPS_SOON = frozenset({"directory-not-logged", "log-quorum", "log-rollback"})

T = TypeVar("T", Root, Targets, Snapshot, Timestamp)

Getter = Callable[[str], bytes | None]
"""Fetches a path below `/v1/directory/`; None when it is not there."""


@dataclass(frozen=True)
class VerifiedDirectory:
    """A directory that m officers signed, and what the root pins."""

    directory: Directory
    pins: RootPins


@dataclass(frozen=True)
class Published:
    """A version with everything that was signed: what officers start from, and compare."""

    directory: Directory
    root: Metadata[Root]
    targets: Metadata[Targets]
    files: Mapping[str, bytes]
    listed: bytes
    """The officers' list as it is served, byte by byte."""

    @property
    def verified(self) -> VerifiedDirectory:
        return VerifiedDirectory(self.directory, check_root(self.root.signed))


class _Fetcher(FetcherInterface):
    """Gives python-tuf the bytes that our own transport brings, so that it never opens a connection itself."""

    def __init__(self, get: Getter) -> None:
        self._get = get

    def _fetch(self, url: str) -> Iterator[bytes]:
        content = self._get(url.removeprefix("directory:///"))
        if content is None:
            raise tuf.DownloadHTTPError("not there", 404)
        if url.endswith(".root.json"):
            # python-tuf counts key ids and takes whatever ids a root gives to its keys.
            check_root(_parsed(Root, content).signed)
        return iter((content,))


def read_root(root: bytes) -> RootPins:
    """Return what a root file pins; it must be signed by its own threshold."""
    try:
        metadata = Metadata[Root].from_bytes(root)
        metadata.signed.verify_delegate(Root.type, metadata.signed_bytes, metadata.signatures)
        return check_root(metadata.signed)
    except (tuf.RepositoryError, ProtocolError, ValueError, KeyError, AttributeError):
        raise NotVerified(
            "The root file is not a root that its officers signed.", slug="root-invalid"
        ) from None


def signed_sha256(metadata: Metadata[T]) -> str:
    """Return the hash of what was signed, whoever signed it by now: what officers expect before they all have."""
    return sha256_hex(metadata.signed_bytes)


def tuf_key(public: str) -> SSlibKey:
    """Return an Ed25519 public key (Base64) as TUF writes keys."""
    return SSlibKey.from_crypto(public_key(public))


def key_of(key: Key) -> str:
    """Return the public key (Base64) of a key as TUF writes it."""
    return b64(bytes.fromhex(key.keyval["public"]))


def check_root(root: Root) -> RootPins:
    """Return what a root's signed field `x-amana` fixes, if each of its keys has one id and one side.

    A threshold counts key ids (TUF §4.2), so one key under two ids would count as two officers; and a
    server whose key were an officer's too would vouch for readers. Raises DirectoryInvalid.
    """
    pins = RootPins.parse(root.unrecognized_fields.get("x-amana"))
    for key in root.keys.values():
        if tuf_key(key_of(key)) != key:
            raise DirectoryInvalid(title="The root lists a key under an id that is not its own.")
    officers, server = (
        {key_of(root.keys[keyid]) for role in roles for keyid in root.roles[role].keyids}
        for roles in (OFFICERS_SIGN, SERVER_SIGNS)
    )
    if officers & {*server, pins.directory_log_key, pins.custody_log_key}:
        raise DirectoryInvalid(title="The root gives a key of the server the part of an officer.")
    if {*officers, *server} & {one.key.public for one in pins.cosigners}:
        raise DirectoryInvalid(title="The root gives a cosigner the part of an officer or server.")
    return pins


def root_keys(root: Root) -> frozenset[str]:
    """Return the public keys (Base64) that a root names: of officers, of the server, of its logs and cosigners."""
    pins = check_root(root)
    signers = {key_of(key) for key in root.keys.values()}
    cosigners = {one.key.public for one in pins.cosigners}
    return frozenset({*signers, *cosigners, pins.directory_log_key, pins.custody_log_key})


def fetch_directory(
    get: Getter,
    root: bytes,
    cache: Path | None,
    *,
    desk: str | None = None,
    log: Fetch | None = None,
    pauses: Sequence[float] = PAUSES_SECONDS,
) -> VerifiedDirectory:
    """Return the newest directory that verifies from `root`; with `desk`, of the readers only that desk's.

    Where the root asks for cosigners, it must be the last leaf of the directory log, which `log` reads,
    under a recent checkpoint with their quorum. With a `cache` folder, what was seen is remembered and
    anything older is refused, and what did not change is not fetched again; without one nothing stays on
    the device. Raises NotVerified, NetworkFailed as `get` does, and Usage for a cache that cannot be written.
    """
    return fetch_published(get, root, cache, desk=desk, log=log, pauses=pauses).verified


def fetch_published(
    get: Getter,
    root: bytes,
    cache: Path | None,
    *,
    desk: str | None = None,
    log: Fetch | None = None,
    demand_log: bool = True,
    pauses: Sequence[float] = PAUSES_SECONDS,
) -> Published:
    """Return the newest directory with its signatures; verifies and raises as `fetch_directory` does.

    Only officers go without the log, with `demand_log` false: a version that they sign is judged again by everybody.
    """
    pins = read_root(root)
    with tempfile.TemporaryDirectory() as private, refusals():
        folder = cache or Path(private)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = _published(get, root, pins, folder, desk)
        left = list(pauses)
        while demand_log:
            try:
                _check_logged(found, log, None if cache is None else folder)
                break
            except LogNotVerified as refused:
                if refused.slug not in PERHAPS_SOON or not left:
                    raise
            # A version has just been published, and its cosigners are being asked.
            time.sleep(left.pop(0))
            found = _published(get, root, pins, folder, desk)
        _remember(folder, found.directory.version)
        return found


def _check_logged(found: Published, get: Fetch | None, folder: Path | None) -> None:
    """Check that a version is the newest in the directory log, under the root in force, as cosigners saw it."""
    root = found.root.signed
    pins = check_root(root)
    if pins.quorum == 0:
        return
    if get is None:
        raise not_logged()
    log = PublicLog(get, pins.directory_log)
    signed = log.checkpoint("cosigned", pins.cosigners)
    if signed is None:
        raise LogNotVerified("log-quorum", "No cosigner vouches for the public log yet.")
    check_quorum(signed, pins, datetime.now(UTC))
    # A version of the root in the leaf: nobody can be kept under an older root with its officers and cosigners.
    leaf = targets_leaf(found.targets.signed.version, found.listed, root.version)
    log.verify_last(leaf, signed.checkpoint)
    if folder is not None:
        SeenCheckpoint(folder / LOG_SEEN, log).follow(signed)


def fetch_version(
    get: Getter, root: bytes, version: int, *, oldest_root: bool = False
) -> Published:
    """Return a version that was published once; it may have expired or been replaced since.

    The officers of its own time must have signed it: one root of the chain that begins with `root`.
    Where several roots fit, nothing tells which was in force: the newest is taken, or the oldest.
    """
    with refusals():
        chain = follow_roots(get, root)
        listed = _demanded(get, f"{version}.targets.json")
        targets = _parsed(Targets, listed)
        signed_under = signing_root(chain if oldest_root else chain[::-1], targets)
        if targets.signed.version != version:
            raise tuf.BadVersionNumberError
        files = {}
        for name, info in targets.signed.targets.items():
            folder, slash, last = name.rpartition("/")
            content = _demanded(get, f"targets/{folder}{slash}{info.hashes['sha256']}.{last}")
            info.verify_length_and_hashes(content)
            files[name] = content
        directory = parse_directory(files)
        if (directory.deployment, directory.version) != (read_root(root).deployment, version):
            raise NotVerified("The directory was altered.", slug="directory-tampered")
        return Published(directory, signed_under, targets, files, listed)


def fetch_expired(get: Getter, root: bytes, cache: Path | None) -> Published:
    """Return the newest version, fresh or not: officers must be able to renew what expired.

    Apart from the days all holds as in `fetch_published`: the officers of the newest root signed it, the
    server's key calls it the newest, and none older than one seen in the `cache` is taken.
    """
    with refusals():
        newest = follow_roots(get, root)[-1].signed
        timestamp = _signed_under(newest, Timestamp, _demanded(get, "timestamp.json"))
        name = f"{timestamp.snapshot_meta.version}.snapshot.json"
        snapshot = _signed_under(newest, Snapshot, _demanded(get, name))
        version = snapshot.meta["targets.json"].version
        if snapshot.version != timestamp.snapshot_meta.version or version < _seen(cache):
            raise tuf.BadVersionNumberError
        found = fetch_version(get, root, version)
        _signed_under(newest, Targets, found.targets.to_bytes())
    return found


def _signed_under(root: Root, kind: type[T], content: bytes) -> T:
    """Return metadata that enough of the keys signed which a root names for its kind."""
    metadata = _parsed(kind, content)
    root.verify_delegate(kind.type, metadata.signed_bytes, metadata.signatures)
    return metadata.signed


def _seen(cache: Path | None) -> int:
    """Return the newest version that this cache saw, 0 at first.

    It is kept apart from python-tuf's files, which forget versions when the server's key changes.
    """
    path = cache / SEEN if cache else None
    if path is None or not path.exists():
        return 0
    try:
        return int(path.read_text("ascii")[:16])
    except ValueError:
        # To go on would be to forget what was seen, which is what an attacker wants.
        raise Usage(f"{SEEN} in the directory's cache is damaged.", slug="cache-unusable") from None


def _remember(cache: Path, version: int) -> None:
    draft = cache / f"{SEEN}.new"
    draft.write_text(str(version), "ascii")
    draft.replace(cache / SEEN)


def _demanded(get: Getter, name: str) -> bytes:
    content = get(name)
    if content is None:
        raise DirectoryIncomplete
    return content


def _parsed(kind: type[T], content: bytes) -> Metadata[T]:
    """Parse metadata of one kind: officers sign several, and one must not pass for another."""
    metadata = Metadata[T].from_bytes(content)
    if metadata.signed.type != kind.type:
        raise tuf.RepositoryError("another kind of metadata")
    return metadata


def follow_roots(get: Getter, root: bytes) -> list[Metadata[Root]]:
    """Return the roots from the trusted one on; each is signed by the one before and by itself."""
    pins = read_root(root)
    chain = [Metadata[Root].from_bytes(root)]
    while len(chain) < MAX_ROOTS:
        current = chain[-1].signed
        content = get(f"{current.version + 1}.root.json")
        if content is None:
            break
        following = _parsed(Root, content)
        check_next_root(current, following)
        if check_root(following.signed).deployment != pins.deployment:
            raise NotVerified("The root is of another installation.", slug="directory-tampered")
        chain.append(following)
    return chain


def newest_pins(get: Getter, root: bytes) -> RootPins:
    """Return what the root in force pins, following the officers' signatures from the trusted one.

    Raises NotVerified, NetworkFailed as `get` does.
    """
    with refusals():
        return check_root(follow_roots(get, root)[-1].signed)


def custody_logs(get: Getter, root: bytes) -> list[RootPins]:
    """Return what the chain of roots from the trusted one pins about each custody log, the oldest log first.

    There is more than one where a log ended and another was opened in its place; of the roots that pin one log the
    newest says whose cosignatures count. Raises NotVerified.
    """
    with refusals():
        pinned = [check_root(one.signed) for one in follow_roots(get, root)]
    return list({one.custody_log.name: one for one in pinned}.values())


def check_next_root(current: Root, following: Metadata[Root]) -> None:
    """Check that a root follows another: the next number, signed by enough officers of both; raises RepositoryError."""
    if following.signed.type != Root.type or following.signed.version != current.version + 1:
        raise tuf.BadVersionNumberError
    for judge in (current, following.signed):
        judge.verify_delegate(Root.type, following.signed_bytes, following.signatures)
    check_root(following.signed)


def signing_root(chain: list[Metadata[Root]], targets: Metadata[Targets]) -> Metadata[Root]:
    """Return the first of these roots whose officers signed `targets`; raises UnsignedMetadataError."""
    for root in chain:
        with suppress(tuf.UnsignedMetadataError):
            root.signed.verify_delegate(Targets.type, targets.signed_bytes, targets.signatures)
            return root
    raise tuf.UnsignedMetadataError


def expiry_warnings(root: Root | None, targets: Targets, now: datetime) -> list[str]:
    """Say what must be signed anew within 14 days, or is over already."""
    warnings = []
    renewals = [("directory", targets, "propose"), ("root", root, "rotate-root")]
    for name, signed, command in renewals:
        if signed is None or signed.expires - now > timedelta(days=WARNING_DAYS):
            continue
        when = "has expired" if signed.expires <= now else "expires"
        warnings.append(
            f"The {name} {when} on {signed.expires:%Y-%m-%d};"
            f" the officers must sign a new one ('amana officer {command}')."
        )
    return warnings


@contextmanager
def refusals() -> Iterator[None]:
    """Turn the errors of python-tuf and of the formats into ours; each has one stable slug."""
    try:
        yield
    except tuf.ExpiredMetadataError:
        raise NotVerified(
            "The directory has expired; the officers must renew it.", slug="directory-expired"
        ) from None
    except tuf.BadVersionNumberError:
        raise NotVerified(
            "The directory is older than one that was seen, or mixed of several versions.",
            slug="directory-rollback",
        ) from None
    except tuf.UnsignedMetadataError:
        raise NotVerified(
            "Too few officers signed the directory.", slug="directory-threshold"
        ) from None
    except (DirectoryExpired, DirectoryIncomplete) as error:
        raise NotVerified(error.title, slug=error.slug) from None
    except tuf.DownloadHTTPError:
        raise NotVerified(DirectoryIncomplete.title, slug=DirectoryIncomplete.slug) from None
    except (tuf.RepositoryError, tuf.DownloadError, ProtocolError, ValueError, KeyError) as error:
        # python-tuf wraps whatever a fetcher raises; a network that fails says nothing of the directory.
        if isinstance(error.__cause__, ClientError):
            raise error.__cause__ from None
        raise NotVerified("The directory was altered.", slug="directory-tampered") from None
    except OSError:
        raise Usage(
            "The folder that remembers the directory cannot be written.", slug="cache-unusable"
        ) from None


def _published(
    get: Getter, root: bytes, pins: RootPins, folder: Path, desk: str | None
) -> Published:
    updater = Updater(
        str(folder),
        metadata_base_url="directory:///",
        target_base_url="directory:///targets/",
        target_dir=str(folder),
        fetcher=_Fetcher(get),
        config=UpdaterConfig(
            root_max_length=METADATA_LIMIT_BYTES,
            snapshot_max_length=METADATA_LIMIT_BYTES,
            targets_max_length=METADATA_LIMIT_BYTES,
        ),
        bootstrap=root,
    )
    updater.refresh()
    targets = Metadata[Targets].from_file(str(folder / "targets.json"))
    signed = targets.signed
    newest = Metadata[Root].from_file(str(folder / "root.json"))
    first = _target(updater, signed, DIRECTORY_TARGET, folder)
    names = sorted(target_names(first, desk))
    files = {name: _target(updater, signed, name, folder) for name in names}
    directory = parse_directory(files, desk)
    if check_root(newest.signed).deployment != pins.deployment:
        raise NotVerified("The root is of another installation.", slug="directory-tampered")
    check_signed(
        directory,
        version=signed.version,
        expires=signed.expires,
        deployment=pins.deployment,
        root_keys=root_keys(newest.signed),
        now=datetime.now(UTC),
    )
    if signed.version < _seen(folder):
        raise tuf.BadVersionNumberError
    return Published(directory, newest, targets, files, (folder / "targets.json").read_bytes())


def _target(updater: Updater, signed: Targets, name: str, folder: Path) -> bytes:
    # Only the officers' own list counts: nobody may sign parts of a directory in their stead.
    info = signed.targets.get(name)
    if info is None:
        raise DirectoryIncomplete
    if info.length > LIMIT_BYTES:
        raise NotVerified("A part of the directory is too large.", slug="directory-tampered")
    path = str(folder / f"target-{name.replace('/', '-')}")
    if updater.find_cached_target(info, path) is None:
        updater.download_target(info, path)
    return Path(path).read_bytes()
