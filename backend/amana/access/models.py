# SPDX-License-Identifier: AGPL-3.0-or-later
"""What sign-in remembers: assertions that were used, until they would have expired anyway."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from amana.storage.database import Base


class UsedAssertion(Base):
    """An assertion's id; a second sign-in with it is refused."""

    __tablename__ = "used_assertions"

    jti: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    expires_at: Mapped[datetime] = mapped_column(sa.DateTime(timezone=True), index=True)
