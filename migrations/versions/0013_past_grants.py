"""Since when a reader could open what a colleague handed on, and who could open what was destroyed."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("grants", sa.Column("handed_on", sa.Date(), nullable=True))
    op.create_table(
        "past_grants",
        sa.Column("case", sa.String(length=32), nullable=False),
        sa.Column("reader", sa.String(length=32), nullable=False),
        sa.Column("desk", sa.String(length=32), nullable=False),
        sa.Column("received_on", sa.Date(), nullable=False),
        sa.Column("handed_on", sa.Date(), nullable=True),
        sa.Column("destroyed_on", sa.Date(), nullable=False),
        sa.ForeignKeyConstraint(
            ["case"],
            ["testimonies.case"],
            name=op.f("fk_past_grants_case_testimonies"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("case", "reader", name=op.f("pk_past_grants")),
    )
    op.create_index(op.f("ix_past_grants_reader"), "past_grants", ["reader"])


def downgrade() -> None:
    op.drop_table("past_grants")
    op.drop_column("grants", "handed_on")
