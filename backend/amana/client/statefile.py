# SPDX-License-Identifier: AGPL-3.0-or-later
"""What an interrupted sending keeps on disk: sealed bytes, addresses, what verifies the receipt. Nothing that opens them.

No case key, codename, file name, plaintext or hash of one ever comes here; whoever finds it learns
that something was being sent, where to, how large, and the clear policy.
"""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, BinaryIO, Final

from amana.client.errors import Usage
from amana.protocol.encoding import b64, unb64
from amana.protocol.errors import ProtocolError
from amana.protocol.submission import CheckedSubmission, Limits, Submission, check_submission

LIMIT_BYTES: Final = 2 * 1024 * 1024
# The server decides what it takes; a state made under other limits is still to be sent.
_ANY: Final = Limits(object_bytes=2**53, case_bytes=2**53)
_SEALED_NAME: Final = re.compile(r"[0-9]{1,2}\.age")


@dataclass(frozen=True)
class Sending:
    """A testimony on its way: what is sent, where to, and how far that came."""

    server: str
    proxy: str | None
    deployment: str
    custody_log_origin: str
    custody_log_key: str
    submission: Submission
    admission: bytes | None = None
    """The price paid last."""
    uploads: dict[int, str] = field(default_factory=dict)
    """Where each object is uploaded to; empty until the server took the submission."""
    completion: str | None = None

    @property
    def announced(self) -> bool:
        """Tell whether the server took the submission."""
        return self.completion is not None

    def checked(self) -> CheckedSubmission:
        """Return the submission with its parts read."""
        return check_submission(self.submission, _ANY)


class StateFile:
    """A sending on disk: a JSON file and beside it a folder of sealed objects; owned by one process at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.folder = path.with_name(f"{path.name}.d")

    def begin(self) -> None:
        """Make the folder for sealed objects; refuses to touch a sending that is not finished."""
        if self.path.exists():
            raise Usage(
                f"{self.path} holds a sending that is not finished: run 'amana witness resume {self.path}'.",
                slug="state-exists",
            )
        # A folder without its file is what a killed process left: sealed to a key that is gone.
        self._clear_folder()
        if self.folder.exists():
            raise Usage(f"{self.folder} holds other files.", slug="state-exists")
        self.folder.mkdir(mode=0o700, parents=True)

    def sealed_path(self, i: int) -> Path:
        """Return where the sealed object i rests."""
        return self.folder / f"{i}.age"

    @contextmanager
    def writing_sealed(self, i: int) -> Iterator[BinaryIO]:
        """Give a new file for the sealed object i, durable when this ends."""
        descriptor = os.open(self.sealed_path(i), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(descriptor)

    def save(self, sending: Sending) -> None:
        """Write the state durably, whole or not at all."""
        parts = {one.name: b64(getattr(sending.submission, one.name)) for one in fields(Submission)}
        document = {
            **{k: v for k, v in asdict(sending).items() if k != "submission"},
            "v": 1,
            "submission": parts,
            "admission": b64(sending.admission) if sending.admission else None,
            "uploads": {str(i): location for i, location in sending.uploads.items()},
        }
        new = self.folder / "new"
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(json.dumps(document).encode("ascii"))
            file.flush()
            os.fsync(descriptor)
        new.replace(self.path)
        for folder in (self.folder, self.path.parent):
            _sync(folder)

    def load(self) -> Sending:
        """Read a state and check that all of it is there."""
        try:
            with self.path.open("rb") as file:
                data = file.read(LIMIT_BYTES + 1)
        except OSError:
            raise Usage("There is no state file to resume.", slug="no-state") from None
        try:
            if len(data) > LIMIT_BYTES:
                raise ValueError
            sending = _parsed(_json(data))
            for item in sending.checked().objects:
                if self.sealed_path(item.i).stat().st_size != item.size:
                    raise ValueError
        except (ProtocolError, ValueError, LookupError, TypeError, AttributeError, OSError):
            raise Usage("The state file is damaged or incomplete.", slug="bad-state") from None
        return sending

    def remove(self) -> None:
        """Delete the state and every sealed object."""
        self.path.unlink(missing_ok=True)
        self._clear_folder()

    def _clear_folder(self) -> None:
        """Delete our own files only: the place was named by a person, who may have erred."""
        if self.folder.is_symlink() or not self.folder.is_dir():
            return
        for path in self.folder.iterdir():
            if path.name == "new" or _SEALED_NAME.fullmatch(path.name):
                path.unlink()
        with suppress(OSError):
            self.folder.rmdir()


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError from None


def _parsed(document: dict[str, Any]) -> Sending:
    if document["v"] != 1:
        raise ValueError
    parts = document["submission"]
    return Sending(
        server=str(document["server"]),
        proxy=None if document["proxy"] is None else str(document["proxy"]),
        deployment=str(document["deployment"]),
        custody_log_origin=str(document["custody_log_origin"]),
        custody_log_key=str(document["custody_log_key"]),
        submission=Submission(**{one.name: unb64(parts[one.name]) for one in fields(Submission)}),
        admission=None if document["admission"] is None else unb64(document["admission"]),
        uploads={int(i): str(location) for i, location in document["uploads"].items()},
        completion=None if document["completion"] is None else str(document["completion"]),
    )


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
