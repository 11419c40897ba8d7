# SPDX-License-Identifier: AGPL-3.0-or-later
"""What happened, and the two logs that prove it: events, leaves that wait, leaves that have their place."""

from datetime import date

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from amana.storage.database import Base

_COUNTING = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


class Event(Base):
    """A custody event, its key and the commitment to it that the log holds (docs/protocol.md §10). Never changed."""

    __tablename__ = "events"

    leaf: Mapped[bytes] = mapped_column(sa.LargeBinary(32), primary_key=True)
    case: Mapped[str | None] = mapped_column(sa.String(32), index=True)
    event: Mapped[bytes]
    key: Mapped[bytes] = mapped_column(sa.LargeBinary(32))


class WaitingLeaf(Base):
    """An entry that was committed with what it records and has no place in its log yet.

    `id` grows in the order of writing: what was committed before another began has the smaller one.
    """

    __tablename__ = "waiting_leaves"

    id: Mapped[int] = mapped_column(_COUNTING, sa.Identity(), primary_key=True)
    kind: Mapped[str] = mapped_column(sa.String(16))
    entry: Mapped[bytes]


class Log(Base):
    """One log, for good: its origin is in its checkpoints. A root that pins another origin closes it.

    `size` counts the leaves that have a place. The sequencer alone writes here.
    """

    __tablename__ = "logs"

    id: Mapped[int] = mapped_column(sa.SmallInteger, primary_key=True, autoincrement=False)
    kind: Mapped[str] = mapped_column(sa.String(16))
    """"custody" or "directory"."""
    origin: Mapped[str] = mapped_column(sa.String(200), unique=True)
    name: Mapped[str] = mapped_column(sa.String(40), unique=True)
    """The last part of the origin: its address below /log/."""
    public_key: Mapped[str] = mapped_column(sa.String(44))
    size: Mapped[int] = mapped_column(sa.BigInteger)
    frozen: Mapped[bool]
    """Whether the operator stopped it for good, after a restore that nothing here could notice."""


class LoggedLeaf(Base):
    """An entry in its place, which it keeps: 32 bytes of commitment in the custody log, clear in the directory log."""

    __tablename__ = "log_leaves"

    log: Mapped[int] = mapped_column(
        sa.SmallInteger, sa.ForeignKey("logs.id"), primary_key=True, autoincrement=False
    )
    place: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True, autoincrement=False)
    entry: Mapped[bytes] = mapped_column(index=True)


class PublishedCheckpoint(Base):
    """The newest checkpoint of a log that was given out; never one that a smaller tree would be."""

    __tablename__ = "published_checkpoints"

    log: Mapped[int] = mapped_column(
        sa.SmallInteger, sa.ForeignKey("logs.id"), primary_key=True, autoincrement=False
    )
    size: Mapped[int] = mapped_column(sa.BigInteger)
    note: Mapped[bytes]


class CosignedCheckpoint(Base):
    """The checkpoint of a log that cosigners vouch for and that is given out as such; a newer one may not have them yet."""

    __tablename__ = "cosigned_checkpoints"

    log: Mapped[int] = mapped_column(
        sa.SmallInteger, sa.ForeignKey("logs.id"), primary_key=True, autoincrement=False
    )
    size: Mapped[int] = mapped_column(sa.BigInteger)
    note: Mapped[bytes]


class StampingRound(Base):
    """What an authority is to stamp of a log until the next round begins: the newest checkpoint of that moment.

    A round begins at fixed hours and not when something arrives, so that stamps do not tell when that was.
    """

    __tablename__ = "stamping_rounds"

    log: Mapped[int] = mapped_column(
        sa.SmallInteger, sa.ForeignKey("logs.id"), primary_key=True, autoincrement=False
    )
    authority: Mapped[str] = mapped_column(sa.String(32), primary_key=True)
    number: Mapped[int] = mapped_column(sa.BigInteger)
    """Intervals since 1970 (UTC)."""
    size: Mapped[int] = mapped_column(sa.BigInteger)
    stamped: Mapped[bytes]
    """The bytes to be stamped (docs/protocol.md §10.10)."""
    owed_since: Mapped[date | None]
    """The day since which the authority owes a stamp, null once it gave the newest."""


class TimeStamp(Base):
    """That a checkpoint existed at the latest when an authority says, with the authority's certificates. Never changed."""

    __tablename__ = "time_stamps"

    log: Mapped[int] = mapped_column(
        sa.SmallInteger, sa.ForeignKey("logs.id"), primary_key=True, autoincrement=False
    )
    authority: Mapped[str] = mapped_column(sa.String(32), primary_key=True)
    size: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True, autoincrement=False)
    stamped: Mapped[bytes]
    response: Mapped[bytes]
    """The authority's answer in DER."""
    chain: Mapped[bytes]
    """Its certificates in PEM, from its own to the root."""


class SequencerLease(Base):
    """Which process gives leaves their places: one row. Whoever takes it over begins a new term.

    `beat` counts up while the holder lives; it is no clock.
    """

    __tablename__ = "sequencer_lease"

    id: Mapped[int] = mapped_column(sa.SmallInteger, primary_key=True, autoincrement=False)
    holder: Mapped[str] = mapped_column(sa.String(32))
    term: Mapped[int] = mapped_column(sa.BigInteger)
    beat: Mapped[int] = mapped_column(sa.BigInteger)
