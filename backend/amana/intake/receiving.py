# SPDX-License-Identifier: AGPL-3.0-or-later
"""One submission from request to answer: its form, its place in the directory, its price, its row."""

import json
import time
from dataclasses import dataclass, replace
from typing import Any

from amana.api.services import Services
from amana.directory import service as directory
from amana.errors import AdmissionAsked, CaseDiffers, Conflict, Unprocessable
from amana.intake import admission, service, uploads
from amana.intake.service import Known
from amana.intake.writers import DEAD_AFTER_SECONDS, LOOK_SECONDS
from amana.protocol.admission import AdmissionRefused, Notice, Proof, check_proof
from amana.protocol.directory import Directory
from amana.protocol.errors import ProtocolError
from amana.protocol.submission import CheckedSubmission, Submission, check_submission
from amana.storage.blobs import StoreUnavailable

PRICE_KEPT_SECONDS = 5.0
DIRECTORY_KEPT_SECONDS = 1.0


@dataclass(frozen=True)
class Announced:
    """What the sender is told, and whether the testimony was new."""

    document: dict[str, Any]
    new: bool


def notice(services: Services) -> Notice:
    """Return today's price; the day's number is counted anew every few seconds only."""
    today = services.today()
    kept_day, kept_at, count = services.caches.get("announced", (None, 0.0, 0))
    if kept_day != today or time.monotonic() - kept_at > PRICE_KEPT_SECONDS:
        with services.database.reading() as session:
            count = service.announced_on(session, today)
        services.caches["announced"] = (today, time.monotonic(), count)
    return admission.notice(
        services.secrets,
        today,
        base=services.config.admission_price,
        announced_today=count,
        busy_per_day=services.config.admission_busy_per_day,
    )


def take(services: Services, parts: Submission, proof: bytes | None) -> Announced:
    """Take a submission: new, or again with the same bytes; anything else about a known case is refused."""
    checked = check_submission(parts, services.config.limits)
    try:
        paid = _check_admission(services, checked, proof)
        current = _directory_for(services, checked)
        with services.database.transaction() as session:
            known = service.receive(
                session,
                checked,
                directory=current.version,
                paid=paid,
                today=services.today(),
                upload_days=services.config.upload_days,
                custody_log=services.secrets.custody_log,
            )
        return Announced(_document(services, checked, known), new=True)
    except (AdmissionAsked, Unprocessable, Conflict, directory.NoDirectory):
        # A repetition costs nothing and needs no price of today nor the directory of today.
        if (answer := _again(services, checked)) is not None:
            return answer
        raise


def _again(services: Services, checked: CheckedSubmission) -> Announced | None:
    with services.database.reading() as session:
        known = service.known(session, checked.case)
    if known is None:
        return None
    if known.digest != checked.parts.digest():
        raise CaseDiffers
    if known.expires_on is not None and known.expires_on < services.today():
        with services.database.transaction() as session:
            testimony = service.find(session, checked.case, lock=True)
            if testimony is None:
                return None
            service.revive(session, testimony, services.today(), services.config.upload_days)
            known = replace(known, expires_on=testimony.expires_on)
    return Announced(_document(services, checked, known), new=False)


def _directory_for(services: Services, checked: CheckedSubmission) -> Directory:
    """Check a submission against the directory as this process saw it seconds ago, or else as it is now."""
    seen, seen_at = services.caches.get("directory", (None, 0.0))
    if seen is not None and time.monotonic() - seen_at < DIRECTORY_KEPT_SECONDS:
        try:
            service.check_against_directory(checked, seen)
            found: Directory = seen
            return found
        except Unprocessable:
            pass
    with services.database.reading() as session:
        now = directory.current(session, services.caches)
    services.caches["directory"] = (now, time.monotonic())
    service.check_against_directory(checked, now)
    return now


def _check_admission(services: Services, checked: CheckedSubmission, proof: bytes | None) -> int:
    asked = notice(services)
    try:
        if proof is None:
            raise AdmissionRefused("admission-missing", "The price of admission was not paid.")
        return check_proof(
            Proof.parse(proof), asked, checked.parts.digest(), checked.declared_bytes
        )
    except ProtocolError as error:
        raise AdmissionAsked(error.title, slug=error.slug, notice=asked.document()) from None


def _document(services: Services, checked: CheckedSubmission, known: Known) -> dict[str, Any]:
    secrets, case, receipt = services.secrets, checked.case, known.receipt

    def address(target: int | str) -> str:
        return f"/v1/uploads/{uploads.capability(secrets, case, target)}"

    return {
        "case": case,
        "uploads": [
            {"i": item.i, "location": address(item.i)}
            for item in checked.objects
            if receipt is None
        ],
        "completion": None if receipt else f"{address(uploads.WHOLE_CASE)}/completion",
        "expires_on": known.expires_on.isoformat() if known.expires_on else None,
        "receipt": json.loads(receipt) if receipt else None,
    }


def expire(services: Services) -> int:
    """Delete what was announced and then left for too long, and return how many; one process does it at a time.

    Uploads are ended first, in one transaction with the look at the calendar: whoever comes after it finds
    them gone, and nobody writes to what is being deleted.
    """
    # A second process could still delete bytes when the first one is done and the same case is announced again.
    with services.database.alone("abandoned-uploads") as alone:
        return _expire(services) if alone else 0


def _expire(services: Services) -> int:
    with services.database.reading() as session:
        cases = service.expired(session, services.today())
    silent = _silent_processes(services) if cases else frozenset()
    done = 0
    for case in cases:
        with services.database.transaction() as session:
            ended = service.end_abandoned(session, case, services.today(), silent)
        if ended is None:
            continue
        try:
            for key, progress in ended:
                services.blobs.delete(key, progress)
        except StoreUnavailable:
            # One that cannot be deleted now must not keep the others; the next run finds it again.
            continue
        with services.database.transaction() as session:
            done += service.forget_abandoned(session, case, services.today())
    return done


def _silent_processes(services: Services) -> frozenset[str]:
    """Return the processes that are silent for as long as none that writes would be."""
    with services.database.reading() as session:
        before = service.beats(session)
    silent, until = frozenset(before), time.monotonic() + DEAD_AFTER_SECONDS
    while silent and time.monotonic() < until:
        time.sleep(LOOK_SECONDS)
        with services.database.reading() as session:
            now = service.beats(session)
        silent = frozenset(one for one in silent if now.get(one, before[one]) == before[one])
    return silent
