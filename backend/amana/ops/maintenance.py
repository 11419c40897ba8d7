# SPDX-License-Identifier: AGPL-3.0-or-later
"""What is due from time to time, duty by duty; idempotent, and safe to run twice and from two machines at once."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from amana.api.services import Services
from amana.consent import service as consent
from amana.consent.destroying import destroy_due, keep_statements, repeat_statements
from amana.directory import service as directory
from amana.intake import service as intake
from amana.intake.appending import receive_what_is_whole
from amana.intake.receiving import expire
from amana.intake.writers import Writers
from amana.logs import log_failure
from amana.ops.attention import Need, look_for_needs
from amana.ops.collector import collect
from amana.ops.sequencer import sequence
from amana.ops.stamper import stamp
from amana.people import service as people
from amana.replies.publishing import publish_drop
from amana.retention.expiring import announce, expire_announced
from amana.routing import service as routing
from amana.scrub.scrubbing import (
    check_all_objects,
    check_all_rows,
    check_objects,
    check_rows,
)
from amana.vault import service as vault


@dataclass(frozen=True)
class Duty:
    """Something that is done from time to time, in transactions of its own; `do` returns how much of it was done."""

    name: str
    do: Callable[[Services], int]
    after: tuple[str, ...] = ()
    """Duties without which this one would do harm: when one of them fails, it is left for the next run."""


@dataclass(frozen=True)
class Report:
    """What a run did, which duties failed or were left, and what needs a person."""

    done: dict[str, int] = field(default_factory=dict)
    failed: tuple[str, ...] = ()
    needs_a_person: tuple[Need, ...] = ()


def maintain(
    services: Services,
    *,
    publish_now: bool = False,
    stamp_now: bool = False,
    scrub_now: bool = False,
) -> Report:
    """Do every duty that is due; one that fails is told by its name, and keeps no other.

    `publish_now` publishes the drop's batch also a second time in a day; `stamp_now` asks for time stamps at once;
    `scrub_now` reads all that is stored, whenever it was read.
    """
    at_once = {
        PUBLISH: publish_now,
        STAMP: stamp_now,
        CHECK_ROWS: scrub_now,
        CHECK_OBJECTS: scrub_now,
    }
    done: dict[str, int] = {}
    failed: list[str] = []
    for duty in DUTIES:
        if any(one in failed for one in duty.after):
            failed.append(duty.name)
            continue
        try:
            do = AT_ONCE[duty.name] if at_once.get(duty.name, False) else duty.do
            done[duty.name] = do(services)
        except Exception as error:
            log_failure(error, None, duty.name)
            failed.append(duty.name)
    needs, unseen = look_for_needs(services)
    return Report(done, (*failed, *unseen), tuple(needs))


def _sign_directory(services: Services) -> int:
    with services.database.transaction() as session:
        return directory.refresh(session, services.secrets.online, services.clock())


def _forget_nonces(services: Services) -> int:
    with services.database.transaction() as session:
        return consent.forget_nonces(session, services.today())


def _receive(services: Services) -> int:
    return receive_what_is_whole(services, Writers(services.database))


def _take_back_from_leavers(services: Services) -> int:
    with services.database.transaction() as session:
        try:
            now = directory.current(session, services.caches)
        except directory.NoDirectory:
            return 0
        return routing.take_back_from_leavers(session, now, services.today())


def _take_back_unclaimed(services: Services) -> int:
    with services.database.transaction() as session:
        return routing.end_unclaimed(session, services.today())


def _route(services: Services) -> int:
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
        # Nothing is left, or somebody else does it.
        if done == 0:
            return total


def _sequence(services: Services) -> int:
    return sequence(services)["leaves_published"]


def _collect(services: Services) -> int:
    return sum(collect(services).values())


def _end_releases(services: Services) -> int:
    with services.database.transaction() as session:
        return vault.end_expired(session, services.today())


def _delete_invitations(services: Services) -> int:
    with services.database.transaction() as session:
        return people.delete_invitations(session, services.today())


def _forget_dead_processes(services: Services) -> int:
    with services.database.transaction() as session:
        return intake.forget_dead_processes(session, services.today())


REPEAT: Final = "statements_repeated"
RECEIVE: Final = "whole_testimonies_received"
PUBLISH: Final = "drop_shards_published"
STAMP: Final = "checkpoints_stamped"
CHECK_ROWS: Final = "cases_checked"
CHECK_OBJECTS: Final = "objects_checked"

AT_ONCE: Final[Mapping[str, Callable[[Services], int]]] = {
    PUBLISH: lambda services: publish_drop(services, again=True),
    STAMP: lambda services: stamp(services, anew=True),
    CHECK_ROWS: check_all_rows,
    CHECK_OBJECTS: check_all_objects,
}
"""What can be asked for before it is due."""

DUTIES: Final = (
    # A restored database must know what witnesses have said before anybody is offered their cases.
    Duty(REPEAT, repeat_statements),
    # Then what keeps the service going,
    Duty("directory_metadata_signed", _sign_directory),
    Duty("control_nonces_forgotten", _forget_nonces),
    Duty("statements_kept", keep_statements),
    Duty(RECEIVE, _receive),
    Duty("cases_taken_back_from_leavers", _take_back_from_leavers, after=(REPEAT,)),
    Duty("unclaimed_cases_taken_back", _take_back_unclaimed),
    Duty("cases_routed", _route, after=(REPEAT,)),
    Duty(PUBLISH, publish_drop),
    Duty("releases_ended", _end_releases),
    Duty("invitations_deleted", _delete_invitations),
    Duty("dead_processes_forgotten", _forget_dead_processes),
    # then what cannot be taken back,
    Duty("abandoned_uploads_deleted", expire, after=(RECEIVE,)),
    Duty("cases_announced_to_expire", announce, after=(REPEAT,)),
    Duty("cases_expired", expire_announced, after=(REPEAT,)),
    Duty("cases_destroyed", destroy_due, after=(REPEAT,)),
    # and what takes long.
    Duty(CHECK_ROWS, check_rows),
    Duty(CHECK_OBJECTS, check_objects),
    # Last, for what all this recorded.
    Duty("leaves_published", _sequence),
    Duty("logs_cosigned", _collect),
    Duty(STAMP, stamp),
)
"""In their order. What other stages let expire is one more line here."""
