# SPDX-License-Identifier: AGPL-3.0-or-later
"""The story of an arrival, row by row: a submission is taken, its objects come, a receipt is given. Never commits."""

import json
from collections.abc import Container, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from amana.custody import service as custody
from amana.errors import (
    CaseExpired,
    CaseIncomplete,
    CaseWithdrawn,
    Conflict,
    NotFound,
    Unprocessable,
    UploadGone,
)
from amana.intake.models import (
    Grant,
    ObjectState,
    PolicyVersion,
    ServerProcess,
    Share,
    State,
    Testimony,
    UploadedObject,
    Vault,
)
from amana.intake.retention import RETENTION, allows
from amana.intake.workflow import after
from amana.protocol.case import intake_key_id
from amana.protocol.consent import Entry
from amana.protocol.directory import Directory, eligible
from amana.protocol.encoding import sha256_hex
from amana.protocol.policy import parse_policy
from amana.protocol.receipt import sign_receipt
from amana.protocol.signing import SigningKey
from amana.protocol.submission import CheckedSubmission, Limits, Submission, check_submission
from amana.protocol.vault import Holder, SealedVault, VaultEntry, places, shares_bytes
from amana.storage.blobs import Progress
from amana.storage.database import table_of

URGENT_RANK = 1000
WITNESS = "witness"
"""Who made a share that was not shared anew."""
STUCK_DAYS = 2
"""How long an abandoned upload may still be there: its last request may be writing yet."""


class StateForbids(Conflict):
    slug = "state-forbids"
    title = "A case in this state does not allow that."


class ReceivedObjectAtRisk(Exception):
    """Something would delete an object of a testimony whose receipt was given; an operator must look."""


# Built once: on the busiest path, building a statement costs more than running it.
_INSERT_TESTIMONY = sa.insert(table_of(Testimony))
_INSERT_GRANTS = sa.insert(table_of(Grant))
_INSERT_UPLOADS = sa.insert(table_of(UploadedObject))
_INSERT_VAULTS, _INSERT_SHARES = sa.insert(table_of(Vault)), sa.insert(table_of(Share))


@dataclass(frozen=True)
class Known:
    """What a repeated submission is told, read without loading the testimony's parts."""

    digest: bytes
    receipt: str | None
    expires_on: date | None


def known(session: Session, case: str) -> Known | None:
    """Return what is needed to answer a submission of a case that is already here."""
    query = sa.select(Testimony.digest, Testimony.receipt, Testimony.expires_on)
    row = session.execute(query.where(Testimony.case == case)).one_or_none()
    return None if row is None else Known(row.digest, row.receipt, row.expires_on)


def find(session: Session, case: str, *, lock: bool = False) -> Testimony | None:
    """Return the testimony of `case`."""
    return session.get(Testimony, case, with_for_update=lock or None)


def check_against_directory(checked: CheckedSubmission, directory: Directory) -> None:
    """Refuse a desk, a consent text or a reader that the officers did not sign, or whom the flags exclude."""
    policy = checked.policy
    if policy.deployment != directory.deployment:
        raise Unprocessable(
            "The testimony was made for another installation.", slug="deployment-unknown"
        )
    desk = next((desk for desk in directory.desks if desk.id == policy.desk), None)
    if desk is None:
        raise Unprocessable("There is no such desk.", slug="desk-unknown")
    texts = {(text.id, text.sha256) for text in directory.consent_texts}
    if texts and (policy.consent_text, policy.consent_text_sha256) not in texts:
        raise Unprocessable(
            "The consent text is not one of this installation's.", slug="consent-text-unknown"
        )
    admitted = eligible(directory, policy)
    readers = {reader.id: reader for reader in directory.readers_of(policy.desk)}
    for label in checked.labels:
        reader = readers.get(label.reader)
        if reader is None:
            raise Unprocessable(
                "A grant is labelled for nobody of this desk.", slug="grant-for-nobody"
            )
        if label.reader not in admitted:
            raise Unprocessable(
                "A grant is for a reader whom the flags exclude.", slug="grant-excluded"
            )
        if label.intake_key != intake_key_id(reader.intake_key):
            raise Unprocessable(
                "A grant is sealed to a key that is not in the directory.", slug="grant-key-unknown"
            )
    _check_custodians(checked.vaults, directory)


def _check_custodians(vaults: Sequence[SealedVault], directory: Directory) -> None:
    """Refuse a vault that is shared among others than the custodians whom the officers signed."""
    if not vaults:
        return
    custodians = directory.custodians
    listed = {one: intake_key_id(key) for one, key in custodians.members.items()}
    for one in vaults:
        holders = {holder.custodian: holder.intake_key for holder in one.entry.holders}
        if holders != listed or one.entry.k != custodians.k:
            raise Unprocessable(
                "The shares are for others than the custodians of the directory.",
                slug="custodians-differ",
            )


def receive(
    session: Session,
    checked: CheckedSubmission,
    *,
    directory: int,
    paid: int,
    today: date,
    upload_days: int,
    custody_log: SigningKey,
) -> Known:
    """Store a new testimony; when nothing is left to upload it is received and its receipt made."""
    parts, policy = checked.parts, checked.policy
    complete = not checked.objects
    receipt = _receipt(session, checked, today, custody_log) if complete else None
    received_on = today if complete else None
    known = Known(
        digest=parts.digest(),
        receipt=receipt,
        expires_on=None if complete else today + timedelta(days=upload_days),
    )
    try:
        row = {
            "case": checked.case,
            "state": State.RECEIVED if complete else State.ARRIVING,
            "desk": policy.desk,
            "language": policy.language,
            "flags": ",".join(policy.flags),
            "control": policy.control,
            "directory": directory,
            "digest": known.digest,
            "paid": paid,
            "policy": parts.policy,
            "labels": parts.labels,
            "manifest": parts.manifest,
            "account": parts.account,
            "declared": parts.objects,
            "object_count": len(checked.objects) + bool(parts.account),
            "size": checked.declared_bytes + len(parts.account),
            "announced_on": today,
            "expires_on": known.expires_on,
            "received_on": received_on,
            "receipt": known.receipt,
            "routed": False,
            "kept_since": received_on,
            "allows": allows([Entry(policy, today)], today),
            "checked_on": received_on,
        }
        connection = session.connection()
        connection.execute(_INSERT_TESTIMONY, row)
    except IntegrityError:
        # Two requests with one case at once: the other one won, and this one is told on its retry.
        raise Conflict("This case or its control key is already here.", slug="case-known") from None
    connection.execute(
        _INSERT_GRANTS,
        [
            {
                "case": checked.case,
                "reader": label.reader,
                "intake_key": label.intake_key,
                "sealed": grant,
                "desk": policy.desk,
                "received_on": received_on,
                "state": row["state"],
                "rank": rank_of(policy.flags, paid),
            }
            for label, grant in zip(checked.labels, checked.grants, strict=True)
        ],
    )
    in_vault = {i: one.entry.vault for one in checked.vaults for i in one.entry.objects}
    if checked.objects:
        connection.execute(
            _INSERT_UPLOADS,
            [
                {
                    "case": checked.case,
                    "n": item.i,
                    "state": ObjectState.ARRIVING,
                    "size": item.size,
                    "sealed_sha256": item.sealed_sha256,
                    "durable_offset": 0,
                    "progress": "",
                    "writer": None,
                    "process": None,
                    "wanted": False,
                    "vault": in_vault.get(item.i),
                    "checked_on": None,
                }
                for item in checked.objects
            ],
        )
    if checked.vaults:
        connection.execute(_INSERT_VAULTS, [_vault_row(checked.case, x) for x in checked.vaults])
        rows = [row for one in checked.vaults for row in _share_rows(checked.case, one)]
        connection.execute(_INSERT_SHARES, rows)
    return known


def _vault_row(case: str, vault: SealedVault) -> dict[str, Any]:
    entry = vault.entry
    custodians = joined(entry.custodians)
    return {
        "case": case,
        "vault": entry.vault,
        "key": entry.key,
        "k": entry.k,
        "custodians": custodians,
    }


def _share_rows(case: str, vault: SealedVault) -> list[dict[str, Any]]:
    keys = {one.custodian: one.intake_key for one in vault.entry.holders}
    return [
        {
            "case": case,
            "vault": vault.entry.vault,
            "subset": joined(subset),
            "custodian": custodian,
            "maker": WITNESS,
            "intake_key": keys[custodian],
            "sealed": share,
        }
        for (subset, custodian), share in zip(vault.entry.places, vault.shares, strict=True)
    ]


def joined(ids: Sequence[str]) -> str:
    """Return ids as a column holds several of them."""
    return ",".join(ids)


def split_ids(text: str) -> tuple[str, ...]:
    """Return the ids of such a column."""
    return tuple(text.split(","))


def revive(session: Session, testimony: Testimony, today: date, upload_days: int) -> None:
    """Give a repeated announcement its full time again, unless its uploads have ended."""
    if testimony.state != State.ARRIVING:
        return
    if is_abandoned(testimony):
        raise UploadGone
    if any(one.state == ObjectState.DELETED for one in objects_of(session, testimony.case)):
        raise UploadGone
    testimony.expires_on = today + timedelta(days=upload_days)


def abandon(session: Session, testimony: Testimony) -> None:
    """End the uploads of an unfinished testimony because its witness withdrew it; `expire` deletes the rest.

    It expires before it was announced, which nothing else does, so that no announcement revives it.
    """
    testimony.expires_on = testimony.announced_on - timedelta(days=1)
    for upload in objects_of(session, testimony.case):
        if upload.process is not None:
            upload.wanted = True


def is_abandoned(testimony: Testimony) -> bool:
    """Tell whether the witness withdrew an unfinished testimony."""
    return testimony.expires_on is not None and testimony.expires_on < testimony.announced_on


def policy_versions(session: Session, testimony: Testimony) -> list[tuple[bytes, date]]:
    """Return the versions of a testimony's policy in their order, as they were signed, each with its day of receipt."""
    query = sa.select(PolicyVersion).where(PolicyVersion.case == testimony.case)
    later = session.scalars(query.order_by(PolicyVersion.seq)).all()
    first = (testimony.policy, testimony.received_on or testimony.announced_on)
    return [first, *((one.policy, one.received_on) for one in later)]


def policy_chain(session: Session, testimony: Testimony) -> list[Entry]:
    """Return the same, parsed and verified."""
    versions = policy_versions(session, testimony)
    return [Entry(parse_policy(policy), day) for policy, day in versions]


def objects_of(session: Session, case: str) -> Sequence[UploadedObject]:
    """Return the uploads of a case in their order."""
    query = sa.select(UploadedObject).where(UploadedObject.case == case).order_by(UploadedObject.n)
    return session.scalars(query).all()


def open_upload(session: Session, case: str, n: int, today: date, *, lock: bool) -> UploadedObject:
    """Return an upload that may still be written; one that is over is gone."""
    testimony = find(session, case)
    upload = session.get(
        UploadedObject, (case, n), with_for_update=lock or None, populate_existing=True
    )
    if testimony is None or upload is None:
        raise NotFound
    if is_over(testimony, today) or upload.state == ObjectState.DELETED:
        raise UploadGone
    return upload


def is_over(testimony: Testimony, today: date) -> bool:
    """Tell whether uploads of this testimony have ended: it is complete, or was left for too long."""
    return testimony.expires_on is None or testimony.expires_on < today


@dataclass(frozen=True)
class Claim:
    """The right of one request to write one upload."""

    case: str
    n: int
    writer: str
    size: int
    sealed_sha256: str
    progress: Progress
    left_by_crash: bool

    @property
    def key(self) -> str:
        return f"{self.case}/{self.n}"


def claim(upload: UploadedObject, writer: str, process: str, *, left_by_crash: bool) -> Claim:
    """Make `writer` the one request that may write."""
    upload.writer, upload.process, upload.wanted = writer, process, False
    return Claim(
        case=upload.case,
        n=upload.n,
        writer=writer,
        size=upload.size,
        sealed_sha256=upload.sealed_sha256,
        progress=Progress(upload.durable_offset, upload.progress),
        left_by_crash=left_by_crash,
    )


def record_progress(session: Session, claim: Claim, progress: Progress) -> bool:
    """Note what is durable, if `claim` still holds."""
    return _update(session, claim, durable_offset=progress.offset, progress=progress.state)


def release(session: Session, claim: Claim, progress: Progress | None = None) -> bool:
    """Give the right to write back, noting what is durable."""
    noted = (
        {} if progress is None else {"durable_offset": progress.offset, "progress": progress.state}
    )
    return _update(session, claim, writer=None, process=None, **noted)


def settle(session: Session, claim: Claim, state: ObjectState) -> bool:
    """Note that the whole object is stored, or verified."""
    return _update(session, claim, state=state, durable_offset=claim.size)


def begin_discarding(session: Session, claim: Claim) -> bool:
    """Note, before bytes are deleted, that none count any more; False when the claim was lost.

    What belongs to a received testimony is never deleted: ReceivedObjectAtRisk.
    """
    testimony = find(session, claim.case, lock=True)
    if testimony is not None:
        session.refresh(testimony)
        if testimony.received_on is not None:
            raise ReceivedObjectAtRisk
    return _update(session, claim, state=ObjectState.ARRIVING, durable_offset=0)


def discarded(session: Session, claim: Claim, state: ObjectState = ObjectState.ARRIVING) -> bool:
    """Note that the bytes are gone: the upload begins anew, or is over."""
    return _update(session, claim, state=state, durable_offset=0, progress="")


def whole_but_waiting(session: Session) -> list[str]:
    """Return the cases of which every byte arrived, and nobody came to ask for the receipt."""
    missing = sa.exists().where(
        UploadedObject.case == Testimony.case,
        sa.or_(
            UploadedObject.durable_offset < UploadedObject.size,
            UploadedObject.state == ObjectState.DELETED,
        ),
    )
    query = sa.select(Testimony.case).where(Testimony.state == State.ARRIVING, ~missing)
    query = query.where(Testimony.expires_on >= Testimony.announced_on)
    return list(session.scalars(query.order_by(Testimony.case)))


def _update(session: Session, claim: Claim, **values: Any) -> bool:
    query = (
        sa.update(UploadedObject)
        .where(UploadedObject.case == claim.case, UploadedObject.n == claim.n)
        .where(UploadedObject.writer == claim.writer)
        .values(**values)
    )
    done = cast("sa.CursorResult[Any]", session.execute(query))
    return done.rowcount == 1


def beat_of(session: Session, process: str | None) -> int | None:
    """Return how often a process has told that it lives; None when it is not there."""
    return session.scalar(sa.select(ServerProcess.beat).where(ServerProcess.id == process))


def beats(session: Session) -> dict[str, int]:
    """Return how often every process that ever wrote has told that it lives."""
    rows = session.execute(sa.select(ServerProcess.id, ServerProcess.beat))
    return {row.id: row.beat for row in rows}


def forget_dead_processes(session: Session, today: date) -> int:
    """Delete processes that nothing holds and that have not beaten for a whole day; returns how many.

    A process that only had nothing to write for so long tells again that it lives before it claims anything (Writers).
    """
    unchanged = ServerProcess.beat == ServerProcess.noted_beat
    held = sa.exists().where(UploadedObject.process == ServerProcess.id)
    dead = sa.delete(ServerProcess).where(
        unchanged, ServerProcess.noted_on < today - timedelta(days=1), ~held
    )
    done = cast("sa.CursorResult[Any]", session.execute(dead))
    beating = sa.or_(ServerProcess.noted_beat.is_(None), ~unchanged)
    session.execute(
        sa.update(ServerProcess)
        .where(beating)
        .values(noted_beat=ServerProcess.beat, noted_on=today)
        .execution_options(synchronize_session=False)
    )
    return done.rowcount


def stored_submission(session: Session, testimony: Testimony) -> CheckedSubmission:
    """Return a stored testimony's parts as they arrived."""
    query = sa.select(Grant.sealed).where(Grant.case == testimony.case).order_by(Grant.reader)
    parts = Submission(
        case=testimony.case.encode("ascii"),
        policy=testimony.policy,
        labels=testimony.labels,
        grants=b"".join(session.scalars(query)),
        manifest=testimony.manifest,
        account=testimony.account,
        objects=testimony.declared,
        shares=_stored_shares(session, testimony.case),
    )
    # What was announced under wider limits than today's is still to be received.
    return check_submission(parts, Limits(object_bytes=2**53, case_bytes=2**53))


def _stored_shares(session: Session, case: str) -> bytes:
    """Return the part `shares` of a testimony that is still arriving, so that nobody shared it anew."""
    found = []
    uploads = objects_of(session, case)
    query = sa.select(Vault).where(Vault.case == case).order_by(Vault.vault)
    for vault in session.scalars(query):
        of_vault = sa.select(Share).where(Share.case == case, Share.vault == vault.vault)
        rows = {(split_ids(x.subset), x.custodian): x for x in session.scalars(of_vault)}
        custodians = split_ids(vault.custodians)
        keys = {custodian: row.intake_key for (_, custodian), row in rows.items()}
        shares = tuple(rows[place].sealed for place in places(custodians, vault.k))
        entry = VaultEntry(
            vault=vault.vault,
            key=vault.key,
            k=vault.k,
            holders=tuple(Holder(one, keys[one]) for one in custodians),
            objects=tuple(one.n for one in uploads if one.vault == vault.vault),
            sha256=tuple(map(sha256_hex, shares)),
        )
        found.append(SealedVault(entry, shares))
    return shares_bytes(found)


def complete(
    session: Session, checked: CheckedSubmission, today: date, custody_log: SigningKey
) -> str:
    """Receive a testimony whose objects are all verified, and return its receipt; idempotent."""
    testimony = find(session, checked.case, lock=True)
    if testimony is None:
        raise NotFound
    session.refresh(testimony)
    if testimony.receipt is not None:
        return testimony.receipt
    if is_abandoned(testimony):
        raise UploadGone
    if any(one.state != ObjectState.VERIFIED for one in objects_of(session, checked.case)):
        raise CaseIncomplete
    testimony.receipt = _receipt(session, checked, today, custody_log)
    testimony.state = State.RECEIVED
    testimony.received_on = today
    testimony.expires_on = None
    testimony.kept_since = testimony.checked_on = today
    for upload in objects_of(session, checked.case):
        upload.checked_on = today
    session.execute(
        sa.update(Grant)
        .where(Grant.case == checked.case)
        .values(received_on=today, state=State.RECEIVED)
    )
    return testimony.receipt


def rank_of(flags: Container[str], paid: int) -> int:
    """Return what a case is sorted by in the queues: urgent ones first, then by the bits paid for admission."""
    return (URGENT_RANK if "urgent" in flags else 0) + paid


def move(session: Session, testimony: Testimony, action: str) -> State:
    """Bring a case to the state that follows on an action.

    Raises StateForbids, CaseWithdrawn, CaseExpired where the table has none.
    """
    following = after(testimony.state, action)
    if following is None and testimony.state == State.WITHDRAWN:
        raise CaseWithdrawn
    if following is None and testimony.state == State.EXPIRED:
        raise CaseExpired
    if following is None:
        raise StateForbids
    if following != testimony.state:
        testimony.state = following
        # Whoever was told that it expires was told of another state.
        testimony.ends_on = None
        if following not in RETENTION:
            testimony.kept_since = None
        session.execute(
            sa.update(Grant).where(Grant.case == testimony.case).values(state=following)
        )
    return following


def _receipt(
    session: Session, checked: CheckedSubmission, today: date, custody_log: SigningKey
) -> str:
    event = checked.event(today.isoformat())
    key = custody.record(session, event)
    return json.dumps(sign_receipt(custody_log, event, key), separators=(",", ":"))


def expired(session: Session, today: date) -> list[str]:
    """Return the cases whose uploads were abandoned."""
    return list(session.scalars(sa.select(Testimony.case).where(Testimony.expires_on < today)))


def stuck(session: Session, today: date) -> list[str]:
    """Return the cases that are whole and not received, or were left for days and are still there."""
    left = sa.select(Testimony.case).where(
        Testimony.expires_on < today - timedelta(days=STUCK_DAYS)
    )
    # A witness who withdrew it has its day set back, so that says nothing about how long it is there.
    left = left.where(Testimony.expires_on >= Testimony.announced_on)
    return sorted({*whole_but_waiting(session), *session.scalars(left)})


def end_abandoned(
    session: Session, case: str, today: date, silent: Container[str]
) -> list[tuple[str, Progress]] | None:
    """End the uploads of an abandoned case for good and return what of them is stored; None if it is not abandoned.

    A request that still writes is asked to end, and the case left for the next time. Requests of the `silent`
    processes are none: no request can begin to write to an abandoned case, so they only left their mark.
    """
    testimony = find(session, case, lock=True)
    if testimony is None:
        return None
    session.refresh(testimony)
    if testimony.expires_on is None or not is_over(testimony, today):
        return None
    lock = sa.select(UploadedObject).where(UploadedObject.case == case).with_for_update()
    uploads = session.scalars(lock.order_by(UploadedObject.n)).all()
    busy = [
        one
        for one in uploads
        if one.process is not None
        and one.process not in silent
        and beat_of(session, one.process) is not None
    ]
    for one in busy:
        one.wanted = True
    if busy:
        return None
    for one in uploads:
        one.state, one.writer, one.process = ObjectState.DELETED, None, None
    return [(f"{one.case}/{one.n}", Progress(one.durable_offset, one.progress)) for one in uploads]


def forget_abandoned(session: Session, case: str, today: date) -> bool:
    """Delete every row of an abandoned case; its objects are deleted first, so that a crash between leaves no orphan.

    False where another process did so meanwhile: a case that was announced again since is none of ours.
    """
    testimony = find(session, case, lock=True)
    if testimony is None:
        return False
    session.refresh(testimony)
    if testimony.expires_on is None or not is_over(testimony, today):
        return False
    if any(one.state != ObjectState.DELETED for one in objects_of(session, case)):
        return False
    for table in (UploadedObject, Grant, Share, Vault, Testimony):
        session.execute(sa.delete(table).where(table.case == case))
    return True


def announced_on(session: Session, day: date) -> int:
    """Return how many testimonies were announced on a day."""
    query = sa.select(sa.func.count()).select_from(Testimony).where(Testimony.announced_on == day)
    return session.scalar(query) or 0
