# SPDX-License-Identifier: AGPL-3.0-or-later
"""The dead drop's rows: no case, no person, no time. Their ids are random and are all their order.

On SQLite these tables are kept by their random keys, so no number of a row tells which came first.
"""

from datetime import date

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from amana.storage.database import Base

ID = sa.String(32)
_BY_KEY_ALONE = {"sqlite_with_rowid": False}


def _place() -> Mapped[int]:
    return mapped_column(primary_key=True, autoincrement=False)


class Shard(Base):
    """One shard of the drop at one depth, and its last batch."""

    __tablename__ = "drop_shards"

    bits: Mapped[int] = _place()
    shard: Mapped[int] = _place()
    batch: Mapped[str | None] = mapped_column(ID)
    """Another one with each batch; null before the first."""
    published_on: Mapped[date | None]
    behind: Mapped[int]
    """How many batches in a row have left something waiting."""

    __table_args__ = (
        sa.CheckConstraint("(batch IS NULL) = (published_on IS NULL)", name="published"),
    )


class Slot(Base):
    """A published slot: a reply, or a dummy that nobody can open. Which of the two it is stands nowhere."""

    __tablename__ = "drop_slots"

    bits: Mapped[int] = _place()
    shard: Mapped[int] = _place()
    id: Mapped[str] = mapped_column(ID, primary_key=True)
    sealed: Mapped[bytes]
    last_day: Mapped[date]
    """It dies with the first batch of this day or later."""

    __table_args__ = (_BY_KEY_ALONE,)


class WaitingSlot(Base):
    """A slot that the next batch publishes."""

    __tablename__ = "drop_waiting"

    bits: Mapped[int] = _place()
    shard: Mapped[int] = _place()
    id: Mapped[str] = mapped_column(ID, primary_key=True)
    sealed: Mapped[bytes]

    __table_args__ = (_BY_KEY_ALONE,)
