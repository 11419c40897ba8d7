# SPDX-License-Identifier: AGPL-3.0-or-later
"""A cosigner's own key: one file of two lines, name and seed, mode 0600, made once and never overwritten."""

import os
from pathlib import Path
from typing import Final

from amana.cosigner.heads import StateUnusable
from amana.protocol.checkpoint import KeyType, NoteKey, check_name
from amana.protocol.encoding import b64, unb64
from amana.protocol.errors import ProtocolError
from amana.protocol.signing import SigningKey

HEADER: Final = "amana-cosigner-key-v1"
LIMIT_BYTES: Final = 1024


def create_key(path: Path, name: str) -> NoteKey:
    """Make a key under a name; raises StateUnusable where there is one, and CheckpointInvalid for a bad name."""
    key = SigningKey.generate()
    public = NoteKey(check_name(name), KeyType.COSIGNER, key.public)
    content = f"{HEADER}\n{name}\n{b64(key.seed)}\n".encode()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except FileExistsError:
        raise StateUnusable("There is a key in this file already.") from None
    except OSError:
        raise StateUnusable("The key file cannot be written.") from None
    return public


def read_key(path: Path) -> tuple[str, SigningKey]:
    """Return name and key; raises StateUnusable for a file that others can read, or that is no key."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(LIMIT_BYTES + 1)
    except OSError:
        raise StateUnusable("The key file cannot be read.") from None
    if mode & 0o077:
        raise StateUnusable("The key file can be read by others; its mode must be 0600.")
    try:
        header, name, seed, end = data.decode("utf-8").split("\n")
        if header != HEADER or end or len(data) > LIMIT_BYTES:
            raise ValueError
        return check_name(name), SigningKey(unb64(seed, 32))
    except (ProtocolError, ValueError):
        raise StateUnusable("This is not the key file of a cosigner.") from None
