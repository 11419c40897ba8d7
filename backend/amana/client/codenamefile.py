# SPDX-License-Identifier: AGPL-3.0-or-later
"""A codename that a witness chose to keep in a file, and how many testimonies were sent under it (docs/protocol.md §7)."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from amana.client.errors import Usage
from amana.protocol.codename import Codename
from amana.protocol.errors import ProtocolError

LIMIT_BYTES: Final = 4096
MAX_TESTIMONIES: Final = 1_000_000


@dataclass
class CodenameFile:
    """`{"codename": words or digits, "next": n}`; `next` is the number of the control key that is free.

    A number is taken before anything is sealed under it and given back only when nothing of that was
    sent, so that no two policies share a control key, which would show the server that one person made both.
    """

    path: Path
    codename: Codename
    next: int
    is_new: bool = field(default=False, compare=False)
    """Whether this object made the file."""

    @classmethod
    def open(cls, path: Path) -> "CodenameFile":
        """Read a codename, or make a fresh one where no file is; nothing is written yet."""
        if not path.exists():
            if not path.parent.is_dir():
                raise Usage("The folder of the codename file does not exist.", slug="codename-file")
            return cls(path, Codename.generate(), 0)
        try:
            with path.open("rb") as file:
                document = json.loads(file.read(LIMIT_BYTES))
            codename, number = document["codename"], document["next"]
            if type(number) is not int or not 0 <= number < MAX_TESTIMONIES:
                raise ValueError
            return cls(path, Codename.parse(codename), number)
        except ProtocolError as error:
            raise Usage(error.title, slug=error.slug) from None
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            raise Usage("This is not a codename file.", slug="codename-file") from None

    def take_number(self, at_least: int = 0) -> int:
        """Return the number of a new testimony, and note durably that it is used.

        `at_least` is where numbers are known to be free, on a phone that has only just been told the codename.
        """
        with self._alone():
            if self.path.exists():
                # Another command may have taken numbers, or made the file, since this one looked.
                there = CodenameFile.open(self.path)
                self.codename, self.next = there.codename, there.next
            else:
                self.is_new = True
            number = max(self.next, at_least)
            self._write(number + 1)
        return number

    def give_back(self, number: int) -> None:
        """Note that nothing was sent under a number; it stays used where another was taken after it."""
        with self._alone():
            there = CodenameFile.open(self.path)
            if (there.codename, there.next) != (self.codename, number + 1):
                return
            if self.is_new and number == 0:
                # Nothing was sent under this codename, so nobody needs it and nobody should find it.
                self.path.unlink()
            else:
                self._write(number)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other commands waiting; the folder is locked, since the file is replaced and a second one would tell."""
        try:
            folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            raise Usage("The codename file cannot be written.", slug="codename-file") from None
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)

    def _write(self, number: int) -> None:
        content = json.dumps({"codename": self.codename.digits(), "next": number}) + "\n"
        new = self.path.with_name(f"{self.path.name}.new")
        try:
            # Whatever stands there is not ours to write to: it may lead elsewhere, or others may read it.
            new.unlink(missing_ok=True)
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(content)
                file.flush()
                os.fsync(descriptor)
            new.replace(self.path)
        except OSError:
            raise Usage("The codename file cannot be written.", slug="codename-file") from None
        self.next = number
