# SPDX-License-Identifier: AGPL-3.0-or-later
"""Bundles as streams: out of a folder, an archive or a sealed file, and into an archive; never whole in memory."""

import io
import os
import stat
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from amana.client.errors import Usage
from amana.protocol import age
from amana.protocol.bundle import (
    BLOCK,
    MAX_FILES,
    TAR_END,
    TOP,
    BundleInvalid,
    check_path,
    in_order,
    parse_tar_header,
    tar_header,
    tar_padding,
    tar_size,
)
from amana.protocol.sealing import Digests, Identity, Kind, opened_blocks

READ_BYTES: Final = 1024 * 1024
_UNREADABLE: Final = "it cannot be read"


class FileUnreadable(BundleInvalid):
    """One file of a bundle cannot be read; that says nothing about the others."""


@dataclass(frozen=True)
class Entry:
    """One file of a bundle; `stream` gives its bytes until the next entry is asked for."""

    path: str
    size: int
    stream: BinaryIO


class Chunks(io.RawIOBase):
    """Reads what a generator gives; `result` is what it returned, None before its end."""

    def __init__(self, chunks: Generator[bytes | memoryview, None, Any]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")
        self.result: Any = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            try:
                self._rest = memoryview(next(self._chunks))
            except StopIteration as end:
                self.result = end.value if end.value is not None else self.result
                return 0
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


class _File(io.RawIOBase):
    """A file, or instead of one the reason why there is none; raises FileUnreadable."""

    def __init__(self, source: BinaryIO | None, fault: str = _UNREADABLE) -> None:
        self._source = source
        self._fault = fault

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._source is None:
            raise FileUnreadable("bundle-unreadable", self._fault)
        try:
            count: int = self._source.readinto(buffer)  # type: ignore[attr-defined]
        except OSError:
            raise FileUnreadable("bundle-unreadable", self._fault) from None
        return count


class _Part(io.RawIOBase):
    """The next `size` bytes of an archive."""

    def __init__(self, source: BinaryIO, size: int) -> None:
        self._source = source
        self.left = size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)[: self.left]
        if not len(view):
            return 0
        data = self._source.read(len(view))
        if not data:
            raise BundleInvalid("bundle-cut", "The archive of the bundle was cut.")
        view[: len(data)] = data
        self.left -= len(data)
        return len(data)


def tar_entries(source: BinaryIO) -> Iterator[Entry]:
    """Give the files of an archive, which must be in the one form of a bundle's; raises BundleInvalid."""
    for _ in range(MAX_FILES + 1):
        header = parse_tar_header(_exactly(source, BLOCK))
        if header is None:
            if _exactly(source, len(TAR_END) - BLOCK) != TAR_END[BLOCK:] or source.read(1):
                raise BundleInvalid("bundle-tar", "The archive goes on behind its end.")
            return
        path, size = header
        part = _Part(source, size)
        yield Entry(path, size, part)  # type: ignore[arg-type]
        while part.left:
            part.read(READ_BYTES)
        if _exactly(source, -size % BLOCK) != tar_padding(size):
            raise BundleInvalid("bundle-tar", "The archive holds something between its files.")
    raise BundleInvalid("bundle-files", "The bundle holds too many files.")


def _exactly(source: BinaryIO, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = source.read(size - len(data))
        if not more:
            raise BundleInvalid("bundle-cut", "The archive of the bundle was cut.")
        data += more
    return data


def folder_entries(folder: Path) -> Iterator[Entry]:
    """Give the files of an unpacked bundle in their order; it holds plain files and folders, and nothing else.

    What is something else stands among them: whoever reads it gets FileUnreadable, which says what is wrong.
    """
    found = _found(folder)
    for path in in_order(found):
        fault = found[path]
        if fault is not None:
            yield Entry(path, 0, _File(None, fault))  # type: ignore[arg-type]
            continue
        try:
            descriptor = os.open(folder / path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            yield Entry(path, 0, _File(None))  # type: ignore[arg-type]
            continue
        with os.fdopen(descriptor, "rb") as file:
            yield Entry(path, os.fstat(descriptor).st_size, _File(file))  # type: ignore[arg-type]


def _found(folder: Path) -> dict[str, str | None]:
    """Return what lies in a folder and below it by path: None for a file, else why it belongs to no bundle."""
    waiting, found = [folder], dict[str, str | None]()
    while waiting:
        place = waiting.pop()
        try:
            below = {Path(one.path): one.stat(follow_symlinks=False) for one in os.scandir(place)}
        except OSError:
            if place == folder:
                raise BundleInvalid("bundle-unreadable", "The bundle cannot be read.") from None
            found[_named(place, folder)] = _UNREADABLE
            continue
        for path, status in below.items():
            name = _named(path, folder)
            if name != path.relative_to(folder).as_posix():
                found[name] = "its name is not ours"
            elif stat.S_ISDIR(status.st_mode):
                waiting.append(path)
            else:
                is_file = stat.S_ISREG(status.st_mode)
                found[name] = None if is_file else "it is a link, or something that is no file"
            if len(found) > MAX_FILES:
                raise BundleInvalid("bundle-files", "The bundle holds too many files.")
        if not below and place != folder:
            found[_named(place, folder)] = "it is an empty folder"
    return found


def _named(path: Path, folder: Path) -> str:
    """Return the path of a file inside a folder, so written that it can be shown if it is not ours."""
    name = path.relative_to(folder).as_posix()
    try:
        return check_path(name)
    except BundleInvalid:
        return ascii(name)


def size_of(place: Path) -> int:
    """Return about how many bytes of a bundle there are to read, for a progress bar."""
    if not place.is_dir():
        return place.stat().st_size
    return sum(one.lstat().st_size for one in place.rglob("*"))


@contextmanager
def opened_bundle(
    place: Path, identity: Identity | None, found: dict[str, Digests] | None = None
) -> Iterator[Iterator[Entry]]:
    """Give the files of a bundle in a folder, an archive, or an archive that is sealed to `identity`.

    `found` gets under "sealed" what the sealed file was, once all was read. Raises BundleInvalid, CannotOpen, Usage.
    """
    if place.is_dir():
        inside = place / TOP
        yield folder_entries(inside if inside.is_dir() and not inside.is_symlink() else place)
        return
    try:
        file = place.open("rb")
    except OSError:
        raise Usage(f"{place} cannot be read.", slug="unreadable-file") from None
    with file:
        is_sealed = file.read(len(age.VERSION_LINE)) == age.VERSION_LINE
        file.seek(0)
        source: BinaryIO = _File(file)  # type: ignore[assignment]
        if not is_sealed:
            yield tar_entries(source)
            return
        if identity is None:
            raise Usage(
                "This bundle is sealed; give the key that opens it with --identity.",
                slug="bundle-sealed",
            )
        chunks = Chunks(
            opened_blocks(source, lambda header: age.file_key(header, identity), (Kind.FILE,))
        )
        yield tar_entries(chunks)  # type: ignore[arg-type]
        if found is not None and isinstance(chunks.result, Digests):
            found["sealed"] = chunks.result


Content = Callable[[], Iterator[bytes | memoryview]]
"""Gives the bytes of one file, anew each time."""


@dataclass(frozen=True)
class Source:
    """A file that goes into a bundle: its size, hex SHA-256, and its bytes."""

    size: int
    sha256: str
    content: Content


def archive_size(files: Mapping[str, Source]) -> int:
    """Return the length of the archive of these files."""
    return tar_size(one.size for one in files.values())


def archive(files: Mapping[str, Source]) -> Generator[bytes | memoryview, None, None]:
    """Give the one archive of these files; two runs give the same bytes. Raises BundleInvalid for a file that changed."""
    for path in in_order(files):
        one = files[path]
        yield tar_header(path, one.size)
        left = one.size
        for chunk in one.content():
            left -= len(chunk)
            yield chunk
        if left:
            raise BundleInvalid("bundle-size", "A file changed while the bundle was made.")
        yield tar_padding(one.size)
    yield TAR_END


def unpack(entries: Iterator[Entry], folder: Path) -> Iterator[Entry]:
    """Pass entries on, and write each into `folder` while it is read; what was written counts only at the end."""
    for entry in entries:
        place = folder / check_path(entry.path)
        try:
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError:
            raise Usage(
                "The folder cannot be written, or is not empty.", slug="folder-unusable"
            ) from None
        with os.fdopen(descriptor, "wb") as file:
            tee = Chunks(_teed(entry.stream, file))
            yield Entry(entry.path, entry.size, tee)  # type: ignore[arg-type]
            while tee.read(READ_BYTES):
                pass
            with suppress(OSError):
                os.fsync(file.fileno())


def _teed(source: BinaryIO, file: BinaryIO) -> Generator[bytes, None, None]:
    while block := source.read(READ_BYTES):
        file.write(block)
        yield block
