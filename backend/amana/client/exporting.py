# SPDX-License-Identifier: AGPL-3.0-or-later
"""A reviewer takes an approved case out: what they may open themselves, with its proof, verified, sealed to the partner.

Sealed bytes lie on the disk while this runs, plaintext never: it is made again from them as it is read.
"""

import hashlib
import os
import re
import shutil
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from amana.client.bundle import READ_BYTES, Chunks, Source, archive, archive_size, tar_entries
from amana.client.bundlecheck import APPROVAL, RECEIPT, REQUEST, check_bundle, read_contents
from amana.client.bundlereadme import readmes
from amana.client.directory import VerifiedDirectory, custody_logs
from amana.client.errors import NetworkFailed, NotVerified, Usage
from amana.client.evidence import directory_files
from amana.client.filenames import safe_name
from amana.client.leaving import VaultExporter, parse_releases, release_files
from amana.client.log import from_server, prove_somewhere
from amana.client.reviewer import (
    READABLE_KINDS,
    VerifiedCase,
    case_argument,
    download,
    verify_case,
    verifying,
)
from amana.client.stamps import Placed, fetch_stamps
from amana.client.verify import holds
from amana.protocol.action import parse_action
from amana.protocol.bundle import (
    BAG_INFO,
    BAGIT,
    BAGIT_TEXT,
    DERIVED_KINDS,
    INDEX,
    MANIFEST,
    TAG_MANIFEST,
    manifest_text,
    opening_path,
    sealed_path,
    sign_index,
)
from amana.protocol.control import parse_control
from amana.protocol.directory import Directory, RootPins
from amana.protocol.encoding import (
    canonical,
    check_id,
    check_sha256_hex,
    parse_canonical,
    sha256_hex,
    unb64,
)
from amana.protocol.errors import ProtocolError
from amana.protocol.handover import LIMIT_BYTES as HANDOVER_LIMIT
from amana.protocol.handover import parse_handover
from amana.protocol.manifest import SealedObject
from amana.protocol.opening import Opening, make_opening
from amana.protocol.policy import IDENTITY_LEVELS, is_scope, parse_policy
from amana.protocol.receipt import leaf
from amana.protocol.release import leaving_level
from amana.protocol.sealing import Digests, Identity, seal_stream
from amana.protocol.tlogproof import TlogProof
from amana.protocol.vault import OBJECT_KINDS

MAX_EVENTS: Final = 5000
PROOF_TRIES: Final = 20
"""So often a proof is asked for at short intervals: an event gets its place in the log within a fraction of a second."""
PLACED_SECONDS: Final = 60.0
"""So long in all, since a server may be busy, or its sequencer just be followed by another."""
COSIGNED_SECONDS: Final = 900.0
"""Where the root asks for cosigners, so long in all. The custody log asks them every five minutes, and opening the case
for the export was an event itself; who gives up after seconds can never prove it."""
LIST_LIMIT: Final = 16 * 2**20
_EXTENSION: Final = re.compile(r"[a-z0-9]{1,8}")


@dataclass(frozen=True)
class ListedExport:
    """An export as the server lists it."""

    export: str
    case: str
    state: str
    to: str
    purpose: str
    identity_level: str
    requested_by: str
    requested_on: str
    releases: Mapping[str, str]
    """The vaults that are to leave with it, each with the release that allows it."""
    signed: Mapping[str, Any]
    """The server's own words about it: request, approval, policies."""


@dataclass(frozen=True)
class Derivative:
    """A translation or redaction of an object, in a file; `maker` made it."""

    kind: str
    of: int
    file: Path
    maker: str


@dataclass(frozen=True)
class Exported:
    """A sealed bundle: where it is, its hash and size, and the hash of the list of its files' hashes."""

    export: str
    file: Path
    sealed_sha256: str
    bag_sha256: str
    size: int


@dataclass(frozen=True)
class _Event:
    content: bytes
    key: bytes
    proof: TlogProof


class Exporter(VaultExporter):
    """A reader who asks for exports and assembles those that were approved."""

    def exports(self, case: str | None = None) -> list[ListedExport]:
        """Return the newest exports that this person may see."""
        return listed_exports(self._desk.get(_exports_path(case), limit=LIST_LIMIT).document())

    def request(self, case: str, to: str, purpose: str, vaults: Sequence[str] = ()) -> str:
        """Ask that a case may go to a partner for a purpose; returns the export's id. Raises Refused, Usage.

        With `vaults`, of those too what custodians released for that; raises NotReleased.
        """
        case_argument(case)
        if not is_scope(purpose):
            raise Usage("There is no such purpose.", slug="purpose-unknown")
        directory = self._directory().directory
        if directory.partner(to) is None:
            raise Usage("The officers' directory lists no such partner.", slug="partner-unknown")
        answer = self._desk.act(
            "export-request",
            f"/v1/cases/{case}/exports",
            directory=directory.version,
            case=case,
            body={
                "to": to,
                "purpose": purpose,
                "identity_level": leaving_level(purpose) if vaults else IDENTITY_LEVELS[0],
                "releases": self.releases_for(case, to, purpose, vaults),
            },
        ).document()
        with verifying("the export"):
            return check_id(answer["export"])

    def file_receipt(self, case: str, document: bytes) -> str:
        """File what the partner signed; returns the export's id. Raises Refused and NotVerified."""
        with verifying("the receipt"):
            receipt = parse_handover(parse_canonical(document, limit=HANDOVER_LIMIT))
            directory = self._directory().directory
            partner = directory.person(receipt.partner)
            if partner is None or receipt.case != case:
                raise NotVerified("The receipt is of another case or of nobody in the directory.")
            receipt.verify(partner.signing_key)
        self._desk.act(
            "export-receipt",
            f"/v1/exports/{receipt.export}/receipt",
            directory=directory.version,
            case=case,
            body={"export": receipt.export, "receipt": receipt.document},
        )
        return receipt.export

    def assemble(
        self, export: ListedExport, out: Path, derivatives: Sequence[Derivative] = ()
    ) -> Exported:
        """Make the bundle of an approved export, check all of it as a stranger would, seal it, and report it.

        Nothing is left at `out` unless everything held and the server took the report. Raises Refused, NotVerified,
        NetworkFailed and Usage.
        """
        if out.exists():
            raise Usage("There is a file of this name already.", slug="file-exists")
        with _workplace(out, export.export) as workplace:
            self._may_leave(export)
            verified = self._directory()
            partner = verified.directory.partner(export.to)
            if partner is None:
                raise NotVerified("The officers' directory does not list the partner any more.")
            case, described = self._opened(export.case, verified)
            # Who the witness is lies in the vault, and leaves with a case under a release alone.
            vaulted = self.open_vaults(case, export.releases, verified.directory.version, workplace)
            parts = case.parts(READABLE_KINDS)
            download(
                self._desk,
                parts,
                f"/v1/cases/{case.manifest.case}/objects",
                workplace,
                self._progress,
            )
            self._may_leave(export)
            files = self._files(export, case, described, verified, workplace, derivatives, vaulted)
            self._may_leave(export)
            self._check(files)
            part = workplace / "bundle"
            size = archive_size(files)
            with (
                part.open("wb") as target,
                self._progress.step("Sealing", size) as advance,
            ):
                source = Chunks(archive(files))
                sealed: Digests = seal_stream(
                    source,  # type: ignore[arg-type]
                    target,
                    partner.intake_key,
                    size,
                    progress=advance,
                )
                target.flush()
                os.fsync(target.fileno())
            made = Exported(
                export=export.export,
                file=out,
                sealed_sha256=sealed.sealed_sha256,
                bag_sha256=files[TAG_MANIFEST].sha256,
                size=sealed.sealed_size,
            )
            self._report(export, made, verified.directory)
            part.rename(out)
        return made

    def _may_leave(self, export: ListedExport) -> None:
        self._desk.get(f"/v1/exports/{export.export}/leave")

    def _report(self, export: ListedExport, made: Exported, directory: Directory) -> None:
        self._desk.act(
            "export-complete",
            f"/v1/exports/{export.export}/completion",
            directory=directory.version,
            case=export.case,
            body={
                "export": export.export,
                "bag_sha256": made.bag_sha256,
                "sealed_sha256": made.sealed_sha256,
                "size": made.size,
            },
        )

    def _opened(
        self, case: str, verified: VerifiedDirectory
    ) -> tuple[VerifiedCase, Mapping[str, Any]]:
        described = self._desk.get(f"/v1/cases/{case}").document()
        self._desk.act(
            "open", f"/v1/cases/{case}/openings", directory=verified.directory.version, case=case
        )
        with verifying("the case"):
            return verify_case(self._desk, verified.pins, case, described), described

    def _check(self, files: Mapping[str, Source]) -> None:
        """Check the bundle as whoever gets it will, before it is sealed."""
        with self._progress.step("Checking", archive_size(files)) as advance:
            source = Chunks(archive(files))
            contents = read_contents(tar_entries(source), advance)  # type: ignore[arg-type]
        faults = [one for one in check_bundle(contents, self._root) if not holds(one)]
        if faults:
            told = "; ".join(f"{one.name}: {one.detail}" for one in faults)
            raise NotVerified(f"The bundle would not verify: {told}", slug="bundle-invalid")

    # What goes in

    def _files(
        self,
        export: ListedExport,
        case: VerifiedCase,
        described: Mapping[str, Any],
        verified: VerifiedDirectory,
        workplace: Path,
        derivatives: Sequence[Derivative],
        vaulted: Mapping[int, Identity],
    ) -> dict[str, Source]:
        redacted = {one.of for one in derivatives if one.kind == "redaction"}
        data, objects = _objects(case, workplace, redacted, vaulted)
        released = release_files(export.signed, export.releases)
        data |= {path: _small(content) for path, content in released.items()}
        derived, described_derived = _derived(case, derivatives, verified.directory)
        data |= derived
        data[RECEIPT] = _small(canonical(described["receipt"]))
        with verifying("the export"):
            data[REQUEST] = _small(canonical(export.signed["request"]))
            data[APPROVAL] = _small(canonical(export.signed["approval"]))
        data |= self._consent(export.case)
        events = self._events(export.case)
        for number, event in enumerate(events, start=1):
            stem = f"data/custody/{number:05d}"
            data[f"{stem}.event.json"] = _small(event.content)
            data[f"{stem}.key"] = _small(event.key.hex().encode("ascii") + b"\n")
            data[f"{stem}.proof"] = _small(bytes(event.proof))
        data |= self._stamps(events)
        data |= self._directory_files(events, verified.directory.version)
        return self._bag(export, case, data, objects, described_derived, verified.directory)

    def _consent(self, case: str) -> dict[str, Source]:
        found = self._desk.get(f"/v1/cases/{case}/consent", limit=LIST_LIMIT).document()
        with verifying("the consent"):
            policies = [unb64(one["policy"]) for one in found["policies"]]
            statements = [unb64(one) for one in found["statements"]]
            files = {f"data/policies/{parse_policy(one).seq}.json": _small(one) for one in policies}
            for place, one in enumerate(statements, start=1):
                said = parse_control(parse_canonical(one, limit=64 * 1024))
                files[f"data/statements/{said.seq or place}.json"] = _small(one)
        return files

    def _events(self, case: str) -> list[_Event]:
        """Return all events of a case that the server shows, each with its proof, in the order of the log."""
        found = case_events(self._desk, case)
        logs = custody_logs(self._get, self._root)
        order = {pins.custody_log.name: place for place, pins in enumerate(logs)}
        proven = []
        is_cosigned = logs[-1].quorum > 0
        label = "Waiting for cosigners, some minutes" if is_cosigned else "Fetching proofs"
        until = time.monotonic() + (COSIGNED_SECONDS if is_cosigned else PLACED_SECONDS)
        with self._progress.step(label, len(found)) as advance:
            for content, key in found:
                proven.append(_Event(content, key, self._proof(logs, leaf(content, key), until)))
                advance(1)
        return sorted(proven, key=lambda one: (order[one.proof.origin], one.proof.index))

    def _proof(self, logs: Sequence[RootPins], entry: bytes, until: float) -> TlogProof:
        """Return a proof of an event, to a checkpoint with the quorum; asks until then, and a few times in any case."""
        patience, tried = self._desk.patience, 0
        while True:
            proof = prove_somewhere(self._desk.transport, logs, entry)
            if proof is not None:
                return proof
            tried += 1
            if tried >= PROOF_TRIES and time.monotonic() >= until:
                break
            slowly = patience.attempts - 1 if tried >= PROOF_TRIES else 1
            patience.wait(slowly, NetworkFailed("The log does not hold an event yet."))
        if logs[-1].quorum:
            # What was fetched is kept: it is not the bundle that is wrong.
            raise NetworkFailed(
                "Cosigners do not vouch for everything that happened yet. Run the command again later; it goes on."
            )
        raise NotVerified(
            "The service's log does not hold everything that happened.", slug="not-in-log"
        )

    def _stamps(self, events: Sequence[_Event]) -> dict[str, Source]:
        """Return the time stamps that cover the events, as far as there are any that hold."""
        placed = [
            Placed(number, leaf(one.content, one.key), one.proof.origin, one.proof.index)
            for number, one in enumerate(events, start=1)
        ]
        keys = [one.custody_log for one in custody_logs(self._get, self._root)]
        found = fetch_stamps(from_server(self._desk.transport), keys, placed)
        return {path: _small(content) for path, content in found.items()}

    def _directory_files(self, events: Sequence[_Event], newest: int) -> dict[str, Source]:
        """Return the officers' lists under which something was signed, as the server has them."""
        versions = {newest}
        with verifying("an event"):
            for event in events:
                told = parse_canonical(event.content, limit=256 * 1024)
                if told["kind"] == "action":
                    versions.add(parse_action(told["action"]).directory)
        found = directory_files(self._get, self._root, versions)
        return {f"data/directory/{name}": _small(content) for name, content in found.items()}

    def _bag(
        self,
        export: ListedExport,
        case: VerifiedCase,
        data: dict[str, Source],
        objects: list[dict[str, Any]],
        derived: list[dict[str, Any]],
        directory: Directory,
    ) -> dict[str, Source]:
        made_on = self._desk.clock().date().isoformat()
        about = {
            "case": export.case,
            "export": export.export,
            "to": export.to,
            "purpose": export.purpose,
        }
        manifest = manifest_text({path: one.sha256 for path, one in data.items()})
        payload = sum(one.size for one in data.values())
        info = (
            f"Bagging-Date: {made_on}\nBag-Software-Agent: amana\n"
            f"External-Identifier: {export.export}\nPayload-Oxum: {payload}.{len(data)}\n"
            f"Source-Organization: {directory.deployment}\n"
        )
        tags = {
            BAGIT: BAGIT_TEXT,
            BAG_INFO: info.encode("utf-8"),
            **readmes(
                **about,
                made_on=made_on,
                maker=self.keys.id,
                received_on=case.receipt.received_on,
            ),
        }
        index = sign_index(
            self.keys.signing,
            {
                **about,
                "deployment": directory.deployment,
                "identity_level": export.identity_level,
                "maker": self.keys.id,
                "directory": directory.version,
                "made_on": made_on,
                "objects": objects,
                "released": [{"vault": v, "request": r} for v, r in export.releases.items()],
                "derived": derived,
                "manifest_sha256": sha256_hex(manifest),
                "tags": {path: sha256_hex(content) for path, content in tags.items()},
            },
        )
        small = {path: _small(content) for path, content in tags.items()}
        small |= {INDEX: _small(index), MANIFEST: _small(manifest)}
        listing = manifest_text({path: one.sha256 for path, one in small.items()})
        return {**data, **small, TAG_MANIFEST: _small(listing)}


def case_events(desk: Any, case: str) -> list[tuple[bytes, bytes]]:
    """Return the events of a case and their keys, as the server shows them, each checked against its leaf."""
    found: list[tuple[bytes, bytes]] = []
    after = ""
    while len(found) <= MAX_EVENTS:
        page = desk.get(f"/v1/cases/{case}/custody{after}", limit=LIST_LIMIT).document()
        with verifying("the custody"):
            last = ""
            for one in page["events"]:
                content, key = unb64(one["event"]), unb64(one["key"], 32)
                name = check_sha256_hex(one["leaf"])
                if leaf(content, key).hex() != name or name <= last:
                    raise NotVerified("An event does not have its leaf.", slug="custody-differs")
                found.append((content, key))
                last = name
        if not last:
            return found
        if f"?after={last}" <= after:
            break
        after = f"?after={last}"
    raise NotVerified("The server's events do not end.", slug="bad-answer")


def listed_exports(document: Mapping[str, Any]) -> list[ListedExport]:
    """Read the server's list of exports; raises NotVerified."""
    with verifying("the list of exports"):
        return [
            ListedExport(
                export=check_id(one["export"]),
                case=check_id(one["case"]),
                state=_word(one["state"]),
                to=check_id(one["to"]),
                purpose=_scope(one["purpose"]),
                identity_level=_word(one["identity_level"]),
                requested_by=check_id(one["requested_by"]),
                requested_on=str(one["requested_on"])[:10],
                releases=parse_releases(one["releases"]),
                signed=one,
            )
            for one in document["exports"]
        ]


def _word(text: Any) -> str:
    if not re.fullmatch(r"[a-z][a-z-]{0,31}", text):
        raise TypeError
    return str(text)


def _scope(text: Any) -> str:
    if not is_scope(text):
        raise TypeError
    return str(text)


def _exports_path(case: str | None) -> str:
    if case is None:
        return "/v1/exports"
    case_argument(case)
    return f"/v1/exports?case={case}"


def _small(content: bytes) -> Source:
    return Source(len(content), sha256_hex(content), lambda: iter((content,)))


def _objects(
    case: VerifiedCase, workplace: Path, redacted: set[int], vaulted: Mapping[int, Identity]
) -> tuple[dict[str, Source], list[dict[str, Any]]]:
    """Return what the witness sent, sealed and open, and what the index says of it."""
    parts = [
        part
        for part in case.parts(READABLE_KINDS | set(OBJECT_KINDS.values()))
        if part.item.kind in READABLE_KINDS or part.item.i in vaulted
    ]
    if redacted - {part.item.i for part in parts if part.item.kind in READABLE_KINDS}:
        raise Usage("There is no object of that number in this case.", slug="object-unknown")
    files: dict[str, Source] = {}
    listed = []
    for item, size in ((part.item, part.size) for part in parts):
        path = workplace / f"{item.i}.age"
        files[sealed_path(item.i)] = Source(size, item.sealed_sha256, partial(_read, path))
        open_path = None
        if item.i not in redacted:
            with verifying(f"object {item.i}"), path.open("rb") as sealed:
                opening = make_opening(
                    sealed,
                    vaulted.get(item.i, case.key),
                    sealed_sha256=item.sealed_sha256,
                    sha256=item.sha256,
                    length=item.len,
                )
            open_path = f"data/files/{item.i}.{_extension(item)}"
            files[opening_path(item.i)] = _small(bytes(opening))
            files[open_path] = Source(item.len, item.sha256, partial(_plain, path, opening))
        listed.append({"i": item.i, "mime": item.mime, "path": open_path})
    return files, listed


def _extension(item: SealedObject) -> str:
    """Return the ending of a name, which tells what a file is; the rest of it may tell who it is about."""
    if item.i == 0:
        return "json"
    ending = safe_name(item.name).rpartition(".")[2].lower()
    return ending if "." in item.name and _EXTENSION.fullmatch(ending) else "bin"


def _read(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(READ_BYTES):
            yield block


def _plain(path: Path, opening: Opening) -> Generator[memoryview, None, None]:
    with path.open("rb") as sealed:
        yield from opening.blocks(sealed)


def _derived(
    case: VerifiedCase, derivatives: Sequence[Derivative], directory: Directory
) -> tuple[dict[str, Source], list[dict[str, Any]]]:
    files, listed = {}, []
    readable = [part.item for part in case.parts(READABLE_KINDS)]
    sources = {one.i: one.sealed_sha256 for one in readable}
    for number, one in enumerate(derivatives):
        if one.of not in sources or one.kind not in DERIVED_KINDS:
            raise Usage("There is no object of that number in this case.", slug="object-unknown")
        if directory.person(one.maker) is None:
            raise Usage("Whoever made it is not in the directory.", slug="maker-unknown")
        ending = one.file.suffix.lstrip(".").lower()
        path = f"data/derived/{number}.{ending if _EXTENSION.fullmatch(ending) else 'bin'}"
        digest = _hash_of(one.file)
        files[path] = Source(one.file.stat().st_size, digest, partial(_read, one.file))
        listed.append(
            {
                "kind": one.kind,
                "of": one.of,
                "maker": one.maker,
                "path": path,
                "sha256": digest,
                "source_sha256": sources[one.of],
            }
        )
    return files, listed


def _hash_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        raise Usage(f"{path} cannot be read.", slug="unreadable-file") from None


@contextmanager
def _workplace(out: Path, export: str) -> Iterator[Path]:
    """Give a private folder beside `out`; sealed bytes stay in it only to go on with after the network failed."""
    place = out.parent / f".export-{export}"
    try:
        place.mkdir(mode=0o700, exist_ok=True)
        if place.is_symlink() or place.lstat().st_uid != os.getuid():
            raise Usage("Somebody else made files in this folder.", slug="folder-unusable")
    except OSError:
        raise Usage("The folder cannot be written, or is full.", slug="folder-unusable") from None
    keep = False
    try:
        yield place
    except NetworkFailed:
        keep = True
        raise
    except ProtocolError as error:
        raise NotVerified(error.title, slug=error.slug) from None
    except OSError:
        raise Usage("The folder cannot be written, or is full.", slug="folder-unusable") from None
    finally:
        (place / "bundle").unlink(missing_ok=True)
        if not keep:
            shutil.rmtree(place, ignore_errors=True)
