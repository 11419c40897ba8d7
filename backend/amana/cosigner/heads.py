# SPDX-License-Identifier: AGPL-3.0-or-later
"""The newest tree of each log that was cosigned: the one thing a cosigner must never lose or forget."""

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from amana.protocol.checkpoint import (
    Checkpoint,
    Note,
    check_name,
    parse_checkpoint,
    parse_note,
)
from amana.protocol.encoding import canonical, parse_canonical, sha256_hex
from amana.protocol.errors import ProtocolError

HEADS: Final = "heads.json"
LIMIT_BYTES: Final = 8 * 1024 * 1024
EVIDENCE_LIMIT: Final = 32
MISSING: Final = (
    "The state is missing. If this key ever cosigned anything, it must not do so again:"
    " make a new one with 'amana cosigner init'."
)


class StateUnusable(Exception):
    """The state is missing, damaged, of another key, or used by another process; the text says which."""


@dataclass(frozen=True)
class Head:
    """A log's newest tree that was cosigned, as the log signed it."""

    checkpoint: Checkpoint
    note: Note


class Heads:
    """The state of one cosigner in one folder. Owned by one process, which holds the folder's lock while it lives.

    A cosigner that begins from nothing with a key that signed before could sign a second history. So
    the file is made once, with the key; one that is missing later is a loss and no beginning.
    """

    def __init__(self, folder: Path, vkey: str, heads: Mapping[str, Head], lock: int) -> None:
        self._folder = folder
        self._vkey = vkey
        self._heads = dict(heads)
        self._lock = lock

    @classmethod
    def create(cls, folder: Path, vkey: str) -> None:
        """Make the state of a new key; raises StateUnusable where there is one."""
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _locked(folder):
                if (folder / HEADS).exists():
                    raise StateUnusable("There is a cosigner's state in this folder already.")
                _write(folder, HEADS, _content(vkey, {}))
        except OSError:
            raise StateUnusable("The folder of the state cannot be written.") from None

    @classmethod
    def take(cls, folder: Path, vkey: str) -> "Heads":
        """Take the state of a key for this process; raises StateUnusable."""
        try:
            lock = _take_lock(folder)
        except OSError:
            raise StateUnusable(MISSING) from None
        try:
            return cls(folder, vkey, _read(folder, vkey), lock)
        except BaseException:
            os.close(lock)
            raise

    def close(self) -> None:
        """Leave the state to another process."""
        os.close(self._lock)

    def get(self, origin: str) -> Head | None:
        """Return the newest tree of a log, or None if none was ever cosigned."""
        return self._heads.get(origin)

    def put(self, head: Head) -> None:
        """Remember a newer tree; it is on disk when this returns, and nothing may be signed before. Raises OSError."""
        heads = {**self._heads, head.checkpoint.origin: head}
        _write(self._folder, HEADS, _content(self._vkey, heads))
        self._heads = heads

    def keep_evidence(self, other: Note) -> None:
        """Keep two checkpoints of one size that a log signed over different trees: the proof of a fork."""
        head = self._heads[parse_checkpoint(other.text).origin]
        name = f"fork-{sha256_hex(other.text.encode())[:16]}.txt"
        kept = list(self._folder.glob("fork-*.txt"))
        if len(kept) < EVIDENCE_LIMIT and not (self._folder / name).exists():
            _write(self._folder, name, bytes(head.note) + b"\n" + bytes(other))


def _content(vkey: str, heads: Mapping[str, Head]) -> bytes:
    notes = [str(heads[origin].note) for origin in sorted(heads)]
    return canonical({"v": 1, "cosigner": vkey, "heads": notes})


def _read(folder: Path, vkey: str) -> dict[str, Head]:
    try:
        with (folder / HEADS).open("rb") as file:
            data = file.read(LIMIT_BYTES + 1)
    except FileNotFoundError:
        raise StateUnusable(MISSING) from None
    except OSError:
        raise StateUnusable("The state cannot be read.") from None
    try:
        named, heads = _parsed(parse_canonical(data, limit=LIMIT_BYTES))
    except (ProtocolError, KeyError, TypeError, AttributeError):
        raise StateUnusable("The state is damaged.") from None
    if named != vkey:
        raise StateUnusable("The state is of another key.")
    return heads


def _parsed(document: dict[str, Any]) -> tuple[str, dict[str, Head]]:
    if document["v"] != 1 or set(document) != {"v", "cosigner", "heads"}:
        raise KeyError
    heads = {}
    for text in document["heads"]:
        note = parse_note(text.encode("utf-8"))
        checkpoint = parse_checkpoint(note.text)
        heads[check_name(checkpoint.origin)] = Head(checkpoint, note)
    return document["cosigner"], heads


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    lock = _take_lock(folder)
    try:
        yield
    finally:
        os.close(lock)


def _take_lock(folder: Path) -> int:
    """Lock the folder for this process; the system lets go of it when the process ends, however it does."""
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise StateUnusable("Another process uses this state.") from None
    return lock


def _write(folder: Path, name: str, content: bytes) -> None:
    """Write a file whole or not at all; durable when this returns."""
    draft = folder / f".{name}.new"
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(folder / name)
    folder_descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(folder_descriptor)
    finally:
        os.close(folder_descriptor)
