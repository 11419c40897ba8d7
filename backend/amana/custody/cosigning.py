# SPDX-License-Identifier: AGPL-3.0-or-later
"""Ask cosigners to vouch for a checkpoint, and keep what they answer beside it (C2SP tlog-witness).

A log asks all cosigners about one checkpoint until enough of them signed it; it is given out under the name
`cosigned` from then on, and takes in the signatures of those who come later. A cosigner that is silent, slow or
of another opinion costs its own signature and nothing else.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa
from sqlalchemy.orm import Session

from amana.client.errors import ClientError
from amana.client.transport import Transport
from amana.custody.models import CosignedCheckpoint, Log, PublishedCheckpoint
from amana.custody.publishing import TileFetcher, add_signatures
from amana.errors import OtherFailed
from amana.protocol.checkpoint import (
    Checkpoint,
    Cosigner,
    Note,
    Signature,
    parse_checkpoint,
    parse_note,
    parse_signatures,
    with_signatures,
)
from amana.protocol.cosigning import (
    ANSWER_LIMIT_BYTES,
    PATH,
    AddCheckpoint,
    AddCheckpointInvalid,
    parse_size,
)
from amana.protocol.directory import RootPins
from amana.protocol.errors import ProtocolError
from amana.protocol.merkle import consistency_proof
from amana.protocol.tiles import TileReader
from amana.storage.blobs import BlobStore

SILENCE_SECONDS: Final = 10.0
CLOCKS_SECONDS: Final = 24 * 3600


class CosignerFailed(OtherFailed):
    """A cosigner gave no signature."""


@dataclass(frozen=True)
class Address:
    """Where a cosigner is reached, perhaps through a proxy."""

    url: str
    proxy: str | None = None


def ask(cosigner: Cosigner, address: Address, note: Note, tiles: TileFetcher) -> Signature:
    """Return a cosigner's verified signature under a checkpoint; raises CosignerFailed and StoreUnavailable.

    Where it stands is asked first: only it knows, and another process may have asked it meanwhile.
    """
    checkpoint = parse_checkpoint(note.text)
    try:
        with Transport(
            address.url, proxy=address.proxy, silence_seconds=SILENCE_SECONDS,
            connect_seconds=SILENCE_SECONDS,
        ) as transport:  # fmt: skip
            status, body = _send(transport, AddCheckpoint(0, (), note))
            if status == 409:
                old = parse_size(body)
                if old > checkpoint.size:
                    # Either it was asked about a newer one meanwhile, or this log lost what it had published.
                    raise CosignerFailed("cosigner-ahead")
                request = AddCheckpoint(old, _proof(checkpoint, old, tiles), note)
                status, body = _send(transport, request)
    except ClientError:
        raise CosignerFailed("cosigner-unreachable") from None
    except AddCheckpointInvalid:
        raise CosignerFailed("cosigner-bad-answer") from None
    if status in {409, 422}:
        # It holds that this log forked; so does everybody who trusts it.
        raise CosignerFailed("cosigner-disagrees")
    if status != 200:
        raise CosignerFailed("cosigner-refuses")
    return _own(cosigner, note, body)


def _send(transport: Transport, request: AddCheckpoint) -> tuple[int, bytes]:
    answer = transport.ask(
        "POST",
        PATH,
        headers={"Content-Type": "text/plain; charset=utf-8"},
        content=bytes(request),
        limit=ANSWER_LIMIT_BYTES,
    )
    return answer.status, answer.body


def _proof(checkpoint: Checkpoint, old: int, tiles: TileFetcher) -> tuple[bytes, ...]:
    return tuple(consistency_proof(TileReader(tiles, checkpoint.size), old, checkpoint.size))


def _own(cosigner: Cosigner, note: Note, body: bytes) -> Signature:
    """Return the signature of the pinned key out of an answer; what others signed is passed over."""
    try:
        for one in parse_signatures(body):
            if (one.name, one.key_id) == (cosigner.key.name, cosigner.key.id):
                signed_at = cosigner.key.verify(note.text, one.signature)
                if abs(signed_at - time.time()) > CLOCKS_SECONDS:
                    raise CosignerFailed("cosigner-wrong-clock")
                return one
    except ProtocolError:
        raise CosignerFailed("cosigner-bad-answer") from None
    raise CosignerFailed("cosigner-other-key")


def times(note: Note, pins: RootPins) -> Mapping[tuple[str, bytes], int]:
    """Return by name and id of the key when pinned cosigners signed a note; they were verified when they came."""
    keys = {(one.key.name, one.key.id) for one in pins.cosigners}
    return {
        (one.name, one.key_id): int.from_bytes(one.signature[:8], "big")
        for one in note.signatures
        if (one.name, one.key_id) in keys
    }


def operators(note: Note, pins: RootPins) -> frozenset[str]:
    """Return whose cosignatures a note has."""
    signed = times(note, pins)
    return frozenset(one.operator for one in pins.cosigners if (one.key.name, one.key.id) in signed)


def newest(session: Session, origin: str) -> tuple[Log, Note] | None:
    """Return a log that has published something, with its newest checkpoint and what cosigners said of that."""
    log = session.scalar(sa.select(Log).where(Log.origin == origin))
    row = None if log is None else session.get(PublishedCheckpoint, log.id)
    if log is None or row is None:
        return None
    note = parse_note(row.note)
    given = session.get(CosignedCheckpoint, log.id)
    if given is not None and parse_note(given.note).text == note.text:
        note = with_signatures(note, parse_note(given.note).signatures)
    return log, note


def given(session: Session, origin: str) -> Note | None:
    """Return the checkpoint of a log that is given out as cosigned."""
    row = session.scalar(
        sa.select(CosignedCheckpoint)
        .join(Log, Log.id == CosignedCheckpoint.log)
        .where(Log.origin == origin)
    )
    return None if row is None else parse_note(row.note)


def keep(session: Session, store: BlobStore, log: Log, note: Note, pins: RootPins) -> bool:
    """Keep a cosigned checkpoint; returns whether it is the one that is given out now.

    What is given out never becomes an older tree, nor one without the quorum for one that has it.
    """
    row = session.get(CosignedCheckpoint, log.id, with_for_update=True)
    size = parse_checkpoint(note.text).size
    if row is None:
        session.add(CosignedCheckpoint(log=log.id, size=size, note=bytes(note)))
        is_given = True
    else:
        there = parse_note(row.note)
        same = there.text == note.text
        enough = len(operators(note, pins)) >= pins.quorum
        is_given = same or (
            size > row.size and (enough or len(operators(there, pins)) < pins.quorum)
        )
        if is_given:
            row.size = size
            row.note = bytes(with_signatures(there, note.signatures) if same else note)
    signed = times(note, pins)
    own = [one for one in note.signatures if (one.name, one.key_id) in signed]
    add_signatures(session, store, log, size, own)
    return is_given
