# SPDX-License-Identifier: AGPL-3.0-or-later
"""What is due from time to time; idempotent, and safe to run twice and from two machines at once.

Where intake and desk have database roles of their own, it is run under both, and each does its part.
"""

from amana.api.services import Services
from amana.consent import service as consent
from amana.consent.destroying import destroy_due, keep_statements, repeat_statements
from amana.consent.models import Withdrawal
from amana.directory import service as directory
from amana.errors import NotAllowed
from amana.intake.appending import receive_what_is_whole
from amana.intake.receiving import expire
from amana.intake.writers import Writers
from amana.ops.sequencer import sequence
from amana.replies.publishing import may_publish, publish_drop
from amana.routing import service as routing
from amana.storage.database import may


def maintain(services: Services, *, publish_now: bool = False) -> dict[str, int]:
    """Do what is due and return how much of each was done; `publish_now` publishes the drop's batch also a second time."""
    publishes = may_publish(services)
    if publish_now and not publishes:
        raise NotAllowed("This database role may not publish; run it as that of the desk.")
    with services.database.reading() as session:
        takes_in = may(session, "INSERT", Withdrawal)
    done: dict[str, int] = {}
    # A restored database must know what witnesses have said before anybody is offered their cases.
    if takes_in:
        done["statements_repeated"] = repeat_statements(services)
    # Then what keeps the service going, then what cannot be taken back.
    with services.database.transaction() as session:
        refreshed = directory.refresh(session, services.secrets.online, services.clock())
    done["directory_metadata_signed"] = refreshed
    if takes_in:
        done |= _take_in(services)
    done |= _route(services)
    if publishes:
        done["drop_shards_published"] = publish_drop(services, again=publish_now)
    if takes_in:
        done["abandoned_uploads_deleted"] = expire(services)
        done["withdrawn_cases_destroyed"] = destroy_due(services)
    # Last, for what all this recorded.
    return done | sequence(services)


def _take_in(services: Services) -> dict[str, int]:
    with services.database.transaction() as session:
        consent.forget_nonces(session, services.today())
    return {
        "statements_kept": keep_statements(services),
        "whole_testimonies_received": receive_what_is_whole(services, Writers(services.database)),
    }


def _route(services: Services) -> dict[str, int]:
    """Take back what nobody claimed, and offer what waits to readers, a batch in a transaction, until nothing is left."""
    with services.database.transaction() as session:
        may_route = routing.may_route(session)
        unclaimed = routing.end_unclaimed(session, services.today()) if may_route else 0
    return {
        "unclaimed_cases_taken_back": unclaimed,
        "cases_routed": _route_all(services) if may_route else 0,
    }


def _route_all(services: Services) -> int:
    total = 0
    while True:
        with services.database.transaction() as session:
            try:
                now = directory.current(session, services.caches)
            except directory.NoDirectory:
                return total
            done = routing.route_received(session, now, services.today())
        total += done
        # Nothing is left, or somebody else does it.
        if done == 0:
            return total
