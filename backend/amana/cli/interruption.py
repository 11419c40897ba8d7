# SPDX-License-Identifier: AGPL-3.0-or-later
"""How work that holds plaintext ends when the terminal closes or the system stops it."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def interruptible() -> Iterator[None]:
    """Let a closed terminal and SIGTERM end the work as Ctrl-C does, so that plaintext copies are removed."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = {
        number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
