# SPDX-License-Identifier: AGPL-3.0-or-later
"""What a reader asks a witness (docs/protocol.md §8): signed for one case and one recipient, in slots of one size."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from amana.protocol import schema
from amana.protocol.directory import READER_ROLES, Directory
from amana.protocol.encoding import (
    canonical,
    check_id,
    parse_canonical,
    parse_day,
    random_id,
    sha256_hex,
    tagged_sha256,
)
from amana.protocol.errors import BadSignature, ProtocolError
from amana.protocol.sealing import Kind, Recipient, buckets, seal
from amana.protocol.signing import SigningKey, verify

TAG: Final = "amana-reply-v1"
LIMIT_BYTES: Final = buckets(Kind.REPLY)[0] - 8
"""What fits a slot beside the length of its frame."""
MAX_PARTS: Final = 8
SALT_BYTES: Final = 32


class ReplyInvalid(ProtocolError):
    slug = "reply-invalid"
    title = "The reply is not in its form."


_REPLY: schema.Checks = {
    "v": schema.among(1),
    "deployment": schema.short_text(64),
    "case": check_id,
    "actor": check_id,
    "id": check_id,
    "directory": schema.is_counting,
    "n": schema.among(*range(1, MAX_PARTS + 1)),
    "of": schema.among(*range(1, MAX_PARTS + 1)),
    "text": schema.short_text(LIMIT_BYTES),
    "sent_on": parse_day,
    "sig": schema.short_text(88),
}


@dataclass(frozen=True)
class Part:
    """One slot's part of a reply; `verified` tells whether a reader of the case's desk signed it for this witness."""

    case: str
    actor: str
    id: str
    n: int
    of: int
    text: str
    sent_on: str
    verified: bool


@dataclass(frozen=True)
class Reply:
    """A reply whose parts are all there; `verified` if each of them is."""

    case: str
    actor: str
    text: str
    sent_on: str
    verified: bool


def seal_reply(
    key: SigningKey,
    recipient: Recipient,
    *,
    deployment: str,
    case: str,
    actor: str,
    directory: int,
    text: str,
    sent_on: str,
) -> list[bytes]:
    """Sign a text of one to eight parts for the witness whose `reply` key is `recipient`; returns slots of 5755 bytes."""
    fields = {
        "v": 1,
        "deployment": deployment,
        "case": case,
        "actor": actor,
        "id": random_id(),
        "directory": directory,
        "n": MAX_PARTS,
        "of": MAX_PARTS,
        "text": "",
        "sent_on": sent_on,
    }
    if not text.strip():
        raise ReplyInvalid("reply-empty", "The reply says nothing.")
    room = LIMIT_BYTES - len(canonical({**fields, "sig": "=" * 88}))
    texts = _cut(text, room)
    if len(texts) > MAX_PARTS:
        raise ReplyInvalid("reply-too-long", f"A reply has at most {MAX_PARTS} parts.")
    slots = []
    for n, part in enumerate(texts, start=1):
        signed = {**fields, "n": n, "of": len(texts), "text": part}
        document = {**signed, "sig": key.sign(TAG, _message(signed, recipient))}
        parse_reply(canonical(document))
        slots.append(seal(canonical(document), recipient, Kind.REPLY))
    return slots


def commitment(salt: bytes, hashes: Iterable[str]) -> str:
    """Return, in hex, what a signed action `ask` holds of its slots, whose SHA-256 are `hashes` in the order of parts.

    Without the 32 bytes of salt nobody can tell of any slot whether it is meant; with them anybody can.
    """
    if len(salt) != SALT_BYTES:
        raise ReplyInvalid("reply-invalid", f"A salt has {SALT_BYTES} bytes.")
    return tagged_sha256("amana-slots-v1", salt, *map(bytes.fromhex, hashes)).hex()


def _message(fields: Mapping[str, Any], recipient: Recipient) -> bytes:
    """Return what is signed: the fields and whom they are for, which does not travel."""
    return canonical({**fields, "reply_sha256": sha256_hex(recipient.raw)})


def _cut(text: str, room: int) -> list[str]:
    """Cut a text so that each part takes at most `room` bytes in canonical JSON."""
    parts, part, used = [], "", 0
    for character in text:
        size = len(json.dumps(character, ensure_ascii=False).encode("utf-8")) - 2
        if used + size > room:
            parts.append(part)
            part, used = "", 0
        part, used = part + character, used + size
    return [*parts, part]


def parse_reply(data: bytes) -> dict[str, Any]:
    """Check the form of what a slot held; the caller verifies who signed it."""
    document = parse_canonical(data, limit=LIMIT_BYTES)
    signed = schema.checked_by(_REPLY, document, "reply-invalid")
    if signed["n"] > signed["of"]:
        raise ReplyInvalid
    return signed


def check_reply(
    document: Mapping[str, Any],
    recipient: Recipient,
    directory: Directory,
    desks: Mapping[str, str],
) -> Part:
    """Tell whether a reader of the case's desk signed this for `recipient`; `desks` are those of the witness's cases.

    What is not verified is returned as well: the witness must see that somebody tries.
    """
    fields = {name: value for name, value in document.items() if name != "sig"}
    person = directory.person(fields["actor"])
    may_ask = (
        person is not None
        and bool(person.roles & READER_ROLES)
        and desks.get(fields["case"]) in person.desks
        and fields["deployment"] == directory.deployment
    )
    return Part(
        verified=may_ask and _is_signed(person.signing_key, document, recipient),  # type: ignore[union-attr]
        **{name: fields[name] for name in ("case", "actor", "id", "n", "of", "text", "sent_on")},
    )


def _is_signed(public: str, document: Mapping[str, Any], recipient: Recipient) -> bool:
    fields = {name: value for name, value in document.items() if name != "sig"}
    try:
        verify(public, TAG, _message(fields, recipient), document["sig"])
    except (BadSignature, ProtocolError):
        return False
    return True


def join(parts: Iterable[Part]) -> list[Reply]:
    """Put parts together, in the order of their days; a reply that lacks a part is left out, a doubled part counts once."""
    found = [
        Reply(case, actor, "".join(texts[n] for n in sorted(texts)), sent_on, verified)
        for (sent_on, case, actor, _id, of, verified), texts in _groups(parts).items()
        if len(texts) == of
    ]
    return sorted(found, key=lambda one: (one.sent_on, one.case, one.actor, one.text))


def lacking(parts: Iterable[Part]) -> int:
    """Return how many replies lack a part."""
    return sum(len(texts) < key[4] for key, texts in _groups(parts).items())


def _groups(parts: Iterable[Part]) -> dict[tuple[Any, ...], dict[int, str]]:
    groups: dict[tuple[Any, ...], dict[int, str]] = {}
    for part in parts:
        key = (part.sent_on, part.case, part.actor, part.id, part.of, part.verified)
        groups.setdefault(key, {}).setdefault(part.n, part.text)
    return groups
