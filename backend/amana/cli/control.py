# SPDX-License-Identifier: AGPL-3.0-or-later
"""Commands of a witness who comes back with the codename alone: how it stands, replies, another consent, withdrawal."""

import sys
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import click

from amana.cli.options import FILE, json_option, proxy_option, root_option, server_option
from amana.cli.tables import printable, say
from amana.client.codenamefile import CodenameFile
from amana.client.control import (
    Delivered,
    Line,
    Release,
    Standing,
    cannot_be_recalled,
    deliver,
    write_queue,
)
from amana.client.directory import read_root
from amana.client.errors import Refused, Usage
from amana.client.replies import read_replies
from amana.client.transport import Patience, Transport, check_server
from amana.client.verify import ROOT_LIMIT_BYTES, read_limited
from amana.protocol.codename import Codename, thread_keys
from amana.protocol.consent import answer, widest_identity
from amana.protocol.directory import RootPins
from amana.protocol.encoding import check_id
from amana.protocol.errors import ProtocolError
from amana.protocol.policy import ANSWERS, IDENTITY_LEVELS, is_scope, next_policy
from amana.protocol.reply import Reply

codename_option = click.option(
    "--codename-file",
    type=FILE,
    help="The file that keeps the codename; without it you are asked for the codename.",
)
attempts_option = click.option(
    "--attempts",
    type=click.IntRange(1, 1000),
    default=6,
    show_default=True,
    help="How often to try again without any progress.",
)
pause_option = click.option(
    "--longest-pause",
    type=click.FloatRange(0, 3600),
    default=4.0,
    show_default=True,
    help="Seconds to wait at most between two questions; longer hides better that they belong together.",
)


def parse_scopes(
    _ctx: click.Context, _parameter: click.Parameter, values: tuple[str, ...]
) -> dict[str, str]:
    """Read SCOPE=ANSWER; refuses what is no scope or no answer."""
    scopes = {}
    for value in values:
        scope, _, given = value.partition("=")
        if not is_scope(scope) or given not in ANSWERS:
            raise click.BadParameter("write SCOPE=allow, SCOPE=deny or SCOPE=ask.")
        scopes[scope] = given
    return scopes


def read_codename(path: Path | None) -> Codename:
    """Return the codename that a file keeps, or that is typed."""
    if path is not None:
        return CodenameFile.open(path).codename
    if sys.stdin.isatty():
        text = click.prompt("Your codename, as words or digits", hide_input=True, err=True)
    else:
        text = sys.stdin.readline(4096)
    try:
        return Codename.parse(text)
    except ProtocolError as error:
        raise Usage(error.title, slug=error.slug) from None


def _pins(root: Path) -> RootPins:
    return read_root(read_limited(root, ROOT_LIMIT_BYTES))


def line_to(way: dict[str, Any], codename: Codename | None = None) -> Line:
    """Return the way to a server that a command's options (`_way`) describe, under the codename unless it is given."""
    check_server(way["server"], way["proxy"])
    pins = _pins(way["root"])
    return Line(
        connect=_connecting(way["server"], way["proxy"]),
        thread=thread_keys(
            (codename or read_codename(way["codename_file"])).master(pins.deployment)
        ),
        pins=pins,
        patience=Patience(way["attempts"]),
        pause_seconds=way["longest_pause"],
    )


def _connecting(server: str, proxy: str | None) -> Callable[[], Transport]:
    return lambda: Transport(server, proxy=proxy)


def _chosen(line: Line, cases: Sequence[str]) -> list[Standing]:
    """Return the testimonies that are meant: those named, or all."""
    try:
        wanted = {check_id(case) for case in cases}
    except ProtocolError as error:
        raise Usage(error.title, slug=error.slug) from None
    found = []
    for standing in line.standings():
        if not wanted or standing.case in wanted:
            found.append(standing)
            if wanted and len(found) == len(wanted):
                break
    if len(found) < len(wanted):
        raise Usage("A case is not one of this codename's.", slug="case-not-yours")
    return found


def _told(standing: Standing) -> dict[str, Any]:
    """Return what a status prints: what counts today, and what the newest version asks for."""
    today = datetime.now(UTC).date()
    consent: dict[str, Any] = {}
    if standing.entries:
        newest = standing.policy
        scopes = sorted({scope for entry in standing.entries for scope in entry.policy.scopes})
        consent = {
            "scopes": {scope: answer(standing.entries, scope, today) for scope in scopes},
            "identity_level": widest_identity(standing.entries, today),
            "asked_for": {
                "scopes": dict(newest.scopes),
                "identity_level": newest.identity_level,
                "received_on": standing.entries[-1].received_on.isoformat(),
            },
        }
    return {
        "case": standing.case,
        "state": standing.state,
        "consent": consent,
        "opened": [{"reader": reader, "day": day.isoformat()} for reader, day in standing.opened],
        "asked": [day.isoformat() for day in standing.asked],
        "releases": [_release(one) for one in standing.releases],
        "exports": [
            {
                "to": one.to,
                "purpose": one.purpose,
                "identity_level": one.identity_level,
                "state": one.state,
                "requested_on": one.requested_on.isoformat(),
                "exported_on": None if one.exported_on is None else one.exported_on.isoformat(),
            }
            for one in standing.exports
        ],
        "withdrawal": _days(standing.withdrawal),
        "ends_on": None if standing.ends_on is None else standing.ends_on.isoformat(),
        "expired": _days(standing.expired),
    }


def _release(one: Release) -> dict[str, Any]:
    return {
        name: value.isoformat() if isinstance(value, date) else value
        for name, value in vars(one).items()
    }


def _release_line(one: dict[str, Any]) -> str:
    what = {"identity": "who you are was released", "originals": "your originals were released"}
    seen = f"seen on {one['opened_on']}" if one["opened_on"] else "not seen yet"
    to = f" to hand it to {one['to']}" if one["to"] else ""
    return (
        f"  {what[one['vault']]} on {one['released_on']} to {one['reader']} for {one['purpose']}{to}, until"
        f" {one['expires_on']}; {seen}"
    )


def _days(told: object) -> dict[str, str | None] | None:
    if told is None:
        return None
    return {name: None if day is None else day.isoformat() for name, day in vars(told).items()}


def _lines(told: dict[str, Any]) -> list[str]:
    lines = [f"{told['case']}: {told['state']}"]
    consent = told["consent"]
    if consent:
        scopes = ", ".join(f"{name}={given}" for name, given in consent["scopes"].items())
        lines.append(
            f"  consent today: {scopes or 'nothing'}; identity: {consent['identity_level']}"
        )
        asked = consent["asked_for"]
        later = {
            name: given
            for name, given in asked["scopes"].items()
            if consent["scopes"].get(name) != given
        }
        if later or asked["identity_level"] != consent["identity_level"]:
            more = ", ".join(f"{name}={given}" for name, given in later.items())
            lines.append(
                f"  asked for on {asked['received_on']}, and waiting for its delay:"
                f" {more or 'no scope'}; identity: {asked['identity_level']}"
            )
    lines += [f"  opened by {one['reader']} on {one['day']}" for one in told["opened"]]
    lines += [
        f"  a reader asked you on {day}; see 'amana witness replies'" for day in told["asked"]
    ]
    lines += [_release_line(one) for one in told["releases"]]
    for one in told["exports"]:
        when = f"went on {one['exported_on']}" if one["exported_on"] else f"is {one['state']}"
        who = (
            ""
            if one["identity_level"] == IDENTITY_LEVELS[0]
            else ", with who you are or your originals"
        )
        lines.append(f"  export to {one['to']} for {one['purpose']}{who}: {when}")
    if told["withdrawal"]:
        gone = told["withdrawal"]["destroyed_on"]
        day = told["withdrawal"]["destroy_on"]
        if gone:
            lines.append(f"  destroyed on {gone}")
        elif day <= datetime.now(UTC).date().isoformat():
            lines.append("  withdrawn; it is being destroyed")
        else:
            lines.append(f"  withdrawn; destroyed on {day}, until then it can be taken back")
        lines.append(f"  backups hold it until {told['withdrawal']['backups_until']} at the latest")
    if told["ends_on"]:
        lines.append(
            f"  it was kept for as long as was planned, and is destroyed on {told['ends_on']} unless the desk keeps it"
        )
    if told["expired"]:
        lines.append(f"  its time was over on {told['expired']['expired_on']}; it is destroyed")
        lines.append(f"  backups hold it until {told['expired']['backups_until']} at the latest")
    return lines


_WAY = (server_option, root_option, codename_option, proxy_option, attempts_option, pause_option)


def _way(command: Any) -> Any:
    """Give a command the options by which a witness reaches a server with a codename."""
    for option in reversed((*_WAY, json_option)):
        command = option(command)
    return command


@click.command()
@_way
def status(as_json: bool, **way: Any) -> None:
    """Tell how your testimonies stand, what you allow, and who opened them.

    The server is asked about one after the other. Whoever runs it can guess from the time that they are one
    person's; Tor hides whose.
    """
    line = line_to(way)
    found = [_told(one) for one in line.standings()]
    lines = [text for one in found for text in _lines(one)]
    say({"testimonies": found}, as_json, *(lines or ["There is no testimony under this codename."]))


@click.command()
@_way
def replies(as_json: bool, **way: Any) -> None:
    """Read what readers asked you. Everybody downloads the same, so nobody sees whether something was for you.

    What no reader of your desk signed is shown too, as NOT VERIFIED: somebody else may be writing to you.
    """
    line = line_to(way)
    found = read_replies(line, read_limited(way["root"], ROOT_LIMIT_BYTES))
    told = [
        {
            "case": one.case,
            "text": one.text,
            "sent_on": one.sent_on,
            "verified": one.verified,
        }
        for one in found.replies
    ]
    say(
        {"replies": told, "incomplete": found.incomplete, "unreadable": found.unreadable},
        as_json,
        *(text for one in found.replies for text in _reply_lines(one)),
        *(["A reply is not whole; look again tomorrow."] if found.incomplete else []),
        *(["Something was sealed to you that is no reply."] if found.unreadable else []),
        *([] if found.replies else ["No reply is waiting for you."]),
    )


def _reply_lines(reply: Reply) -> list[str]:
    signed = "" if reply.verified else "  NOT VERIFIED: no reader of your desk signed this for you"
    return [
        f"{reply.case}, {reply.sent_on}{signed}",
        *(f"   {printable(line)}" for line in reply.text.splitlines()),
    ]


@click.command()
@click.argument("cases", metavar="[CASE]...", nargs=-1)
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    metavar="SCOPE=allow|deny|ask",
    callback=parse_scopes,
    help="What changes; everything else stays as it is.",
)
@click.option("--identity-level", type=click.Choice(IDENTITY_LEVELS))
@_way
def consent(
    cases: tuple[str, ...],
    scopes: dict[str, str],
    identity_level: str | None,
    as_json: bool,
    **way: Any,
) -> None:
    """Change what your testimonies may be used for: less at once, more only after the delay that you chose."""
    if not scopes and identity_level is None:
        raise Usage("Say what changes: --scope or --identity-level.", slug="nothing-to-change")
    line = line_to(way)
    done = []
    for one in _chosen(line, cases):
        if one.is_over:
            continue
        policy = next_policy(
            line.thread.control(one.number),
            one.policy,
            scopes={**one.policy.scopes, **scopes},
            identity_level=identity_level or one.policy.identity_level,
            made_on=datetime.now(UTC).date().isoformat(),
        )
        done.append(_told(line.say(one, "consent", policy)))
    lines = [text for one in done for text in _lines(one)]
    say({"changed": done}, as_json, *(lines or ["There is no testimony to change."]))


@click.command()
@click.argument("cases", metavar="[CASE]...", nargs=-1)
@click.option("--take-back", is_flag=True, help="Take a withdrawal back, before it is carried out.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--offline",
    "queue",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Ask no server: write signed withdrawals to this file, for `amana witness deliver` on any device.",
)
@click.option(
    "--count",
    type=click.IntRange(1, 100),
    help="With --offline: how many testimonies were sent; else what the codename file says, or 3.",
)
@_way
def withdraw(
    cases: tuple[str, ...],
    take_back: bool,
    yes: bool,
    queue: Path | None,
    count: int | None,
    as_json: bool,
    **way: Any,
) -> None:
    """Withdraw your testimonies: nobody reads them from now on, and after the delay they are destroyed."""
    if queue is not None:
        if cases or take_back:
            raise Usage("A queued withdrawal is of all testimonies.", slug="queue-of-all")
        _write_queue(queue, count, way, as_json)
        return
    line = line_to(way)
    found = _chosen(line, cases)
    if take_back:
        done = [line.say(one, "take-back") for one in found if _can_be_taken_back(one)]
        back = [one.case for one in done]
        say({"taken_back": back}, as_json, *(f"{case} is kept." for case in back), *_none(back))
        return
    chosen = [one for one in found if not one.is_over]
    _confirm(chosen, yes=yes)
    done = [line.say(one, "withdraw") for one in chosen]
    days = [one.withdrawal.destroy_on.isoformat() for one in done if one.withdrawal]
    honest = cannot_be_recalled(done)
    document = {
        "withdrawn": [one.case for one in done],
        "destroyed_on": max(days, default=None),
        "cannot_be_recalled": honest,
    }
    lines = [text for one in done for text in _lines(_told(one))]
    if any(one["what"] in {"opened", "released"} for one in honest):
        lines.append("What somebody has read cannot be taken from them.")
    if any(one["what"] == "exported" for one in honest):
        lines.append("What was handed to a partner cannot be taken back from here; ask them.")
    say(document, as_json, *(lines or _none(done)))


def _can_be_taken_back(standing: Standing) -> bool:
    return standing.withdrawal is not None and standing.withdrawal.destroyed_on is None


def _none(found: Sequence[object]) -> list[str]:
    return [] if found else ["There is nothing to do under this codename."]


def _confirm(chosen: Sequence[Standing], *, yes: bool) -> None:
    if yes or not chosen:
        return
    if not sys.stdin.isatty():
        raise Usage("Give --yes to withdraw without being asked.", slug="not-confirmed")
    for one in chosen:
        click.echo("\n".join(_lines(_told(one))), err=True)
    if not click.confirm("Withdraw these testimonies?", err=True):
        raise Usage("Nothing was withdrawn.", slug="not-confirmed")


def _write_queue(path: Path, count: int | None, way: dict[str, Any], as_json: bool) -> None:
    file = way["codename_file"]
    known = CodenameFile.open(file).next if file else 0
    pins = _pins(way["root"])
    thread = thread_keys(read_codename(file).master(pins.deployment))
    number = count or known or 3
    write_queue(path, thread, pins, number)
    say(
        {"queued": number},
        as_json,
        f"Withdrawals of {number} testimonies are in {path}. Bring it to a network within 40 days:"
        " amana witness deliver. It opens nothing; whoever finds it can see that you sent something.",
    )


@click.command(name="deliver")
@click.argument("queue", type=FILE)
@server_option
@root_option
@proxy_option
@attempts_option
@pause_option
@json_option
@click.pass_context
def deliver_queue(
    ctx: click.Context,
    queue: Path,
    server: str,
    root: Path,
    proxy: str | None,
    attempts: int,
    longest_pause: float,
    as_json: bool,
) -> None:
    """Send withdrawals that were signed without a network, and delete their file; no codename is needed."""
    check_server(server, proxy)
    done: Delivered = deliver(
        queue, _connecting(server, proxy), _pins(root), Patience(attempts), longest_pause
    )
    say(
        {"withdrawn": list(done.cases), "unknown": done.unknown, "refused": list(done.refused)},
        as_json,
        *(f"{case} is withdrawn." for case in done.cases),
        *(f"One was refused: {slug}" for slug in done.refused),
        *_none([*done.cases, *done.refused]),
    )
    if done.refused:
        click.echo("What was refused is still as it was; ask for its status.", err=True)
        ctx.exit(Refused.exit_status)
