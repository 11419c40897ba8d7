# SPDX-License-Identifier: AGPL-3.0-or-later
"""Commands of readers who need to know who a witness is, or an original: ask custodians, and open what they release."""

from dataclasses import asdict
from pathlib import Path

import click

from amana.cli.interruption import interruptible
from amana.cli.staff import FOLDER, as_staff
from amana.cli.tables import harmless, say
from amana.client.errors import NetworkFailed
from amana.client.releases import OwnRelease, ReleaseReader
from amana.protocol.release import MAX_DAYS
from amana.protocol.vault import IDENTITY, ORIGINALS

as_release_reader = as_staff(ReleaseReader, "reader")
originals_option = click.option(
    "--originals",
    is_flag=True,
    help="The untouched originals of cleaned files, instead of the identity.",
)


def _vault(originals: bool) -> str:
    return ORIGINALS if originals else IDENTITY


@click.command(name="request-identity")
@click.argument("case")
@originals_option
@click.option(
    "--reason", required=True, help="Why; the custodians read it, and nobody else besides you."
)
@click.option(
    "--purpose",
    required=True,
    help="For what, a use that the witness allowed: contact, review, icc, iiim, national_court:DE …"
    " The server and the witness see this word.",
)
@click.option(
    "--to",
    metavar="ID",
    help="The partner to whom it is to be handed with 'reviewer export'; without it, it is for you alone.",
)
@click.option(
    "--days",
    type=click.IntRange(1, MAX_DAYS),
    required=True,
    help="For how many days the release works.",
)
@as_release_reader
def request_identity(
    reader: ReleaseReader,
    case: str,
    originals: bool,
    reason: str,
    purpose: str,
    to: str | None,
    days: int,
    as_json: bool,
) -> None:
    """Ask the custodians to release who the witness of CASE is. They see who asks, for what and why.

    Another request for the same replaces the one before.
    """
    made = reader.request_release(
        case, _vault(originals), purpose=purpose, to=to, days=days, reason=reason
    )
    say(
        asdict(made),
        as_json,
        f"The custodians are asked; {made.k} of them are needed. The request works until {made.expires_on}.",
        f"It is called {made.request}.",
    )


@click.command()
@click.argument("case")
@originals_option
@click.option("--out", type=FOLDER, help="Folder for what is released; without it, how it stands.")
@as_release_reader
def identity(
    reader: ReleaseReader, case: str, originals: bool, out: Path | None, as_json: bool
) -> None:
    """Open who the witness of CASE is, once enough custodians have answered.

    That you did is recorded, and the witness is told.
    """
    if out is None:
        found = [one for one in reader.releases(case) if one.vault == _vault(originals)]
        lines = [text for one in found for text in _lines(one)]
        say(
            {"releases": [asdict(one) for one in found]}, as_json, *(lines or ["Nobody was asked."])
        )
        return
    try:
        with interruptible():
            released = reader.open_vault(case, _vault(originals), out)
    except NetworkFailed:
        click.echo("What arrived is kept as it is sealed; to go on, repeat the command.", err=True)
        raise
    for subset in released.wrong:
        click.echo(
            f"Note: the shares of {', '.join(subset)} did not fit together; one of them is wrong.",
            err=True,
        )
    say(
        {**asdict(released), "folder": str(out)},
        as_json,
        f"Everything verified. {_files(len(released.files))} in {out}, for the purpose {released.purpose}.",
        f"After {released.expires_on} the server gives nothing of it any more. What you have seen stays seen:"
        " delete these files when the purpose is over, and show them to nobody whom it does not cover.",
    )


def _files(count: int) -> str:
    return "1 file is" if count == 1 else f"{count} files are"


def _lines(one: OwnRelease) -> list[str]:
    shared = sum(answer.answer == "shared" for answer in one.answers)
    how = one.ended_because or ("released" if one.released_on else f"{shared} of {one.k} shared")
    to = f" to hand to {one.to}" if one.to else ""
    lines = [f"{one.request}: {one.vault} for {one.purpose}{to}, until {one.expires_on}: {how}"]
    lines += [
        f"  {answer.custodian} {answer.answer} on {answer.answered_on}"
        + (f": {harmless(answer.reason)}" if answer.reason else "")
        for answer in one.answers
    ]
    return lines
