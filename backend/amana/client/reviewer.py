# SPDX-License-Identifier: AGPL-3.0-or-later
"""The reviewer's end: the queue, and a case opened on their own device. What does not verify leaves nothing behind.

Nothing is shown, played or run here: a file of a stranger stays a file.
"""

import hashlib
import os
import re
import shutil
import stat
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Final

from amana.client.desk import DeskClient
from amana.client.errors import ClientError, NetworkFailed, NotVerified, Usage
from amana.client.filenames import safe_name
from amana.client.keyfile import PersonKeys, intake_key_fields
from amana.client.progress import Advance, Progress
from amana.client.staff import Staff
from amana.protocol.account import LIMIT_BYTES as ACCOUNT_LIMIT
from amana.protocol.account import parse_account
from amana.protocol.case import GRANT_SIZE, intake_key_id, open_grant, seal_grant
from amana.protocol.consent import Entry, parse_chain
from amana.protocol.directory import Directory, RootPins, eligible
from amana.protocol.encoding import (
    b64,
    check_id,
    check_sha256_hex,
    parse_day,
    sha256_hex,
    unb64,
)
from amana.protocol.errors import CannotOpen, ProtocolError
from amana.protocol.manifest import LIMIT_BYTES as MANIFEST_LIMIT
from amana.protocol.manifest import Manifest, SealedObject, parse_manifest
from amana.protocol.policy import DESK
from amana.protocol.receipt import Receipt, verify_receipt
from amana.protocol.sealing import (
    Digests,
    Identity,
    Kind,
    Recipient,
    TooLarge,
    framed_size,
    open_sealed,
    open_stream,
    sealed_size,
)

ACCOUNT: Final = "account.json"
UNREADABLE_ACCOUNT: Final = "account.raw"
MANIFEST: Final = "manifest.json"
READABLE_KINDS: Final = frozenset({"account", "file"})
PAGE: Final = 100
BLOCK_BYTES: Final = 2**20
MAX_COMPARED: Final = 10_000
_STATE: Final = re.compile(r"[a-z][a-z-]{0,31}")
_CURSOR: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")


class NoGrant(ClientError):
    """The case was not sealed to this reader."""

    exit_status = 1
    slug = "no-grant"


class GrantUnusable(NotVerified):
    """One's own grant does not open, or opens another case: somebody else must take the case."""


@dataclass(frozen=True)
class ListedCase:
    """A case in the queue; `objects` counts the account too, `size` is in sealed bytes."""

    case: str
    desk: str
    state: str
    received_on: str
    objects: int
    size: int
    language: str
    flags: tuple[str, ...]
    intake_key: str
    """The short name of the key of one's own to which it is sealed."""
    assigned: str
    """Whose it is: `mine`, `offered` to me, `another`'s, or `nobody`'s."""


@dataclass(frozen=True)
class Told:
    """Cases, each with a day: withdrawn by their witness, ended because their time was over, or about to end so."""

    withdrawn: dict[str, str]
    expired: dict[str, str]
    expiring: dict[str, str]


@dataclass(frozen=True)
class Rewrapped:
    """Cases whose grants were sealed anew, and those under a key that is not there any more."""

    done: tuple[str, ...]
    left: tuple[str, ...]


@dataclass(frozen=True)
class HeldKey:
    """How many cases are sealed to one key of one's own: at hand, still arriving, at desks that one left."""

    intake_key: str
    open: int = 0
    arriving: int = 0
    elsewhere: int = 0


def spent_keys(keys: PersonKeys, held: Mapping[str, HeldKey], today: date) -> frozenset[str]:
    """Return the short names of the former keys that nothing needs any more.

    The server's counts are not enough: a phone may hold the directory that lists the key for as long as
    that is valid, and a server may lie.
    """
    return frozenset(
        one.name
        for one in keys.former
        if one.kept_until is not None
        and one.kept_until < today
        and not (one.name in held and (held[one.name].open or held[one.name].arriving))
    )


@dataclass(frozen=True)
class Opened:
    """What an opening left in `folder`: names of files in the order of the objects, and what a reader should know."""

    case: str
    folder: Path
    received_on: str
    directory: int
    files: tuple[str, ...]
    warnings: tuple[str, ...]
    claimed: bool
    """Whether nobody had the case, so that it was claimed first."""
    adds_to: str | None
    same_codename: tuple[str, ...]
    """Cases opened beside this one, in the folder that holds `folder`, that came under the same codename."""
    in_vault: tuple[str, ...]
    """What lies in the vault: `identity`, `originals`."""


@dataclass(frozen=True, repr=False)
class VerifiedCase:
    """A case whose receipt, policy, grant and manifest were verified against each other."""

    manifest: Manifest
    manifest_bytes: bytes
    entries: tuple[Entry, ...]
    """The chain of policies; the first is the one that was sealed with."""
    receipt: Receipt
    key: Identity
    sizes: tuple[int, ...]
    """Sealed sizes of the objects, in bytes."""
    handed_over: bool
    """Whether a colleague, not the witness, sealed it to this reader."""

    def parts(self, kinds: Collection[str]) -> list["Part"]:
        """Return the objects of these kinds in their order."""
        both = zip(self.manifest.objects, self.sizes, strict=True)
        return [Part(item, size) for item, size in both if item.kind in kinds]


@dataclass(frozen=True)
class Part:
    """An object and its sealed size in bytes."""

    item: SealedObject
    size: int


class Reviewer(Staff):
    """A reader, who lists, opens, and seals anew to their next key what was sealed to them."""

    def cases(self, desk: str | None = None, state: str | None = None) -> list[ListedCase]:
        """Return the cases that were sealed to this reader, newest first; raises Refused."""
        for value, form in ((desk, DESK), (state, _STATE)):
            if value is not None and not re.fullmatch(form, value):
                raise Usage("This is not the name of a desk or a state.")
        query = "".join(f"&{k}={v}" for k, v in (("desk", desk), ("state", state)) if v)
        found: list[ListedCase] = []
        cursor = ""
        while True:
            after = f"&cursor={cursor}" if cursor else ""
            page = self._desk.get(f"/v1/cases?limit={PAGE}{query}{after}").document()
            try:
                listed = [_listed(one) for one in page["cases"]]
                following = page["next"]
                if following is not None and not (listed and _CURSOR.fullmatch(following)):
                    raise ValueError
            except (KeyError, TypeError, ValueError):
                raise NotVerified("The queue is not in its form.", slug="bad-answer") from None
            found += listed
            if following is None:
                return found
            cursor = following

    def told(self) -> Told:
        """Return what this reader must hear about cases of theirs; of the last weeks."""
        document = self._desk.get("/v1/cases?limit=1").document()
        try:
            days = [
                {check_id(one["case"]): parse_day(one[day]).isoformat() for one in document[name]}
                for name, day in (
                    ("withdrawn", "withdrawn_on"),
                    ("expired", "expired_on"),
                    ("expiring", "ends_on"),
                )
            ]
        except (KeyError, TypeError, ValueError):
            raise NotVerified("The queue is not in its form.", slug="bad-answer") from None
        return Told(*days)

    def open(self, case: str, out: Path) -> Opened:
        """Sign an opening, verify everything that belongs to a case, and write it into the folder `out`.

        Raises NotVerified, after which nothing is left; NetworkFailed, after which sealed bytes are
        left from which a repetition goes on; Refused, NoGrant and Usage.
        """
        case_argument(case)
        with workplace_in(out, case, (ACCOUNT, UNREADABLE_ACCOUNT, MANIFEST)) as workplace:
            verified = self._directory()
            described = self._desk.get(f"/v1/cases/{case}").document()
            with verifying("the case"):
                claimed = self._claim_if_free(case, described, verified.directory.version)
            self._desk.act(
                "open",
                f"/v1/cases/{case}/openings",
                directory=verified.directory.version,
                case=case,
            )
            with verifying("the case"):
                found = verify_case(self._desk, verified.pins, case, described)
            beside = _threads_beside(out)
            warnings = _doubts(found, verified.directory, beside)
            # What lies in the vault does not open with the case key, and is not given out.
            parts = found.parts(READABLE_KINDS)
            download(self._desk, parts, f"/v1/cases/{case}/objects", workplace, self._progress)
            plain = open_objects(parts, found.key, workplace, self._progress)
            taken = {ACCOUNT, UNREADABLE_ACCOUNT, MANIFEST}
            names = [ACCOUNT, *names_for(parts[1:], out, taken)]
            if fault := _fault_of_account(plain[0]):
                names[0] = UNREADABLE_ACCOUNT
                warnings.append(fault)
            described_by = workplace / f"{MANIFEST}.plain"
            described_by.write_bytes(found.manifest_bytes)
            # The manifest comes last: where it stands, the rest is whole.
            for path, name in zip((*plain, described_by), (*names, MANIFEST), strict=True):
                path.chmod(0o600)
                path.rename(out / name)
        return Opened(
            case=case,
            folder=out,
            received_on=found.receipt.received_on,
            directory=found.manifest.directory,
            files=(*names, MANIFEST),
            warnings=tuple(warnings),
            claimed=claimed,
            adds_to=found.manifest.adds_to,
            same_codename=_same_codename(found.manifest, beside),
            in_vault=tuple(one.vault for one in found.manifest.vaults),
        )

    def claim(self, case: str) -> None:
        """Take a case that was offered to one, or that nobody has; raises Refused."""
        case_argument(case)
        self.act("claim", f"/v1/cases/{case}/claims", case=case, body={})

    def counts(self, desk: str | None = None) -> dict[str, int]:
        """Return how many of one's cases are in each state; 1000 stands for a thousand and more."""
        query = f"?desk={desk}" if desk is not None and re.fullmatch(DESK, desk) else ""
        found = self._desk.get(f"/v1/case-counts{query}").document().get("counts")
        try:
            counted = dict(found or {})
            if not all(_STATE.fullmatch(k) and type(n) is int for k, n in counted.items()):
                raise ValueError
        except (AttributeError, TypeError, ValueError):
            raise NotVerified("The counts are not in their form.", slug="bad-answer") from None
        return counted

    def _claim_if_free(self, case: str, described: Mapping[str, Any], version: int) -> bool:
        """Claim a case before it is opened, unless somebody has it; whoever has it is told from others by the server."""
        there = described["assignments"]
        if any(one["claimed_on"] and one["part"] == "first" for one in there):
            mine = next((one for one in there if one["reader"] == self.keys.id), None)
            if mine is None or mine["claimed_on"]:
                return False
        path = f"/v1/cases/{case}/claims"
        self._desk.act("claim", path, directory=version, case=case)
        return True

    def listed_key(self) -> Recipient:
        """Return the intake key that the officers list now; raises Usage where they list none."""
        return _listed_key(self._directory().directory, self.keys.id)

    def ask_for_key(self, keys: PersonKeys) -> None:
        """Ask the officers to list the newest intake key of `keys`, once more if need be; raises Refused."""
        verified = self._directory()
        replaced = intake_key_id(_listed_key(verified.directory, keys.id))
        body = {**intake_key_fields(keys), "replaces": replaced}
        path = "/v1/key-replacements"
        self._desk.act("replace-key", path, directory=verified.directory.version, body=body)

    def returned(self) -> list[dict[str, str]]:
        """Return the cases of a lead's desks whose reader is gone: put out, or their access ended."""
        found = self._desk.get("/v1/returned-cases").document()
        try:
            return [
                {
                    "case": check_id(one["case"]),
                    "desk": str(one["desk"]),
                    "claimed_by": check_id(one["claimed_by"]),
                    "claimed_on": parse_day(one["claimed_on"]).isoformat(),
                }
                for one in found["cases"]
            ]
        except (KeyError, TypeError, ValueError):
            raise NotVerified("The list is not in its form.", slug="bad-answer") from None

    def could_open(self, person: str) -> list[dict[str, str]]:
        """Return what somebody who is gone could open at a lead's desks; raises Refused."""
        try:
            check_id(person)
        except ProtocolError:
            raise Usage("A person is called by 32 letters and digits.", slug="bad-id") from None
        found: list[dict[str, str]] = []
        cursor, after = "", ""
        while True:
            page = self._desk.get(f"/v1/leavers/{person}{after}").document()
            try:
                more = [
                    {
                        "case": check_id(one["case"]),
                        "desk": str(one["desk"]),
                        "received_on": parse_day(one["received_on"]).isoformat(),
                    }
                    for one in page["could_open"]
                ]
                following = page["next"]
                # A server that never ends its pages must not keep the client for ever.
                if following is not None and (
                    not more or following == cursor or not _CURSOR.fullmatch(following)
                ):
                    raise ValueError
            except (KeyError, TypeError, ValueError):
                raise NotVerified("The list is not in its form.", slug="bad-answer") from None
            found += more
            if following is None:
                return found
            cursor, after = following, f"?cursor={following}"

    def rewrap(self) -> Rewrapped:
        """Seal every grant under a former key to the newest one, which the directory must list by now.

        May be repeated at any time. Raises Usage while the officers have not listed the new key.
        """
        verified = self._directory()
        newest = self.keys.intake_recipient
        name = intake_key_id(newest)
        listed = verified.directory.intake_key(self.keys.id)
        if listed is None or intake_key_id(listed) != name:
            raise Usage("The officers do not list your newest key yet.", slug="key-not-listed")
        waiting = [one for one in self.cases(state="any") if one.intake_key != name]
        done, left = [], []
        with self._progress.step("Sealing anew", len(waiting)) as advance:
            for one in waiting:
                identity = self.keys.identity_for(one.intake_key)
                if identity is None:
                    left.append(one.case)
                else:
                    self._rewrap_one(verified.directory.version, one.case, identity, newest)
                    done.append(one.case)
                advance(1)
        return Rewrapped(tuple(done), tuple(left))

    def held_keys(self) -> dict[str, HeldKey]:
        """Return by short name what is sealed to each key of one's own, as the server counts it."""
        document = self._desk.get("/v1/intake-keys").document()
        try:
            found = [
                HeldKey(check_id(one["intake_key"]), one["open"], one["arriving"], one["elsewhere"])
                for one in document["intake_keys"]
            ]
            # They are printed: nothing but numbers may come this far.
            counts = [n for one in found for n in (one.open, one.arriving, one.elsewhere)]
            if not all(type(n) is int for n in counts):
                raise ValueError
        except (KeyError, TypeError, ValueError):
            raise NotVerified("The list is not in its form.", slug="bad-answer") from None
        return {one.intake_key: one for one in found}

    def _rewrap_one(self, directory: int, case: str, identity: Identity, newest: Recipient) -> None:
        # Its own kind of action: what a server lists here must not get signed as a reading.
        path = f"/v1/cases/{case}/re-wrappings"
        self._desk.act("re-wrap", path, directory=directory, case=case)
        with verifying("the grant"):
            _, sealed = own_grant(self._desk, case)
            fresh = seal_grant(open_grant(sealed, identity, case), newest)
        body = {"intake_key": intake_key_id(newest), "grant": b64(fresh)}
        path = f"/v1/cases/{case}/grants"
        self._desk.act("grant", path, directory=directory, case=case, body=body)


def _listed(fields: Mapping[str, Any]) -> ListedCase:
    """Read one entry; nothing but these forms may reach a terminal."""
    counts = (fields["objects"], fields["size"])
    words = [fields[name] for name in ("desk", "state", "language", "assigned")] + fields["flags"]
    if not all(type(one) is int and 0 <= one < 2**53 for one in counts):
        raise ValueError
    if not all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", one) for one in words):
        raise ValueError
    return ListedCase(
        case=check_id(fields["case"]),
        desk=fields["desk"],
        state=fields["state"],
        received_on=parse_day(fields["received_on"]).isoformat(),
        objects=fields["objects"],
        size=fields["size"],
        language=fields["language"],
        flags=tuple(fields["flags"]),
        intake_key=check_id(fields["intake_key"]),
        assigned=fields["assigned"],
    )


def case_argument(case: str) -> None:
    """Refuse what is no id of a case; raises Usage."""
    try:
        check_id(case)
    except ProtocolError:
        raise Usage("A case is called by 32 letters and digits.", slug="bad-case") from None


@contextmanager
def workplace_in(out: Path, what: str, results: Collection[str]) -> Iterator[Path]:
    """Give a private folder inside `out`; it goes when the work ends, but for sealed bytes to go on with.

    `what` is the id of what is opened; files of the names `results` show that it was opened here before.
    """
    if any((out / name).exists() for name in results):
        raise Usage("This folder holds an opened case already; name another.", slug="folder-taken")
    workplace = out / f".opening-{what}"
    is_new = not out.exists()
    try:
        out.mkdir(mode=0o700, parents=True, exist_ok=True)
        workplace.mkdir(mode=0o700, exist_ok=True)
        found = workplace.lstat()
    except OSError:
        raise Usage("The folder cannot be written, or is full.", slug="folder-unusable") from None
    # Before anything is cleared: what somebody else put here may lead into a folder with other files.
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise Usage("Somebody else made files in this folder.", slug="folder-unusable")
    keep = True
    try:
        yield workplace
        keep = False
    except NotVerified:
        keep = False
        raise
    except OSError:
        raise Usage("The folder cannot be written, or is full.", slug="folder-unusable") from None
    finally:
        for path in workplace.glob("*.plain"):
            path.unlink()
        if not keep:
            shutil.rmtree(workplace)
        for folder in (workplace, *([out] if is_new else [])):
            # Only what is empty goes.
            with suppress(OSError):
                folder.rmdir()


@contextmanager
def verifying(what: str) -> Iterator[None]:
    """Say of what a form or a signature does not hold."""
    try:
        yield
    except ProtocolError as error:
        raise NotVerified(f"{what.capitalize()}: {error.title}", slug=error.slug) from None
    except (KeyError, TypeError, AttributeError):
        raise NotVerified(
            f"{what.capitalize()}: the server's answer is not in its form.", slug="bad-answer"
        ) from None


def _fault_of_account(path: Path) -> str | None:
    """Say what is wrong with the form of an authentic account.

    The witness's words must not be lost to a fault of their program or to a newer form, so such an
    account is kept byte for byte, under a name that promises nothing.
    """
    with path.open("rb") as file:
        content = file.read(ACCOUNT_LIMIT + 1)
    try:
        parse_account(content)
    except ProtocolError as error:
        return (
            f"The account is what the witness sealed but not in its form ({error.slug});"
            f" it is in {UNREADABLE_ACCOUNT}."
        )
    return None


def verify_case(
    desk: DeskClient, pins: RootPins, case: str, described: Mapping[str, Any]
) -> VerifiedCase:
    """Fetch receipt, policy, own grant and manifest, and check that they are about one case and agree."""
    receipt = verify_receipt(described["receipt"], pins.custody_log_key)
    entries = parse_chain(described["policies"])
    policy = entries[0].policy
    event = receipt.event
    deployment = pins.deployment
    _demand(
        receipt.case == case
        and receipt.deployment == deployment
        and event["kind"] == "testimony-received",
        "receipt-differs",
        "The receipt is of another case.",
    )
    _demand(
        policy.sha256 == event["policy_sha256"] and policy.deployment == deployment,
        "policy-differs",
        "The policy is not the one with which the testimony arrived.",
    )
    key = _openown_grant(desk, case, event["grants"])
    sealed = desk.get(f"/v1/cases/{case}/manifest", limit=sealed_size(MANIFEST_LIMIT)).body
    _demand(
        sha256_hex(sealed) == event["manifest_sha256"],
        "manifest-differs",
        "The manifest is not the one that arrived.",
    )
    content = open_sealed(sealed, key, Kind.MANIFEST)
    manifest = parse_manifest(content)
    _demand(
        manifest.case == case and manifest.deployment == deployment,
        "manifest-differs",
        "The manifest is of another case.",
    )
    _demand(
        manifest.policy_sha256 == policy.sha256,
        "policy-differs",
        "The policy is not the one that the witness sealed the testimony under.",
    )
    arrived = event["objects"]
    _demand(
        [(one["i"], check_sha256_hex(one["sealed_sha256"])) for one in arrived]
        == [(one.i, one.sealed_sha256) for one in manifest.objects],
        "objects-differ",
        "The objects that arrived are not those that the witness lists.",
    )
    sizes = tuple(_size_on_the_wire(one) for one in manifest.objects)
    # Before anything is fetched: a size that the witness did not make would only fill this device.
    _demand(
        [one["size"] for one in arrived] == list(sizes),
        "objects-differ",
        "An object that arrived has another size than the witness lists.",
    )
    _demand(
        event["shares"] == [one.document() for one in manifest.vaults],
        "shares-differ",
        "The shares of the vault that arrived are not those that the witness sealed.",
    )
    handed_over = all(one["reader"] != desk.keys.id for one in event["grants"])
    return VerifiedCase(manifest, content, entries, receipt, key, sizes, handed_over)


def _kind(item: SealedObject) -> Kind:
    """Tell how an object is sealed: an account that no bucket of accounts holds travels as a file."""
    if item.i == 0:
        with suppress(TooLarge):
            framed_size(Kind.ACCOUNT, item.len)
            return Kind.ACCOUNT
    return Kind.FILE


def _size_on_the_wire(item: SealedObject) -> int:
    return sealed_size(framed_size(_kind(item), item.len))


def _openown_grant(desk: DeskClient, case: str, arrived: list[Mapping[str, Any]]) -> Identity:
    """Fetch this reader's grant and open it.

    Under the key to which it arrived it must be the grant that arrived. One that was sealed anew, or by a
    colleague, is another, but the case's id commits to the case key, so no other key can be slipped in.
    """
    label = next((one for one in arrived if one["reader"] == desk.keys.id), None)
    name, sealed = own_grant(desk, case)
    if label is not None and name == label["intake_key"] and sha256_hex(sealed) != label["sha256"]:
        raise NotVerified(
            "The server does not give the grant that arrived with the testimony.",
            slug="grant-differs",
        )
    return open_with_own_key(desk, case, name, sealed)


def open_with_own_key(desk: DeskClient, case: str, name: str, sealed: bytes) -> Identity:
    """Open a grant under one's key of that short name; raises NoGrant and GrantUnusable."""
    identity = desk.keys.identity_for(name)
    if identity is None:
        raise NoGrant("This case was sealed to another key of yours.", slug="grant-for-other-key")
    try:
        return open_grant(sealed, identity, case)
    except CannotOpen as error:
        raise GrantUnusable(f"The grant: {error.title}", slug=error.slug) from None


def own_grant(desk: DeskClient, case: str) -> tuple[str, bytes]:
    """Fetch this reader's grant of an opened case; returns the short name of its key, and its bytes."""
    for one in desk.get(f"/v1/cases/{case}/grants").document()["grants"]:
        if one["reader"] == desk.keys.id:
            return check_id(one["intake_key"]), unb64(one["grant"], GRANT_SIZE)
    raise NotVerified(
        "The server gives no grant of yours, though one arrived.", slug="grant-differs"
    )


def _demand(condition: bool, slug: str, title: str) -> None:
    if not condition:
        raise NotVerified(title, slug=slug)


def _doubts(found: VerifiedCase, directory: Directory, beside: Mapping[str, str]) -> list[str]:
    """Say what does not forbid reading but a reader should know; `beside` are threads of cases opened beside it."""
    told = ["A colleague sealed it to you, not the witness."] if found.handed_over else []
    added, same = found.manifest.adds_to, _same_codename(found.manifest, beside)
    if added is not None:
        # Whoever wrote it says so; only where both were opened can it be seen.
        other = ", but that one came under ANOTHER codename" if added in beside else ""
        told.append(f"It says that it adds to the case {added}{'' if added in same else other}.")
    if same:
        told.append(f"It came under the same codename as {', '.join(same)}.")
    if added is not None or same:
        told.append("A codename can be forced out of a person: it does not show who wrote.")
    return told + _doubts_of_readers(found, directory)


def _listed_key(directory: Directory, person: str) -> Recipient:
    listed = directory.intake_key(person)
    if listed is None:
        raise Usage("The directory lists no key of yours.", slug="key-not-listed")
    return listed


def _same_codename(manifest: Manifest, beside: Mapping[str, str]) -> tuple[str, ...]:
    mine = {case for case, thread in beside.items() if thread == manifest.thread}
    return tuple(sorted(mine - {manifest.case}))


def _threads_beside(out: Path) -> dict[str, str]:
    """Return the thread key of each case that is open in a folder beside `out`; nothing else is kept to compare with."""
    found = {}
    with suppress(OSError):
        for path in islice(out.absolute().parent.glob(f"*/{MANIFEST}"), MAX_COMPARED):
            with suppress(OSError, ProtocolError):
                if path.is_file():
                    manifest = parse_manifest(_at_most(path, MANIFEST_LIMIT))
                    found[manifest.case] = manifest.thread
    return found


def _at_most(path: Path, limit: int) -> bytes:
    with path.open("rb") as file:
        return file.read(limit + 1)


def _doubts_of_readers(found: VerifiedCase, directory: Directory) -> list[str]:
    if found.manifest.directory != directory.version:
        return [
            f"The testimony was sealed under version {found.manifest.directory} of the directory;"
            f" whom it was sealed to was not compared with version {directory.version}."
        ]
    try:
        admitted = eligible(directory, found.entries[0].policy)
    except ProtocolError:
        admitted = frozenset()
    strangers = [
        check_id(label["reader"])
        for label in found.receipt.event["grants"]
        if label["reader"] not in admitted
    ]
    return [
        f"It was also sealed to {one}, whom the directory does not let read it."
        for one in strangers
    ]


def download(
    desk: DeskClient, parts: Sequence[Part], address: str, workplace: Path, progress: Progress
) -> None:
    """Fetch objects as they are sealed, each below `address`; go on where an earlier connection, or run, was cut."""
    paths = [workplace / f"{part.item.i}.age" for part in parts]
    there = sum(path.stat().st_size for path in paths if path.exists())
    with progress.step("Downloading", sum(part.size for part in parts), done=there) as advance:
        for part, path in zip(parts, paths, strict=True):
            _demand(
                _download_one(desk, address, part, path, advance) == part.item.sealed_sha256,
                "object-differs",
                f"Object {part.item.i} is not what the witness sealed.",
            )


def _download_one(desk: DeskClient, address: str, part: Part, path: Path, advance: Advance) -> str:
    """Complete one sealed object in `path`; returns its hash."""
    item, size = part.item, part.size
    digest = hashlib.sha256()
    with path.open("a+b") as file:
        file.seek(0)
        while block := file.read(BLOCK_BYTES):
            digest.update(block)

        def write(block: bytes) -> None:
            file.write(block)
            digest.update(block)
            advance(len(block))

        failures = 0
        while (have := file.tell()) < size:
            headers = {"Range": f"bytes={have}-", "If-Range": f'"{item.sealed_sha256}"'}
            try:
                answer = desk.ask(
                    "GET",
                    f"{address}/{item.i}",
                    headers=headers if have else None,
                    limit=size - have,
                    write=write,
                )
                if answer.status not in {200, 206}:
                    raise answer.refusal()
                if file.tell() < size:
                    raise NetworkFailed("The connection to the server was cut.")
            except NetworkFailed as failure:
                failures = 1 if file.tell() > have else failures + 1
                desk.patience.wait(failures, failure)
    return digest.hexdigest()


def open_objects(
    parts: Sequence[Part], key: Identity, workplace: Path, progress: Progress
) -> list[Path]:
    """Open every object to a temporary name and check that it is what the manifest says."""
    opened = []
    with progress.step("Opening", sum(part.item.len for part in parts)) as advance:
        for item in (part.item for part in parts):
            sealed, plain = workplace / f"{item.i}.age", workplace / f"{item.i}.plain"
            with (
                verifying(f"object {item.i}"),
                sealed.open("rb") as source,
                plain.open("wb") as target,
            ):
                digests = _open_one(source, target, key, _kind(item), advance)
            _demand(
                (digests.sha256, digests.length, digests.sealed_sha256)
                == (item.sha256, item.len, item.sealed_sha256),
                "object-differs",
                f"Object {item.i} opens, but is not what the witness's manifest says.",
            )
            sealed.unlink()
            opened.append(plain)
    return opened


def _open_one(
    source: BinaryIO, target: BinaryIO, key: Identity, kind: Kind, advance: Advance
) -> Digests:
    digests = open_stream(source, target, key, kind=kind, progress=advance)
    target.flush()
    os.fsync(target.fileno())
    return digests


def names_for(parts: Sequence[Part], out: Path, taken: Collection[str]) -> list[str]:
    """Give every object a name that is safe and not taken, also not by a file that was there before."""
    names: list[str] = []
    used = {*taken, *(path.name for path in out.iterdir())}
    for part in parts:
        name = safe_name(part.item.name, used)
        used.add(name)
        names.append(name)
    return names
