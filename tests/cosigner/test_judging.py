"""A cosigner signs one history: forks, rollbacks and false proofs are answered as C2SP tlog-witness says, and not signed."""

import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from amana.cosigner import heads as heads_module
from amana.cosigner import judging as judging_module
from amana.cosigner.heads import HEADS, Heads, StateUnusable
from amana.cosigner.judging import Judge
from amana.protocol.checkpoint import (
    Checkpoint,
    KeyType,
    Note,
    NoteKey,
    Signature,
    parse_signatures,
    sign_checkpoint,
    with_signatures,
)
from amana.protocol.cosigning import SIZE_TYPE, AddCheckpoint, parse_size
from amana.protocol.signing import SigningKey
from tests.support.logbook import Logbook

NAME = "one.example/1"
KEY = SigningKey.generate()
VKEY = NoteKey(NAME, KeyType.COSIGNER, KEY.public)
NOW = 1_795_000_000


@pytest.fixture
def log() -> Logbook:
    return Logbook("amana-test/custody").add(*(b"%d" % n for n in range(20)))


@pytest.fixture
def heads(tmp_path: Path) -> Iterator[Heads]:
    Heads.create(tmp_path / "state", VKEY.vkey)
    taken = Heads.take(tmp_path / "state", VKEY.vkey)
    yield taken
    taken.close()


@pytest.fixture
def judge(log: Logbook, heads: Heads) -> Judge:
    return Judge(NAME, KEY, [log.verifier], heads, lambda: NOW)


def test_a_log_that_grows_is_cosigned(judge: Judge, log: Logbook) -> None:
    seen = 0
    for size in (0, 1, 1, 7, 8, 20, 20):
        request = log.request(seen, size)
        answer = judge.add_checkpoint(bytes(request))
        assert (answer.status, answer.said) == (200, "cosigned")
        (signature,) = parse_signatures(answer.body)
        assert (signature.name, signature.key_id) == (NAME, VKEY.id)
        assert VKEY.verify(request.checkpoint.text, signature.signature) == NOW
        seen = size


def test_another_size_is_answered_with_the_newest(judge: Judge, log: Logbook) -> None:
    assert judge.add_checkpoint(bytes(log.request(0, 7))).status == 200
    for request in (log.request(0, 7), log.request(3, 20), log.request(0, 3), log.request(5, 6)):
        answer = judge.add_checkpoint(bytes(request))
        assert (answer.status, answer.content_type) == (409, SIZE_TYPE)
        assert parse_size(answer.body) == 7
    # A rollback can be asked for with the right old size only by saying that the tree shrinks.
    shrunk = AddCheckpoint(7, (), log.checkpoint(3))
    assert judge.add_checkpoint(bytes(shrunk)).status == 400


def test_a_fork_of_the_same_size_is_not_signed_and_kept_as_evidence(
    judge: Judge, log: Logbook, tmp_path: Path
) -> None:
    assert judge.add_checkpoint(bytes(log.request(0, 7))).status == 200
    other = log.fork(6, b"another")
    answer = judge.add_checkpoint(bytes(other.request(7)))
    assert (answer.status, answer.said) == (409, "fork")
    assert b"one.example" not in answer.body
    (evidence,) = (tmp_path / "state").glob("fork-*.txt")
    text = evidence.read_text("utf-8")
    assert str(log.checkpoint(7)) in text
    assert str(other.checkpoint()) in text


def test_a_larger_fork_is_not_signed(judge: Judge, log: Logbook) -> None:
    assert judge.add_checkpoint(bytes(log.request(0, 7))).status == 200
    other = log.fork(6, *(b"another %d" % n for n in range(10)))
    answer = judge.add_checkpoint(bytes(other.request(7)))
    assert (answer.status, answer.body) == (422, b"")
    assert judge.add_checkpoint(bytes(log.request(7, 20))).status == 200


def test_a_false_proof_is_refused(judge: Judge, log: Logbook) -> None:
    empty_first = AddCheckpoint(0, (bytes(32),), log.checkpoint(3))
    assert judge.add_checkpoint(bytes(empty_first)).status == 422
    assert judge.add_checkpoint(bytes(log.request(0, 6))).status == 200
    good = log.request(6, 20)
    for proof in (
        good.proof[:-1],
        (*good.proof, bytes(32)),
        good.proof[::-1],
        (),
        (bytes(32), *good.proof[1:]),
    ):
        assert judge.add_checkpoint(bytes(AddCheckpoint(6, proof, good.checkpoint))).status == 422
    assert judge.add_checkpoint(bytes(good)).status == 200


def test_only_known_logs_are_cosigned(judge: Judge, log: Logbook) -> None:
    unknown = Logbook("amana-test/directory", log.key, log.entries)
    assert judge.add_checkpoint(bytes(unknown.request(0))).status == 404
    forged = AddCheckpoint(0, (), log.checkpoint(key=SigningKey.generate()))
    assert judge.add_checkpoint(bytes(forged)).status == 403
    # A key under the same name and id whose signature is another's.
    (own,) = log.checkpoint(3).signatures
    moved = Note(log.checkpoint(4).text, (own,))
    assert judge.add_checkpoint(bytes(AddCheckpoint(0, (), moved))).status == 403
    assert judge.add_checkpoint(b"old 0\n\n").status == 400
    with_line = log.checkpoint().text + "extension\n"
    extended = AddCheckpoint(0, (), Note(with_line, (own,)))
    assert judge.add_checkpoint(bytes(extended)).status == 400


def test_signatures_of_others_are_passed_over_and_not_remembered(
    judge: Judge, log: Logbook, tmp_path: Path
) -> None:
    many = [Signature(f"other{n}", bytes(4), bytes(1000)) for n in range(60)]
    note = with_signatures(log.checkpoint(5), many)
    assert judge.add_checkpoint(bytes(AddCheckpoint(0, (), note))).status == 200
    assert (tmp_path / "state" / HEADS).stat().st_size < 1000


def test_two_logs_are_watched_apart_and_survive_a_restart(
    log: Logbook, heads: Heads, tmp_path: Path
) -> None:
    second = Logbook("amana-test/directory").add(b"a", b"b", b"c")
    logs = [log.verifier, second.verifier]
    judge = Judge(NAME, KEY, logs, heads)
    assert judge.add_checkpoint(bytes(log.request(0, 9))).status == 200
    assert judge.add_checkpoint(bytes(second.request(0, 2))).status == 200
    heads.close()
    again = Heads.take(tmp_path / "state", VKEY.vkey)
    judge = Judge(NAME, KEY, logs, again)
    assert parse_size(judge.add_checkpoint(bytes(log.request(0, 9))).body) == 9
    assert judge.add_checkpoint(bytes(log.request(9, 20))).status == 200
    assert judge.add_checkpoint(bytes(second.request(2, 3))).status == 200
    heads._lock = again._lock


@pytest.mark.usefixtures("heads")
def test_one_process_at_a_time(tmp_path: Path) -> None:
    with pytest.raises(StateUnusable, match="Another process"):
        Heads.take(tmp_path / "state", VKEY.vkey)


def test_a_lost_or_foreign_state_is_no_beginning(tmp_path: Path) -> None:
    folder = tmp_path / "other"
    Heads.create(folder, VKEY.vkey)
    with pytest.raises(StateUnusable, match="already"):
        Heads.create(folder, VKEY.vkey)
    foreign = NoteKey("two.example/1", KeyType.COSIGNER, KEY.public).vkey
    with pytest.raises(StateUnusable, match="another key"):
        Heads.take(folder, foreign)
    whole = (folder / HEADS).read_bytes()
    for damaged in (b"", whole[:-1], b"{}", b"[]", whole.replace(b'"v":1', b'"v":2')):
        (folder / HEADS).write_bytes(damaged)
        with pytest.raises(StateUnusable, match="damaged"):
            Heads.take(folder, VKEY.vkey)
    (folder / HEADS).unlink()
    with pytest.raises(StateUnusable, match="missing"):
        Heads.take(folder, VKEY.vkey)


def test_nothing_is_signed_that_cannot_be_remembered(
    judge: Judge, log: Logbook, tmp_path: Path
) -> None:
    # A folder in the place of the draft: writing fails for root too.
    (tmp_path / "state" / f".{HEADS}.new").mkdir()
    with pytest.raises(OSError, match="directory"):
        judge.add_checkpoint(bytes(log.request(0, 3)))
    (tmp_path / "state" / f".{HEADS}.new").rmdir()
    assert judge.add_checkpoint(bytes(log.fork(2, b"x").request(0))).status == 200


class Histories(RuleBasedStateMachine):
    """Whatever is asked for in whatever order, what was signed is one history."""

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        state = Path(self.folder.name) / "state"
        Heads.create(state, VKEY.vkey)
        self.heads = Heads.take(state, VKEY.vkey)
        main = Logbook("amana-test/custody").add(*(b"%d" % n for n in range(12)))
        self.books = [main, *(main.fork(at, *(b"f%d" % n for n in range(9))) for at in (0, 3, 7))]
        self.judge = Judge(NAME, KEY, [main.verifier], self.heads)
        self.signed: list[Checkpoint] = []

    def teardown(self) -> None:
        self.heads.close()
        self.folder.cleanup()

    @rule(book=st.integers(0, 3), old=st.integers(0, 13), size=st.integers(0, 12))
    def ask(self, book: int, old: int, size: int) -> None:
        log = self.books[book]
        size = min(size, len(log.entries))
        answer = self.judge.add_checkpoint(bytes(log.request(old, size)))
        if answer.status == 200:
            tree = log.checkpoint(size)
            self.signed.append(Checkpoint(log.origin, size, tree.text.encode()))

    @rule(book=st.integers(0, 3), size=st.integers(0, 12))
    def follow(self, book: int, size: int) -> None:
        head = self.heads.get("amana-test/custody")
        self.ask(book, head.checkpoint.size if head else 0, size)

    @invariant()
    def one_history(self) -> None:
        sizes = [one.size for one in self.signed]
        assert sizes == sorted(sizes)
        fitting = [
            book
            for book in self.books
            if all(
                one.size <= len(book.entries)
                and book.checkpoint(one.size).text.encode() == one.root
                for one in self.signed
            )
        ]
        assert fitting


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=30, stateful_step_count=15, deadline=None)


class Telling(SigningKey):
    """A key that says in a file that it signs, before it does."""

    def __init__(self, seed: bytes, path: Path, what: str) -> None:
        super().__init__(seed)
        self._path, self._what = path, what

    @property
    def private(self) -> Ed25519PrivateKey:
        with self._path.open("a") as file:
            file.write(f"{self._what}\n")
        return super().private


WATCHED = {heads_module.__file__, judging_module.__file__}


def in_child(work: Callable[[], None]) -> int:
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        work()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def die_at_line(n: int) -> None:
    left = n

    def trace(frame: FrameType, event: str, _arg: Any) -> Any:
        nonlocal left
        if frame.f_code.co_filename not in WATCHED:
            return None
        if event == "line":
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)


def test_killed_at_any_line_it_never_signs_a_fork(tmp_path: Path, log: Logbook) -> None:
    log = Logbook(log.origin, log.key, log.entries[:6])
    other = log.fork(5, b"another history", b"goes on")
    told = tmp_path / "signed"

    def ask(folder: Path, what: str, book: Logbook, *, old: int, dying: int = 0) -> None:
        if dying:
            die_at_line(dying)
        judge = Judge(
            NAME,
            Telling(KEY.seed, told, what),
            [log.verifier],
            Heads.take(folder, VKEY.vkey),
        )
        judge.add_checkpoint(bytes(book.request(old)))

    deaths = 0
    while True:
        folder = tmp_path / f"state-{deaths}"
        Heads.create(folder, VKEY.vkey)
        told.write_text("")
        assert in_child(lambda: ask(folder, "first", log.fork(5), old=0)) == 0  # noqa: B023
        told.write_text("")
        end = in_child(lambda: ask(folder, "one", log, old=5, dying=deaths + 1))  # noqa: B023
        assert end in (0, -signal.SIGKILL)
        # The other history is tried from every size that the cosigner could remember, then the first again.
        for old in (5, 6):
            assert in_child(lambda: ask(folder, "other", other, old=old)) == 0  # noqa: B023
        for old in (5, 6):
            assert in_child(lambda: ask(folder, "one", log, old=old)) == 0  # noqa: B023
        assert len(set(told.read_text().split())) == 1, f"two histories after a death at {deaths}"
        if end == 0:
            break
        deaths += 1
    assert deaths > 30


def test_signed_by_a_retired_key(judge: Judge, log: Logbook, heads: Heads) -> None:
    retired = SigningKey.generate()
    tree = Checkpoint(log.origin, 0, bytes(32))
    assert (
        judge.add_checkpoint(bytes(AddCheckpoint(0, (), sign_checkpoint(retired, tree)))).status
        == 403
    )
    both = Judge(NAME, KEY, [log.verifier, Logbook(log.origin, retired).verifier], heads)
    book = Logbook(log.origin, retired, log.entries)
    assert both.add_checkpoint(bytes(book.request(0, 4))).status == 200
    assert both.add_checkpoint(bytes(log.request(4))).status == 200
