# SPDX-License-Identifier: AGPL-3.0-or-later
"""What reviewers write about a case, sealed; the server knows who wrote, on which day, and for whom."""

from datetime import date

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from amana.storage.database import Base

ID = sa.String(32)


class Note(Base):
    """A note, a coding, a link or the reason of a decision: sealed to the case's readers, or to its author alone."""

    __tablename__ = "notes"

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    case: Mapped[str] = mapped_column(ID, sa.ForeignKey("testimonies.case", ondelete="CASCADE"))
    n: Mapped[int]
    """Counts the notes of a case from 1."""
    author: Mapped[str] = mapped_column(ID)
    audience: Mapped[str] = mapped_column(sa.String(8))
    made_on: Mapped[date]
    sealed: Mapped[bytes]

    __table_args__ = (sa.UniqueConstraint("case", "n"),)
