# SPDX-License-Identifier: AGPL-3.0-or-later
"""How a testimony is sealed on the witness's own device, step by step; what leaves it is made by client/delivery.py.

Nothing is sealed before the directory was verified, nothing is sent before all of it is sealed, and
the case key is forgotten when `seal_testimony` returns.
"""

import errno
import hashlib
import io
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final

from amana.client.directory import VerifiedDirectory, fetch_directory
from amana.client.errors import Usage
from amana.client.log import from_server
from amana.client.progress import Advance, Progress
from amana.client.statefile import Sending, StateFile
from amana.client.transport import Patience, Transport
from amana.protocol.case import case_id, intake_key_id, seal_grant
from amana.protocol.codename import ThreadKeys
from amana.protocol.directory import Custodians, Directory, Reader, readers
from amana.protocol.encoding import sha256_hex
from amana.protocol.errors import ProtocolError
from amana.protocol.identity import MIME as IDENTITY_MIME
from amana.protocol.identity import NAME as IDENTITY_FILE
from amana.protocol.manifest import (
    MAX_OBJECTS,
    NAME_LIMIT,
    SealedObject,
    manifest_bytes,
)
from amana.protocol.policy import first_policy, parse_policy
from amana.protocol.sealing import (
    Digests,
    Identity,
    Kind,
    Recipient,
    TooLarge,
    WrongLength,
    seal,
    seal_stream,
)
from amana.protocol.submission import (
    DeclaredObject,
    Label,
    Submission,
    labels_bytes,
    objects_bytes,
)
from amana.protocol.vault import (
    IDENTITY,
    MIN_K,
    OBJECT_KINDS,
    ORIGINALS,
    SealedVault,
    seal_vault,
    shares_bytes,
)

MEMORY_FOLDER: Final = Path("/dev/shm")  # noqa: S108
NO_CONSENT_TEXT: Final = ("none", sha256_hex(b""))


@dataclass(frozen=True)
class Attachment:
    """A file to be sent: cleaned of its metadata, or as it is where the witness said so."""

    path: Path
    keep_metadata: bool = False


@dataclass(frozen=True)
class Apart:
    """What is to lie in the vault, apart from the testimony: who the witness is, and originals of cleaned files."""

    identity: bytes | None = None
    """As `identity_document` makes it."""
    originals: bool = True
    """Whether they are kept where there are custodians; otherwise nobody ever sees them."""


NOTHING_OF_ONESELF: Final = Apart()


@dataclass(frozen=True)
class Wishes:
    """What the witness decided; it stands in the clear policy."""

    desk: str
    language: str
    scopes: Mapping[str, str]
    flags: tuple[str, ...] = ()
    identity_level: str = "anonymous"
    withdrawal_delay_days: int = 7


@dataclass(frozen=True)
class Consent:
    """The text that the witness consents to: its id and hash for the policy, and what it says."""

    id: str
    sha256: str
    text: str


def get_directory(
    transport: Transport, root: bytes, patience: Patience, desk: str | None = None
) -> VerifiedDirectory:
    """Fetch the directory, of the readers only those of `desk`, and verify it; nothing of it stays on the device."""
    return fetch_directory(
        lambda path: transport.get(f"/v1/directory/{path}", patience=patience),
        root,
        None,
        desk=desk,
        log=from_server(transport, patience),
    )


def choose_consent(directory: Directory, language: str, wanted: str | None = None) -> Consent:
    """Return the consent text in the witness's language, or the one that was asked for.

    It never falls back to another language: nobody consents to what they cannot read.
    """
    texts = directory.consent_texts
    if not texts:
        return Consent(*NO_CONSENT_TEXT, text="")
    if wanted is not None:
        fitting = [one for one in texts if one.id == wanted]
    else:
        fitting = [one for one in texts if one.language == language] or [
            one for one in texts if _primary(one.language) == _primary(language)
        ]
    if not fitting:
        offered = ", ".join(f"{one.id} ({one.language})" for one in texts)
        raise Usage(
            f"There is no such consent text; choose one you understand: {offered}.",
            slug="no-consent-text",
        )
    return Consent(fitting[0].id, fitting[0].sha256, fitting[0].text)


def _primary(language: str) -> str:
    return language.partition("-")[0]


def choose_attachments(attached: list[Path], kept: list[Path]) -> tuple[Attachment, ...]:
    """Return each file once, in the order given; `kept` are sent with their metadata."""
    keep = {path.resolve() for path in kept}
    files = {path.resolve(): path for path in [*attached, *kept]}
    if len(files) >= MAX_OBJECTS:
        raise Usage(
            f"At most {MAX_OBJECTS - 1} files can be attached.", slug="too-many-attachments"
        )
    for path in files.values():
        if not path.is_file() or not os.access(path, os.R_OK):
            raise Usage(f"{path} cannot be read.", slug="unreadable-file")
    return tuple(Attachment(path, resolved in keep) for resolved, path in files.items())


def seal_testimony(
    account: bytes,
    attachments: tuple[Attachment, ...],
    wishes: Wishes,
    consent: Consent,
    verified: VerifiedDirectory,
    thread: ThreadKeys,
    number: int,
    state: StateFile,
    progress: Progress,
    *,
    apart: Apart = NOTHING_OF_ONESELF,
    adds_to: str | None = None,
) -> Submission:
    """Seal a testimony to a fresh case key, objects into the folder of `state`, and grant the key to the readers.

    `number` counts the testimonies of the thread; `adds_to` is a case of it, which only readers learn. Raises
    Usage, among them CannotClean; the caller removes `state` then.
    """
    directory = verified.directory
    custodians = check_custodians(directory, apart)
    _check_number(attachments, apart, custodians)
    with _local_faults():
        policy = first_policy(
            thread.control(number),
            deployment=directory.deployment,
            desk=wishes.desk,
            language=wishes.language,
            consent_text=consent.id,
            consent_text_sha256=consent.sha256,
            scopes=wishes.scopes,
            identity_level=wishes.identity_level,
            flags=list(wishes.flags),
            withdrawal_delay_days=wishes.withdrawal_delay_days,
            made_on=datetime.now(UTC).date().isoformat(),
        )
        chosen = _choose_readers(directory, policy)
        case_key = Identity.generate()
        sealing = _Sealing(state, case_key.recipient, progress)
        sealed_account = sealing.account(account)
        for count, attachment in enumerate(attachments, start=1):
            sealing.attachment(attachment, f"{count} of {len(attachments)}")
        if apart.identity is not None:
            sealing.identity(apart.identity)
        if custodians is not None and apart.originals:
            sealing.originals()
        case = case_id(case_key.recipient)
        vaults = sealing.share_vaults(case, custodians)
        manifest = manifest_bytes(
            thread.thread,
            deployment=directory.deployment,
            case=case,
            salt=os.urandom(32),
            directory=directory.version,
            policy_sha256=parse_policy(policy).sha256,
            objects=sealing.objects,
            vaults=[one.entry for one in vaults],
            reply=thread.reply.recipient,
            adds_to=adds_to,
        )
        return Submission(
            case=case.encode("ascii"),
            policy=policy,
            labels=labels_bytes([Label(one.id, intake_key_id(one.intake_key)) for one in chosen]),
            grants=b"".join(seal_grant(case_key, one.intake_key) for one in chosen),
            manifest=seal(manifest, case_key.recipient, Kind.MANIFEST),
            account=sealed_account,
            objects=objects_bytes(sealing.declared),
            shares=shares_bytes(vaults),
        )


def check_custodians(directory: Directory, apart: Apart) -> Custodians | None:
    """Return the custodians who would hold the shares of a vault, or None where there are not two of them at least.

    Raises Usage where the witness wants to tell who they are and nobody can keep it apart.
    """
    custodians = directory.custodians
    if custodians.k >= MIN_K:
        return custodians
    if apart.identity is not None:
        raise Usage(
            "This service has no custodians, so nobody can keep apart who you are. Send without --identity.",
            slug="no-custodians",
        )
    return None


def as_sending(
    submission: Submission, verified: VerifiedDirectory, transport: Transport, proxy: str | None
) -> Sending:
    """Return what has to be kept until the receipt is there."""
    return Sending(
        server=transport.server,
        proxy=proxy,
        deployment=verified.pins.deployment,
        custody_log_origin=verified.pins.custody_log.name,
        custody_log_key=verified.pins.custody_log_key,
        submission=submission,
    )


def _choose_readers(directory: Directory, policy: bytes) -> list[Reader]:
    chosen = readers(directory, parse_policy(policy), secrets.randbelow)
    return sorted(chosen, key=lambda reader: reader.id)


def _check_number(
    attachments: tuple[Attachment, ...], apart: Apart, custodians: Custodians | None
) -> None:
    keeps = custodians is not None and apart.originals
    originals = sum(not one.keep_metadata for one in attachments) if keeps else 0
    if 1 + len(attachments) + originals + (apart.identity is not None) > MAX_OBJECTS:
        raise Usage(
            f"With the originals of cleaned files, which are kept apart, these are more than {MAX_OBJECTS} objects;"
            " send fewer, or --no-originals.",
            slug="too-many-attachments",
        )


class _Sealing:
    """Seals the objects of one testimony in their order; owns the lists that describe them."""

    def __init__(self, state: StateFile, recipient: Recipient, progress: Progress) -> None:
        self._state = state
        self._recipient = recipient
        self._progress = progress
        self._originals: dict[str, tuple[Path, str]] = {}
        self._vault_keys: dict[str, Identity] = {}
        self.objects: list[SealedObject] = []
        self.declared: list[DeclaredObject] = []

    def account(self, account: bytes) -> bytes:
        """Seal the account; returns it sealed when it travels inline, else nothing."""
        described = SealedObject(
            i=0,
            kind="account",
            name="account.json",
            mime="application/json",
            len=len(account),
            sha256=sha256_hex(account),
            sealed_sha256="",
            derived_from=None,
            cleaned=False,
        )
        try:
            sealed = seal(account, self._recipient, Kind.ACCOUNT)
        except TooLarge:
            digests = self._seal(
                io.BytesIO(account), len(account), self._recipient, lambda _count: None
            )
            self._add(replace(described, sealed_sha256=digests.sealed_sha256), digests)
            return b""
        self._add(replace(described, sealed_sha256=sha256_hex(sealed)), None)
        return sealed

    def attachment(self, attachment: Attachment, place: str) -> None:
        """Clean a file unless the witness keeps its metadata, and seal it."""
        # Cleaning loads image and video libraries, which a text does not need.
        from amana.client.cleaning import clean, sniff_mime

        source = attachment.path
        if attachment.keep_metadata:
            self._file(source, source, sniff_mime(source), None, place)
            return
        size = source.stat().st_size
        with private_folder(size) as folder:
            copy = folder / "copy"
            with self._progress.step(f"Cleaning {place}", size) as advance:
                mime = clean(source, copy, progress=advance).mime
            with source.open("rb") as original:
                derived_from = hashlib.file_digest(original, "sha256").hexdigest()
            self._file(source, copy, mime, derived_from, place)
            # The same file under two names is kept once.
            self._originals.setdefault(derived_from, (source, mime))

    def identity(self, document: bytes) -> None:
        """Seal who the witness is to a key of its own, which nobody keeps whole."""
        recipient = self._vault_key(IDENTITY)
        digests = self._seal(io.BytesIO(document), len(document), recipient, lambda _count: None)
        described = self._in_vault(IDENTITY, IDENTITY_FILE, IDENTITY_MIME, digests)
        self._add(described, digests)

    def originals(self) -> None:
        """Seal the untouched originals of the files that were cleaned, to another key that nobody keeps whole."""
        for count, (sha256, (path, mime)) in enumerate(self._originals.items(), start=1):
            recipient, length = self._vault_key(ORIGINALS), path.stat().st_size
            place = f"original {count} of {len(self._originals)}"
            with (
                self._progress.step(f"Sealing {place}", length) as advance,
                path.open("rb") as file,
            ):
                digests = self._seal(file, length, recipient, advance)
            if digests.sha256 != sha256:
                raise WrongLength
            described = self._in_vault(ORIGINALS, attached_name(path), mime, digests)
            self._add(described, digests)

    def share_vaults(self, case: str, custodians: Custodians | None) -> list[SealedVault]:
        """Split the keys of what lies in the vault among the custodians."""
        if custodians is None:
            return []
        return [
            seal_vault(
                key,
                case=case,
                vault=vault,
                custodians=custodians.members,
                k=custodians.k,
                objects=[one.i for one in self.objects if one.kind == OBJECT_KINDS[vault]],
            )
            for vault, key in sorted(self._vault_keys.items())
        ]

    def _vault_key(self, vault: str) -> Recipient:
        return self._vault_keys.setdefault(vault, Identity.generate()).recipient

    def _in_vault(self, vault: str, name: str, mime: str, digests: Digests) -> SealedObject:
        return SealedObject(
            i=len(self.objects),
            kind=OBJECT_KINDS[vault],
            name=name,
            mime=mime,
            len=digests.length,
            sha256=digests.sha256,
            sealed_sha256=digests.sealed_sha256,
            derived_from=None,
            cleaned=False,
        )

    def _file(
        self, original: Path, source: Path, mime: str, derived_from: str | None, place: str
    ) -> None:
        length = source.stat().st_size
        with (
            self._progress.step(f"Sealing {place}", length) as advance,
            source.open("rb") as file,
        ):
            digests = self._seal(file, length, self._recipient, advance)
        described = SealedObject(
            i=len(self.objects),
            kind="file",
            name=attached_name(original),
            mime=mime,
            len=digests.length,
            sha256=digests.sha256,
            sealed_sha256=digests.sealed_sha256,
            derived_from=derived_from,
            cleaned=derived_from is not None,
        )
        self._add(described, digests)

    def _seal(
        self, source: BinaryIO, length: int, recipient: Recipient, advance: Advance
    ) -> Digests:
        with self._state.writing_sealed(len(self.objects)) as target:
            return seal_stream(source, target, recipient, length, progress=advance)

    def _add(self, described: SealedObject, digests: Digests | None) -> None:
        self.objects.append(described)
        if digests is not None:
            declared = DeclaredObject(described.i, digests.sealed_size, digests.sealed_sha256)
            self.declared.append(declared)


def attached_name(path: Path) -> str:
    """Return the name that readers see, as it is but for bytes that are no UTF-8; at most 255 characters."""
    return os.fsencode(path.name).decode("utf-8", "replace")[:NAME_LIMIT]


@contextmanager
def private_folder(size: int) -> Iterator[Path]:
    """Give a folder that only this person can enter, for the plaintext copy of a file of `size` bytes.

    It is removed in any case but SIGKILL and power loss. It lies in memory where there is plenty of
    it, because deleted flash memory is not erased flash memory.
    """
    with tempfile.TemporaryDirectory(prefix="amana-", dir=_in_memory(size)) as folder:
        yield Path(folder)


def _in_memory(size: int) -> Path | None:
    try:
        free = shutil.disk_usage(MEMORY_FOLDER).free
    except OSError:
        return None
    # A copy can be larger than its original, and the machine needs memory for the rest.
    return MEMORY_FOLDER if os.access(MEMORY_FOLDER, os.W_OK) and free > 4 * size else None


@contextmanager
def _local_faults() -> Iterator[None]:
    """Turn what fails on the witness's own device into sentences that name no file."""
    try:
        yield
    except ProtocolError as error:
        raise Usage(error.title, slug=error.slug) from None
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise Usage("There is no room on the disk.", slug="disk-full") from None
        raise Usage("A file could not be read or written.", slug="file-failed") from None
