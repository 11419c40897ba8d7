# SPDX-License-Identifier: AGPL-3.0-or-later
"""Files that commands leave for people: for their owner alone to read, and never over another."""

import os
from pathlib import Path

from amana.client.errors import Usage


def write_new(path: Path, content: bytes) -> None:
    """Write a new file, mode 0600, durably; raises Usage where there is one, or none can be written."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise _refusal(path, error) from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise _refusal(path, error) from None


def refuse_taken(path: Path) -> None:
    """Refuse the name of a file before any work is done for it; raises Usage."""
    if os.path.lexists(path):
        raise _refusal(path, FileExistsError())


def _refusal(path: Path, error: OSError) -> Usage:
    if isinstance(error, FileExistsError):
        return Usage(f"There is a file {path} already.", slug="file-exists")
    return Usage(f"The file {path} cannot be written.", slug="file-unusable")
