# SPDX-License-Identifier: AGPL-3.0-or-later
"""Objects as files of a folder. What arrives grows in a `.part` file, and gets its name once it is whole.

No file or folder keeps the time of day at which a witness sent: modification and access times are set
to midnight UTC. The change time (ctime) belongs to the kernel and cannot be set by anybody, so the
disk itself must be protected (docs/threat-model.md).
"""

import errno
import fcntl
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from amana.storage.blobs import (
    FILES,
    READ_BLOCK_BYTES,
    Appender,
    BlobDamaged,
    BlobMissing,
    Progress,
    StoreUnavailable,
    check_file,
    check_key,
)

_DAY_SECONDS = 86_400
MARK = ".amana"
DRAFTS = ".drafts"


class FolderStore:
    """A `BlobStore` in `root/<first two characters>/<case>/<n>`. Its bookkeeping is the partial file itself.

    `prepare` leaves a mark in the root. Without it nothing is looked for and nothing written: an empty
    folder where a volume should be mounted must not be taken for objects that were lost.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._settling = ThreadPoolExecutor(4, thread_name_prefix="settling")

    def resume(
        self,
        key: str,
        progress: Progress,
        size: int,
        checkpoint: Callable[[Progress], None],  # noqa: ARG002 - bytes in a file survive their writer.
    ) -> Appender:
        """Continue the partial file; what an earlier writer left beyond `progress` is cut off."""
        path = self._path(key)
        with self._in_place():
            descriptor = self._open_for_append(path, progress.offset == size)
            try:
                there = os.fstat(descriptor).st_size
                if there < progress.offset:
                    raise BlobDamaged
                if there > progress.offset:
                    os.ftruncate(descriptor, progress.offset)
            except BaseException:
                os.close(descriptor)
                raise
        return _FileAppender(descriptor, path.parent, progress.offset, size)

    def recover(self, key: str, progress: Progress, size: int) -> Progress:
        """Return the length of the partial file, or of the finished one, once it is surely on disk."""
        path = self._path(key)
        with self._in_place():
            there = _size(path)
            if there is None:
                there = 0
                with suppress(FileNotFoundError):
                    descriptor = _open_alone(_partial(path), os.O_RDWR)
                    try:
                        _settle(descriptor)
                        there = os.fstat(descriptor).st_size
                    finally:
                        os.close(descriptor)
            if there:
                _settle_folders(path.parent)
        if there < progress.offset:
            raise BlobDamaged
        return Progress(min(there, size))

    def finish(self, key: str, progress: Progress, size: int) -> None:  # noqa: ARG002
        """Give the partial file its name."""
        path = self._path(key)
        with self._in_place():
            there = _size(path)
            if there is None:
                if _size(_partial(path)) != size:
                    raise BlobDamaged
                descriptor = _open_alone(_partial(path), os.O_RDWR)
                try:
                    _settle(descriptor)
                    # Still locked: nobody has the file open who could change it under its name.
                    _partial(path).rename(path)
                finally:
                    os.close(descriptor)
            elif there != size:
                raise BlobDamaged
            # Also when the name was there already: whoever gave it may have died before this.
            _settle_folders(path.parent)

    def read(self, key: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Yield a finished file in blocks of at most 1 MiB."""
        blocks = self._blocks(self._path(key), start, length)
        next(blocks)
        return blocks

    def size(self, key: str) -> int | None:
        """Return the size of a finished file."""
        return _size(self._path(key))

    def delete(self, key: str, progress: Progress) -> None:  # noqa: ARG002
        """Delete the file, the partial file, and the folder of a case that is left empty."""
        path = self._path(key)
        with self._in_place():
            if not path.parent.is_dir():
                return
            path.unlink(missing_ok=True)
            _partial(path).unlink(missing_ok=True)
            with suppress(FileNotFoundError):
                _settle_folders(path.parent)
            try:
                path.parent.rmdir()
                _settle_folders(path.parent.parent, above=1)
            except OSError as error:
                if error.errno not in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT}:
                    raise

    def put_files(self, files: Mapping[str, bytes]) -> None:
        """Write each file beside its place and give it its name; a reader sees the one before or the new one."""
        with self._in_place():
            drafts = self.root / FILES / DRAFTS
            drafts.mkdir(mode=0o700, parents=True, exist_ok=True)
            paths = {self.root / check_file(name): content for name, content in files.items()}
            folders = {folder for path in paths for folder in _made(path.parent)}
            # Side by side, because the disk settles many in the time of one.
            written = list(self._settling.map(partial(_write_draft, drafts), paths.values()))
            for path, draft in zip(paths, written, strict=True):
                draft.rename(path)
            list(self._settling.map(partial(_settle_folders, above=0), folders))

    def get_file(self, name: str) -> bytes:
        """Return a file of a public log."""
        with self._in_place():
            try:
                return (self.root / check_file(name)).read_bytes()
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                raise BlobMissing from None

    def delete_files(self, folder: str) -> None:
        """Delete a folder of a public log that holds files only."""
        path = self.root / check_file(folder)
        with self._in_place():
            if path.is_dir():
                for one in path.iterdir():
                    one.unlink(missing_ok=True)
                with suppress(FileNotFoundError):
                    path.rmdir()

    def prepare(self) -> None:
        with _faults():
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            (self.root / MARK).mkdir(mode=0o700, exist_ok=True)
            _settle_folders(self.root / MARK, above=1)

    @contextmanager
    def _in_place(self) -> Iterator[None]:
        """Turn faults of the disk into StoreUnavailable, and its absence too."""
        with _faults():
            if not (self.root / MARK).exists():
                raise StoreUnavailable
            yield

    def check(self) -> None:
        """Write and delete a file."""
        with self._in_place():
            probe = self.root / f".check-{secrets.token_hex(8)}"
            descriptor = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                os.write(descriptor, bytes(4096))
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
                probe.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        case, n = check_key(key).split("/")
        return self.root / case[:2] / case / n

    def _open_for_append(self, path: Path, is_whole: bool) -> int:
        """Open the partial file, or the finished one of an upload to which nothing can be added."""
        # The last object of a case that is deleted takes the folder along, perhaps just now.
        for _ in range(8):
            with suppress(FileNotFoundError):
                finished = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                if is_whole:
                    return finished
                os.close(finished)
                raise BlobDamaged
            with suppress(FileNotFoundError):
                self._make_folders(path)
                return _open_alone(_partial(path), os.O_RDWR | os.O_CREAT)
        raise StoreUnavailable

    def _make_folders(self, path: Path) -> None:
        path.parent.parent.mkdir(mode=0o700, exist_ok=True)
        path.parent.mkdir(mode=0o700, exist_ok=True)

    def _blocks(self, path: Path, start: int, length: int | None) -> Iterator[bytes]:
        with self._in_place():
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                raise BlobMissing from None
            try:
                # The first step only opens, so that `read` itself tells what is missing.
                yield b""
                left = os.fstat(descriptor).st_size - start
                if length is not None:
                    left = min(left, length)
                while left > 0:
                    block = os.pread(descriptor, min(READ_BLOCK_BYTES, left), start)
                    if not block:
                        raise StoreUnavailable
                    yield block
                    start += len(block)
                    left -= len(block)
            finally:
                os.close(descriptor)


class _FileAppender:
    """Owns the descriptor of a partial file, and with it the lock that makes it the only writer."""

    def __init__(self, descriptor: int, folder: Path, offset: int, size: int) -> None:
        self._descriptor = descriptor
        self._folder = folder
        self._begun_at = self._offset = offset
        self._is_closed = False
        self._size = size

    def write(self, data: memoryview | bytes) -> None:
        if self._offset + len(data) > self._size:
            raise ValueError("More bytes came than were announced.")
        view = memoryview(data)
        with _faults():
            while view:
                count = os.pwrite(self._descriptor, view, self._offset)
                self._offset += count
                view = view[count:]

    def close(self) -> Progress:
        with self, _faults():
            _settle(self._descriptor)
            _settle_folders(self._folder)
            self._is_closed = True
        return Progress(self._offset)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._descriptor >= 0:
            if not self._is_closed:
                # What nobody closed must not be taken for an upload's bytes by who looks after a crash.
                with suppress(OSError):
                    os.ftruncate(self._descriptor, self._begun_at)
            os.close(self._descriptor)
            self._descriptor = -1

    def __del__(self) -> None:
        self.__exit__(None, None, None)


@contextmanager
def _faults() -> Iterator[None]:
    try:
        yield
    except OSError:
        # The text of the error names the file, and with it the case.
        raise StoreUnavailable from None


def _made(folder: Path) -> set[Path]:
    """Make a folder; returns it, and those above it in which something new lies."""
    changed = {folder}
    missing = folder
    while not missing.is_dir():
        missing = missing.parent
        changed.add(missing)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return changed


def _write_draft(drafts: Path, content: bytes) -> Path:
    """Write a file under a name of its own, durable; whoever died while doing it leaves it behind."""
    draft = drafts / secrets.token_hex(16)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        _settle(descriptor)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
    return draft


def _partial(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def _open_alone(path: Path, flags: int) -> int:
    """Open a file as its only writer, until it is closed or its writer dies.

    Raises FileNotFoundError when it is not there, or was given another name meanwhile.
    """
    descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(os.fstat(descriptor), path.stat()):
            raise FileNotFoundError
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _size(path: Path) -> int | None:
    with _faults():
        try:
            return path.stat().st_size
        except FileNotFoundError:
            return None


def _settle(descriptor: int) -> None:
    """Make a file or folder durable, with midnight as its time."""
    midnight = int(time.time()) // _DAY_SECONDS * _DAY_SECONDS
    if os.fstat(descriptor).st_mtime != midnight:
        os.utime(descriptor, (midnight, midnight))
    os.fsync(descriptor)


def _settle_folders(folder: Path, above: int = 2) -> None:
    """Settle a folder and those above it, up to the root: each may be new, or another process's work."""
    for one in (folder, *folder.parents[:above]):
        descriptor = os.open(one, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _settle(descriptor)
        finally:
            os.close(descriptor)
