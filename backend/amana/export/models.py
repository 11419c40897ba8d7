# SPDX-License-Identifier: AGPL-3.0-or-later
"""Exports: who asked for what, under which consent, who approved, and what left. Nothing sealed is kept here."""

from datetime import date

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from amana.storage.database import Base

ID = sa.String(32)
HASH = sa.String(64)


class Export(Base):
    """One testimony on its way to one partner for one purpose; `amana.export.stages` says how it moves."""

    __tablename__ = "exports"

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    case: Mapped[str] = mapped_column(ID, sa.ForeignKey("testimonies.case", ondelete="CASCADE"))
    state: Mapped[str] = mapped_column(sa.String(16))
    partner: Mapped[str] = mapped_column(ID)
    purpose: Mapped[str] = mapped_column(sa.String(32))
    identity_level: Mapped[str] = mapped_column(sa.String(16))
    releases: Mapped[str] = mapped_column(sa.String(200), default="[]")
    """Under which releases parts of the vault leave with it: a canonical list of `{request, vault}`."""
    requested_by: Mapped[str] = mapped_column(ID)
    requested_on: Mapped[date]
    request: Mapped[str] = mapped_column(ID)
    """The nonce of the signed request."""
    evaluation: Mapped[bytes]
    """How consent was judged when it was asked for, and again when it was approved: a canonical list."""
    decided_by: Mapped[str | None] = mapped_column(ID)
    decided_on: Mapped[date | None]
    approval: Mapped[str | None] = mapped_column(ID)
    """The nonce of the signed decision."""
    bag_sha256: Mapped[str | None] = mapped_column(HASH)
    sealed_sha256: Mapped[str | None] = mapped_column(HASH)
    size: Mapped[int | None] = mapped_column(sa.BigInteger)
    exported_on: Mapped[date | None]
    receipt: Mapped[bytes | None]
    """What the partner signed, canonical."""
    received_on: Mapped[date | None]

    __table_args__ = (
        sa.Index("ix_exports_case", "case"),
        sa.Index("ix_exports_state", "state", "requested_on", "id"),
        sa.Index("ix_exports_requested_by", "requested_by", "requested_on", "id"),
        sa.CheckConstraint("decided_by IS NULL OR decided_by <> requested_by", name="two_persons"),
        sa.CheckConstraint("(exported_on IS NULL) = (sealed_sha256 IS NULL)", name="exported"),
        sa.CheckConstraint("(received_on IS NULL) = (receipt IS NULL)", name="received"),
    )
