# SPDX-License-Identifier: AGPL-3.0-or-later
"""What one request brings to the server (docs/protocol.md §12.1): its parts, their form, and the one hash over them all."""

from dataclasses import dataclass, fields
from typing import Any

from amana.protocol.case import GRANT_SIZE
from amana.protocol.encoding import (
    canonical,
    check_id,
    check_sha256_hex,
    parse_canonical,
    sha256_hex,
    tagged_sha256,
)
from amana.protocol.errors import NotSealed, ProtocolError
from amana.protocol.policy import Policy, parse_policy
from amana.protocol.sealing import Kind, check_sealed, check_size
from amana.protocol.vault import SealedVault, parse_shares

MAX_GRANTS = 16
LABELS_LIMIT_BYTES = 4096
OBJECTS_LIMIT_BYTES = 16 * 1024


class SubmissionInvalid(ProtocolError):
    """The parts of a submission do not fit together or are too many."""

    slug = "submission-invalid"
    title = "The parts of the submission do not fit together."


@dataclass(frozen=True)
class Label:
    """Whom a grant is for: the reader's id and the short name of the intake key."""

    reader: str
    intake_key: str


@dataclass(frozen=True)
class DeclaredObject:
    """An object that will be uploaded: its number, its sealed size in bytes and its hash."""

    i: int
    size: int
    sealed_sha256: str


@dataclass(frozen=True)
class Limits:
    """What an installation takes (docs/protocol.md §12)."""

    objects: int = 64
    object_bytes: int = 4 * 2**30
    case_bytes: int = 16 * 2**30


@dataclass(frozen=True)
class Submission:
    """The parts as they travel, in the order in which they are hashed; `account` is empty when it is uploaded."""

    case: bytes
    policy: bytes
    labels: bytes
    grants: bytes
    manifest: bytes
    account: bytes
    objects: bytes
    shares: bytes

    def digest(self) -> bytes:
        """Return the hash of all parts: SHA-256(tag, then u64be length and bytes of each part)."""
        parts = []
        for field in fields(self):
            part: bytes = getattr(self, field.name)
            parts += [len(part).to_bytes(8, "big"), part]
        return tagged_sha256("amana-submission-v1", *parts)


@dataclass(frozen=True)
class CheckedSubmission:
    """A submission whose form was checked; nothing of it was opened, which nobody but its readers can."""

    parts: Submission
    case: str
    policy: Policy
    labels: tuple[Label, ...]
    grants: tuple[bytes, ...]
    objects: tuple[DeclaredObject, ...]
    vaults: tuple[SealedVault, ...] = ()

    @property
    def declared_bytes(self) -> int:
        return sum(item.size for item in self.objects)

    def event(self, received_on: str) -> dict[str, Any]:
        """Return the custody event of its arrival, which the receipt repeats (docs/protocol.md §10)."""
        inline = [self.parts.account] if self.parts.account else []
        return {
            "v": 1,
            "kind": "testimony-received",
            "deployment": self.policy.deployment,
            "case": self.case,
            "received_on": received_on,
            "policy_sha256": self.policy.sha256,
            "grants": [
                {
                    "reader": label.reader,
                    "intake_key": label.intake_key,
                    "sha256": sha256_hex(grant),
                }
                for label, grant in zip(self.labels, self.grants, strict=True)
            ],
            "manifest_sha256": sha256_hex(self.parts.manifest),
            "objects": [
                *({"i": 0, "size": len(one), "sealed_sha256": sha256_hex(one)} for one in inline),
                *(
                    {"i": item.i, "size": item.size, "sealed_sha256": item.sealed_sha256}
                    for item in self.objects
                ),
            ],
            "shares": [one.entry.document() for one in self.vaults],
        }


def labels_bytes(labels: list[Label]) -> bytes:
    return canonical([{"reader": x.reader, "intake_key": x.intake_key} for x in labels])


def objects_bytes(objects: list[DeclaredObject]) -> bytes:
    return canonical(
        [{"i": x.i, "size": x.size, "sealed_sha256": x.sealed_sha256} for x in objects]
    )


def check_submission(parts: Submission, limits: Limits) -> CheckedSubmission:
    """Check the form of every part; costs well under a millisecond, so it comes before any storage."""
    try:
        case = check_id(parts.case.decode("ascii"))
    except UnicodeDecodeError:
        raise SubmissionInvalid("bad-id", "The case id is not 32 characters of Base32.") from None
    policy = parse_policy(parts.policy)
    if policy.seq != 0:
        raise SubmissionInvalid("policy-invalid", "A testimony arrives with its first policy only.")
    labels = _labels(parts.labels)
    grants = _grants(parts.grants, len(labels))
    check_sealed(Kind.MANIFEST, parts.manifest, len(parts.manifest))
    if parts.account:
        check_sealed(Kind.ACCOUNT, parts.account, len(parts.account))
    objects = _objects(parts.objects, limits, first=1 if parts.account else 0)
    vaults = _vaults(parts.shares, objects)
    return CheckedSubmission(parts, case, policy, labels, grants, objects, vaults)


def _labels(data: bytes) -> tuple[Label, ...]:
    listed = parse_canonical(data, limit=LABELS_LIMIT_BYTES)
    if not isinstance(listed, list) or not listed:
        raise SubmissionInvalid("grants-none", "A testimony needs at least one grant.")
    if len(listed) > MAX_GRANTS:
        raise SubmissionInvalid("grants-too-many", f"At most {MAX_GRANTS} grants are taken.")
    labels = tuple(_label(one) for one in listed)
    readers = [label.reader for label in labels]
    if len(set(readers)) < len(readers):
        raise SubmissionInvalid("grants-double", "One reader has two grants.")
    if readers != sorted(readers):
        # The order in which a client thought of its readers is nobody's business.
        raise SubmissionInvalid("labels-invalid", "The labels are not in the order of reader ids.")
    return labels


def _label(fields: object) -> Label:
    if not isinstance(fields, dict) or fields.keys() != {"reader", "intake_key"}:
        raise SubmissionInvalid("labels-invalid", "A label has other fields than reader and key.")
    return Label(check_id(fields["reader"]), check_id(fields["intake_key"]))


def _declared(fields: object) -> DeclaredObject:
    if not isinstance(fields, dict) or fields.keys() != {"i", "size", "sealed_sha256"}:
        raise SubmissionInvalid("objects-invalid", "An object has other fields than it must.")
    i, size = fields["i"], fields["size"]
    # JSON's true and false are integers to Python.
    if type(i) is not int or type(size) is not int or i < 0 or size < 0:
        raise SubmissionInvalid("objects-invalid", "The number or the size of an object is none.")
    return DeclaredObject(i, size, check_sha256_hex(fields["sealed_sha256"]))


def _grants(data: bytes, count: int) -> tuple[bytes, ...]:
    if len(data) != count * GRANT_SIZE:
        raise NotSealed("grants-size", "The grants are not one of 1915 bytes for each label.")
    grants = tuple(data[k * GRANT_SIZE : (k + 1) * GRANT_SIZE] for k in range(count))
    for grant in grants:
        check_sealed(Kind.GRANT, grant, len(grant))
    return grants


def _objects(data: bytes, limits: Limits, *, first: int) -> tuple[DeclaredObject, ...]:
    listed = parse_canonical(data, limit=OBJECTS_LIMIT_BYTES)
    if not isinstance(listed, list):
        raise SubmissionInvalid("objects-invalid", "The list of objects is not a list.")
    if len(listed) + first > limits.objects:
        raise SubmissionInvalid("objects-too-many", f"At most {limits.objects} objects are taken.")
    objects = tuple(_declared(one) for one in listed)
    if [item.i for item in objects] != list(range(first, first + len(objects))):
        raise SubmissionInvalid("objects-invalid", "The objects are not numbered in order.")
    if first == 0 and not objects:
        raise SubmissionInvalid("account-missing", "The account is neither sent nor announced.")
    for item in objects:
        if item.size > limits.object_bytes:
            raise SubmissionInvalid(
                "object-too-large", f"An object is larger than {limits.object_bytes} bytes."
            )
        check_size(Kind.FILE, item.size)
    if sum(item.size for item in objects) > limits.case_bytes:
        raise SubmissionInvalid(
            "case-too-large", f"The objects are larger than {limits.case_bytes} bytes together."
        )
    return objects


def _vaults(data: bytes, objects: tuple[DeclaredObject, ...]) -> tuple[SealedVault, ...]:
    vaults = parse_shares(data)
    # The account is for readers, whether it comes inline or as object 0.
    uploaded = {item.i for item in objects if item.i > 0}
    if any(not uploaded.issuperset(one.entry.objects) for one in vaults):
        raise SubmissionInvalid("shares-invalid", "A vault names an object that is not announced.")
    return vaults
