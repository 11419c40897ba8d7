# SPDX-License-Identifier: AGPL-3.0-or-later
"""Commands about the server's part in the directory."""

import json
from pathlib import Path

import click

from amana.api.secrets import load_secrets
from amana.client.officer import online_keys
from amana.config import read_config


@click.group()
def directory() -> None:
    """The server's side of the officers' directory."""


@directory.command()
@click.option("--data", type=click.Path(path_type=Path), help="Folder of the service (AMANA_DATA).")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def keys(data: Path | None, as_json: bool) -> None:
    """Print the server's public keys, which the officers' root pins."""
    config = read_config(data)
    config.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    secrets = load_secrets(config.secrets, create=True)
    public = online_keys(secrets.online, secrets.directory_log, secrets.custody_log)
    click.echo(json.dumps(public, indent=None if as_json else 1))
