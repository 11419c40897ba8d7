# SPDX-License-Identifier: AGPL-3.0-or-later
"""A codename that a witness chose to keep in a file, and how many testimonies were sent under it (docs/protocol.md §7)."""

import json
import os
from dataclasses import dataclass
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

    A number is taken before anything is sent under it and given back when the server refused, so
    that no two policies share a control key, which would show the server that one person made both.
    """

    path: Path
    codename: Codename
    next: int

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

    def take_number(self) -> int:
        """Return the number of a new testimony, and note durably that it is used."""
        number = self.next
        self._write(number + 1)
        return number

    def give_back(self, number: int) -> None:
        """Note that nothing was sent under the number that was taken last."""
        self._write(number)

    def _write(self, number: int) -> None:
        content = json.dumps({"codename": self.codename.digits(), "next": number}) + "\n"
        new = self.path.with_name(f"{self.path.name}.new")
        try:
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(content)
                file.flush()
                os.fsync(descriptor)
            new.replace(self.path)
        except OSError:
            raise Usage("The codename file cannot be written.", slug="codename-file") from None
        self.next = number
