# SPDX-License-Identifier: AGPL-3.0-or-later
"""Commands that check what someone shows you; they need a network only to fetch it, and a key only for what is sealed."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import click
from cryptography.x509 import Certificate

from amana.cli.custody import page_at, page_option, show_custody
from amana.cli.options import FILE, json_option, proxy_option, root_option
from amana.cli.tables import harmless
from amana.client.bundle import opened_bundle, size_of
from amana.client.bundlecheck import NOT_PROVEN, check_bundle, read_contents
from amana.client.custodycheck import NOT_PROVEN as NOT_IN_CUSTODY
from amana.client.custodycheck import check_custody, read_custody
from amana.client.custodypage import CHECKS, custody_page
from amana.client.directory import newest_pins, read_root
from amana.client.errors import NotVerified, Usage
from amana.client.keyfile import read_key, read_passphrase
from amana.client.log import fetch_proof, from_folder, telling_damage
from amana.client.progress import progress_for
from amana.client.transport import Transport
from amana.client.verify import (
    ROOT_LIMIT_BYTES,
    Check,
    answer,
    check_logs,
    check_receipt_file,
    holds,
    read_limited,
    read_state,
    write_state,
)
from amana.protocol.checkpoint import NoteKey
from amana.protocol.custody import LIMIT_BYTES as CUSTODY_LIMIT_BYTES
from amana.protocol.directory import RootPins
from amana.protocol.errors import ProtocolError
from amana.protocol.receipt import LIMIT_BYTES
from amana.protocol.sealing import Identity
from amana.protocol.timestamp import CHAIN_LIMIT_BYTES, read_roots
from amana.protocol.tlogproof import LIMIT_BYTES as PROOF_LIMIT_BYTES
from amana.protocol.tlogproof import SUFFIX

IDENTITY_LIMIT_BYTES = 64 * 1024
authority_option = click.option(
    "--authority",
    "authorities",
    type=FILE,
    multiple=True,
    help="Certificates (PEM) of an authority of time stamps whose word counts for you; get them from itself.",
)
ANSWERS = {True: "proven", False: "NOT", None: "-"}
PROVEN = {
    "root": "The officers of the service vouch for what follows",
    "files": "The bundle is whole, and nothing in it was altered",
    "directory": "The officers vouched for everybody who signed",
    "maker": "A reader of the service put this together",
    "receipt": "The service received the testimony on this day at the latest",
    "ciphertext": "These are the sealed files that arrived",
    "content": "The content is what the witness's program sealed",
    "derivatives": "Translations and redactions, with source and maker",
    "custody": "Who did what with the case, each act signed",
    "log": "All of it stands in the public log, unchanged",
    "order": "The arrival comes first, and no event lacks its ground",
    "stamps": "When it existed at the latest, by the clock of somebody outside",
    "policy": "What the witness allowed, in the witness's own signature",
    "export": "One person asked for this export, and another approved it",
    "consent": "The witness's consent covers recipient and purpose",
    "identity": "Of the witness's identity it holds what custodians released for this, or nothing",
}


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

    With a proof, also that the custody log holds what the receipt is about, and whether the cosigners of the root vouch
    for that; a line that begins with "-" was not shown. Needs no network unless --server is given.
    """
    if proof and server:
        raise Usage("Give --proof or --server, not both.")
    content = read_limited(file, 2 * LIMIT_BYTES + PROOF_LIMIT_BYTES)
    trusted = read_limited(root, ROOT_LIMIT_BYTES)
    beside = file.with_name(file.name + SUFFIX)
    if proof is None and server is None and beside.is_file():
        proof = beside
    shown = read_limited(proof, PROOF_LIMIT_BYTES) if proof else None
    fetch = _proofs_of(server, proxy) if server else None
    _say(ctx, check_receipt_file(content, trusted, shown, fetch), "receipt", as_json)


def _proofs_of(server: str, proxy: str | None) -> Callable[[NoteKey, bytes], bytes]:
    def fetch(key: NoteKey, leaf: bytes) -> bytes:
        with Transport(server, proxy=proxy) as transport:
            return bytes(fetch_proof(telling_damage(transport), key, leaf))

    return fetch


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
    """Read the public logs whole: every entry and tile must lead to the checkpoint that the log signed.

    Where the root asks for cosigners, so many must vouch for that tree or its beginning.
    From a server, the logs are those of the newest root that follows from ROOT; from a folder, those of ROOT.
    """
    trusted, chosen = read_limited(root, ROOT_LIMIT_BYTES), names or ("custody", "directory")
    seen = read_state(state) if state else {}
    if folder:
        checks = check_logs(from_folder(folder), lambda: read_root(trusted), chosen, seen)
    elif server:
        with Transport(server, proxy=proxy) as transport:

            def follow() -> RootPins:
                return newest_pins(lambda name: transport.get(f"/v1/directory/{name}"), trusted)

            checks = check_logs(telling_damage(transport), follow, chosen, seen)
    else:
        raise Usage("Give --server or --dir.")
    if state:
        write_state(state, seen)
    _say(ctx, checks, "log", as_json)


@verify.command()
@click.argument("place", metavar="FILE_OR_DIR", type=click.Path(exists=True, path_type=Path))
@root_option
@click.option(
    "--identity",
    type=FILE,
    help="What opens a sealed bundle: your key file, or a file with AGE-SECRET-KEY-PQ-1….",
)
@authority_option
@json_option
@click.pass_context
def bundle(
    ctx: click.Context,
    place: Path,
    root: Path,
    identity: Path | None,
    authorities: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Check an exported bundle: a folder, its archive, or the sealed file. Nothing is written."""
    trusted = authorities_in(authorities)
    key = None if identity is None else _identity(identity)
    with (
        opened_bundle(place, key) as entries,
        progress_for(as_json=as_json).step("Checking", size_of(place)) as advance,
    ):
        contents = read_contents(entries, advance)
    checks = check_bundle(contents, read_limited(root, ROOT_LIMIT_BYTES), trusted)
    _say(ctx, checks, "bundle", as_json, show=show_checks)


@verify.command()
@click.argument("file", type=FILE)
@root_option
@page_option
@json_option
@click.pass_context
def custody(ctx: click.Context, file: Path, root: Path, page: Path | None, as_json: bool) -> None:
    """Check FILE, which 'reviewer custody CASE --json' printed: signatures, directory, proofs and cosigners. Offline."""
    with page_at(page) as write:
        content = read_limited(file, CUSTODY_LIMIT_BYTES)
        checks = check_custody(content, read_limited(root, ROOT_LIMIT_BYTES))
        if any(one.name == "form" and one.ok for one in checks):
            found = read_custody(content)
            write(lambda: custody_page(found, checks))
            if not as_json:
                show_custody(found)
    _say(ctx, checks, "custody", as_json, show=_show_custody_checks)


def _show_custody_checks(checks: Sequence[Check]) -> None:
    proven = {name: words[0] for name, words in CHECKS.items()}
    show_checks(checks, proven, [words for _, words in NOT_IN_CUSTODY], "custody")


def authorities_in(paths: Sequence[Path]) -> list[Certificate]:
    """Return the certificates of authorities whose word counts. Raises Usage."""
    trusted: list[Certificate] = []
    for path in paths:
        try:
            trusted += read_roots(read_limited(path, CHAIN_LIMIT_BYTES))
        except ProtocolError as error:
            raise Usage(f"{path}: {error.title}", slug=error.slug) from None
    return trusted


def _identity(path: Path) -> Identity | None:
    content = read_limited(path, IDENTITY_LIMIT_BYTES)
    lines = [one.strip() for one in content.splitlines()]
    for line in lines:
        if line.startswith(b"AGE-SECRET-KEY-PQ-1"):
            return Identity.parse(line.decode("ascii", "replace"))
    return read_key(path, read_passphrase()).intake


def show_checks(
    checks: Sequence[Check],
    proven: Mapping[str, str] = PROVEN,
    not_proven: Sequence[str] = NOT_PROVEN,
    what: str = "bundle",
) -> None:
    """Print a table for somebody who is no engineer: what was proven, what was not, what cannot be."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for title in ("", "what", "found"):
        table.add_column(title, overflow="fold")
    for one in checks:
        title = proven.get(one.name, one.name)
        table.add_row(ANSWERS[one.ok], title, harmless(one.detail.split("; ")))
    Console().print(table)
    click.echo(f"\nNo {what} can prove:")
    for one_more in not_proven:
        click.echo(f"  - {one_more}")


def _show_lines(checks: Sequence[Check]) -> None:
    for check in checks:
        word = "-   " if check.ok is None else "ok  " if check.ok else "FAIL"
        click.echo(f"{word} {check.name}: {check.detail}")


def _say(
    ctx: click.Context,
    checks: list[Check],
    what: str,
    as_json: bool,
    *,
    show: Callable[[Sequence[Check]], None] = _show_lines,
) -> None:
    if as_json:
        click.echo(json.dumps(answer(checks)))
    else:
        show(checks)
    if not all(map(holds, checks)):
        click.echo(f"{what}-invalid: The {what} does not verify.", err=True)
        ctx.exit(NotVerified.exit_status)
