# SPDX-License-Identifier: AGPL-3.0-or-later
"""What was found damaged of what is stored, and when it was whole again. Days, never times."""

from datetime import date

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from amana.storage.database import Base

ID = sa.String(32)


class Damage(Base):
    """A part of a testimony that is missing, or differs from its hash; the row stays when it is whole again."""

    __tablename__ = "damages"

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    case: Mapped[str] = mapped_column(ID, sa.ForeignKey("testimonies.case", ondelete="CASCADE"))
    part: Mapped[str] = mapped_column(sa.String(64))
    """`object 3`, `manifest`, `grant <reader>`, `note 5`, `policy 0`, `receipt`, …"""
    fault: Mapped[str] = mapped_column(sa.String(8))
    found_on: Mapped[date]
    mended_on: Mapped[date | None]

    __table_args__ = (
        sa.Index(
            "uq_damages_open",
            "case",
            "part",
            unique=True,
            postgresql_where=sa.text("mended_on IS NULL"),
            sqlite_where=sa.text("mended_on IS NULL"),
        ),
    )
