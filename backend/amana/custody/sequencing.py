# SPDX-License-Identifier: AGPL-3.0-or-later
"""Give waiting leaves their places, without a gap, by one process at a time; knows nothing of trees and stores.

An event commits with its waiting leaf, and takes no lock for it. One process holds the lease and moves
waiting leaves into their log in batches: one transaction takes them out of the queue, counts the log on
and puts them in. Either all of that is there or nothing, so that a process that dies at any
instruction leaves neither a gap nor a leaf twice, and the next one finds what waits.

A place does not wait for the disk: after a power failure the leaf waits again. Whoever signs for places has the
database settle them first (custody/publishing.py).

On PostgreSQL whoever numbers hands the looking over to the database for some seconds at a time: between a commit and
its place there is then no program that would have to wait for a processor (docs/decisions/0016-two-logs.md).

Two can never both number: the transaction begins with an update of the lease's row that only the holder of
the newest term gets through, and the row stays locked to its end. Whoever was stopped and wakes up in an older
term is turned away there. Nothing of this is held while anybody else commits.
"""

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session

from amana.custody.models import Log, LoggedLeaf, SequencerLease, WaitingLeaf
from amana.protocol.encoding import random_id
from amana.storage.database import Database, table_of

BATCH: Final = 2000
LEASE_SECONDS: Final = 3.0
"""How long a holder that does not beat is believed to live."""

LOOK_SECONDS: Final = 0.015
"""How often the queue is looked at; leaves that came meanwhile get their places together."""

_LEASE, _WAITING, _LEAVES = map(table_of, (SequencerLease, WaitingLeaf, LoggedLeaf))
_LOGS = table_of(Log)


class Deposed(Exception):
    """Another process holds the lease now."""


@dataclass(frozen=True)
class Term:
    """The time during which one process gives places."""

    holder: str
    number: int


class Lease:
    """One process's wish to be the sequencer. Owned by one thread.

    It believes that another one lives as long as its beat changes, by its own clock, so that no two
    clocks have to agree.
    """

    def __init__(self, database: Database, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._clock = clock
        self._holder = random_id()
        self._seen: tuple[int, int] | None = None
        self._seen_at = 0.0

    def hold(self) -> Term | None:
        """Keep the lease, or take it if nobody lives who has it; None while another process does."""
        with self._database.transaction() as session:
            found = session.execute(sa.select(_LEASE.c.holder, _LEASE.c.term, _LEASE.c.beat)).one()
            if found.holder == self._holder:
                term = Term(self._holder, found.term)
                fence(session, term)
                return term
            if self._may_live(found.holder, found.term, found.beat):
                return None
            taken = session.execute(
                sa.update(_LEASE)
                .where(_LEASE.c.term == found.term, _LEASE.c.beat == found.beat)
                .values(holder=self._holder, term=found.term + 1, beat=0)
                .returning(_LEASE.c.term)
            ).scalar()
            return None if taken is None else Term(self._holder, taken)

    def begin_anew(self) -> Term | None:
        """End one's term and begin the next, so that nothing of the old one is done any more; None if it was over."""
        with self._database.transaction() as session:
            mine = sa.update(_LEASE).where(_LEASE.c.holder == self._holder)
            begun = session.execute(
                mine.values(term=_LEASE.c.term + 1).returning(_LEASE.c.term)
            ).scalar()
            return None if begun is None else Term(self._holder, begun)

    def release(self) -> None:
        """Leave the lease to whoever comes first, if it is held."""
        with self._database.transaction() as session:
            mine = sa.update(_LEASE).where(_LEASE.c.holder == self._holder)
            session.execute(mine.values(holder="", beat=_LEASE.c.beat + 1))

    def _may_live(self, holder: str, term: int, beat: int) -> bool:
        if not holder:
            return False
        if self._seen != (term, beat):
            self._seen, self._seen_at = (term, beat), self._clock()
            return True
        return self._clock() - self._seen_at < LEASE_SECONDS


def fence(session: Session, term: Term) -> None:
    """Beat, and lock the lease's row to the end of the transaction. Raises Deposed for a term that is over."""
    beaten = session.execute(
        sa.update(_LEASE)
        .where(_LEASE.c.holder == term.holder, _LEASE.c.term == term.number)
        .values(beat=_LEASE.c.beat + 1)
        .returning(_LEASE.c.id)
    ).scalar()
    if beaten is None:
        raise Deposed


def is_over(session: Session, term: Term) -> bool:
    """Tell whether another term has begun; locks nothing."""
    found = session.execute(sa.select(_LEASE.c.holder, _LEASE.c.term)).one()
    return (found.holder, found.term) != (term.holder, term.number)


def is_waiting(connection: sa.Connection, kinds: Collection[str]) -> bool:
    """Tell whether a leaf of one of these kinds waits; locks nothing."""
    return connection.execute(_ANY_WAITING, {"kinds": list(kinds)}).scalar() is True


_ANY_WAITING = sa.select(
    sa.exists().where(_WAITING.c.kind.in_(sa.bindparam("kinds", expanding=True)))
)

# The queue is nearly empty and full of rows that went, until a vacuum sweeps them up: so it is always read along its
# index, by the block from where it stood a moment ago. A plain EXISTS, or IN, would be answered by reading all of it.
_FIRST_WAITING = """(
    SELECT id FROM waiting_leaves WHERE id > {low} AND kind = ANY (CAST(:kinds AS text[])) ORDER BY id LIMIT 1
) IS NOT NULL"""

# What `_number` does, for all logs in one statement that is a transaction of its own, and that writes nothing when
# nothing waits. Where `beaten` finds no row of this term, nothing of the rest happens. The setting ends with it.
_NUMBER_AT_ONCE = """
WITH open AS (
    SELECT * FROM unnest(CAST(:kinds AS text[]), CAST(:logs AS smallint[])) AS open (kind, log)
), beaten AS (
    UPDATE sequencer_lease SET beat = beat + 1
    WHERE holder = :holder AND term = :term AND {waiting} RETURNING id
), taken AS (
    DELETE FROM waiting_leaves WHERE id = ANY (ARRAY (
        SELECT id FROM waiting_leaves
        WHERE id > {low} AND kind = ANY (CAST(:kinds AS text[])) AND EXISTS (SELECT 1 FROM beaten)
        ORDER BY id LIMIT :batch
    )) RETURNING id, kind, entry
), counted AS (
    UPDATE logs SET size = size + grown.count
    FROM (SELECT log, count(*) FROM taken JOIN open USING (kind) GROUP BY log) AS grown
    WHERE logs.id = grown.log RETURNING logs.id, logs.size
), placed AS (
    INSERT INTO log_leaves (log, place, entry)
    SELECT log, size - row_number() OVER (PARTITION BY log ORDER BY taken.id DESC), entry
    FROM taken JOIN open USING (kind) JOIN counted ON counted.id = log
    RETURNING place
)
SELECT set_config('synchronous_commit', 'off', true), (SELECT count(*) FROM placed) AS placed,
    EXISTS (SELECT 1 FROM sequencer_lease WHERE holder = :holder AND term = :term) AS held,
    (SELECT max(id) FROM taken) AS newest
""".replace("{waiting}", _FIRST_WAITING)

# The same again and again. The queue is read from what was taken a second or two ago; a leaf below it, of a transaction
# that took longer, is found when the next block begins with a whole look. It tells at most every tenth of a second that
# places were given, since whoever is told is busy for longer. If its client dies it ends by itself, at the latest when
# it is time.
_NUMBER_FOR_A_WHILE = (
    """
DO $amana$
DECLARE
    is_held boolean; is_waiting boolean; setting text; placed bigint; newest bigint;
    low bigint := 0; low_next bigint := 0; raised_at timestamptz := clock_timestamp();
    until timestamptz := clock_timestamp() + make_interval(secs => :seconds);
    told timestamptz := '-infinity';
BEGIN
    WHILE clock_timestamp() < until LOOP
        SELECT EXISTS (SELECT 1 FROM sequencer_lease WHERE holder = :holder AND term = :term), {waiting}
            INTO is_held, is_waiting;
        IF NOT is_held THEN
            RAISE NOTICE 'over';
            EXIT;
        END IF;
        IF is_waiting THEN
            {number} INTO setting, placed, is_held, newest;
            COMMIT;
            IF clock_timestamp() - raised_at > interval '1 second' THEN
                low := low_next;
                low_next := greatest(low_next, newest);
                raised_at := clock_timestamp();
            END IF;
            IF placed > 0 AND clock_timestamp() - told > interval '0.1 seconds' THEN
                RAISE NOTICE 'placed';
                told := clock_timestamp();
            END IF;
        END IF;
        PERFORM pg_sleep(:look);
        -- So that the next look is of its own moment, and the rows that went meanwhile can be swept up.
        COMMIT;
    END LOOP;
END
$amana$
""".replace("{waiting}", _FIRST_WAITING)
    .replace("{number}", _NUMBER_AT_ONCE)
    .replace("{low}", "low")
)

_NUMBER_ONCE = sa.text(_NUMBER_AT_ONCE.replace("{low}", "0"))


def number(database: Database, term: Term, logs: Mapping[str, int], limit: int = BATCH) -> int:
    """Move the oldest waiting leaves into the logs, given by kind, in the order of writing; returns how many.

    Raises Deposed.
    """
    if database.is_sqlite:
        return _number_one_by_one(database, term, logs, limit)
    with database.watching() as connection:
        row = connection.execute(_NUMBER_ONCE, _named(term, logs, limit)).one()
    if not row.held:
        raise Deposed
    return int(row.placed)


def keep_numbering(
    database: Database,
    term: Term,
    logs: Mapping[str, int],
    *,
    seconds: float,
    placed: Callable[[], object],
    pause: Callable[[float], bool],
) -> None:
    """Do so with all that waits and comes, for some seconds.

    `placed` is called soon after leaves got their places. `pause` waits for so many seconds, and tells whether to end
    earlier; PostgreSQL does not ask it. Raises Deposed, SQLite only when something waits.
    """
    if database.is_sqlite:
        until = time.monotonic() + seconds
        while time.monotonic() < until and not pause(LOOK_SECONDS):
            if _number_one_by_one(database, term, logs, BATCH):
                placed()
        return
    named = {**_named(term, logs, BATCH), "seconds": seconds, "look": LOOK_SECONDS}
    # A block has no parameters; what stands in this one is all our own.
    block = sa.text(_NUMBER_FOR_A_WHILE).bindparams(**named)
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    text = str(block.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))
    said = set()

    def noticed(notice: str) -> None:
        said.add(notice)
        if notice == "placed":
            placed()

    database.run_for_a_while(text, noticed)
    if "over" in said:
        raise Deposed


def _named(term: Term, logs: Mapping[str, int], limit: int) -> dict[str, str | int]:
    return {
        "holder": term.holder,
        "term": term.number,
        "kinds": "{" + ",".join(logs) + "}",
        "logs": "{" + ",".join(map(str, logs.values())) + "}",
        "batch": limit,
    }


def _number_one_by_one(database: Database, term: Term, logs: Mapping[str, int], limit: int) -> int:
    with database.watching() as connection:
        if not is_waiting(connection, logs):
            return 0
    with database.transaction() as session:
        fence(session, term)
        return sum(_number(session, log, kind, limit) for kind, log in logs.items())


def _number(session: Session, log: int, kind: str, limit: int) -> int:
    oldest = (
        sa.select(_WAITING.c.id).where(_WAITING.c.kind == kind).order_by(_WAITING.c.id).limit(limit)
    )
    taken = session.execute(
        sa.delete(_WAITING)
        .where(_WAITING.c.id.in_(oldest))
        .returning(_WAITING.c.id, _WAITING.c.entry)
    ).all()
    if not taken:
        return 0
    size = session.execute(
        sa.update(_LOGS)
        .where(_LOGS.c.id == log)
        .values(size=_LOGS.c.size + len(taken))
        .returning(_LOGS.c.size)
    ).scalar_one()
    rows = [
        {"log": log, "place": place, "entry": entry}
        for place, (_, entry) in enumerate(sorted(taken, key=lambda one: one.id), size - len(taken))
    ]
    session.execute(sa.insert(_LEAVES), rows)
    return len(rows)
