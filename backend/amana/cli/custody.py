# SPDX-License-Identifier: AGPL-3.0-or-later
"""How the custody of a case is shown, to whoever fetches it and to whoever checks it."""

from pathlib import Path

import click

from amana.cli.tables import show_blocks
from amana.client.newfile import write_new
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


def write_page(path: Path, text: str) -> None:
    """Write a page into a new file; raises Usage where there is one."""
    write_new(path, text.encode("utf-8"))
