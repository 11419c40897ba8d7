"""Checkpoints that cosigners vouch for, beside the newest ones."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "cosigned_checkpoints",
        sa.Column("log", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("note", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["log"], ["logs.id"], name=op.f("fk_cosigned_checkpoints_log_logs")
        ),
        sa.PrimaryKeyConstraint("log", name=op.f("pk_cosigned_checkpoints")),
    )


def downgrade() -> None:
    op.drop_table("cosigned_checkpoints")
