# SPDX-License-Identifier: AGPL-3.0-or-later
"""Commands that check what someone shows you; they need no key, and a network only to fetch it."""

import json
from dataclasses import asdict
from pathlib import Path

import click

from amana.cli.options import FILE, json_option, proxy_option, root_option
from amana.client.errors import NotVerified, Usage
from amana.client.log import fetch_proof, from_folder, from_server
from amana.client.transport import Transport
from amana.client.verify import (
    ROOT_LIMIT_BYTES,
    Check,
    check_logs,
    check_receipt_file,
    leaf_of,
    read_limited,
    read_state,
    write_state,
)
from amana.protocol.receipt import LIMIT_BYTES
from amana.protocol.tlogproof import LIMIT_BYTES as PROOF_LIMIT_BYTES
from amana.protocol.tlogproof import SUFFIX


@click.group()
def verify() -> None:
    """Check what someone shows you."""


@verify.command()
@click.argument("file", type=FILE)
@root_option
@click.option(
    "--proof",
    type=FILE,
    help="Proof that the log holds it; otherwise the one in FILE, or beside it as FILE.tlog-proof.",
)
@click.option("--server", help="Fetch a proof from this service instead.")
@proxy_option
@json_option
@click.pass_context
def receipt(
    ctx: click.Context,
    file: Path,
    root: Path,
    proof: Path | None,
    server: str | None,
    proxy: str | None,
    as_json: bool,
) -> None:
    """Check that FILE, a receipt or what 'witness send --json' printed, was signed by the service of ROOT.

    With a proof, also that the custody log holds what the receipt is about. Needs no network unless --server is given.
    """
    if proof and server:
        raise Usage("Give --proof or --server, not both.")
    content = read_limited(file, 2 * LIMIT_BYTES + PROOF_LIMIT_BYTES)
    trusted = read_limited(root, ROOT_LIMIT_BYTES)
    beside = file.with_name(file.name + SUFFIX)
    if proof is None and server is None and beside.is_file():
        proof = beside
    shown = read_limited(proof, PROOF_LIMIT_BYTES) if proof else None
    if server:
        leaf, key = leaf_of(content, trusted)
        with Transport(server, proxy=proxy) as transport:
            shown = bytes(fetch_proof(transport, key, leaf))
    _say(ctx, check_receipt_file(content, trusted, shown), "receipt", as_json)


@verify.command()
@click.option(
    "--server", envvar="AMANA_SERVER", help="Read the logs from this service (AMANA_SERVER)."
)
@click.option(
    "--dir",
    "folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Read them from a copy of their files.",
)
@root_option
@click.option(
    "--log",
    "names",
    type=click.Choice(["custody", "directory"]),
    multiple=True,
    help="Only this one.",
)
@click.option(
    "--state",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Remember here what was seen, and refuse what does not continue it.",
)
@proxy_option
@json_option
@click.pass_context
def log(
    ctx: click.Context,
    server: str | None,
    folder: Path | None,
    root: Path,
    names: tuple[str, ...],
    state: Path | None,
    proxy: str | None,
    as_json: bool,
) -> None:
    """Read the public logs whole: every entry and tile leads to the checkpoint that the log of ROOT signed."""
    trusted, chosen = read_limited(root, ROOT_LIMIT_BYTES), names or ("custody", "directory")
    seen = read_state(state) if state else {}
    if folder:
        checks = check_logs(from_folder(folder), trusted, chosen, seen)
    elif server:
        with Transport(server, proxy=proxy) as transport:
            checks = check_logs(from_server(transport), trusted, chosen, seen)
    else:
        raise Usage("Give --server or --dir.")
    if state:
        write_state(state, seen)
    _say(ctx, checks, "log", as_json)


def _say(ctx: click.Context, checks: list[Check], what: str, as_json: bool) -> None:
    verified = all(check.ok for check in checks)
    if as_json:
        document = {"verified": verified, "checks": [asdict(check) for check in checks]}
        click.echo(json.dumps(document))
    else:
        for check in checks:
            click.echo(f"{'ok  ' if check.ok else 'FAIL'} {check.name}: {check.detail}")
    if not verified:
        click.echo(f"{what}-invalid: The {what} does not verify.", err=True)
        ctx.exit(NotVerified.exit_status)
