# SPDX-License-Identifier: AGPL-3.0-or-later
"""Take what a person signed: by them, for this, here, now, and never twice. Never commits, never imports Flask."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from amana.access.models import SignedAction
from amana.access.roles import Actor
from amana.custody import service as custody
from amana.errors import Conflict, Unprocessable
from amana.protocol.action import Action, body_sha256, parse_action
from amana.protocol.directory import Directory
from amana.protocol.encoding import canonical
from amana.protocol.errors import BadSignature

SKEW = timedelta(minutes=5)


class ActionReplayed(Conflict):
    slug = "action-replayed"
    title = "This action was used before."


class ActionOutdated(Conflict):
    slug = "action-outdated"
    title = (
        "The action was signed under another version of the directory than today's; sign it anew."
    )


class ActionRefused(Unprocessable):
    slug = "action-refused"
    title = "The action was not signed by you, for this, here and now."


def accept(
    session: Session,
    document: object,
    *,
    actor: Actor,
    directory: Directory,
    kind: str,
    now: datetime,
    case: str | None = None,
    body: dict[str, Any] | None = None,
) -> Action:
    """Verify a signed action against the directory that is valid now, store it, and record it; returns it.

    `body` is what came with the action in the request. Raises ActionOutdated, ActionReplayed,
    ActionRefused, and ProtocolError for what has not the form of an action.
    """
    action = parse_action(document)
    _check(action, actor, directory, kind, case, body or {}, now)
    row = {
        "nonce": action.nonce,
        "action": action.action,
        "case": case,
        "actor": actor.id,
        "document": canonical(action.document),
        "body": canonical(body) if body else None,
        "accepted_at": now,
    }
    try:
        session.execute(sa.insert(SignedAction).values(row))
    except IntegrityError:
        raise ActionReplayed from None
    custody.record(session, {"v": 1, "kind": "action", "case": case, "action": action.document})
    return action


@dataclass(frozen=True)
class Moment:
    """Under which directory and when something is done."""

    directory: Directory
    now: datetime

    @property
    def today(self) -> date:
        return self.now.date()


@dataclass(frozen=True)
class Act(Moment):
    """A signed action that somebody brings, and what it was brought under."""

    document: object

    def accept(
        self,
        session: Session,
        actor: Actor,
        kind: str,
        case: str | None = None,
        body: dict[str, Any] | None = None,
    ) -> Action:
        """Verify and record the action, as `accept` does."""
        return accept(
            session,
            self.document,
            actor=actor,
            directory=self.directory,
            kind=kind,
            case=case,
            body=body,
            now=self.now,
        )


def _check(
    action: Action,
    actor: Actor,
    directory: Directory,
    kind: str,
    case: str | None,
    body: dict[str, Any],
    now: datetime,
) -> None:
    fits = (
        action.action == kind
        and action.actor == actor.id
        and action.case == case
        and action.deployment == directory.deployment
        and action.body_sha256 == body_sha256(body)
        and abs(now - action.made_at) <= SKEW
    )
    if not fits:
        raise ActionRefused
    try:
        # The key of today: one that was replaced would still verify under the version that listed it.
        action.verify(actor.signing_key)
    except BadSignature:
        raise ActionRefused from None
    if action.directory != directory.version:
        raise ActionOutdated


def days_of(session: Session, case: str, kind: str) -> list[tuple[str, date]]:
    """Return who did something of a kind to a case, and on which day (UTC), as often as they did."""
    query = sa.select(SignedAction.actor, SignedAction.accepted_at).where(
        SignedAction.case == case, SignedAction.action == kind
    )
    return [(row.actor, _in_utc(row.accepted_at).date()) for row in session.execute(query)]


def _in_utc(moment: datetime) -> datetime:
    """Return what SQLite gives without a zone, and PostgreSQL in that of the connection."""
    return moment if moment.tzinfo is None else moment.astimezone(UTC)
