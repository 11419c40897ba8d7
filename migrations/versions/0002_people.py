"""People come and go: invitations, enrolments, suspensions, sessions; an action need not be about a case."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "invitations",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("token_sha256", sa.String(length=64), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("desks", sa.String(length=1024), nullable=False),
        sa.Column("issued_by", sa.String(length=32), nullable=False),
        sa.Column("issued_on", sa.Date(), nullable=False),
        sa.Column("expires_on", sa.Date(), nullable=False),
        sa.Column("used_by", sa.String(length=32), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_invitations")),
        sa.UniqueConstraint("token_sha256", name=op.f("uq_invitations_token_sha256")),
    )
    op.create_index(op.f("ix_invitations_expires_on"), "invitations", ["expires_on"], unique=False)
    op.create_table(
        "people",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("desks", sa.String(length=1024), nullable=False),
        sa.Column("signing_key", sa.String(length=44), nullable=False),
        sa.Column("intake_key", sa.String(length=32), nullable=True),
        sa.Column("first_seen_on", sa.Date(), nullable=False),
        sa.Column("confirmed_on", sa.Date(), nullable=False),
        sa.Column("last_active_on", sa.Date(), nullable=True),
        sa.Column("vouchers", sa.Text(), nullable=True),
        sa.Column("vetted_on", sa.Date(), nullable=True),
        sa.Column("valid_until", sa.Date(), nullable=True),
        sa.Column("languages", sa.String(length=512), nullable=False),
        sa.Column("specialities", sa.String(length=1024), nullable=False),
        sa.Column("conflicts", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_people")),
        sa.UniqueConstraint("intake_key", name=op.f("uq_people_intake_key")),
        sa.UniqueConstraint("signing_key", name=op.f("uq_people_signing_key")),
    )
    op.create_table(
        "enrolments",
        sa.Column("person", sa.String(length=32), nullable=False),
        sa.Column("invitation", sa.String(length=32), nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.Column("enrolled_on", sa.Date(), nullable=False),
        sa.ForeignKeyConstraint(
            ["invitation"], ["invitations.id"], name=op.f("fk_enrolments_invitation_invitations")
        ),
        sa.ForeignKeyConstraint(
            ["person"], ["people.id"], name=op.f("fk_enrolments_person_people")
        ),
        sa.PrimaryKeyConstraint("person", name=op.f("pk_enrolments")),
        sa.UniqueConstraint("invitation", name=op.f("uq_enrolments_invitation")),
    )
    op.create_table(
        "key_replacements",
        sa.Column("person", sa.String(length=32), nullable=False),
        sa.Column("intake_key", sa.Text(), nullable=False),
        sa.Column("intake_key_sig", sa.String(length=88), nullable=False),
        sa.Column("asked_on", sa.Date(), nullable=False),
        sa.ForeignKeyConstraint(
            ["person"], ["people.id"], name=op.f("fk_key_replacements_person_people")
        ),
        sa.PrimaryKeyConstraint("person", name=op.f("pk_key_replacements")),
    )
    op.create_table(
        "sessions",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("person", sa.String(length=32), nullable=False),
        sa.Column("jkt", sa.String(length=43), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["person"], ["people.id"], name=op.f("fk_sessions_person_people")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sessions")),
    )
    op.create_index(op.f("ix_sessions_expires_at"), "sessions", ["expires_at"], unique=False)
    op.create_index(op.f("ix_sessions_person"), "sessions", ["person"], unique=False)
    op.create_table(
        "suspensions",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("person", sa.String(length=32), nullable=False),
        sa.Column("by", sa.String(length=32), nullable=False),
        sa.Column("reason", sa.String(length=1000), nullable=False),
        sa.Column("suspended_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("lifted_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["person"], ["people.id"], name=op.f("fk_suspensions_person_people")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_suspensions")),
    )
    op.create_index(op.f("ix_suspensions_person"), "suspensions", ["person"], unique=False)
    op.create_index(
        "uq_suspensions_open",
        "suspensions",
        ["person"],
        unique=True,
        postgresql_where=sa.text("lifted_at IS NULL"),
        sqlite_where=sa.text("lifted_at IS NULL"),
    )
    op.create_table(
        "reinstatements",
        sa.Column("suspension", sa.String(length=32), nullable=False),
        sa.Column("by", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(
            ["suspension"],
            ["suspensions.id"],
            name=op.f("fk_reinstatements_suspension_suspensions"),
        ),
        sa.PrimaryKeyConstraint("suspension", "by", name=op.f("pk_reinstatements")),
    )
    with op.batch_alter_table("actions") as actions:
        actions.add_column(sa.Column("body", sa.LargeBinary(), nullable=True))
        actions.alter_column("case", existing_type=sa.String(length=32), nullable=True)
    op.create_index("ix_actions_actor", "actions", ["actor", "accepted_at"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_actions_actor", table_name="actions")
    # What is about no case has no place in the older schema.
    op.execute('DELETE FROM actions WHERE "case" IS NULL')
    with op.batch_alter_table("actions") as actions:
        actions.alter_column("case", existing_type=sa.String(length=32), nullable=False)
        actions.drop_column("body")
    op.drop_table("reinstatements")
    op.drop_index(
        "uq_suspensions_open",
        table_name="suspensions",
        postgresql_where=sa.text("lifted_at IS NULL"),
        sqlite_where=sa.text("lifted_at IS NULL"),
    )
    op.drop_index(op.f("ix_suspensions_person"), table_name="suspensions")
    op.drop_table("suspensions")
    op.drop_index(op.f("ix_sessions_person"), table_name="sessions")
    op.drop_index(op.f("ix_sessions_expires_at"), table_name="sessions")
    op.drop_table("sessions")
    op.drop_table("key_replacements")
    op.drop_table("enrolments")
    op.drop_table("people")
    op.drop_index(op.f("ix_invitations_expires_on"), table_name="invitations")
    op.drop_table("invitations")
