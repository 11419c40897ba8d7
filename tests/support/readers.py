"""A desk in memory: its directory, its readers' keys, and testimonies that a witness seals to them."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from amana.client.directory import VerifiedDirectory
from amana.client.progress import Silent
from amana.client.statefile import StateFile
from amana.client.witness import (
    NOTHING_OF_ONESELF,
    Apart,
    Consent,
    Wishes,
    choose_attachments,
    seal_testimony,
)
from amana.protocol.case import GRANT_SIZE, open_grant
from amana.protocol.codename import Codename, thread_keys
from amana.protocol.directory import RootPins, parse_directory, sign_intake_key
from amana.protocol.encoding import canonical, random_id, sha256_hex
from amana.protocol.manifest import Manifest, parse_manifest
from amana.protocol.sealing import Identity, Kind, open_sealed
from amana.protocol.signing import SigningKey
from amana.protocol.submission import Limits, Submission, check_submission

DEPLOYMENT = "amana-test"
ACCOUNT = '{"synthetic":"شهادة تجريبية"}'.encode()
TEXTS = {"ar": "أوافق", "en": "I agree"}


@dataclass
class DeskInMemory:
    """Four readers of one desk, the first its lead and the only one who takes restricting flags; two others are drawn."""

    draw: int = 2
    k: int = 0
    custodians: dict[str, Identity] = field(default_factory=dict)
    readers: dict[str, Identity] = field(
        default_factory=lambda: {random_id(): Identity.generate() for _ in range(4)}
    )
    custody_log: SigningKey = field(default_factory=SigningKey.generate)

    @property
    def lead(self) -> str:
        return next(iter(self.readers))

    def directory(self) -> VerifiedDirectory:
        """Return what a client has after it verified the directory."""
        lead = self.lead
        readers = []
        for person, intake in self.readers.items():
            signing = SigningKey.generate()
            readers.append(
                {
                    "id": person,
                    "roles": ["lead", "reviewer"] if person == lead else ["reviewer"],
                    "signing_key": signing.public,
                    "intake_key": str(intake.recipient),
                    "intake_key_sig": sign_intake_key(signing, person, intake.recipient),
                    "takes": ["minor", "sexual_violence"] if person == lead else [],
                }
            )
        members, people = [], []
        for person, intake in self.custodians.items():
            signing = SigningKey.generate()
            people.append({"id": person, "roles": ["custodian"], "signing_key": signing.public})
            signature = sign_intake_key(signing, person, intake.recipient)
            members.append(
                {
                    "id": person,
                    "intake_key": str(intake.recipient),
                    "intake_key_sig": signature,
                }
            )
        desk = {
            "id": "chemical",
            "names": {"en": "Chemical attacks"},
            "languages": ["ar"],
            "flags": ["minor"],
            "draw": self.draw,
            "leads": [lead],
        }
        texts = [
            {"id": f"c1.{x}", "language": x, "text": text, "sha256": sha256_hex(text.encode())}
            for x, text in TEXTS.items()
        ]
        parts: dict[str, Any] = {
            "directory.json": {
                "v": 1,
                "deployment": DEPLOYMENT,
                "version": 7,
                "desks": [desk],
                "custodians": {"k": self.k, "members": members},
                "partners": [],
                "consent_texts": texts,
                "drop_bits": 0,
            },
            "people.json": {"v": 1, "people": people},
            "desks/chemical.json": {"v": 1, "desk": "chemical", "readers": readers},
        }
        directory_log = SigningKey.generate().public
        pins = {
            "v": 1,
            "deployment": DEPLOYMENT,
            "directory_log": {"origin": f"{DEPLOYMENT}/directory", "key": directory_log},
            "custody_log": {
                "origin": f"{DEPLOYMENT}/custody",
                "key": self.custody_log.public,
            },
            "cosigners": [],
            "quorum": 0,
        }
        directory = parse_directory({name: canonical(part) for name, part in parts.items()})
        return VerifiedDirectory(directory, RootPins.parse(pins))

    def seal(
        self,
        folder: Path,
        *attached: Path,
        keep: tuple[Path, ...] = (),
        account: bytes = ACCOUNT,
        codename: Codename | None = None,
        number: int = 0,
        apart: Apart = NOTHING_OF_ONESELF,
        **wishes: Any,
    ) -> tuple[Submission, StateFile]:
        """Seal a testimony into a state at `folder`/state, which is not saved yet."""
        verified = self.directory()
        state = StateFile(folder / "state")
        state.begin()
        consent = verified.directory.consent_texts[0]
        submission = seal_testimony(
            account,
            choose_attachments(list(attached), list(keep)),
            Wishes(
                **{"desk": "chemical", "language": "ar", "scopes": {"review": "allow"}, **wishes}
            ),
            Consent(consent.id, consent.sha256, consent.text),
            verified,
            thread_keys((codename or Codename.generate()).master(DEPLOYMENT)),
            number,
            state,
            Silent(),
            apart=apart,
        )
        return submission, state

    def open(self, submission: Submission) -> tuple[dict[str, Identity], Manifest]:
        """Open every grant; returns the case key that each reader finds, and the manifest."""
        checked = check_submission(submission, Limits())
        assert len(submission.grants) == GRANT_SIZE * len(checked.labels)
        keys = {
            label.reader: open_grant(grant, self.readers[label.reader], checked.case)
            for label, grant in zip(checked.labels, checked.grants, strict=True)
        }
        [key, *_] = keys.values()
        return keys, parse_manifest(open_sealed(submission.manifest, key, Kind.MANIFEST))
