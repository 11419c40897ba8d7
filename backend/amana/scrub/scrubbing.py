# SPDX-License-Identifier: AGPL-3.0-or-later
"""What is stored is read again on a schedule. It is bounded, may be killed anywhere, and one process does it at a time."""

import hashlib
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Final, TypeVar

from sqlalchemy.orm import Session
from tuf.api.exceptions import RepositoryError

from amana.api.services import Services
from amana.directory import service as directory
from amana.errors import Refusal
from amana.protocol.errors import ProtocolError
from amana.scrub import service
from amana.scrub.schedule import Schedule, within
from amana.scrub.service import Fault, StoredObject
from amana.storage.blobs import BlobMissing, StoreUnavailable

T = TypeVar("T")
OBJECTS: Final = "check-of-objects"
ROWS: Final = "check-of-rows"


def schedule_of(services: Services) -> Schedule:
    """Return the schedule that the operator set."""
    return Schedule(services.config.scrub_days, services.config.scrub_bytes)


class AlreadyChecking(Exception):
    """Another run reads what is stored just now, so this one cannot say that it read all."""


def check_objects(services: Services) -> int:
    """Read the objects that are due again and compare them with their hashes; returns how many.

    What was damaged before comes last, to learn whether it is whole again. A store that is away is no damage:
    StoreUnavailable, and all is due as before.
    """
    schedule = schedule_of(services)
    since = schedule.due_since(services.today())
    with services.database.alone(OBJECTS) as alone:
        if not alone:
            return 0
        with services.database.reading() as session:
            damaged = [one for one in service.damaged_objects(session) if one.checked_on > since]
        wanted = chain(
            _pages(services, lambda session, last: service.objects_due(session, since, last)),
            damaged,
        )
        budgeted = within(wanted, lambda one: one.size, schedule.bytes_per_run)
        return sum(_check_object(services, one) for one in budgeted)


def check_all_objects(services: Services) -> int:
    """Read all objects and compare them with their hashes, whenever they were read; returns how many.

    Raises AlreadyChecking, StoreUnavailable.
    """
    with services.database.alone(OBJECTS) as alone:
        if not alone:
            raise AlreadyChecking
        return sum(_check_object(services, one) for one in _pages(services, service.all_objects))


def _pages(services: Services, page_after: Callable[[Session, T | None], list[T]]) -> Iterator[T]:
    """Yield page after page; no transaction is held while what they name is read."""
    last: T | None = None
    while True:
        with services.database.reading() as session:
            page = page_after(session, last)
        if not page:
            return
        yield from page
        last = page[-1]


def _check_object(services: Services, one: StoredObject) -> bool:
    try:
        fault = _fault(services, one)
    except StoreUnavailable:
        # If the store is well, only this object cannot be read now; it stays due, and is late some day.
        services.blobs.check()
        return False
    with services.database.transaction() as session:
        return service.note_object(session, one, fault, services.today())


def _fault(services: Services, one: StoredObject) -> Fault | None:
    digest = hashlib.sha256()
    try:
        # One byte more than it should have, in case it has more.
        for block in services.blobs.read(one.key, 0, one.size + 1):
            digest.update(block)
    except BlobMissing:
        return Fault.MISSING
    return None if digest.hexdigest() == one.sha256 else Fault.DIFFERS


def check_rows(services: Services) -> int:
    """Compare the sealed parts that are kept in rows, of the cases that are due, with what was signed; returns how many."""
    schedule = schedule_of(services)
    since = schedule.due_since(services.today())
    with services.database.alone(ROWS) as alone:
        if not alone:
            return 0
        keys, done, left = _custody_keys(services), 0, schedule.bytes_per_run
        with services.database.reading() as session:
            damaged = [one for one in service.damaged_cases(session) if one.checked_on > since]
        for one in chain(
            _pages(services, lambda session, last: service.cases_due(session, since, last)), damaged
        ):
            if left <= 0:
                break
            with services.database.transaction() as session:
                read = service.check_case(session, one.case, keys, services.today())
            done, left = done + (read is not None), left - (read or 0)
        return done


def check_all_rows(services: Services) -> int:
    """Compare the sealed parts in rows of all cases with what was signed, whenever that was done; returns how many.

    Raises AlreadyChecking.
    """
    with services.database.alone(ROWS) as alone:
        if not alone:
            raise AlreadyChecking
        keys, done = _custody_keys(services), 0
        for one in _pages(services, service.all_cases):
            with services.database.transaction() as session:
                read = service.check_case(session, one.case, keys, services.today())
            done += read is not None
        return done


def _custody_keys(services: Services) -> set[str]:
    own = {services.secrets.custody_log.public}
    try:
        with services.database.reading() as session:
            return own | directory.custody_log_keys(session, services.trusted_root())
    except (Refusal, RepositoryError, ProtocolError, ValueError, KeyError):
        # Without a root that can be followed, the key at hand must do.
        return own
