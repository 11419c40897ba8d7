# SPDX-License-Identifier: AGPL-3.0-or-later
"""Commands of custodians: see what readers ask, share or decline, and pass shares on when custodians change."""

import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click

from amana.cli import reviewer
from amana.cli.options import json_option
from amana.cli.staff import FOLDER, as_staff, public_option
from amana.cli.tables import harmless, say
from amana.client.custodian import Asked, Custodian, Unverified
from amana.client.errors import Usage
from amana.client.keyfile import PersonKeys, change_key
from amana.client.reviewer import spent_keys

as_custodian = as_staff(Custodian, "custodian")


@click.group()
def custodian() -> None:
    """Hold shares of the keys to identities and originals; k of n custodians open one, none alone."""


for command in (
    reviewer.enrol,
    reviewer.show_fingerprint,
    reviewer.replace_key_command,
    reviewer.sign_out,
    reviewer.conflict,
):
    custodian.add_command(command)


@custodian.command()
@click.option("--out", type=FOLDER, required=True, help="Folder for the key file.")
@public_option
@json_option
@click.pass_context
def init(ctx: click.Context, out: Path, public_file: Path | None, as_json: bool) -> None:
    """Make your keys on this device; the passphrase comes from AMANA_PASSPHRASE or a prompt."""
    ctx.invoke(reviewer.init, out=out, role="custodian", public_file=public_file, as_json=as_json)


@custodian.command()
@as_custodian
def pending(custodian: Custodian, as_json: bool) -> None:
    """List what readers ask of you: each was verified on this device, or says what does not hold."""
    found = custodian.pending()
    good = [one for one in found if isinstance(one, Asked)]
    bad = [one for one in found if isinstance(one, Unverified)]
    document = {
        "requests": [asdict(one) for one in good],
        "not_verified": [asdict(one) for one in bad],
    }
    lines = [text for one in good for text in _lines(one)]
    for one in bad:
        click.echo(f"{one.request} DOES NOT VERIFY ({one.slug}): {one.title}", err=True)
    say(document, as_json, *(lines or ["Nobody asks for anything."]))


def _lines(one: Asked) -> list[str]:
    return [
        f"{one.request}",
        f"  {one.vault} of the case {one.case}, for the purpose {one.purpose}",
        *(
            []
            if one.to is None
            else [f"  TO BE HANDED TO THE PARTNER {one.to}, who keeps it: that cannot be recalled"]
        ),
        f"  asked by {one.reader} ({', '.join(one.desks)}) on {one.requested_on}, until {one.last_day};"
        f" {one.shared} of {one.k} shared",
        *(
            []
            if one.granted_by_witness
            else ["  a colleague handed the case to them, not the witness"]
        ),
        *(f"  | {harmless(line)}" for line in one.reason.splitlines()),
    ]


@custodian.command()
@click.argument("request")
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_custodian
def share(custodian: Custodian, request: str, yes: bool, as_json: bool) -> None:
    """Seal your shares to the reader of REQUEST. With k of you the reader learns who the witness is, for good."""
    if not yes:
        if not sys.stdin.isatty():
            raise Usage("Give --yes to share without being asked.", slug="not-confirmed")
        for line in _lines(custodian.look_at(request)):
            click.echo(line, err=True)
        if not click.confirm("Release your share to this reader?", err=True):
            raise Usage("Nothing was shared.", slug="not-confirmed")
    released = custodian.share(request)
    told = "Enough custodians have shared: it is released." if released else "Others are needed."
    say(
        {"request": request, "released": released},
        as_json,
        f"Your shares are sealed to the reader. {told}",
    )


@custodian.command()
@click.argument("request")
@click.option("--reason", required=True, help="Sealed to the reader who asks.")
@as_custodian
def decline(custodian: Custodian, request: str, reason: str, as_json: bool) -> None:
    """Decline REQUEST, once and for all."""
    custodian.decline(request, reason)
    say({"declined": request}, as_json, "You declined; the reader is told why.")


@custodian.command(name="re-share")
@click.option("--destroy-old", is_flag=True, help="Remove former keys once nothing needs them.")
@as_custodian
@click.pass_obj
def re_share(
    opened_with: tuple[Path, str], custodian: Custodian, destroy_old: bool, as_json: bool
) -> None:
    """Pass on what custodians who left held, or what is sealed to a key that was replaced.

    Together with your colleagues' it makes new shares for those whom the directory lists now. Nobody holds a key
    meanwhile. It is done once as many of you as a vault needs have run this; it may be repeated at any time.
    """
    done = custodian.share_anew()
    kept, destroyed = _former_keys(custodian, *opened_with, destroy_old=destroy_old)
    for case in done.lost:
        click.echo(
            f"Too few custodians are left for {case}: nobody can open its vault any more.", err=True
        )
    say(
        {**asdict(done), "kept": kept, "destroyed": destroyed},
        as_json,
        f"{len(done.complete)} cases are complete, {len(done.waiting)} wait for your colleagues.",
        *(
            f"The former key {one['intake_key']} stays at least until {one['kept_until']}:"
            f" {one['shares']} shares are sealed to it."
            for one in kept
        ),
        *(
            f"The former key {name} is destroyed; destroy old copies of the key file too."
            for name in destroyed
        ),
    )


def _former_keys(
    custodian: Custodian, path: Path, passphrase: str, *, destroy_old: bool
) -> tuple[list[dict[str, object]], list[str]]:
    """Note in the key file which keys the directory does not list any more, and remove those that nothing needs."""
    if not custodian.keys.former:
        return [], []
    today, held = datetime.now(UTC).date(), custodian.held_keys()

    def note_and_destroy(there: PersonKeys) -> PersonKeys:
        noted = there.not_listed_from(today) if custodian.newest_is_listed() else there
        return noted.without(spent_keys(noted, held, today)) if destroy_old else noted

    keys = change_key(path, passphrase, note_and_destroy)
    kept: list[dict[str, object]] = [
        {
            "intake_key": one.name,
            "shares": held[one.name].open if one.name in held else 0,
            "kept_until": str(one.kept_until),
        }
        for one in keys.former
    ]
    before = {one.name for one in custodian.keys.former}
    return kept, sorted(before - {one.name for one in keys.former})
