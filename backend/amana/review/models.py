# SPDX-License-Identifier: AGPL-3.0-or-later
"""What readers did: their signed actions, kept as they were signed."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from amana.storage.database import Base


class SignedAction(Base):
    """An accepted action. Its nonce is the key, so that none is accepted twice."""

    __tablename__ = "actions"

    nonce: Mapped[str] = mapped_column(sa.String(32), primary_key=True)
    action: Mapped[str] = mapped_column(sa.String(16))
    case: Mapped[str] = mapped_column(sa.String(32))
    actor: Mapped[str] = mapped_column(sa.String(32))
    document: Mapped[bytes]
    accepted_at: Mapped[datetime] = mapped_column(sa.DateTime(timezone=True))

    __table_args__ = (sa.Index("ix_actions_openings", "case", "actor", "accepted_at"),)
