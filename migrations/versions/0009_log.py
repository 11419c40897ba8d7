"""Two public logs: events wait for their place apart from what they say; what was recorded before waits too."""

import hashlib
import re

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

COUNTING = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "waiting_leaves",
        sa.Column("id", COUNTING, sa.Identity(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("entry", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_waiting_leaves")),
    )
    op.create_table(
        "logs",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("origin", sa.String(length=200), nullable=False),
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("public_key", sa.String(length=44), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("frozen", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_logs")),
        sa.UniqueConstraint("name", name=op.f("uq_logs_name")),
        sa.UniqueConstraint("origin", name=op.f("uq_logs_origin")),
    )
    op.create_table(
        "log_leaves",
        sa.Column("log", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("place", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("entry", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["log"], ["logs.id"], name=op.f("fk_log_leaves_log_logs")),
        sa.PrimaryKeyConstraint("log", "place", name=op.f("pk_log_leaves")),
    )
    op.create_index(op.f("ix_log_leaves_entry"), "log_leaves", ["entry"])
    op.create_table(
        "published_checkpoints",
        sa.Column("log", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("note", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["log"], ["logs.id"], name=op.f("fk_published_checkpoints_log_logs")
        ),
        sa.PrimaryKeyConstraint("log", name=op.f("pk_published_checkpoints")),
    )
    op.create_table(
        "sequencer_lease",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("holder", sa.String(length=32), nullable=False),
        sa.Column("term", sa.BigInteger(), nullable=False),
        sa.Column("beat", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sequencer_lease")),
    )
    op.execute("INSERT INTO sequencer_lease (id, holder, term, beat) VALUES (1, '', 0, 0)")
    op.execute("INSERT INTO waiting_leaves (kind, entry) SELECT 'custody', leaf FROM events")
    _wait_for_directory_log()
    with op.batch_alter_table("events") as events:
        events.drop_constraint(op.f("uq_events_sequence"), type_="unique")
        events.drop_column("sequence")


def _wait_for_directory_log() -> None:
    """Let every root and list that was published wait, roots first, as a publication does."""
    waiting = sa.table("waiting_leaves", sa.column("kind"), sa.column("entry", sa.LargeBinary))
    files = sa.table("directory_files", sa.column("name"), sa.column("content", sa.LargeBinary))
    found = []
    for name, content in op.get_bind().execute(sa.select(files.c.name, files.c.content)):
        if named := re.fullmatch(r"([0-9]+)\.(root|targets)\.json", name):
            found.append((named[2], int(named[1]), bytes(content)))
    newest = max((version for role, version, _ in found if role == "root"), default=0)
    for role, version, content in sorted(found):
        sha256 = hashlib.sha256(content).hexdigest()
        # Nothing tells under which root an older list was published; for the newest it is this one.
        under = f'"root":{newest},' if role == "targets" else ""
        entry = f'{{"kind":"{role}",{under}"sha256":"{sha256}","v":1,"version":{version}}}'
        op.execute(sa.insert(waiting).values(kind="directory", entry=entry.encode()))


def downgrade() -> None:
    with op.batch_alter_table("events") as events:
        events.add_column(sa.Column("sequence", sa.BigInteger(), nullable=True))
        events.create_unique_constraint(op.f("uq_events_sequence"), ["sequence"])
    op.drop_table("sequencer_lease")
    op.drop_table("published_checkpoints")
    op.drop_index(op.f("ix_log_leaves_entry"), table_name="log_leaves")
    for table in ("log_leaves", "logs", "waiting_leaves"):
        op.drop_table(table)
