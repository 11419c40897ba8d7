# SPDX-License-Identifier: AGPL-3.0-or-later
"""What readers asked a witness, found with the codename alone (docs/protocol.md §8): everybody downloads whole shards.

What is asked of the server, and in which order, is the same whether anything is found or not.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from amana.client.control import Line
from amana.client.errors import NotVerified, Refused
from amana.client.witness import get_directory
from amana.protocol.directory import Directory
from amana.protocol.drop import MAX_SLOTS, SLOT_BYTES, scan, shard_of
from amana.protocol.errors import ProtocolError
from amana.protocol.reply import Part, Reply, check_reply, join, lacking, parse_reply

UNPUBLISHED: Final = "shard-unpublished"
UNKNOWN: Final = "shard-unknown"


@dataclass(frozen=True)
class Found:
    """What was sealed to a codename: whole replies, how many lack a part, and how many slots hold something else."""

    replies: tuple[Reply, ...]
    incomplete: int
    unreadable: int


def read_replies(line: Line, root: bytes) -> Found:
    """Learn which cases are this codename's, fetch the drop, and open what is in it for this codename.

    Raises ClientError. What no reader of the case's desk signed for this witness is returned too, as not verified.
    """
    desks = {one.case: one.policy.desk for one in line.standings() if one.entries}
    line.pause()
    with line.connect() as transport:
        directory = get_directory(transport, root, line.patience).directory
    parts, unreadable = [], 0
    for data in _shards(line, directory):
        for content in _scanned(data, line):
            part = _part(content, line, directory, desks)
            if part is None:
                unreadable += 1
            else:
                parts.append(part)
    return Found(tuple(join(parts)), lacking(parts), unreadable)


def _part(content: bytes, line: Line, directory: Directory, desks: dict[str, str]) -> Part | None:
    try:
        document = parse_reply(content)
    except ProtocolError:
        return None
    return check_reply(document, line.thread.reply.recipient, directory, desks)


def _scanned(data: bytes, line: Line) -> Iterator[bytes]:
    try:
        yield from scan(data, line.thread.reply)
    except ProtocolError as error:
        raise NotVerified(error.title, slug=error.slug) from None


def _shards(line: Line, directory: Directory) -> Iterator[bytes]:
    """Fetch this codename's shard at today's depth, and at those before it in which something may still live."""
    for bits in range(directory.drop_bits, -1, -1):
        line.pause()
        shard = shard_of(line.thread.reply.recipient, bits)
        try:
            data = _whole(line, f"/v1/drop/{bits}/{shard}")
        except Refused as error:
            if error.slug == UNKNOWN and bits < directory.drop_bits:
                return
            if error.slug != UNPUBLISHED:
                raise
        else:
            yield data


def _whole(line: Line, path: str) -> bytes:
    """Fetch a whole shard over a connection of its own; one that was cut begins anew."""

    def once() -> bytes:
        data = bytearray()
        with line.connect() as transport:
            answer = transport.ask("GET", path, limit=MAX_SLOTS * SLOT_BYTES, write=data.extend)
        if answer.status != 200:
            raise answer.refusal()
        return bytes(data)

    return line.patience.persist(once)
