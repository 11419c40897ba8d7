"""Single statements mean what SQLAlchemy's would, are committed at once, and survive the connections they were made on."""

import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from amana.storage import asking
from amana.storage.database import Database, DatabaseUnavailable
from tests.support.postgres import fresh_database
from tests.support.server import wait_until

METADATA = sa.MetaData()
STAYS = sa.Table(
    "stays",
    METADATA,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("words", sa.Text),
    sa.Column("came_on", sa.Date),
    sa.Column("seen_at", sa.DateTime(timezone=True)),
    sa.Column("is_over", sa.Boolean),
)
STAY = sa.select(
    STAYS.c.words,
    STAYS.c.came_on,
    STAYS.c.seen_at,
    STAYS.c.is_over,
    sa.select(sa.func.count()).select_from(STAYS).scalar_subquery(),
    sa.exists().where(STAYS.c.words.is_(None)),
).where(STAYS.c.id == sa.bindparam("id"))
ROW = {
    "id": "a",
    "words": "both",
    "came_on": date(2026, 11, 24),
    "seen_at": datetime(2026, 11, 24, 3, tzinfo=UTC),
    "is_over": False,
}


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    made = Database(database_url, pool_size=2)
    METADATA.create_all(made.engine)
    yield made
    made.dispose()


@pytest.fixture
def on_postgres(postgres: str) -> Iterator[Database]:
    with fresh_database(postgres) as url:
        made = Database(url, pool_size=2)
        METADATA.create_all(made.engine)
        yield made
        made.dispose()


def with_sqlalchemy(database: Database, key: str) -> list[Any]:
    with database.engine.connect() as connection:
        return list(connection.execute(STAY, {"id": key}).one())


days = st.dates(date(1970, 1, 1), date(2100, 1, 1))
# Characters that PostgreSQL keeps: no NUL, no halves of pairs.
words = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=50)
instants = st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))


@given(
    row=st.fixed_dictionaries(
        {
            "words": st.none() | words,
            "came_on": st.none() | days,
            "seen_at": st.none() | instants,
            "is_over": st.none() | st.booleans(),
        }
    ),
    number=st.integers(0, 2**60),
)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_was_added_is_found_as_sqlalchemy_finds_it(
    database: Database, row: dict[str, Any], number: int
) -> None:
    key = str(number)
    database.add_once(STAYS, {"id": key, **row})
    assert database.ask(STAY, id=key) == with_sqlalchemy(database, key)


def test_what_is_not_there_is_not_found(database: Database) -> None:
    assert database.ask(STAY, id="a") is None


def test_a_taken_key_changes_nothing(database: Database) -> None:
    assert database.add_once(STAYS, ROW)
    assert not database.add_once(STAYS, {**ROW, "words": "another"})
    assert database.ask(STAY, id="a") == with_sqlalchemy(database, "a")
    assert with_sqlalchemy(database, "a")[0] == "both"


def test_of_many_who_add_one_key_at_once_one_did(database: Database) -> None:
    together, added = threading.Barrier(8), []

    def go() -> None:
        together.wait()
        added.append(database.add_once(STAYS, ROW))

    threads = [threading.Thread(target=go) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(added) == [False] * 7 + [True]


def test_the_servers_own_way_of_writing_days_does_not_matter(on_postgres: Database) -> None:
    with on_postgres.engine.begin() as connection:
        name = connection.scalar(sa.text("SELECT current_database()"))
        connection.execute(sa.text(f'ALTER DATABASE "{name}" SET datestyle TO "SQL, DMY"'))
        connection.execute(sa.text(f"ALTER DATABASE \"{name}\" SET timezone TO 'Asia/Kolkata'"))
    on_postgres.dispose()
    on_postgres.add_once(STAYS, ROW)
    found = on_postgres.ask(STAY, id="a")
    assert found is not None
    assert found[1:3] == [ROW["came_on"], ROW["seen_at"]]


def cut_all(database: Database) -> None:
    """End every connection but the one that asks for it, as a restart would."""
    with database.engine.connect() as connection:
        connection.execute(
            sa.text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )


def test_a_question_is_answered_when_the_lines_were_cut(on_postgres: Database) -> None:
    on_postgres.add_once(STAYS, ROW)
    for _ in range(2):
        before = on_postgres.ask(STAY, id="a")
        cut_all(on_postgres)
        assert on_postgres.ask(STAY, id="a") == before


def test_what_was_to_be_added_over_a_cut_line_is_told_and_not_repeated(
    on_postgres: Database,
) -> None:
    assert on_postgres.add_once(STAYS, ROW)
    cut_all(on_postgres)
    with pytest.raises(DatabaseUnavailable):
        on_postgres.add_once(STAYS, {**ROW, "id": "b"})
    assert on_postgres.ask(STAY, id="b") is None
    assert on_postgres.add_once(STAYS, {**ROW, "id": "b"})


def test_a_fault_is_a_fault_and_the_line_is_good_again(database: Database) -> None:
    strange = sa.select(sa.column("name", sa.Text)).select_from(sa.table("nowhere"))
    for _ in range(5):
        with pytest.raises(Exception, match="nowhere"):
            database.ask(strange)
        assert database.ask(STAY, id="a") is None


def test_a_database_that_is_away_is_told(on_postgres: Database) -> None:
    away = Database(
        on_postgres.url.set(database="nowhere").render_as_string(hide_password=False), pool_size=2
    )
    for _ in range(5):
        with pytest.raises(DatabaseUnavailable):
            away.ask(STAY, id="a")
    away.dispose()


def waiting(database: Database) -> int:
    with database.engine.connect() as connection:
        query = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        return int(connection.scalar(sa.text(query)) or 0)


def test_a_line_is_waited_for_only_so_long(
    on_postgres: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "WAIT_SECONDS", 0.01)
    added: list[bool] = []
    threads = [
        threading.Thread(target=lambda: added.append(on_postgres.add_once(STAYS, ROW)))
        for _ in range(2)
    ]
    with on_postgres.engine.connect() as other:
        # Who adds the same key waits to see whether this one stays.
        other.execute(sa.insert(STAYS), ROW)
        for thread in threads:
            thread.start()
        wait_until(lambda: waiting(on_postgres) == 2, "both lines to be in use")
        with pytest.raises(DatabaseUnavailable):
            on_postgres.ask(STAY, id="a")
        other.rollback()
    for thread in threads:
        thread.join()
    assert sorted(added) == [False, True]
    assert on_postgres.ask(STAY, id="a") is not None
