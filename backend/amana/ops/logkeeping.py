# SPDX-License-Identifier: AGPL-3.0-or-later
"""What an operator asks about the logs and may do to them: see how they stand, recover files, freeze one for good."""

from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from amana.api.services import Services
from amana.custody.models import Log, PublishedCheckpoint, WaitingLeaf
from amana.custody.publishing import LogKeyDiffers, LogRefused, examine
from amana.custody.recovery import Recovered, look, recover
from amana.errors import NotFound
from amana.ops.sequencer import Pinned, pinned_logs
from amana.protocol.checkpoint import log_key

OPEN: Final = "open"
CLOSED: Final = "closed"
GOOD: Final = frozenset({OPEN, CLOSED})


@dataclass(frozen=True)
class Standing:
    """How a log stands. `state` is "open", "closed" (no root pins it any more), or the slug of a refusal."""

    name: str
    origin: str
    kind: str
    size: int
    published: int | None
    waiting: int
    state: str
    detail: str


def standings(services: Services, *, whole: bool = False) -> list[Standing]:
    """Return how each log stands, after reading its newest files and some others.

    With `whole`, after comparing every file of every log with the database.
    """
    pinned = {one.key.name: one for one in pinned_logs(services, services.database)}
    with services.database.reading() as session:
        rows = {log.origin: log for log in session.scalars(sa.select(Log).order_by(Log.id))}
        published = dict(
            session.execute(sa.select(PublishedCheckpoint.log, PublishedCheckpoint.size)).all()
        )
        waiting = dict(
            session.execute(
                sa.select(WaitingLeaf.kind, sa.func.count()).group_by(WaitingLeaf.kind)
            ).all()
        )
    found = []
    for origin in dict.fromkeys([*rows, *pinned]):
        log, pin = rows.get(origin), pinned.get(origin)
        state, detail = _state(services, log, pin, whole=whole)
        kind = pin.kind if pin else rows[origin].kind
        found.append(
            Standing(
                name=origin.rpartition("/")[2],
                origin=origin,
                kind=kind,
                size=log.size if log else 0,
                published=published.get(log.id) if log else None,
                waiting=waiting.get(kind, 0) if pin else 0,
                state=state,
                detail=detail,
            )
        )
    return found


def _state(
    services: Services, log: Log | None, pin: Pinned | None, *, whole: bool
) -> tuple[str, str]:
    try:
        if pin is not None:
            if pin.key.public != pin.signing.public:
                raise LogKeyDiffers
            examine(services.database, services.blobs, pin.kind, pin.key)
        if log is not None:
            look(services.blobs, log_key(log.origin, log.public_key))
        if whole and log is not None:
            differing = recover(
                services.database, services.blobs, log, is_closed=pin is None, write=False
            )
            if differing.files or differing.leaves:
                return (
                    "log-damaged",
                    f"{differing.files} files differ, {differing.leaves} leaves are only in files",
                )
    except LogRefused as refused:
        return refused.slug, refused.title
    return (OPEN, "goes on") if pin else (CLOSED, "no root pins it any more")


def recover_log(services: Services, name: str) -> Recovered:
    """Make lost or damaged files of a log anew."""
    log = _log(services, name)
    pinned = {one.key.name for one in pinned_logs(services, services.database)}
    return recover(services.database, services.blobs, log, is_closed=log.origin not in pinned)


def freeze_log(services: Services, name: str) -> None:
    """Stop a log for good, where a restore cannot be noticed here: it never goes on, a root must pin another."""
    log = _log(services, name)
    with services.database.transaction() as session:
        session.execute(sa.update(Log).where(Log.id == log.id).values(frozen=True))


def _log(services: Services, name: str) -> Log:
    with services.database.reading() as session:
        log = session.scalar(sa.select(Log).where(Log.name == name))
    if log is None:
        raise NotFound("There is no log of this name.")
    return log
