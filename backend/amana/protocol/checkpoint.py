# SPDX-License-Identifier: AGPL-3.0-or-later
"""Checkpoints: which tree a log has, signed by it and by cosigners (docs/protocol.md §10).

C2SP signed-note, tlog-checkpoint without extension lines, and tlog-cosignature of type Ed25519. What is
signed is the bare text of the note, as C2SP demands; no signature under a domain tag of ours can be mistaken
for one, because tags end in a zero byte and a note holds none.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from cryptography.exceptions import InvalidSignature

from amana.protocol.encoding import b64, sha256, unb64
from amana.protocol.errors import ProtocolError
from amana.protocol.merkle import HASH_BYTES, MAX_SIZE
from amana.protocol.signing import SigningKey, public_key

LIMIT_BYTES: Final = 128 * 1024
"""Room for 16 signatures of any algorithm, which C2SP signed-note demands, and more."""

MAX_SIGNATURES: Final = 64
MAX_TIME: Final = 2**63 - 1
NAME_LIMIT: Final = 200
_DASH: Final = "\u2014"
_NAME: Final = re.compile(rf"[^\s+\x00-\x1f\x7f]{{1,{NAME_LIMIT}}}")
_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,15}")


class CheckpointInvalid(ProtocolError):
    """This is no checkpoint, or not one that its log signed."""

    slug = "checkpoint-invalid"
    title = "The checkpoint is not in its form, or the log did not sign it."


class CheckpointOrigin(ProtocolError):
    """The checkpoint is of another log."""

    slug = "checkpoint-origin"
    title = "The checkpoint is of another log."


class CheckpointQuorum(ProtocolError):
    """Too few cosigners signed the checkpoint."""

    slug = "checkpoint-quorum"
    title = "Too few of the cosigners that the root names signed the checkpoint."


class KeyType(IntEnum):
    """Signature types of C2SP signed-note that are used here; each stands in the key's id."""

    LOG = 0x01
    COSIGNER = 0x04


@dataclass(frozen=True)
class NoteKey:
    """A public key under its name, which verifies one type of signature; `public` is Base64 of 32 bytes."""

    name: str
    type: KeyType
    public: str
    id: bytes = field(init=False, compare=False)

    def __post_init__(self) -> None:
        check_name(self.name)
        material = bytes([self.type]) + unb64(self.public, 32)
        object.__setattr__(self, "id", sha256(self.name.encode("utf-8") + b"\n" + material)[:4])

    @property
    def vkey(self) -> str:
        """The key in one line, as C2SP signed-note writes it: name, id, and type with key."""
        material = bytes([self.type]) + unb64(self.public, 32)
        return f"{self.name}+{self.id.hex()}+{b64(material)}"

    @classmethod
    def parse(cls, vkey: object) -> "NoteKey":
        """Read a key from its line."""
        if not isinstance(vkey, str) or len(vkey) > NAME_LIMIT + 100:
            raise CheckpointInvalid("vkey-invalid", "This is not the key of a log or a cosigner.")
        name, _, rest = vkey.partition("+")
        try:
            material = unb64(rest.partition("+")[2], 33)
            key = cls(name, KeyType(material[0]), b64(material[1:]))
            public_key(key.public)
        except ValueError:
            raise CheckpointInvalid(
                "vkey-invalid", "This is not the key of a log or a cosigner."
            ) from None
        if key.vkey != vkey:
            raise CheckpointInvalid("vkey-invalid", "This is not the key of a log or a cosigner.")
        return key

    def verify(self, text: str, signature: bytes) -> int:
        """Verify a signature over the text of a note; returns the time of a cosignature, or 0."""
        message, time, signed = text.encode("utf-8"), 0, signature
        if self.type is KeyType.COSIGNER:
            if len(signature) != 8 + 64:
                raise CheckpointInvalid
            time, signed = int.from_bytes(signature[:8], "big"), signature[8:]
            if time > MAX_TIME:
                raise CheckpointInvalid
            message = _cosigned(text, time)
        try:
            public_key(self.public).verify(signed, message)
        except InvalidSignature:
            raise CheckpointInvalid from None
        return time


@dataclass(frozen=True)
class Cosigner:
    """A key of somebody who watches logs; several keys of one operator count once."""

    operator: str
    key: NoteKey


@dataclass(frozen=True)
class Signature:
    """One line below a note."""

    name: str
    key_id: bytes
    signature: bytes

    @property
    def line(self) -> str:
        return f"{_DASH} {self.name} {b64(self.key_id + self.signature)}\n"


@dataclass(frozen=True)
class Note:
    """A signed note whose form was checked, and nothing else."""

    text: str
    signatures: tuple[Signature, ...]

    def __str__(self) -> str:
        return f"{self.text}\n" + "".join(one.line for one in self.signatures)

    def __bytes__(self) -> bytes:
        return str(self).encode("utf-8")


@dataclass(frozen=True)
class Checkpoint:
    """What a log says of itself: its origin, how many leaves it has, and their root hash."""

    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> str:
        """The text that is signed."""
        return f"{self.origin}\n{self.size}\n{b64(self.root)}\n"


@dataclass(frozen=True)
class SignedCheckpoint:
    """A checkpoint whose signatures were verified: by the log, and by whom of the cosigners at what time.

    `cosigned` maps an operator to the newest POSIX time at which one of its keys signed.
    """

    checkpoint: Checkpoint
    note: Note
    cosigned: Mapping[str, int]


def check_name(name: str) -> str:
    """Return a name of a key or log; it has no space, plus or control character, and at most 200 characters."""
    if not _NAME.fullmatch(name) or not name.isprintable():
        raise CheckpointInvalid(title="This is no name of a log or a cosigner.")
    return name


def parse_note(data: bytes) -> Note:
    """Read a signed note (C2SP signed-note): UTF-8, no control characters, 1 to 64 signatures, 128 KiB."""
    text, blank, below = _plain(data).rpartition("\n\n")
    if not blank or not text:
        raise CheckpointInvalid
    return Note(text + "\n", _signatures(below))


def parse_signatures(data: bytes) -> tuple[Signature, ...]:
    """Read signature lines alone, as a cosigner answers (C2SP tlog-witness)."""
    return _signatures(_plain(data))


def _plain(data: bytes) -> str:
    if len(data) > LIMIT_BYTES:
        raise CheckpointInvalid
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise CheckpointInvalid from None
    if any(letter < " " and letter != "\n" for letter in text):
        raise CheckpointInvalid
    return text


def _signatures(below: str) -> tuple[Signature, ...]:
    lines = below.split("\n")
    if lines.pop() or not 1 <= len(lines) <= MAX_SIGNATURES:
        raise CheckpointInvalid
    return tuple(map(_signature, lines))


def _signature(line: str) -> Signature:
    dash, _, rest = line.partition(" ")
    name, space, text = rest.partition(" ")
    if dash != _DASH or not space:
        raise CheckpointInvalid
    try:
        content = unb64(text)
    except ProtocolError:
        raise CheckpointInvalid from None
    if len(content) < 5:
        raise CheckpointInvalid
    return Signature(check_name(name), content[:4], content[4:])


def parse_checkpoint(text: str) -> Checkpoint:
    """Read the text of a checkpoint: three lines; extension lines are refused, as nobody can watch them."""
    lines = text.split("\n")
    if len(lines) != 4 or lines[3] or not _SIZE.fullmatch(lines[1]) or int(lines[1]) > MAX_SIZE:
        raise CheckpointInvalid
    try:
        return Checkpoint(check_name(lines[0]), int(lines[1]), unb64(lines[2], HASH_BYTES))
    except ProtocolError:
        raise CheckpointInvalid from None


def log_key(origin: str, public: str) -> NoteKey:
    """Return the key of a log, which has the log's origin for its name."""
    return NoteKey(origin, KeyType.LOG, public)


def sign_checkpoint(key: SigningKey, checkpoint: Checkpoint) -> Note:
    """Sign a checkpoint as its log; the caller makes sure that it continues all that were signed before."""
    text = checkpoint.text
    name = log_key(check_name(checkpoint.origin), key.public)
    signature = key.private.sign(text.encode("utf-8"))
    return Note(text, (Signature(name.name, name.id, signature),))


def cosign(name: str, key: SigningKey, text: str, time: int) -> Signature:
    """Sign a checkpoint as a cosigner, at a POSIX time (C2SP tlog-cosignature, cosignature/v1)."""
    if not 0 <= time <= MAX_TIME:
        raise CheckpointInvalid
    verifier = NoteKey(name, KeyType.COSIGNER, key.public)
    signed = time.to_bytes(8, "big") + key.private.sign(_cosigned(text, time))
    return Signature(verifier.name, verifier.id, signed)


def _cosigned(text: str, time: int) -> bytes:
    return f"cosignature/v1\ntime {time}\n{text}".encode()


def with_signatures(note: Note, more: Iterable[Signature]) -> Note:
    """Add signatures; a newer one of the same key takes the place of the one before."""
    kept = {(one.name, one.key_id): one for one in note.signatures}
    for one in more:
        kept[(one.name, one.key_id)] = one
    return Note(note.text, tuple(kept.values()))


def open_checkpoint(
    data: bytes, log: NoteKey, cosigners: Sequence[Cosigner] = (), quorum: int = 0
) -> SignedCheckpoint:
    """Verify a checkpoint of one log; `quorum` of the cosigners' operators must have signed it.

    Signatures of unknown keys are passed over, and one of a known key that fails refuses the whole. How old
    a cosignature may be is the caller's to judge.
    """
    note = parse_note(data)
    checkpoint = parse_checkpoint(note.text)
    if checkpoint.origin != log.name:
        raise CheckpointOrigin
    if not _times(note, log):
        raise CheckpointInvalid
    cosigned: dict[str, int] = {}
    for cosigner in cosigners:
        for time in _times(note, cosigner.key):
            cosigned[cosigner.operator] = max(time, cosigned.get(cosigner.operator, 0))
    if len(cosigned) < quorum:
        raise CheckpointQuorum
    return SignedCheckpoint(checkpoint, note, cosigned)


def _times(note: Note, key: NoteKey) -> list[int]:
    """Verify what a key signed of a note, and return at which times."""
    return [
        key.verify(note.text, one.signature)
        for one in note.signatures
        if (one.name, one.key_id) == (key.name, key.id)
    ]
