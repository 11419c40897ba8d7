"""To which partner a release may be handed on, and under which releases an export holds the identity."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("releases", sa.Column("partner", sa.String(32), nullable=True))
    op.add_column(
        "exports", sa.Column("releases", sa.String(200), nullable=False, server_default="[]")
    )


def downgrade() -> None:
    op.drop_column("exports", "releases")
    op.drop_column("releases", "partner")
