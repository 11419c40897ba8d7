# SPDX-License-Identifier: AGPL-3.0-or-later
"""Cases whose review day has come: their readers are told, and when the notice is over they expire."""

from collections.abc import Iterable

from amana.api.services import Services
from amana.intake.retention import Step
from amana.logs import log_failure
from amana.protocol.errors import ProtocolError
from amana.retention import service


def announce(services: Services) -> int:
    """Tell readers and leads of cases that expire unless somebody prolongs them; returns of how many."""
    with services.database.reading() as session:
        cases = service.to_announce(session, services.today())
    return _count(services, cases, Step.TELL)


def expire_announced(services: Services) -> int:
    """Let cases expire whose notice is over, and keep those that may be kept now; returns how many expired.

    They are destroyed with what was withdrawn (amana.consent.destroying).
    """
    with services.database.reading() as session:
        cases = service.announced(session)
    return _count(services, cases, Step.EXPIRE)


def _count(services: Services, cases: Iterable[str], step: Step) -> int:
    """Do what is due about each case in a transaction of its own, and count where that was `step`."""
    done = 0
    for case in cases:
        try:
            with services.database.transaction() as session:
                done += service.take_step(session, case, services.today()) is step
        except ProtocolError as error:
            # Its policies are damaged, which the check of what is stored tells. It is kept, and keeps no other.
            log_failure(error, None, "retention")
    return done
