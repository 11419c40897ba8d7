# SPDX-License-Identifier: AGPL-3.0-or-later
"""What commands print: one JSON object, or lines and tables for people; what came from a server is made harmless first."""

import json
import shutil
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click


def say(document: Mapping[str, Any], as_json: bool, *lines: str) -> None:
    """Print one JSON object, or lines for a person."""
    for line in [json.dumps(document)] if as_json else lines:
        click.echo(line)


def show(columns: Mapping[str, str], rows: Iterable[Mapping[str, Any]], *ids: str) -> None:
    """Print rows under titles, in the order of `columns` (member: title); `ids` are never cut."""
    from rich.console import Console
    from rich.table import Table

    # Without lines between columns, so that an id and a few words fit into 80 characters.
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for member, title in columns.items():
        is_id = member in ids
        table.add_column(title, min_width=32 if is_id else None, no_wrap=is_id, overflow="fold")
    for row in rows:
        table.add_row(*(harmless(row.get(member)) for member in columns))
    Console().print(table)


def show_blocks(columns: Mapping[str, str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Print each row as a block of lines, a title and its value: for what has more than fits side by side.

    Lines are broken between words alone, so that ids can be read out and copied whole.
    """
    indent = max(map(len, columns.values())) + 2
    width = shutil.get_terminal_size().columns
    for number, row in enumerate(rows):
        if number:
            click.echo()
        for member, title in columns.items():
            for line in textwrap.wrap(
                _line(row.get(member)),
                width,
                initial_indent=title.ljust(indent),
                subsequent_indent=" " * indent,
                break_long_words=False,
                break_on_hyphens=False,
            ):
                click.echo(line)


def _line(value: object) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(_line, value))
    return printable(_plain(value))[:300]


def harmless(value: object) -> str:
    """Return text without what would steer a terminal or be markup."""
    from rich.markup import escape

    if isinstance(value, Sequence) and not isinstance(value, str):
        return "\n".join(map(harmless, value))
    return escape(printable(_plain(value))[:300])


def printable(text: str) -> str:
    """Return a line of text without what would steer a terminal, as it is otherwise."""
    return "".join(filter(str.isprintable, text))


def _plain(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "", True: "yes", False: "no"}[value]
    return str(value) if isinstance(value, str | int) else ""
