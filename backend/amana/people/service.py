# SPDX-License-Identifier: AGPL-3.0-or-later
"""People come invited, are vetted, suspended, confirmed, and go. Whether they read is the officers' word. Never commits."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from amana.access.actions import Moment, accept
from amana.access.models import (
    Enrolment,
    Invitation,
    KeyReplacement,
    Person,
    Reinstatement,
    Suspension,
)
from amana.access.roles import PERMISSIONS, Actor, Permission
from amana.access.service import facts, intake_key_of, person_row, require, sign_out
from amana.access.standing import Standing, review_due_on, standing
from amana.custody import service as custody
from amana.directory import service as directories
from amana.directory.models import DirectoryVersion
from amana.errors import Conflict, NotAllowed, NotFound, Unprocessable
from amana.intake.models import State, Testimony
from amana.protocol.action import Action
from amana.protocol.case import intake_key_id
from amana.protocol.directory import Directory, verify_intake_key
from amana.protocol.encoding import canonical, check_id, random_id, sha256_hex
from amana.protocol.enrolment import (
    READERS,
    EnrolmentRefused,
    invitation_hash,
    parse_enrolment,
)
from amana.protocol.enrolment import Enrolment as Enrolling
from amana.protocol.errors import ProtocolError
from amana.protocol.sealing import Recipient

REVIEW_NOTICE_DAYS = 14
REINSTATING = 2
VETTING = timedelta(days=731)
"""How long a vetting holds at most: two years. Whom nobody looked at for longer, nobody knows any more."""

MAX_CONFLICTS = 200
PENDING, GONE = "pending", "gone"
_SUSPENDED = sa.exists().where(Suspension.person == Person.id, Suspension.lifted_at.is_(None))


class InvitationRefused(NotAllowed):
    slug = "invitation-refused"
    title = "There is no such invitation for this role and these desks, or it was used, or is over."


class InvitationOver(Conflict):
    slug = "invitation-over"
    title = "This invitation was used or withdrawn, or is over; suspend whoever came with it."


class KeyKnown(Conflict):
    slug = "key-known"
    title = "This id or key is known already; make new ones."


class KeyNotListed(Conflict):
    slug = "key-not-listed"
    title = "The key to be replaced is not the one that the directory lists for you now."


class SuspendedAlready(Conflict):
    slug = "suspended-already"
    title = "This person is suspended already."


class NotSuspended(Conflict):
    slug = "not-suspended"
    title = "This person is not suspended."


class ConsentGiven(Conflict):
    slug = "consent-given"
    title = "You agreed already; another administrator must agree too."


class OnOneself(NotAllowed):
    slug = "own-act"
    title = "Nobody decides about themselves."


def invite(
    session: Session, actor: Actor, at: Moment, action: object, body: Mapping[str, Any]
) -> tuple[Invitation, str]:
    """Make a one-time invitation; returns it and its token, of which only the hash is kept."""
    require(actor, Permission.INVITE)
    role, desks, days = body["role"], body["desks"], body["days"]
    known = {desk.id for desk in at.directory.desks}
    if desks != sorted(set(desks)) or not set(desks) <= known:
        raise Unprocessable("The desks are not sorted, or one does not exist.", slug="desk-unknown")
    if bool(desks) != (role in READERS):
        raise Unprocessable("Readers, and nobody else, have desks.", slug="desks-do-not-fit")
    _accept(session, actor, at, action, "invite", body)
    token = random_id()
    made = Invitation(
        id=random_id(),
        token_sha256=invitation_hash(token),
        role=role,
        desks=",".join(desks),
        issued_by=actor.id,
        issued_on=at.today,
        expires_on=at.today + timedelta(days=days),
    )
    session.add(made)
    return made, token


def withdraw_invitation(
    session: Session, actor: Actor, at: Moment, invitation: str, action: object
) -> None:
    """Let nobody come with an invitation any more, whoever made it: it was for yesterday at the latest."""
    require(actor, Permission.INVITE)
    row = session.get(Invitation, invitation, with_for_update=True)
    if row is None:
        raise NotFound
    _accept(session, actor, at, action, "withdraw-invite", {"invitation": invitation})
    if row.used_by is not None or row.expires_on < at.today:
        raise InvitationOver
    row.expires_on = at.today - timedelta(days=1)


def invitations(session: Session, actor: Actor) -> Sequence[Invitation]:
    """Return the invitations of the last time, newest first."""
    require(actor, Permission.SEE_PEOPLE)
    query = sa.select(Invitation).order_by(Invitation.issued_on.desc(), Invitation.id).limit(1000)
    return session.scalars(query).all()


def enrol(session: Session, at: Moment, token: str, document: object) -> str:
    """Take the keys with which an invited person comes; returns their id. They may do nothing yet."""
    query = sa.select(Invitation).where(Invitation.token_sha256 == _hash(token)).with_for_update()
    invitation = session.scalar(query)
    if invitation is None or invitation.used_by is not None or invitation.expires_on < at.today:
        raise InvitationRefused
    if not _may_still(session, at, invitation.issued_by, Permission.INVITE):
        raise InvitationRefused
    enrolling = parse_enrolment(document)
    if (
        enrolling.invitation != invitation.token_sha256
        or enrolling.role != invitation.role
        or ",".join(enrolling.desks) != invitation.desks
    ):
        raise InvitationRefused
    if enrolling.deployment != at.directory.deployment:
        raise EnrolmentRefused(title="The enrolment was made for another installation.")
    _check_unknown(session, at.directory, enrolling)
    content = canonical(document)
    key = enrolling.intake_key
    session.add(
        Person(
            id=enrolling.id,
            role=enrolling.role,
            desks=invitation.desks,
            signing_key=enrolling.signing_key,
            intake_key=None if key is None else intake_key_id(Recipient.parse(key)),
            first_seen_on=at.today,
            confirmed_on=at.today,
        )
    )
    try:
        session.flush()
    except IntegrityError:
        raise KeyKnown from None
    invitation.used_by = enrolling.id
    session.add(
        Enrolment(
            person=enrolling.id, invitation=invitation.id, document=content, enrolled_on=at.today
        )
    )
    event = {"v": 1, "kind": "enrolment", "person": enrolling.id, "sha256": sha256_hex(content)}
    custody.record(session, event)
    return enrolling.id


def _hash(token: str) -> str:
    try:
        return invitation_hash(check_id(token))
    except ProtocolError:
        raise InvitationRefused from None


def _check_unknown(session: Session, directory: Directory, enrolling: Enrolling) -> None:
    """Refuse an id of today and a key of any day: one that was replaced may have been stolen."""
    keys = filter(None, (enrolling.signing_key, enrolling.intake_key))
    if enrolling.id in directory.people or any(
        directories.ever_listed(session, key) for key in keys
    ):
        raise KeyKnown


@dataclass(frozen=True)
class Waiting:
    """Somebody for whom the officers have something to sign: a newcomer, or an old hand with a new key."""

    person: Person
    enrolment: Enrolment | None
    replacement: KeyReplacement | None


def waiting(session: Session, actor: Actor, at: Moment, cache: dict[str, Any]) -> list[Waiting]:
    """Return who waits for the officers; the suspended, and those who were listed once, do not."""
    require(actor, Permission.SEE_PEOPLE)
    return waiting_for_officers(session, at, cache)


def waiting_for_officers(session: Session, at: Moment, cache: dict[str, Any]) -> list[Waiting]:
    """Return the same, for the operator's own report."""
    listings = _Listings(session, at, cache)
    newcomers = session.execute(
        sa.select(Person, Enrolment)
        .join(Enrolment)
        .where(sa.not_(_SUSPENDED))
        .order_by(Enrolment.enrolled_on, Person.id)
    )
    found = [
        Waiting(person, enrolment, None)
        for person, enrolment in newcomers
        if not listings.had(person.id, enrolment.enrolled_on)
    ]
    replacing = session.execute(
        sa.select(Person, KeyReplacement)
        .join(KeyReplacement)
        .where(sa.not_(_SUSPENDED))
        .order_by(Person.id)
    )
    listed_keys = at.directory.intake_keys()
    return found + [
        Waiting(person, None, replacement)
        for person, replacement in replacing
        if at.directory.person(person.id) is not None and replacement.intake_key not in listed_keys
    ]


class _Listings:
    """Tells who was listed since a day, reading which versions there were at most once."""

    def __init__(self, session: Session, at: Moment, cache: dict[str, Any]) -> None:
        self._session, self._at, self._cache = session, at, cache
        self._versions: list[tuple[int, date]] | None = None

    def had(self, person: str, day: date) -> bool:
        """Tell whether a version of a day or later, or today's, lists a person, or partner."""
        if _lists(self._at.directory, person):
            return True
        if self._versions is None:
            query = sa.select(DirectoryVersion.version, DirectoryVersion.published_on)
            self._versions = [
                (row.version, row.published_on) for row in self._session.execute(query)
            ]
        return any(
            _lists(directories.at(self._session, version, self._cache), person)
            for version, published_on in self._versions
            if published_on >= day
        )


def _lists(directory: Directory, person: str) -> bool:
    partners = {one["id"] for one in directory.document["partners"]}
    return directory.person(person) is not None or person in partners


def vet(
    session: Session,
    actor: Actor,
    at: Moment,
    person: str,
    action: object,
    body: Mapping[str, Any],
) -> None:
    """Record what vetting found: who vouched, until when it holds, and what routing must know."""
    require(actor, Permission.VET)
    row = _somebody_else(session, actor, at, person)
    first, second = (voucher.casefold() for voucher in body["vouchers"])
    if first == second or {first, second} & {actor.id, person}:
        raise Unprocessable(
            "Two different people vouch, and neither is the person or you.", slug="vouchers-invalid"
        )
    vetted_on, valid_until = (date.fromisoformat(body[day]) for day in ("vetted_on", "valid_until"))
    if not vetted_on <= at.today <= valid_until:
        raise Unprocessable("The days of the vetting do not fit today.", slug="vetting-days")
    if valid_until - vetted_on > VETTING:
        raise Unprocessable("A vetting holds for two years at most.", slug="vetting-days")
    _accept(session, actor, at, action, "vet", {"person": person, **body})
    row.vouchers = json.dumps(body["vouchers"], ensure_ascii=False)
    row.vetted_on, row.valid_until = vetted_on, valid_until
    row.languages = _codes(body["languages"])
    row.specialities = _codes(body["specialities"])
    _add_conflicts(row, body["conflicts"])


def _add_conflicts(row: Person, codes: Sequence[str]) -> None:
    """Add to what a person's row holds, which the caller has locked: none is ever taken away."""
    known = _codes([*row.conflicts.split(","), *codes])
    if known.count(",") >= MAX_CONFLICTS:
        raise Unprocessable("These are more codes than one person can have.", slug="too-many-codes")
    row.conflicts = known


def _codes(codes: Sequence[str]) -> str:
    return ",".join(sorted(set(filter(None, codes))))


def declare_conflicts(
    session: Session, actor: Actor, at: Moment, action: object, codes: Sequence[str]
) -> None:
    """Add places or people, by code, whose cases this person must not get; nobody asks for a reason."""
    require(actor, Permission.DECLARE_CONFLICT)
    row = _locked(session, at, actor.id)
    _accept(session, actor, at, action, "recuse", {"conflicts": list(codes)})
    _add_conflicts(row, codes)


def suspend(
    session: Session, actor: Actor, at: Moment, person: str, action: object, reason: str
) -> None:
    """Put a person out, at once: their sessions end, and the next request finds them suspended."""
    require(actor, Permission.SUSPEND)
    row = _somebody_else(session, actor, at, person)
    _accept(session, actor, at, action, "suspend", {"person": person, "reason": reason})
    session.add(
        Suspension(id=random_id(), person=row.id, by=actor.id, reason=reason, suspended_at=at.now)
    )
    try:
        session.flush()
    except IntegrityError:
        raise SuspendedAlready from None
    sign_out(session, row.id)


def reinstate(
    session: Session, actor: Actor, at: Moment, person: str, action: object, reason: str
) -> int:
    """Agree that a suspension ends; it does when a second administrator agreed. Returns how many did.

    Only those count who could agree today: not whoever was put out since.
    """
    require(actor, Permission.REINSTATE)
    row = _somebody_else(session, actor, at, person)
    query = sa.select(Suspension).where(Suspension.person == row.id, Suspension.lifted_at.is_(None))
    suspension = session.scalar(query.with_for_update())
    if suspension is None:
        raise NotSuspended
    _accept(session, actor, at, action, "reinstate", {"person": person, "reason": reason})
    consents = sa.select(Reinstatement.by).where(Reinstatement.suspension == suspension.id)
    agreed = set(session.scalars(consents))
    if actor.id not in agreed:
        session.add(Reinstatement(suspension=suspension.id, by=actor.id))
    counting = [
        one for one in agreed | {actor.id} if _may_still(session, at, one, Permission.REINSTATE)
    ]
    if len(counting) >= REINSTATING:
        suspension.lifted_at = at.now
    elif actor.id in agreed:
        raise ConsentGiven
    return len(counting)


def confirm(session: Session, actor: Actor, at: Moment, person: str, action: object) -> None:
    """Review a person's access: it goes on for another 90 days, also after a long absence."""
    require(actor, Permission.CONFIRM_ACCESS)
    row = _somebody_else(session, actor, at, person)
    _accept(session, actor, at, action, "confirm", {"person": person})
    row.confirmed_on = row.last_active_on = at.today


def replace_key(
    session: Session, actor: Actor, at: Moment, action: object, body: Mapping[str, str]
) -> None:
    """Ask the officers to list a new intake key; until they do, the old one stays.

    `body` is `{intake_key, intake_key_sig, replaces}`; it names the key that goes, so that a request can
    never be filed again once another key is listed. A key that was listed once is no new key, whoever's it was:
    what made it go may have been a thief.
    """
    require(actor, Permission.REPLACE_KEY)
    intake_key = body["intake_key"]
    recipient = verify_intake_key(actor.signing_key, {"id": actor.id, **body})
    if body["replaces"] != intake_key_of(at.directory, actor.id):
        raise KeyNotListed
    row = _locked(session, at, actor.id)
    held = sa.select(Person.id).where(Person.intake_key == intake_key_id(recipient))
    asked = sa.select(KeyReplacement.person).where(
        KeyReplacement.intake_key == intake_key, KeyReplacement.person != actor.id
    )
    if (
        directories.ever_listed(session, intake_key)
        or session.scalar(held) is not None
        or session.scalar(asked) is not None
    ):
        raise KeyKnown
    signed = _accept(session, actor, at, action, "replace-key", body)
    session.merge(
        KeyReplacement(
            person=row.id,
            intake_key=intake_key,
            intake_key_sig=body["intake_key_sig"],
            action=canonical(signed.document),
            asked_on=at.today,
        )
    )


@dataclass(frozen=True)
class Known:
    """A person as administrators and auditors see them. There is nothing here that opens anything."""

    id: str
    role: str
    roles: tuple[str, ...]
    desks: tuple[str, ...]
    listed: bool
    standing: str
    row: Person | None

    @property
    def due_on(self) -> date | None:
        return None if self.row is None else review_due_on(self.row.confirmed_on)


def people(session: Session, actor: Actor, at: Moment, cache: dict[str, Any]) -> list[Known]:
    """Return everybody who enrolled or is listed, and how they stand."""
    require(actor, Permission.SEE_PEOPLE)
    return _everybody(session, at, cache)


def _everybody(session: Session, at: Moment, cache: dict[str, Any]) -> list[Known]:
    query = sa.select(Person, _SUSPENDED, Enrolment.enrolled_on).outerjoin(Enrolment)
    rows = {row.id: (row, suspended, day) for row, suspended, day in session.execute(query)}
    listings = _Listings(session, at, cache)
    found = []
    for person in sorted({*rows, *at.directory.people}):
        row, is_suspended, enrolled_on = rows.get(person, (None, False, None))
        listed = at.directory.person(person)
        desks = sorted(listed.desks) if listed else _split(row.desks if row else "")
        roles = sorted(listed.roles) if listed else []
        stands: str = Standing.ACTIVE
        if row is not None:
            stands = standing(facts(row, is_suspended=is_suspended), at.today)
            if stands != Standing.SUSPENDED and not _lists(at.directory, person):
                is_new = enrolled_on is not None and not listings.had(person, enrolled_on)
                stands = PENDING if is_new else GONE
        found.append(
            Known(
                id=person,
                role=row.role if row else roles[0],
                roles=tuple(roles),
                desks=tuple(desks),
                listed=_lists(at.directory, person),
                standing=stands,
                row=row,
            )
        )
    return found


def _split(text: str) -> list[str]:
    return [one for one in text.split(",") if one]


@dataclass(frozen=True)
class AccessReview:
    """The listed people whose access ends within two weeks, or has ended, unless it is confirmed; and who can do that.

    `administrators` are those who may work today. Nobody confirms themselves, so one alone cannot stay.
    """

    due: list[Known]
    administrators: tuple[str, ...]


def access_review(
    session: Session, actor: Actor, at: Moment, cache: dict[str, Any]
) -> AccessReview:
    """Return whose access is to be reviewed."""
    known = people(session, actor, at, cache)
    return AccessReview(
        due=_due(known, at.today),
        administrators=tuple(
            one.id
            for one in known
            if one.listed and "administrator" in one.roles and one.standing == Standing.ACTIVE
        ),
    )


def reviews_due(session: Session, at: Moment, cache: dict[str, Any]) -> list[Known]:
    """Return whose access is to be reviewed, for the operator's own report."""
    return _due(_everybody(session, at, cache), at.today)


def _due(known: Iterable[Known], today: date) -> list[Known]:
    latest = today + timedelta(days=REVIEW_NOTICE_DAYS)
    return [one for one in known if one.listed and one.due_on is not None and one.due_on <= latest]


def vettings_ending(session: Session, at: Moment) -> list[str]:
    """Return the listed people whose vetting ends within two weeks, or has ended."""
    latest = at.today + timedelta(days=REVIEW_NOTICE_DAYS)
    query = sa.select(Person.id).where(Person.valid_until <= latest).order_by(Person.id)
    return [one for one in session.scalars(query) if at.directory.person(one) is not None]


def delete_invitations(session: Session, today: date) -> int:
    """Delete invitations that are over and that nobody used; who made them stays in the record. Returns how many."""
    over = sa.delete(Invitation).where(Invitation.expires_on < today, Invitation.used_by.is_(None))
    done = cast("sa.CursorResult[Any]", session.execute(over))
    return done.rowcount


@dataclass(frozen=True)
class DeskLoad:
    """A desk in numbers."""

    id: str
    names: Mapping[str, str]
    leads: tuple[str, ...]
    readers: int
    waiting: int
    in_review: int


def desks(session: Session, actor: Actor, at: Moment) -> list[DeskLoad]:
    """Return the desks and how much lies there; counts only."""
    require(actor, Permission.SEE_PEOPLE)
    query = sa.select(Testimony.desk, Testimony.state, sa.func.count()).group_by(
        Testimony.desk, Testimony.state
    )
    counts = {(desk, state): count for desk, state, count in session.execute(query)}
    return [
        DeskLoad(
            id=desk.id,
            names=desk.names,
            leads=desk.leads,
            readers=len(at.directory.readers_of(desk.id)),
            waiting=counts.get((desk.id, State.RECEIVED), 0),
            in_review=counts.get((desk.id, State.IN_REVIEW), 0),
        )
        for desk in at.directory.desks
    ]


def _is_suspended(session: Session, person: str) -> bool:
    query = sa.select(Suspension.id).where(
        Suspension.person == person, Suspension.lifted_at.is_(None)
    )
    return session.scalar(query) is not None


def _may_still(session: Session, at: Moment, person: str, permission: Permission) -> bool:
    """Tell whether somebody who did something before could do it now."""
    listed = at.directory.person(person)
    return (
        listed is not None
        and bool(listed.roles & PERMISSIONS[permission])
        and not _is_suspended(session, person)
    )


def _somebody_else(session: Session, actor: Actor, at: Moment, person: str) -> Person:
    """Return a person about whom somebody else decides, locked."""
    if person == actor.id:
        raise OnOneself
    try:
        check_id(person)
    except ProtocolError:
        raise NotFound from None
    return _locked(session, at, person)


def _locked(session: Session, at: Moment, person: str) -> Person:
    """Return a person's row, locked and as it is now, so that decisions come one by one and none undoes another."""
    if at.directory.person(person) is not None:
        person_row(session, at.directory, person)
    row = session.get(Person, person, with_for_update=True)
    if row is None:
        raise NotFound
    return row


def _accept(
    session: Session,
    actor: Actor,
    at: Moment,
    action: object,
    kind: str,
    body: Mapping[str, Any],
) -> Action:
    return accept(
        session,
        action,
        actor=actor,
        directory=at.directory,
        kind=kind,
        body=dict(body),
        now=at.now,
    )
