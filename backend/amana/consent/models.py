# SPDX-License-Identifier: AGPL-3.0-or-later
"""What witnesses said later about what they had sent, and what is destroyed when. Days, never times."""

from datetime import date

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from amana.storage.database import Base

ID = sa.String(32)
WITHDRAWN, EXPIRED = "withdrawn", "expired"


def _case() -> Mapped[str]:
    return mapped_column(
        ID, sa.ForeignKey("testimonies.case", ondelete="CASCADE"), primary_key=True
    )


class ControlStatement(Base):
    """A signed statement that changed something; the statements of a case are one chain."""

    __tablename__ = "control_statements"

    case: Mapped[str] = _case()
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    """Its place in the chain, from 1; also for a withdrawal that was signed without knowing it."""
    kind: Mapped[str] = mapped_column(sa.String(16))
    nonce: Mapped[str] = mapped_column(ID, unique=True)
    sha256: Mapped[str] = mapped_column(sa.String(64))
    document: Mapped[bytes]
    """The statement, canonical; empty when it held a policy and the case was destroyed."""
    received_on: Mapped[date]


class SpentNonce(Base):
    """The nonce of a status that was answered; it names no case, and goes after a few days."""

    __tablename__ = "control_nonces"

    nonce: Mapped[str] = mapped_column(ID, primary_key=True)
    spent_on: Mapped[date] = mapped_column(index=True)


class Destruction(Base):
    """A testimony that is destroyed on a day; the row goes when a withdrawal is taken back in time, else it stays."""

    __tablename__ = "destructions"

    case: Mapped[str] = _case()
    reason: Mapped[str] = mapped_column(sa.String(16))
    """`withdrawn` by its witness, or `expired` because its time was over."""
    asked_on: Mapped[date]
    destroy_on: Mapped[date] = mapped_column(index=True)
    destroyed_on: Mapped[date | None]

    @property
    def is_withdrawal(self) -> bool:
        return self.reason == WITHDRAWN
