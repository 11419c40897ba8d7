# SPDX-License-Identifier: AGPL-3.0-or-later
"""Commands of whoever runs the service about the public logs (docs/operating.md)."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import click

from amana.api.services import Services
from amana.cli.server import data_option, json_option, open_services, say
from amana.errors import Refusal
from amana.ops import logkeeping
from amana.storage.blobs import StoreUnavailable
from amana.storage.database import DatabaseUnavailable


@click.group()
def log() -> None:
    """The public logs, from the inside."""


@log.command()
@click.option("--whole", is_flag=True, help="Compare every file with the database; takes a while.")
@data_option
@json_option
@click.pass_context
def status(ctx: click.Context, whole: bool, data: Path | None, as_json: bool) -> None:
    """Say how each log stands; changes nothing. Exit status 1 if one may not go on."""
    with _opened(data) as services:
        found = logkeeping.standings(services, whole=whole)
    good = all(one.state in logkeeping.GOOD for one in found)
    say(
        {"good": good, "logs": [asdict(one) for one in found]},
        as_json,
        lambda: "\n".join(
            f"{one.state} {one.name}: {one.size} leaves, {one.published or 0} published,"
            f" {one.waiting} waiting; {one.detail}"
            for one in found
        ),
    )
    ctx.exit(0 if good else 1)


@log.command()
@click.argument("name")
@data_option
@json_option
def recover(name: str, data: Path | None, as_json: bool) -> None:
    """Make lost or damaged files of the log NAME anew, from the database or from its other files."""
    with _opened(data) as services:
        done = logkeeping.recover_log(services, name)
    say(
        {"files": done.files, "leaves": done.leaves},
        as_json,
        lambda: (
            f"{done.files} files were put anew, {done.leaves} leaves came back into the database."
        ),
    )


@log.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@data_option
@json_option
def freeze(name: str, yes: bool, data: Path | None, as_json: bool) -> None:
    """Stop the log NAME for good, after database and objects were both restored; a new root must pin another."""
    if not yes:
        click.confirm("The log will never go on. Freeze it?", abort=True, err=True)
    with _opened(data) as services:
        logkeeping.freeze_log(services, name)
    say({"frozen": name}, as_json, lambda: f"The log {name} is frozen.")


@contextmanager
def _opened(data: Path | None) -> Iterator[Services]:
    services = open_services(data)
    try:
        yield services
    except Refusal as refused:
        raise click.ClickException(f"{refused.slug}: {refused.title}") from None
    except (StoreUnavailable, DatabaseUnavailable):
        raise click.ClickException("The database or the object store does not answer.") from None
    finally:
        services.database.dispose()
