# SPDX-License-Identifier: AGPL-3.0-or-later
"""What the stages may ask of an object store: take bytes in as they come, then keep them unchanged.

It knows nothing of what the bytes are, and no text of its errors names a place, a key or an address.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

STATE_LIMIT_BYTES = 256 * 1024
READ_BLOCK_BYTES = 2**20

FILES = "log"
"""Where the files of the public logs lie, apart from all objects: no case has a name of three letters."""

_KEY = re.compile(r"[a-z2-7]{32}/(0|[1-9][0-9]{0,3})")
_FILE = re.compile(rf"{FILES}(/[a-z0-9][a-z0-9.-]{{0,63}}){{1,10}}")


class StoreUnavailable(Exception):
    """The object store is full, cannot be reached, or did not do what it was asked. Trying again may help."""

    def __init__(self) -> None:
        super().__init__("The object store cannot be reached, or cannot take this now.")


class BlobMissing(Exception):
    """There is no finished object under this key."""

    def __init__(self) -> None:
        super().__init__("This object is not in the object store.")


class BlobDamaged(Exception):
    """What the store holds is not what was recorded; only deleting it and beginning anew helps."""

    def __init__(self) -> None:
        super().__init__("What the object store holds of this object is not what was recorded.")


@dataclass(frozen=True)
class Progress:
    """How far an upload is: `offset` bytes are durable; `state` is the store's own bookkeeping, "" at first."""

    offset: int = 0
    state: str = ""


class Appender(Protocol):
    """Takes the bytes of one request. Owned by one thread.

    Leaving it as a context manager without `close` forgets what was written, and returns only when
    nothing of it is still under way.
    """

    def write(self, data: memoryview | bytes) -> None:
        """Take more bytes; `data` may be reused at once. Raises StoreUnavailable, BlobDamaged."""

    def close(self) -> Progress:
        """Make everything written durable and return how far the upload is.

        After a write that failed it returns what is durable nevertheless. Raises StoreUnavailable.
        """

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class BlobStore(Protocol):
    """An object store. Any instance, in any process, can continue what another one began.

    The caller sees to it that an upload has one writer at a time. Should an earlier one still be
    alive, what it stores late can make an upload fail as damaged, and never changes a finished
    object or one that is recorded as durable without being noticed.
    """

    def resume(
        self, key: str, progress: Progress, size: int, checkpoint: Callable[[Progress], None]
    ) -> Appender:
        """Continue an upload of `size` bytes from what was recorded.

        `checkpoint` is called, in the thread that writes, whenever more became durable before
        `close`. Raises StoreUnavailable, BlobDamaged.
        """

    def recover(self, key: str, progress: Progress, size: int) -> Progress:
        """Return what is really there after the writer died: at least what was recorded, at most `size`."""

    def finish(self, key: str, progress: Progress, size: int) -> None:
        """Make a whole upload the finished object, durable and unchangeable.

        It may be interrupted anywhere and repeated. Raises StoreUnavailable, BlobDamaged.
        """

    def read(self, key: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Yield a finished object, or the bytes of a range of it that are there.

        Raises BlobMissing and StoreUnavailable before the first block, StoreUnavailable later.
        """

    def size(self, key: str) -> int | None:
        """Return the size of a finished object in bytes; None where there is none."""

    def delete(self, key: str, progress: Progress) -> None:
        """Delete an object, finished or not, with all that was stored for it; idempotent."""

    def put_files(self, files: Mapping[str, bytes]) -> None:
        """Put small files of the public logs under their names, each whole or not at all, all durable on return.

        A file that is there is replaced. Raises StoreUnavailable; then some may have been put.
        """

    def get_file(self, name: str) -> bytes:
        """Return a file of a public log. Raises BlobMissing, StoreUnavailable."""

    def delete_files(self, folder: str) -> None:
        """Delete the files directly in a folder of a public log; idempotent. Raises StoreUnavailable."""

    def prepare(self) -> None:
        """Make the place where objects rest, if it is not there; idempotent. Raises StoreUnavailable."""

    def check(self) -> None:
        """Raise StoreUnavailable unless an object can be written, read and deleted."""


def check_key(key: str) -> str:
    """Return a key of the form `<case>/<n>`; raise ValueError, without naming it, for any other."""
    if not _KEY.fullmatch(key):
        raise ValueError("This is not the key of an object.")
    return key


def check_file(name: str) -> str:
    """Return the name of a file or folder of a public log; raise ValueError, without repeating it, for any other."""
    if not _FILE.fullmatch(name):
        raise ValueError("This is not the name of a public file.")
    return name
