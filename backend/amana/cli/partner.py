# SPDX-License-Identifier: AGPL-3.0-or-later
"""Commands of partners, who receive what a witness lets go to them. They need no network and reach into nothing."""

import json
from datetime import UTC, datetime
from pathlib import Path

import click

from amana.cli.options import FILE, json_option, root_option
from amana.cli.reviewer import show_fingerprint
from amana.cli.staff import key_option, public_option, write_public
from amana.cli.tables import say
from amana.cli.verify import authorities_in, authority_option, show_checks
from amana.client.errors import NotVerified, Usage
from amana.client.handover import receive as receive_bundle
from amana.client.keyfile import (
    PersonKeys,
    public_document,
    read_key,
    read_passphrase,
    write_key_to,
)
from amana.client.newfile import refuse_taken, reserved
from amana.client.progress import progress_for
from amana.client.verify import ROOT_LIMIT_BYTES, answer, read_limited
from amana.protocol.encoding import canonical


@click.group()
def partner() -> None:
    """Receive testimonies that their witnesses let go to you (docs/playbooks.md, "A partner receives testimonies")."""


partner.add_command(show_fingerprint)


@partner.command()
@click.option(
    "--key",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="A new file for your keys.",
)
@public_option
@json_option
def init(key: Path, public_file: Path | None, as_json: bool) -> None:
    """Make your keys on your own machine; the passphrase comes from AMANA_PASSPHRASE or a prompt.

    Nothing is sent anywhere: give the public part to the officers, and read the fingerprint to them by voice.
    """
    for path in filter(None, (key, public_file)):
        refuse_taken(path)
    keys = PersonKeys.generate("partner")
    write_key_to(key, keys, read_passphrase(confirm=True))
    document = public_document(keys)
    if public_file is not None:
        write_public(public_file, document)
    say(
        {"key": str(key), **document},
        as_json,
        f"Your keys are in {key}. You are called {keys.id}.",
        f"Read this fingerprint to the officers by voice: {document['fingerprint']}",
    )


@partner.command(name="age-identity")
@key_option
def age_identity(key: Path) -> None:
    """Print your secret key as the public tool 'age' reads it, for 'age -d -i': to check bundles without Amana.

    Send it into a file that only you can read, and delete that file afterwards.
    """
    click.echo(
        "Warning: whoever has this line opens every bundle that was ever sealed to you, without your passphrase.",
        err=True,
    )
    keys = read_key(key, read_passphrase())
    if keys.role != "partner" or keys.intake is None:
        raise Usage("This is not a partner's key.", slug="not-a-partner")
    click.echo(str(keys.intake))


@partner.command()
@click.argument("file", type=FILE)
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="A new folder for the bundle."
)
@click.option(
    "--receipt",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="A new file for your signed receipt, which goes back to whoever brought you the bundle.",
)
@root_option
@key_option
@authority_option
@json_option
@click.pass_context
def receive(
    ctx: click.Context,
    file: Path,
    out: Path,
    receipt: Path,
    root: Path,
    key: Path,
    authorities: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Open the sealed bundle FILE with your key, check all of it, and sign for it."""
    with reserved(receipt) as write:
        received = receive_bundle(
            file,
            read_key(key, read_passphrase()),
            read_limited(root, ROOT_LIMIT_BYTES),
            out,
            datetime.now(UTC).date(),
            progress_for(as_json=as_json),
            authorities_in(authorities),
            lambda signed: write(canonical(signed)),
        )
    verified = received.receipt is not None
    if as_json:
        click.echo(json.dumps({**answer(received.checks), "verified": verified}))
    else:
        show_checks(received.checks)
        if verified:
            click.echo(f"\nThe bundle is in {out}. Give {receipt} back to whoever brought it.")
    if not verified:
        click.echo("bundle-invalid: The bundle does not verify; nothing was kept.", err=True)
        ctx.exit(NotVerified.exit_status)
