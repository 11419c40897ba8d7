# SPDX-License-Identifier: AGPL-3.0-or-later
"""A person of staff with their verified directory: the ground on which readers and administrators stand."""

import fcntl
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from amana.client.desk import DeskClient
from amana.client.directory import VerifiedDirectory, fetch_directory, read_root
from amana.client.errors import Usage
from amana.client.keyfile import PersonKeys
from amana.client.log import from_server
from amana.client.progress import Progress, Silent
from amana.client.transport import Answer, Patience, Transport


class Staff:
    """One person at one server: owns their sign-in, and in `cache` the memory of which directory was seen last."""

    def __init__(
        self,
        transport: Transport,
        root: bytes,
        keys: PersonKeys,
        *,
        cache: Path | None = None,
        progress: Progress | None = None,
        patience: Patience | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._desk = DeskClient(
            transport, keys, read_root(root).deployment, patience=patience, clock=clock
        )
        self._root = root
        self._cache = cache
        self._progress = progress or Silent()

    @property
    def keys(self) -> PersonKeys:
        return self._desk.keys

    def act(
        self, kind: str, path: str, *, case: str | None = None, body: Mapping[str, Any]
    ) -> Answer:
        """Sign an action under the newest verified directory and bring it; raises Refused and NotVerified."""
        version = self._directory().directory.version
        return self._desk.act(kind, path, directory=version, case=case, body=body)

    def sign_out(self) -> None:
        """End all sessions of this person; raises Refused."""
        self._desk.sign_out()

    def _directory(self) -> VerifiedDirectory:
        """Fetch and verify the directory; one version after the other, also when two commands run at once."""
        path = self._cache
        log = from_server(self._desk.transport, self._desk.patience)
        if path is None:
            return fetch_directory(self._get, self._root, None, log=log)
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = (path / "lock").open("w")
        except OSError:
            raise Usage(
                "The folder that remembers the directory cannot be written.", slug="cache-unusable"
            ) from None
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return fetch_directory(self._get, self._root, path, log=log)

    def _get(self, name: str) -> bytes | None:
        return self._desk.transport.get(f"/v1/directory/{name}", patience=self._desk.patience)
