# SPDX-License-Identifier: AGPL-3.0-or-later
"""Let authorities stamp checkpoints (RFC 3161), and keep their answers beside the log, where anybody can fetch them.

Rounds begin at fixed hours (UTC). What is stamped in one is the newest checkpoint of its beginning, and nothing if
the log did not grow since the one before. So neither an authority nor its stamps tell when in a round somebody
came. An authority that is silent, slow or wrong costs its own stamp and nothing else.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final
from urllib.parse import urlsplit

import sqlalchemy as sa
from cryptography import x509
from sqlalchemy.orm import Session

from amana.client.errors import ClientError, NotVerified
from amana.client.transport import Transport
from amana.config import Config
from amana.custody.cosigning import newest
from amana.custody.models import Log, StampingRound, TimeStamp
from amana.errors import OtherFailed
from amana.protocol.checkpoint import CheckpointInvalid, NoteKey, parse_checkpoint
from amana.protocol.timestamp import (
    CHAIN_LIMIT_BYTES,
    LIMIT_BYTES,
    Stamp,
    TimestampInvalid,
    make_request,
    read_roots,
    stamped_bytes,
    verify_stamp,
)
from amana.storage.blobs import FILES, BlobStore
from amana.storage.database import table_of

SILENCE_SECONDS: Final = 15.0
ANSWER_SECONDS: Final = 60.0
"""How long an answer may take in all, however it drips."""

CLOCKS_SECONDS: Final = 3600
REQUEST_TYPE: Final = "application/timestamp-query"
STAMPED, RESPONSE, CHAIN = "checkpoint", ".tsr", ".pem"
TYPES: Final[Mapping[str, str]] = {
    STAMPED: "text/plain; charset=utf-8",
    RESPONSE: "application/timestamp-reply",
    CHAIN: "application/pem-certificate-chain",
}
_ROUNDS, _STAMPS, _LOGS = map(table_of, (StampingRound, TimeStamp, Log))


class StampFailed(OtherFailed):
    """An authority gave no stamp that holds."""


@dataclass(frozen=True)
class Authority:
    """Where an authority is asked, and under which certificates its stamps must stand."""

    name: str
    url: str
    certificates: tuple[x509.Certificate, ...]
    proxy: str | None = None


def read_authority(config: Config, name: str) -> Authority:
    """Return an authority of the settings; raises StampFailed for certificates that cannot be used."""
    try:
        with (config.timestamp_certificates / f"{name}{CHAIN}").open("rb") as file:
            certificates = read_roots(file.read(CHAIN_LIMIT_BYTES + 1))
    except (OSError, TimestampInvalid):
        raise StampFailed("timestamp-certificates") from None
    return Authority(name, config.timestamp_authorities[name], certificates, config.timestamp_proxy)


def round_number(at: datetime, hours: int) -> int:
    """Return the number of the round at a moment; rounds of a day begin with it."""
    return int(at.timestamp()) // (hours * 3600)


@dataclass(frozen=True)
class Owed:
    """What an authority owes now: a stamp over these bytes, a checkpoint of this size."""

    log: int
    size: int
    stamped: bytes


def owed(session: Session, key: NoteKey, authority: str, number: int) -> Owed | None:
    """Return what an authority owes in a round that has begun, or None; raises LookupError before it has."""
    row = session.execute(
        sa.select(_ROUNDS)
        .join(_LOGS, _LOGS.c.id == _ROUNDS.c.log)
        .where(_LOGS.c.origin == key.name, _ROUNDS.c.authority == authority)
    ).one_or_none()
    if row is None or row.number != number:
        raise LookupError
    return None if row.owed_since is None else Owed(row.log, row.size, row.stamped)


def begin(
    session: Session, key: NoteKey, authority: str, number: int, today: date, *, anew: bool = False
) -> None:
    """Begin a round with the newest checkpoint, unless another process did; `anew` begins it once more.

    A log that published nothing, or nothing under this key, has nothing to be stamped.
    """
    found = newest(session, key.name)
    if found is None:
        return
    log, note = found
    size = parse_checkpoint(note.text).size
    try:
        stamped = stamped_bytes(note, key)
    except CheckpointInvalid:
        return
    if size == 0:
        return
    row = session.get(StampingRound, (log.id, authority), with_for_update=True)
    if row is None:
        session.add(
            StampingRound(
                log=log.id, authority=authority, number=number, size=size, stamped=stamped,
                owed_since=today,
            )
        )  # fmt: skip
        return
    if row.number == number and not anew:
        return
    row.number = number
    if size > row.size:
        row.size, row.stamped = size, stamped
        row.owed_since = row.owed_since or today


def ask(authority: Authority, stamped: bytes) -> tuple[bytes, Stamp]:
    """Return an authority's answer, verified, and what it says; raises StampFailed."""
    request = make_request(stamped)
    response = bytearray()
    until = time.monotonic() + ANSWER_SECONDS

    def write(block: bytes) -> None:
        response.extend(block)
        if time.monotonic() > until:
            raise StampFailed("timestamp-unreachable")

    try:
        parts = urlsplit(authority.url)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        with Transport(
            f"{parts.scheme}://{parts.netloc}",
            proxy=authority.proxy,
            silence_seconds=SILENCE_SECONDS,
            connect_seconds=SILENCE_SECONDS,
            # Many authorities speak nothing else; what is sent is public, and what comes is signed.
            plain_http=True,
        ) as transport:
            answer = transport.ask(
                "POST",
                path,
                headers={"Content-Type": REQUEST_TYPE},
                content=request.content,
                limit=LIMIT_BYTES,
                write=write,
            )
    except NotVerified:
        raise StampFailed("timestamp-bad-answer") from None
    except (ClientError, ValueError):
        raise StampFailed("timestamp-unreachable") from None
    if answer.status != 200:
        raise StampFailed("timestamp-bad-answer")
    try:
        stamp = verify_stamp(
            bytes(response),
            stamped,
            authority.certificates,
            authority.certificates,
            nonce=request.nonce,
        )
    except TimestampInvalid as invalid:
        raise StampFailed(invalid.slug) from None
    if abs(stamp.at.timestamp() - time.time()) > CLOCKS_SECONDS:
        raise StampFailed("timestamp-wrong-clock")
    return bytes(response), stamp


def keep(
    session: Session, store: BlobStore, name: str, authority: str, what: Owed, response: bytes,
    stamp: Stamp,
) -> bool:  # fmt: skip
    """Keep a stamp and its files, all or none; returns whether it is the first over this checkpoint."""
    row = session.get(StampingRound, (what.log, authority), with_for_update=True)
    if row is not None and row.size == what.size:
        row.owed_since = None
    if session.get(TimeStamp, (what.log, authority, what.size)) is not None:
        return False
    kept = TimeStamp(
        log=what.log, authority=authority, size=what.size, stamped=what.stamped,
        response=response, chain=stamp.chain_pem,
    )  # fmt: skip
    store.put_files(dict(_files(name, kept)))
    session.add(kept)
    return True


def stamp_file(name: str, size: int, file: str) -> str:
    return f"{FILES}/{name}/stamp/{size}/{file}"


def _files(name: str, stamp: TimeStamp) -> Iterator[tuple[str, bytes]]:
    yield stamp_file(name, stamp.size, STAMPED), stamp.stamped
    yield stamp_file(name, stamp.size, stamp.authority + CHAIN), stamp.chain
    yield stamp_file(name, stamp.size, stamp.authority + RESPONSE), stamp.response


def files_of(session: Session, log: Log) -> Iterator[tuple[str, bytes]]:
    """Give every file of a log's stamps, as it lies in the store."""
    rows = sa.select(TimeStamp).where(TimeStamp.log == log.id).order_by(TimeStamp.size)
    for row in session.scalars(rows):
        yield from _files(log.name, row)


def earliest(session: Session, name: str, place: int) -> list[tuple[int, str]]:
    """Return, of each authority, the smallest stamped size that covers a place of a log."""
    return [
        (row.size, row.authority)
        for row in session.execute(
            sa.select(sa.func.min(_STAMPS.c.size).label("size"), _STAMPS.c.authority)
            .join(_LOGS, _LOGS.c.id == _STAMPS.c.log)
            .where(_LOGS.c.name == name, _STAMPS.c.size > place)
            .group_by(_STAMPS.c.authority)
            .order_by("size", _STAMPS.c.authority)
        )
    ]


def late(session: Session, authorities: Sequence[str], today: date) -> list[str]:
    """Return the authorities that owe a stamp since an earlier day, of those that are still asked."""
    rows = session.execute(
        sa.select(_ROUNDS.c.authority)
        .where(_ROUNDS.c.owed_since < today, _ROUNDS.c.authority.in_(authorities))
        .distinct()
        .order_by(_ROUNDS.c.authority)
    )
    return [row.authority for row in rows]
