"""Witnesses change their consent, withdraw, and take that back, with the codename alone."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def about_a_case(table: str) -> list[sa.schema.SchemaItem]:
    return [
        sa.Column("case", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(
            ["case"],
            ["testimonies.case"],
            name=op.f(f"fk_{table}_case_testimonies"),
            ondelete="CASCADE",
        ),
    ]


def upgrade() -> None:
    op.create_table(
        "policy_versions",
        *about_a_case("policy_versions"),
        sa.Column("seq", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("policy", sa.LargeBinary(), nullable=False),
        sa.Column("received_on", sa.Date(), nullable=False),
        sa.PrimaryKeyConstraint("case", "seq", name=op.f("pk_policy_versions")),
    )
    op.create_table(
        "control_statements",
        *about_a_case("control_statements"),
        sa.Column("seq", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("nonce", sa.String(length=32), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.Column("received_on", sa.Date(), nullable=False),
        sa.PrimaryKeyConstraint("case", "seq", name=op.f("pk_control_statements")),
        sa.UniqueConstraint("nonce", name=op.f("uq_control_statements_nonce")),
    )
    op.create_table(
        "control_nonces",
        sa.Column("nonce", sa.String(length=32), nullable=False),
        sa.Column("spent_on", sa.Date(), nullable=False),
        sa.PrimaryKeyConstraint("nonce", name=op.f("pk_control_nonces")),
    )
    op.create_index(op.f("ix_control_nonces_spent_on"), "control_nonces", ["spent_on"])
    op.create_table(
        "withdrawals",
        *about_a_case("withdrawals"),
        sa.Column("asked_on", sa.Date(), nullable=False),
        sa.Column("destroy_on", sa.Date(), nullable=False),
        sa.Column("destroyed_on", sa.Date(), nullable=True),
        sa.PrimaryKeyConstraint("case", name=op.f("pk_withdrawals")),
    )
    op.create_index(op.f("ix_withdrawals_destroy_on"), "withdrawals", ["destroy_on"])
    withdrawn = sa.text("ended_because = 'withdrawn'")
    op.create_index(
        "ix_assignments_withdrawn",
        "assignments",
        ["reader", "ended_on"],
        postgresql_where=withdrawn,
        sqlite_where=withdrawn,
    )


def downgrade() -> None:
    op.drop_index("ix_assignments_withdrawn", table_name="assignments")
    for table in ("withdrawals", "control_nonces", "control_statements", "policy_versions"):
        op.drop_table(table)
