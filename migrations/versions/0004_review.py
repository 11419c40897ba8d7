"""Cases find their readers, move through states, and are written about; queues are read from one index."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

NOT_ENDED = "ended_on IS NULL"
UNCLAIMED = "ended_on IS NULL AND claimed_on IS NULL"
UNROUTED = "state = 'received' AND NOT routed"


def partial_index(name: str, table: str, columns: list[str], where: str, **options: bool) -> None:
    condition = sa.text(where)
    op.create_index(
        name, table, columns, postgresql_where=condition, sqlite_where=condition, **options
    )


def upgrade() -> None:
    # Added with a default and never copied: SQLite would delete the grants of a table that is made anew.
    op.add_column(
        "testimonies", sa.Column("routed", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    op.add_column(
        "grants",
        sa.Column("state", sa.String(length=16), nullable=False, server_default="arriving"),
    )
    op.add_column("grants", sa.Column("rank", sa.Integer(), nullable=False, server_default="0"))
    op.execute(
        'UPDATE grants SET state = (SELECT t.state FROM testimonies t WHERE t."case" = grants."case"),'
        " rank = (SELECT t.paid + CASE WHEN ',' || t.flags || ',' LIKE '%,urgent,%' THEN 1000 ELSE 0 END"
        ' FROM testimonies t WHERE t."case" = grants."case")'
    )
    op.drop_index("ix_grants_queue", table_name="grants")
    queue = ["reader", "desk", "state", "rank", "received_on", "case"]
    op.create_index("ix_grants_queue", "grants", queue)
    partial_index("ix_testimonies_unrouted", "testimonies", ["desk"], UNROUTED)
    op.create_table(
        "assignments",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("case", sa.String(length=32), nullable=False),
        sa.Column("reader", sa.String(length=32), nullable=False),
        sa.Column("part", sa.String(length=8), nullable=False),
        sa.Column("by", sa.String(length=32), nullable=False),
        sa.Column("urgent", sa.Boolean(), nullable=False),
        sa.Column("offered_on", sa.Date(), nullable=False),
        sa.Column("claimed_on", sa.Date(), nullable=True),
        sa.Column("ended_on", sa.Date(), nullable=True),
        sa.Column("ended_because", sa.String(length=16), nullable=True),
        sa.Column("explanation", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "(ended_on IS NULL) = (ended_because IS NULL)", name=op.f("ck_assignments_ended")
        ),
        sa.ForeignKeyConstraint(
            ["case"],
            ["testimonies.case"],
            name=op.f("fk_assignments_case_testimonies"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_assignments")),
    )
    op.create_index("ix_assignments_case", "assignments", ["case"])
    op.create_index("ix_assignments_offered", "assignments", ["offered_on", "reader"])
    partial_index("ix_assignments_unclaimed", "assignments", ["offered_on"], UNCLAIMED)
    partial_index("uq_assignments_part", "assignments", ["case", "part"], NOT_ENDED, unique=True)
    partial_index(
        "uq_assignments_reader", "assignments", ["reader", "case"], NOT_ENDED, unique=True
    )
    # Whoever opened a case last goes on with it.
    day = "date(a.accepted_at)" if op.get_bind().dialect.name == "sqlite" else "a.accepted_at::date"
    op.execute(
        'INSERT INTO assignments (id, "case", reader, part, "by", urgent, offered_on, claimed_on,'
        f" explanation) SELECT a.nonce, a.\"case\", a.actor, 'first', a.actor, false, {day}, {day},"
        ' \'{"by": "opened"}\' FROM actions a JOIN testimonies t ON t."case" = a."case"'
        " WHERE t.state = 'in-review' AND a.action = 'open' AND a.nonce = ("
        'SELECT b.nonce FROM actions b WHERE b."case" = a."case" AND b.action = \'open\''
        " ORDER BY b.accepted_at DESC, b.nonce LIMIT 1)"
    )
    op.create_table(
        "recusals",
        sa.Column("case", sa.String(length=32), nullable=False),
        sa.Column("reader", sa.String(length=32), nullable=False),
        sa.Column("reason", sa.String(length=16), nullable=False),
        sa.Column("made_on", sa.Date(), nullable=False),
        sa.ForeignKeyConstraint(
            ["case"],
            ["testimonies.case"],
            name=op.f("fk_recusals_case_testimonies"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("case", "reader", name=op.f("pk_recusals")),
    )
    op.create_table(
        "routing_tasks",
        sa.Column("case", sa.String(length=32), nullable=False),
        sa.Column("desk", sa.String(length=32), nullable=False),
        sa.Column("reason", sa.String(length=32), nullable=False),
        sa.Column("made_on", sa.Date(), nullable=False),
        sa.Column("explanation", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["case"],
            ["testimonies.case"],
            name=op.f("fk_routing_tasks_case_testimonies"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("case", name=op.f("pk_routing_tasks")),
    )
    op.create_index(op.f("ix_routing_tasks_desk"), "routing_tasks", ["desk"])
    op.create_table(
        "routing_rules",
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("set_by", sa.String(length=32), nullable=False),
        sa.Column("set_on", sa.Date(), nullable=False),
        sa.PrimaryKeyConstraint("version", name=op.f("pk_routing_rules")),
    )
    op.create_table(
        "notes",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("case", sa.String(length=32), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("author", sa.String(length=32), nullable=False),
        sa.Column("audience", sa.String(length=8), nullable=False),
        sa.Column("made_on", sa.Date(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["case"],
            ["testimonies.case"],
            name=op.f("fk_notes_case_testimonies"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notes")),
        sa.UniqueConstraint("case", "n", name=op.f("uq_notes_case_n")),
    )


def downgrade() -> None:
    for table in ("notes", "routing_rules", "routing_tasks", "recusals", "assignments"):
        op.drop_table(table)
    op.drop_index("ix_testimonies_unrouted", table_name="testimonies")
    op.drop_index("ix_grants_queue", table_name="grants")
    op.create_index("ix_grants_queue", "grants", ["reader", "received_on", "case"])
    op.drop_column("grants", "rank")
    op.drop_column("grants", "state")
    op.drop_column("testimonies", "routed")
