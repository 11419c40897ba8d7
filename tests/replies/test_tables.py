"""Somebody has every table, with all that the databases keep beside the columns, and tries: which question was for which
case, and which testimonies came under one codename."""

import itertools
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import sqlalchemy as sa

from amana.ops import tables
from amana.protocol.codename import ThreadKeys, thread_keys
from amana.protocol.drop import SLOT_BYTES
from amana.protocol.errors import CannotOpen
from amana.protocol.reply import parse_reply
from amana.protocol.sealing import Kind, open_sealed
from amana.replies.models import Slot, WaitingSlot
from amana.replies.publishing import publish_drop
from tests.support.organisation import Organisation, Person
from tests.support.questions import ask
from tests.support.statements import Witness
from tests.support.testimonies import Made

WINDOW = 24
"""Bytes that two values must have in common to count as a trace: no day and no slug is so long, every id and hash is."""
FORM = 10
DROP = ("drop_slots", "drop_waiting")


@dataclass
class Row:
    """A row of a table, and what the database keeps of it beside its columns."""

    table: str
    values: tuple[Any, ...]
    transaction: str
    """PostgreSQL's number of the transaction that wrote it; empty on SQLite."""
    place: str
    """Where it stands: PostgreSQL's `ctid`, SQLite's `rowid`; empty where there is none."""
    windows: set[bytes] = field(default_factory=set)

    def holds(self, text: str) -> bool:
        return any(text.encode() in value for value in map(as_bytes, self.values))


def as_bytes(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    return str(value).encode()


def windows_of(values: Iterable[Any], size: int = WINDOW) -> set[bytes]:
    found = set()
    for value in map(as_bytes, values):
        found |= {value[at : at + size] for at in range(len(value) - size + 1)}
    return found


def stolen(organisation: Organisation) -> list[Row]:
    """Read every table whole."""
    database = organisation.services.database
    found = []
    with database.engine.connect() as connection:
        for name in tables.metadata.tables:
            hidden = "'', ''"
            if not database.is_sqlite:
                hidden = "xmin::text, ctid::text"
            elif name not in DROP:
                hidden = "'', rowid"
            query = f'SELECT {hidden}, t.* FROM "{name}" t'  # noqa: S608
            for row in connection.exec_driver_sql(query):
                transaction, place, *values = row
                found.append(Row(name, tuple(values), str(transaction), str(place)))
    for row in found:
        if row.table not in {"directory_files", "people"}:
            row.windows = windows_of(row.values)
    return found


@dataclass
class Scene:
    """Two people with a codename each, who sent two testimonies each; a reader has asked about all of them."""

    organisation: Organisation
    codenames: tuple[ThreadKeys, ThreadKeys]
    cases: list[Made]

    @property
    def ids(self) -> list[str]:
        return [made.case for made in self.cases]

    def pairs(self) -> Iterator[tuple[str, str]]:
        yield from itertools.combinations(self.ids, 2)


def scene(organisation: Organisation, reader: Person) -> Scene:
    """Each does the same, one minute after the other: that is what time tells, and docs/threat-model.md says so."""
    codenames = thread_keys(os.urandom(32)), thread_keys(os.urandom(32))
    cases: list[Made] = []
    for number in (0, 1):
        for keys in codenames:
            before = next(
                (one.case for one in cases if one.thread.public == keys.thread.public), None
            )
            sent = organisation.send(
                scopes={"review": "allow", "contact": "allow"},
                codename=keys,
                number=number,
                adds_to=before,
                files=(b"a photo",),
            )
            cases.append(sent)
    for made in cases:
        organisation.clock.turn(minutes=1)
        reader.sign_in()
        assert reader.open(made.case).status_code == 201
        organisation.clock.turn(minutes=1)
        assert ask(reader, made).status_code == 201
        organisation.clock.turn(minutes=1)
        assert (
            Witness(organisation, made).consent({"review": "allow", "contact": "allow"}).status_code
            == 200
        )
    return Scene(organisation, codenames, cases)


def about(rows: list[Row], case: str) -> list[Row]:
    return [row for row in rows if row.holds(case)]


def traces(rows: list[Row], scene: Scene) -> dict[bytes, frozenset[str]]:
    """Return every trace that some of the cases have in common, but not all, and in the rows of which it stands.

    What all have in common is form: the desk, the reader, names of fields. It hides in no trace.
    """
    by_case = {case: about(rows, case) for case in scene.ids}
    found: dict[bytes, set[str]] = {}
    for case, theirs in by_case.items():
        for row in theirs:
            for window in row.windows:
                found.setdefault(window, set()).add(case)
    form = set.intersection(
        *(
            {part for row in theirs for part in windows_of(row.values, FORM)}
            for theirs in by_case.values()
        )
    )
    return {
        window: frozenset(cases)
        for window, cases in found.items()
        if 1 < len(cases) < len(scene.ids) and not windows_of([window], FORM) & form
    }


@pytest.fixture
def done(organisation: Organisation, reader: Person) -> Scene:
    publish_drop(organisation.services, again=True)
    return scene(organisation, reader)


def test_the_tables_do_not_tell_which_testimonies_came_under_one_codename(done: Scene) -> None:
    rows = stolen(done.organisation)
    for made in done.cases:
        assert len(about(rows, made.case)) > 5, "the search looks where the case is"
    # What each has alone is its own. What some of them have in common is what tells people apart.
    assert traces(rows, done) == {}
    # The search finds such a trace where there is one: say, the same control key.
    key = done.codenames[0].control(0).public
    actions = [row for row in rows if row.table == "actions"]
    for case in (done.ids[0], done.ids[2]):
        row = next(row for row in actions if row.holds(case))
        row.windows |= windows_of([f"control={key}"])
    assert set(traces(rows, done).values()) == {frozenset({done.ids[0], done.ids[2]})}


def secrets_of(scene: Scene) -> dict[str, bytes]:
    """What would tell that two testimonies are one person's, if it stood anywhere."""
    found = {}
    for n, keys in enumerate(scene.codenames):
        found[f"thread {n}"] = keys.thread.public.encode()
        found[f"recipient {n}"] = keys.reply.recipient.raw
        found[f"recipient in text {n}"] = str(keys.reply.recipient).encode()
    return found


def test_neither_thread_nor_recipient_of_replies_is_in_any_table(done: Scene) -> None:
    for row in stolen(done.organisation):
        for value in map(as_bytes, row.values):
            for what, secret in secrets_of(done).items():
                assert secret not in value, (what, row.table)
            # `adds_to` stands in sealed manifests alone: no row is about two of them.
            assert sum(case.encode() in value for case in done.ids) < 2, row.table


def opened_by(sealed: bytes, keys: ThreadKeys) -> str | None:
    """Return the case of a question that a codename opens."""
    try:
        case: str = parse_reply(open_sealed(sealed, keys.reply, Kind.REPLY))["case"]
    except CannotOpen:
        return None
    return case


def slots_for(slots: list[Row], scene: Scene) -> dict[str, list[Row]]:
    """Which slots are for which case: what only the codenames' holders can find out."""
    found: dict[str, list[Row]] = {case: [] for case in scene.ids}
    for row in slots:
        for keys in scene.codenames:
            if case := opened_by(row.values[3], keys):
                found[case].append(row)
    return found


def check_unlinked(scene: Scene, rows: list[Row], table: str) -> None:
    """Try to find the case of a slot by anything in any table."""
    slots = [row for row in rows if row.table == table]
    mine = slots_for(slots, scene)
    assert [len(one) for one in mine.values()] == [1] * 4, "each question is there once"
    others = [row for row in rows if row.table not in DROP]
    form = windows_of([row.values[3] for row in slots[:2]], FORM) & windows_of(
        [value for row in others for value in row.values], FORM
    )
    elsewhere = set().union(*(row.windows for row in others))
    for slot in slots:
        assert not any(slot.holds(case) for case in scene.ids)
        linking = slot.windows & elsewhere
        assert not [one for one in linking if not windows_of([one], FORM) & form]
    # Nor do they have a day or a time of their own, a person, or a place in their table that is not by their random id.
    columns = tables.metadata.tables[table].columns
    assert {one.name for one in columns} <= {"bits", "shard", "id", "sealed", "last_day"}
    if not scene.organisation.services.database.is_sqlite:
        in_order = sorted(
            slots, key=lambda row: json.loads(row.place.replace("(", "[").replace(")", "]"))
        )
        for _, rows_of_one in itertools.groupby(in_order, key=lambda row: row.transaction):
            ids = [row.values[2] for row in rows_of_one]
            assert ids == sorted(ids)
    else:
        database = scene.organisation.services.database
        with database.engine.connect() as connection, pytest.raises(sa.exc.OperationalError):
            connection.exec_driver_sql(f'SELECT rowid FROM "{table}"').all()  # noqa: S608


def test_a_question_that_waits_is_not_told_from_the_others_that_wait(done: Scene) -> None:
    rows = stolen(done.organisation)
    check_unlinked(done, rows, WaitingSlot.__tablename__)
    waiting = [row for row in rows if row.table == WaitingSlot.__tablename__]
    # PostgreSQL tells which transaction wrote a row: for all of them the last one, whosever question that was.
    assert len({row.transaction for row in waiting}) == 1


def test_a_published_question_is_not_told_from_a_dummy(done: Scene) -> None:
    publish_drop(done.organisation.services, again=True)
    rows = stolen(done.organisation)
    check_unlinked(done, rows, Slot.__tablename__)
    slots = [row for row in rows if row.table == Slot.__tablename__]
    mine = [row for found in slots_for(slots, done).values() for row in found]
    [batch] = {row.transaction for row in mine}
    others = [row for row in slots if row.transaction == batch and row not in mine]
    if not done.organisation.services.database.is_sqlite:
        # Born in one transaction with dummies, in which nothing else was written about a case.
        assert not [
            r for r in rows if r.transaction == batch and r.table not in {*DROP, "drop_shards"}
        ]
    # By what it is made of a reply cannot be told from a dummy either.
    assert others
    assert {len(row.values[3]) for row in slots} == {SLOT_BYTES}
    assert {row.values[3][:40] for row in mine} == {row.values[3][:40] for row in others}
