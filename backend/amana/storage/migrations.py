# SPDX-License-Identifier: AGPL-3.0-or-later
"""Bring a database to the schema of this version; an unknown or older schema is never served by accident."""

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from amana.storage.database import Database

_LOCK_KEY = 0x616D616E61  # "amana": two servers that start at once must not migrate at once.


def _alembic() -> AlembicConfig:
    packaged = Path(__file__).parents[1] / "migrations"
    config = AlembicConfig()
    source = Path(__file__).parents[3] / "migrations"
    config.set_main_option("script_location", str(packaged if packaged.is_dir() else source))
    return config


def head() -> str:
    """Return the newest revision that this version knows."""
    return ScriptDirectory.from_config(_alembic()).get_current_head() or ""


def revision(database: Database) -> str | None:
    """Return the revision of the database; None when it is empty."""
    with database.engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def migrate(database: Database, target: str = "head") -> None:
    """Upgrade the database to `target`, in one transaction and from one process at a time."""
    config = _alembic()
    with database.transaction() as session:
        connection = session.connection()
        if not database.is_sqlite:
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
        config.attributes["connection"] = connection
        command.upgrade(config, target)


def downgrade(database: Database, target: str) -> None:
    """Take the database back to `target`; for tests and for an operator who knows why."""
    config = _alembic()
    with database.transaction() as session:
        config.attributes["connection"] = session.connection()
        command.downgrade(config, target)
