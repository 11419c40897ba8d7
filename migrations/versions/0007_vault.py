"""Who the witness is lies apart, in shares of custodians; readers ask for its release."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

ID = sa.String(length=32)
VAULT = sa.String(length=16)
SUBSET = sa.String(length=200)


def of_a_vault(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["case", "vault"],
        ["vaults.case", "vaults.vault"],
        name=op.f(f"fk_{table}_case_vault_vaults"),
        ondelete="CASCADE",
    )


def of_a_case(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["case"],
        ["testimonies.case"],
        name=op.f(f"fk_{table}_case_testimonies"),
        ondelete="CASCADE",
    )


def of_a_release(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["request"],
        ["releases.request"],
        name=op.f(f"fk_{table}_request_releases"),
        ondelete="CASCADE",
    )


def upgrade() -> None:
    op.add_column("objects", sa.Column("vault", VAULT, nullable=True))
    op.create_table(
        "vaults",
        sa.Column("case", ID, nullable=False),
        sa.Column("vault", VAULT, nullable=False),
        sa.Column("key", ID, nullable=False),
        sa.Column("k", sa.Integer(), nullable=False),
        sa.Column("custodians", SUBSET, nullable=False),
        of_a_case("vaults"),
        sa.PrimaryKeyConstraint("case", "vault", name=op.f("pk_vaults")),
    )
    op.create_table(
        "shares",
        sa.Column("case", ID, nullable=False),
        sa.Column("vault", VAULT, nullable=False),
        sa.Column("subset", SUBSET, nullable=False),
        sa.Column("custodian", ID, nullable=False),
        sa.Column("maker", ID, nullable=False),
        sa.Column("intake_key", ID, nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        of_a_vault("shares"),
        sa.PrimaryKeyConstraint(
            "case", "vault", "subset", "custodian", "maker", name=op.f("pk_shares")
        ),
    )
    op.create_index("ix_shares_custodian", "shares", ["custodian", "intake_key"])
    op.create_table(
        "share_pieces",
        sa.Column("case", ID, nullable=False),
        sa.Column("vault", VAULT, nullable=False),
        sa.Column("source", SUBSET, nullable=False),
        sa.Column("maker", ID, nullable=False),
        sa.Column("subset", SUBSET, nullable=False),
        sa.Column("custodian", ID, nullable=False),
        sa.Column("intake_key", ID, nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        of_a_vault("share_pieces"),
        sa.PrimaryKeyConstraint(
            "case", "vault", "source", "maker", "subset", "custodian", name=op.f("pk_share_pieces")
        ),
    )
    op.create_table(
        "releases",
        sa.Column("request", ID, nullable=False),
        sa.Column("case", ID, nullable=False),
        sa.Column("vault", VAULT, nullable=False),
        sa.Column("reader", ID, nullable=False),
        sa.Column("intake_key", ID, nullable=False),
        sa.Column("purpose", sa.String(length=32), nullable=False),
        sa.Column("action", ID, nullable=False),
        sa.Column("requested_on", sa.Date(), nullable=False),
        sa.Column("expires_on", sa.Date(), nullable=False),
        sa.Column("released_on", sa.Date(), nullable=True),
        sa.Column("opened_on", sa.Date(), nullable=True),
        sa.Column("ended_on", sa.Date(), nullable=True),
        sa.Column("ended_because", sa.String(length=16), nullable=True),
        of_a_case("releases"),
        sa.CheckConstraint(
            "(ended_on IS NULL) = (ended_because IS NULL)", name=op.f("ck_releases_ended")
        ),
        sa.PrimaryKeyConstraint("request", name=op.f("pk_releases")),
    )
    op.create_index(op.f("ix_releases_case"), "releases", ["case"])
    op.create_index(op.f("ix_releases_expires_on"), "releases", ["expires_on"])
    is_open = sa.text("ended_on IS NULL")
    op.create_index(
        "uq_releases_open",
        "releases",
        ["case", "vault", "reader"],
        unique=True,
        postgresql_where=is_open,
        sqlite_where=is_open,
    )
    op.create_table(
        "release_answers",
        sa.Column("request", ID, nullable=False),
        sa.Column("custodian", ID, nullable=False),
        sa.Column("case", ID, nullable=False),
        sa.Column("answer", sa.String(length=8), nullable=False),
        sa.Column("answered_on", sa.Date(), nullable=False),
        sa.Column("reason", sa.LargeBinary(), nullable=True),
        of_a_release("release_answers"),
        sa.PrimaryKeyConstraint("request", "custodian", name=op.f("pk_release_answers")),
    )
    op.create_index(op.f("ix_release_answers_case"), "release_answers", ["case"])
    op.create_table(
        "released_shares",
        sa.Column("request", ID, nullable=False),
        sa.Column("custodian", ID, nullable=False),
        sa.Column("subset", SUBSET, nullable=False),
        sa.Column("case", ID, nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        of_a_release("released_shares"),
        sa.PrimaryKeyConstraint("request", "custodian", "subset", name=op.f("pk_released_shares")),
    )
    op.create_index(op.f("ix_released_shares_case"), "released_shares", ["case"])


def downgrade() -> None:
    for table in (
        "released_shares",
        "release_answers",
        "releases",
        "share_pieces",
        "shares",
        "vaults",
    ):
        op.drop_table(table)
    op.drop_column("objects", "vault")
