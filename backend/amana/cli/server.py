# SPDX-License-Identifier: AGPL-3.0-or-later
"""Commands of whoever runs the service: serve, migrate, maintain, doctor, demo, openapi."""

import ipaddress
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from flask import Flask

from amana.api.secrets import SecretsUnusable, rotate_tokens
from amana.api.services import Services
from amana.app import Surface, create_app, make_services
from amana.cli.tables import show
from amana.config import Config, ConfigInvalid, read_config
from amana.custody.publishing import LogForked
from amana.logs import configure_logs
from amana.ops import doctor as doctoring
from amana.ops.collector import Collector
from amana.ops.logkeeping import GOOD, standings
from amana.ops.maintenance import Report
from amana.ops.maintenance import maintain as do_what_is_due
from amana.ops.sequencer import Sequencer
from amana.ops.server import Server
from amana.ops.stamper import Stamper
from amana.storage.blobs import StoreUnavailable
from amana.storage.database import Database, DatabaseUnavailable
from amana.storage.migrations import head, migrate, revision
from amana.storage.stores import make_blobs

data_option = click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Folder of the service (AMANA_DATA, default ./var).",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


def _config(data: Path | None) -> Config:
    # Whatever the service writes is for its own user, the database and its journal too.
    os.umask(0o077)
    try:
        return read_config(data)
    except ConfigInvalid as error:
        raise click.UsageError(str(error)) from None


def _services(config: Config, *, create_secrets: bool = False) -> Services:
    try:
        return make_services(config, create_secrets=create_secrets)
    except SecretsUnusable as error:
        raise click.ClickException(str(error)) from None


def open_services(data: Path | None) -> Services:
    """Give what a command of the operator works with."""
    return _services(_config(data))


def _prepared(config: Config) -> None:
    """Make an empty database usable; one of another version is the operator's decision."""
    config.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    database = Database(config.database_url)
    try:
        found = revision(database)
        if found is None:
            migrate(database)
            make_blobs(config).prepare()
        elif found != head():
            raise click.UsageError("The database has another schema; run 'amana migrate' first.")
    finally:
        database.dispose()


@click.command()
@click.argument("surface", type=click.Choice([one.value for one in Surface]), default="all")
@click.option(
    "--listen", metavar="HOST:PORT", help="Listen on an address (default 127.0.0.1:8600)."
)
@click.option("--uds", type=click.Path(path_type=Path), help="Listen on a unix socket.")
@data_option
def serve(surface: str, listen: str | None, uds: Path | None, data: Path | None) -> None:
    """Serve intake, desk, or both, until interrupted."""
    if listen and uds:
        raise click.UsageError("Give --listen or --uds, not both.")
    configure_logs()
    config = _config(data)
    if Surface(surface) is not Surface.INTAKE and not config.trusted_hosts:
        _refuse_strangers(listen, uds)
    _prepared(config)
    services = _services(config, create_secrets=True)
    if Surface(surface) is not Surface.DESK:
        _check_logs(services)
    services.database.dispose()
    bind = f"unix:{uds.absolute()}" if uds else listen or "127.0.0.1:8600"
    shown = str(uds) if uds else f"http://{bind}"

    def ready() -> None:
        click.echo(f"Amana serves {surface} at {shown}", err=True)

    def make() -> Flask:
        services = make_services(config)
        app = create_app(services, Surface(surface))
        if Surface(surface) is not Surface.DESK:
            # The public process signs receipts with the log's key already; the desk needs it for nothing.
            app.extensions["amana.sequencer"] = Sequencer(services)
            app.extensions["amana.sequencer"].start()
            for name, kind in (("amana.collector", Collector), ("amana.stamper", Stamper)):
                app.extensions[name] = kind(
                    services,
                    Database(config.database_url, pool_size=2),
                    leads=lambda: bool(app.extensions["amana.sequencer"].leads),
                )
                app.extensions[name].start()
        return app

    def leaving(app: Flask) -> None:
        for name in ("amana.stamper", "amana.collector", "amana.sequencer"):
            if name in app.extensions:
                app.extensions[name].stop()

    Server(
        make, bind, workers=config.workers, threads=config.threads, ready=ready, leaving=leaving
    ).run()


def _refuse_strangers(listen: str | None, uds: Path | None) -> None:
    """Refuse to serve staff to others than this machine's users while any name is answered to.

    A proof is good for the address that the client was told, so whoever can lead a client to another name
    could carry its proofs here.
    """
    if uds is not None or (listen and not _is_this_machine(listen.rpartition(":")[0].strip("[]"))):
        raise click.UsageError(
            "Name the hosts that the desk is reached under, in AMANA_TRUSTED_HOSTS: others reach it"
            " here, and a proof of staff must be for one of its own names."
        )


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _check_logs(services: Services) -> None:
    """Refuse to serve when a log is forked; one that is frozen or damaged waits, while testimonies are taken."""
    try:
        found = standings(services)
    except (StoreUnavailable, DatabaseUnavailable):
        # The sequencer looks again before it does anything.
        return
    for log in found:
        if log.state == LogForked.slug:
            raise click.ClickException(f"{log.state}: {log.name}: {log.detail}")
        if log.state not in GOOD:
            click.echo(f"{log.state}: {log.name}: {log.detail}", err=True)


@click.command(name="migrate")
@data_option
@json_option
def migrate_command(data: Path | None, as_json: bool) -> None:
    """Create or upgrade the database, and the server's own keys where they are missing."""
    config = _config(data)
    config.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    services = _services(config, create_secrets=True)
    before = revision(services.database)
    migrate(services.database)
    services.blobs.prepare()
    say(
        {"from": before, "to": head()},
        as_json,
        lambda: f"The database went from {before or 'empty'} to {head()}.",
    )


@click.command(name="rotate-tokens")
@data_option
@json_option
def rotate_tokens_command(data: Path | None, as_json: bool) -> None:
    """Make a new key of access tokens. Running servers see it; nobody is signed out."""
    try:
        rotate_tokens(_config(data).secrets)
    except SecretsUnusable as error:
        raise click.ClickException(str(error)) from None
    say({"rotated": True}, as_json, lambda: "New access tokens are made with a new key.")


@click.command()
@data_option
@click.option(
    "--publish-drop",
    is_flag=True,
    help="Publish the dead drop's batch now, also a second time today. Whoever watches the drop sees that.",
)
@click.option(
    "--stamp",
    is_flag=True,
    help="Ask for time stamps now, also a second time in a round, as before an export.",
)
@click.option(
    "--scrub",
    is_flag=True,
    help="Read all that is stored now and compare it with its hashes, however much it is and whenever it was read.",
)
@json_option
def maintain(
    data: Path | None, publish_drop: bool, stamp: bool, scrub: bool, as_json: bool
) -> None:
    """Do what is due, and list what needs a person; for a timer, as often as you like, on any machine.

    The exit status is 0 also when something needs a person, and 1 when a duty could not be done.
    """
    configure_logs()
    report = do_what_is_due(
        _services(_config(data)), publish_now=publish_drop, stamp_now=stamp, scrub_now=scrub
    )
    if as_json:
        click.echo(json.dumps(asdict(report)))
    else:
        _show(report)
    sys.exit(1 if report.failed else 0)


def _show(report: Report) -> None:
    for name, value in report.done.items():
        if value:
            click.echo(f"{name}: {value}")
    for name in report.failed:
        click.echo(f"FAILED {name}", err=True)
    if not report.needs_a_person:
        click.echo("Nothing needs a person.")
        return
    columns = {"kind": "needs a person", "count": "", "what_to_do": "what to do", "about": "about"}
    show(columns, map(asdict, report.needs_a_person), "about")


@click.command()
@data_option
@json_option
def doctor(data: Path | None, as_json: bool) -> None:
    """Check the installation and say what is wrong with it."""
    checks = doctoring.examine(_config(data))
    healthy = all(check.ok for check in checks)
    document = {
        "healthy": healthy,
        "checks": [asdict(check) for check in checks],
    }
    say(
        document,
        as_json,
        lambda: "\n".join(f"{_sign(check)} {check.name}: {check.detail}" for check in checks),
    )
    sys.exit(0 if healthy else 1)


def _sign(check: doctoring.Check) -> str:
    if not check.ok:
        return "FAIL"
    return "WARN" if check.warning else "ok  "


@click.command()
@data_option
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="Folder for root and keys."
)
@click.option(
    "--cosigner",
    "cosigners",
    multiple=True,
    metavar="VKEY",
    help="Key of a cosigner that the root pins; repeat.",
)
@click.option("--quorum", type=click.IntRange(0), help="How many of them are needed; default: all.")
@json_option
def demo(
    data: Path | None, out: Path, cosigners: tuple[str, ...], quorum: int | None, as_json: bool
) -> None:
    """Make a demonstration organisation in the configured store. Its passphrase is public: never use it in earnest."""
    from amana.ops.demo import make_demo

    config = _config(data)
    _prepared(config)
    services = _services(config, create_secrets=True)
    desks = make_demo(services, out, cosigners, quorum)
    say(
        {"desks": desks},
        as_json,
        lambda: "\n".join(
            [
                f"The demonstration organisation is in {out} (passphrase: demo).",
                *(f"Desk {desk}: {', '.join(ids)}" for desk, ids in desks.items()),
            ]
        ),
    )


def say(document: dict[str, Any], as_json: bool, text: Callable[[], str]) -> None:
    click.echo(json.dumps(document) if as_json else text())
