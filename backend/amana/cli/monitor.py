# SPDX-License-Identifier: AGPL-3.0-or-later
"""The command of whoever watches a service from outside: an officer's machine, a partner, a journalist."""

import json
from datetime import UTC, datetime
from pathlib import Path

import click

from amana.cli.options import FILE, json_option, proxy_option, root_option, server_option
from amana.client.expectations import Expectations
from amana.client.log import from_server
from amana.client.monitor import Monitor, Report, Unexpected, locked
from amana.client.officer import printable
from amana.client.transport import Patience, Transport
from amana.client.verify import ROOT_LIMIT_BYTES, read_limited


@click.command()
@server_option
@root_option
@proxy_option
@click.option(
    "--state",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="File that remembers what was seen; evidence of a fork is kept beside it.",
)
@click.option("--expect", type=FILE, help="What the officers announced ('amana officer expect').")
@click.option(
    "--accept",
    multiple=True,
    type=click.IntRange(1),
    metavar="VERSION",
    help="Accept this version of the directory, and its root, though nobody announced it; repeat.",
)
@json_option
@click.pass_context
def monitor(
    ctx: click.Context,
    server: str,
    root: Path,
    proxy: str | None,
    state: Path,
    expect: Path | None,
    accept: tuple[int, ...],
    as_json: bool,
) -> None:
    """Follow both public logs, and tell what the officers did not announce.

    Exit status: 0 nothing unexpected; 1 a directory, root or key that nobody announced; 2 wrong usage, or a damaged
    state; 3 something does not verify: a fork, a log that became shorter, cosigners missing; 4 the network failed.
    """
    with locked(state), Transport(server, proxy=proxy) as transport:
        report = Monitor(
            lambda path: transport.get(f"/v1/directory/{path}", patience=Patience()),
            from_server(transport, Patience()),
            read_limited(root, ROOT_LIMIT_BYTES),
            state,
            expected=Expectations.read(expect) if expect else None,
            accept=frozenset(accept),
            now=datetime.now(UTC),
        ).look()
    click.echo(json.dumps(report.document()) if as_json else "\n".join(_lines(report)))
    ctx.exit(report.exit_status)


def _lines(report: Report) -> list[str]:
    lines = [f"{report.deployment}: directory {report.directory or 'unknown'}"]
    for name, said in sorted(report.logs.items()):
        lines.append(f"log {name}: " + ", ".join(f"{what} {count}" for what, count in said.items()))
    for one in report.problems:
        where = f" ({one.log})" if one.log else ""
        lines.append(f"FAIL {one.slug}{where}: {one.title}")
        if one.evidence:
            lines.append(f"     The evidence is in {one.evidence}. Keep it and tell others.")
    lines += map(_line, report.unexpected)
    if not report.problems and not report.unexpected:
        lines.append("Nothing unexpected.")
    return [printable(line) for line in lines]


def _line(one: Unexpected) -> str:
    if one.person is None:
        return f"NOT ANNOUNCED {one.what} {one.version}"
    return f"NOT ANNOUNCED {one.what} of {one.person} ({one.place}) in directory {one.version}: {one.key}"
