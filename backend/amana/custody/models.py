# SPDX-License-Identifier: AGPL-3.0-or-later
"""Events that wait for the custody log: each in the transaction of what it records, numbered later."""

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from amana.storage.database import Base


class Event(Base):
    """A custody event, its key and the commitment to it that the log will hold (docs/protocol.md §10)."""

    __tablename__ = "events"

    leaf: Mapped[bytes] = mapped_column(sa.LargeBinary(32), primary_key=True)
    case: Mapped[str | None] = mapped_column(sa.String(32), index=True)
    event: Mapped[bytes]
    key: Mapped[bytes] = mapped_column(sa.LargeBinary(32))
    sequence: Mapped[int | None] = mapped_column(sa.BigInteger, unique=True)
    """The place in the log; null until the log takes it."""
