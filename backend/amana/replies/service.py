# SPDX-License-Identifier: AGPL-3.0-or-later
"""A reader asks a witness; the question waits, is published in a batch, and dies. Never commits, never imports Flask.

The request that brings a question names its case. Nothing that is kept of the slots does (docs/protocol.md §8).
"""

import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from amana.access.actions import Act, days_of
from amana.access.models import SignedAction
from amana.access.roles import Actor, Permission
from amana.access.service import require
from amana.errors import Conflict, NotAllowed, NotFound, Unprocessable
from amana.intake.models import Testimony
from amana.intake.service import move, policy_chain
from amana.protocol.action import parse_action
from amana.protocol.consent import READERS, covers
from amana.protocol.drop import MAX_SLOTS, check_shard, check_slot
from amana.protocol.encoding import b64, canonical, random_id, sha256_hex
from amana.protocol.errors import ProtocolError
from amana.protocol.policy import IDENTITY_LEVELS
from amana.protocol.reply import commitment
from amana.protocol.sealing import Identity, Kind, seal
from amana.replies.batches import PATIENT_BATCHES, births
from amana.replies.models import Shard, Slot, WaitingSlot
from amana.review.service import ReasonMissing, keep_note
from amana.routing.service import FIRST, NotAssigned, assigned_to, case_of
from amana.storage.database import Base, table_of

ASKS_PER_CASE = 5
"""Nobody is interviewed again and again. Not a setting: no administrator is to widen it."""
ASKS_PER_READER = 20
"""In a day: one reader alone cannot make the drop too large for everybody's phone."""
CACHED_SHARDS = 16


class RepliesLimit(Conflict):
    slug = "replies-limit"
    title = "The witness was asked as often about this case as is allowed."


class DropFull(Conflict):
    slug = "drop-full"
    title = "The dead drop takes nothing more today; ask again tomorrow."


class CommitmentWrong(Unprocessable):
    slug = "commitment-wrong"
    title = "What was signed does not commit to these slots."


class ShardUnknown(NotFound):
    slug = "shard-unknown"
    title = "There is no such shard."


class ShardUnpublished(NotFound):
    slug = "shard-unpublished"
    title = "Nothing was published in this shard yet."


@dataclass(frozen=True)
class Place:
    """A shard of the drop at one depth."""

    bits: int
    shard: int


def check_place(place: Place) -> None:
    """Refuse a shard that no depth has."""
    try:
        check_shard(place.bits, place.shard)
    except ProtocolError:
        raise ShardUnknown from None


@dataclass(frozen=True)
class Question:
    """What a reader brings: signed is only the commitment to the slots, and the sealed note with question and reason."""

    commitment: str
    reason: bytes
    salt: bytes
    bits: int
    shard: int
    slots: tuple[bytes, ...]

    @property
    def body(self) -> dict[str, Any]:
        return {"commitment": self.commitment, "reason": b64(self.reason)}


# Asking


def ask(session: Session, actor: Actor, question: Question, act: Act, *, bits: int) -> int:
    """Let the first reader of a case ask its witness, and return how often they still may; `bits` is the drop's depth.

    The same question brought again changes nothing, so that a lost answer is not a second question.
    """
    require(actor, Permission.ASK_WITNESS)
    case = parse_action(act.document).case or ""
    testimony = case_of(session, actor, case, lock=True)
    mine = assigned_to(session, actor, testimony)
    if mine.part != FIRST:
        raise NotAssigned("A second reader advises; the first one asks the witness.")
    _check_consent(session, testimony, act.today)
    if not question.reason:
        raise ReasonMissing
    _check_slots(question, bits)
    asked = asked_on(session, case)
    if _is_known(session, case, question):
        return ASKS_PER_CASE - len(asked)
    if len(asked) >= ASKS_PER_CASE:
        raise RepliesLimit
    if _asked_lately(session, actor, act) >= ASKS_PER_READER:
        raise RepliesLimit("You asked as many witnesses today as is allowed.")
    move(session, testimony, "ask")
    act.accept(session, actor, "ask", case, question.body)
    keep_note(session, actor, case, act, "desk", question.reason)
    _lay(session, question, act.today)
    return ASKS_PER_CASE - len(asked) - 1


def _check_consent(session: Session, testimony: Testimony, today: date) -> None:
    """Refuse with the reason of `covers`, unless the desk may both read the testimony and ask its witness."""
    chain = policy_chain(session, testimony)
    for purpose in ("review", "contact"):
        covered = covers(chain, READERS, purpose, IDENTITY_LEVELS[0], today)
        if not covered.allowed:
            raise NotAllowed(covered.title, slug=covered.reason)


def _check_slots(question: Question, bits: int) -> None:
    check_place(Place(question.bits, question.shard))
    if question.bits != bits:
        raise ShardUnknown
    for slot in question.slots:
        check_slot(slot)
    if question.commitment != commitment(question.salt, map(sha256_hex, question.slots)):
        raise CommitmentWrong


def asked_on(session: Session, case: str) -> list[date]:
    """Return the days on which the witness of a case was asked, in their order."""
    return sorted(day for _, day in days_of(session, case, "ask"))


def _is_known(session: Session, case: str, question: Question) -> bool:
    query = sa.select(SignedAction.nonce).where(
        SignedAction.case == case,
        SignedAction.action == "ask",
        SignedAction.body == canonical(question.body),
    )
    return session.scalar(query.limit(1)) is not None


def _asked_lately(session: Session, actor: Actor, act: Act) -> int:
    query = (
        sa.select(sa.func.count())
        .select_from(SignedAction)
        .where(SignedAction.actor == actor.id, SignedAction.action == "ask")
        .where(SignedAction.accepted_at > act.now - timedelta(days=1))
    )
    return session.scalar(query) or 0


def _lay(session: Session, question: Question, today: date) -> None:
    """Put slots among those that wait, all of which are written anew in a drawn order.

    Whoever reads the tables would otherwise see by the place of a row, or by PostgreSQL's number of its transaction,
    which question it came with.
    """
    bits, shard = question.bits, question.shard
    _locked(session, bits, shard)
    waiting = _take_waiting(session, bits, shard)
    # Those that die before tomorrow's batch make room.
    staying = (
        sa.select(sa.func.count())
        .select_from(Slot)
        .where(Slot.bits == bits, Slot.shard == shard, Slot.last_day > today + timedelta(days=1))
    )
    if (session.scalar(staying) or 0) + len(waiting) + len(question.slots) > MAX_SLOTS:
        raise DropFull
    _insert(session, WaitingSlot, bits, shard, ({"sealed": x} for x in (*waiting, *question.slots)))


def _locked(session: Session, bits: int, shard: int) -> Shard:
    """Return a shard's row, which is made when it is missing; nobody else writes to the shard meanwhile."""
    found = session.get(Shard, (bits, shard), with_for_update=True)
    if found is None:
        try:
            with session.begin_nested():
                session.add(Shard(bits=bits, shard=shard, batch=None, published_on=None, behind=0))
        except IntegrityError:
            pass
        found = session.get_one(Shard, (bits, shard), with_for_update=True, populate_existing=True)
    return found


def _take_waiting(session: Session, bits: int, shard: int) -> list[bytes]:
    here = (WaitingSlot.bits == bits, WaitingSlot.shard == shard)
    query = sa.select(WaitingSlot.sealed).where(*here).order_by(WaitingSlot.id)
    found = list(session.scalars(query))
    session.execute(sa.delete(WaitingSlot).where(*here))
    return found


def _insert(
    session: Session, table: type[Base], bits: int, shard: int, slots: Iterable[dict[str, Any]]
) -> None:
    """Write slots under fresh ids, in the order of these: by their places nothing else can be told."""
    rows = [{"bits": bits, "shard": shard, "id": random_id(), **one} for one in slots]
    if rows:
        session.connection().execute(
            sa.insert(table_of(table)), sorted(rows, key=lambda row: str(row["id"]))
        )


# The daily batch


def places(session: Session, bits: int) -> list[Place]:
    """Return the shards of today's depth, and those of another in which something is still alive or waits."""
    today = [Place(bits, shard) for shard in range(2**bits)]
    others = session.execute(sa.select(Shard.bits, Shard.shard).where(Shard.bits != bits))
    return [*today, *sorted((Place(*row) for row in others), key=lambda x: (x.bits, x.shard))]


def publish(session: Session, place: Place, today: date, *, bits: int, again: bool = False) -> bool:
    """Publish the batch of a day in one shard, once a day unless `again`; tells whether it did. `bits` is today's depth.

    What is over dies, what waited and new dummies are born. Nothing else ever changes what is served. `again` leaves
    nothing waiting.
    """
    shard = _locked(session, place.bits, place.shard)
    if shard.published_on is not None and shard.published_on >= today and not again:
        return False
    here = (Slot.bits == place.bits, Slot.shard == place.shard)
    over = sa.delete(Slot).where(*here, Slot.last_day <= today)
    died = cast("sa.CursorResult[Any]", session.execute(over)).rowcount
    staying = list(session.scalars(sa.select(Slot.last_day).where(*here)))
    waiting = _take_waiting(session, place.bits, place.shard)
    is_closing = place.bits != bits
    if is_closing and not staying and not waiting:
        session.delete(shard)
        return True
    born = births(
        staying,
        died,
        len(waiting),
        today,
        secrets.randbelow,
        take_all=again or shard.behind >= PATIENT_BATCHES,
        is_closing=is_closing,
    )
    # Those that wait have no order but that of their ids, so which of them are taken is drawn.
    slots = [(waiting.pop(), day) for day in born.replies]
    slots += [(_dummy(), day) for day in born.dummies]
    rows = ({"sealed": sealed, "last_day": day} for sealed, day in slots)
    _insert(session, Slot, place.bits, place.shard, rows)
    _insert(session, WaitingSlot, place.bits, place.shard, ({"sealed": one} for one in waiting))
    shard.batch, shard.published_on = random_id(), today
    shard.behind = shard.behind + 1 if waiting else 0
    return True


def _dummy() -> bytes:
    """Make a slot like a reply's; its key is forgotten here, so it can be opened by nobody."""
    return seal(b"", Identity.generate().recipient, Kind.REPLY)


# Serving


@dataclass(frozen=True)
class Served:
    """A shard as everybody gets it, the same bytes from one batch to the next."""

    batch: str
    content: bytes
    etag: str


def served(session: Session, place: Place, bits: int, cache: dict[Place, Served]) -> Served:
    """Return a published shard; `cache` keeps what this process read, and `bits` is today's depth."""
    check_place(place)
    row = session.get(Shard, (place.bits, place.shard))
    if row is None and place.bits != bits:
        raise ShardUnknown
    if row is None or row.batch is None:
        raise ShardUnpublished
    known = cache.get(place)
    if known is not None and known.batch == row.batch:
        return known
    query = (
        sa.select(Slot.sealed)
        .where(Slot.bits == place.bits, Slot.shard == place.shard)
        .order_by(Slot.id)
    )
    content = b"".join(session.scalars(query))
    found = Served(row.batch, content, sha256_hex(content))
    if len(cache) >= CACHED_SHARDS:
        cache.clear()
    cache[place] = found
    return found
