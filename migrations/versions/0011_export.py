"""Testimonies leave: exports, who asked, who approved, what was handed over."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "exports",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("case", sa.String(length=32), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("partner", sa.String(length=32), nullable=False),
        sa.Column("purpose", sa.String(length=32), nullable=False),
        sa.Column("identity_level", sa.String(length=16), nullable=False),
        sa.Column("requested_by", sa.String(length=32), nullable=False),
        sa.Column("requested_on", sa.Date(), nullable=False),
        sa.Column("request", sa.String(length=32), nullable=False),
        sa.Column("evaluation", sa.LargeBinary(), nullable=False),
        sa.Column("decided_by", sa.String(length=32), nullable=True),
        sa.Column("decided_on", sa.Date(), nullable=True),
        sa.Column("approval", sa.String(length=32), nullable=True),
        sa.Column("bag_sha256", sa.String(length=64), nullable=True),
        sa.Column("sealed_sha256", sa.String(length=64), nullable=True),
        sa.Column("size", sa.BigInteger(), nullable=True),
        sa.Column("exported_on", sa.Date(), nullable=True),
        sa.Column("receipt", sa.LargeBinary(), nullable=True),
        sa.Column("received_on", sa.Date(), nullable=True),
        sa.CheckConstraint(
            "decided_by IS NULL OR decided_by <> requested_by", name=op.f("ck_exports_two_persons")
        ),
        sa.CheckConstraint(
            "(exported_on IS NULL) = (sealed_sha256 IS NULL)", name=op.f("ck_exports_exported")
        ),
        sa.CheckConstraint(
            "(received_on IS NULL) = (receipt IS NULL)", name=op.f("ck_exports_received")
        ),
        sa.ForeignKeyConstraint(
            ["case"],
            ["testimonies.case"],
            name=op.f("fk_exports_case_testimonies"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_exports")),
    )
    op.create_index("ix_exports_case", "exports", ["case"])
    op.create_index("ix_exports_state", "exports", ["state", "requested_on", "id"])
    op.create_index("ix_exports_requested_by", "exports", ["requested_by", "requested_on", "id"])


def downgrade() -> None:
    op.drop_table("exports")
