"""Run migrations over a connection that is handed in, or over the one that the settings name."""

from alembic import context

from amana.config import read_config
from amana.ops import tables
from amana.storage.database import Database

target_metadata = tables.metadata


def _run(connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=target_metadata,
        transaction_per_migration=False,
    )
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    _run(given)
else:
    with Database(read_config().database_url).transaction() as session:
        _run(session.connection())
