# SPDX-License-Identifier: AGPL-3.0-or-later
"""How the custody of a case is shown, to whoever fetches it and to whoever checks it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from amana.cli.tables import show_blocks
from amana.client.newfile import reserved
from amana.protocol.custody import Custody

COLUMNS = ("what", "who", "when", "authority", "signature", "proof")

page_option = click.option(
    "--html",
    "page",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A new file for one page in Arabic and English, without scripts.",
)


def show_custody(found: Custody) -> None:
    """Print the events of a case, one block for each."""
    show_blocks({one: one for one in COLUMNS}, found.events)


@contextmanager
def page_at(path: Path | None) -> Iterator[Callable[[Callable[[], str]], None]]:
    """Make the file of a page before the work that it will show, and give what writes it; raises Usage.

    Without a path nothing is made.
    """
    if path is None:
        yield lambda _page: None
        return
    with reserved(path) as write:
        yield lambda page: write(page().encode("utf-8"))
