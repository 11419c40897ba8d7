# SPDX-License-Identifier: AGPL-3.0-or-later
"""What is due from time to time; idempotent, and safe to run twice and from two machines at once."""

from amana.api.services import Services
from amana.consent import service as consent
from amana.consent.destroying import destroy_due, keep_statements, repeat_statements
from amana.directory import service as directory
from amana.intake.appending import receive_what_is_whole
from amana.intake.receiving import expire
from amana.intake.writers import Writers
from amana.ops.collector import collect
from amana.ops.sequencer import sequence
from amana.routing import service as routing


def maintain(services: Services) -> dict[str, int]:
    """Do what is due and return how much of each was done."""
    # A restored database must know what witnesses have said before anybody is offered their cases.
    repeated = repeat_statements(services)
    # Then what keeps the service going, then what cannot be taken back.
    with services.database.transaction() as session:
        refreshed = directory.refresh(session, services.secrets.online, services.clock())
    with services.database.transaction() as session:
        may_route = routing.may_route(session)
        consent.forget_nonces(session, services.today())
        unclaimed = routing.end_unclaimed(session, services.today()) if may_route else 0
    kept = keep_statements(services)
    received = receive_what_is_whole(services, Writers(services.database))
    return {
        "directory_metadata_signed": refreshed,
        "whole_testimonies_received": received,
        "unclaimed_cases_taken_back": unclaimed,
        "cases_routed": _route_all(services) if may_route else 0,
        "abandoned_uploads_deleted": expire(services),
        "statements_repeated": repeated,
        "statements_kept": kept,
        "withdrawn_cases_destroyed": destroy_due(services),
        # Last, for what all this recorded.
        **sequence(services),
        **collect(services),
    }


def _route_all(services: Services) -> int:
    """Offer what waits to readers, a batch in a transaction, until nothing is left or somebody else does it."""
    total = 0
    while True:
        with services.database.transaction() as session:
            try:
                now = directory.current(session, services.caches)
            except directory.NoDirectory:
                return total
            done = routing.route_received(session, now, services.today())
        total += done
        if done == 0:
            return total
