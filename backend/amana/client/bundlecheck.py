# SPDX-License-Identifier: AGPL-3.0-or-later
"""Check a bundle offline, from the root file alone: what was sealed, when it came, who touched it, under which consent.

Each check stands for itself and says what it found, so that a person sees what holds although something does not.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from itertools import islice
from pathlib import PurePosixPath
from typing import Any, BinaryIO, Final

from cryptography import x509

from amana.client.bundle import READ_BYTES, Entry, FileUnreadable
from amana.client.bundleidentity import RELEASES, check_identity, vaulted_objects
from amana.client.directory import custody_logs, fetch_version, read_root
from amana.client.errors import ClientError, NotChecked, NotVerified
from amana.client.grounds import ARRIVAL, is_decided, ungrounded, what_of
from amana.client.progress import Advance
from amana.client.stampcheck import Provable, check_stamps
from amana.client.verify import STAMPS as STAMPS_CHECK
from amana.client.verify import Check, checked, unchecked
from amana.protocol import age
from amana.protocol.action import Action, body_sha256, parse_action
from amana.protocol.bundle import (
    BAG_INFO,
    BAGIT,
    BAGIT_TEXT,
    DATA,
    INDEX,
    MANIFEST,
    MAX_SMALL_BYTES,
    MAX_SMALL_TOTAL,
    READMES,
    STAMPS,
    TAG_MANIFEST,
    BundleInvalid,
    Index,
    check_follows,
    is_large,
    manifest_text,
    opening_path,
    parse_index,
    parse_manifest,
    sealed_path,
    stands_before,
)
from amana.protocol.consent import Entry as PolicyEntry
from amana.protocol.consent import check_chain, covers
from amana.protocol.control import Head, parse_control
from amana.protocol.custody import commitment_to
from amana.protocol.directory import Directory, RootPins
from amana.protocol.encoding import parse_canonical, parse_day, sha256_hex
from amana.protocol.errors import ProtocolError
from amana.protocol.opening import Opening, OpeningDiffers
from amana.protocol.policy import LIMIT_BYTES as POLICY_LIMIT
from amana.protocol.policy import parse_policy
from amana.protocol.receipt import LIMIT_BYTES as RECEIPT_LIMIT
from amana.protocol.receipt import Receipt, leaf, verify_receipt
from amana.protocol.tlogproof import TlogProof

RECEIPT: Final = "data/receipt.json"
REQUEST: Final = "data/export/request.json"
APPROVAL: Final = "data/export/approval.json"
_CUSTODY: Final = "data/custody/"
_SEALED: Final = re.compile(r"data/sealed/([0-9]{1,2})\.age")
_EVENT: Final = re.compile(r"data/custody/([0-9]{5})\.event\.json")
_STATEMENT: Final = re.compile(r"data/statements/([0-9]{1,5})\.json")
_POLICY: Final = re.compile(r"data/policies/([0-9]{1,5})\.json")
_TARGETS: Final = re.compile(r"data/directory/([1-9][0-9]{0,8})\.targets\.json")
_KNOWN: Final = re.compile(
    r"data/(?:receipt\.json|releases/(?:identity|originals)\.json|export/(?:request|approval)\.json|custody/[0-9]{5}\.(?:event\.json|key|proof)"
    r"|statements/[0-9]{1,5}\.json|policies/[0-9]{1,5}\.json|openings/[0-9]{1,2}\.json"
    r"|stamps/[1-9][0-9]{0,4}/(?:checkpoint|[0-9]{5}\.proof|[a-z0-9][a-z0-9-]{0,31}\.(?:tsr|pem))"
    r"|directory/[1-9][0-9]{0,8}\.(?:root|targets)\.json|directory/targets/[0-9a-f]{64}"
    r"|(?:derived|files|sealed)/[0-9]{1,4}\.[a-z0-9]{1,8})"
)
_TAGS: Final = frozenset({BAGIT, BAG_INFO, MANIFEST, INDEX, *READMES})
_EVENT_LIMIT: Final = 256 * 1024
_NAMED_AT_MOST: Final = 8

NOT_PROVEN: Final = (
    "that what the account says is true, or who the person is that wrote it",
    "that the service showed every event about this case: an operator can keep one back, not change one",
    "that every event after those that the approver signed for is here: whoever made the bundle chooses which go in",
    "that somebody of staff was not suspended when they signed; the directory lists who could",
    "when it was written before the day on which it was received",
    "that a translation says the same, and a redaction hides no more than it must: their makers answer for that",
    "that nobody else has a copy",
)
"""What no bundle can prove; it is printed with every table."""


@dataclass
class Contents:
    """What was read of a bundle: hashes of all, bytes of what is small, and what openings found in sealed files.

    What is asked about a file that could not be read raises NotChecked: it may be there, and as it should be.
    """

    hashes: dict[str, str] = field(default_factory=dict)
    small: dict[str, bytes] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)
    """By path of a file or folder that could not be read: why."""
    opened: dict[int, str | None] = field(default_factory=dict)
    """By object: None when its opening fits, else what is wrong."""
    fault: str | None = None
    """Why nothing behind `reached` was read."""
    reached: str | None = None

    def find(self, path: str) -> bytes | None:
        """Return a small file, None where there is none."""
        self._check_known(path)
        return self.small.get(path)

    def get(self, path: str) -> bytes:
        """Return a small file that has to be there; raises NotVerified."""
        found = self.find(path)
        if found is None:
            raise NotVerified(f"{path} is missing.", slug="bundle-missing")
        return found

    def sha256_of(self, path: str) -> str | None:
        """Return the hash of a file, None where there is none."""
        self._check_known(path)
        return self.hashes.get(path)

    def below(self, folder: str) -> set[str]:
        """Return the paths of all files below a folder, whose name ends in a slash."""
        self._check_known(f"{folder}~")  # Stands behind every name that a file may have.
        for path in self.unread:
            if path.startswith(folder):
                raise unchecked(f"{path} could not be read")
        return {path for path in self.hashes if path.startswith(folder)}

    def matching(self, form: re.Pattern[str], folder: str) -> list[tuple[int, str]]:
        """Return the files of a form below a folder, in the order of their numbers."""
        found = ((form.fullmatch(path), path) for path in self.below(folder))
        return sorted((int(match[1]), path) for match, path in found if match)

    def unread_at(self, path: str) -> str | None:
        """Return the file, or the folder that it lies in, that could not be read; None for neither."""
        if not self.unread:
            return None
        places = (path, *map(str, PurePosixPath(path).parents))
        return next((one for one in places if one in self.unread), None)

    def _check_known(self, path: str) -> None:
        if unread := self.unread_at(path):
            raise unchecked(f"{unread} could not be read")
        if self.fault is not None and not (self.reached and stands_before(path, self.reached)):
            raise unchecked("the bundle could not be read to its end")

    @property
    def bag_sha256(self) -> str:
        """The hash that stands for all of the bundle: that of the list of the lists of hashes."""
        return sha256_hex(self.get(TAG_MANIFEST))


def read_contents(entries: Iterable[Entry], advance: Advance = lambda _count: None) -> Contents:
    """Read a bundle once, hash everything and try every opening, in constant memory but for small files."""
    found, before, total = Contents(), None, 0
    try:
        for entry in entries:
            check_follows(before, entry.path)
            before = entry.path
            total += 0 if is_large(entry.path) else entry.size
            if total > MAX_SMALL_TOTAL:
                raise BundleInvalid("bundle-size", "The files of the bundle are too large.")
            try:
                _read(found, entry, advance)
            except FileUnreadable as error:
                found.unread[entry.path] = error.title
            found.reached = entry.path
    except ProtocolError as error:
        found.fault = error.title if before is None else f"{error.title} (at or behind {before})"
    return found


def _read(found: Contents, entry: Entry, advance: Advance) -> None:
    if is_large(entry.path):
        _read_large(found, entry, advance)
        return
    if entry.size > MAX_SMALL_BYTES:
        raise BundleInvalid("bundle-size", "A file of the bundle is too large.")
    data = _whole(entry.stream, entry.size)
    found.small[entry.path] = data
    found.hashes[entry.path] = sha256_hex(data)
    advance(len(data))


def _whole(stream: BinaryIO, size: int) -> bytes:
    """Read a small file, also from a stream that gives less at once than it is asked for."""
    data = b""
    while len(data) <= size and (more := stream.read(size + 1 - len(data))):
        data += more
    return data


def _read_large(found: Contents, entry: Entry, advance: Advance) -> None:
    hashed = _Hashed(entry.stream, advance)
    sealed = _SEALED.fullmatch(entry.path)
    path = opening_path(int(sealed[1])) if sealed else ""
    if sealed and path in found.small:
        found.opened[int(sealed[1])] = _wrong_opening(found.small[path], path, entry.path, hashed)
    # What does not open has its hash too: it may be what arrived, and something else be wrong.
    found.hashes[entry.path] = hashed.rest()


def _wrong_opening(opening: bytes, path: str, sealed: str, stream: "_Hashed") -> str | None:
    """Return what is wrong with an opening or with what it opens, None if they fit; names the one that is to blame."""
    try:
        opens = Opening.parse(opening)
    except ProtocolError as error:
        return f"{path}: {error.title}"
    try:
        opens.verify(stream)  # type: ignore[arg-type]
    except BundleInvalid:
        raise
    except (age.BadHeaderMac, OpeningDiffers):
        return f"{path} has another key than the sealed file, or names another length or hash."
    except ProtocolError as error:
        return f"{sealed}: {error.title}"
    return None


class _Hashed:
    """Hashes a stream while it is read, and tells how much was."""

    def __init__(self, stream: BinaryIO, advance: Advance) -> None:
        self._stream = stream
        self._advance = advance
        self._digest = hashlib.sha256()

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self._digest.update(data)
        self._advance(len(data))
        return data

    def readinto(self, view: memoryview) -> int:
        count: int = self._stream.readinto(view) or 0  # type: ignore[attr-defined]
        self._digest.update(view[:count])
        self._advance(count)
        return count

    def rest(self) -> str:
        """Read to the end and return the hex SHA-256 of all."""
        buffer = memoryview(bytearray(READ_BYTES))
        while self.readinto(buffer):
            pass
        return self._digest.hexdigest()


@dataclass(frozen=True)
class LoggedEvent:
    """An event of a case: what it says, its leaf, and the proof beside it, None without one."""

    number: int
    event: Mapping[str, Any]
    leaf: bytes
    proof: bytes | None


def check_bundle(
    contents: Contents, root: bytes, authorities: Sequence[x509.Certificate] = ()
) -> list[Check]:
    """Check what was read of a bundle from the root file alone; `authorities` are those whose time stamps count."""
    return list(_Verifier(contents, root, authorities).checks())


class _Verifier:
    """Goes through one bundle; what an earlier check found, later ones build on."""

    def __init__(
        self, contents: Contents, root: bytes, authorities: Sequence[x509.Certificate]
    ) -> None:
        self._contents = contents
        self._root = root
        self._authorities = authorities
        self._pins: RootPins | None = None
        self._index: Index | None = None
        self._directories: dict[int, Directory] = {}
        self._logs: dict[str, RootPins] = {}
        self._altered: set[str] = set()
        self._receipt: Receipt | None = None
        self._arrived: Mapping[int, str] = {}
        self._events: list[LoggedEvent] = []
        self._logged: dict[int, Provable] = {}
        self._chain: list[PolicyEntry] = []
        self._acts: tuple[Action, Action] | None = None

    def checks(self) -> list[Check]:
        # What the maker signed tells which of two files that differ was altered.
        steps: tuple[tuple[str, Callable[[], str]], ...] = (
            ("root", self._check_root),
            ("directory", self._check_directory),
            ("maker", self._check_maker),
            ("files", self._check_files),
            ("receipt", self._check_receipt),
            ("ciphertext", self._check_ciphertext),
            ("content", self._check_content),
            ("derivatives", self._check_derivatives),
            ("custody", self._check_custody),
            ("log", self._check_log),
            ("order", self._check_order),
            (STAMPS_CHECK, self._check_stamps),
            ("policy", self._check_policy),
            ("export", self._check_export),
            ("consent", self._check_consent),
            ("identity", self._check_identity),
        )
        root, *between, files = list(islice(made := checked(steps), 4))
        return [root, files, *between, *made]

    def _known(self, what: Any, title: str) -> Any:
        if not what:
            raise unchecked(title)
        return what

    @property
    def index(self) -> Index:
        found: Index = self._known(self._index, "it is not proven who put the bundle together")
        return found

    @property
    def pins(self) -> RootPins:
        found: RootPins = self._known(self._pins, "the root file does not verify")
        return found

    @property
    def receipt(self) -> Receipt:
        found: Receipt = self._known(self._receipt, "the receipt does not verify")
        return found

    @property
    def events(self) -> list[LoggedEvent]:
        """The events, all of which the log holds."""
        self._known(self._logged, "the events are not proven to stand in the log")
        return self._events

    def _unaltered(self, folder: str) -> dict[str, bytes]:
        """Return the files below a folder; raises NotChecked where one is not the one that the maker signed for."""
        paths = self._contents.below(folder)
        for path in sorted(paths & self._altered):
            raise unchecked(f"{path} was altered")
        return {path: self._contents.get(path) for path in paths}

    def _directory(self, version: int) -> Directory:
        self._known(self._directories, "the directory does not verify")
        if version not in self._directories:
            raise NotVerified(f"Version {version} of the directory is not in the bundle.")
        return self._directories[version]

    def _check_root(self) -> str:
        self._pins = read_root(self._root)
        return f"signed by its officers, for {self._pins.deployment}"

    def _check_files(self) -> str:
        found = self._contents
        if found.fault is not None:
            raise NotVerified(found.fault, slug="bundle-invalid")
        there = found.hashes.keys() - {TAG_MANIFEST}
        faults = [f"{path}: {why}" for path, why in sorted(found.unread.items())]
        for name in (MANIFEST, TAG_MANIFEST):
            faults += self._differences(name, {one for one in there if _list_of(one) == name})
        faults += [
            f"{path} does not belong there"
            for path in sorted(there)
            if not (_KNOWN.fullmatch(path) or path in _TAGS)
        ]
        if BAGIT in there and found.small[BAGIT] != BAGIT_TEXT:
            faults.append(f"{BAGIT} is not that of a bundle")
        missing = {*_TAGS, TAG_MANIFEST} - found.hashes.keys() - found.unread.keys()
        faults += [f"{name} is missing" for name in sorted(missing)]
        if faults:
            more = (
                f" and {len(faults) - _NAMED_AT_MOST} more" if len(faults) > _NAMED_AT_MOST else ""
            )
            raise NotVerified("; ".join(faults[:_NAMED_AT_MOST]) + more)
        return f"{len(found.hashes)} files, none altered, missing or too many"

    def _differences(self, name: str, there: Set[str]) -> list[str]:
        """Return what is not as a list of hashes says; where the maker signed for it, it is known which was altered."""
        found, index = self._contents, self._index
        if name not in found.small:
            return []
        faults, doubt = [], "" if index else f", or its hash in {name}"
        if index is None:
            listed = _listed(name, found.small[name])
        elif name == TAG_MANIFEST:
            own = {MANIFEST: index.manifest_sha256, INDEX: found.hashes[INDEX]}
            listed = {**index.tags, **own}
            if found.small[name] != manifest_text(listed):
                faults.append(f"{name} was altered")
        elif found.hashes[name] != index.manifest_sha256:
            return [f"{name} is not the one that the maker signed, so nothing was compared with it"]
        else:
            listed = _listed(name, found.small[name])
        altered = {path for path in listed.keys() & there if listed[path] != found.hashes[path]}
        if index is not None:
            self._altered |= altered
        return [
            *faults,
            *(
                f"{path}, which {name} lists, is missing"
                for path in sorted(listed.keys() - there)
                if not found.unread_at(path)
            ),
            *(
                f"{path} is too many, as {name} does not list it"
                for path in sorted(there - listed.keys())
            ),
            *(f"{path} was altered{doubt}" for path in sorted(altered)),
        ]

    def _check_directory(self) -> str:
        self.pins  # noqa: B018  Nothing follows from a root that its officers did not sign.
        contents, directories = self._contents, {}

        def get(name: str) -> bytes | None:
            if name.startswith("targets/"):
                name = f"targets/{name.rpartition('/')[2].partition('.')[0]}"
            return contents.find(f"data/directory/{name}")

        for version, _ in contents.matching(_TARGETS, "data/directory/"):
            directories[version] = fetch_version(get, self._root, version).directory
        if not directories:
            raise NotVerified("The directory is missing.")
        self._logs = {one.custody_log.name: one for one in custody_logs(get, self._root)}
        self._directories = directories
        versions = ", ".join(map(str, sorted(directories)))
        return f"versions {versions}, signed by the officers"

    def _check_maker(self) -> str:
        with naming(INDEX):
            index = parse_index(self._contents.get(INDEX))
            maker = self._directory(index.directory).person(index.maker)
            if maker is None:
                raise NotVerified("whoever made the bundle was not in the directory.")
            index.verify(maker.signing_key)
        self._index = index
        if not maker.roles & {"reviewer", "lead"}:
            raise NotVerified("Whoever made the bundle was no reader of the directory.")
        if index.deployment != self.pins.deployment:
            raise NotVerified("The bundle is of another installation.")
        if index.manifest_sha256 != sha256_hex(self._contents.get(MANIFEST)):
            raise NotVerified(f"{MANIFEST} is not the one that the maker signed.")
        signed = {BAGIT, BAG_INFO, *READMES}
        if set(index.tags) != signed:
            raise NotVerified("The maker did not sign the files beside the content.")
        for path in sorted(signed):
            if index.tags[path] != sha256_hex(self._contents.get(path)):
                raise NotVerified(f"{path} is not the one that the maker signed.")
        return f"put together and signed by {index.maker} on {index.made_on}"

    # What arrived

    def _check_receipt(self) -> str:
        with naming(RECEIPT):
            data = parse_canonical(self._contents.get(RECEIPT), limit=RECEIPT_LIMIT)
            receipt = verify_receipt(data, self.pins.custody_log_key)
        if receipt.deployment != self.pins.deployment:
            raise NotVerified("The receipt is of another installation.")
        if receipt.event.get("kind") != ARRIVAL:
            raise NotVerified("The receipt is not that of an arrival.")
        if self._index is not None and receipt.case != self._index.case:
            raise NotVerified("The receipt is of another case.")
        self._receipt = receipt
        return f"case {receipt.case} was received on {receipt.received_on}, signed by the service"

    def _check_ciphertext(self) -> str:
        # What lies in the vault stays there unless it was released; the receipt says which objects that are.
        apart = vaulted_objects(self.receipt.event["shares"], self.index)
        arrived = {i: sealed for i, sealed in self._sealed().items() if i not in apart}
        if list(arrived) != [one.i for one in self.index.objects]:
            raise NotVerified("The bundle does not hold the objects that arrived.")
        for i, sealed in arrived.items():
            if self._contents.sha256_of(sealed_path(i)) != sealed:
                raise NotVerified(f"{sealed_path(i)} is not what arrived.")
        if self._contents.below("data/sealed/") != set(map(sealed_path, arrived)):
            raise NotVerified("The bundle holds sealed files that did not arrive.")
        self._arrived = arrived
        return f"{len(arrived)} sealed files, each the one that arrived"

    def _sealed(self) -> dict[int, str]:
        """Return the hashes of all objects as they were sealed."""
        return {one["i"]: one["sealed_sha256"] for one in self.receipt.event["objects"]}

    def _check_content(self) -> str:
        self._known(self._arrived, "the sealed files are not proven to be those that arrived")
        closed, opened = [], 0
        for one in self.index.objects:
            opening = self._contents.find(opening_path(one.i))
            if (one.path is None) != (opening is None):
                raise NotVerified(
                    f"The opening of object {one.i} and its content do not go together."
                )
            if one.path is None or opening is None:
                closed.append(str(one.i))
                continue
            fault = self._contents.opened.get(one.i, f"object {one.i} was not opened.")
            if fault is not None:
                raise NotVerified(fault)
            if self._contents.sha256_of(one.path) != Opening.parse(opening).sha256:
                raise NotVerified(f"{one.path} is not what was sealed.")
            opened += 1
        used = {one.path for one in self.index.objects if one.path}
        if used != self._contents.below("data/files/"):
            raise NotVerified("The bundle holds files that were never sealed.")
        openings = {opening_path(one.i) for one in self.index.objects if one.path}
        if openings != self._contents.below("data/openings/"):
            raise NotVerified("The bundle holds openings of nothing.")
        also = f"; closed: {', '.join(closed)}" if closed else ""
        return f"{opened} files are what was sealed by the witness's program{also}"

    def _check_derivatives(self) -> str:
        listed, sources = {one.path: one for one in self.index.derived}, self._sealed()
        there = self._contents.below("data/derived/")
        if there != set(listed) or len(listed) != len(self.index.derived):
            raise NotVerified("The derivatives are not those that the index lists.")
        for path, one in listed.items():
            if self._contents.sha256_of(path) != one.sha256:
                raise NotVerified(f"{path} is not the one that its maker named.")
            if sources[one.of] != one.source_sha256:
                raise NotVerified(f"{path} names another source.")
        if not listed:
            return "none"
        made = ", ".join(f"{one.kind} of object {one.of} by {one.maker}" for one in listed.values())
        return f"{made}; as the maker of the bundle states"

    # What happened

    def _check_custody(self) -> str:
        found = []
        for number, path in self._contents.matching(_EVENT, _CUSTODY):
            with naming(path):
                data = self._contents.get(path)
                event = parse_canonical(data, limit=_EVENT_LIMIT)
                if not isinstance(event, dict) or event.get("case") != self.index.case:
                    raise NotVerified("it is about something else.")
                if event.get("kind") == "action":
                    self._action(event["action"])
            name = path.removesuffix(".event.json")
            with naming(f"{name}.key"):
                key = _key(self._contents.get(f"{name}.key"))
            proof = self._contents.find(f"{name}.proof")
            found.append(LoggedEvent(number, event, leaf(data, key), proof))
        if [one.number for one in found] != list(range(1, len(found) + 1)):
            raise NotVerified("The events are not counted from 1.")
        extra = self._contents.below(_CUSTODY)
        for one in found:
            extra -= {f"{_CUSTODY}{one.number:05d}.{end}" for end in ("event.json", "key", "proof")}
        if extra:
            raise NotVerified("The bundle holds keys or proofs of nothing.")
        self._events = found
        signed = sum(one.event.get("kind") == "action" for one in found)
        return f"{len(found)} events, {signed} of them acts of staff with a signature that verifies"

    def _action(self, document: object) -> Action:
        action = parse_action(document)
        person = self._directory(action.directory).person(action.actor)
        if person is None:
            raise NotVerified("An act was signed by nobody in the directory.")
        action.verify(person.signing_key)
        if (action.deployment, action.case) != (self.pins.deployment, self.index.case):
            raise NotVerified("An act is about another case.")
        return action

    def _check_log(self) -> str:
        self._known(self._events, "the events do not verify")
        logs = self._known(self._logs, "the directory does not verify")
        order = {name: place for place, name in enumerate(logs)}
        logged, places, sizes, cosigned = {}, [], set(), set()
        for one in self._events:
            if one.proof is None:
                raise NotVerified(f"Event {one.number} has no proof that the log holds it.")
            with naming(f"{_CUSTODY}{one.number:05d}.proof"):
                proof = TlogProof.parse(one.proof)
            pins = logs.get(proof.origin)
            if pins is None:
                raise NotVerified(f"Event {one.number} is proven by a log that no root pins.")
            with naming(f"Event {one.number}"):
                signed = proof.verify(one.leaf, pins.custody_log, pins.cosigners, pins.quorum)
            logged[one.number] = Provable(one.leaf, proof.origin, proof.index)
            places.append((order[proof.origin], proof.index))
            sizes.add(signed.checkpoint.size)
            cosigned |= set(signed.cosigned)
        if places != sorted(set(places)):
            raise NotVerified("The events are not in the order of the log.")
        self._logged = logged
        by = f"{len(cosigned)} cosigners" if cosigned else "no cosigner, as the root asks for none"
        return (
            f"every event stands in the public log of {max(sizes)} events, signed by it and by {by}"
        )

    def _check_stamps(self) -> str:
        self.events  # noqa: B018  A stamp is of what the log holds.
        keys = {name: pins.custody_log for name, pins in self._logs.items()}
        files = self._unaltered(STAMPS)
        return check_stamps(files, self._logged, keys, self.receipt.leaf, self._authorities)

    def _check_order(self) -> str:
        before: set[str] = set()
        for one in self.events:
            what = what_of(one.event)
            if fault := ungrounded(what, before):
                raise NotVerified(f"Event {one.number}: {fault}.")
            before.add(what)
        if self.events[0].leaf != self.receipt.leaf:
            raise NotVerified("The arrival is not the one that the receipt is of.")
        return "the arrival first; nothing is there whose ground is missing"

    # Consent

    def _check_policy(self) -> str:
        with naming("data/policies/0.json"):
            first = parse_policy(self._contents.get("data/policies/0.json"))
            if first.sha256 != self.receipt.event["policy_sha256"]:
                raise NotVerified("it is not the one with which the testimony arrived.")
        entries = [PolicyEntry(first, parse_day(self.receipt.received_on))]
        head, withdrawn, policies = Head(0, first.sha256), False, {0}
        days = {
            one.event["statement_sha256"]: parse_day(one.event["received_on"])
            for one in self.events
            if one.event.get("kind") == "control-statement"
        }
        for seq, path in self._contents.matching(_STATEMENT, "data/statements/"):
            with naming(path):
                content = parse_canonical(self._contents.get(path), limit=2 * POLICY_LIMIT)
                said = parse_control(content)
            if said.control != first.control or said.deployment != first.deployment:
                raise NotVerified(f"{path} is of another testimony.")
            if not said.follows(head) or seq != head.seq + 1:
                raise NotVerified(f"{path} does not follow the statement before it.")
            if said.sha256 not in days:
                raise NotVerified(f"The log does not tell of {path}.")
            head = Head(seq, said.sha256)
            withdrawn = said.kind == "withdraw" or (withdrawn and said.kind != "take-back")
            if said.policy is not None and said.policy_bytes is not None:
                entries.append(PolicyEntry(said.policy, days.pop(said.sha256)))
                policies.add(said.policy.seq)
                brought = f"data/policies/{said.policy.seq}.json"
                if said.policy_bytes != self._contents.get(brought):
                    raise NotVerified(
                        f"{brought} is not the one that the witness's statement brought."
                    )
            else:
                days.pop(said.sha256)
        if days:
            raise NotVerified("The log tells of statements that the bundle does not hold.")
        numbers = self._contents.matching(_POLICY, "data/policies/")
        if {number for number, _ in numbers} != policies:
            raise NotVerified("The bundle holds a policy that no statement brought.")
        check_chain(entries)
        if withdrawn:
            raise NotVerified("The witness has withdrawn the testimony.")
        self._chain = entries
        return f"{len(entries)} versions, each signed by the witness's key; not withdrawn"

    def _check_export(self) -> str:
        request, asked = self._signed(REQUEST, "export-request")
        approval, approved = self._signed(APPROVAL, "export-approve")
        index, self._acts = self.index, (request, approval)
        wanted = {
            "to": index.to,
            "purpose": index.purpose,
            "identity_level": index.identity_level,
            "releases": index.document["released"],
        }
        if asked != wanted or request.actor != index.maker:
            raise NotVerified("The request was for something else, or by somebody else.")
        signed_for, count = approved["custody"], approved["custody"]["events"]
        expected = {
            "export": index.export, "decision": "approve", "request": request.nonce,
            "custody": signed_for, **wanted,
        }  # fmt: skip
        if approved != expected:
            raise NotVerified("The approval is of something else.")
        if commitment_to([one.leaf for one in self.events[:count]]) != signed_for:
            raise NotVerified(
                "The events are not those that the approver signed for: one is missing, or too many."
            )
        approver = self._directory(approval.directory).person(approval.actor)
        if approver is None or "administrator" not in approver.roles:
            raise NotVerified("Whoever approved it was no administrator.")
        if approval.actor == request.actor:
            raise NotVerified("One person asked for it and approved it.")
        self._check_grounds(request, approval)
        return (
            f"asked for by {request.actor}, approved by {approval.actor},"
            f" who signed for the first {count} events"
        )

    def _check_grounds(self, request: Action, approval: Action) -> None:
        """Ask for what an export cannot do without: a decision that stands, and the maker's own opening after approval."""
        acts = [one.event.get("action") for one in self.events]
        whats = [what_of(one.event) for one in self.events]
        for act, name in ((request, "request"), (approval, "approval")):
            if not is_decided(whats[: acts.index(act.document)]):
                raise NotVerified(f"No decision stands before the {name}: an event is missing.")
        later = acts[acts.index(approval.document) :]
        opened = {one["actor"] for one in later if one and one["action"] == "open"}
        if self.index.maker not in opened:
            raise NotVerified("The maker did not open the case for it: an event is missing.")

    def _signed(self, path: str, kind: str) -> tuple[Action, Mapping[str, Any]]:
        with naming(path):
            document = parse_canonical(self._contents.get(path), limit=_EVENT_LIMIT)
            action, body = self._action(document["action"]), document["body"]
            if action.action != kind or action.body_sha256 != body_sha256(body):
                raise NotVerified("it is another act, or says something else than was signed.")
        if not any(one.event.get("action") == action.document for one in self.events):
            raise NotVerified(f"The log does not tell of {path}.")
        return action, body

    def _moments(self) -> list[tuple[date, int]]:
        """Return the days of request, approval and making, each with the directory of then."""
        self._known(self._chain, "the policies do not verify")
        signed = self._known(self._acts, "request and approval do not verify")
        made = (parse_day(self.index.made_on), self.index.directory)
        return [*((one.made_at.date(), one.directory) for one in signed), made]

    def _check_consent(self) -> str:
        index = self.index
        for day, version in self._moments():
            partner = self._directory(version).partner(index.to)
            if partner is None:
                raise NotVerified("The officers' directory lists no such partner.")
            covered = covers(self._chain, partner, index.purpose, index.identity_level, day)
            if not covered.allowed:
                raise NotVerified(f"On {day}: {covered.title}")
        how = "with" if index.released else "without"
        return f"the witness allows {index.purpose} to {index.to}, {how} the identity"

    def _check_identity(self) -> str:
        return check_identity(
            self._unaltered(RELEASES),
            self.index,
            self.receipt.event["shares"],
            [one.event for one in self.events],
            self._known(self._chain, "the policies do not verify"),
            [day for day, _ in self._moments()],
            self._directory,
        )


def _list_of(path: str) -> str:
    """Return which list of hashes a file belongs into."""
    return MANIFEST if path.startswith(DATA) else TAG_MANIFEST


@contextmanager
def naming(path: str) -> Iterator[None]:
    """Say of which file something does not hold."""
    try:
        yield
    except NotChecked:
        raise
    except (ProtocolError, ClientError) as error:
        raise NotVerified(f"{path}: {error.title}", slug=error.slug) from None
    except (KeyError, TypeError, AttributeError, ValueError):
        raise NotVerified(f"{path} is not in its form.") from None


def _listed(name: str, data: bytes) -> dict[str, str]:
    try:
        return parse_manifest(data)
    except ProtocolError as error:
        raise NotVerified(f"{name}: {error.title}", slug=error.slug) from None


def _key(text: bytes) -> bytes:
    if not re.fullmatch(rb"[0-9a-f]{64}\n", text):
        raise NotVerified("The key of an event is not in its form.")
    return bytes.fromhex(text.decode("ascii"))
