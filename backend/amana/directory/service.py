# SPDX-License-Identifier: AGPL-3.0-or-later
"""Publish what the officers signed and say who may read now; the server adds freshness, never authority."""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session
from tuf.api.exceptions import RepositoryError, UnsignedMetadataError
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, Targets, Timestamp

from amana.client.directory import check_root, root_keys, tuf_key
from amana.client.officer import tuf_signer
from amana.custody import service as custody
from amana.directory.models import DirectoryFile, DirectoryVersion
from amana.errors import Conflict, NotFound, Refusal, Unprocessable
from amana.protocol.directory import (
    Directory,
    DirectoryIncomplete,
    RootPins,
    check_signed,
    parse_directory,
)
from amana.protocol.errors import ProtocolError
from amana.protocol.logleaf import root_leaf, targets_leaf
from amana.protocol.signing import SigningKey
from amana.storage.database import Database

T = TypeVar("T", Root, Targets, Snapshot, Timestamp)

SNAPSHOT_LIFE = timedelta(days=7)
TIMESTAMP_LIFE = timedelta(days=1)
TIMESTAMP = "timestamp.json"
_METADATA = re.compile(r"[1-9][0-9]{0,8}\.(root|targets)\.json")
_SERVED = re.compile(
    r"timestamp\.json|[1-9][0-9]{0,8}\.(root|targets|snapshot)\.json|targets/[a-z0-9./-]{1,180}"
)


class DirectoryRefused(Unprocessable):
    slug = "directory-tampered"
    title = "The directory is not what the officers of this installation sign."


class DirectoryThreshold(Unprocessable):
    slug = "directory-threshold"
    title = "Too few officers signed the directory."


class DirectoryRollback(Conflict):
    slug = "directory-rollback"
    title = "The directory is not the version after the one that is published."


class RootExpired(Unprocessable):
    slug = "root-expired"
    title = "The officers' root has expired; they must sign a new one."


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
    if not all(_METADATA.fullmatch(name) for name in metadata):
        raise DirectoryRefused
    try:
        root, roots = _roots(session, metadata, trusted_root)
        if root.is_expired(now):
            raise RootExpired
        signed, name, content = _targets(metadata)
        root.verify_delegate(Targets.type, signed.signed_bytes, signed.signatures)
        directory = _check_content(signed.signed, targets, root, now)
    except ProtocolError as error:
        raise DirectoryRefused(error.title, slug=error.slug) from None
    except UnsignedMetadataError:
        raise DirectoryThreshold from None
    except (RepositoryError, ValueError, KeyError):
        raise DirectoryRefused from None
    if tuf_key(online.public).keyid not in root.roles[Timestamp.type].keyids:
        raise DirectoryRefused("The root names another online key than this server's.")
    previous = _timestamp(session, wait=True)
    latest = latest_version(session) or 0
    if directory.version == latest and _content(session, name) == content:
        return latest
    if directory.version != latest + 1:
        raise DirectoryRollback
    try:
        session.add(DirectoryVersion(version=directory.version, published_on=now.date()))
        session.flush()
    except IntegrityError:
        # Only two first versions at once come here; later ones wait for each other above.
        raise DirectoryRollback from None
    for target, data in targets.items():
        folder, slash, last = target.rpartition("/")
        sha256 = signed.signed.targets[target].hashes["sha256"]
        _put(session, f"targets/{folder}{slash}{sha256}.{last}", data)
        _put(session, f"versions/{directory.version}/{target}", data)
    _put(session, name, content)
    # Everybody can watch what is published: what nobody signed for stands out there (docs/protocol.md §10).
    for root_name, root_content in roots.items():
        if _content(session, root_name) is None:
            _put(session, root_name, root_content)
            number = int(root_name.partition(".")[0])
            custody.enter(session, root_leaf(number, root_content))
    custody.enter(session, targets_leaf(directory.version, content, root.version))
    number = _sign_snapshot(session, directory.version, previous, online, now)
    _sign_timestamp(session, number, previous, online, now)
    return directory.version


def _roots(
    session: Session, metadata: Mapping[str, bytes], trusted_root: bytes
) -> tuple[Root, dict[str, bytes]]:
    """Follow the chain of roots from the configured one; each is signed by the one before and by itself."""
    current = _parsed(Root, trusted_root)
    current.signed.verify_delegate(Root.type, current.signed_bytes, current.signatures)
    deployment = check_root(current.signed).deployment
    roots = {f"{current.signed.version}.root.json": trusted_root}
    while True:
        name = f"{current.signed.version + 1}.root.json"
        content = _content(session, name) or metadata.get(name)
        if content is None:
            break
        following = _parsed(Root, content)
        if following.signed.version != current.signed.version + 1:
            raise DirectoryRollback
        for judge in (current.signed, following.signed):
            judge.verify_delegate(Root.type, following.signed_bytes, following.signatures)
        current = following
        roots[name] = content
        if check_root(current.signed).deployment != deployment:
            raise DirectoryRefused("The root is of another installation.")
    return current.signed, roots


def _targets(metadata: Mapping[str, bytes]) -> tuple[Metadata[Targets], str, bytes]:
    found = [
        (name, content) for name, content in metadata.items() if name.endswith(".targets.json")
    ]
    if len(found) != 1:
        raise DirectoryRefused
    name, content = found[0]
    signed = _parsed(Targets, content)
    if name != f"{signed.signed.version}.targets.json":
        raise DirectoryRefused
    return signed, name, content


def _parsed(kind: type[T], content: bytes) -> Metadata[T]:
    """Parse metadata of one kind: officers sign several, and one must not pass for another."""
    metadata = Metadata[T].from_bytes(content)
    if metadata.signed.type != kind.type:
        raise DirectoryRefused
    return metadata


def _check_content(
    signed: Targets, targets: Mapping[str, bytes], root: Root, now: datetime
) -> Directory:
    if set(signed.targets) != set(targets):
        raise DirectoryIncomplete
    for name, info in signed.targets.items():
        if set(info.hashes) != {"sha256"}:
            raise DirectoryRefused
        info.verify_length_and_hashes(targets[name])
    directory = parse_directory(targets)
    check_signed(
        directory,
        version=signed.version,
        expires=signed.expires,
        deployment=check_root(root).deployment,
        root_keys=root_keys(root),
        now=now,
    )
    return directory


def _sign_snapshot(
    session: Session, version: int, previous: Timestamp | None, online: SigningKey, now: datetime
) -> int:
    """Sign which list of the officers is the newest; returns the snapshot's number."""
    number = 1 if previous is None else previous.snapshot_meta.version + 1
    snapshot = Snapshot(version=number, expires=now + SNAPSHOT_LIFE)
    snapshot.meta["targets.json"] = MetaFile(version)
    _put(session, f"{number}.snapshot.json", _signed(snapshot, online))
    # Whoever fetches just now may still need the one before, and nobody needs older ones.
    session.execute(
        sa.delete(DirectoryFile).where(DirectoryFile.name == f"{number - 2}.snapshot.json")
    )
    return number


def _sign_timestamp(
    session: Session, snapshot: int, previous: Timestamp | None, online: SigningKey, now: datetime
) -> None:
    timestamp = Timestamp(
        version=1 if previous is None else previous.version + 1, expires=now + TIMESTAMP_LIFE
    )
    timestamp.snapshot_meta = MetaFile(snapshot)
    _put(session, TIMESTAMP, _signed(timestamp, online))


def _signed(signed: Snapshot | Timestamp, online: SigningKey) -> bytes:
    metadata: Metadata[Any] = Metadata(signed)
    metadata.sign(tuf_signer(online))
    return metadata.to_bytes()


def refresh(session: Session, online: SigningKey, now: datetime) -> int:
    """Sign the time stamp, and the snapshot, anew when half of its life is over; returns 1 if it did."""
    previous = _timestamp(session, wait=True)
    version = latest_version(session)
    if previous is None or version is None or not _is_old(previous, TIMESTAMP_LIFE, now):
        return 0
    number = previous.snapshot_meta.version
    content = _content(session, f"{number}.snapshot.json")
    if content is None or _is_old(
        Metadata[Snapshot].from_bytes(content).signed, SNAPSHOT_LIFE, now
    ):
        number = _sign_snapshot(session, version, previous, online, now)
    _sign_timestamp(session, number, previous, online, now)
    return 1


def is_stale(timestamp: bytes, now: datetime) -> bool:
    """Tell whether a time stamp has lived more than half of its life."""
    return _is_old(Metadata[Timestamp].from_bytes(timestamp).signed, TIMESTAMP_LIFE, now)


def _is_old(signed: Snapshot | Timestamp, life: timedelta, now: datetime) -> bool:
    return signed.expires - now <= life / 2


def file(session: Session, name: str) -> bytes:
    """Return one file of the directory."""
    content = _content(session, name) if _SERVED.fullmatch(name) else None
    if content is None:
        raise NotFound
    return content


def latest_version(session: Session) -> int | None:
    """Return the number of the newest version."""
    return session.scalar(sa.select(sa.func.max(DirectoryVersion.version)))


def newest_signed(session: Session, trusted_root: bytes) -> tuple[Root, Targets] | None:
    """Return the root in force and the officers' newest list, for their expiry; None before the first version."""
    version = latest_version(session)
    content = _content(session, f"{version}.targets.json")
    if content is None:
        return None
    root, _ = _roots(session, {}, trusted_root)
    return root, Metadata[Targets].from_bytes(content).signed


def custody_log_keys(session: Session, trusted_root: bytes) -> set[str]:
    """Return the keys of the custody log that the roots pin, from the configured one on: receipts were signed by any."""
    _, roots = _roots(session, {}, trusted_root)
    return {check_root(_parsed(Root, root).signed).custody_log_key for root in roots.values()}


def pinned(session: Session, trusted_root: bytes) -> RootPins:
    """Return what the root in force pins, among it the two logs."""
    try:
        return check_root(_roots(session, {}, trusted_root)[0])
    except (RepositoryError, ValueError, KeyError):
        raise DirectoryRefused from None


def current(session: Session, cache: dict[str, Any]) -> Directory:
    """Return the newest version; `cache` keeps parsed versions, which never change."""
    version = latest_version(session)
    if version is None:
        raise NoDirectory
    return at(session, version, cache)


def known(database: Database, version: int, cache: dict[str, Any]) -> Directory:
    """Return a version that was published; the database is not asked for one that this process parsed before."""
    parsed: dict[int, Directory] = cache.get("directories", {})
    if version in parsed:
        return parsed[version]
    with database.reading() as session:
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


def ever_listed(session: Session, key: str) -> bool:
    """Tell whether a public key stands, or stood, in a version that was published, whoever's it was."""
    # Parts are canonical JSON, in which such a text looks one way; equal parts of several versions are one file.
    part = sa.literal(f'"{key}"'.encode(), sa.LargeBinary)
    if session.get_bind().dialect.name == "sqlite":
        place = sa.func.instr(DirectoryFile.content, part)
    else:
        place = sa.func.position(part.op("IN")(DirectoryFile.content))
    query = sa.select(DirectoryFile.name).where(
        DirectoryFile.name.startswith("targets/"), place > 0
    )
    return session.scalar(query.limit(1)) is not None


def _content(session: Session, name: str) -> bytes | None:
    return session.scalar(sa.select(DirectoryFile.content).where(DirectoryFile.name == name))


def _timestamp(session: Session, *, wait: bool = False) -> Timestamp | None:
    """Return the newest time stamp; with `wait`, after all others who are about to replace it."""
    query = sa.select(DirectoryFile.content).where(DirectoryFile.name == TIMESTAMP)
    content = session.scalar(query.with_for_update() if wait else query)
    return None if content is None else Metadata[Timestamp].from_bytes(content).signed


def _put(session: Session, name: str, content: bytes) -> None:
    session.merge(DirectoryFile(name=name, content=content))
    session.flush()
