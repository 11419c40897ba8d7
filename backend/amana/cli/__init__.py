# SPDX-License-Identifier: AGPL-3.0-or-later
"""The commands, thin over client and services. A witness's command loads no server code, and the other way round."""

import importlib
import sys

import click

from amana.client.errors import ClientError

_COMMANDS = {
    "demo": ("amana.cli.server", "demo"),
    "directory": ("amana.cli.directory", "directory"),
    "doctor": ("amana.cli.server", "doctor"),
    "maintain": ("amana.cli.server", "maintain"),
    "migrate": ("amana.cli.server", "migrate_command"),
    "officer": ("amana.cli.officer", "officer"),
    "reviewer": ("amana.cli.reviewer", "reviewer"),
    "serve": ("amana.cli.server", "serve"),
    "verify": ("amana.cli.verify", "verify"),
    "witness": ("amana.cli.witness", "witness"),
}


class _Lazy(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        module, attribute = _COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="amana")
def amana() -> None:
    """Testimony, sealed on the witness's device and brought to vetted reviewers."""


def main() -> None:
    """Run a command; a failure of the client ends with its exit status and one line on standard error."""
    try:
        amana(prog_name="amana")
    except ClientError as error:
        click.echo(f"{error.slug}: {error.title}", err=True)
        sys.exit(error.exit_status)
