"""Places are given without a gap, once, in the order of writing, by one process at a time."""

import threading
import time
from contextlib import suppress

import pytest
import sqlalchemy as sa

from amana.custody import service as custody
from amana.custody.models import Event, SequencerLease
from amana.custody.sequencing import (
    LEASE_SECONDS,
    Deposed,
    Lease,
    Term,
    fence,
    is_over,
    is_waiting,
    keep_numbering,
    number,
)
from amana.protocol.logleaf import root_leaf
from amana.storage.database import Database
from tests.custody.conftest import Logging
from tests.support.server import wait_until


def test_what_was_committed_gets_places_in_its_order_and_nothing_else_does(log: Logging) -> None:
    log.record(7)
    with suppress(RuntimeError), log.database.transaction() as session:
        custody.record(session, {"v": 1, "kind": "rolled-back"})
        raise RuntimeError
    log.record(5)
    term = log.lease().hold()
    assert term is not None
    assert [log.number(term, limit=5) for _ in range(4)] == [5, 5, 2, 0]
    assert log.places() == list(enumerate(log.recorded))
    assert log.waiting() == 0
    log.record(3)
    assert log.number(term) == 3
    assert log.places() == list(enumerate(log.recorded))


def test_an_event_and_its_leaf_are_there_together(log: Logging) -> None:
    log.record(3)
    with log.database.reading() as session:
        assert sorted(session.scalars(sa.select(Event.leaf))) == sorted(log.recorded)
    with log.database.watching() as connection:
        assert is_waiting(connection, [log.kind])
        term = log.lease().hold()
        assert term is not None
        log.number(term)
        assert not is_waiting(connection, [log.kind])
        log.record()
        assert is_waiting(connection, [log.kind])


def test_the_two_kinds_do_not_mix(log: Logging) -> None:
    entry = root_leaf(1, b"root")
    with log.database.transaction() as session:
        custody.enter(session, entry)
    log.record(2)
    directory = Logging(
        log.database, log.store, kind=custody.DIRECTORY, origin="amana-test/directory"
    )
    term = log.lease().hold()
    assert term is not None
    logs = {one.kind: one.open().id for one in (log, directory)}
    assert [number(log.database, term, logs) for _ in range(2)] == [3, 0]
    assert log.places() == list(enumerate(log.recorded))
    assert directory.places() == [(0, entry)]


def test_leaves_of_a_log_that_does_not_go_on_wait_and_cost_no_write(log: Logging) -> None:
    with log.database.transaction() as session:
        custody.enter(session, root_leaf(1, b"root"))
    logs = {log.kind: log.open().id}
    term = log.lease().hold()
    assert term is not None
    beats = sa.select(SequencerLease.beat)
    with log.database.reading() as session:
        before = session.scalar(beats)
    assert number(log.database, term, logs) == 0
    with log.database.reading() as session:
        assert session.scalar(beats) == before
    assert log.waiting() == 1


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_leaf_that_is_committed_late_waits_for_the_next_batch(log: Logging) -> None:
    """Its id is smaller than that of a leaf which has its place already. SQLite takes one writer at a time."""
    log.open()
    term = log.lease().hold()
    assert term is not None
    with log.database.transaction() as late:
        custody.record(late, {"v": 1, "kind": "late"})
        log.record(2)
        assert log.number(term) == 2
        assert log.number(term) == 0
    assert log.number(term) == 1
    places = log.places()
    assert [place for place, _ in places] == [0, 1, 2]
    assert [entry for _, entry in places[:2]] == log.recorded


def test_nobody_else_gets_the_lease_while_its_holder_beats(log: Logging) -> None:
    first, second = log.lease(), log.lease()
    term = first.hold()
    assert term is not None
    for _ in range(10):
        assert second.hold() is None
        log.clock.now += LEASE_SECONDS - 0.1
        assert first.hold() == term


def test_numbering_beats_too(log: Logging) -> None:
    first, second = log.lease(), log.lease()
    term = first.hold()
    assert term is not None
    assert second.hold() is None
    log.clock.now += LEASE_SECONDS - 0.1
    log.record()
    assert log.number(term) == 1
    log.clock.now += 0.2
    assert second.hold() is None


def test_a_silent_holder_loses_the_lease_and_can_do_nothing_any_more(log: Logging) -> None:
    first, second = log.lease(), log.lease()
    old = first.hold()
    assert old is not None
    assert second.hold() is None
    log.clock.now += LEASE_SECONDS
    new = second.hold()
    assert new is not None
    assert new.number == old.number + 1
    log.record(2)
    with pytest.raises(Deposed):
        log.number(old)
    with pytest.raises(Deposed), log.database.transaction() as session:
        fence(session, old)
    with log.database.reading() as session:
        assert is_over(session, old)
        assert not is_over(session, new)
    assert log.waiting() == 2
    assert log.number(new) == 2
    assert first.hold() is None


def test_a_lease_that_is_left_is_taken_at_once(log: Logging) -> None:
    first, second = log.lease(), log.lease()
    assert first.hold() is not None
    assert second.hold() is None
    second.release()
    assert second.hold() is None
    first.release()
    assert second.hold() is not None


def test_of_two_who_see_the_same_silence_one_takes_over(log: Logging) -> None:
    silent, *others = (log.lease() for _ in range(5))
    assert silent.hold() is not None
    assert all(one.hold() is None for one in others)
    log.clock.now += LEASE_SECONDS
    taken: list[Term] = []
    together = threading.Barrier(len(others))

    def take(lease: Lease) -> None:
        together.wait()
        if term := lease.hold():
            taken.append(term)

    threads = [threading.Thread(target=take, args=(one,)) for one in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 1


def test_sequencers_that_depose_each_other_all_the_time_leave_no_gap_and_nothing_twice(
    log: Logging,
) -> None:
    """Each believes the other dead at once, so that terms change in the middle of everything."""
    opened = log.open()
    writing = threading.Event()
    failures: list[BaseException] = []
    deposed = []

    class Impatient(Lease):
        def __init__(self, database: Database) -> None:
            self.passed = 0.0
            super().__init__(database, self.later)

        def later(self) -> float:
            self.passed += LEASE_SECONDS
            return self.passed

    def sequence() -> None:
        lease = Impatient(log.database)
        try:
            while not writing.is_set() or log.waiting():
                try:
                    if term := lease.hold():
                        for _ in range(3):
                            number(log.database, term, {log.kind: opened.id}, 4)
                except Deposed:
                    deposed.append(1)
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=sequence) for _ in range(2)]
    for thread in threads:
        thread.start()
    log.record(150)
    writing.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert deposed
    assert log.places() == list(enumerate(log.recorded))


class Keeping:
    """A thread that gives places until it is told to end; `told` is set when it said that it gave some."""

    def __init__(self, log: Logging, term: Term, seconds: float = 300) -> None:
        self._seconds = seconds
        self.told, self.over = threading.Event(), threading.Event()
        self._logs = {log.kind: log.open().id}
        self._thread = threading.Thread(target=self._keep, args=(log, term), daemon=True)
        self._thread.start()

    def _keep(self, log: Logging, term: Term) -> None:
        with suppress(Deposed):
            while not self.over.is_set():
                keep_numbering(
                    log.database,
                    term,
                    self._logs,
                    seconds=self._seconds,
                    placed=self.told.set,
                    pause=self.over.wait,
                )

    def has_ended(self) -> bool:
        self._thread.join(60)
        return not self._thread.is_alive()


def test_what_comes_gets_places_until_whoever_gives_them_leaves(log: Logging) -> None:
    lease = log.lease()
    term = lease.hold()
    assert term is not None
    log.record(3)
    keeping = Keeping(log, term)
    for _ in range(3):
        log.record(4)
        wait_until(lambda: not log.waiting(), "places")
    assert keeping.told.wait(60)
    assert log.places() == list(enumerate(log.recorded))
    keeping.over.set()
    lease.release()
    assert keeping.has_ended()
    log.record()
    assert log.waiting() == 1


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_leaf_that_is_committed_very_late_gets_its_place_from_whoever_keeps_giving(
    log: Logging,
) -> None:
    """The queue is read from where it stood a second or two ago. SQLite takes one writer at a time."""
    lease = log.lease()
    term = lease.hold()
    assert term is not None
    keeping = Keeping(log, term, seconds=4)
    with log.database.transaction() as late:
        custody.record(late, {"v": 1, "kind": "late"})
        until = time.monotonic() + 3.5
        while time.monotonic() < until:
            log.record()
            wait_until(lambda: not log.waiting(), "places")
    wait_until(lambda: not log.waiting(), "the late one's place")
    places = log.places()
    assert [place for place, _ in places] == list(range(len(log.recorded) + 1))
    keeping.over.set()
    lease.release()
    assert keeping.has_ended()


def test_whoever_keeps_giving_places_ends_with_the_term(log: Logging) -> None:
    first, second = log.lease(), log.lease()
    term = first.hold()
    assert term is not None
    keeping = Keeping(log, term)
    log.record(2)
    wait_until(lambda: not log.waiting(), "places")
    assert second.hold() is None
    log.clock.now += LEASE_SECONDS
    assert second.hold() is not None
    log.record(2)
    assert keeping.has_ended()
    assert log.waiting() == 2
    assert log.places() == list(enumerate(log.recorded[:2]))


def test_nothing_of_a_term_is_done_once_its_holder_began_anew(log: Logging) -> None:
    lease, other = log.lease(), log.lease()
    assert lease.hold() is not None
    assert other.begin_anew() is None
    old = lease.hold()
    assert old is not None
    new = lease.begin_anew()
    assert new is not None
    log.record(2)
    with pytest.raises(Deposed):
        log.number(old)
    assert log.waiting() == 2
    assert lease.hold() == new
    assert log.number(new) == 2


def test_the_lease_is_one_row(log: Logging) -> None:
    with log.database.reading() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(SequencerLease)) == 1
