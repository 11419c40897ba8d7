# SPDX-License-Identifier: AGPL-3.0-or-later
"""Commands of reviewers: make keys, enrol, list cases, open one, replace a key."""

import json
import shlex
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click

from amana.cli import releases
from amana.cli.custody import page_at, page_option, show_custody
from amana.cli.interruption import interruptible
from amana.cli.options import FILE, json_option
from amana.cli.staff import FOLDER, as_staff, key_option, make_keys, public_option
from amana.cli.tables import harmless, say, show
from amana.client.casework import Caseworker, ReadNote
from amana.client.custody import CustodyReader
from amana.client.custodycheck import check_custody, is_doubtful
from amana.client.custodypage import custody_page
from amana.client.errors import NetworkFailed, NotVerified, Usage
from amana.client.exporting import Derivative, Exporter
from amana.client.keyfile import (
    PersonKeys,
    change_key,
    own_public,
    read_key,
    read_passphrase,
)
from amana.client.newcomer import Newcomer
from amana.client.reviewer import (
    GrantUnusable,
    HeldKey,
    Reviewer,
    case_argument,
    spent_keys,
)
from amana.client.verify import read_limited
from amana.protocol.directory import fingerprint
from amana.protocol.enrolment import READERS, ROLES
from amana.protocol.handover import LIMIT_BYTES as HANDOVER_LIMIT
from amana.protocol.note import DECISIONS, LIMIT_BYTES, RELATIONS
from amana.protocol.vault import IDENTITY, ORIGINALS

as_reader = as_staff(Caseworker, "reader")
as_exporter = as_staff(Exporter, "exporter")
as_custody_reader = as_staff(CustodyReader, "watcher")
COUNTED_UP_TO = 1000
COLUMNS = {
    "case": "case",
    "desk": "desk",
    "state": "state",
    "assigned": "whose",
    "received_on": "received",
    "flags": "flags",
    "size": "size",
}
STATES = [
    "received",
    "in-review",
    "waiting",
    "accepted",
    "declined",
    "duplicate",
    "referred",
    "withdrawn",
    "expired",
]


@click.group()
def reviewer() -> None:
    """Read what was sealed to you."""


for command in (releases.request_identity, releases.identity):
    reviewer.add_command(command)


@reviewer.command()
@click.option("--out", type=FOLDER, required=True, help="Folder for the key file.")
@click.option(
    "--role",
    type=click.Choice(["reviewer", "custodian", "administrator", "auditor", "partner"]),
    default="reviewer",
    show_default=True,
)
@public_option
@json_option
def init(out: Path, role: str, public_file: Path | None, as_json: bool) -> None:
    """Make your keys on this device; the passphrase comes from AMANA_PASSPHRASE or a prompt."""
    path, document = make_keys(role, out, public_file)
    at_desk = " --desk DESK" if role in READERS else ""
    if not as_json:
        click.echo(
            f"Your keys are in {path}. Next, with what the administrator told you; the token is asked for:"
            f"\n    amana reviewer enrol --server URL --root ROOT --key {shlex.quote(str(path))}{at_desk}",
            err=True,
        )
    shown = document["fingerprint"]
    say(document, as_json, f"Read this fingerprint to the officers by voice: {shown}")


@reviewer.command(name="fingerprint")
@key_option
@json_option
def show_fingerprint(key: Path, as_json: bool) -> None:
    """Show the words of your keys again, to be compared by voice."""
    keys = read_key(key, read_passphrase())
    shown = fingerprint(own_public(keys))
    before = None if keys.before is None else fingerprint(own_public(keys.before))
    if as_json:
        click.echo(json.dumps({"fingerprint": shown, "before": before}))
        return
    click.echo(shown)
    if before is not None:
        click.echo(
            "These words are of your newest key, for the officers to compare before they list it."
            f"\nOf the key before it, which counts until then: {before}",
            err=True,
        )


@reviewer.command()
@click.option(
    "--invitation",
    envvar="AMANA_INVITATION",
    metavar="TOKEN",
    help="The token that an administrator gave you; better in AMANA_INVITATION or typed when asked, since"
    " what stands in a command others on this machine may see.",
)
@click.option("--role", type=click.Choice(ROLES), help="As invited; default: that of your key.")
@click.option("--desk", "desks", multiple=True, help="As invited; repeat for several desks.")
@as_staff(Newcomer, "newcomer")
def enrol(
    newcomer: Newcomer,
    invitation: str | None,
    role: str | None,
    desks: tuple[str, ...],
    as_json: bool,
) -> None:
    """Bring your public keys under an invitation. You work once the officers have listed you."""
    if invitation is None:
        invitation = click.prompt("Token of the invitation", hide_input=True, err=True, type=str)
    person = newcomer.enrol(invitation, role or newcomer.keys.role, list(desks))
    shown = fingerprint(own_public(newcomer.keys))
    if as_json:
        click.echo(json.dumps({"id": person, "fingerprint": shown}))
        return
    click.echo(f"You are enrolled as {person}; the officers decide.")
    click.echo(f"Read this fingerprint to them by voice: {shown}")


@reviewer.command(name="replace-key")
@as_reader
@click.pass_obj
def replace_key_command(opened_with: tuple[Path, str], reader: Reviewer, as_json: bool) -> None:
    """Make a new intake key and ask the officers to list it; the old one stays until 're-wrap'.

    Repeated before they list it, this asks for the same new key again.
    """
    path, passphrase = opened_with
    try:
        listed = reader.listed_key()
        # Kept before anybody is told: a listed key that nobody has would lose testimonies.
        keys = change_key(path, passphrase, lambda there: there.asking_instead_of(listed))
        reader.ask_for_key(keys)
    except NetworkFailed:
        click.echo(
            "As far as is known here nobody was asked yet; to ask, repeat the command.", err=True
        )
        raise
    shown = fingerprint(own_public(keys))
    if as_json:
        click.echo(json.dumps({"id": keys.id, "fingerprint": shown}))
        return
    click.echo("The officers are asked to list your new key; until then nothing changes.")
    click.echo(f"Read this fingerprint to them by voice: {shown}")


@reviewer.command(name="re-wrap")
@click.option("--destroy-old", is_flag=True, help="Remove former keys once nothing needs them.")
@as_reader
@click.pass_obj
def rewrap_command(
    opened_with: tuple[Path, str], reader: Reviewer, destroy_old: bool, as_json: bool
) -> None:
    """Seal the grants of your former keys to your newest one. May be repeated at any time.

    A former key can be destroyed 45 days after it left the directory, when nothing is sealed to it any
    more: until then testimonies may still arrive under it.
    """
    path, passphrase = opened_with
    done = reader.rewrap()
    today = datetime.now(UTC).date()
    held = reader.held_keys()

    def note_and_destroy(there: PersonKeys) -> PersonKeys:
        noted = there.not_listed_from(today)
        return noted.without(spent_keys(noted, held, today)) if destroy_old else noted

    keys = change_key(path, passphrase, note_and_destroy)
    kept = [
        {**asdict(held.get(one.name, HeldKey(one.name))), "kept_until": str(one.kept_until)}
        for one in keys.former
    ]
    destroyed = sorted({one.name for one in reader.keys.former} - {one.name for one in keys.former})
    if as_json:
        click.echo(json.dumps({**asdict(done), "destroyed": destroyed, "kept": kept}))
        return
    click.echo(f"{len(done.done)} grants are sealed to your newest key.")
    if done.left:
        click.echo(f"{len(done.left)} are under a key that is not in your key file:")
        click.echo("\n".join(done.left))
    for former in kept:
        click.echo(
            f"The former key {former['intake_key']} stays at least until {former['kept_until']}:"
            f" {former['open']} cases and {former['arriving']} that are still arriving are sealed to it,"
            f" and {former['elsewhere']} at desks that you left."
        )
    if destroyed:
        click.echo(
            f"{len(destroyed)} former keys are destroyed. Destroy old copies of the key file too."
        )


@reviewer.command(name="sign-out")
@as_reader
def sign_out(reader: Reviewer, as_json: bool) -> None:
    """End all your sessions, on every device."""
    reader.sign_out()
    click.echo(json.dumps({"signed_out": True}) if as_json else "You are signed out everywhere.")


@reviewer.command()
@click.argument("codes", nargs=-1, required=True)
@as_reader
def conflict(reader: Reviewer, codes: tuple[str, ...], as_json: bool) -> None:
    """Name places or people, by code, whose cases must not reach you; nobody asks why."""
    reader.act("recuse", "/v1/conflicts", body={"conflicts": sorted(set(codes))})
    click.echo(json.dumps({"recorded": sorted(set(codes))}) if as_json else "It is recorded.")


@reviewer.command()
@click.option("--person", help="Instead, everything at your desks that this person could open.")
@as_reader
def returned(reader: Reviewer, person: str | None, as_json: bool) -> None:
    """For leads: list cases in review whose reader is gone: put out, or their access ended."""
    if person is not None:
        held = reader.could_open(person)
        if as_json:
            click.echo(json.dumps({"person": person, "could_open": held}))
        else:
            show({"case": "case", "desk": "desk", "received_on": "received"}, held, "case")
        return
    found = reader.returned()
    if as_json:
        click.echo(json.dumps({"cases": found}))
    elif found:
        columns = {"case": "case", "desk": "desk", "claimed_by": "claimed by", "claimed_on": "on"}
        show(columns, found, "case", "claimed_by")
    else:
        click.echo("No case came back.")


@reviewer.command()
@click.option("--desk", help="Only this desk.")
@click.option(
    "--state", type=click.Choice(STATES), help="Only this state; unless given, what is not decided."
)
@click.option("--counts", is_flag=True, help="Only count them, by state.")
@as_reader
def cases(
    reader: Reviewer, desk: str | None, state: str | None, counts: bool, as_json: bool
) -> None:
    """List the cases that were sealed to you: urgent ones, then the newest, first."""
    if counts:
        counted = reader.counts(desk)
        if as_json:
            click.echo(json.dumps({"counts": counted}))
            return
        for name, number in counted.items():
            click.echo(f"{name}: {number if number < COUNTED_UP_TO else f'{number} or more'}")
        return
    found, told = reader.cases(desk, state), reader.told()
    delete = "Delete what you have of it; it counts as seen by you."
    for case, day in told.withdrawn.items():
        click.echo(f"Withdrawn by its witness on {day}: {case}. {delete}", err=True)
    for case, day in told.expired.items():
        click.echo(f"Its time was over on {day}: {case}. {delete}", err=True)
    for case, day in told.expiring.items():
        click.echo(f"Destroyed on {day} unless a lead prolongs it: {case}.", err=True)
    if as_json:
        days = {"withdrawn": "withdrawn_on", "expired": "expired_on", "expiring": "ends_on"}
        more = {
            name: [{"case": case, day: when} for case, when in getattr(told, name).items()]
            for name, day in days.items()
        }
        click.echo(json.dumps({"cases": [asdict(one) for one in found], **more}))
    elif found:
        rows = ({**asdict(one), "size": f"{one.size / 1e6:.1f} MB"} for one in found)
        show(COLUMNS, rows, "case")
    else:
        click.echo("No case waits for you.")


@reviewer.command(name="open")
@click.argument("case")
@click.option("--out", type=FOLDER, required=True, help="Folder for what is opened.")
@as_reader
def open_case(reader: Reviewer, case: str, out: Path, as_json: bool) -> None:
    """Sign an opening, verify CASE and write its files. That you opened it is recorded."""
    try:
        with interruptible():
            opened = reader.open(case, out)
    except NetworkFailed:
        click.echo("What arrived is kept as it is sealed; to go on, repeat the command.", err=True)
        raise
    except GrantUnusable:
        click.echo(
            "What was sealed to you does not open this case. So that somebody else gets it:"
            f" amana reviewer recuse {case} --reason grant-failed",
            err=True,
        )
        raise
    if opened.claimed:
        click.echo("Nobody had this case; it is claimed by you now.", err=True)
    for warning in opened.warnings:
        click.echo(f"Note: {warning}", err=True)
    if as_json:
        click.echo(json.dumps({**asdict(opened), "folder": str(opened.folder)}))
        return
    click.echo(f"Everything verified. {len(opened.files)} files are in {out}.")
    if opened.in_vault:
        click.echo(
            f"In the vault, for custodians to release (amana reviewer request-identity): {', '.join(opened.in_vault)}."
        )
    click.echo("Open them only on a device without keys and without a network.")


@reviewer.command()
@click.argument("case")
@as_reader
def claim(reader: Reviewer, case: str, as_json: bool) -> None:
    """Take CASE, which was offered to you or which nobody has."""
    reader.claim(case)
    say({"claimed": case}, as_json, "The case is yours.")


@reviewer.command()
@click.argument("case")
@as_reader
def release(reader: Caseworker, case: str, as_json: bool) -> None:
    """Give CASE back; routing finds somebody else."""
    reader.release(case)
    say({"released": case}, as_json, "The case is no longer yours. Delete what you opened of it.")


@reviewer.command(name="hand-over")
@click.argument("case")
@click.option("--to", required=True, metavar="ID", help="A colleague, by id.")
@click.option("--second", is_flag=True, help="As a second reader beside you.")
@as_reader
def hand_over(reader: Caseworker, case: str, to: str, second: bool, as_json: bool) -> None:
    """Seal CASE to a colleague and offer it to them."""
    reader.hand_over(case, to, second=second)
    say({"case": case, "to": to, "second": second}, as_json, f"{case} is offered to {to}.")


@reviewer.command()
@click.argument("case")
@click.option(
    "--reason",
    type=click.Choice(["conflict", "grant-failed", "other"]),
    default="conflict",
    show_default=True,
    help="grant-failed: what was sealed to you does not open the case.",
)
@as_reader
def recuse(reader: Caseworker, case: str, reason: str, as_json: bool) -> None:
    """Say that you must not have CASE; nobody asks further."""
    reader.recuse(case, reason)
    say({"recused": case}, as_json, "You are not offered this case again.")


@reviewer.command()
@click.argument("case")
@click.option("--text", type=FILE, required=True, help="The note, UTF-8.")
@click.option("--private", is_flag=True, help="For you alone; not even the desk can open it.")
@as_reader
def note(reader: Caseworker, case: str, text: Path, private: bool, as_json: bool) -> None:
    """Add a sealed note to CASE."""
    audience = "author" if private else "desk"
    _written(reader.write(case, "note", {"text": _text(text)}, audience=audience), as_json)


@reviewer.command()
@click.argument("case")
@click.option(
    "--label",
    "labels",
    multiple=True,
    required=True,
    metavar="VOCABULARY=CODE",
    help="As often as needed: symptoms=…, violation_status=… (HURIDOCS 41), reliability=… (42).",
)
@click.option("--text", type=FILE, help="Why, in words.")
@as_reader
def code(
    reader: Caseworker, case: str, labels: tuple[str, ...], text: Path | None, as_json: bool
) -> None:
    """Add labels to CASE, apart from the witness's words, with your name and day, sealed."""
    pairs = [one.partition("=") for one in labels]
    chosen = [{"vocabulary": name, "code": key} for name, _, key in pairs]
    content = {"labels": chosen, "text": "" if text is None else _text(text)}
    _written(reader.write(case, "coding", content), as_json)


@reviewer.command()
@click.argument("case")
@click.option("--to", required=True, metavar="CASE", help="The other case.")
@click.option("--relation", type=click.Choice(RELATIONS), default="related", show_default=True)
@click.option("--text", type=FILE, help="Why, in words.")
@as_reader
def link(
    reader: Caseworker, case: str, to: str, relation: str, text: Path | None, as_json: bool
) -> None:
    """Note in CASE, sealed, how it relates to another. The server does not learn to which."""
    case_argument(to)
    content = {"to": to, "relation": relation, "text": "" if text is None else _text(text)}
    _written(reader.write(case, "link", content), as_json)


@reviewer.command()
@click.argument("case")
@as_reader
def notes(reader: Caseworker, case: str, as_json: bool) -> None:
    """Show what reviewers wrote about CASE."""
    found = reader.notes(case)
    if as_json:
        click.echo(json.dumps({"notes": [asdict(one) for one in found]}))
        return
    for one in found:
        signed = "" if one.verified else "  NOT VERIFIED"
        click.echo(f"{one.n}. {one.kind}, {one.made_on}, by {one.author}{signed}")
        for line in _lines(one):
            click.echo(f"   {harmless(line)}")


def _lines(one: ReadNote) -> list[str]:
    labels = [f"{x['vocabulary']}={x['code']}" for x in one.content.get("labels", [])]
    told = [f"{name}: {one.content[name]}" for name in _TOLD if one.content.get(name)]
    return [*told, *labels, *one.content["text"].splitlines()]


_TOLD = ("decision", "of", "relation", "to", "reason")


@reviewer.command()
@click.argument("case")
@click.option("--decision", type=click.Choice(DECISIONS), required=True)
@click.option("--reason", required=True, help="Sealed like a note.")
@click.option(
    "--of", metavar="CASE", help="For a duplicate: the case that it repeats, if you hold one."
)
@as_reader
def decide(
    reader: Caseworker, case: str, decision: str, reason: str, of: str | None, as_json: bool
) -> None:
    """Decide CASE, which you have."""
    if of is not None:
        case_argument(of)
    reader.decide(case, decision, _reason(reason), of)
    say({"case": case, "decision": decision}, as_json, "The decision is recorded.")


@reviewer.command()
@click.argument("case")
@click.option("--text", type=FILE, required=True, help="The question, UTF-8.")
@click.option("--reason", required=True, help="Why they are asked; kept with the case, sealed.")
@as_reader
def ask(reader: Caseworker, case: str, text: Path, reason: str, as_json: bool) -> None:
    """Ask the witness of CASE, who reads it with the codename alone. First look at the prior accounts.

    It is published with the next daily batch. An answer comes as a testimony of its own, which says what it
    adds to.
    """
    left = reader.ask(case, _text(text), _reason(reason))
    say(
        {"asked": case, "left": left},
        as_json,
        f"Your question waits for the next batch. The witness may be asked {left} more times.",
    )


@reviewer.command()
@click.argument("case")
@as_reader
def resume(reader: Caseworker, case: str, as_json: bool) -> None:
    """Go on with CASE, whose witness was asked: an answer came, or none is awaited any longer."""
    reader.resume(case)
    say({"resumed": case}, as_json, "The case is in review again.")


@reviewer.command()
@click.argument("case")
@click.option("--reason", required=True, help="Sealed like a note.")
@as_reader
def reopen(reader: Caseworker, case: str, reason: str, as_json: bool) -> None:
    """Take the decision about CASE back, which you have; one that nobody has can be claimed first."""
    reader.reopen(case, _reason(reason))
    say({"reopened": case}, as_json, "The case is in review again.")


@reviewer.command(name="routing-tasks")
@as_reader
def routing_tasks(reader: Caseworker, as_json: bool) -> None:
    """For leads: list cases that found nobody, and why; pass them on with 'hand-over'."""
    found = reader.routing_tasks()
    if as_json:
        click.echo(json.dumps({"tasks": found}))
    elif found:
        columns = {"case": "case", "desk": "desk", "reason": "reason", "made_on": "since"}
        show(columns, found, "case")
    else:
        click.echo("Every case found somebody.")


@reviewer.command()
@click.argument("case", required=False)
@as_reader
def retention(reader: Caseworker, case: str | None, as_json: bool) -> None:
    """Show the review day of CASE; without one, for leads, every case of your desks whose day has come."""
    found = reader.reviews_due() if case is None else [reader.review_of(case)]
    if as_json:
        click.echo(json.dumps({"cases": found}))
    elif found:
        columns = {
            "case": "case",
            "state": "state",
            "review_on": "review day",
            "then": "then",
            "ends_on": "destroyed on",
        }
        show(columns, found, "case")
    else:
        click.echo("No review day has come.")


@reviewer.command()
@click.argument("case")
@click.option("--to", required=True, metavar="ID", help="The partner, by the id in the directory.")
@click.option(
    "--purpose", required=True, help="A scope of the witness's consent, for example iiim."
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A new file for the sealed bundle; needed once the export was approved.",
)
@click.option(
    "--identity",
    "with_identity",
    is_flag=True,
    help="With who the witness is, which custodians released to be handed to this partner.",
)
@click.option(
    "--originals",
    "with_originals",
    is_flag=True,
    help="With the untouched originals, likewise.",
)
@click.option(
    "--translation",
    "translations",
    multiple=True,
    metavar="OBJECT=FILE",
    help="Add a translation of an object, by its number in the case (0 is the account).",
)
@click.option(
    "--redaction",
    "redactions",
    multiple=True,
    metavar="OBJECT=FILE",
    help="Give this in the place of an object, which stays closed.",
)
@click.option("--maker", metavar="ID", help="Who made them, if not you.")
@as_exporter
def export(
    exporter: Exporter,
    case: str,
    to: str,
    purpose: str,
    out: Path | None,
    with_identity: bool,
    with_originals: bool,
    translations: tuple[str, ...],
    redactions: tuple[str, ...],
    maker: str | None,
    as_json: bool,
) -> None:
    """Take CASE out to a partner: ask first; once somebody else approved, repeat this with --out."""
    made_by = exporter.keys.id if maker is None else maker
    asked_for = {IDENTITY: with_identity, ORIGINALS: with_originals}
    vaults = [name for name, is_asked in asked_for.items() if is_asked]
    derivatives = [
        *(_derivative("translation", one, made_by) for one in translations),
        *(_derivative("redaction", one, made_by) for one in redactions),
    ]
    open_ones = [
        one
        for one in exporter.exports(case)
        if (one.to, one.purpose, one.requested_by) == (to, purpose, exporter.keys.id)
        and one.state in {"pending", "approved"}
        and list(one.releases) == vaults
    ]
    if not open_ones:
        asked = exporter.request(case, to, purpose, vaults)
        say(
            {"export": asked, "state": "pending"},
            as_json,
            f"Export {asked} waits for an administrator ('amana admin exports approve').",
            "When it is approved, repeat this command with --out.",
        )
        return
    found = open_ones[0]
    if found.state == "pending":
        say(
            {"export": found.export, "state": found.state},
            as_json,
            f"Export {found.export} still waits for an administrator.",
        )
        return
    if out is None:
        raise Usage("The export is approved: name the file with --out.", slug="out-missing")
    try:
        with interruptible():
            made = exporter.assemble(found, out, derivatives)
    except NetworkFailed:
        click.echo("What arrived is kept as it is sealed; to go on, repeat the command.", err=True)
        raise
    say(
        {**asdict(made), "file": str(made.file), "state": "exported"},
        as_json,
        f"Everything verified. The sealed bundle is {made.file}: {made.size} bytes,",
        f"SHA-256 {made.sealed_sha256}.",
        "The partner opens it with 'amana partner receive' and gives you a receipt;",
        f"file that with: amana reviewer handed-over {case} --receipt FILE",
    )


def _derivative(kind: str, text: str, maker: str) -> Derivative:
    number, _, file = text.partition("=")
    if not (number.isascii() and number.isdigit() and len(number) <= 2 and file):
        raise Usage(f"A {kind} is given as OBJECT=FILE, for example 0=account.en.txt.")
    return Derivative(kind, int(number), Path(file), maker)


@reviewer.command(name="handed-over")
@click.argument("case")
@click.option("--receipt", type=FILE, required=True, help="What the partner signed.")
@as_exporter
def handed_over(exporter: Exporter, case: str, receipt: Path, as_json: bool) -> None:
    """File a partner's receipt for a bundle of CASE: it closes the export."""
    case_argument(case)
    closed = exporter.file_receipt(case, read_limited(receipt, HANDOVER_LIMIT))
    say({"export": closed, "state": "handed-over"}, as_json, f"Export {closed} is handed over.")


@reviewer.command()
@click.argument("case")
@click.option("--until", type=click.DateTime(["%Y-%m-%d"]), required=True, help="A year at most.")
@click.option(
    "--reason",
    type=click.Choice(["proceedings", "request-expected", "witness-asked", "follow-up", "other"]),
    required=True,
)
@as_reader
def prolong(reader: Caseworker, case: str, until: datetime, reason: str, as_json: bool) -> None:
    """For leads: keep CASE until a day, on which somebody looks again. That is signed, and recorded."""
    done = reader.prolong(case, until.date(), reason)
    say(done, as_json, f"The review day of {case} is {done['review_on']}.")


@reviewer.command()
@click.argument("case")
@page_option
@as_custody_reader
@click.pass_context
def custody(
    ctx: click.Context, watcher: CustodyReader, case: str, page: Path | None, as_json: bool
) -> None:
    """Show what happened with CASE: who, what, when, under which authority, and whether it is proven. For auditors too.

    With --json it is a document that whoever has the root file checks with 'amana verify custody'.
    """
    with page_at(page) as write:
        found = watcher.custody(case)
        write(lambda: custody_page(found.document, check_custody(found.document, watcher.root)))
    rows = found.document.events
    if as_json:
        click.echo(json.dumps(found.document.document))
    else:
        show_custody(found.document)
    if any(one["signature"] not in {"verified", "none"} for one in rows):
        click.echo("custody-doubtful: An act does not verify.", err=True)
        ctx.exit(NotVerified.exit_status)
    if any(is_doubtful(one) for one in rows):
        click.echo("custody-doubtful: A proof does not verify.", err=True)
        ctx.exit(NotVerified.exit_status)


def _written(number: int, as_json: bool) -> None:
    say({"note": number}, as_json, f"It is note {number} of the case.")


def _reason(reason: str) -> str:
    """Refuse an act without its reason; raises Usage."""
    if not reason.strip():
        raise Usage("This needs its reason.", slug="reason-missing")
    return reason


def _text(path: Path) -> str:
    """Read a text of a reviewer; raises Usage for what is no text or too long."""
    try:
        text = read_limited(path, LIMIT_BYTES).decode("utf-8").strip()
    except UnicodeDecodeError:
        raise Usage("The text is not UTF-8.", slug="text-invalid") from None
    if not text or "\0" in text:
        raise Usage("The text is empty.", slug="text-invalid")
    return text
