"""Create the tables of part 1: testimonies, grants, uploads, the directory, openings, events that wait for the log."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "actions",
        sa.Column("nonce", sa.String(length=32), nullable=False),
        sa.Column("action", sa.String(length=16), nullable=False),
        sa.Column("case", sa.String(length=32), nullable=False),
        sa.Column("actor", sa.String(length=32), nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.Column("accepted_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("nonce", name=op.f("pk_actions")),
    )
    op.create_index(
        "ix_actions_openings", "actions", ["case", "actor", "accepted_at"], unique=False
    )
    op.create_table(
        "directory_files",
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_directory_files")),
    )
    op.create_table(
        "directory_versions",
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("published_on", sa.Date(), nullable=False),
        sa.PrimaryKeyConstraint("version", name=op.f("pk_directory_versions")),
    )
    op.create_table(
        "events",
        sa.Column("leaf", sa.LargeBinary(length=32), nullable=False),
        sa.Column("case", sa.String(length=32), nullable=True),
        sa.Column("event", sa.LargeBinary(), nullable=False),
        sa.Column("key", sa.LargeBinary(length=32), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("leaf", name=op.f("pk_events")),
        sa.UniqueConstraint("sequence", name=op.f("uq_events_sequence")),
    )
    op.create_index(op.f("ix_events_case"), "events", ["case"], unique=False)
    op.create_table(
        "server_processes",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("beat", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_server_processes")),
    )
    op.create_table(
        "testimonies",
        sa.Column("case", sa.String(length=32), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("desk", sa.String(length=32), nullable=False),
        sa.Column("language", sa.String(length=32), nullable=False),
        sa.Column("flags", sa.String(length=64), nullable=False),
        sa.Column("control", sa.String(length=44), nullable=False),
        sa.Column("directory", sa.Integer(), nullable=False),
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("paid", sa.Integer(), nullable=False),
        sa.Column("policy", sa.LargeBinary(), nullable=False),
        sa.Column("labels", sa.LargeBinary(), nullable=False),
        sa.Column("manifest", sa.LargeBinary(), nullable=False),
        sa.Column("account", sa.LargeBinary(), nullable=False),
        sa.Column("declared", sa.LargeBinary(), nullable=False),
        sa.Column("object_count", sa.Integer(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("announced_on", sa.Date(), nullable=False),
        sa.Column("expires_on", sa.Date(), nullable=True),
        sa.Column("received_on", sa.Date(), nullable=True),
        sa.Column("receipt", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "(received_on IS NULL) = (state = 'arriving')", name=op.f("ck_testimonies_received")
        ),
        sa.CheckConstraint(
            "(receipt IS NULL) = (received_on IS NULL)", name=op.f("ck_testimonies_receipt")
        ),
        sa.PrimaryKeyConstraint("case", name=op.f("pk_testimonies")),
        sa.UniqueConstraint("control", name=op.f("uq_testimonies_control")),
    )
    op.create_index("ix_testimonies_announced_on", "testimonies", ["announced_on"], unique=False)
    op.create_index(
        "ix_testimonies_expires_on",
        "testimonies",
        ["expires_on"],
        unique=False,
        postgresql_where=sa.text("expires_on IS NOT NULL"),
    )
    op.create_table(
        "used_assertions",
        sa.Column("jti", sa.String(length=64), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("jti", name=op.f("pk_used_assertions")),
    )
    op.create_index(
        op.f("ix_used_assertions_expires_at"), "used_assertions", ["expires_at"], unique=False
    )
    op.create_table(
        "grants",
        sa.Column("case", sa.String(length=32), nullable=False),
        sa.Column("reader", sa.String(length=32), nullable=False),
        sa.Column("intake_key", sa.String(length=32), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("desk", sa.String(length=32), nullable=False),
        sa.Column("received_on", sa.Date(), nullable=True),
        sa.ForeignKeyConstraint(
            ["case"],
            ["testimonies.case"],
            name=op.f("fk_grants_case_testimonies"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("case", "reader", name=op.f("pk_grants")),
    )
    op.create_index("ix_grants_queue", "grants", ["reader", "received_on", "case"], unique=False)
    op.create_table(
        "objects",
        sa.Column("case", sa.String(length=32), nullable=False),
        sa.Column("n", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("sealed_sha256", sa.String(length=64), nullable=False),
        sa.Column("durable_offset", sa.BigInteger(), nullable=False),
        sa.Column("progress", sa.Text(), nullable=False),
        sa.Column("writer", sa.String(length=32), nullable=True),
        sa.Column("process", sa.String(length=32), nullable=True),
        sa.Column("wanted", sa.Boolean(), nullable=False),
        sa.CheckConstraint("(writer IS NULL) = (process IS NULL)", name=op.f("ck_objects_writer")),
        sa.CheckConstraint("durable_offset BETWEEN 0 AND size", name=op.f("ck_objects_offset")),
        sa.ForeignKeyConstraint(
            ["case"],
            ["testimonies.case"],
            name=op.f("fk_objects_case_testimonies"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("case", "n", name=op.f("pk_objects")),
    )
    op.create_index(op.f("ix_objects_process"), "objects", ["process"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_objects_process"), table_name="objects")
    op.drop_table("objects")
    op.drop_index("ix_grants_queue", table_name="grants")
    op.drop_table("grants")
    op.drop_index(op.f("ix_used_assertions_expires_at"), table_name="used_assertions")
    op.drop_table("used_assertions")
    op.drop_index(
        "ix_testimonies_expires_on",
        table_name="testimonies",
        postgresql_where=sa.text("expires_on IS NOT NULL"),
    )
    op.drop_index("ix_testimonies_announced_on", table_name="testimonies")
    op.drop_table("testimonies")
    op.drop_table("server_processes")
    op.drop_index(op.f("ix_events_case"), table_name="events")
    op.drop_table("events")
    op.drop_table("directory_versions")
    op.drop_table("directory_files")
    op.drop_index("ix_actions_openings", table_name="actions")
    op.drop_table("actions")
