"""Sequencers that are killed: a process dies by SIGKILL at the n-th line of the log's code, for many n.

After each death another process goes on with what is there. No place may be missing or be given twice, and every
checkpoint that was ever in the store or given out must be continued by every later one.
Run as `python -m tests.support.dying_sequencer '<JSON>'`; prints how many sequencers died.
"""

import json
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from amana.custody import publishing, sequencing
from amana.custody.publishing import TileFetcher
from amana.protocol.checkpoint import Checkpoint
from amana.protocol.merkle import consistency_proof, leaf_hash, root_hash, verify_consistency
from amana.protocol.signing import SigningKey
from amana.protocol.tiles import Edge, TileReader
from amana.storage import folder, s3
from amana.storage.database import Database
from tests.custody.conftest import Logging
from tests.support.dying_writer import in_child, make_store

WATCHED = {folder.__file__, s3.__file__, sequencing.__file__, publishing.__file__}
SEED = bytes(range(32))


def die_at_line(n: int) -> None:
    left = n

    def trace(frame: FrameType, event: str, _arg: Any) -> Any:
        nonlocal left
        # A line of a comprehension is passed for each of hundreds of leaves.
        if frame.f_code.co_filename not in WATCHED or frame.f_code.co_name.startswith("<"):
            return None
        if event == "line":
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    threading.settrace(trace)
    sys.settrace(trace)


def make_log(spec: dict[str, Any]) -> Logging:
    log = Logging(Database(spec["database"]), make_store(spec), SigningKey(SEED))
    # Whoever had the lease is dead: it is not waited for.
    log.clock.now = 100.0
    return log


def sequence(log: Logging) -> None:
    lease = log.lease()
    if (term := lease.hold()) is None:
        log.clock.now += 100.0
        term = lease.hold()
    assert term is not None
    publisher, opened = log.publisher()
    for limit in (2, 1000):
        log.number(term, limit)
        while publisher.publish(term, opened):
            pass


def check(log: Logging, seen: Path, recorded: int) -> None:
    """See that the log holds all that was recorded, and continues all that was ever signed."""
    places = log.places()
    assert [place for place, _ in places] == list(range(recorded))
    assert len({entry for _, entry in places}) == recorded
    assert log.waiting() == 0
    newest = log.given_out()
    assert newest == log.stored()
    assert newest.size == recorded
    assert newest.root == Edge().grown([leaf_hash(entry) for _, entry in places])[0].root()
    read = TileReader(TileFetcher(log.store, "custody"), newest.size)
    assert root_hash(read, newest.size) == newest.root
    for line in seen.read_text().splitlines():
        old = Checkpoint(log.origin, *_parsed(line))
        proof = consistency_proof(read, old.size, newest.size)
        verify_consistency(old.size, newest.size, old.root, newest.root, proof)


def _parsed(line: str) -> tuple[int, bytes]:
    size, root = line.split()
    return int(size), bytes.fromhex(root)


def note_signed(log: Logging, seen: Path) -> None:
    """Note what a dead process left signed, in the store and in the database."""
    with seen.open("a") as file:
        for checkpoint in (log.stored(), log.given_out()):
            file.write(f"{checkpoint.size} {checkpoint.root.hex()}\n")


def main(spec: dict[str, Any]) -> None:
    seen, deaths, recorded = Path(spec["seen"]), 0, spec["first"]

    def begin() -> None:
        log = make_log(spec)
        log.record(recorded)
        sequence(log)
        note_signed(log, seen)

    assert in_child(begin) == 0
    while True:
        n = 1 + deaths * spec["step"]

        def doomed(n: int = n) -> None:
            log = make_log(spec)
            log.record(5)
            die_at_line(n)
            sequence(log)

        def survivor(recorded: int = recorded + 5) -> None:
            log = make_log(spec)
            note_signed(log, seen)
            sequence(log)
            check(log, seen, recorded)

        end = in_child(doomed)
        assert end in (0, -signal.SIGKILL)
        recorded += 5
        assert in_child(survivor) == 0, f"not whole after a death at line {n}"
        if end == 0:
            break
        deaths += 1
    print(deaths)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
