# SPDX-License-Identifier: AGPL-3.0-or-later
"""Commands of administrators and auditors: people, invitations, suspensions, access reviews, and the record."""

import json
from pathlib import Path
from typing import Any

import click

from amana.cli.options import FILE, json_option
from amana.cli.staff import as_staff, make_keys, public_option
from amana.cli.tables import harmless, printable, say, show, show_blocks
from amana.client.administrator import Administrator, vetting_body
from amana.client.errors import Usage
from amana.client.newfile import refuse_taken, write_new
from amana.client.verify import read_limited
from amana.protocol.enrolment import ROLES
from amana.protocol.policy import FLAGS

RULES_LIMIT_BYTES = 64 * 1024
ALONE = (
    "Warning: only one administrator may work. Nobody confirms themselves, so their access ends 90 days after\n"
    "their last review, and with it all of this. Ask the officers to list another, better two."
)
SEALED = "Administrators cannot open testimonies; this shows who could."

EXPORT_COLUMNS = {
    "export": "export",
    "case": "case",
    "to": "to",
    "purpose": "purpose",
    "identity": "of the identity",
    "requested_by": "asked by",
    "requested_on": "on",
    "fault": "speaks against it",
}

as_administrator = as_staff(Administrator, "administrator")


@click.group()
def admin() -> None:
    """Look after people. Nothing here opens a testimony."""


@admin.command()
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True)
@click.option("--role", type=click.Choice(["administrator", "auditor"]), default="administrator")
@public_option
@json_option
def init(out: Path, role: str, public_file: Path | None, as_json: bool) -> None:
    """Make your keys on this device; the passphrase comes from AMANA_PASSPHRASE or a prompt."""
    path, document = make_keys(role, out, public_file)
    say(
        document,
        as_json,
        f"Your keys are in {path}.",
        f"Fingerprint: {document['fingerprint']}",
    )


@admin.command()
@click.option("--role", type=click.Choice(ROLES), required=True)
@click.option("--desk", "desks", multiple=True, help="For readers; repeat for several desks.")
@click.option("--days", type=click.IntRange(1, 30), default=7, show_default=True)
@as_administrator
def invite(
    administrator: Administrator, role: str, desks: tuple[str, ...], days: int, as_json: bool
) -> None:
    """Invite somebody, once. Give them the token by a way that you trust."""
    made = administrator.invite(role, list(desks), days)
    say(
        made,
        as_json,
        f"Invitation for a {role}, until {harmless(made.get('expires_on'))}:",
        "",
        f"    {harmless(made.get('token'))}",
        "",
        "It is shown this once, and works once. If it went astray:",
        f"amana admin withdraw {harmless(made.get('id'))}",
    )


@admin.command()
@as_administrator
def people(administrator: Administrator, as_json: bool) -> None:
    """Show everybody, and how they stand."""
    found = administrator.listed("people")
    if as_json:
        click.echo(json.dumps({"people": found}))
        return
    columns = {
        "id": "id",
        "roles": "roles",
        "desks": "desks",
        "standing": "standing",
        "due_on": "until",
    }
    show(columns, ({**one, "roles": one.get("roles") or one.get("role")} for one in found), "id")


@admin.command()
@as_administrator
def invitations(administrator: Administrator, as_json: bool) -> None:
    """Show the invitations; their tokens are kept nowhere."""
    found = administrator.listed("invitations")
    if as_json:
        click.echo(json.dumps({"invitations": found}))
        return
    columns = {
        "id": "id",
        "role": "role",
        "desks": "desks",
        "issued_on": "issued",
        "expires_on": "until",
        "used": "used",
    }
    show(columns, ({**one, "used": one.get("used_by") is not None} for one in found), "id")


@admin.command()
@click.argument("invitation")
@as_administrator
def withdraw(administrator: Administrator, invitation: str, as_json: bool) -> None:
    """Let nobody come with an invitation any more; its id is in `amana admin invitations`."""
    administrator.withdraw_invitation(invitation)
    say({"withdrawn": invitation}, as_json, "Nobody can come with this invitation any more.")


@admin.command()
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True)
@as_administrator
def pending(administrator: Administrator, out: Path, as_json: bool) -> None:
    """Write who waits for the officers into a new file, which is carried to them by hand.

    It names vouchers and conflicts of interest: delete it when the officers have decided.
    """
    refuse_taken(out)
    found = administrator.listed("enrolments")
    write_new(out, (json.dumps({"enrolments": found}, indent=1) + "\n").encode("ascii"))
    say(
        {"file": str(out), "waiting": len(found)},
        as_json,
        f"{len(found)} wait; carry {out} to the officers ('amana officer pending').",
    )


@admin.command()
@click.argument("person")
@click.option("--voucher", "vouchers", multiple=True, required=True, help="Exactly two.")
@click.option("--vetted-on", required=True, help="YYYY-MM-DD.")
@click.option("--valid-until", required=True, help="YYYY-MM-DD, two years later at most.")
@click.option("--language", "languages", multiple=True)
@click.option("--speciality", "specialities", multiple=True)
@click.option("--conflict", "conflicts", multiple=True, help="Code of a place or person.")
@as_administrator
def vet(administrator: Administrator, person: str, as_json: bool, **fields: Any) -> None:
    """Record what the vetting of PERSON found; it stays on the server and never in the directory."""
    if len(fields["vouchers"]) != 2:
        raise Usage("Exactly two people vouch.", slug="vouchers-invalid")
    administrator.decide("vet", "vetting", person, **vetting_body(fields))
    say({"vetted": person}, as_json, f"The vetting of {person} is recorded.")


@admin.command()
@click.argument("person")
@click.option("--reason", required=True)
@as_administrator
def suspend(administrator: Administrator, person: str, reason: str, as_json: bool) -> None:
    """Put PERSON out, at once and everywhere."""
    administrator.decide("suspend", "suspension", person, reason=reason)
    say(
        {"suspended": person},
        as_json,
        f"{person} is suspended and signed out.",
        f"What they could open: amana admin record --person {person}",
    )


@admin.command()
@click.argument("person")
@click.option("--reason", default="agreed", show_default=True, help="Why; it is recorded.")
@as_administrator
def reinstate(administrator: Administrator, person: str, reason: str, as_json: bool) -> None:
    """Agree that PERSON works again; a second administrator must agree too."""
    done = administrator.decide("reinstate", "reinstatement", person, reason=reason)
    again = done.get("reinstated") is True
    line = f"{person} works again." if again else "Another administrator must agree too."
    say({"person": person, **done}, as_json, line)


@admin.command()
@click.argument("person")
@as_administrator
def confirm(administrator: Administrator, person: str, as_json: bool) -> None:
    """Review the access of PERSON: it goes on for another 90 days."""
    administrator.decide("confirm", "confirmation", person)
    say({"confirmed": person}, as_json, f"The access of {person} goes on.")


@admin.command(name="access-review")
@as_administrator
def access_review(administrator: Administrator, as_json: bool) -> None:
    """Show whose access ends soon unless somebody confirms it ('amana admin confirm')."""
    found, working = administrator.access_review()
    if as_json:
        click.echo(json.dumps({"due": found, "administrators": working}))
        return
    if len(working) < 2:
        click.echo(ALONE, err=True)
    if found:
        columns = {
            "id": "id",
            "role": "role",
            "standing": "standing",
            "confirmed_on": "confirmed",
            "due_on": "ends after",
        }
        show(columns, found, "id")
    else:
        click.echo("Nobody's access ends soon.")


@admin.command()
@as_administrator
def desks(administrator: Administrator, as_json: bool) -> None:
    """Show the desks in numbers."""
    found = administrator.listed("desks")
    if as_json:
        click.echo(json.dumps({"desks": found}))
        return
    columns = {
        "id": "desk",
        "readers": "readers",
        "waiting": "waiting",
        "in_review": "in review",
        "leads": "leads",
    }
    show(columns, found, "leads")


@admin.command()
@click.option("--day", help="YYYY-MM-DD; today unless given.")
@click.option("--person", help="Every case of one person.")
@as_administrator
def record(
    administrator: Administrator, day: str | None, person: str | None, as_json: bool
) -> None:
    """Show who could open what until the end of a day, who did, and what was decided about people."""
    found = administrator.record(day, person)
    if as_json:
        click.echo(json.dumps(found))
        return
    click.echo(SEALED)
    if person is None:
        columns = {
            "id": "id",
            "listed": "listed",
            "suspended": "suspended",
            "could_open": "could open",
            "opened": "opened",
        }
        show(columns, found["people"], "id")
        click.echo("\nDecided about people:")
        _show_decisions(found["decisions"])
        return
    click.echo(f"\nCould open, until the end of {harmless(found.get('day'))}:")
    columns = {
        "case": "case",
        "desk": "desk",
        "received_on": "received",
        "handed_on": "handed on",
        "destroyed_on": "destroyed",
    }
    show(columns, found["could_open"], "case")
    click.echo("\nOpened:")
    show({"case": "case", "opened_at": "last"}, found["opened"], "case")
    click.echo("\nSigned:")
    signed = ({**one, "about": one.get("case") or one.get("person")} for one in found["actions"])
    show({"about": "case or person", "action": "action", "made_at": "at"}, signed, "about")
    click.echo("\nDecided about this person:")
    _show_decisions(found["decisions"])


def _show_decisions(decisions: list[dict[str, Any]]) -> None:
    """Print what was decided: two ids and a reason have no room side by side."""
    for one in decisions:
        click.echo(
            f"{harmless(one.get('made_at'))} {harmless(one.get('action'))} of {harmless(one.get('person'))}"
        )
        click.echo(f"  by {harmless(one.get('by'))}")
        if one.get("reason"):
            click.echo(f"  because: {printable(str(one['reason']))}")


@admin.group()
def exports() -> None:
    """Exports that readers ask for; a second person decides. Nothing here opens a testimony."""


@exports.command(name="pending")
@as_administrator
def pending_exports(administrator: Administrator, as_json: bool) -> None:
    """Show what waits for a decision, judged from what witness and reader signed."""
    rows = [
        {
            **{
                name: getattr(one.listed, name)
                for name in EXPORT_COLUMNS
                if name not in {"fault", "identity"}
            },
            "identity": list(one.listed.releases),
            "fault": one.fault,
        }
        for one in administrator.exports("pending")
    ]
    if as_json:
        click.echo(json.dumps({"exports": rows}))
    elif rows:
        show_blocks(EXPORT_COLUMNS, rows)
    else:
        click.echo("No export waits.")


@exports.command()
@click.argument("export")
@click.option(
    "--with-identity",
    is_flag=True,
    help="It holds who the witness is, or untouched originals ('pending' says so), and may.",
)
@as_administrator
def approve(administrator: Administrator, export: str, with_identity: bool, as_json: bool) -> None:
    """Approve EXPORT, which somebody else asked for and which consent covers today.

    It signs for what the log holds of the case so far: the bundle can leave none of it out.
    """
    state = administrator.decide_export(export, "approve", with_identity=with_identity)
    say({"export": export, "state": state}, as_json, f"{export} may be assembled by who asked.")


@exports.command()
@click.argument("export")
@as_administrator
def refuse(administrator: Administrator, export: str, as_json: bool) -> None:
    """Refuse EXPORT, or stop one that was approved and has not left."""
    state = administrator.decide_export(export, "refuse")
    say({"export": export, "state": state}, as_json, f"{export} is refused.")


@admin.group()
def rules() -> None:
    """Rules of routing: days to claim, a cap by day, days of duty."""


@rules.command(name="show")
@as_administrator
def show_rules(administrator: Administrator, as_json: bool) -> None:
    """Show the rules in force; --json gives what 'set' takes, under 'rules'."""
    found = administrator.rules()
    given = found.get("rules")
    lines = given.items() if isinstance(given, dict) else ()
    say(
        found,
        as_json,
        f"Version {harmless(found.get('version'))}",
        *(f"{harmless(name)}: {harmless(json.dumps(value))}" for name, value in lines),
    )


@rules.command(name="set")
@click.argument("file", type=FILE)
@as_administrator
def set_rules(administrator: Administrator, file: Path, as_json: bool) -> None:
    """Put the rules in FILE in force: JSON with claim_days, urgent_claim_days, cap_per_day, duty."""
    try:
        given = json.loads(read_limited(file, RULES_LIMIT_BYTES))
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict):
        raise Usage("The rules are not a JSON object.", slug="rules-invalid")
    version = administrator.set_rules(given)
    say({"version": version}, as_json, f"Version {version} of the rules is in force.")


@rules.command(name="try")
@click.option("--desk", required=True)
@click.option("--language", default="ar", show_default=True)
@click.option("--flag", "flags", multiple=True, type=click.Choice(FLAGS))
@as_administrator
def try_rules(
    administrator: Administrator, desk: str, language: str, flags: tuple[str, ...], as_json: bool
) -> None:
    """Tell whom a testimony with this policy would reach today, and why everybody else not."""
    found = administrator.try_rules(desk, language, sorted(set(flags)))
    if as_json:
        click.echo(json.dumps(found))
        return
    if found.get("reader") is None:
        click.echo(f"Nobody: {harmless(found.get('nobody_because'))}. The desk's lead is told.")
    rows = [{"id": one, "why": why} for one, why in found["verdicts"].items()]
    show({"id": "reader", "why": "verdict"}, rows, "id")
