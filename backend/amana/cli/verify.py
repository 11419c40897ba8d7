# SPDX-License-Identifier: AGPL-3.0-or-later
"""Commands that check what someone shows you; they need no key and no network."""

import json
from dataclasses import asdict
from pathlib import Path

import click

from amana.cli.options import FILE, json_option, root_option
from amana.client.errors import NotVerified
from amana.client.verify import ROOT_LIMIT_BYTES, check_receipt_file, read_limited
from amana.protocol.receipt import LIMIT_BYTES


@click.group()
def verify() -> None:
    """Check what someone shows you."""


@verify.command()
@click.argument("file", type=FILE)
@root_option
@json_option
@click.pass_context
def receipt(ctx: click.Context, file: Path, root: Path, as_json: bool) -> None:
    """Check that FILE, a receipt or what 'witness send --json' printed, was signed by the service of ROOT."""
    checks = check_receipt_file(
        read_limited(file, 2 * LIMIT_BYTES), read_limited(root, ROOT_LIMIT_BYTES)
    )
    verified = all(check.ok for check in checks)
    if as_json:
        document = {"verified": verified, "checks": [asdict(check) for check in checks]}
        click.echo(json.dumps(document))
    else:
        for check in checks:
            click.echo(f"{'ok  ' if check.ok else 'FAIL'} {check.name}: {check.detail}")
    if not verified:
        click.echo("receipt-invalid: The receipt does not verify.", err=True)
        ctx.exit(NotVerified.exit_status)
