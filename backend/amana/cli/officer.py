# SPDX-License-Identifier: AGPL-3.0-or-later
"""Commands of officers: make a key, propose a directory, sign it, publish it. Files are carried by hand between them."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click
from tuf.api.metadata import Metadata, Root, Targets

from amana.cli.options import FILE, json_option, proxy_option, server_option
from amana.client.audit import compare
from amana.client.description import Desk, first_description, read_public
from amana.client.directory import (
    Getter,
    Published,
    expiry_warnings,
    fetch_expired,
    fetch_published,
    fetch_version,
    read_root,
)
from amana.client.enrolments import Pending, accepted, enter, read_pending, remove, set_takes
from amana.client.errors import NotVerified, Usage
from amana.client.expectations import Expectations
from amana.client.keyfile import PersonKeys, read_key, read_passphrase, write_key
from amana.client.log import Fetch, from_server
from amana.client.newfile import write_new
from amana.client.officer import (
    FRESHNESS_HOURS,
    Proposal,
    Version,
    check_current_root,
    cosigning_pins,
    describe,
    new_root,
    pins,
    propose,
    read_json,
    read_published,
    rotate_root,
    sign,
)
from amana.client.transport import Patience, Transport
from amana.client.verify import ROOT_LIMIT_BYTES, read_limited
from amana.protocol.directory import MAX_FRESHNESS_HOURS, parse_directory
from amana.protocol.encoding import canonical
from amana.protocol.errors import ProtocolError

T = TypeVar("T")
Command = TypeVar("Command", bound=Callable[..., Any])

WITHOUT_COSIGNERS = frozenset({"directory-not-logged", "log-quorum", "log-stale"})
VERSION_DIGITS = 16
_path = click.Path(path_type=Path)


@dataclass(frozen=True)
class Source:
    """Where the published directory comes from: a server, or a folder in which it was signed; judged by the root file."""

    server: str | None
    folder: Path | None
    root_file: Path | None
    proxy: str | None
    cache: Path | None

    @property
    def root(self) -> bytes:
        if self.root_file is None:
            raise Usage("Give --root, the root file that the officers gave out.")
        return read_limited(self.root_file, ROOT_LIMIT_BYTES)

    def deployment(self) -> str | None:
        """Return the deployment, where a root is given."""
        return read_root(self.root).deployment if self.root_file else None

    def current(self) -> Published | None:
        """Return the published version, or None where neither server nor folder is given."""
        if self.folder is not None:
            return read_published(self.folder, self.root)
        return self._ask(self._current) if self.server else None

    def _current(self, get: Getter, log: Fetch) -> Published:
        try:
            return fetch_published(get, self.root, self.cache, log=log)
        except NotVerified as refused:
            # Officers must be able to renew what expired, and to put other cosigners in the place of silent ones.
            if refused.slug not in {"directory-expired", *WITHOUT_COSIGNERS}:
                raise
            click.echo(f"Warning: {refused.title}", err=True)
            if refused.slug == "directory-expired":
                return fetch_expired(get, self.root, self.cache)
            return fetch_published(get, self.root, self.cache, demand_log=False)

    def version(self, version: int, *, oldest_root: bool) -> Published:
        """Return a version that the server published once."""
        return self._ask(
            lambda get, _log: fetch_version(get, self.root, version, oldest_root=oldest_root)
        )

    def _ask(self, work: Callable[[Getter, Fetch], T]) -> T:
        if self.server is None:
            raise Usage("Give --server.")
        with Transport(self.server, proxy=self.proxy) as transport:
            return work(
                lambda name: transport.get(f"/v1/directory/{name}", patience=Patience()),
                from_server(transport, Patience()),
            )


def with_source(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say where the published directory is, as one `source`."""

    @click.option("--server", envvar="AMANA_SERVER", help="Address of the service (AMANA_SERVER).")
    @click.option(
        "--current",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        help="Instead of a server: folder in which the published version was signed.",
    )
    @click.option(
        "--root",
        envvar="AMANA_ROOT",
        type=FILE,
        help="The root file that the officers gave out (AMANA_ROOT).",
    )
    @click.option(
        "--directory-cache",
        envvar="AMANA_DIRECTORY_CACHE",
        type=_path,
        help="Folder that remembers which directory was seen, so that an older one is refused"
        " (AMANA_DIRECTORY_CACHE).",
    )
    @proxy_option
    @wraps(command)
    def with_options(
        server: str | None,
        current: Path | None,
        root: Path | None,
        directory_cache: Path | None,
        proxy: str | None,
        **rest: Any,
    ) -> None:
        command(source=Source(server, current, root, proxy, directory_cache), **rest)

    return with_options


def with_cosigners(command: Command) -> Command:
    """Give a command the options that say which cosigners a root pins."""
    for option in (
        click.option(
            "--freshness-hours",
            type=click.IntRange(1, MAX_FRESHNESS_HOURS),
            help=f"How long a cosignature counts (default {FRESHNESS_HOURS}).",
        ),
        click.option(
            "--quorum",
            type=click.IntRange(0, 32),
            help="How many operators of cosigners must vouch for a directory before anything is sealed.",
        ),
        click.option(
            "--cosigner",
            "cosigners",
            multiple=True,
            metavar="[OPERATOR=]VKEY",
            help="What 'amana cosigner init' printed; repeat. All that the root names.",
        ),
    ):
        command = option(command)
    return command


def _cosigning(
    cosigners: tuple[str, ...], quorum: int | None, freshness_hours: int | None
) -> dict[str, Any] | None:
    """Return what a root is to pin of cosigners, or None where no option speaks of them."""
    if not cosigners and quorum is None and freshness_hours is None:
        return None
    if cosigners and quorum is None:
        raise Usage("How many of the cosigners are needed? Give --quorum.", slug="bad-quorum")
    if not cosigners and (quorum or freshness_hours):
        raise Usage("Name every cosigner with --cosigner, those that stay too.", slug="bad-quorum")
    return cosigning_pins(cosigners, quorum or 0, freshness_hours or FRESHNESS_HOURS)


@click.group()
def officer() -> None:
    """Vouch for readers: nothing is published that fewer than m officers signed."""


def _say(document: dict[str, Any], as_json: bool, text: str) -> None:
    click.echo(json.dumps(document) if as_json else text)


@officer.command()
@click.option("--out", type=_path, required=True, help="Folder for the key file; keep it offline.")
@json_option
def init(out: Path, as_json: bool) -> None:
    """Make an officer's key; the passphrase comes from AMANA_PASSPHRASE or a prompt."""
    keys = PersonKeys.generate("officer")
    path = write_key(keys, out, read_passphrase(confirm=True))
    public = {"id": keys.id, "public": keys.signing.public}
    _say(
        {"key": str(path), **public},
        as_json,
        f"Your key is in {path}.\nPublic: {keys.signing.public}",
    )


@officer.command(name="pending")
@click.argument("file", type=FILE)
@with_source
@json_option
def pending_command(file: Path, source: Source, as_json: bool) -> None:
    """Show who waits in FILE, which 'amana admin pending' fetched; every self-signature is checked here, offline."""
    current = source.current()
    deployment = source.deployment()
    waiting = read_pending(
        read_json(file), current.directory if current else None, deployment=deployment
    )
    warnings = _warn(current, as_json)
    document = {
        "pending": [
            {
                "id": one.id,
                "kind": one.kind,
                "role": one.role,
                "desks": list(one.desks),
                "fingerprint": one.fingerprint,
                "vetting": one.vetting,
                "fault": one.fault,
            }
            for one in waiting
        ],
        "warnings": warnings,
    }
    lines = [line for one in waiting for line in one.words()]
    _say(document, as_json, "\n".join(lines) or "Nobody waits.")
    refused = sum(bool(one.fault) for one in waiting)
    if refused:
        raise NotVerified(f"{refused} of them cannot be accepted.", slug="enrolment-refused")


@officer.command(name="describe")
@click.option("--deployment", required=True, help="The name of the installation.")
@click.option("--desk", "desks", multiple=True, metavar="DESK=LANGUAGE,…", required=True)
@click.option(
    "--desk-name", "names", multiple=True, metavar="DESK:LANGUAGE=TEXT", help="What witnesses read."
)
@click.option("--lead", "leads", multiple=True, metavar="DESK=FILE")
@click.option("--reader", "readers", multiple=True, metavar="DESK=FILE")
@click.option("--custodian", multiple=True, type=FILE)
@click.option("--administrator", multiple=True, type=FILE)
@click.option("--auditor", multiple=True, type=FILE)
@click.option("--partner", "partners", multiple=True, metavar="FILE=PURPOSE,…")
@click.option(
    "--takes", multiple=True, metavar="ID=FLAG,…", help="Restricting flags that a reader may take."
)
@click.option("--custodians", "k", type=click.IntRange(0), help="How many must come together.")
@click.option(
    "--consent", "texts", multiple=True, metavar="LANGUAGE=FILE", help="The text to agree to."
)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True)
@json_option
def describe_command(
    deployment: str,
    desks: tuple[str, ...],
    names: tuple[str, ...],
    leads: tuple[str, ...],
    readers: tuple[str, ...],
    partners: tuple[str, ...],
    takes: tuple[str, ...],
    k: int | None,
    texts: tuple[str, ...],
    out: Path,
    as_json: bool,
    **others: tuple[Path, ...],
) -> None:
    """Describe a first directory in a new file, for 'propose --from'. Every FILE is what 'init --public' wrote.

    Compare the words that are printed with each person by voice. Whoever reads at two desks is given twice.
    """
    if (k is None) == bool(others["custodian"]):
        raise Usage("--custodian and --custodians belong together.", slug="bad-custodians")
    described = {desk: Desk(codes) for desk, codes in _pairs(desks).items()}
    for where, text in map(_pair, names):
        desk, _, language = where.partition(":")
        _desk_of(described, desk).names[language] = text
    for given, part in ((leads, "leads"), (readers, "reviewers")):
        for desk, file in map(_pair, given):
            getattr(_desk_of(described, desk), part).append(read_public(Path(file), "reviewer"))
    found = {role: [read_public(file, role) for file in given] for role, given in others.items()}
    purposes: dict[str, list[str]] = {}
    for file, listed in _pairs(partners).items():
        public = read_public(Path(file), "partner")
        found.setdefault("partner", []).append(public)
        purposes[public["id"]] = listed
    fields = first_description(
        deployment,
        described,
        found,
        purposes,
        _pairs(takes),
        k or 0,
        {language: Path(file) for language, file in map(_pair, texts)},
    )
    proposal = propose(fields, version=1, now=datetime.now(UTC))
    write_new(out, (json.dumps(fields, indent=1, ensure_ascii=False) + "\n").encode("utf-8"))
    summary = proposal.summary()
    _say({"description": str(out), "summary": summary}, as_json, "\n".join(summary))


def _pair(given: str) -> tuple[str, str]:
    name, equals, value = given.partition("=")
    if not equals:
        raise Usage(f"Write NAME=VALUE instead of {given}.")
    return name, value


def _desk_of(desks: dict[str, Desk], name: str) -> Desk:
    if name not in desks:
        raise Usage(f"No --desk is called {name}.", slug="desk-unknown")
    return desks[name]


@officer.command(name="propose")
@click.option("--from", "description", type=_path, help="Description of the directory (JSON).")
@click.option(
    "--version",
    type=click.IntRange(1),
    help="Number of this version, when none is given to start from.",
)
@click.option(
    "--days",
    type=click.IntRange(1, 45),
    default=45,
    show_default=True,
    help="How long it is valid.",
)
@click.option("--out", type=_path, required=True, help="Folder for the proposal.")
@click.option(
    "--online", type=_path, help="First version: what 'amana directory keys --json' printed."
)
@click.option(
    "--officer", "officers", multiple=True, help="First version: public key of an officer; repeat."
)
@click.option("--root-threshold", type=click.IntRange(1), default=2, show_default=True)
@click.option("--targets-threshold", type=click.IntRange(1), default=2, show_default=True)
@with_cosigners
@click.option("--pending", "waiting", type=FILE, help="What 'amana admin pending' fetched.")
@click.option("--accept", "accept", multiple=True, metavar="ID", help="Enter one of those; repeat.")
@click.option("--remove", "gone", multiple=True, metavar="ID", help="Remove a person; repeat.")
@click.option(
    "--takes", multiple=True, metavar="ID=FLAG,…", help="Restricting flags that a reader may take."
)
@click.option(
    "--purposes",
    multiple=True,
    metavar="ID=PURPOSE,…",
    help="Purposes of a partner who is accepted.",
)
@click.option(
    "--custodians", type=click.IntRange(0), help="How many custodians must come together."
)
@click.option(
    "--partner",
    "partners",
    multiple=True,
    metavar="FILE=PURPOSE,…",
    help="Enter a partner, by what 'amana partner init --public' wrote; repeat.",
)
@with_source
@json_option
def propose_command(
    description: Path | None,
    version: int | None,
    days: int,
    out: Path,
    online: Path | None,
    officers: tuple[str, ...],
    root_threshold: int,
    targets_threshold: int,
    cosigners: tuple[str, ...],
    quorum: int | None,
    freshness_hours: int | None,
    waiting: Path | None,
    accept: tuple[str, ...],
    gone: tuple[str, ...],
    takes: tuple[str, ...],
    purposes: tuple[str, ...],
    custodians: int | None,
    partners: tuple[str, ...],
    source: Source,
    as_json: bool,
) -> None:
    """Make an unsigned version of the directory.

    It starts from the published version (--server or --current, with --root), with a new description
    where --from is given, or from the description alone (--from and --version). The very first needs
    --online and --officer besides, and makes the root too.
    """
    current = source.current() if version is None else None
    if current is None and (version is None or description is None):
        raise Usage("Give --server or --current, with --root; or --from with --version.")
    if bool(online) != bool(officers) or (online and current):
        raise Usage("The first version, and no other, needs both --online and --officer.")
    cosigning = _cosigning(cosigners, quorum, freshness_hours)
    if cosigning and not online:
        raise Usage("Cosigners stand in the root: use 'amana officer rotate-root'.")
    if bool(waiting) != bool(accept):
        raise Usage("--pending and --accept belong together.")
    now = datetime.now(UTC)
    fields = read_json(description) if description else describe(_published(current).files)
    root = None
    if online is not None:
        thresholds = (root_threshold, targets_threshold)
        root = _first_root(fields, online, officers, thresholds, cosigning, now)
    try:
        _change(fields, current, waiting, accept, gone, _pairs(takes), _pairs(purposes), now)
        for file, allowed in _pairs(partners).items():
            public = read_public(Path(file), "partner")
            one = Pending(public["id"], "new", role="partner", public=public)
            enter(fields, one, purposes=allowed)
        if custodians is not None:
            fields["custodians"]["k"] = custodians
    except (KeyError, TypeError, AttributeError):
        raise Usage(
            "The description of the directory lacks a part.", slug="directory-invalid"
        ) from None
    proposal = propose(
        fields,
        version=version or _published(current).directory.version + 1,
        now=now,
        days=days,
        root=root,
        current=current,
    )
    _write(proposal, current, out, now, as_json)


def _published(current: Published | None) -> Published:
    if current is None:
        raise Usage("Give --server or --current, with --root.")
    return current


def _first_root(
    fields: Any,
    online: Path,
    officers: tuple[str, ...],
    thresholds: tuple[int, int],
    cosigning: dict[str, Any] | None,
    now: datetime,
) -> Metadata[Root]:
    keys = read_json(online)
    try:
        return new_root(
            list(officers),
            online=keys["online"],
            root_threshold=thresholds[0],
            targets_threshold=thresholds[1],
            pins={**pins(fields.get("deployment", ""), keys), **(cosigning or {})},
            now=now,
        )
    except (KeyError, TypeError, AttributeError, ProtocolError):
        raise Usage(
            "This is not what 'amana directory keys --json' printed.", slug="bad-server-keys"
        ) from None


def _pairs(given: tuple[str, ...]) -> dict[str, list[str]]:
    pairs = {}
    for one in given:
        person, equals, values = one.partition("=")
        if not equals or person in pairs:
            raise Usage("Write ID=one,two, and each id once.")
        pairs[person] = sorted(filter(None, values.split(",")))
    return pairs


def _change(
    fields: dict[str, Any],
    current: Published | None,
    waiting: Path | None,
    accept: tuple[str, ...],
    gone: tuple[str, ...],
    takes: dict[str, list[str]],
    purposes: dict[str, list[str]],
    now: datetime,
) -> None:
    for person in gone:
        remove(fields, person)
    if waiting is not None:
        pending = read_pending(
            read_json(waiting),
            current.directory if current else None,
            deployment=fields["deployment"],
        )
        for one in accepted(pending, accept, now):
            enter(fields, one, purposes=purposes.pop(one.id, []))
    for person, flags in takes.items():
        set_takes(fields, person, flags)
    if purposes:
        raise Usage("--purposes names nobody who is accepted.", slug="unknown-person")


def _write(
    proposal: Proposal, current: Published | None, out: Path, now: datetime, as_json: bool
) -> None:
    _refuse_filled(out)
    proposal.check(now)
    proposal.save(out)
    changed = [] if current is None else compare(_side(current), _side(proposal))
    document = {
        "proposal": str(out),
        "version": proposal.targets.signed.version,
        "summary": proposal.summary(),
        "changes": changed,
        "signatures": list(map(str, proposal.signatures())),
        "warnings": _warn(current, as_json),
    }
    _say(document, as_json, "\n".join([*proposal.summary(), *changed]))


def _refuse_filled(folder: Path) -> None:
    """Refuse a folder for a proposal that holds something, or cannot be one; raises Usage."""
    try:
        is_filled = any(folder.iterdir())
    except FileNotFoundError:
        return
    except OSError:
        raise Usage(
            "The folder for the proposal cannot be written.", slug="folder-unusable"
        ) from None
    if is_filled:
        raise Usage("The folder for the proposal is not empty.", slug="folder-taken")


@officer.command(name="rotate-root")
@click.option("--add", multiple=True, metavar="PUBLIC", help="Public key of a new officer; repeat.")
@click.option(
    "--drop", multiple=True, metavar="PUBLIC", help="Public key of an officer who goes; repeat."
)
@click.option("--root-threshold", type=click.IntRange(1), help="Default: as it is.")
@click.option("--targets-threshold", type=click.IntRange(1), help="Default: as it is.")
@click.option(
    "--online",
    type=_path,
    help="New keys of the server: what 'amana directory keys --json' printed.",
)
@click.option(
    "--reopen",
    type=click.Choice(["custody", "directory"]),
    multiple=True,
    help="End this log and begin another in its place, when it is frozen or forked.",
)
@with_cosigners
@click.option("--out", type=_path, required=True, help="Folder for the proposal.")
@with_source
@json_option
def rotate_root_command(
    add: tuple[str, ...],
    drop: tuple[str, ...],
    root_threshold: int | None,
    targets_threshold: int | None,
    online: Path | None,
    reopen: tuple[str, ...],
    cosigners: tuple[str, ...],
    quorum: int | None,
    freshness_hours: int | None,
    out: Path,
    source: Source,
    as_json: bool,
) -> None:
    """Propose the next root, and the directory's next version under it.

    Enough officers of the old root and of the new one sign it. Whoever lost a key need not sign, as
    long as the others are enough; without other options the root is only renewed. Cosigners that are given
    take the place of all before; '--quorum 0' alone lets the root name none.
    """
    current = _published(source.current())
    now = datetime.now(UTC)
    try:
        root = rotate_root(
            current.root.signed,
            add=add,
            drop=drop,
            root_threshold=root_threshold,
            targets_threshold=targets_threshold,
            online=read_json(online) if online else None,
            reopen=reopen,
            cosigning=_cosigning(cosigners, quorum, freshness_hours),
            now=now,
        )
    except (KeyError, TypeError, AttributeError, ProtocolError):
        raise Usage(
            "This is not what 'amana directory keys --json' printed.", slug="bad-server-keys"
        ) from None
    proposal = propose(
        describe(current.files),
        version=current.directory.version + 1,
        now=now,
        root=root,
        current=current,
    )
    _write(proposal, current, out, now, as_json)


@officer.command()
@click.option("--from", "before", required=True, metavar="DIR|VERSION", help="The older one.")
@click.option("--to", "after", metavar="DIR|VERSION", help="The newer one; default: the current.")
@with_source
@json_option
def audit(before: str, after: str | None, source: Source, as_json: bool) -> None:
    """Say in words what changed between two versions: numbers of published ones, or folders of proposals."""
    # Rather say too much of the root than too little.
    sides = [_named(before, source, oldest_root=True), _named(after, source)]
    changed = compare(*sides)
    versions = [one.targets.signed.version for one in sides]
    document = {"from": versions[0], "to": versions[1], "changes": changed}
    _say(document, as_json, "\n".join(changed) or "Nothing changed.")


def _named(which: str | None, source: Source, *, oldest_root: bool = False) -> Version:
    if which is None:
        return _side(_published(source.current()))
    if which.isdecimal() and len(which) <= VERSION_DIGITS:
        return _side(source.version(int(which), oldest_root=oldest_root))
    return _side(Proposal.load(Path(which), expired_too=True))


def _side(one: Published | Proposal) -> Version:
    root = one.governing_root if isinstance(one, Proposal) else one.root
    return Version(one.files, one.targets, root)


def _warn(one: Published | None, as_json: bool) -> list[str]:
    """Say on standard error what expires soon; returns it for those who read JSON."""
    if one is None:
        return []
    return _show_warnings(one.root.signed, one.targets.signed, as_json)


def _show_warnings(root: Root | None, targets: Targets, as_json: bool) -> list[str]:
    warnings = expiry_warnings(root, targets, datetime.now(UTC))
    if not as_json:
        for warning in warnings:
            click.echo(f"Warning: {warning}", err=True)
    return warnings


@officer.command(name="sign")
@click.argument("proposal", type=_path)
@click.option(
    "--key", envvar="AMANA_KEY", type=_path, required=True, help="Your key file (AMANA_KEY)."
)
@click.option(
    "--root",
    type=FILE,
    help="Your own root file, the one in force or the one before it: the proposal's must agree with it.",
)
@json_option
def sign_command(proposal: Path, key: Path, root: Path | None, as_json: bool) -> None:
    """Read what a proposal changes and what it says, and add your signature."""
    loaded = Proposal.load(proposal)
    if root is not None:
        check_current_root(loaded, read_limited(root, ROOT_LIMIT_BYTES))
    changed = None if loaded.current is None else compare(loaded.current, _side(loaded))
    if not as_json:
        click.echo("\n".join([*_changes_in(loaded, changed), *loaded.summary()]))
        if sys.stdin.isatty() and not click.confirm("Sign this?", err=True):
            raise Usage("Nothing was signed.", slug="not-confirmed")
    keys = read_key(key, read_passphrase())
    if keys.role != "officer":
        raise Usage("This is not an officer's key.")
    signed = sign(loaded, keys)
    loaded.save(proposal)
    count = len(loaded.targets.signatures)
    standing = list(map(str, loaded.signatures()))
    _say(
        {
            "signed": signed,
            "signatures": count,
            "standing": standing,
            "changes": changed,
            "summary": loaded.summary(),
        },
        as_json,
        "\n".join(
            [f"Signed: {', '.join(signed)}. The directory has {count} signature(s).", *standing]
        ),
    )


def _changes_in(proposal: Proposal, changed: list[str] | None) -> list[str]:
    """Say what a signature would change, before everything that it would vouch for."""
    if proposal.current is not None:
        before = proposal.current.targets.signed.version
        first = [f"What changes since version {before}:", *(changed or ["nothing"])]
    elif proposal.targets.signed.version == 1:
        first = ["This is the first version: all of it is new."]
    else:
        first = [
            "The proposal does not carry the version before it: see with 'amana officer audit' what changes."
        ]
    return [*first, "", "What you would sign:"]


@officer.command()
@click.argument("proposals", type=_path, nargs=-1, required=True)
@click.option(
    "--out", type=_path, required=True, help="File for those who watch; what stands in it stays."
)
@json_option
def expect(proposals: tuple[Path, ...], out: Path, as_json: bool) -> None:
    """Announce to monitors what PROPOSALS will publish, before they are published."""
    loaded = [Proposal.load(one, expired_too=True) for one in proposals]
    deployment = parse_directory(loaded[0].files).deployment
    before = Expectations.read(out) if out.exists() else Expectations(deployment)
    announced = before.announcing(loaded)
    announced.write(out)
    versions = sorted(announced.directories)
    _say(
        {"expectations": str(out), "directories": versions, "roots": sorted(announced.roots)},
        as_json,
        f"Announced: directory {', '.join(map(str, versions))}.",
    )


@officer.command()
@click.argument("proposal", type=_path)
@server_option
@proxy_option
@json_option
def publish(proposal: Path, server: str, proxy: str | None, as_json: bool) -> None:
    """Bring a signed proposal to the server, which accepts it for its signatures alone."""
    loaded = Proposal.load(proposal)
    with Transport(server, proxy=proxy) as transport:
        answer = transport.ask(
            "POST",
            "/v1/directory",
            headers={"Content-Type": "application/json"},
            content=canonical(loaded.bundle()),
        )
    if answer.status != 200:
        raise answer.refusal()
    version = answer.document().get("version")
    root = loaded.governing_root.signed if loaded.governing_root else None
    warnings = _show_warnings(root, loaded.targets.signed, as_json)
    _say(
        {"version": version, "warnings": warnings},
        as_json,
        f"Version {version} is published. It is valid until {loaded.targets.signed.expires:%Y-%m-%d}.",
    )
