# SPDX-License-Identifier: AGPL-3.0-or-later
"""Publish what the officers signed and say who may read now; the server adds freshness, never authority."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, Targets, Timestamp

from amana.client.officer import tuf_signer
from amana.directory.models import DirectoryFile, DirectoryVersion
from amana.errors import Conflict, NotFound, Refusal, Unprocessable
from amana.protocol.directory import TARGETS_DAYS, Directory, RootPins, parse_directory
from amana.protocol.errors import ProtocolError
from amana.protocol.signing import SigningKey

SNAPSHOT_DAYS = 7
TIMESTAMP_DAYS = 1
MAX_TARGETS = 128


class DirectoryRefused(Unprocessable):
    slug = "directory-tampered"
    title = "The directory is not what the officers of this installation sign."


class DirectoryThreshold(Unprocessable):
    slug = "directory-threshold"
    title = "Too few officers signed the directory."


class DirectoryExpired(Unprocessable):
    slug = "directory-expired"
    title = "The directory has expired, or is valid for longer than allowed."


class DirectoryRollback(Conflict):
    slug = "directory-rollback"
    title = "The directory is not the version after the one that is published."


class NoDirectory(Refusal):
    slug = "directory-missing"
    status = 503
    title = "The officers have not published a directory yet."


def publish(
    session: Session,
    *,
    metadata: Mapping[str, bytes],
    targets: Mapping[str, bytes],
    trusted_root: bytes,
    online: SigningKey,
    now: datetime,
) -> int:
    """Verify a version with the officers' signatures and publish it; the same one again changes nothing."""
    try:
        root, roots = _roots(session, metadata, trusted_root, now)
        signed, name, content = _targets(metadata)
        _check_signatures(root, signed)
        directory = _check_content(signed.signed, targets, root, now)
        online_key = root.roles["timestamp"].keyids
        if tuf_signer(online).public_key.keyid not in online_key:
            raise DirectoryRefused("The root names another online key than this server's.")
    except ProtocolError as error:
        raise DirectoryRefused(error.title, slug=error.slug) from None
    except (RepositoryError, ValueError, KeyError):
        raise DirectoryRefused from None
    latest = latest_version(session)
    if latest is not None and directory.version == latest:
        if _content(session, name) == content:
            return latest
        raise DirectoryRollback
    if directory.version != (latest or 0) + 1:
        raise DirectoryRollback
    for target, data in targets.items():
        info = signed.signed.targets[target]
        folder, _, last = target.rpartition("/")
        path = f"{folder}/" if folder else ""
        _put(session, f"targets/{path}{info.hashes['sha256']}.{last}", data)
        _put(session, f"versions/{directory.version}/{target}", data)
    _put(session, name, content)
    for root_name, root_content in roots.items():
        _put(session, root_name, root_content)
    session.execute(
        sa.insert(DirectoryVersion).values(version=directory.version, published_on=now.date())
    )
    _sign_snapshot(session, directory.version, online, now)
    return directory.version


def _roots(
    session: Session, metadata: Mapping[str, bytes], trusted_root: bytes, now: datetime
) -> tuple[Root, dict[str, bytes]]:
    """Follow the chain of roots from the configured one; each is signed by the one before and by itself."""
    current = Metadata[Root].from_bytes(trusted_root)
    current.signed.verify_delegate(Root.type, current.signed_bytes, current.signatures)
    roots = {f"{current.signed.version}.root.json": trusted_root}
    while True:
        name = f"{current.signed.version + 1}.root.json"
        content = _content(session, name) or metadata.get(name)
        if content is None:
            break
        following = Metadata[Root].from_bytes(content)
        if following.signed.version != current.signed.version + 1:
            raise DirectoryRollback
        for judge in (current.signed, following.signed):
            judge.verify_delegate(Root.type, following.signed_bytes, following.signatures)
        current = following
        roots[name] = content
    if current.signed.is_expired(now):
        raise DirectoryExpired
    RootPins.parse(current.signed.unrecognized_fields.get("x-amana"))
    return current.signed, roots


def _targets(metadata: Mapping[str, bytes]) -> tuple[Metadata[Targets], str, bytes]:
    found = [
        (name, content) for name, content in metadata.items() if name.endswith(".targets.json")
    ]
    if len(found) != 1:
        raise DirectoryRefused
    name, content = found[0]
    signed = Metadata[Targets].from_bytes(content)
    if name != f"{signed.signed.version}.targets.json":
        raise DirectoryRefused
    return signed, name, content


def _check_signatures(root: Root, signed: Metadata[Targets]) -> None:
    try:
        root.verify_delegate(Targets.type, signed.signed_bytes, signed.signatures)
    except RepositoryError:
        raise DirectoryThreshold from None


def _check_content(
    signed: Targets, targets: Mapping[str, bytes], root: Root, now: datetime
) -> Directory:
    if signed.is_expired(now) or signed.expires > now + timedelta(days=TARGETS_DAYS, hours=1):
        raise DirectoryExpired
    if set(signed.targets) != set(targets) or len(targets) > MAX_TARGETS:
        raise DirectoryRefused(slug="directory-incomplete")
    for name, info in signed.targets.items():
        info.verify_length_and_hashes(targets[name])
    directory = parse_directory(targets)
    pinned = RootPins.parse(root.unrecognized_fields.get("x-amana"))
    if directory.deployment != pinned.deployment or directory.version != signed.version:
        raise DirectoryRefused
    return directory


def _sign_snapshot(session: Session, version: int, online: SigningKey, now: datetime) -> None:
    snapshot = Metadata(Snapshot(version=version, expires=_until(now, SNAPSHOT_DAYS)))
    previous = _timestamp(session)
    if previous is not None:
        snapshot.signed.version = previous.snapshot_meta.version + 1
    snapshot.signed.meta["targets.json"] = MetaFile(version)
    snapshot.sign(tuf_signer(online))
    _put(session, f"{snapshot.signed.version}.snapshot.json", snapshot.to_bytes())
    timestamp = Metadata(Timestamp(expires=_until(now, TIMESTAMP_DAYS)))
    timestamp.signed.version = previous.version + 1 if previous is not None else 1
    timestamp.signed.snapshot_meta = MetaFile(snapshot.signed.version)
    timestamp.sign(tuf_signer(online))
    _put(session, "timestamp.json", timestamp.to_bytes())


def refresh(session: Session, online: SigningKey, now: datetime) -> int:
    """Sign snapshot and time stamp anew when half of the time stamp's life is over; returns 1 if it did."""
    timestamp = _timestamp(session)
    version = latest_version(session)
    half = timedelta(days=TIMESTAMP_DAYS) / 2
    if timestamp is None or version is None or timestamp.expires - now > half:
        return 0
    _sign_snapshot(session, version, online, now)
    return 1


def is_stale(timestamp: bytes, now: datetime) -> bool:
    """Tell whether a time stamp has lived more than half of its life."""
    expires = Metadata[Timestamp].from_bytes(timestamp).signed.expires
    return expires - now <= timedelta(days=TIMESTAMP_DAYS) / 2


def file(session: Session, name: str) -> bytes:
    """Return one file of the directory."""
    content = None if name.startswith("versions/") else _content(session, name)
    if content is None:
        raise NotFound
    return content


def latest_version(session: Session) -> int | None:
    """Return the number of the newest version."""
    return session.scalar(sa.select(sa.func.max(DirectoryVersion.version)))


def current(session: Session, cache: dict[str, Any]) -> Directory:
    """Return the newest version; `cache` keeps parsed versions, which never change."""
    version = latest_version(session)
    if version is None:
        raise NoDirectory
    return at(session, version, cache)


def at(session: Session, version: int, cache: dict[str, Any]) -> Directory:
    """Return a version that was published."""
    parsed: dict[int, Directory] = cache.setdefault("directories", {})
    if version not in parsed:
        prefix = f"versions/{version}/"
        rows = session.execute(
            sa.select(DirectoryFile.name, DirectoryFile.content).where(
                DirectoryFile.name.startswith(prefix, autoescape=True)
            )
        )
        files = {name.removeprefix(prefix): content for name, content in rows}
        if not files:
            raise NotFound
        parsed[version] = parse_directory(files)
    return parsed[version]


def _content(session: Session, name: str) -> bytes | None:
    return session.scalar(sa.select(DirectoryFile.content).where(DirectoryFile.name == name))


def _timestamp(session: Session) -> Timestamp | None:
    content = _content(session, "timestamp.json")
    return None if content is None else Metadata[Timestamp].from_bytes(content).signed


def _put(session: Session, name: str, content: bytes) -> None:
    session.merge(DirectoryFile(name=name, content=content))
    session.flush()


def _until(now: datetime, days: int) -> datetime:
    return now.astimezone(UTC).replace(microsecond=0) + timedelta(days=days)
