# SPDX-License-Identifier: AGPL-3.0-or-later
"""Single statements, each a transaction of its own, handed to the driver as they stand (docs/decisions/0017).

For what every request of staff does: no ORM, no pool that begins and rolls back, one way to the database and back.
"""

import queue
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import psycopg
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import TimeoutError as PoolTimeout

WAIT_SECONDS = 15.0


class Cursors:
    """A few cursors of the driver, each on a connection of its own that commits every statement by itself.

    Owned by `Database`. Each is lent to one thread at a time, the one used last first; what failed is closed.
    """

    def __init__(self, open_cursor: Callable[[], Any], dialect: sa.Dialect, count: int) -> None:
        self._open = open_cursor
        self._dialect = dialect
        self._compiled: dict[sa.Select[Any] | sa.Table, _Compiled] = {}
        self._idle: queue.LifoQueue[Any] = queue.LifoQueue()
        for _ in range(count):
            self._idle.put(None)

    def first(self, statement: sa.Select[Any], values: Mapping[str, Any]) -> tuple[Any, ...] | None:
        """Return the first row; what the statement compiles to is kept, so it is to be built once."""
        compiled = self._compiled.get(statement)
        if compiled is None:
            compiled = self._compiled[statement] = _Compiled(statement, self._dialect)
        rows = self._lend(lambda cursor: compiled.execute(cursor, values).fetchall(), again=True)
        return compiled.row(rows[0]) if rows else None

    def insert(self, table: sa.Table, row: Mapping[str, Any]) -> bool:
        """Insert a whole row; False where one with its key is there already."""
        compiled = self._compiled.get(table)
        if compiled is None:
            into = sqlite.insert if self._dialect.name == "sqlite" else postgresql.insert
            statement = into(table).on_conflict_do_nothing()
            compiled = self._compiled[table] = _Compiled(statement, self._dialect)
        return bool(self._lend(lambda cursor: compiled.execute(cursor, row).rowcount) == 1)

    def close(self) -> None:
        """Close all that are not lent."""
        for _ in range(self._idle.qsize()):
            with suppress(queue.Empty):
                _close(self._idle.get_nowait())
                self._idle.put(None)

    def _lend(self, use: Callable[[Any], Any], *, again: bool = False) -> Any:
        """Use a cursor; with `again` once more if the connection was an older one, which may have died meanwhile."""
        while True:
            try:
                held = self._idle.get(timeout=WAIT_SECONDS)
            except queue.Empty:
                raise PoolTimeout from None
            cursor = held
            try:
                cursor = held or self._open()
                return use(cursor)
            except BaseException as error:
                _close(cursor)
                cursor = None
                is_old = isinstance(error, psycopg.Error | sqlite3.Error) and held is not None
                if not (again and is_old):
                    raise
            finally:
                self._idle.put(cursor)


def _close(cursor: Any) -> None:
    if cursor is not None:
        with suppress(psycopg.Error, sqlite3.Error):
            cursor.connection.close()


class _Compiled:
    """A statement as the driver takes it; values and rows become what SQLAlchemy would make of them."""

    def __init__(self, statement: sa.Select[Any] | sa.Insert, dialect: sa.Dialect) -> None:
        compiled = statement.compile(dialect=dialect)
        self._text = str(compiled)
        self._order = compiled.positiontup
        self._to_driver = {
            name: process
            for name, bound in compiled.binds.items()
            if (process := bound.type.dialect_impl(dialect).bind_processor(dialect)) is not None
        }
        columns = statement.selected_columns if isinstance(statement, sa.Select) else ()
        self._from_driver = [
            one.type.dialect_impl(dialect).result_processor(dialect, None) for one in columns
        ]

    def execute(self, cursor: Any, values: Mapping[str, Any]) -> Any:
        """Execute it; returns the cursor."""
        if self._to_driver:
            values = {
                name: self._to_driver[name](value) if name in self._to_driver else value
                for name, value in values.items()
            }
        given: Any = values if self._order is None else [values[name] for name in self._order]
        return cursor.execute(self._text, given)

    def row(self, row: Sequence[Any]) -> tuple[Any, ...]:
        """Return a row of the driver's with the types of the columns that were selected."""
        return tuple(
            value if process is None or value is None else process(value)
            for process, value in zip(self._from_driver, row, strict=True)
        )
