"""The migrations make the schema that the models describe, on both databases, and take it away again."""

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from amana.ops import tables
from amana.storage.database import Database
from amana.storage.migrations import downgrade, head, migrate, revision


def tables_of(database: Database) -> set[str]:
    return set(sa.inspect(database.engine).get_table_names()) - {"alembic_version"}


def test_up_is_the_models_and_down_is_nothing(database_url: str) -> None:
    database = Database(database_url)
    assert revision(database) is None
    migrate(database)
    assert revision(database) == head()
    with database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), tables.metadata) == []
    migrate(database)
    downgrade(database, "base")
    assert tables_of(database) == set()
    migrate(database)
    assert tables_of(database) == set(tables.metadata.tables)
    database.dispose()
