# SPDX-License-Identifier: AGPL-3.0-or-later
"""People of staff as the server knows them: how they came, how they stand, what they signed. Rights are the directory's."""

from datetime import date, datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from amana.storage.database import Base

ID = sa.String(32)
KEY = sa.String(44)
INSTANT = sa.DateTime(timezone=True)
# SQLite minds no length, and changing its tables would mean copying them.
DESKS = sa.Text().with_variant(sa.String(1024), "sqlite")


class Person(Base):
    """Somebody who enrolled, or whom the directory lists. What vetting recorded is for routing, never for the directory.

    `languages`, `specialities` and `conflicts` are codes, sorted and comma-separated.
    """

    __tablename__ = "people"

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    role: Mapped[str] = mapped_column(sa.String(16))
    desks: Mapped[str] = mapped_column(DESKS, default="")
    signing_key: Mapped[str] = mapped_column(KEY, unique=True)
    intake_key: Mapped[str | None] = mapped_column(sa.String(32), unique=True)
    """The short name of the intake key (amana.protocol.case.intake_key_id)."""
    first_seen_on: Mapped[date]
    confirmed_on: Mapped[date]
    """The day of the last access review; before the first, the day on which they came."""
    last_active_on: Mapped[date | None]
    vouchers: Mapped[str | None] = mapped_column(sa.Text)
    """Who vouched, a JSON array of two texts."""
    vetted_on: Mapped[date | None]
    valid_until: Mapped[date | None]
    languages: Mapped[str] = mapped_column(sa.String(512), default="")
    specialities: Mapped[str] = mapped_column(sa.String(1024), default="")
    conflicts: Mapped[str] = mapped_column(sa.Text, default="")


class Invitation(Base):
    """A one-time invitation; of its token only the hash is here."""

    __tablename__ = "invitations"

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    token_sha256: Mapped[str] = mapped_column(sa.String(64), unique=True)
    role: Mapped[str] = mapped_column(sa.String(16))
    desks: Mapped[str] = mapped_column(DESKS)
    issued_by: Mapped[str] = mapped_column(ID)
    issued_on: Mapped[date]
    expires_on: Mapped[date] = mapped_column(index=True)
    used_by: Mapped[str | None] = mapped_column(ID)


class Enrolment(Base):
    """What a person signed when they came, byte for byte, for the officers to check."""

    __tablename__ = "enrolments"

    person: Mapped[str] = mapped_column(ID, sa.ForeignKey("people.id"), primary_key=True)
    invitation: Mapped[str] = mapped_column(ID, sa.ForeignKey("invitations.id"), unique=True)
    document: Mapped[bytes]
    enrolled_on: Mapped[date]


class KeyReplacement(Base):
    """A new intake key that a person asked the officers to list instead of the old one; `action` is what they signed."""

    __tablename__ = "key_replacements"

    person: Mapped[str] = mapped_column(ID, sa.ForeignKey("people.id"), primary_key=True)
    intake_key: Mapped[str] = mapped_column(sa.Text)
    intake_key_sig: Mapped[str] = mapped_column(sa.String(88))
    action: Mapped[bytes]
    asked_on: Mapped[date]


class Suspension(Base):
    """One suspension; it lasts until `lifted_at`."""

    __tablename__ = "suspensions"

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    person: Mapped[str] = mapped_column(ID, sa.ForeignKey("people.id"), index=True)
    by: Mapped[str] = mapped_column(ID)
    reason: Mapped[str] = mapped_column(sa.String(1000))
    suspended_at: Mapped[datetime] = mapped_column(INSTANT)
    lifted_at: Mapped[datetime | None] = mapped_column(INSTANT)

    __table_args__ = (
        sa.Index(
            "uq_suspensions_open",
            "person",
            unique=True,
            postgresql_where=sa.text("lifted_at IS NULL"),
            sqlite_where=sa.text("lifted_at IS NULL"),
        ),
    )


class Reinstatement(Base):
    """One administrator's consent to end a suspension; two make it end."""

    __tablename__ = "reinstatements"

    suspension: Mapped[str] = mapped_column(ID, sa.ForeignKey("suspensions.id"), primary_key=True)
    by: Mapped[str] = mapped_column(ID, primary_key=True)


class StaffSession(Base):
    """A sign-in: the key that its token is bound to. The token itself is nowhere.

    The row outlives both the token and the assertion that began it, also when it was ended before: that it is
    there is what keeps the assertion from being used a second time.
    """

    __tablename__ = "sessions"

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    """The id (jti) of the assertion, and of the token."""
    person: Mapped[str] = mapped_column(ID, sa.ForeignKey("people.id"), index=True)
    jkt: Mapped[str] = mapped_column(sa.String(43))
    expires_at: Mapped[datetime] = mapped_column(INSTANT, index=True)
    is_over: Mapped[bool] = mapped_column(default=False)
    """Somebody signed out, was suspended, or has another key now."""


class SignedAction(Base):
    """An accepted action, as it was signed. Its nonce is the key, so that none is accepted twice."""

    __tablename__ = "actions"

    nonce: Mapped[str] = mapped_column(ID, primary_key=True)
    action: Mapped[str] = mapped_column(sa.String(16))
    case: Mapped[str | None] = mapped_column(ID)
    actor: Mapped[str] = mapped_column(ID)
    document: Mapped[bytes]
    body: Mapped[bytes | None]
    """What the action's hash of its body stands for, canonical JSON; null for an empty body."""
    accepted_at: Mapped[datetime] = mapped_column(INSTANT)

    __table_args__ = (
        sa.Index("ix_actions_openings", "case", "actor", "accepted_at"),
        sa.Index("ix_actions_actor", "actor", "accepted_at"),
    )
