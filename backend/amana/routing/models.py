# SPDX-License-Identifier: AGPL-3.0-or-later
"""Who works on a case, who must not, and what an administrator set. Days, never times."""

from datetime import date

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from amana.storage.database import Base

ID = sa.String(32)


class Assignment(Base):
    """A case offered to a reader, claimed by them, or ended; what ended stays, with why it came to them."""

    __tablename__ = "assignments"

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    case: Mapped[str] = mapped_column(ID, sa.ForeignKey("testimonies.case", ondelete="CASCADE"))
    reader: Mapped[str] = mapped_column(ID)
    part: Mapped[str] = mapped_column(sa.String(8))
    """`first`, or `second` for a second reader."""
    by: Mapped[str] = mapped_column(ID)
    """The person who handed it over or claimed it, or `routing`."""
    urgent: Mapped[bool]
    offered_on: Mapped[date]
    claimed_on: Mapped[date | None]
    ended_on: Mapped[date | None]
    ended_because: Mapped[str | None] = mapped_column(sa.String(16))
    explanation: Mapped[str] = mapped_column(sa.Text)
    """JSON: the version of the rules, and a verdict for each reader who was looked at."""

    __table_args__ = (
        sa.CheckConstraint("(ended_on IS NULL) = (ended_because IS NULL)", name="ended"),
        sa.Index("ix_assignments_case", "case"),
        sa.Index(
            "uq_assignments_part",
            "case",
            "part",
            unique=True,
            postgresql_where=sa.text("ended_on IS NULL"),
            sqlite_where=sa.text("ended_on IS NULL"),
        ),
        sa.Index(
            "uq_assignments_reader",
            "reader",
            "case",
            unique=True,
            postgresql_where=sa.text("ended_on IS NULL"),
            sqlite_where=sa.text("ended_on IS NULL"),
        ),
        sa.Index(
            "ix_assignments_unclaimed",
            "offered_on",
            postgresql_where=sa.text("ended_on IS NULL AND claimed_on IS NULL"),
            sqlite_where=sa.text("ended_on IS NULL AND claimed_on IS NULL"),
        ),
        sa.Index("ix_assignments_offered", "offered_on", "reader"),
        sa.Index(
            "ix_assignments_gone",
            "reader",
            "ended_because",
            "ended_on",
            postgresql_where=sa.text("ended_because IN ('withdrawn', 'expired')"),
            sqlite_where=sa.text("ended_because IN ('withdrawn', 'expired')"),
        ),
    )


class Recusal(Base):
    """A reader who must not have a case, because they said so or their grant does not open it."""

    __tablename__ = "recusals"

    case: Mapped[str] = mapped_column(
        ID, sa.ForeignKey("testimonies.case", ondelete="CASCADE"), primary_key=True
    )
    reader: Mapped[str] = mapped_column(ID, primary_key=True)
    reason: Mapped[str] = mapped_column(sa.String(16))
    made_on: Mapped[date]


class RoutingTask(Base):
    """A case that found nobody: its lead must see to it. The lead gets the reason, not the content."""

    __tablename__ = "routing_tasks"

    case: Mapped[str] = mapped_column(
        ID, sa.ForeignKey("testimonies.case", ondelete="CASCADE"), primary_key=True
    )
    desk: Mapped[str] = mapped_column(sa.String(32), index=True)
    reason: Mapped[str] = mapped_column(sa.String(32))
    made_on: Mapped[date]
    explanation: Mapped[str] = mapped_column(sa.Text)


class RoutingRules(Base):
    """One version of the rules, as an administrator signed it; the newest is in force."""

    __tablename__ = "routing_rules"

    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    document: Mapped[str] = mapped_column(sa.Text)
    set_by: Mapped[str] = mapped_column(ID)
    set_on: Mapped[date]
