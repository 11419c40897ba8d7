# SPDX-License-Identifier: AGPL-3.0-or-later
"""Commands of reviewers: make keys, list cases, open one."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import wraps
from pathlib import Path
from typing import Any

import click

from amana.cli.interruption import interruptible
from amana.cli.options import FILE, json_option, proxy_option, root_option, server_option
from amana.client.errors import NetworkFailed
from amana.client.keyfile import PersonKeys, read_key, read_passphrase, write_key
from amana.client.progress import progress_for
from amana.client.reviewer import ListedCase, Reviewer
from amana.client.transport import Transport
from amana.client.verify import ROOT_LIMIT_BYTES, read_limited
from amana.protocol.directory import fingerprint, sign_intake_key

FOLDER = click.Path(file_okay=False, path_type=Path)

key_option = click.option(
    "--key", envvar="AMANA_KEY", required=True, type=FILE, help="Your key file (AMANA_KEY)."
)
cache_option = click.option(
    "--directory-cache",
    envvar="AMANA_DIRECTORY_CACHE",
    type=FOLDER,
    help="Folder that remembers which directory was seen, so that an older one is refused"
    " (AMANA_DIRECTORY_CACHE; default: beside the key).",
)


def as_reader(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say who asks and whom, as one `reader`."""

    @server_option
    @root_option
    @key_option
    @proxy_option
    @cache_option
    @json_option
    @wraps(command)
    def with_reader(
        server: str,
        root: Path,
        key: Path,
        proxy: str | None,
        directory_cache: Path | None,
        as_json: bool,
        **rest: Any,
    ) -> None:
        with _reader(server, root, key, proxy, directory_cache, as_json) as reader:
            command(reader=reader, as_json=as_json, **rest)

    return with_reader


@contextmanager
def _reader(
    server: str, root: Path, key: Path, proxy: str | None, cache: Path | None, as_json: bool
) -> Iterator[Reviewer]:
    trusted = read_limited(root, ROOT_LIMIT_BYTES)
    keys = read_key(key, read_passphrase())
    with Transport(server, proxy=proxy) as transport:
        yield Reviewer(
            transport,
            trusted,
            keys,
            cache=cache or key.with_name(f".{keys.id}.directory"),
            progress=progress_for(as_json=as_json),
        )


@click.group()
def reviewer() -> None:
    """Read what was sealed to you."""


@reviewer.command()
@click.option("--out", type=FOLDER, required=True, help="Folder for the key file.")
@click.option(
    "--role",
    type=click.Choice(["reviewer", "custodian", "administrator", "auditor"]),
    default="reviewer",
    show_default=True,
)
@json_option
def init(out: Path, role: str, as_json: bool) -> None:
    """Make your keys on this device; the passphrase comes from AMANA_PASSPHRASE or a prompt."""
    keys = PersonKeys.generate(role)
    path = write_key(keys, out, read_passphrase(confirm=True))
    public = {"id": keys.id, "signing_key": keys.signing.public}
    if keys.intake is not None:
        public["intake_key"] = str(keys.intake.recipient)
        public["intake_key_sig"] = sign_intake_key(keys.signing, keys.id, keys.intake.recipient)
    shown = fingerprint(public)
    if as_json:
        click.echo(json.dumps({"key": str(path), "fingerprint": shown, "public": public}))
        return
    click.echo(f"Your keys are in {path}. Give this to the officers:\n", err=True)
    click.echo(json.dumps(public, indent=1))
    click.echo(f"\nRead this fingerprint to them by voice: {shown}", err=True)


@reviewer.command()
@click.option("--desk", help="Only this desk.")
@click.option("--state", type=click.Choice(["received", "in-review"]), help="Only this state.")
@as_reader
def cases(reader: Reviewer, desk: str | None, state: str | None, as_json: bool) -> None:
    """List the cases that were sealed to you, newest first."""
    found = reader.cases(desk, state)
    if as_json:
        click.echo(json.dumps({"cases": [asdict(one) for one in found]}))
    elif found:
        _print_table(found)
    else:
        click.echo("No case waits for you.")


def _print_table(found: list[ListedCase]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table()
    # The id is what a person copies into the next command, so it is never cut.
    table.add_column("case", min_width=32, no_wrap=True)
    for title in ("desk", "state", "received", "language", "flags", "objects", "size"):
        table.add_column(title, overflow="fold")
    for one in found:
        table.add_row(
            one.case,
            one.desk,
            one.state,
            one.received_on,
            one.language,
            ", ".join(one.flags),
            str(one.objects),
            f"{one.size / 1e6:.1f} MB",
        )
    Console().print(table)


@reviewer.command(name="open")
@click.argument("case")
@click.option("--out", type=FOLDER, required=True, help="Folder for what is opened.")
@as_reader
def open_case(reader: Reviewer, case: str, out: Path, as_json: bool) -> None:
    """Sign an opening, verify CASE and write its files. That you opened it is recorded."""
    try:
        with interruptible():
            opened = reader.open(case, out)
    except NetworkFailed:
        click.echo("What arrived is kept as it is sealed; to go on, repeat the command.", err=True)
        raise
    for warning in opened.warnings:
        click.echo(f"Note: {warning}", err=True)
    if as_json:
        click.echo(json.dumps({**asdict(opened), "folder": str(opened.folder)}))
        return
    click.echo(f"Everything verified. {len(opened.files)} files are in {out}.")
    click.echo("Open them only on a device without keys and without a network.")
