"""Time stamps over checkpoints, and what authorities are asked to stamp next."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "stamping_rounds",
        sa.Column("log", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("authority", sa.String(length=32), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("stamped", sa.LargeBinary(), nullable=False),
        sa.Column("owed_since", sa.Date(), nullable=True),
        sa.ForeignKeyConstraint(["log"], ["logs.id"], name=op.f("fk_stamping_rounds_log_logs")),
        sa.PrimaryKeyConstraint("log", "authority", name=op.f("pk_stamping_rounds")),
    )
    op.create_table(
        "time_stamps",
        sa.Column("log", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("authority", sa.String(length=32), nullable=False),
        sa.Column("size", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("stamped", sa.LargeBinary(), nullable=False),
        sa.Column("response", sa.LargeBinary(), nullable=False),
        sa.Column("chain", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["log"], ["logs.id"], name=op.f("fk_time_stamps_log_logs")),
        sa.PrimaryKeyConstraint("log", "authority", "size", name=op.f("pk_time_stamps")),
    )


def downgrade() -> None:
    op.drop_table("time_stamps")
    op.drop_table("stamping_rounds")
