# SPDX-License-Identifier: AGPL-3.0-or-later
"""Commands of officers: make a key, propose a directory, sign it, publish it. Files are carried by hand between them."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from amana.cli.options import json_option, proxy_option, server_option
from amana.client.errors import Usage
from amana.client.keyfile import PersonKeys, read_key, read_passphrase, write_key
from amana.client.officer import Proposal, new_root, pins, propose, read_json, sign
from amana.client.transport import Transport
from amana.protocol.encoding import canonical

_path = click.Path(path_type=Path)


@click.group()
def officer() -> None:
    """Vouch for readers: nothing is published that fewer than m officers signed."""


def _say(document: dict[str, Any], as_json: bool, text: str) -> None:
    click.echo(json.dumps(document) if as_json else text)


@officer.command()
@click.option("--out", type=_path, required=True, help="Folder for the key file; keep it offline.")
@json_option
def init(out: Path, as_json: bool) -> None:
    """Make an officer's key; the passphrase comes from AMANA_PASSPHRASE or a prompt."""
    keys = PersonKeys.generate("officer")
    path = write_key(keys, out, read_passphrase(confirm=True))
    public = {"id": keys.id, "public": keys.signing.public}
    _say(
        {"key": str(path), **public},
        as_json,
        f"Your key is in {path}.\nPublic: {keys.signing.public}",
    )


@officer.command(name="propose")
@click.option(
    "--from", "description", type=_path, required=True, help="Description of the directory (JSON)."
)
@click.option("--version", type=click.IntRange(1), required=True, help="Number of this version.")
@click.option(
    "--days",
    type=click.IntRange(1, 45),
    default=45,
    show_default=True,
    help="How long it is valid.",
)
@click.option("--out", type=_path, required=True, help="Folder for the proposal.")
@click.option(
    "--online", type=_path, help="First version: what 'amana directory keys --json' printed."
)
@click.option(
    "--officer", "officers", multiple=True, help="First version: public key of an officer; repeat."
)
@click.option("--root-threshold", type=click.IntRange(1), default=2, show_default=True)
@click.option("--targets-threshold", type=click.IntRange(1), default=2, show_default=True)
@json_option
def propose_command(
    description: Path,
    version: int,
    days: int,
    out: Path,
    online: Path | None,
    officers: tuple[str, ...],
    root_threshold: int,
    targets_threshold: int,
    as_json: bool,
) -> None:
    """Make an unsigned version of the directory; with --online and --officer also the first root."""
    fields = read_json(description)
    now = datetime.now(UTC)
    root = None
    if bool(online) != bool(officers):
        raise Usage("The first version needs both --online and --officer.")
    if online is not None:
        keys = read_json(online)
        try:
            root = new_root(
                list(officers),
                online=keys["online"],
                root_threshold=root_threshold,
                targets_threshold=targets_threshold,
                pins=pins(fields.get("deployment", ""), keys),
                now=now,
            )
        except (KeyError, TypeError, AttributeError):
            raise Usage("This is not what 'amana directory keys --json' printed.") from None
    if out.exists() and any(out.iterdir()):
        raise Usage("The folder for the proposal is not empty.")
    proposal = propose(fields, version=version, now=now, days=days, root=root)
    proposal.check(now)
    proposal.save(out)
    _say(
        {"proposal": str(out), "summary": proposal.summary()},
        as_json,
        "\n".join(proposal.summary()),
    )


@officer.command(name="sign")
@click.argument("proposal", type=_path)
@click.option(
    "--key", envvar="AMANA_KEY", type=_path, required=True, help="Your key file (AMANA_KEY)."
)
@json_option
def sign_command(proposal: Path, key: Path, as_json: bool) -> None:
    """Read what a proposal says, and add your signature."""
    loaded = Proposal.load(proposal)
    if not as_json:
        click.echo("\n".join(loaded.summary()))
    keys = read_key(key, read_passphrase())
    if keys.role != "officer":
        raise Usage("This is not an officer's key.")
    signed = sign(loaded, keys)
    loaded.save(proposal)
    count = len(loaded.targets.signatures)
    _say(
        {"signed": signed, "signatures": count, "summary": loaded.summary()},
        as_json,
        f"Signed: {', '.join(signed)}. The directory has {count} signature(s).",
    )


@officer.command()
@click.argument("proposal", type=_path)
@server_option
@proxy_option
@json_option
def publish(proposal: Path, server: str, proxy: str | None, as_json: bool) -> None:
    """Bring a signed proposal to the server, which accepts it for its signatures alone."""
    loaded = Proposal.load(proposal)
    with Transport(server, proxy=proxy) as transport:
        answer = transport.ask(
            "POST",
            "/v1/directory",
            headers={"Content-Type": "application/json"},
            content=canonical(loaded.bundle()),
        )
    if answer.status != 200:
        raise answer.refusal()
    version = answer.document().get("version")
    _say({"version": version}, as_json, f"Version {version} is published.")
