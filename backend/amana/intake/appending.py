# SPDX-License-Identifier: AGPL-3.0-or-later
"""One upload request from claim to release: bytes go from the wire to the object store between short transactions.

No transaction is held while a witness sends, which may take hours; this is why an upload is the one
request that is more than one transaction.
"""

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

from amana.api.body import Body, End
from amana.api.services import Services
from amana.errors import (
    CaseIncomplete,
    NotFound,
    ObjectHashMismatch,
    Refusal,
    Unprocessable,
    UploadBusy,
    UploadGone,
    UploadOffsetMismatch,
)
from amana.intake import service
from amana.intake.models import ObjectState, UploadedObject
from amana.intake.service import Claim
from amana.intake.uploads import ChecksumMismatch, Patch, check_patch
from amana.intake.writers import DEAD_AFTER_SECONDS, Writers
from amana.logs import log_event, log_failure
from amana.protocol.errors import ProtocolError
from amana.protocol.sealing import OVERHEAD, Kind, check_sealed
from amana.storage.blobs import BlobDamaged, Progress, StoreUnavailable
from amana.storage.database import DatabaseUnavailable

TAKEOVER_SECONDS = 10.0
TAKEOVER_POLL_SECONDS = 0.02
INLINE_VERIFY_BYTES = 64 * 2**20


class BodyCut(Refusal):
    slug = "body-cut"
    status = 400
    title = "The connection ended before all announced bytes came; what came is kept."


class BodySilent(Refusal):
    slug = "body-silent"
    status = 408
    title = "Nothing came for too long; what came is kept."


class Superseded(Refusal):
    slug = "upload-taken-over"
    status = 409
    title = "A newer request continues this upload; what came is kept."


def offset_of(services: Services, writers: Writers, case: str, n: int) -> tuple[int, int, str]:
    """Return durable offset, size and last day of an upload. A request that still writes it is ended first:
    whoever asks has lost that connection, and must be told of every byte that it brought."""
    with services.database.reading() as session:
        upload = service.open_upload(session, case, n, services.today(), lock=False)
        offset, size = upload.durable_offset, upload.size
        held = upload.writer is not None and upload.state == ObjectState.ARRIVING
        testimony = service.find(session, case)
        expires_on = testimony.expires_on.isoformat() if testimony and testimony.expires_on else ""
    if held:
        try:
            with taken(services, writers, case, n, None) as claim:
                offset = claim.progress.offset
        except UploadGone:
            # The writer closed it just now.
            with services.database.reading() as session:
                upload = service.open_upload(session, case, n, services.today(), lock=False)
                offset = upload.durable_offset
    return offset, size, expires_on


def append(
    services: Services, writers: Writers, case: str, n: int, patch: Patch, body: Body
) -> int:
    """Append a body to an upload and return the new offset; when it is whole it is checked and closed."""
    with taken(services, writers, case, n, body) as claim:
        check_patch(patch, offset=claim.progress.offset, size=claim.size)
        whole = hashlib.sha256() if patch.offset == 0 else None
        sent = hashlib.sha256() if patch.checksum is not None else None
        with _lost_begins_anew(services, claim):
            progress = _store(services, claim, body, whole, sent, patch.checksum)
        claim = replace(claim, progress=progress)
        if body.end is not End.COMPLETE:
            raise _unfinished(body.end, progress.offset)
        if progress.offset == claim.size:
            digest = whole.hexdigest() if whole is not None else None
            close(services, claim, digest)
        return progress.offset


def remove(services: Services, writers: Writers, case: str, n: int) -> None:
    """End an upload for good and delete its bytes."""
    with taken(services, writers, case, n, None) as claim:
        _discard(services, claim, ObjectState.DELETED)


@contextmanager
def taken(
    services: Services, writers: Writers, case: str, n: int, body: Body | None
) -> Iterator[Claim]:
    """Hold an upload as its only writer. A writer that is still there is ended and its bytes are kept."""
    writers.announce()
    with writers.writing(body) as writer:
        claim = _take(services, writers, writer, case, n)
        with _released(services, claim):
            if claim.left_by_crash:
                with _lost_begins_anew(services, claim):
                    found = services.blobs.recover(claim.key, claim.progress, claim.size)
                claim = replace(claim, progress=found)
                with services.database.transaction() as session:
                    _still_mine(service.record_progress(session, claim, found))
            yield claim


def _still_mine(matched: bool) -> None:
    """End a request that lost its claim: what it would note or delete belongs to another now."""
    if not matched:
        raise Superseded


def _discard(services: Services, claim: Claim, state: ObjectState = ObjectState.ARRIVING) -> None:
    """Delete an upload's bytes, if the claim still holds; first none of them count, then they are gone."""
    with services.database.transaction() as session:
        _still_mine(service.begin_discarding(session, claim))
    services.blobs.delete(claim.key, claim.progress)
    with services.database.transaction() as session:
        _still_mine(service.discarded(session, claim, state))


@contextmanager
def _lost_begins_anew(services: Services, claim: Claim) -> Iterator[None]:
    """Let an upload whose recorded bytes the store does not have begin anew; its sender is told so."""
    try:
        yield
    except BlobDamaged:
        log_event("stored-bytes-lost")
        _discard(services, claim)
        raise UploadOffsetMismatch(headers={"Upload-Offset": "0"}, offset=0) from None


@contextmanager
def _released(services: Services, claim: Claim) -> Iterator[None]:
    try:
        yield
    finally:
        with services.database.transaction() as session:
            service.release(session, claim)


def _take(services: Services, writers: Writers, writer: str, case: str, n: int) -> Claim:
    """Wait until nobody writes, or the writer's process no longer beats."""
    began = time.monotonic()
    first: str | None = None
    beat: int | None = None
    beat_at = began
    while True:
        with services.database.transaction() as session:
            upload = service.open_upload(session, case, n, services.today(), lock=True)
            if upload.state != ObjectState.ARRIVING:
                raise UploadGone
            if upload.writer is None:
                return service.claim(upload, writer, writers.process, left_by_crash=False)
            now = time.monotonic()
            seen = service.beat_of(session, upload.process)
            if seen != beat or first is None:
                beat, beat_at = seen, now
            dead = seen is None or now - beat_at > DEAD_AFTER_SECONDS
            if dead or writers.holds(upload) is False:
                return service.claim(upload, writer, writers.process, left_by_crash=True)
            first = first or upload.writer
            if upload.writer != first or now - began > TAKEOVER_SECONDS:
                # Somebody newer came in between: two that wait must not chase each other.
                raise UploadBusy(headers={"Retry-After": "1"})
            upload.wanted = True
        writers.supersede(first)
        time.sleep(TAKEOVER_POLL_SECONDS)


def _store(
    services: Services,
    claim: Claim,
    body: Body,
    whole: "hashlib._Hash | None",
    sent: "hashlib._Hash | None",
    checksum: bytes | None,
) -> Progress:
    """Move the body into the store; what is durable is noted before anything is answered."""

    def note(progress: Progress) -> None:
        # Bytes that came with a checksum count only once it was checked.
        if sent is None:
            with services.database.transaction() as session:
                _still_mine(service.record_progress(session, claim, progress))

    # Left without close, the appender forgets: so do bytes whose checksum is wrong or was not reached.
    with services.blobs.resume(claim.key, claim.progress, claim.size, note) as appender:
        try:
            for block in body.blocks():
                if whole is not None:
                    whole.update(block)
                if sent is not None:
                    sent.update(block)
                appender.write(block)
        except StoreUnavailable:
            # Keep what a failing store still took, so that the sender need not send it twice.
            if sent is None:
                with suppress(StoreUnavailable):
                    note(appender.close())
            raise
        if sent is not None and body.end is not End.COMPLETE:
            return claim.progress
        if sent is not None and sent.digest() != checksum:
            raise ChecksumMismatch(headers={"Upload-Offset": str(claim.progress.offset)})
        progress = appender.close()
    with services.database.transaction() as session:
        _still_mine(service.record_progress(session, claim, progress))
    return progress


def _unfinished(end: End, offset: int) -> Refusal:
    kind = {End.SILENT: BodySilent, End.SUPERSEDED: Superseded}.get(end, BodyCut)
    return kind(headers={"Upload-Offset": str(offset)})


def close(services: Services, claim: Claim, digest: str | None) -> None:
    """Close an upload that is whole: its form is checked, and its hash where it is known already."""
    try:
        services.blobs.finish(claim.key, claim.progress, claim.size)
        fault = _fault(services, claim, digest)
    except BlobDamaged:
        fault = ObjectHashMismatch(i=claim.n)
    if fault is not None:
        _discard(services, claim)
        raise fault
    with services.database.transaction() as session:
        state = ObjectState.STORED if digest is None else ObjectState.VERIFIED
        _still_mine(service.settle(session, claim, state))


def _fault(services: Services, claim: Claim, digest: str | None) -> Refusal | None:
    head = b"".join(services.blobs.read(claim.key, 0, min(OVERHEAD, claim.size)))
    try:
        check_sealed(Kind.FILE, head, claim.size)
    except ProtocolError as error:
        return Unprocessable(error.title, slug=error.slug, i=claim.n)
    if digest is not None and digest != claim.sealed_sha256:
        return ObjectHashMismatch(i=claim.n)
    return None


def complete(services: Services, writers: Writers, case: str) -> str | None:
    """Return the receipt when everything is there and verified; None while large objects are read back."""
    with services.database.reading() as session:
        testimony = service.find(session, case)
        if testimony is None:
            raise NotFound
        if testimony.receipt is not None:
            return testimony.receipt
        if service.is_over(testimony, services.today()):
            raise UploadGone
        uploads = service.objects_of(session, case)
        if any(one.state == ObjectState.DELETED for one in uploads):
            raise UploadGone
        missing = [
            {"i": one.n, "offset": one.durable_offset, "size": one.size}
            for one in uploads
            if one.durable_offset < one.size
        ]
        if missing:
            raise CaseIncomplete(missing=missing)
        unverified = [one for one in uploads if one.state != ObjectState.VERIFIED]
        size = sum(one.size for one in unverified)
    if size > INLINE_VERIFY_BYTES:
        writers.verify_behind(case, lambda: _receive_behind(services, writers, case, unverified))
        return None
    return receive(services, writers, case, unverified)


def receive(
    services: Services, writers: Writers, case: str, unverified: list[UploadedObject]
) -> str:
    """Read back what was not verified yet, receive the testimony, and return its receipt."""
    for upload in unverified:
        verify(services, writers, upload)
    with services.database.transaction() as session:
        testimony = service.find(session, case)
        if testimony is None:
            raise NotFound
        checked = service.stored_submission(session, testimony)
        return service.complete(session, checked, services.today(), services.secrets.custody_log)


def verify(services: Services, writers: Writers, upload: UploadedObject) -> None:
    """Read an object back and compare it with the hash that was announced; a damaged one begins anew."""
    with _held_for_reading(services, writers, upload) as claim:
        if claim is None:
            return
        digest = hashlib.sha256()
        with suppress(BlobDamaged):
            services.blobs.finish(claim.key, claim.progress, claim.size)
            for block in services.blobs.read(claim.key):
                digest.update(block)
        close(services, claim, digest.hexdigest())


@contextmanager
def _held_for_reading(
    services: Services, writers: Writers, upload: UploadedObject
) -> Iterator[Claim | None]:
    writers.announce()
    with writers.writing(None) as writer:
        claim = _claim_unless_held(services, writers, writer, upload)
        if claim is None:
            yield None
            return
        with _released(services, claim):
            yield claim


def _claim_unless_held(
    services: Services, writers: Writers, writer: str, upload: UploadedObject
) -> Claim | None:
    """Claim a whole object that nobody holds, or return None when somebody verified it meanwhile.

    Whoever holds it goes on, unless their process no longer beats.
    """
    first: int | None = None
    first_at: float | None = None
    while True:
        with services.database.transaction() as session:
            row = service.open_upload(session, upload.case, upload.n, services.today(), lock=True)
            if row.state == ObjectState.VERIFIED:
                return None
            if row.durable_offset < row.size:
                # It was damaged and comes again, since this verification began.
                raise CaseIncomplete
            beat, now = service.beat_of(session, row.process), time.monotonic()
            silent = first_at is not None and now - first_at > DEAD_AFTER_SECONDS
            if row.writer is None or beat is None or silent or writers.holds(row) is False:
                return service.claim(row, writer, writers.process, left_by_crash=False)
        if first_at is None:
            first, first_at = beat, now
        if row.process == writers.process or beat != first:
            raise UploadBusy(headers={"Retry-After": "1"})
        time.sleep(TAKEOVER_POLL_SECONDS)


def _receive_behind(
    services: Services, writers: Writers, case: str, unverified: list[UploadedObject]
) -> None:
    """Receive a case in the background; asking again is how its sender learns the end, if they still can."""
    try:
        receive(services, writers, case, unverified)
    except (Refusal, StoreUnavailable, DatabaseUnavailable):
        # The sender asks again, and hears of a refusal then.
        return
    except Exception as error:
        log_failure(error, None, "verify")


def receive_what_is_whole(services: Services, writers: Writers) -> int:
    """Receive every testimony that arrived whole and was never asked about: its witness may be unable to.

    Returns how many. To be called before anything expires.
    """
    with services.database.reading() as session:
        cases = service.whole_but_waiting(session)
    done = 0
    for case in cases:
        with services.database.transaction() as session:
            testimony = service.find(session, case, lock=True)
            if testimony is None or testimony.expires_on is None:
                continue
            testimony.expires_on = max(testimony.expires_on, services.today())
            waiting = service.objects_of(session, case)
            unverified = [one for one in waiting if one.state != ObjectState.VERIFIED]
        try:
            receive(services, writers, case, unverified)
        except (Refusal, StoreUnavailable):
            continue
        done += 1
    return done
