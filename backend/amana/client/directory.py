# SPDX-License-Identifier: AGPL-3.0-or-later
"""Fetch and verify the directory before anything is sealed: signatures, thresholds, expiry, rollback, mix-and-match."""

import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tuf.api import exceptions as tuf
from tuf.api.metadata import Metadata, Root, Targets
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

from amana.client.errors import ClientError, NotVerified
from amana.protocol.directory import (
    DIRECTORY_TARGET,
    LIMIT_BYTES,
    PEOPLE_TARGET,
    TARGETS_DAYS,
    Directory,
    RootPins,
    desk_target,
    parse_directory,
)
from amana.protocol.errors import ProtocolError

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
        return RootPins.parse(metadata.signed.unrecognized_fields.get("x-amana"))
    except (tuf.RepositoryError, ProtocolError, ValueError, AttributeError):
        raise NotVerified(
            "The root file is not a root that its officers signed.", slug="root-invalid"
        ) from None


def fetch_directory(get: Getter, root: bytes, cache: Path | None) -> VerifiedDirectory:
    """Return the newest directory that verifies from `root`.

    With a `cache` folder, versions that were seen are remembered and an older one is refused;
    without one nothing stays on the device.
    """
    read_root(root)
    with tempfile.TemporaryDirectory() as private:
        folder = cache or Path(private)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            return _verified(get, root, folder)
        except tuf.ExpiredMetadataError:
            raise NotVerified(
                "The directory has expired; the officers must renew it.", slug="directory-expired"
            ) from None
        except tuf.BadVersionNumberError:
            raise NotVerified(
                "The server shows an older directory than it did before.", slug="directory-rollback"
            ) from None
        except tuf.UnsignedMetadataError:
            raise NotVerified(
                "Too few officers signed the directory.", slug="directory-threshold"
            ) from None
        except tuf.DownloadHTTPError:
            raise NotVerified(
                "A part of the directory is missing.", slug="directory-incomplete"
            ) from None
        except (
            tuf.RepositoryError,
            tuf.DownloadError,
            ProtocolError,
            OSError,
            ValueError,
        ) as error:
            # python-tuf wraps whatever a fetcher raises; a network that fails says nothing of the directory.
            if isinstance(error.__cause__, ClientError):
                raise error.__cause__ from None
            raise NotVerified("The directory was altered.", slug="directory-tampered") from None


def _verified(get: Getter, root: bytes, folder: Path) -> VerifiedDirectory:
    updater = Updater(
        str(folder),
        metadata_base_url="directory:///",
        target_base_url="directory:///targets/",
        target_dir=str(folder),
        fetcher=_Fetcher(get),
        config=UpdaterConfig(targets_max_length=2**20, prefix_targets_with_hash=True),
        bootstrap=root,
    )
    updater.refresh()
    targets = Metadata[Targets].from_file(str(folder / "targets.json")).signed
    if targets.expires > datetime.now(UTC) + timedelta(days=TARGETS_DAYS, hours=1):
        raise NotVerified(
            "The directory is valid for longer than allowed.", slug="directory-tampered"
        )
    trusted_root = Metadata[Root].from_file(str(folder / "root.json")).signed
    pins = RootPins.parse(trusted_root.unrecognized_fields.get("x-amana"))
    first = _target(updater, DIRECTORY_TARGET, folder)
    desks = [desk["id"] for desk in json.loads(first)["desks"]]
    files = {DIRECTORY_TARGET: first}
    for name in (PEOPLE_TARGET, *(desk_target(str(desk)) for desk in desks)):
        files[name] = _target(updater, name, folder)
    directory = parse_directory(files)
    if directory.deployment != pins.deployment or directory.version != targets.version:
        raise NotVerified("Parts of different directories were mixed.", slug="directory-tampered")
    return VerifiedDirectory(directory, pins)


def _target(updater: Updater, name: str, folder: Path) -> bytes:
    info = updater.get_targetinfo(name)
    if info is None or info.length > LIMIT_BYTES:
        raise NotVerified("A part of the directory is missing.", slug="directory-incomplete")
    path = folder / f"target-{name.replace('/', '-')}"
    updater.download_target(info, str(path))
    return path.read_bytes()
