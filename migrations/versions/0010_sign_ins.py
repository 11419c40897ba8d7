"""A sign-in is one row: a session is called by the assertion that began it, and so remembers that it was used."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "sessions",
        sa.Column("is_over", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
    # An assertion of the three minutes before is forgotten with it. To use one again takes its DPoP key, and
    # whoever has that has the session too.
    op.drop_table("used_assertions")


def downgrade() -> None:
    op.create_table(
        "used_assertions",
        sa.Column("jti", sa.String(length=64), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("jti", name=op.f("pk_used_assertions")),
    )
    op.create_index(op.f("ix_used_assertions_expires_at"), "used_assertions", ["expires_at"])
    op.execute("DELETE FROM sessions WHERE is_over")
    op.drop_column("sessions", "is_over")
