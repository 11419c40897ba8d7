# SPDX-License-Identifier: AGPL-3.0-or-later
"""Fetch and verify the directory before anything is sealed: signatures, thresholds, expiry, rollback, mix-and-match."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tuf.api import exceptions as tuf
from tuf.api.metadata import Metadata, Root, Targets
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

from amana.client.errors import ClientError, NotVerified, Usage
from amana.protocol.directory import (
    DIRECTORY_TARGET,
    LIMIT_BYTES,
    Directory,
    DirectoryExpired,
    DirectoryIncomplete,
    RootPins,
    check_signed,
    parse_directory,
    target_names,
)
from amana.protocol.encoding import b64
from amana.protocol.errors import ProtocolError

METADATA_LIMIT_BYTES = 256 * 1024

Getter = Callable[[str], bytes | None]
"""Fetches a path below `/v1/directory/`; None when it is not there."""


@dataclass(frozen=True)
class VerifiedDirectory:
    """A directory that m officers signed, and what the root pins."""

    directory: Directory
    pins: RootPins


class _Fetcher(FetcherInterface):
    """Gives python-tuf the bytes that our own transport brings, so that it never opens a connection itself."""

    def __init__(self, get: Getter) -> None:
        self._get = get

    def _fetch(self, url: str) -> Iterator[bytes]:
        content = self._get(url.removeprefix("directory:///"))
        if content is None:
            raise tuf.DownloadHTTPError("not there", 404)
        return iter((content,))


def read_root(root: bytes) -> RootPins:
    """Return what a root file pins; it must be signed by its own threshold."""
    try:
        metadata = Metadata[Root].from_bytes(root)
        metadata.signed.verify_delegate(Root.type, metadata.signed_bytes, metadata.signatures)
        return root_pins(metadata.signed)
    except (tuf.RepositoryError, ProtocolError, ValueError, AttributeError):
        raise NotVerified(
            "The root file is not a root that its officers signed.", slug="root-invalid"
        ) from None


def root_pins(root: Root) -> RootPins:
    """Return what a root's signed field `x-amana` fixes."""
    return RootPins.parse(root.unrecognized_fields.get("x-amana"))


def root_keys(root: Root) -> frozenset[str]:
    """Return the public keys (Base64) that a root names: of officers, of the server, of its logs."""
    pins = root_pins(root)
    signers = {b64(bytes.fromhex(key.keyval["public"])) for key in root.keys.values()}
    return frozenset({*signers, pins.directory_log_key, pins.custody_log_key})


def fetch_directory(get: Getter, root: bytes, cache: Path | None) -> VerifiedDirectory:
    """Return the newest directory that verifies from `root`.

    With a `cache` folder, versions that were seen are remembered and an older one is refused, and
    what did not change is not fetched again; without one nothing stays on the device.
    Raises NotVerified, NetworkFailed as `get` does, and Usage for a cache that cannot be written.
    """
    pins = read_root(root)
    with tempfile.TemporaryDirectory() as private, _refusals():
        folder = cache or Path(private)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return _verified(get, root, pins, folder)


@contextmanager
def _refusals() -> Iterator[None]:
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
    except (tuf.RepositoryError, tuf.DownloadError, ProtocolError, ValueError) as error:
        # python-tuf wraps whatever a fetcher raises; a network that fails says nothing of the directory.
        if isinstance(error.__cause__, ClientError):
            raise error.__cause__ from None
        raise NotVerified("The directory was altered.", slug="directory-tampered") from None
    except OSError:
        raise Usage(
            "The folder that remembers the directory cannot be written.", slug="cache-unusable"
        ) from None


def _verified(get: Getter, root: bytes, pins: RootPins, folder: Path) -> VerifiedDirectory:
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
    signed = Metadata[Targets].from_file(str(folder / "targets.json")).signed
    newest = Metadata[Root].from_file(str(folder / "root.json")).signed
    first = _target(updater, signed, DIRECTORY_TARGET, folder)
    files = {name: _target(updater, signed, name, folder) for name in sorted(target_names(first))}
    directory = parse_directory(files)
    newest_pins = root_pins(newest)
    if newest_pins.deployment != pins.deployment:
        raise NotVerified("The root is of another installation.", slug="directory-tampered")
    check_signed(
        directory,
        version=signed.version,
        expires=signed.expires,
        deployment=pins.deployment,
        root_keys=root_keys(newest),
        now=datetime.now(UTC),
    )
    return VerifiedDirectory(directory, newest_pins)


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
