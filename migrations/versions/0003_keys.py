"""A replaced key is asked for by a signed action; sixty-four desks fit into a row."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

DESKS = ("invitations", "people")


def has_lengths() -> bool:
    """Tell whether this database minds how long a text is; SQLite does not, and would have to copy the tables."""
    return op.get_bind().dialect.name != "sqlite"


def upgrade() -> None:
    if has_lengths():
        for table in DESKS:
            op.alter_column(table, "desks", type_=sa.Text(), existing_nullable=False)
    # A request without its action cannot be checked by the officers, so its owner asks anew.
    op.execute("DELETE FROM key_replacements")
    with op.batch_alter_table("key_replacements") as batch:
        batch.add_column(sa.Column("action", sa.LargeBinary(), nullable=False))


def downgrade() -> None:
    with op.batch_alter_table("key_replacements") as batch:
        batch.drop_column("action")
    if has_lengths():
        for table in DESKS:
            op.alter_column(
                table,
                "desks",
                type_=sa.String(length=1024),
                existing_nullable=False,
                postgresql_using="left(desks, 1024)",
            )
