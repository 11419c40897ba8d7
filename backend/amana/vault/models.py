# SPDX-License-Identifier: AGPL-3.0-or-later
"""Requests to release a vault and what custodians answered; and shares on their way to new custodians. Days, never times."""

from datetime import date

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from amana.storage.database import Base

ID = sa.String(32)
SUBSET = sa.String(200)
"""Up to five ids, sorted and comma-separated."""


class Release(Base):
    """A reader's request for one vault of a case; what its reader signed, and why, stands in the signed action.

    The row outlives the case, so that the witness can always learn of it.
    """

    __tablename__ = "releases"

    request: Mapped[str] = mapped_column(ID, primary_key=True)
    case: Mapped[str] = mapped_column(
        ID, sa.ForeignKey("testimonies.case", ondelete="CASCADE"), index=True
    )
    vault: Mapped[str] = mapped_column(sa.String(16))
    reader: Mapped[str] = mapped_column(ID)
    intake_key: Mapped[str] = mapped_column(ID)
    """The short name of the reader's key to which shares are sealed."""
    purpose: Mapped[str] = mapped_column(sa.String(32))
    partner: Mapped[str | None] = mapped_column(ID)
    """To whom its reader may hand it in an export; null where it is for the reader alone."""
    action: Mapped[str] = mapped_column(ID)
    """The nonce of the signed request."""
    requested_on: Mapped[date]
    expires_on: Mapped[date] = mapped_column(index=True)
    """The last day on which it works."""
    released_on: Mapped[date | None]
    """The day on which enough custodians had answered."""
    opened_on: Mapped[date | None]
    """The day on which the reader fetched the shares first."""
    ended_on: Mapped[date | None]
    ended_because: Mapped[str | None] = mapped_column(sa.String(16))
    """`expired`, `withdrawn`, `declined`, `replaced` by another request, or `shared-anew` among other custodians."""

    __table_args__ = (
        sa.CheckConstraint("(ended_on IS NULL) = (ended_because IS NULL)", name="ended"),
        sa.Index(
            "uq_releases_open",
            "case",
            "vault",
            "reader",
            unique=True,
            postgresql_where=sa.text("ended_on IS NULL"),
            sqlite_where=sa.text("ended_on IS NULL"),
        ),
    )


class ReleaseAnswer(Base):
    """What one custodian answered to a request, once."""

    __tablename__ = "release_answers"

    request: Mapped[str] = mapped_column(
        ID, sa.ForeignKey("releases.request", ondelete="CASCADE"), primary_key=True
    )
    custodian: Mapped[str] = mapped_column(ID, primary_key=True)
    case: Mapped[str] = mapped_column(ID, index=True)
    answer: Mapped[str] = mapped_column(sa.String(8))
    """`shared` or `declined`."""
    answered_on: Mapped[date]
    reason: Mapped[bytes | None]
    """Why it was declined, sealed to the reader."""


class ReleasedShare(Base):
    """A share that a custodian sealed to the reader of a request; gone when the request is over."""

    __tablename__ = "released_shares"

    request: Mapped[str] = mapped_column(
        ID, sa.ForeignKey("releases.request", ondelete="CASCADE"), primary_key=True
    )
    custodian: Mapped[str] = mapped_column(ID, primary_key=True)
    subset: Mapped[str] = mapped_column(SUBSET, primary_key=True)
    case: Mapped[str] = mapped_column(ID, index=True)
    sealed: Mapped[bytes]


class SharePiece(Base):
    """What a custodian of an old set adds to a new custodian's share; it counts once all of that set have added theirs."""

    __tablename__ = "share_pieces"

    case: Mapped[str] = mapped_column(ID, primary_key=True)
    vault: Mapped[str] = mapped_column(sa.String(16), primary_key=True)
    source: Mapped[str] = mapped_column(SUBSET, primary_key=True)
    maker: Mapped[str] = mapped_column(ID, primary_key=True)
    subset: Mapped[str] = mapped_column(SUBSET, primary_key=True)
    custodian: Mapped[str] = mapped_column(ID, primary_key=True)
    intake_key: Mapped[str] = mapped_column(ID)
    sealed: Mapped[bytes]

    __table_args__ = (
        sa.ForeignKeyConstraint(
            ["case", "vault"], ["vaults.case", "vaults.vault"], ondelete="CASCADE"
        ),
    )
