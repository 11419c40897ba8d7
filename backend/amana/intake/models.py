# SPDX-License-Identifier: AGPL-3.0-or-later
"""The rows of a testimony: what it announced, who may open it, and how far its objects have come. Days, never times."""

from datetime import date
from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from amana.storage.database import Base

CASE = sa.String(32)
HASH = sa.String(64)


class State(StrEnum):
    """Where a testimony stands; amana.intake.workflow says how it moves."""

    ARRIVING = "arriving"
    RECEIVED = "received"
    IN_REVIEW = "in-review"
    WAITING = "waiting"
    """A question to the witness is on its way."""
    ACCEPTED = "accepted"
    DECLINED = "declined"
    DUPLICATE = "duplicate"
    REFERRED = "referred"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"


class ObjectState(StrEnum):
    """Where one uploaded object stands."""

    ARRIVING = "arriving"
    STORED = "stored"
    VERIFIED = "verified"
    DELETED = "deleted"


class Testimony(Base):
    """One testimony as it arrived; the parts are kept byte for byte so that every hash can be made again."""

    __tablename__ = "testimonies"

    case: Mapped[str] = mapped_column(CASE, primary_key=True)
    state: Mapped[str] = mapped_column(sa.String(16))
    desk: Mapped[str] = mapped_column(sa.String(32))
    language: Mapped[str] = mapped_column(sa.String(32))
    flags: Mapped[str] = mapped_column(sa.String(64))
    """The policy's flags, comma-separated in their order."""
    control: Mapped[str] = mapped_column(sa.String(44), unique=True)
    directory: Mapped[int]
    """The directory version under which the server took it."""
    digest: Mapped[bytes] = mapped_column(sa.LargeBinary(32))
    paid: Mapped[int]
    """The zero bits paid for admission; a flood sorts below those who paid more."""
    policy: Mapped[bytes]
    labels: Mapped[bytes]
    manifest: Mapped[bytes]
    account: Mapped[bytes]
    """Empty when the account is object 0 among the uploads."""
    declared: Mapped[bytes]
    object_count: Mapped[int]
    size: Mapped[int] = mapped_column(sa.BigInteger)
    announced_on: Mapped[date]
    expires_on: Mapped[date | None]
    received_on: Mapped[date | None]
    receipt: Mapped[str | None] = mapped_column(sa.Text)
    routed: Mapped[bool] = mapped_column(default=False)
    """Whether routing has nothing to do about it now: it was offered to somebody, or its lead was told."""
    kept_since: Mapped[date | None]
    """From when its period counts (amana.intake.retention): the day on which it came, came back, or was decided."""
    allows: Mapped[str] = mapped_column(sa.String(8), default="nothing")
    """What its witness allows, never more than the policies say: `nothing`, `uses` or `archive`."""
    prolonged_until: Mapped[date | None]
    """A lead looks at it no sooner than this day."""
    ends_on: Mapped[date | None]
    """The day on which it expires, as its readers have been told."""
    checked_on: Mapped[date | None]
    """When the parts that are kept in rows were last compared with what the receipt says."""

    __table_args__ = (
        sa.CheckConstraint("(received_on IS NULL) = (state = 'arriving')", name="received"),
        sa.CheckConstraint("(receipt IS NULL) = (received_on IS NULL)", name="receipt"),
        # Every case that is kept has a review day. SQLite would have to copy the table to learn this.
        sa.CheckConstraint(
            "(kept_since IS NULL) = (state IN ('arriving', 'withdrawn', 'expired'))", name="kept"
        ).ddl_if(dialect="postgresql"),
        sa.Index(
            "ix_testimonies_expires_on",
            "expires_on",
            postgresql_where=sa.text("expires_on IS NOT NULL"),
        ),
        sa.Index("ix_testimonies_announced_on", "announced_on"),
        sa.Index(
            "ix_testimonies_review",
            "state",
            "allows",
            "kept_since",
            postgresql_where=sa.text("kept_since IS NOT NULL"),
            sqlite_where=sa.text("kept_since IS NOT NULL"),
        ),
        sa.Index(
            "ix_testimonies_ends_on",
            "ends_on",
            postgresql_where=sa.text("ends_on IS NOT NULL"),
            sqlite_where=sa.text("ends_on IS NOT NULL"),
        ),
        sa.Index(
            "ix_testimonies_checked_on",
            "checked_on",
            "case",
            postgresql_where=sa.text("checked_on IS NOT NULL"),
            sqlite_where=sa.text("checked_on IS NOT NULL"),
        ),
        sa.Index(
            "ix_testimonies_unrouted",
            "desk",
            postgresql_where=sa.text("state = 'received' AND NOT routed"),
            sqlite_where=sa.text("state = 'received' AND NOT routed"),
        ),
    )


class PolicyVersion(Base):
    """A later version of a testimony's policy, as its control key signed it; version 0 came with the testimony."""

    __tablename__ = "policy_versions"

    case: Mapped[str] = mapped_column(
        CASE, sa.ForeignKey("testimonies.case", ondelete="CASCADE"), primary_key=True
    )
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    policy: Mapped[bytes]
    received_on: Mapped[date]


class Grant(Base):
    """The case key sealed to one reader. What orders a queue is copied here, so that it needs one index only."""

    __tablename__ = "grants"

    case: Mapped[str] = mapped_column(
        CASE, sa.ForeignKey("testimonies.case", ondelete="CASCADE"), primary_key=True
    )
    reader: Mapped[str] = mapped_column(CASE, primary_key=True)
    intake_key: Mapped[str] = mapped_column(CASE)
    sealed: Mapped[bytes]
    desk: Mapped[str] = mapped_column(sa.String(32))
    received_on: Mapped[date | None]
    state: Mapped[str] = mapped_column(sa.String(16))
    rank: Mapped[int]
    """Urgent cases first, then by what was paid for admission."""
    handed_on: Mapped[date | None]
    """The day on which a colleague sealed it; null where it came with the testimony."""

    __table_args__ = (
        sa.Index("ix_grants_queue", "reader", "desk", "state", "rank", "received_on", "case"),
    )


class PastGrant(Base):
    """That a reader could open a case which was destroyed: what a stolen key may have opened is asked later too."""

    __tablename__ = "past_grants"

    case: Mapped[str] = mapped_column(
        CASE, sa.ForeignKey("testimonies.case", ondelete="CASCADE"), primary_key=True
    )
    reader: Mapped[str] = mapped_column(CASE, primary_key=True, index=True)
    desk: Mapped[str] = mapped_column(sa.String(32))
    received_on: Mapped[date]
    handed_on: Mapped[date | None]
    destroyed_on: Mapped[date]


class UploadedObject(Base):
    """One object that travels by resumable upload.

    `writer` names the request that may append, `process` the server process it runs in. Only that
    request moves `durable_offset`; whoever wants to take over sets `wanted` and waits until `writer` is null
    or its process no longer beats.
    """

    __tablename__ = "objects"

    case: Mapped[str] = mapped_column(
        CASE, sa.ForeignKey("testimonies.case", ondelete="CASCADE"), primary_key=True
    )
    n: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    state: Mapped[str] = mapped_column(sa.String(16))
    size: Mapped[int] = mapped_column(sa.BigInteger)
    sealed_sha256: Mapped[str] = mapped_column(HASH)
    durable_offset: Mapped[int] = mapped_column(sa.BigInteger)
    progress: Mapped[str] = mapped_column(sa.Text)
    """The object store's own bookkeeping."""
    writer: Mapped[str | None] = mapped_column(CASE)
    process: Mapped[str | None] = mapped_column(CASE, index=True)
    wanted: Mapped[bool]
    vault: Mapped[str | None] = mapped_column(sa.String(16))
    """The vault in which it lies; only a release of that vault lets it out."""
    checked_on: Mapped[date | None]
    """When its bytes were last compared with its hash, since it belongs to a received testimony."""

    __table_args__ = (
        sa.Index(
            "ix_objects_checked_on",
            "checked_on",
            "case",
            "n",
            postgresql_where=sa.text("checked_on IS NOT NULL"),
            sqlite_where=sa.text("checked_on IS NOT NULL"),
        ),
        sa.CheckConstraint("durable_offset BETWEEN 0 AND size", name="offset"),
        sa.CheckConstraint("(writer IS NULL) = (process IS NULL)", name="writer"),
    )


class Vault(Base):
    """A vault of a testimony and who holds its shares: the custodians whom the witness chose, or those who came after."""

    __tablename__ = "vaults"

    case: Mapped[str] = mapped_column(
        CASE, sa.ForeignKey("testimonies.case", ondelete="CASCADE"), primary_key=True
    )
    vault: Mapped[str] = mapped_column(sa.String(16), primary_key=True)
    key: Mapped[str] = mapped_column(CASE)
    """The short name of the public key (amana.protocol.vault.vault_key_id)."""
    k: Mapped[int]
    custodians: Mapped[str] = mapped_column(sa.String(200))
    """Their ids, sorted and comma-separated."""


class Share(Base):
    """A custodian's share for one set of them, sealed to that custodian; or a piece of it, where it was shared anew."""

    __tablename__ = "shares"

    case: Mapped[str] = mapped_column(CASE, primary_key=True)
    vault: Mapped[str] = mapped_column(sa.String(16), primary_key=True)
    subset: Mapped[str] = mapped_column(sa.String(200), primary_key=True)
    """The ids of the set, sorted and comma-separated."""
    custodian: Mapped[str] = mapped_column(CASE, primary_key=True)
    maker: Mapped[str] = mapped_column(CASE, primary_key=True)
    """`witness`, or the custodian who made this piece."""
    intake_key: Mapped[str] = mapped_column(CASE)
    sealed: Mapped[bytes]

    __table_args__ = (
        sa.ForeignKeyConstraint(
            ["case", "vault"], ["vaults.case", "vaults.vault"], ondelete="CASCADE"
        ),
        sa.Index("ix_shares_custodian", "custodian", "intake_key"),
    )


class ServerProcess(Base):
    """A process that is writing uploads now; `beat` grows while it lives. It tells nothing of witnesses."""

    __tablename__ = "server_processes"

    id: Mapped[str] = mapped_column(CASE, primary_key=True)
    beat: Mapped[int]
    noted_beat: Mapped[int | None]
    noted_on: Mapped[date | None]
    """The day since which maintenance has found the same beat."""
