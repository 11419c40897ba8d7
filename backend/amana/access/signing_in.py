# SPDX-License-Identifier: AGPL-3.0-or-later
"""Sign-in from end to end: as a rule one question and one row, else a transaction around all that changed."""

from datetime import UTC, datetime, timedelta

from amana.access import service
from amana.api.services import Services
from amana.directory.service import NoDirectory, known

FORGET_EVERY = timedelta(minutes=1)
_NEVER = datetime.min.replace(tzinfo=UTC)


def sign_in(given: Services, assertion: str, proof: str, urls: frozenset[str]) -> service.Bound:
    """Begin a session with an assertion (RFC 7523 §3) and the proof of its DPoP key; the assertion works once.

    Whatever is wrong is refused as one: NotSignedIn. Whoever does not stand as they must is told so, having
    proven who they are: NotAllowed.
    """
    now = given.clock()
    if now - given.caches.get("forgotten", _NEVER) > FORGET_EVERY:
        given.caches["forgotten"] = now
        with given.database.transaction() as session:
            service.forget_what_is_over(session, now)
    read = service.Assertion.read(assertion)
    entrant = service.entrant(given.database, read.person)
    if entrant.directory is None:
        raise NoDirectory
    directory = known(given.database, entrant.directory, given.caches)
    made = service.verified(read, proof, urls, directory, now)
    if not entrant.has_nothing_new(directory, made.person, now.date()):
        with given.database.transaction() as session:
            service.begin(session, made, directory, now)
    elif not given.database.add_once(service.SESSIONS, made.row(now)):
        raise service.refused()
    return made
