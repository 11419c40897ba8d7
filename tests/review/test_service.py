"""The queue, page by page, on both databases: one's own cases of one's own desks, newest first, each exactly once."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from amana.access.roles import Actor
from amana.errors import NotAllowed, NotFound
from amana.intake import models
from amana.intake.models import Grant, State
from amana.intake.workflow import OPEN
from amana.protocol.encoding import random_id
from amana.review import service
from amana.review.service import CursorInvalid, Listed
from amana.routing import service as routing
from amana.storage.database import Database
from amana.storage.migrations import migrate

FIRST_DAY = date(2026, 11, 1)


@pytest.fixture
def database(database_url: str, tmp_path: Path) -> Iterator[Database]:  # noqa: ARG001
    made = Database(database_url)
    migrate(made)
    yield made
    made.dispose()


INTAKE_KEY = "k" * 32


def reviewer(*desks: str) -> Actor:
    return Actor(random_id(), frozenset({"reviewer"}), frozenset(desks), "")


def arrive(
    database: Database,
    *readers: str,
    desk: str = "chemical",
    day: date | None = FIRST_DAY,
    state: State = State.RECEIVED,
    rank: int = 0,
) -> str:
    """Put the rows of a testimony there, as intake does; without a day it is still arriving."""
    case = random_id()
    with database.transaction() as session:
        session.add(
            models.Testimony(
                case=case,
                state=State.ARRIVING if day is None else state,
                desk=desk,
                language="ar",
                flags="minor,urgent",
                control=random_id(),
                directory=1,
                digest=bytes(32),
                paid=0,
                policy=b"",
                labels=b"",
                manifest=b"",
                account=b"",
                declared=b"",
                object_count=2,
                size=1000,
                announced_on=FIRST_DAY,
                expires_on=FIRST_DAY if day is None else None,
                received_on=day,
                receipt=None if day is None else "{}",
                kept_since=None if state in (State.WITHDRAWN, State.EXPIRED) else day,
            )
        )
        session.flush()
        session.add_all(
            Grant(
                case=case,
                reader=one,
                intake_key=INTAKE_KEY,
                sealed=b"",
                desk=desk,
                received_on=day,
                state=State.ARRIVING if day is None else state,
                rank=rank,
            )
            for one in readers
        )
    return case


def pages(
    database: Database, actor: Actor, limit: int, desk: str | None = None, state: str | None = None
) -> list[list[Listed]]:
    found, cursor = [], None
    while True:
        with database.reading() as session:
            page, cursor = service.queue(
                session, actor, desk=desk, state=state, cursor=cursor, limit=limit
            )
        found.append(page)
        assert len(found) <= 100, "the pages do not end"
        if cursor is None:
            return found


def cases(found: list[list[Listed]]) -> list[str]:
    return [one.case for page in found for one in page]


def test_pages_hold_every_case_once_newest_first(database: Database) -> None:
    actor = reviewer("chemical")
    # Many on one day: a cursor by day alone would lose or repeat some.
    days = [FIRST_DAY + timedelta(days=k // 9) for k in range(25)]
    made = [(day, arrive(database, actor.id, day=day)) for day in days]
    expected = [case for _, case in sorted(made, reverse=True)]
    for limit in (1, 4, 25, 100):
        found = pages(database, actor, limit)
        assert cases(found) == expected
        assert all(len(page) == limit for page in found[:-1])
        assert found[-1], "a cursor leads to an empty page"


def test_what_arrives_between_two_pages_moves_none_of_the_others(database: Database) -> None:
    actor = reviewer("chemical")
    before = [arrive(database, actor.id) for _ in range(4)]
    with database.reading() as session:
        first, cursor = service.queue(session, actor, desk=None, state=None, cursor=None, limit=2)
    arrive(database, actor.id, day=FIRST_DAY + timedelta(days=1))
    with database.reading() as session:
        second, _ = service.queue(session, actor, desk=None, state=None, cursor=cursor, limit=2)
    assert cases([first, second]) == sorted(before, reverse=True)


def test_only_what_was_sealed_to_oneself_is_listed(database: Database) -> None:
    actor, colleague = reviewer("chemical"), reviewer("chemical")
    own = arrive(database, actor.id, colleague.id)
    arrive(database, colleague.id)
    assert cases(pages(database, actor, 10)) == [own]


def test_a_grant_of_a_desk_that_one_left_is_not_listed(database: Database) -> None:
    actor = reviewer("general")
    arrive(database, actor.id, desk="chemical")
    own = arrive(database, actor.id, desk="general")
    assert cases(pages(database, actor, 10)) == [own]
    assert pages(database, replace(actor, desks=frozenset()), 10) == [[]]


def test_what_is_still_arriving_is_not_listed(database: Database) -> None:
    actor = reviewer("chemical")
    arriving = arrive(database, actor.id, day=None)
    assert cases(pages(database, actor, 10)) == []
    with database.reading() as session, pytest.raises(NotFound):
        routing.case_of(session, actor, arriving)


def test_the_queue_is_narrowed_by_desk_and_by_state(database: Database) -> None:
    actor = reviewer("chemical", "general")
    received = arrive(database, actor.id)
    in_review = arrive(database, actor.id, state=State.IN_REVIEW)
    other = arrive(database, actor.id, desk="general")
    assert set(cases(pages(database, actor, 10))) == {received, in_review, other}
    assert set(cases(pages(database, actor, 1, desk="chemical"))) == {received, in_review}
    assert cases(pages(database, actor, 10, state="in-review")) == [in_review]
    assert cases(pages(database, actor, 10, desk="general", state="in-review")) == []


def test_an_entry_tells_the_clear_policy_and_sizes(database: Database) -> None:
    actor = reviewer("chemical")
    case = arrive(database, actor.id)
    [[listed]] = pages(database, actor, 10)
    assert listed == Listed(
        case,
        "chemical",
        "received",
        "ar",
        ("minor", "urgent"),
        FIRST_DAY,
        2,
        1000,
        INTAKE_KEY,
        "nobody",
    )


def test_a_desk_of_others_is_refused(database: Database) -> None:
    with pytest.raises(NotAllowed):
        pages(database, reviewer("general"), 10, desk="chemical")


@pytest.mark.parametrize("cursor", ["", "x", "AAAA", "MjAyNi0xMS0yMy5hYmM", "é", "\0", "a" * 128])
def test_a_cursor_of_another_is_refused(database: Database, cursor: str) -> None:
    with database.reading() as session, pytest.raises(CursorInvalid):
        service.queue(session, reviewer("chemical"), desk=None, state=None, cursor=cursor, limit=10)


def test_the_queue_is_read_from_one_index_in_its_order(database: Database) -> None:
    seen: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, given: Any, *_more: Any) -> None:
        seen.append((statement, given))

    sa.event.listen(database.engine, "before_cursor_execute", note)
    pages(database, reviewer("chemical"), 10)
    sa.event.remove(database.engine, "before_cursor_execute", note)
    [(statement, given)] = [one for one in seen if one[0].startswith("SELECT")]
    with database.engine.connect() as connection:
        explain = "EXPLAIN QUERY PLAN" if database.is_sqlite else "EXPLAIN"
        if not database.is_sqlite:
            # Over empty tables a whole scan is cheapest; what counts is that the index alone can do it.
            for method in ("seqscan", "bitmapscan", "sort"):
                connection.exec_driver_sql(f"SET LOCAL enable_{method} = off")
        rows = connection.exec_driver_sql(f"{explain} {statement}", given).all()
    # One stretch of the index for each state that is not decided, in its order; only the page itself is sorted.
    plan = "".join(map(str, rows))
    assert plan.count("ix_grants_queue") == len(OPEN)
    if database.is_sqlite:
        stretches = [row[0] for row in rows if row[3].startswith("MATERIALIZE")]
        within = [row[3] for row in rows if row[1] in stretches]
        assert len(within) == len(OPEN)
        assert all(one.startswith("SEARCH grants USING INDEX") for one in within)
    else:
        assert plan.count("Sort Key") <= 1
