"""Every case that is kept has a review day, what is stored is checked again and again, and dead processes are told."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

NOT_KEPT = "('arriving', 'withdrawn', 'expired')"
DECIDED = "('accepted', 'declined', 'duplicate', 'referred')"


def some(table: str, name: str, columns: list[str], where: str) -> None:
    op.create_index(
        name, table, columns, postgresql_where=sa.text(where), sqlite_where=sa.text(where)
    )


def upgrade() -> None:
    with_days = {
        "testimonies": ("kept_since", "prolonged_until", "ends_on", "checked_on"),
        "objects": ("checked_on",),
        "server_processes": ("noted_on",),
    }
    for table, names in with_days.items():
        for name in names:
            op.add_column(table, sa.Column(name, sa.Date(), nullable=True))
    op.add_column("server_processes", sa.Column("noted_beat", sa.Integer(), nullable=True))
    # Too little rather than too much: it is looked at again before anything expires.
    allows = sa.Column("allows", sa.String(length=8), nullable=False, server_default="nothing")
    op.add_column("testimonies", allows)
    op.execute(
        "UPDATE testimonies SET checked_on = received_on"
        " WHERE received_on IS NOT NULL AND length(policy) > 0"
    )
    op.execute(
        'UPDATE objects SET checked_on = (SELECT received_on FROM testimonies t WHERE t."case" = objects."case")'
    )
    op.execute(f"UPDATE testimonies SET kept_since = received_on WHERE state NOT IN {NOT_KEPT}")
    op.execute(
        "UPDATE testimonies SET kept_since = ("
        'SELECT date(max(accepted_at)) FROM actions a WHERE a."case" = testimonies."case" AND a.action = \'decide\''
        f") WHERE state IN {DECIDED} AND EXISTS ("
        'SELECT 1 FROM actions a WHERE a."case" = testimonies."case" AND a.action = \'decide\')'
    )
    if op.get_bind().dialect.name == "postgresql":
        # SQLite would have to copy the table, and with it delete whatever hangs on it.
        op.create_check_constraint(
            op.f("ck_testimonies_kept"),
            "testimonies",
            f"(kept_since IS NULL) = (state IN {NOT_KEPT})",
        )
    some(
        "testimonies",
        "ix_testimonies_review",
        ["state", "allows", "kept_since"],
        "kept_since IS NOT NULL",
    )
    some("testimonies", "ix_testimonies_ends_on", ["ends_on"], "ends_on IS NOT NULL")
    some(
        "testimonies", "ix_testimonies_checked_on", ["checked_on", "case"], "checked_on IS NOT NULL"
    )
    some("objects", "ix_objects_checked_on", ["checked_on", "case", "n"], "checked_on IS NOT NULL")
    op.create_table(
        "destructions",
        sa.Column("case", sa.String(length=32), nullable=False),
        sa.Column("reason", sa.String(length=16), nullable=False),
        sa.Column("asked_on", sa.Date(), nullable=False),
        sa.Column("destroy_on", sa.Date(), nullable=False),
        sa.Column("destroyed_on", sa.Date(), nullable=True),
        sa.ForeignKeyConstraint(
            ["case"],
            ["testimonies.case"],
            name=op.f("fk_destructions_case_testimonies"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("case", name=op.f("pk_destructions")),
    )
    op.create_index(op.f("ix_destructions_destroy_on"), "destructions", ["destroy_on"])
    op.execute(
        'INSERT INTO destructions ("case", reason, asked_on, destroy_on, destroyed_on)'
        " SELECT \"case\", 'withdrawn', asked_on, destroy_on, destroyed_on FROM withdrawals"
    )
    op.drop_table("withdrawals")
    op.drop_index("ix_assignments_withdrawn", table_name="assignments")
    some(
        "assignments",
        "ix_assignments_gone",
        ["reader", "ended_because", "ended_on"],
        "ended_because IN ('withdrawn', 'expired')",
    )
    op.create_table(
        "damages",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("case", sa.String(length=32), nullable=False),
        sa.Column("part", sa.String(length=64), nullable=False),
        sa.Column("fault", sa.String(length=8), nullable=False),
        sa.Column("found_on", sa.Date(), nullable=False),
        sa.Column("mended_on", sa.Date(), nullable=True),
        sa.ForeignKeyConstraint(
            ["case"],
            ["testimonies.case"],
            name=op.f("fk_damages_case_testimonies"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_damages")),
    )
    op.create_index(
        "uq_damages_open",
        "damages",
        ["case", "part"],
        unique=True,
        postgresql_where=sa.text("mended_on IS NULL"),
        sqlite_where=sa.text("mended_on IS NULL"),
    )


def downgrade() -> None:
    op.drop_table("damages")
    op.drop_index("ix_assignments_gone", table_name="assignments")
    some(
        "assignments",
        "ix_assignments_withdrawn",
        ["reader", "ended_on"],
        "ended_because = 'withdrawn'",
    )
    op.create_table(
        "withdrawals",
        sa.Column("case", sa.String(length=32), nullable=False),
        sa.Column("asked_on", sa.Date(), nullable=False),
        sa.Column("destroy_on", sa.Date(), nullable=False),
        sa.Column("destroyed_on", sa.Date(), nullable=True),
        sa.ForeignKeyConstraint(
            ["case"],
            ["testimonies.case"],
            name=op.f("fk_withdrawals_case_testimonies"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("case", name=op.f("pk_withdrawals")),
    )
    op.create_index(op.f("ix_withdrawals_destroy_on"), "withdrawals", ["destroy_on"])
    op.execute(
        'INSERT INTO withdrawals ("case", asked_on, destroy_on, destroyed_on)'
        ' SELECT "case", asked_on, destroy_on, destroyed_on FROM destructions'
    )
    op.drop_table("destructions")
    if op.get_bind().dialect.name == "postgresql":
        op.drop_constraint(op.f("ck_testimonies_kept"), "testimonies")
    for table, name in (
        ("objects", "ix_objects_checked_on"),
        ("testimonies", "ix_testimonies_checked_on"),
        ("testimonies", "ix_testimonies_ends_on"),
        ("testimonies", "ix_testimonies_review"),
    ):
        op.drop_index(name, table_name=table)
    for column in ("allows", "kept_since", "prolonged_until", "ends_on", "checked_on"):
        op.drop_column("testimonies", column)
    op.drop_column("objects", "checked_on")
    for column in ("noted_beat", "noted_on"):
        op.drop_column("server_processes", column)
