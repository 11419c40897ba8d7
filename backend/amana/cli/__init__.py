# SPDX-License-Identifier: AGPL-3.0-or-later
"""The command `amana`: each group is loaded when it is called, so that a witness's command never loads a server."""

from importlib import import_module
from typing import Any

import click

from amana.client.errors import ClientError
from amana.protocol.errors import ProtocolError

INTERRUPTED = 130
NOT_VERIFIED = 3

COMMANDS = {
    "serve": "amana.cli.server:serve",
    "demo": "amana.cli.server:demo",
    "migrate": "amana.cli.server:migrate_command",
    "rotate-tokens": "amana.cli.server:rotate_tokens_command",
    "maintain": "amana.cli.server:maintain",
    "doctor": "amana.cli.server:doctor",
    "officer": "amana.cli.officer:officer",
    "directory": "amana.cli.directory:directory",
    "log": "amana.cli.log:log",
    "reviewer": "amana.cli.reviewer:reviewer",
    "custodian": "amana.cli.vault:custodian",
    "admin": "amana.cli.admin:admin",
    "witness": "amana.cli.witness:witness",
    "cosigner": "amana.cli.cosigner:cosigner",
    "monitor": "amana.cli.monitor:monitor",
    "partner": "amana.cli.partner:partner",
    "verify": "amana.cli.verify:verify",
}


class LazyGroup(click.Group):
    """A group that imports a command when it is asked for, and ends with the status that a failure has."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[name].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ClientError as error:
            click.echo(f"{error.slug}: {error.title}", err=True)
            ctx.exit(error.exit_status)
        except ProtocolError as error:
            click.echo(f"{error.slug}: {error.title}", err=True)
            ctx.exit(NOT_VERIFIED)
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="amana")
def main() -> None:
    """Take sealed testimony of survivors and witnesses, and bring it to vetted reviewers.

    Exit status: 0 done; 1 refused by the server; 2 wrong usage; 3 what was received does not
    verify; 4 the network failed, and what was sent so far is kept.
    """
