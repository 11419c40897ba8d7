"""Questions to witnesses wait, are published in batches, and die; no row names a case."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def place() -> list[sa.Column]:
    return [
        sa.Column("bits", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("shard", sa.Integer(), autoincrement=False, nullable=False),
    ]


def upgrade() -> None:
    op.create_table(
        "drop_shards",
        *place(),
        sa.Column("batch", sa.String(length=32), nullable=True),
        sa.Column("published_on", sa.Date(), nullable=True),
        sa.Column("behind", sa.Integer(), nullable=False),
        sa.CheckConstraint(
            "(batch IS NULL) = (published_on IS NULL)", name=op.f("ck_drop_shards_published")
        ),
        sa.PrimaryKeyConstraint("bits", "shard", name=op.f("pk_drop_shards")),
    )
    # Without row numbers, which would tell on SQLite what came first.
    op.create_table(
        "drop_slots",
        *place(),
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("last_day", sa.Date(), nullable=False),
        sa.PrimaryKeyConstraint("bits", "shard", "id", name=op.f("pk_drop_slots")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "drop_waiting",
        *place(),
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("bits", "shard", "id", name=op.f("pk_drop_waiting")),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    for table in ("drop_waiting", "drop_slots", "drop_shards"):
        op.drop_table(table)
