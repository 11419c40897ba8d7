# SPDX-License-Identifier: AGPL-3.0-or-later
"""How long a page of the queue takes with a million cases and more, beside the shortest question to the same database."""

import time
from datetime import date, timedelta
from random import Random
from statistics import median, quantiles

import sqlalchemy as sa

from amana.access.roles import Actor
from amana.review import service
from amana.storage.database import Database
from amana.storage.migrations import migrate

READER = "r" * 32
DAYS = 400
LAST_DAY = date(2026, 11, 23)
PAGE = 50

# A quarter waits and one in a hundred is in review, far more than an institution should let lie.
FILL = """
INSERT INTO testimonies ("case", state, desk, language, flags, control, directory, digest, paid, policy, labels,
  manifest, account, declared, object_count, size, announced_on, received_on, receipt, routed,
  kept_since, allows)
SELECT lpad(CAST(n AS text), 32, 'a'),
  CASE WHEN n % 100 = 0 THEN 'in-review' WHEN n % 4 = 0 THEN 'received' ELSE 'accepted' END,
  'chemical', 'ar', CASE WHEN n % 50 = 0 THEN 'urgent' ELSE '' END, lpad(CAST(n AS text), 44, 'c'), 1, '\\x00', n % 20,
  '', '', '', '', '', 2, 100000, d, d, '{}', true,
  d, 'uses'
FROM (SELECT n, DATE '2026-11-23' - CAST(n % 400 AS int) AS d
  FROM generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) AS n) AS made
"""
GRANTS = """
INSERT INTO grants ("case", reader, intake_key, sealed, desk, received_on, state, rank)
SELECT "case", :reader, lpad('', 32, 'k'), '', desk, received_on, state,
  paid + CASE WHEN flags = 'urgent' THEN 1000 ELSE 0 END FROM testimonies
"""
# Whoever worked on a case still has it, so that most cases have an assignment.
ASSIGNMENTS = """
INSERT INTO assignments (id, "case", reader, part, "by", urgent, offered_on, claimed_on, explanation)
SELECT "case", "case", :reader, 'first', 'routing', false, received_on,
  CASE WHEN state = 'received' THEN NULL ELSE received_on END, '{}' FROM testimonies
"""


def fill(database: Database, cases: int) -> None:
    """Put `cases` received cases there, all sealed to one reader of one desk."""
    with database.engine.begin() as connection:
        connection.execute(sa.text(FILL), {"first": 1, "last": cases})
        connection.execute(sa.text(GRANTS), {"reader": READER})
        connection.execute(sa.text(ASSIGNMENTS), {"reader": READER})
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("VACUUM ANALYZE"))


def measure(database_url: str, cases: int, pages: int = 1000) -> dict[str, float]:
    """Return milliseconds of a page at a random place, of the counts, and of `SELECT 1` through the same session."""
    database, random = Database(database_url), Random(1)
    migrate(database)
    fill(database, cases)
    actor = Actor(READER, frozenset({"reviewer"}), frozenset({"chemical"}), "")
    seconds, bare, counted = [], [], []
    for turn in range(pages):
        rank = random.choice([*range(20), *range(1000, 1020)])
        day = LAST_DAY - timedelta(days=random.randrange(DAYS))
        cursor = service.place_cursor(service.Place(rank, day, "a" * 32)) if turn % 2 else None
        with database.reading() as session:
            began = time.perf_counter()
            service.queue(session, actor, desk=None, state=None, cursor=cursor, limit=PAGE)
            seconds.append(1000 * (time.perf_counter() - began))
        with database.reading() as session:
            began = time.perf_counter()
            session.execute(sa.text("SELECT 1")).one()
            bare.append(1000 * (time.perf_counter() - began))
    for _ in range(20):
        with database.reading() as session:
            began = time.perf_counter()
            service.counts(session, actor, None)
            counted.append(1000 * (time.perf_counter() - began))
    database.dispose()
    return {
        "page_ms_p50": round(median(seconds), 2),
        "page_ms_p99": round(quantiles(seconds, n=100)[98], 2),
        "counts_ms": round(median(counted), 2),
        "bare_select_ms": round(median(bare), 2),
    }
