# SPDX-License-Identifier: AGPL-3.0-or-later
"""Single statements, each a transaction of its own, handed to the database's library as they stand.

For what every request of staff does (docs/decisions/0017-single-statements.md): no ORM, no result object, no
transaction to begin and to end, so one way to PostgreSQL and back, and a small part of the processor time.
"""

import queue
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import date, datetime
from typing import Any, Protocol

import psycopg
import sqlalchemy as sa
from psycopg.errors import error_from_result
from psycopg.pq import ConnStatus, ExecStatus
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.exc import TimeoutError as PoolTimeout

WAIT_SECONDS = 15.0
Convert = Callable[[Any], Any]


def inserting_new(table: sa.Table, dialect: sa.Dialect) -> sa.Insert:
    """Return an insertion that leaves out what clashes with a row that is there."""
    into = sqlite.insert if dialect.name == "sqlite" else postgresql.insert
    return into(table).on_conflict_do_nothing()


class Line(Protocol):
    """A connection that commits every statement by itself."""

    def run(self, text: str, values: Sequence[Any]) -> tuple[list[Sequence[Any]], int]:
        """Return the rows, and how many rows were read or changed."""

    def close(self) -> None:
        """Close the connection."""


class SqliteLine:
    """A line to SQLite; its driver keeps statements prepared by itself."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def run(self, text: str, values: Sequence[Any]) -> tuple[list[Sequence[Any]], int]:
        cursor = self._connection.execute(text, values)
        return cursor.fetchall(), cursor.rowcount

    def close(self) -> None:
        self._connection.close()


class PostgresLine:
    """A line to PostgreSQL through libpq alone, which psycopg lends; each statement is prepared once."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        connection.autocommit = True
        # So that days and instants are written as ISO 8601 whatever the server is set to.
        connection.execute("SET datestyle TO ISO")
        self._connection = connection
        self._prepared: dict[str, bytes] = {}

    def run(self, text: str, values: Sequence[Any]) -> tuple[list[Sequence[Any]], int]:
        library = self._connection.pgconn
        name = self._prepared.get(text)
        if name is None:
            name = b"amana-%d" % len(self._prepared)
            self._checked(library.prepare(name, text.encode()))
            self._prepared[text] = name
        found = self._checked(library.exec_prepared(name, values))
        columns = range(found.nfields)
        rows: list[Sequence[Any]] = [
            [found.get_value(row, column) for column in columns] for row in range(found.ntuples)
        ]
        return rows, found.command_tuples or 0

    def close(self) -> None:
        self._connection.close()

    def _checked(self, result: Any) -> Any:
        if result.status in (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK):
            return result
        if self._connection.pgconn.status != ConnStatus.OK:
            raise psycopg.OperationalError
        raise error_from_result(result)


# libpq takes and gives text (PostgreSQL §8); of the types, those that such statements use.
_TO_POSTGRES: dict[type, Convert] = {
    str: str.encode,
    bool: lambda value: b"t" if value else b"f",
    date: lambda value: value.isoformat().encode(),
    datetime: lambda value: value.isoformat().encode(),
}
_FROM_POSTGRES: dict[type, Convert] = {
    str: bytes.decode,
    int: int,
    bool: b"t".__eq__,
    date: lambda value: date.fromisoformat(value.decode()),
    datetime: lambda value: datetime.fromisoformat(value.decode()),
}


class Lines:
    """A few lines to the database, opened when they are needed. Owned by `Database`.

    Each is lent to one thread at a time, the one used last first; one on which anything failed is closed.
    """

    def __init__(self, open_line: Callable[[], Line], dialect: sa.Dialect, count: int) -> None:
        self._open = open_line
        self._dialect = dialect
        self._compiled: dict[sa.Select[Any] | sa.Table, _Compiled] = {}
        self._idle: queue.LifoQueue[Line | None] = queue.LifoQueue()
        for _ in range(count):
            self._idle.put(None)

    def first(self, statement: sa.Select[Any], values: Mapping[str, Any]) -> list[Any] | None:
        """Return the first row; what the statement compiles to is kept, so it is to be built once."""
        compiled = self._compiled.get(statement)
        if compiled is None:
            compiled = self._compiled[statement] = _Compiled(statement, self._dialect)
        given = compiled.given(values)
        # Asking again changes nothing, and the line may be from before the database's restart.
        rows, _ = self._lend(lambda line: line.run(compiled.text, given), is_repeatable=True)
        return compiled.row(rows[0]) if rows else None

    def insert(self, table: sa.Table, row: Mapping[str, Any]) -> bool:
        """Insert a whole row; False where one with its key is there already."""
        compiled = self._compiled.get(table)
        if compiled is None:
            statement = inserting_new(table, self._dialect)
            compiled = self._compiled[table] = _Compiled(statement, self._dialect)
        given = compiled.given(row)
        _, count = self._lend(lambda line: line.run(compiled.text, given), is_repeatable=False)
        return count == 1

    def close(self) -> None:
        """Close those that are not lent; they open again when they are needed."""
        found = []
        with suppress(queue.Empty):
            while True:
                found.append(self._idle.get_nowait())
        for line in found:
            _close(line)
            self._idle.put(None)

    def _lend(
        self, use: Callable[[Line], tuple[list[Sequence[Any]], int]], *, is_repeatable: bool
    ) -> tuple[list[Sequence[Any]], int]:
        while True:
            try:
                held = line = self._idle.get(timeout=WAIT_SECONDS)
            except queue.Empty:
                raise PoolTimeout from None
            try:
                line = line or self._open()
                return use(line)
            except BaseException as error:
                _close(line)
                line = None
                may_be_stale = held is not None and isinstance(error, psycopg.Error | sqlite3.Error)
                if not (is_repeatable and may_be_stale):
                    raise
            finally:
                self._idle.put(line)


def _close(line: Line | None) -> None:
    if line is not None:
        with suppress(psycopg.Error, sqlite3.Error):
            line.close()


class _Compiled:
    """A statement as a line takes it; values and rows are converted as SQLAlchemy would, by the types of the columns."""

    def __init__(self, statement: sa.Select[Any] | sa.Insert, dialect: sa.Dialect) -> None:
        is_sqlite = dialect.name == "sqlite"
        if not is_sqlite:
            dialect = PGDialect(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]
        compiled = statement.compile(dialect=dialect)
        self.text = str(compiled)
        bound = [(name, compiled.binds[name].type) for name in compiled.positiontup or ()]
        selected = statement.selected_columns if isinstance(statement, sa.Select) else ()
        self._given: list[tuple[str, Convert | None]]
        self._found: list[Convert | None]
        if is_sqlite:
            self._given = [
                (name, kind.dialect_impl(dialect).bind_processor(dialect)) for name, kind in bound
            ]
            self._found = [
                one.type.dialect_impl(dialect).result_processor(dialect, None) for one in selected
            ]
        else:
            self._given = [(name, _TO_POSTGRES[kind.python_type]) for name, kind in bound]
            self._found = [_FROM_POSTGRES[one.type.python_type] for one in selected]

    def given(self, values: Mapping[str, Any]) -> list[Any]:
        """Return values by name as they are bound."""
        return [_converted(values[name], convert) for name, convert in self._given]

    def row(self, row: Sequence[Any]) -> list[Any]:
        """Return a row that was found."""
        return list(map(_converted, row, self._found))


def _converted(value: Any, convert: Convert | None) -> Any:
    return value if value is None or convert is None else convert(value)
