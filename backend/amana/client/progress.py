# SPDX-License-Identifier: AGPL-3.0-or-later
"""What long work shows to a person: one bar on the terminal's error stream, and nothing where there is no terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Advance = Callable[[int], None]
"""Told how much more is done, in the unit of the step."""


class Progress(Protocol):
    """Shows the steps of some work."""

    def step(
        self, label: str, total: int | None = None, *, done: int = 0
    ) -> AbstractContextManager[Advance]:
        """Show a step of `total` bytes, or one of unknown length, for as long as it lasts."""
        ...


class Silent:
    """Shows nothing: for --json, for pipes, for callers of the library."""

    @contextmanager
    def step(self, _label: str, _total: int | None = None, *, done: int = 0) -> Iterator[Advance]:  # noqa: ARG002
        yield lambda _count: None


class Bars:
    """Shows bars on the terminal and removes each when its step ends. Labels never hold a file name."""

    @contextmanager
    def step(self, label: str, total: int | None = None, *, done: int = 0) -> Iterator[Advance]:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        amount = (DownloadColumn(), TimeRemainingColumn()) if total is not None else ()
        columns = (TextColumn("{task.description}"), BarColumn(), *amount)
        with RichProgress(*columns, console=Console(stderr=True), transient=True) as bars:
            task = bars.add_task(label, total=total, completed=done)
            yield lambda count: bars.advance(task, count)


def progress_for(*, as_json: bool) -> Progress:
    """Return bars where a person looks on."""
    return Bars() if sys.stderr.isatty() and not as_json else Silent()
