# SPDX-License-Identifier: AGPL-3.0-or-later
"""The custody of a case as a document that proves itself from the root alone (docs/protocol.md §15.6).

Whoever fetched it signs the hash of each of its parts, so that a changed value is not only noticed but named.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from amana.protocol import schema
from amana.protocol.encoding import canonical, check_id, check_sha256_hex, parse_day, sha256_hex
from amana.protocol.signing import SigningKey, verify_fields
from amana.protocol.tlogproof import LIMIT_BYTES as PROOF_LIMIT

TAG: Final = "amana-custody-v1"
SLUG: Final = "custody-invalid"
LIMIT_BYTES: Final = 64 * 2**20
LEAVES_TAG: Final = b"amana-case-leaves-v1\0"
MAX_EVENTS: Final = 5000
MAX_FILES: Final = 4096
EVENT_LIMIT: Final = 256 * 1024
FILE_LIMIT: Final = 512 * 1024
SIGNED: Final = ("v", "deployment", "case", "maker", "directory", "made_on", "parts")
"""What the maker's signature covers; `parts` stand for everything else."""

_FILE: Final = re.compile(r"[1-9][0-9]{0,8}\.(?:root|targets)\.json|targets/[0-9a-f]{64}")
_PART: Final = re.compile(rf"events/[1-9][0-9]{{0,3}}|files/(?:{_FILE.pattern})")


def _are_parts(value: object) -> bool:
    return (
        isinstance(value, dict)
        and len(value) <= MAX_EVENTS + MAX_FILES
        and all(_PART.fullmatch(name) and check_sha256_hex(one) for name, one in value.items())
    )


def _are_events(value: object) -> bool:
    return isinstance(value, list) and 0 < len(value) <= MAX_EVENTS


def _are_files(value: object) -> bool:
    return (
        isinstance(value, dict)
        and len(value) <= MAX_FILES
        and all(_FILE.fullmatch(name) for name in value)
        and all(isinstance(one, str) and len(one) <= FILE_LIMIT for one in value.values())
    )


_DOCUMENT: Final[schema.Checks] = {
    "v": schema.among(1),
    "deployment": schema.short_text(64),
    "case": check_id,
    "maker": check_id,
    "directory": schema.is_counting,
    "made_on": parse_day,
    "parts": _are_parts,
    "sig": schema.short_text(88),
    "events": _are_events,
    "files": _are_files,
}
_EVENT: Final[schema.Checks] = {
    "what": schema.matching(r"[a-z-]{1,48}"),
    "who": schema.matching(r"[a-z2-7]{1,32}"),
    "when": schema.matching(r"|[0-9]{4}-[0-9]{2}-[0-9]{2}(?: [0-9]{2}:[0-9]{2}:[0-9]{2})?"),
    "authority": schema.matching(r"[ -~]{1,200}"),
    "signature": schema.matching(r"[a-z-]{1,48}"),
    "proof": schema.matching(r"[a-z-]{1,48}"),
    "place": lambda value: value is None or schema.is_counting(value),
    "leaf": check_sha256_hex,
    "event": lambda value: isinstance(value, dict) and len(canonical(value)) <= EVENT_LIMIT,
    "key": check_sha256_hex,
    "tlog_proof": lambda value: (
        value is None or (isinstance(value, str) and len(value) <= PROOF_LIMIT)
    ),
}


@dataclass(frozen=True)
class Custody:
    """A document whose form was checked; the rest is for its verifier."""

    deployment: str
    case: str
    maker: str
    directory: int
    made_on: str
    events: Sequence[Mapping[str, Any]]
    files: Mapping[str, str]
    document: Mapping[str, Any]

    def verify(self, signing_key: str) -> None:
        """Verify the signature of whoever fetched it."""
        signed = {name: self.document[name] for name in (*SIGNED, "sig")}
        verify_fields(signing_key, TAG, signed)

    def altered(self) -> list[str]:
        """Return the parts that are not those whose hashes were signed: altered, missing or too many."""
        found, signed = part_hashes(self.events, self.files), self.document["parts"]
        names = found.keys() | signed.keys()
        return sorted(
            (one for one in names if found.get(one) != signed.get(one)), key=_number_of_part
        )


def _number_of_part(name: str) -> tuple[str, int, str]:
    folder, _, rest = name.partition("/")
    return folder, int(rest) if rest.isdigit() else 0, rest


def part_hashes(events: Sequence[Mapping[str, Any]], files: Mapping[str, str]) -> dict[str, str]:
    """Return the hex SHA-256 of each part by its name, events counted from 1."""
    numbered = {f"events/{n}": canonical(dict(one)) for n, one in enumerate(events, start=1)}
    named = {f"files/{name}": one.encode("utf-8") for name, one in files.items()}
    return {name: sha256_hex(content) for name, content in (numbered | named).items()}


def commitment_to(leaves: Sequence[bytes]) -> dict[str, Any]:
    """Return what stands for the first events of a case (docs/protocol.md §15.1), by their leaves in the log's order."""
    digest = hashlib.sha256(LEAVES_TAG + b"".join(leaves)).hexdigest()
    return {"events": len(leaves), "sha256": digest}


def sign_custody(
    key: SigningKey,
    *,
    deployment: str,
    case: str,
    maker: str,
    directory: int,
    made_on: str,
    events: Sequence[Mapping[str, Any]],
    files: Mapping[str, str],
) -> Custody:
    """Return the document, signed by whoever fetched it; raises Fault for what has not its form."""
    fields = {
        "v": 1,
        "deployment": deployment,
        "case": case,
        "maker": maker,
        "directory": directory,
        "made_on": made_on,
        "parts": part_hashes(events, files),
    }
    signed = key.sign_fields(TAG, fields)
    return parse_custody({**signed, "events": [dict(one) for one in events], "files": dict(files)})


def parse_custody(document: object) -> Custody:
    """Check the form of a document; raises Fault, which names the places that are wrong."""
    fields = schema.checked_by(_DOCUMENT, document, SLUG)
    for number, one in enumerate(fields["events"], start=1):
        try:
            schema.checked_by(_EVENT, one, SLUG)
        except schema.Fault as fault:
            raise schema.Fault(SLUG, f"events/{number}: {fault.title}") from None
    return Custody(
        **{name: fields[name] for name in SIGNED if name not in {"v", "parts"}},
        events=fields["events"],
        files=fields["files"],
        document=fields,
    )
