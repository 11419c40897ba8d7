# SPDX-License-Identifier: AGPL-3.0-or-later
"""Commands of a witness: send a testimony, add to it, go on with one that was interrupted; nothing stays unasked for."""

import json
import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from amana.cli import control
from amana.cli.control import (
    attempts_option,
    codename_option,
    line_to,
    parse_scopes,
    pause_option,
    read_codename,
)
from amana.cli.interruption import interruptible
from amana.cli.options import FILE, json_option, proxy_option, root_option, server_option
from amana.client.codenamefile import CodenameFile
from amana.client.control import Standing
from amana.client.delivery import Delivery
from amana.client.directory import read_root
from amana.client.errors import ClientError, NetworkFailed, Refused, Usage
from amana.client.newfile import refuse_taken, write_new
from amana.client.progress import progress_for
from amana.client.statefile import StateFile
from amana.client.transport import Patience, Transport
from amana.client.verify import ROOT_LIMIT_BYTES, read_limited
from amana.client.witness import (
    Apart,
    Wishes,
    as_sending,
    check_custodians,
    choose_attachments,
    choose_consent,
    get_directory,
    seal_testimony,
)
from amana.protocol.account import LIMIT_BYTES, account_bytes, text_account
from amana.protocol.codename import Codename, CodenameRefused, thread_keys
from amana.protocol.encoding import NotCanonical, parse_strict
from amana.protocol.errors import ProtocolError
from amana.protocol.identity import SEALED_LIMIT_BYTES as IDENTITY_LIMIT_BYTES
from amana.protocol.identity import identity_document
from amana.protocol.policy import (
    FLAGS,
    IDENTITY_LEVELS,
    WITHDRAWAL_DELAYS_DAYS,
)
from amana.protocol.tlogproof import SUFFIX, TlogProof

PRIVATE_PREFIX: Final = "amana-sending-"
DEFAULT_SCOPES: Final = {"review": "allow"}


@dataclass(frozen=True)
class Adding:
    """What a further testimony adds to, and the number of the first control key that is free."""

    codename: Codename
    case: str
    number: int
    desk: str
    language: str


@click.group()
def witness() -> None:
    """Send a testimony so that only the readers of a desk can open it; come back to it with the codename."""


for command in (
    control.status,
    control.replies,
    control.consent,
    control.withdraw,
    control.deliver_queue,
):
    witness.add_command(command)


def _scopes(
    ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> dict[str, str]:
    return {**DEFAULT_SCOPES, **parse_scopes(ctx, parameter, values)}


@witness.command()
@server_option
@root_option
@click.option("--desk", required=True, help="Which desk is to read it.")
@click.option(
    "--language",
    required=True,
    help="Language of the testimony (BCP 47), like ar; the codename's words are Arabic for ar, else English.",
)
@click.option("--text", type=FILE, help="The testimony as a text file.")
@click.option("--account", type=FILE, help="The testimony as a structured account (JSON).")
@click.option("--attach", type=FILE, multiple=True, help="A file to send, cleaned of metadata.")
@click.option(
    "--keep-metadata",
    type=FILE,
    multiple=True,
    help="A file to send as it is, with place, device and time where it has them.",
)
@click.option(
    "--consent",
    "scopes",
    multiple=True,
    metavar="SCOPE=allow|deny|ask",
    callback=_scopes,
    help="What the testimony may be used for. Only review is allowed unless you say otherwise; review=deny is possible.",
)
@click.option(
    "--identity",
    type=FILE,
    help="Who you are (JSON: name, contacts, relatives …), kept apart from the testimony, for custodians to release.",
)
@click.option(
    "--no-originals",
    is_flag=True,
    help="Do not keep the untouched originals of cleaned files apart; nobody ever sees them then.",
)
@click.option("--consent-text", help="Id of the consent text, when not the one in --language.")
@click.option("--flag", "flags", type=click.Choice(FLAGS), multiple=True, help="What to mind.")
@click.option(
    "--identity-level",
    type=click.Choice(IDENTITY_LEVELS),
    default="anonymous",
    show_default=True,
    help="Who may learn who you are, if you tell it at all.",
)
@click.option(
    "--withdrawal-delay",
    type=click.Choice([str(days) for days in WITHDRAWAL_DELAYS_DAYS]),
    default="7",
    show_default=True,
    help="Days between a withdrawal and the destruction of the testimony.",
)
@click.option(
    "--state",
    "state_path",
    type=click.Path(path_type=Path),
    help="Where to keep an interrupted sending (sealed); a private temporary folder otherwise.",
)
@click.option(
    "--codename-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Use the codename in this file, or write a fresh one there. Otherwise it is shown once.",
)
@click.option(
    "--receipt-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the receipt there, a new file, and the log's proof beside it (.tlog-proof) if it is there in time.",
)
@proxy_option
@attempts_option
@json_option
@click.pass_context
def send(
    ctx: click.Context,
    server: str,
    root: Path,
    desk: str,
    language: str,
    text: Path | None,
    account: Path | None,
    attach: tuple[Path, ...],
    keep_metadata: tuple[Path, ...],
    scopes: dict[str, str],
    identity: Path | None,
    no_originals: bool,
    consent_text: str | None,
    flags: tuple[str, ...],
    identity_level: str,
    withdrawal_delay: str,
    state_path: Path | None,
    codename_file: Path | None,
    receipt_file: Path | None,
    proxy: str | None,
    attempts: int,
    as_json: bool,
    adding: Adding | None = None,
) -> None:
    """Seal a testimony on this device and send it.

    Until it has arrived, its sealed form lies at STATE and STATE.d, which nobody can open, nor you;
    afterwards nothing stays but what you asked to keep. Copies of attachments without their metadata
    lie open in a private folder, in memory where there is room, while they are being sealed.
    """
    _refuse_taken_receipt(receipt_file)
    content = _account(language, text, account)
    attachments = choose_attachments(list(attach), list(keep_metadata))
    apart = Apart(None if identity is None else _identity(identity), not no_originals)
    wishes = Wishes(
        desk=desk,
        language=language,
        scopes=scopes,
        flags=flags,
        identity_level=identity_level,
        withdrawal_delay_days=int(withdrawal_delay),
    )
    kept = CodenameFile.open(codename_file) if codename_file else None
    progress, patience = progress_for(as_json=as_json), Patience(attempts)
    with (
        interruptible(),
        _state_at(state_path) as state,
        Transport(server, proxy=proxy) as transport,
    ):
        verified = get_directory(transport, read_limited(root, ROOT_LIMIT_BYTES), patience, desk)
        consent = choose_consent(verified.directory, language, consent_text)
        check_custodians(verified.directory, apart)
        if not as_json:
            _ask_consent(consent.text)
            _tell_of_vault(apart, identity_level)
        free = adding.number if adding else 0
        number = kept.take_number(free) if kept else free
        known = kept or adding
        codename = known.codename if known else Codename.generate()
        try:
            thread = thread_keys(codename.master(verified.directory.deployment))
            submission = seal_testimony(
                content, attachments, wishes, consent, verified, thread, number, state, progress,
                apart=apart, adds_to=adding.case if adding else None,
            )  # fmt: skip
        except BaseException:
            if kept:
                kept.give_back(number)
            raise
        sending = as_sending(submission, verified, transport, proxy)
        if not as_json and not known:
            _show_codename(codename, language)
        told = {
            "case": submission.case.decode("ascii"),
            "codename": _words(codename, language),
            "codename_digits": codename.digits(),
        }
        delivery = Delivery(state, sending, transport, patience=patience, progress=progress)
        try:
            _finish(ctx, delivery, state, told, receipt_file, as_json=as_json)
        except Refused:
            # The server has nothing of it, and what is sealed could never be sent otherwise.
            state.remove()
            if kept and not delivery.attempted:
                kept.give_back(number)
            raise


def _params_of_add() -> list[click.Parameter]:
    """Return the options of `send`, but for a new codename; desk and language may be left out."""
    options = []
    for option in send.params:
        if option.name in {"desk", "language"}:
            option = copy(option)
            option.required = False
        if option.name != "codename_file":
            options.append(option)
    return options


@witness.command(params=_params_of_add())
@click.option(
    "--to", metavar="CASE", help="Which of your testimonies it adds to; the first one unless given."
)
@codename_option
@pause_option
def add(to: str | None, codename_file: Path | None, longest_pause: float, **given: Any) -> None:
    """Send more under the same codename, as an answer or because there is more to say.

    Only those who open it learn what it adds to. Desk and language are those of the testimony that it adds to,
    unless you say otherwise. It can be withdrawn alone. The server is asked first which of your testimonies are
    there: whoever runs it can guess from the time that this one is yours too, so send from another connection,
    or wait longer between (--longest-pause).
    """
    codename = read_codename(codename_file)
    line = line_to({**given, "longest_pause": longest_pause}, codename)
    adding = _adding(list(line.standings()), codename, to)
    line.pause()
    given["desk"] = given["desk"] or adding.desk
    given["language"] = given["language"] or adding.language
    assert send.callback is not None  # noqa: S101
    send.callback(**given, codename_file=codename_file, adding=adding)


def _adding(found: Sequence[Standing], codename: Codename, to: str | None) -> Adding:
    """Return what a further testimony adds to: the one that was named, or the first that is there."""
    if to is None:
        there = [one for one in found if one.entries and not one.is_over]
        fitting = [one for one in there if one.state != "arriving"]
    else:
        fitting = [one for one in found if one.case == to and one.entries]
    if not fitting:
        raise Usage("There is no such testimony under this codename.", slug="nothing-to-add-to")
    policy = fitting[0].policy
    return Adding(
        codename=codename,
        case=fitting[0].case,
        number=found[-1].number + 1,
        desk=policy.desk,
        language=policy.language,
    )


@witness.command()
@click.argument("state_path", metavar="STATE", type=click.Path(path_type=Path))
@click.option("--server", help="Another address of the same service.")
@click.option(
    "--root",
    envvar="AMANA_ROOT",
    type=FILE,
    help="Check that the state was made for the service of this root.",
)
@proxy_option
@click.option(
    "--receipt-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the receipt there, a new file, and the log's proof beside it (.tlog-proof) if it is there in time.",
)
@attempts_option
@json_option
@click.pass_context
def resume(
    ctx: click.Context,
    state_path: Path,
    server: str | None,
    root: Path | None,
    proxy: str | None,
    receipt_file: Path | None,
    attempts: int,
    as_json: bool,
) -> None:
    """Go on with a sending that was interrupted, through the same proxy unless another is given."""
    _refuse_taken_receipt(receipt_file)
    state = StateFile(state_path)
    sending = state.load()
    if root:
        pins = read_root(read_limited(root, ROOT_LIMIT_BYTES))
        if (pins.deployment, pins.custody_log_key) != (sending.deployment, sending.custody_log_key):
            raise Usage(
                "The state was made for another service than this root's.", slug="other-root"
            )
    with (
        interruptible(),
        Transport(server or sending.server, proxy=proxy or sending.proxy) as transport,
    ):
        patience, progress = Patience(attempts), progress_for(as_json=as_json)
        delivery = Delivery(state, sending, transport, patience=patience, progress=progress)
        told = {"case": sending.submission.case.decode("ascii")}
        _finish(ctx, delivery, state, told, receipt_file, as_json=as_json)


def _account(language: str, text: Path | None, account: Path | None) -> bytes:
    """Return the account, canonical, from whichever of the two files was given."""
    if (text is None) == (account is None):
        raise Usage("Give --text or --account.")
    path = text or account
    assert path is not None  # noqa: S101
    content = read_limited(path, LIMIT_BYTES)
    try:
        if text:
            return account_bytes(text_account(language=language, text=content.decode("utf-8-sig")))
        return account_bytes(json.loads(content))
    except ProtocolError as error:
        raise Usage(error.title, slug=error.slug) from None
    except (ValueError, RecursionError):
        kind = "a text in UTF-8" if text else "JSON"
        raise Usage(f"{path} is not {kind}.", slug="unreadable-file") from None


def _identity(path: Path) -> bytes:
    """Return who the witness is, checked, with salt and zeros; the file's words are in no message."""
    try:
        return identity_document(parse_strict(read_limited(path, IDENTITY_LIMIT_BYTES)))
    except NotCanonical:
        raise Usage(f"{path} is not JSON.", slug="unreadable-file") from None
    except ProtocolError as error:
        raise Usage(f"{path}: {error.title}", slug=error.slug) from None


def _tell_of_vault(apart: Apart, identity_level: str) -> None:
    if apart.identity is not None and identity_level == IDENTITY_LEVELS[0]:
        click.echo(
            "You allow nobody to learn who you are (--identity-level anonymous): what you tell of yourself stays closed"
            " until you allow more with 'amana witness consent'.",
            err=True,
        )


def _ask_consent(text: str) -> None:
    """Show the consent text, and ask where a person sits at the terminal."""
    if text:
        click.echo(f"{text}\n", err=True)
        if sys.stdin.isatty() and not click.confirm("Do you agree, and send?", err=True):
            raise Usage("Nothing was sent.", slug="no-consent")


def _words(codename: Codename, language: str) -> str:
    """Return the codename's words in the testimony's language where there is a list, else in English."""
    try:
        return codename.words(language.partition("-")[0])
    except CodenameRefused:
        return codename.words("en")


def _show_codename(codename: Codename, language: str) -> None:
    click.echo(
        "Your codename, shown this once. With it you can read replies, add to your testimony or"
        f" withdraw it:\n\n    {_words(codename, language)}\n    {codename.digits()}\n",
        err=True,
    )


@contextmanager
def _state_at(path: Path | None) -> Iterator[StateFile]:
    """Give a new state; sealed objects of a sending that was never saved are of no use and go."""
    if path is None:
        with _private_place() as private, _state_at(private) as state:
            yield state
        return
    state = StateFile(path)
    state.begin()
    try:
        yield state
    finally:
        if not state.path.exists():
            state.remove()


@contextmanager
def _private_place() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix=PRIVATE_PREFIX))
    try:
        yield folder / "state"
    finally:
        with suppress(OSError):
            folder.rmdir()


def _finish(
    ctx: click.Context,
    delivery: Delivery,
    state: StateFile,
    told: dict[str, str],
    receipt_file: Path | None,
    *,
    as_json: bool,
) -> None:
    """Deliver and say so; or say what arrived and how to go on. Raises Refused when the server took nothing."""
    try:
        receipt = _deliver(delivery, state)
        proof = delivery.proof_of(receipt) if receipt_file or as_json else None
        if receipt_file:
            _write_receipt(receipt_file, receipt, proof)
    except ClientError as error:
        if isinstance(error, Refused) and not delivery.sending.announced:
            raise
        if as_json:
            click.echo(json.dumps({**told, "state": str(state.path)}))
        click.echo(f"{error.slug}: {error.title}", err=True)
        click.echo(
            f"{delivery.arrived_bytes} of {delivery.total_bytes} bytes arrived. To go on:"
            f" amana witness resume {shlex.quote(str(state.path))}",
            err=True,
        )
        ctx.exit(error.exit_status)
    state.remove()
    if state.path.parent.name.startswith(PRIVATE_PREFIX):
        with suppress(OSError):
            state.path.parent.rmdir()
    if as_json:
        shown = None if proof is None else bytes(proof).decode()
        click.echo(json.dumps({**told, "receipt": receipt, "proof": shown}))
    else:
        click.echo(f"The testimony has arrived. Its case is {told['case']}.")


def _deliver(delivery: Delivery, state: StateFile) -> dict[str, Any]:
    try:
        return delivery.run()
    except KeyboardInterrupt:
        if not state.path.exists():
            raise
        raise NetworkFailed("The sending was interrupted.", slug="interrupted") from None


def _write_receipt(path: Path, receipt: dict[str, Any], proof: TlogProof | None) -> None:
    """Write the receipt, and beside it the proof that the log holds it, if there was one so soon."""
    write_new(path, (json.dumps(receipt) + "\n").encode("ascii"))
    if proof is not None:
        write_new(_beside(path), bytes(proof))


def _beside(path: Path) -> Path:
    return path.with_name(path.name + SUFFIX)


def _refuse_taken_receipt(path: Path | None) -> None:
    if path is not None:
        refuse_taken(path)
        refuse_taken(_beside(path))
