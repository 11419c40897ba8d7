# SPDX-License-Identifier: AGPL-3.0-or-later
"""Commands of a partner who runs a cosigner: make its key, serve it. Loads nothing of the service."""

import json
import signal
import threading
from pathlib import Path

import click

from amana.client.errors import Usage
from amana.cosigner.heads import Heads, StateUnusable
from amana.cosigner.judging import Judge
from amana.cosigner.keys import create_key, read_key
from amana.cosigner.server import Server
from amana.protocol.checkpoint import KeyType, NoteKey

_path = click.Path(path_type=Path)
key_option = click.option(
    "--key", "key_file", type=_path, required=True, help="File of the cosigner's key."
)
state_option = click.option(
    "--state", type=_path, required=True, help="Folder that remembers the newest tree of each log."
)


@click.group()
def cosigner() -> None:
    """Watch that the logs of a service only grow (C2SP tlog-witness)."""


@cosigner.command()
@click.option(
    "--name", required=True, help="Name of the key, as cosigner.example/1: whose it is, and which."
)
@key_option
@state_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def init(name: str, key_file: Path, state: Path, as_json: bool) -> None:
    """Make a key and its state, and print the public key, which the officers' root pins."""
    try:
        vkey = create_key(key_file, name).vkey
        Heads.create(state, vkey)
    except StateUnusable as error:
        raise Usage(str(error), slug="state-unusable") from None
    document = {"vkey": vkey, "key": str(key_file), "state": str(state)}
    click.echo(json.dumps(document) if as_json else vkey)


@cosigner.command()
@click.option(
    "--listen", metavar="HOST:PORT", required=True, help="Address to listen on, behind a proxy."
)
@key_option
@state_option
@click.option(
    "--log", "logs", multiple=True, metavar="VKEY", help="Public key of a log to watch; repeat."
)
@click.option(
    "--root",
    "roots",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A service's root file instead, whose two logs are watched; repeat.",
)
def serve(
    listen: str, key_file: Path, state: Path, logs: tuple[str, ...], roots: tuple[Path, ...]
) -> None:
    """Cosign checkpoints of the given logs, until interrupted."""
    watched = [*map(_log, logs), *(log for root in roots for log in _logs_of(root))]
    if not watched:
        raise Usage("Give --log or --root: which logs are to be watched?")
    host, port = _address(listen)
    try:
        name, key = read_key(key_file)
        heads = Heads.take(state, NoteKey(name, KeyType.COSIGNER, key.public).vkey)
    except StateUnusable as error:
        raise Usage(str(error), slug="state-unusable") from None
    try:
        server = Server((host, port), Judge(name, key, watched, heads))
    except OSError:
        raise Usage("The address cannot be listened on.", slug="address-in-use") from None
    with server:
        # shutdown() waits for the loop that the signal interrupted, so another thread calls it.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
        click.echo(f"The cosigner {name} serves at http://{listen}, {len(watched)} logs", err=True)
        server.serve_forever(poll_interval=0.1)
    heads.close()


def _log(vkey: str) -> NoteKey:
    key = NoteKey.parse(vkey)
    if key.type is not KeyType.LOG:
        raise Usage("--log takes the key of a log, not of a cosigner.", slug="vkey-invalid")
    return key


def _logs_of(root: Path) -> list[NoteKey]:
    # Reading a root needs the libraries of a client; --log does not.
    from amana.client.directory import read_root
    from amana.client.verify import ROOT_LIMIT_BYTES, read_limited

    pins = read_root(read_limited(root, ROOT_LIMIT_BYTES))
    return [pins.directory_log, pins.custody_log]


def _address(listen: str) -> tuple[str, int]:
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise Usage("--listen takes HOST:PORT.")
    return host.strip("[]") or "127.0.0.1", int(port)
