"""Uploads that are killed: a process dies by SIGKILL at the n-th line of the object store's code, for many n.

After each death another process must complete the upload from what was recorded, byte for byte.
Run as `python -m tests.support.dying_writer '<JSON>'`; prints how many writers died.
"""

import json
import os
import random
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from amana.storage import folder, s3
from amana.storage.blobs import BlobStore, Progress
from amana.storage.folder import FolderStore
from amana.storage.s3 import S3Settings, S3Store

_watched: list[Callable[[str], bool]] = [lambda name: name in {folder.__file__, s3.__file__}]
PART_BYTES = 64 * 1024
DATA = random.Random(1).randbytes(2 * PART_BYTES + 12_345)
REQUEST_BYTES = 100_000


def make_store(spec: dict[str, Any]) -> BlobStore:
    if "folder" in spec:
        return FolderStore(Path(spec["folder"]))
    return S3Store(S3Settings(**spec["s3"]), part_bytes=PART_BYTES)


def load(record: Path) -> Progress:
    return Progress(**json.loads(record.read_text())) if record.exists() else Progress()


def save(record: Path, progress: Progress) -> None:
    new = record.with_suffix(".new")
    new.write_text(json.dumps({"offset": progress.offset, "state": progress.state}))
    new.replace(record)


def upload(store: BlobStore, key: str, record: Path) -> None:
    recorded = load(record)
    progress = store.recover(key, recorded, len(DATA))
    assert recorded.offset <= progress.offset <= len(DATA)
    save(record, progress)
    while progress.offset < len(DATA):
        with store.resume(key, progress, len(DATA), lambda p: save(record, p)) as appender:
            request = DATA[progress.offset :][:REQUEST_BYTES]
            appender.write(request[:70_001])
            appender.write(request[70_001:])
            progress = appender.close()
        save(record, progress)
    store.finish(key, progress, len(DATA))


def in_child(work: Callable[[], None]) -> int:
    """Run `work` in a forked process and return how it ended."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        work()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def watch(is_watched: Callable[[str], bool]) -> None:
    """Count the lines of other files than those of the object store."""
    _watched[:] = [is_watched]


def die_at_line(n: int) -> None:
    """Die by SIGKILL at the n-th line of the watched code from now on."""
    left = n

    def trace(frame: FrameType, event: str, _arg: Any) -> Any:
        nonlocal left
        if not _watched[0](frame.f_code.co_filename):
            return None
        if event == "line":
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)


def main(spec: dict[str, Any]) -> None:
    deaths = 0
    while True:
        n = 1 + deaths * spec["step"]
        key, record = f"{'a' * 32}/{deaths}", Path(spec["records"]) / str(deaths)

        def doomed(n: int = n, key: str = key, record: Path = record) -> None:
            store = make_store(spec)
            die_at_line(n)
            upload(store, key, record)

        def survivor(key: str = key, record: Path = record) -> None:
            store = make_store(spec)
            upload(store, key, record)
            store.finish(key, load(record), len(DATA))
            assert b"".join(store.read(key)) == DATA

        end = in_child(doomed)
        assert end in (0, -signal.SIGKILL)
        assert in_child(survivor) == 0, f"not whole after a death at line {n}"
        if end == 0:
            break
        deaths += 1
    print(deaths)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
