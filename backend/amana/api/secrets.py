# SPDX-License-Identifier: AGPL-3.0-or-later
"""The server's own keys: files in one folder, made once, never printed. None of them opens a testimony."""

import hashlib
import hmac
import itertools
import os
import secrets
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from amana.protocol.encoding import b32
from amana.protocol.signing import SigningKey

PREVIOUS_TOKENS = "tokens.previous"
NAMES = ("capability", "tokens", "online", "custody-log", "directory-log")


class SecretsUnusable(Exception):
    """A key file is missing, too short, or readable by others."""


@dataclass(frozen=True, repr=False)
class Secrets:
    """32 random bytes each: upload addresses, access tokens, TUF online role, and the two logs."""

    capability: bytes
    tokens: "TokenKeys"
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


class TokenKeys:
    """The keys of access tokens: the newest signs, the one before still verifies. Owned by all threads of a process.

    The files are looked at whenever a token is made or verified, so that a rotation needs no restart and signs nobody
    out, and a second one ends the first key at once.
    """

    def __init__(self, folder: Path) -> None:
        self._paths = [folder / "tokens", folder / PREVIOUS_TOKENS]
        self._lock = threading.Lock()
        self._seen: tuple[tuple[int, int], ...] = ()
        self._keys: dict[str, bytes] = {}
        self._newest = ""
        self._read()

    def current(self) -> tuple[str, bytes]:
        """Return name and bytes of the key that signs."""
        self._read()
        return self._newest, self._keys[self._newest]

    def find(self, name: object) -> bytes | None:
        """Return the key that a token names, if it may still verify."""
        self._read()
        return self._keys.get(name) if isinstance(name, str) else None

    def _read(self) -> None:
        if self._look() == self._seen:
            return
        with self._lock:
            seen = self._look()
            keys = [_key(path, create=False) for path in self._paths if path.exists()]
            named = {hashlib.sha256(key).hexdigest()[:8]: key for key in keys}
            self._keys, self._newest, self._seen = named, next(iter(named)), seen

    def _look(self) -> tuple[tuple[int, int], ...]:
        return tuple(filter(None, map(_state, self._paths)))


def _state(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def rotate_tokens(folder: Path) -> None:
    """Make a new key of access tokens; tokens under the one before work until they are over.

    Whoever runs it, both files are readable by the service as `tokens` was.
    """
    path = folder / "tokens"
    current = _key(path, create=False)
    kept = path.stat()
    _write(folder / PREVIOUS_TOKENS, current, like=kept)
    _write(path, os.urandom(32), like=kept)


def load_secrets(folder: Path, *, create: bool = False) -> Secrets:
    """Read the keys; with `create`, make those that are missing."""
    if create:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    keys = {name: _key(folder / name, create=create) for name in NAMES}
    return Secrets(
        capability=keys["capability"],
        tokens=TokenKeys(folder),
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
    if _is_weak(key):
        raise SecretsUnusable(f"The key {path.name!r} is not 32 random bytes.")
    return key


def _is_weak(key: bytes) -> bool:
    """Tell whether somebody typed, counted or repeated this: of 2^40 random keys not one is taken for it."""
    steps = {later - earlier for earlier, later in itertools.pairwise(key)}
    is_text = all(0x20 <= byte < 0x7F or byte in b"\t\r\n" for byte in key)
    return len(key) != 32 or len(set(key)) < 8 or len(steps) < 8 or is_text


def _make(path: Path) -> None:
    """Write a new key whole or not at all, so that two servers starting at once agree on one."""
    if path.exists():
        return
    draft = _draft(path, os.urandom(32))
    with suppress(FileExistsError):
        os.link(draft, path)
    draft.unlink()
    _sync(path.parent)


def _write(path: Path, key: bytes, like: os.stat_result) -> None:
    """Replace a key; the file belongs to the same user, with the same mode, as another did."""
    draft = _draft(path, key)
    try:
        if (like.st_uid, like.st_gid) != (os.geteuid(), os.getegid()):
            os.chown(draft, like.st_uid, like.st_gid)
        draft.chmod(like.st_mode & 0o777)
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise SecretsUnusable(
            f"The key {path.name!r} belongs to another user; run this as that user, or as root."
        ) from None
    _sync(path.parent)


def _draft(path: Path, key: bytes) -> Path:
    # Not by the process id: in a container a crashed start and the next one have the same.
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(descriptor, key)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return draft


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
