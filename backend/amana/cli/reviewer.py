# SPDX-License-Identifier: AGPL-3.0-or-later
"""Commands of reviewers: make keys, list cases, open one."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from amana.client.errors import Usage
from amana.client.keyfile import PersonKeys, read_key, read_passphrase, write_key
from amana.client.progress import progress_for
from amana.client.reviewer import Reviewer
from amana.client.transport import Transport
from amana.protocol.directory import sign_intake_key

_path = click.Path(path_type=Path)
_server = click.option(
    "--server", envvar="AMANA_SERVER", required=True, help="Address of the desk (AMANA_SERVER)."
)
_root = click.option(
    "--root",
    envvar="AMANA_ROOT",
    required=True,
    type=_path,
    help="The officers' root (AMANA_ROOT).",
)
_key = click.option(
    "--key", envvar="AMANA_KEY", required=True, type=_path, help="Your key file (AMANA_KEY)."
)
_proxy = click.option("--proxy", help="socks5h://HOST:PORT, for Tor.")
_cache = click.option(
    "--directory-cache",
    envvar="AMANA_DIRECTORY_CACHE",
    type=_path,
    help="Folder that remembers directory versions, so that an older one is refused (default: beside the key).",
)
_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


@click.group()
def reviewer() -> None:
    """Read what was sealed to you."""


@reviewer.command()
@click.option("--out", type=_path, required=True, help="Folder for the key file.")
@click.option(
    "--role",
    type=click.Choice(["reviewer", "custodian", "administrator", "auditor"]),
    default="reviewer",
)
@_json
def init(out: Path, role: str, as_json: bool) -> None:
    """Make your keys on this device; the passphrase comes from AMANA_PASSPHRASE or a prompt."""
    keys = PersonKeys.generate(role)
    path = write_key(keys, out, read_passphrase(confirm=True))
    public: dict[str, Any] = {"id": keys.id, "signing_key": keys.signing.public}
    if keys.intake is not None:
        recipient = keys.intake.recipient
        public["intake_key"] = str(recipient)
        public["intake_key_sig"] = sign_intake_key(keys.signing, keys.id, recipient)
    if as_json:
        click.echo(json.dumps({"key": str(path), "public": public}))
    else:
        click.echo(
            f"Your keys are in {path}. Give the officers this, and compare it with them by voice:"
        )
        click.echo(json.dumps(public, indent=1))


@contextmanager
def _signed_in(
    server: str, root: Path, key: Path, proxy: str | None, cache: Path | None, as_json: bool
) -> Iterator[Reviewer]:
    try:
        trusted = root.read_bytes()
    except OSError:
        raise Usage("The root file cannot be read.") from None
    keys = read_key(key, read_passphrase())
    with Transport(server, proxy=proxy) as transport:
        yield Reviewer(
            transport,
            trusted,
            keys,
            cache=cache or key.with_name(f".{keys.id}.directory"),
            progress=progress_for(as_json=as_json),
        )


@reviewer.command()
@click.option("--desk", help="Only this desk.")
@click.option("--state", type=click.Choice(["received", "in-review"]), help="Only this state.")
@_server
@_root
@_key
@_proxy
@_cache
@_json
def cases(
    desk: str | None,
    state: str | None,
    server: str,
    root: Path,
    key: Path,
    proxy: str | None,
    directory_cache: Path | None,
    as_json: bool,
) -> None:
    """List the cases that were sealed to you, newest first."""
    with _signed_in(server, root, key, proxy, directory_cache, as_json) as signed_in:
        found = signed_in.cases(desk, state)
    if as_json:
        click.echo(json.dumps({"cases": found}))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("case", "desk", "state", "received", "language", "flags", "objects", "size")
    for one in found:
        table.add_row(
            *(
                str(one.get(name, ""))
                for name in ("case", "desk", "state", "received_on", "language")
            ),
            ", ".join(one.get("flags", [])),
            str(one.get("objects", "")),
            f"{one.get('size', 0) / 1e6:.1f} MB",
        )
    Console().print(table)


@reviewer.command(name="open")
@click.argument("case")
@click.option(
    "--out", type=_path, required=True, help="Folder for what is opened; it is made private."
)
@_server
@_root
@_key
@_proxy
@_cache
@_json
def open_case(
    case: str,
    out: Path,
    server: str,
    root: Path,
    key: Path,
    proxy: str | None,
    directory_cache: Path | None,
    as_json: bool,
) -> None:
    """Sign an opening, verify the case and write its files. Your opening is recorded."""
    with _signed_in(server, root, key, proxy, directory_cache, as_json) as signed_in:
        opened = signed_in.open(case, out)
    if as_json:
        click.echo(json.dumps({"case": opened.case, "out": str(out), "files": list(opened.files)}))
        return
    click.echo(f"Everything verified. {len(opened.files)} files are in {out}.")
    click.echo("Open them only on a machine without keys and without a network.")
