# SPDX-License-Identifier: AGPL-3.0-or-later
"""The server's own keys: files in one folder, made once, never printed. None of them opens a testimony."""

import hmac
import os
from dataclasses import dataclass
from pathlib import Path

from amana.protocol.encoding import b32
from amana.protocol.signing import SigningKey

NAMES = ("capability", "tokens", "online", "custody-log", "directory-log")


class SecretsUnusable(Exception):
    """A key file is missing, too short, or readable by others."""


@dataclass(frozen=True, repr=False)
class Secrets:
    """32 random bytes each: upload addresses, access tokens, TUF online role, and the two logs."""

    capability: bytes
    tokens: bytes
    online: SigningKey
    custody_log: SigningKey
    directory_log: SigningKey

    def derive(self, purpose: str, *parts: str) -> bytes:
        """Return HMAC-SHA256 under the capability secret for one stated purpose."""
        message = "\0".join((purpose, *parts)).encode("utf-8")
        return hmac.digest(self.capability, message, "sha256")

    def mac(self, purpose: str, *parts: str) -> str:
        """Return 130 bits of `derive` as Base32, 26 characters."""
        return b32(self.derive(purpose, *parts))[:26]


def load_secrets(folder: Path, *, create: bool = False) -> Secrets:
    """Read the keys; with `create`, make those that are missing."""
    if create:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    keys = {name: _key(folder / name, create=create) for name in NAMES}
    return Secrets(
        capability=keys["capability"],
        tokens=keys["tokens"],
        online=SigningKey(keys["online"]),
        custody_log=SigningKey(keys["custody-log"]),
        directory_log=SigningKey(keys["directory-log"]),
    )


def _key(path: Path, *, create: bool) -> bytes:
    if create:
        _make(path)
    try:
        mode = path.stat().st_mode
        key = path.read_bytes()
    except OSError:
        raise SecretsUnusable(
            f"The key {path.name!r} is missing; run 'amana migrate' first."
        ) from None
    if mode & 0o077:
        raise SecretsUnusable(
            f"The key {path.name!r} can be read by others; its mode must be 0600."
        )
    if len(key) != 32 or len(set(key)) < 8:
        raise SecretsUnusable(f"The key {path.name!r} is not 32 random bytes.")
    return key


def _make(path: Path) -> None:
    """Write a new key whole or not at all, so that two servers starting at once agree on one."""
    if path.exists():
        return
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(descriptor, os.urandom(32))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
