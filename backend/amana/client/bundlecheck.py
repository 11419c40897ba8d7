# SPDX-License-Identifier: AGPL-3.0-or-later
"""Check a bundle offline, from the root file alone: what was sealed, when it came, who touched it, under which consent.

Each check stands for itself and says what it found, so that a person sees what holds although something does not.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, BinaryIO, Final

from cryptography import x509

from amana.client.bundle import READ_BYTES, Entry
from amana.client.bundleidentity import check_identity, vaulted_objects
from amana.client.directory import custody_logs, fetch_version, read_root
from amana.client.errors import NotVerified
from amana.client.progress import Advance
from amana.client.stampcheck import NAME as STAMPS_CHECK
from amana.client.stampcheck import Provable, check_stamps
from amana.client.verify import Check, checked
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
    TAG_MANIFEST,
    BundleInvalid,
    Index,
    check_follows,
    is_large,
    opening_path,
    parse_index,
    parse_manifest,
    sealed_path,
)
from amana.protocol.consent import Entry as PolicyEntry
from amana.protocol.consent import check_chain, covers
from amana.protocol.control import Head, parse_control
from amana.protocol.directory import Directory, RootPins
from amana.protocol.encoding import parse_canonical, parse_day, sha256_hex
from amana.protocol.errors import ProtocolError
from amana.protocol.opening import Opening
from amana.protocol.policy import LIMIT_BYTES as POLICY_LIMIT
from amana.protocol.policy import parse_policy
from amana.protocol.receipt import LIMIT_BYTES as RECEIPT_LIMIT
from amana.protocol.receipt import Receipt, leaf, verify_receipt
from amana.protocol.sealing import OVERHEAD
from amana.protocol.tlogproof import TlogProof

RECEIPT: Final = "data/receipt.json"
REQUEST: Final = "data/export/request.json"
APPROVAL: Final = "data/export/approval.json"
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
    "when it was written before the day on which it was received",
    "that a translation says the same, and a redaction hides no more than it must: their makers answer for that",
    "that nobody else has a copy",
)
"""What no bundle can prove; it is printed with every table."""


@dataclass
class Contents:
    """What was read of a bundle: hashes of all, bytes of what is small, and what openings found in sealed files."""

    hashes: dict[str, str | None] = field(default_factory=dict)
    small: dict[str, bytes] = field(default_factory=dict)
    opened: dict[int, str | None] = field(default_factory=dict)
    """By object: None when its opening fits, else what is wrong."""
    fault: str | None = None

    def get(self, path: str) -> bytes:
        """Return a small file."""
        if path not in self.small:
            raise NotVerified(f"{path} is missing.", slug="bundle-missing")
        return self.small[path]

    def matching(self, form: re.Pattern[str]) -> list[tuple[int, str]]:
        """Return the small files of a form, in the order of their numbers."""
        found = ((form.fullmatch(path), path) for path in self.small)
        return sorted((int(match[1]), path) for match, path in found if match)

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
            if is_large(entry.path):
                _read_large(found, entry, advance)
                continue
            total += entry.size
            if entry.size > MAX_SMALL_BYTES or total > MAX_SMALL_TOTAL:
                raise BundleInvalid("bundle-size", "A file of the bundle is too large.")
            data = _whole(entry.stream, entry.size)
            found.small[entry.path] = data
            found.hashes[entry.path] = sha256_hex(data)
            advance(len(data))
    except ProtocolError as error:
        found.fault = error.title if before is None else f"{error.title} (at or behind {before})"
    return found


def _whole(stream: BinaryIO, size: int) -> bytes:
    """Read a small file, also from a stream that gives less at once than it is asked for."""
    data = b""
    while len(data) <= size and (more := stream.read(size + 1 - len(data))):
        data += more
    return data


def _read_large(found: Contents, entry: Entry, advance: Advance) -> None:
    sealed = _SEALED.fullmatch(entry.path)
    opening = found.small.get(opening_path(int(sealed[1]))) if sealed else None
    if sealed is None or opening is None:
        found.hashes[entry.path] = _sha256(entry.stream, advance)
        return
    number, counted = int(sealed[1]), _Counted(entry.stream, advance)
    try:
        digests = Opening.parse(opening).verify(counted)  # type: ignore[arg-type]
        found.hashes[entry.path], found.opened[number] = digests.sealed_sha256, None
    except BundleInvalid:
        raise
    except ProtocolError as error:
        found.opened[number] = error.title
        # A key that does not fit is found before the payload is read. A payload that breaks in its middle is not
        # what was sealed, whatever its hash is.
        rest = _sha256(entry.stream, advance, counted.head)
        found.hashes[entry.path] = rest if counted.count == len(counted.head) else None


class _Counted:
    """Tells how much of a stream was read, and keeps the header that it began with."""

    def __init__(self, stream: BinaryIO, advance: Advance) -> None:
        self._stream = stream
        self._advance = advance
        self.head = b""
        self.count = 0

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self.head += data[: OVERHEAD - len(self.head)]
        self.count += len(data)
        self._advance(len(data))
        return data

    def readinto(self, view: memoryview) -> int:
        count: int = self._stream.readinto(view) or 0  # type: ignore[attr-defined]
        self.count += count
        self._advance(count)
        return count


def _sha256(stream: BinaryIO, advance: Advance, before: bytes = b"") -> str:
    digest = hashlib.sha256(before)
    buffer = memoryview(bytearray(READ_BYTES))
    while count := stream.readinto(buffer):  # type: ignore[attr-defined]
        digest.update(buffer[:count])
        advance(count)
    return digest.hexdigest()


@dataclass(frozen=True)
class LoggedEvent:
    """An event of a case: what it says, its leaf, and the place that its proof gives it, None without one."""

    number: int
    event: Mapping[str, Any]
    leaf: bytes
    proof: TlogProof | None


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
        self._receipt: Receipt | None = None
        self._events: list[LoggedEvent] = []
        self._chain: list[PolicyEntry] = []

    def checks(self) -> Iterator[Check]:
        steps: tuple[tuple[str, Callable[[], str]], ...] = (
            ("root", self._check_root),
            ("files", self._check_files),
            ("directory", self._check_directory),
            ("maker", self._check_maker),
            ("receipt", self._check_receipt),
            ("ciphertext", self._check_ciphertext),
            ("content", self._check_content),
            ("derivatives", self._check_derivatives),
            ("custody", self._check_custody),
            ("log", self._check_log),
            (STAMPS_CHECK, self._check_stamps),
            ("policy", self._check_policy),
            ("export", self._check_export),
            ("consent", self._check_consent),
            ("identity", self._check_identity),
        )
        return checked(steps)

    def _known(self, what: Any, title: str) -> Any:
        if not what:
            raise NotVerified(f"Not checked, because {title}.", slug="not-checked")
        return what

    @property
    def index(self) -> Index:
        found: Index = self._known(self._index, "the index of the bundle is missing or damaged")
        return found

    @property
    def pins(self) -> RootPins:
        found: RootPins = self._known(self._pins, "the root file does not verify")
        return found

    @property
    def receipt(self) -> Receipt:
        found: Receipt = self._known(self._receipt, "the receipt does not verify")
        return found

    def _directory(self, version: int) -> Directory:
        if version not in self._directories:
            raise NotVerified(f"Version {version} of the directory is not in the bundle.")
        return self._directories[version]

    def _check_root(self) -> str:
        self._pins = read_root(self._root)
        return f"signed by its officers, for {self._pins.deployment}"

    def _check_files(self) -> str:
        found = self._contents
        with_index = found.small.get(INDEX)
        if with_index is not None:
            self._index = _tolerant(lambda: parse_index(with_index))
        if found.fault is not None:
            raise NotVerified(found.fault, slug="bundle-invalid")
        listed = {name: _listed(name, found.get(name)) for name in (MANIFEST, TAG_MANIFEST)}
        there = dict(found.hashes)
        there.pop(TAG_MANIFEST, None)
        data = {path: one for path, one in there.items() if path.startswith(DATA)}
        tags = {path: one for path, one in there.items() if path not in data}
        faults = []
        for (name, manifest), present in zip(listed.items(), (data, tags), strict=True):
            faults += [
                f"{path}, which {name} lists, is missing"
                for path in sorted(manifest.keys() - present.keys())
            ]
            faults += [
                f"{path} is too many, as {name} does not list it"
                for path in sorted(present.keys() - manifest.keys())
            ]
            faults += [
                f"{path} was altered, or its hash in {name}"
                for path in sorted(manifest.keys() & present.keys())
                if manifest[path] != present[path]
            ]
        faults += [
            f"{path} does not belong there"
            for path in sorted(there)
            if not (_KNOWN.fullmatch(path) or path in _TAGS)
        ]
        if found.get(BAGIT) != BAGIT_TEXT:
            faults.append(f"{BAGIT} is not that of a bundle")
        faults += [f"{name} is missing" for name in sorted(_TAGS) if name not in tags]
        if faults:
            more = (
                f" and {len(faults) - _NAMED_AT_MOST} more" if len(faults) > _NAMED_AT_MOST else ""
            )
            raise NotVerified("; ".join(faults[:_NAMED_AT_MOST]) + more)
        return f"{len(found.hashes)} files, none altered, missing or too many"

    def _check_directory(self) -> str:
        small = self._contents.small

        def get(name: str) -> bytes | None:
            if name.startswith("targets/"):
                name = f"targets/{name.rpartition('/')[2].partition('.')[0]}"
            return small.get(f"data/directory/{name}")

        for version, _ in self._contents.matching(_TARGETS):
            self._directories[version] = fetch_version(get, self._root, version).directory
        self._logs = {one.custody_log.name: one for one in custody_logs(get, self._root)}
        if not self._directories:
            raise NotVerified("The directory is missing.")
        versions = ", ".join(map(str, sorted(self._directories)))
        return f"versions {versions}, signed by the officers"

    def _check_maker(self) -> str:
        index = self.index
        maker = self._directory(index.directory).person(index.maker)
        if maker is None or not maker.roles & {"reviewer", "lead"}:
            raise NotVerified("Whoever made the bundle was no reader of the directory.")
        index.verify(maker.signing_key)
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

    def _check_receipt(self) -> str:
        data = parse_canonical(self._contents.get(RECEIPT), limit=RECEIPT_LIMIT)
        receipt = verify_receipt(data, self.pins.custody_log_key)
        if (receipt.deployment, receipt.case) != (self.pins.deployment, self.index.case):
            raise NotVerified("The receipt is of another case.")
        if receipt.event.get("kind") != "testimony-received":
            raise NotVerified("The receipt is not that of an arrival.")
        self._receipt = receipt
        return f"case {receipt.case} was received on {receipt.received_on}, signed by the service"

    def _check_ciphertext(self) -> str:
        # What lies in the vault stays there unless it was released; the receipt says which objects that are.
        apart = vaulted_objects(self.receipt.event["shares"], self.index)
        arrived = [one for one in self.receipt.event["objects"] if one["i"] not in apart]
        if [one["i"] for one in arrived] != [one.i for one in self.index.objects]:
            raise NotVerified("The bundle does not hold the objects that arrived.")
        for one in arrived:
            path = sealed_path(one["i"])
            if self._contents.hashes.get(path) != one["sealed_sha256"]:
                raise NotVerified(f"{path} is not what arrived.")
        there = {path for path in self._contents.hashes if path.startswith("data/sealed/")}
        if there != {sealed_path(one.i) for one in self.index.objects}:
            raise NotVerified("The bundle holds sealed files that did not arrive.")
        return f"{len(arrived)} sealed files, each the one that arrived"

    def _check_content(self) -> str:
        closed, opened = [], 0
        for one in self.index.objects:
            opening = self._contents.small.get(opening_path(one.i))
            if (one.path is None) != (opening is None):
                raise NotVerified(
                    f"The opening of object {one.i} and its content do not go together."
                )
            if one.path is None or opening is None:
                closed.append(str(one.i))
                continue
            fault = self._contents.opened.get(one.i, "it was not opened.")
            if fault is not None:
                raise NotVerified(f"{sealed_path(one.i)}: {fault}")
            if self._contents.hashes.get(one.path) != Opening.parse(opening).sha256:
                raise NotVerified(f"{one.path} is not what was sealed.")
            opened += 1
        used = {one.path for one in self.index.objects if one.path}
        if used != {path for path in self._contents.hashes if path.startswith("data/files/")}:
            raise NotVerified("The bundle holds files that were never sealed.")
        numbers = {path for path in self._contents.small if path.startswith("data/openings/")}
        if numbers != {opening_path(one.i) for one in self.index.objects if one.path}:
            raise NotVerified("The bundle holds openings of nothing.")
        also = f"; closed: {', '.join(closed)}" if closed else ""
        return f"{opened} files are what was sealed by the witness's program{also}"

    def _check_derivatives(self) -> str:
        listed = {one.path: one for one in self.index.derived}
        there = {path for path in self._contents.hashes if path.startswith("data/derived/")}
        if there != set(listed) or len(listed) != len(self.index.derived):
            raise NotVerified("The derivatives are not those that the index lists.")
        for path, one in listed.items():
            if self._contents.hashes[path] != one.sha256:
                raise NotVerified(f"{path} is not the one that its maker named.")
            if self._contents.hashes[sealed_path(one.of)] != one.source_sha256:
                raise NotVerified(f"{path} names another source.")
        if not listed:
            return "none"
        made = ", ".join(f"{one.kind} of object {one.of} by {one.maker}" for one in listed.values())
        return f"{made}; as the maker of the bundle states"

    # What happened

    def _check_custody(self) -> str:
        case, found = self.index.case, []
        for number, path in self._contents.matching(_EVENT):
            data = self._contents.get(path)
            event = parse_canonical(data, limit=_EVENT_LIMIT)
            if not isinstance(event, dict) or event.get("case") != case:
                raise NotVerified(f"{path} is about something else.")
            name = path.removesuffix(".event.json")
            key = _key(self._contents.get(f"{name}.key"))
            raw = self._contents.small.get(f"{name}.proof")
            proof = None if raw is None else TlogProof.parse(raw)
            if event.get("kind") == "action":
                self._action(event["action"])
            found.append(LoggedEvent(number, event, leaf(data, key), proof))
        if self.receipt.leaf not in {one.leaf for one in found}:
            raise NotVerified("The arrival is not among the events.")
        if [one.number for one in found] != list(range(1, len(found) + 1)):
            raise NotVerified("The events are not counted from 1.")
        extra = {path for path in self._contents.small if path.startswith("data/custody/")}
        for one in found:
            extra -= {
                f"data/custody/{one.number:05d}.{end}" for end in ("event.json", "key", "proof")
            }
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
        places, sizes, cosigned = [], set(), set()
        for one in self._events:
            if one.proof is None:
                raise NotVerified(f"Event {one.number} has no proof that the log holds it.")
            pins = logs.get(one.proof.origin)
            if pins is None:
                raise NotVerified("An event is proven by another log than the roots pin.")
            signed = one.proof.verify(one.leaf, pins.custody_log, pins.cosigners, pins.quorum)
            places.append((order[one.proof.origin], one.proof.index))
            sizes.add(signed.checkpoint.size)
            cosigned |= set(signed.cosigned)
        if places != sorted(set(places)):
            raise NotVerified("The events are not in the order of the log.")
        by = f"{len(cosigned)} cosigners" if cosigned else "no cosigner, as the root asks for none"
        return (
            f"every event stands in the public log of {max(sizes)} events, signed by it and by {by}"
        )

    def _check_stamps(self) -> str:
        self._known(self._events, "the events do not verify")
        logs = self._known(self._logs, "the directory does not verify")
        events = {
            one.number: Provable(one.leaf, one.proof.origin, one.proof.index)
            for one in self._events
            if one.proof is not None
        }
        keys = {name: pins.custody_log for name, pins in logs.items()}
        files = self._contents.small
        return check_stamps(files, events, keys, self.receipt.leaf, self._authorities)

    # Consent

    def _check_policy(self) -> str:
        first = parse_policy(self._contents.get("data/policies/0.json"))
        if first.sha256 != self.receipt.event["policy_sha256"]:
            raise NotVerified("The policy is not the one with which the testimony arrived.")
        entries = [PolicyEntry(first, parse_day(self.receipt.received_on))]
        head, withdrawn, policies = Head(0, first.sha256), False, {0}
        days = {
            one.event["statement_sha256"]: parse_day(one.event["received_on"])
            for one in self._events
            if one.event.get("kind") == "control-statement"
        }
        for seq, path in self._contents.matching(_STATEMENT):
            said = parse_control(parse_canonical(self._contents.get(path), limit=2 * POLICY_LIMIT))
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
                if said.policy_bytes != self._contents.get(f"data/policies/{said.policy.seq}.json"):
                    raise NotVerified(f"{path} and its policy differ.")
            else:
                days.pop(said.sha256)
        if days:
            raise NotVerified("The log tells of statements that the bundle does not hold.")
        if {number for number, _ in self._contents.matching(_POLICY)} != policies:
            raise NotVerified("The bundle holds a policy that no statement brought.")
        check_chain(entries)
        if withdrawn:
            raise NotVerified("The witness has withdrawn the testimony.")
        self._chain = entries
        return f"{len(entries)} versions, each signed by the witness's key; not withdrawn"

    def _check_export(self) -> str:
        request, asked = self._signed(REQUEST, "export-request")
        approval, approved = self._signed(APPROVAL, "export-approve")
        index = self.index
        wanted = {
            "to": index.to,
            "purpose": index.purpose,
            "identity_level": index.identity_level,
            "releases": index.document["released"],
        }
        if asked != wanted or request.actor != index.maker:
            raise NotVerified("The request was for something else, or by somebody else.")
        expected = {
            "export": index.export, "decision": "approve", "request": request.nonce, **wanted
        }  # fmt: skip
        if approved != expected:
            raise NotVerified("The approval is of something else.")
        approver = self._directory(approval.directory).person(approval.actor)
        if approver is None or "administrator" not in approver.roles:
            raise NotVerified("Whoever approved it was no administrator.")
        if approval.actor == request.actor:
            raise NotVerified("One person asked for it and approved it.")
        return f"asked for by {request.actor}, approved by {approval.actor}"

    def _signed(self, path: str, kind: str) -> tuple[Action, Mapping[str, Any]]:
        document = parse_canonical(self._contents.get(path), limit=_EVENT_LIMIT)
        action, body = self._action(document["action"]), document["body"]
        if action.action != kind or action.body_sha256 != body_sha256(body):
            raise NotVerified(f"{path} is another act, or says something else than was signed.")
        if not any(one.event.get("action") == action.document for one in self._events):
            raise NotVerified(f"The log does not tell of {path}.")
        return action, body

    def _moments(self) -> list[tuple[date, int]]:
        """Return the days of request, approval and making, each with the directory of then."""
        self._known(self._chain, "the policies do not verify")
        acts = ((REQUEST, "export-request"), (APPROVAL, "export-approve"))
        signed = [self._signed(path, kind)[0] for path, kind in acts]
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
            self._contents.small,
            self.index,
            self.receipt.event["shares"],
            [one.event for one in self._known(self._events, "the events do not verify")],
            self._known(self._chain, "the policies do not verify"),
            [day for day, _ in self._moments()],
            self._directory,
        )


def _tolerant(work: Callable[[], Index]) -> Index | None:
    try:
        return work()
    except ProtocolError:
        return None


def _listed(name: str, data: bytes) -> dict[str, str]:
    try:
        return parse_manifest(data)
    except ProtocolError as error:
        raise NotVerified(f"{name}: {error.title}", slug=error.slug) from None


def _key(text: bytes) -> bytes:
    if not re.fullmatch(rb"[0-9a-f]{64}\n", text):
        raise NotVerified("The key of an event is not in its form.")
    return bytes.fromhex(text.decode("ascii"))
