# SPDX-License-Identifier: AGPL-3.0-or-later
"""Files that commands leave for people: for their owner alone to read, and never over another."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from amana.client.errors import Usage


def write_new(path: Path, content: bytes) -> None:
    """Write a new file, mode 0600, durably; raises Usage where there is one, or none can be written."""
    with reserved(path) as write:
        write(content)


@contextmanager
def reserved(path: Path) -> Iterator[Callable[[bytes], None]]:
    """Make a new file before the work whose outcome it will hold, and give what writes that; both raise Usage.

    It is taken away again where nothing was written, or what followed failed.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise _refusal(path, error) from None
    is_written = False

    def write(content: bytes) -> None:
        nonlocal is_written
        try:
            with os.fdopen(os.dup(descriptor), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(descriptor)
        except OSError as error:
            raise _refusal(path, error) from None
        is_written = True

    try:
        yield write
    except BaseException:
        is_written = False
        raise
    finally:
        os.close(descriptor)
        if not is_written:
            path.unlink(missing_ok=True)


def refuse_taken(path: Path) -> None:
    """Refuse the name of a file before any work is done for it; raises Usage."""
    if os.path.lexists(path):
        raise _refusal(path, FileExistsError())


def _refusal(path: Path, error: OSError) -> Usage:
    if isinstance(error, FileExistsError):
        return Usage(f"There is a file {path} already.", slug="file-exists")
    return Usage(f"The file {path} cannot be written.", slug="file-unusable")
