# SPDX-License-Identifier: AGPL-3.0-or-later
"""What only a person can do: looked for after every run of `amana maintain`, told by kind, number and random ids alone.

docs/operating.md says what each line asks for.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Final

import sqlalchemy as sa
from sqlalchemy.orm import Session

from amana.access.actions import Moment
from amana.api.services import Services
from amana.client.directory import expiry_warnings
from amana.consent import service as consent
from amana.custody import stamping
from amana.directory import service as directory
from amana.intake import service as intake
from amana.logs import log_failure
from amana.people import service as people
from amana.retention import service as retention
from amana.routing import service as routing
from amana.routing.models import RoutingTask
from amana.scrub import service as scrub
from amana.scrub.scrubbing import schedule_of

NAMED: Final = 20
"""How many ids a line names at most."""


@dataclass(frozen=True)
class Need:
    """Something that waits for a person; `about` are ids of cases or of people, some of them if there are many."""

    kind: str
    count: int
    what_to_do: str
    about: tuple[str, ...] = ()


@dataclass(frozen=True)
class View:
    """What is looked at: a session that only reads, under the services."""

    services: Services
    session: Session

    @property
    def today(self) -> date:
        return self.services.today()

    @property
    def at(self) -> Moment:
        """Under which directory it is looked at; raises NoDirectory."""
        given = self.services
        return Moment(directory.current(self.session, given.caches), given.clock())

    def leads_of(self, desks: Iterable[str]) -> tuple[str, ...]:
        """Return who leads these desks."""
        wanted = set(desks)
        listed = self.at.directory.desks
        return tuple(sorted({lead for one in listed if one.id in wanted for lead in one.leads}))


Found = tuple[int, Iterable[str]]
"""How many, and ids of some."""


def look_for_needs(services: Services) -> tuple[list[Need], list[str]]:
    """Return what needs a person, and the looks that failed; one that fails keeps no other."""
    needs, failed = [], []
    for kind, (look, what_to_do) in LOOKS.items():
        try:
            with services.database.reading() as session:
                count, about = look(View(services, session))
        except directory.NoDirectory:
            # Nobody works here yet.
            continue
        except Exception as error:
            log_failure(error, None, kind)
            failed.append(kind)
            continue
        if count:
            needs.append(Need(kind, count, what_to_do, tuple(about)[:NAMED]))
    return needs, failed


def _stamps(view: View) -> Found:
    names = list(view.services.config.timestamp_authorities)
    behind = stamping.late(view.session, names, view.today)
    return len(behind), behind


def _routing_tasks(view: View) -> Found:
    query = sa.select(RoutingTask.desk, sa.func.count()).group_by(RoutingTask.desk)
    desks = {row[0]: row[1] for row in view.session.execute(query)}
    told = routing.leads_told(view.session, view.at.directory, view.today)
    return sum(desks.values()), sorted(frozenset().union(*(told[desk] for desk in desks)))


def _review_days(view: View) -> Found:
    desks = {
        one.desk: one.to_look_at
        for one in retention.reviews_by_desk(view.session, view.today)
        if one.to_look_at
    }
    return sum(desks.values()), view.leads_of(desks)


def _expiring(view: View) -> Found:
    desks = {
        one.desk: one.expiring
        for one in retention.reviews_by_desk(view.session, view.today)
        if one.expiring
    }
    return sum(desks.values()), view.leads_of(desks)


def _damaged(view: View) -> Found:
    found = scrub.damages(view.session)
    return found.parts, found.cases


def _late_checks(view: View) -> Found:
    return scrub.late(view.session, schedule_of(view.services).late_since(view.today)), ()


def _stuck_uploads(view: View) -> Found:
    cases = intake.stuck(view.session, view.today)
    return len(cases), cases


def _undestroyed(view: View) -> Found:
    cases = consent.overdue(view.session, view.today)
    return len(cases), cases


def _access_reviews(view: View) -> Found:
    due = people.reviews_due(view.session, view.at, view.services.caches)
    return len(due), [one.id for one in due]


def _vettings(view: View) -> Found:
    ending = people.vettings_ending(view.session, view.at)
    return len(ending), ending


def _newcomers(view: View) -> Found:
    waiting = people.waiting_for_officers(view.session, view.at, view.services.caches)
    new = [one.person.id for one in waiting if one.replacement is None]
    return len(new), new


def _replacements(view: View) -> Found:
    waiting = people.waiting_for_officers(view.session, view.at, view.services.caches)
    asked = [one.person.id for one in waiting if one.replacement is not None]
    return len(asked), asked


def _signatures(view: View) -> Found:
    now = view.at.now
    newest = directory.newest_signed(view.session, view.services.trusted_root())
    return 0 if newest is None else len(expiry_warnings(*newest, now)), ()


LOOKS: Final[Mapping[str, tuple[Callable[[View], Found], str]]] = {
    "stored-parts-damaged": (
        _damaged,
        "Restore these cases' parts from a backup; nothing here repairs them.",
    ),
    "checks-late": (
        _late_checks,
        "Run maintain more often, raise AMANA_SCRUB_BYTES, or find out what cannot be read.",
    ),
    "destruction-late": (_undestroyed, "Find out why the object store does not delete."),
    "uploads-stuck": (
        _stuck_uploads,
        "Find out why the object store cannot finish or delete them.",
    ),
    "directory-expiring": (
        _signatures,
        "The officers sign: amana officer propose, or rotate-root.",
    ),
    "time-stamps-late": (
        _stamps,
        "Find out why these authorities do not answer as they must (docs/operating.md).",
    ),
    "routing-tasks": (
        _routing_tasks,
        "These leads: amana reviewer routing-tasks. If none is named, the officers list one.",
    ),
    "review-days-past": (_review_days, "These leads: amana reviewer retention."),
    "cases-expiring": (_expiring, "These leads, who may keep them: amana reviewer prolong."),
    "access-reviews-due": (_access_reviews, "Administrators: amana admin access-review."),
    "vettings-ending": (_vettings, "Administrators, after vetting anew: amana admin vet."),
    "newcomers-pending": (_newcomers, "Administrators and officers: amana admin pending."),
    "replacements-pending": (_replacements, "Administrators and officers: amana admin pending."),
}
"""By kind: how it is looked for, and who does what about it. The gravest come first."""
