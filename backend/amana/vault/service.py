# SPDX-License-Identifier: AGPL-3.0-or-later
"""A reader asks for a vault, custodians answer, the reader opens it, its time ends. Never commits, never imports Flask."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from amana.access.actions import Act
from amana.access.models import Person, SignedAction
from amana.access.roles import Actor, Permission
from amana.access.service import actor_of, facts_of, intake_key_of, require
from amana.access.standing import Standing, standing
from amana.custody import service as custody
from amana.errors import (
    CaseWithdrawn,
    Conflict,
    Gone,
    NotAllowed,
    NotFound,
    NotSignedIn,
    Unprocessable,
)
from amana.intake.models import Share, State, Testimony, UploadedObject, Vault
from amana.intake.service import joined, policy_chain, policy_versions, split_ids
from amana.protocol.case import intake_key_id
from amana.protocol.directory import Directory
from amana.protocol.encoding import b64, check_id, sha256_hex
from amana.protocol.errors import NotSealed, ProtocolError
from amana.protocol.manifest import MAX_OBJECTS
from amana.protocol.release import REASON_SIZE, Request, may_release, parse_request
from amana.protocol.sealing import Kind, check_sealed
from amana.protocol.vault import SHARE_SIZE, Subset
from amana.review.service import Stored, signed_lately
from amana.routing.service import NotAssigned, assigned_to, case_of, reader_facts
from amana.vault.models import Release, ReleaseAnswer, ReleasedShare, SharePiece

MAX_REQUESTS = 100
"""Of one case, over all its time."""
SHARED, DECLINED = "shared", "declined"


class VaultMissing(Unprocessable):
    slug = "vault-missing"
    title = "The witness put nothing of this kind into the vault."


class PartnerUnknown(Unprocessable):
    slug = "partner-unknown"
    title = "The officers' directory lists no such partner."


class ReleaseMissing(NotAllowed):
    slug = "release-missing"
    title = "The custodians have released this to you for no such export, or not enough of them."


class CustodiansDiffer(Unprocessable):
    slug = "custodians-differ"
    title = (
        "The request is not sealed to the custodians who can answer it now, or too few are left."
    )


class RequestKnown(Conflict):
    slug = "request-known"
    title = "This request was received before."


class ReleaseOver(Gone):
    slug = "release-over"
    title = "The time of this request is over, or it was ended."


class OwnRequest(NotAllowed):
    slug = "own-request"
    title = "Nobody answers their own request."


class AnsweredAlready(Conflict):
    slug = "answered-already"
    title = "You answered this request, or enough others did."


class ReaderGone(Conflict):
    slug = "reader-gone"
    title = "The reader who asked does not have the case any more, or may not work."


class SharesMissing(Conflict):
    slug = "shares-missing"
    title = "Not enough custodians have answered yet."


class SharesDiffer(Unprocessable):
    slug = "shares-differ"
    title = "The shares are not those that were to be sealed."


# A reader asks


def request(session: Session, actor: Actor, case: str, act: Act, body: dict[str, Any]) -> Release:
    """Take a reader's signed request for a vault of a case that they have, if its witness's consent covers it."""
    require(actor, Permission.REQUEST_RELEASE)
    testimony = case_of(session, actor, case, lock=True)
    assigned_to(session, actor, testimony)
    asked = parse_request(body)
    if session.get(Release, asked.request) is not None:
        raise RequestKnown
    vault = session.get(Vault, (case, asked.vault))
    if vault is None:
        raise VaultMissing
    _check_consent(session, testimony, asked.purpose, act.today, act.directory, asked.to)
    _check_addressees(asked, vault, act.directory, actor.id)
    action = act.accept(session, actor, "release-request", case, body)
    _end_earlier(session, case, asked.vault, actor.id, act.today)
    found = Release(
        request=asked.request,
        case=case,
        vault=asked.vault,
        reader=actor.id,
        intake_key=asked.intake_key,
        purpose=asked.purpose,
        partner=asked.to,
        action=action.nonce,
        requested_on=act.today,
        expires_on=act.today + timedelta(days=asked.days),
    )
    session.add(found)
    session.flush()
    return found


def _check_consent(
    session: Session,
    testimony: Testimony,
    purpose: str,
    today: date,
    directory: Directory,
    to: str | None,
) -> None:
    partner = None if to is None else directory.partner(to)
    if to is not None and partner is None:
        raise PartnerUnknown
    covered = may_release(policy_chain(session, testimony), purpose, today, partner)
    if not covered.allowed:
        raise NotAllowed(covered.title, slug=covered.reason)


def answering(vault: Vault, directory: Directory, reader: str) -> dict[str, str]:
    """Return who can answer a reader's request now, each with the short name of the intake key that is listed for them.

    The reader who asks is never among them, and no set that they are in counts.
    """
    listed = directory.custodians.members
    holders = split_ids(vault.custodians)
    return {one: intake_key_id(listed[one]) for one in holders if one in listed and one != reader}


def _check_addressees(asked: Request, vault: Vault, directory: Directory, reader: str) -> None:
    able = answering(vault, directory, reader)
    if len(able) < vault.k or {one.custodian: one.intake_key for one in asked.reasons} != able:
        raise CustodiansDiffer
    if asked.intake_key != intake_key_of(directory, reader):
        raise Unprocessable("The key is not the one that is listed for you.", slug="key-not-listed")


def _end_earlier(session: Session, case: str, vault: str, reader: str, today: date) -> None:
    """End what the same reader asked before, so that a request that cannot succeed any more is in nobody's way."""
    rows = session.scalars(sa.select(Release).where(Release.case == case)).all()
    if len(rows) >= MAX_REQUESTS:
        raise Conflict("Too much was asked about this case.", slug="requests-limit")
    for one in rows:
        if one.ended_on is None and (one.vault, one.reader) == (vault, reader):
            _end(session, one, "expired" if one.expires_on < today else "replaced", today)
    session.flush()


def requests_of(session: Session, actor: Actor, case: str, today: date) -> list[dict[str, Any]]:
    """Return a reader's own requests about a case and what was answered to them, the newest first."""
    require(actor, Permission.REQUEST_RELEASE)
    case_of(session, actor, case)
    query = sa.select(Release).where(Release.case == case, Release.reader == actor.id)
    found = session.scalars(query.order_by(Release.requested_on.desc(), Release.request)).all()
    return [_seen_by_reader(session, one, today) for one in found]


def vaults_of(
    session: Session, actor: Actor, case: str, directory: Directory
) -> list[dict[str, Any]]:
    """Return the vaults of a case, and which custodians would answer the actor's request."""
    require(actor, Permission.REQUEST_RELEASE)
    case_of(session, actor, case)
    query = sa.select(Vault).where(Vault.case == case).order_by(Vault.vault)
    return [
        {
            "vault": one.vault,
            "k": one.k,
            "custodians": sorted(answering(one, directory, actor.id)),
        }
        for one in session.scalars(query)
    ]


def _seen_by_reader(session: Session, release: Release, today: date) -> dict[str, Any]:
    vault = session.get(Vault, (release.case, release.vault))
    return {
        "request": release.request,
        "vault": release.vault,
        "purpose": release.purpose,
        "to": release.partner,
        "requested_on": release.requested_on,
        "expires_on": release.expires_on,
        "released_on": release.released_on,
        "opened_on": release.opened_on,
        "ended_because": _ended_because(release, today),
        "k": 0 if vault is None else vault.k,
        "answers": [
            {
                "custodian": one.custodian,
                "answer": one.answer,
                "answered_on": one.answered_on,
                "reason": None if one.reason is None else b64(one.reason),
            }
            for one in _answers(session, release)
        ],
    }


def _answers(session: Session, release: Release) -> Sequence[ReleaseAnswer]:
    query = sa.select(ReleaseAnswer).where(ReleaseAnswer.request == release.request)
    return session.scalars(query.order_by(ReleaseAnswer.custodian)).all()


def _ended_because(release: Release, today: date) -> str | None:
    """Tell why a request is over; its day counts also before maintenance noticed it."""
    if release.ended_because is None and release.expires_on < today:
        return "expired"
    return release.ended_because


# Custodians answer


@dataclass(frozen=True)
class Asked:
    """A request that somebody can answer, with all that they need to judge it for themselves."""

    release: Release
    vault: Vault
    testimony: Testimony
    able: dict[str, str]
    shared: frozenset[str]
    """Who shared already and still counts."""


def pending(session: Session, actor: Actor, directory: Directory, today: date) -> list[Release]:
    """Return the requests that a custodian can answer now, the oldest first."""
    require(actor, Permission.ANSWER_RELEASE)
    answered = sa.exists().where(
        ReleaseAnswer.request == Release.request, ReleaseAnswer.custodian == actor.id
    )
    query = (
        sa.select(Release)
        .join(Vault, sa.and_(Vault.case == Release.case, Vault.vault == Release.vault))
        .where(Release.ended_on.is_(None), Release.expires_on >= today, ~answered)
        .where(Release.reader != actor.id, Vault.custodians.contains(actor.id))
        .order_by(Release.requested_on, Release.request)
        .limit(MAX_REQUESTS)
    )
    if actor.id not in directory.custodians.members:
        return []
    rows = session.scalars(query).all()
    return [one for one in rows if not _is_enough(session, one, directory, today)]


def _is_enough(session: Session, release: Release, directory: Directory, today: date) -> bool:
    vault = session.get(Vault, (release.case, release.vault))
    return vault is None or len(_counting(session, release, vault, directory, today)) >= vault.k


def _counting(
    session: Session, release: Release, vault: Vault, directory: Directory, today: date
) -> frozenset[str]:
    """Return the custodians whose answer counts: they shared, are still listed, and stand as they must."""
    able = answering(vault, directory, release.reader)
    return frozenset(
        one.custodian
        for one in _answers(session, release)
        if one.answer == SHARED and one.custodian in able and _stands(session, one.custodian, today)
    )


def _stands(session: Session, person: str, today: date) -> bool:
    row = session.get(Person, person)
    return row is not None and standing(facts_of(session, row), today) is Standing.ACTIVE


def asked(
    session: Session,
    actor: Actor,
    request: str,
    directory: Directory,
    today: date,
    *,
    lock: bool = False,
) -> Asked:
    """Return a request that the actor can answer; refuses with the reason why they cannot."""
    require(actor, Permission.ANSWER_RELEASE)
    release = _release(session, request)
    # The case first, as a withdrawal does, so that neither waits for the other.
    testimony = session.get(Testimony, release.case, with_for_update=lock or None)
    if lock:
        session.refresh(release, with_for_update=True)
    vault = session.get(Vault, (release.case, release.vault))
    if testimony is None or actor.id not in directory.custodians.members:
        raise NotFound
    if release.reader == actor.id:
        raise OwnRequest
    if testimony.state == State.WITHDRAWN or vault is None:
        raise CaseWithdrawn
    able = answering(vault, directory, release.reader)
    if actor.id not in able:
        raise NotFound
    if _ended_because(release, today) is not None:
        raise ReleaseOver
    shared = _counting(session, release, vault, directory, today)
    if len(shared) >= vault.k or any(
        one.custodian == actor.id for one in _answers(session, release)
    ):
        raise AnsweredAlready
    _check_consent(session, testimony, release.purpose, today, directory, release.partner)
    _check_reader(session, release, testimony, directory, today)
    return Asked(release, vault, testimony, able, shared)


def _release(session: Session, request: str) -> Release:
    try:
        found = session.get(Release, check_id(request))
    except ProtocolError:
        raise NotFound from None
    if found is None:
        raise NotFound
    return found


def _check_reader(
    session: Session, release: Release, testimony: Testimony, directory: Directory, today: date
) -> None:
    """Refuse to hand shares to somebody who may not work, has lost the case, or has another key by now."""
    facts = reader_facts(session, directory, today).get(release.reader)
    if facts is None or not facts.works:
        raise ReaderGone
    try:
        assigned_to(session, actor_of(directory, release.reader), testimony)
    except (NotAssigned, NotSignedIn):
        raise ReaderGone from None
    if intake_key_of(directory, release.reader) != release.intake_key:
        raise ReaderGone(
            "The reader's key was replaced since; they must ask again.", slug="reader-key-replaced"
        )


def evidence(session: Session, seen: Asked) -> dict[str, Any]:
    """Return what a custodian's program verifies: the signed request, the witness's policies, the receipt."""
    action = session.get(SignedAction, seen.release.action)
    assert action is not None  # noqa: S101
    testimony = seen.testimony
    return {
        "request": seen.release.request,
        "case": seen.release.case,
        "requested_on": seen.release.requested_on,
        "expires_on": seen.release.expires_on,
        "k": seen.vault.k,
        "custodians": list(split_ids(seen.vault.custodians)),
        "shared": len(seen.shared),
        "action": json.loads(action.document),
        "body": json.loads(action.body or b"{}"),
        "policies": [
            {"policy": b64(policy), "received_on": day}
            for policy, day in policy_versions(session, testimony)
        ],
        "receipt": json.loads(testimony.receipt or "{}"),
    }


def announce_share(session: Session, actor: Actor, request: str, act: Act) -> list[dict[str, Any]]:
    """Give a custodian the shares that they are to seal to the reader; that they took them is recorded."""
    seen = asked(session, actor, request, act.directory, act.today, lock=True)
    act.accept(session, actor, "release-share", seen.release.case, {"request": request})
    wanted = frozenset(_subsets_to_release(session, seen, actor.id))
    return own_shares(session, seen.release.case, seen.release.vault, actor.id, wanted)


def _subsets_to_release(session: Session, seen: Asked, custodian: str) -> list[Subset]:
    """Return the sets of a custodian all of whose members can answer: never one with the reader in it."""
    query = (
        sa.select(Share.subset)
        .where(Share.case == seen.release.case, Share.vault == seen.release.vault)
        .where(Share.custodian == custodian)
        .distinct()
    )
    found = map(split_ids, session.scalars(query))
    return sorted(one for one in found if all(member in seen.able for member in one))


def own_shares(
    session: Session, case: str, vault: str, custodian: str, wanted: frozenset[Subset]
) -> list[dict[str, Any]]:
    """Return a custodian's sealed shares of the sets `wanted`; one that was shared anew consists of several pieces."""
    query = sa.select(Share).where(
        Share.case == case, Share.vault == vault, Share.custodian == custodian
    )
    rows = session.scalars(query.order_by(Share.subset, Share.maker)).all()
    return [
        {
            "subset": list(split_ids(one.subset)),
            "maker": one.maker,
            "intake_key": one.intake_key,
            "sealed": b64(one.sealed),
        }
        for one in rows
        if split_ids(one.subset) in wanted
    ]


@dataclass(frozen=True)
class Given:
    """A share that a custodian sealed to the reader."""

    subset: Subset
    sealed: bytes


def share(
    session: Session, actor: Actor, request: str, act: Act, given: Sequence[Given]
) -> Release:
    """Keep what a custodian sealed to the reader: a share for each of their sets, once.

    What is signed names the hashes, so that nothing is left of the shares when they are deleted.
    """
    seen = asked(session, actor, request, act.directory, act.today, lock=True)
    release = seen.release
    subsets = [one.subset for one in given]
    if not subsets or subsets != _subsets_to_release(session, seen, actor.id):
        raise SharesDiffer
    for one in given:
        check_share(one.sealed)
    hashes = [{"subset": list(one.subset), "sha256": sha256_hex(one.sealed)} for one in given]
    body = {"request": request, "shares": hashes}
    act.accept(session, actor, "release-share", release.case, body)
    _answer(session, seen, actor.id, SHARED, act.today)
    for one in given:
        session.add(
            ReleasedShare(
                request=request,
                custodian=actor.id,
                subset=joined(one.subset),
                case=release.case,
                sealed=one.sealed,
            )
        )
    session.flush()
    if release.released_on is None and len(seen.shared | {actor.id}) >= seen.vault.k:
        release.released_on = act.today
    return release


def check_share(sealed: bytes) -> None:
    """Refuse what has not the form of a sealed share."""
    if len(sealed) != SHARE_SIZE:
        raise NotSealed("shares-size", f"A share has {SHARE_SIZE} bytes.")
    check_sealed(Kind.SHARE, sealed, len(sealed))


def decline(session: Session, actor: Actor, request: str, act: Act, reason: bytes) -> Release:
    """Note that a custodian declines, with a reason sealed to the reader; when too few are left, the request is over."""
    seen = asked(session, actor, request, act.directory, act.today, lock=True)
    if len(reason) != REASON_SIZE:
        raise NotSealed("reason-size", f"A reason has {REASON_SIZE} bytes.")
    check_sealed(Kind.REASON, reason, len(reason))
    body = {"request": request, "reason": b64(reason)}
    act.accept(session, actor, "release-decline", seen.release.case, body)
    _answer(session, seen, actor.id, DECLINED, act.today, reason)
    declined = [one for one in _answers(session, seen.release) if one.answer == DECLINED]
    if len(seen.able) - len(declined) < seen.vault.k:
        _end(session, seen.release, DECLINED, act.today)
    return seen.release


def _answer(
    session: Session,
    seen: Asked,
    custodian: str,
    answer: str,
    today: date,
    reason: bytes | None = None,
) -> None:
    row = ReleaseAnswer(
        request=seen.release.request,
        custodian=custodian,
        case=seen.release.case,
        answer=answer,
        answered_on=today,
        reason=reason,
    )
    try:
        with session.begin_nested():
            session.add(row)
    except IntegrityError:
        raise AnsweredAlready from None


# The reader opens


def mine(
    session: Session,
    actor: Actor,
    request: str,
    directory: Directory,
    today: date,
    *,
    lock: bool = False,
) -> Asked:
    """Return a reader's own request that works today: the case is theirs, consent covers it, enough custodians count."""
    require(actor, Permission.OPEN_RELEASE)
    release = _release(session, request)
    if release.reader != actor.id:
        raise NotFound
    testimony = case_of(session, actor, release.case, lock=lock)
    assigned_to(session, actor, testimony)
    if lock:
        session.refresh(release, with_for_update=True)
    vault = session.get(Vault, (release.case, release.vault))
    if vault is None or _ended_because(release, today) is not None:
        raise ReleaseOver
    _check_consent(session, testimony, release.purpose, today, directory, release.partner)
    counting = _counting(session, release, vault, directory, today)
    if len(counting) < vault.k:
        raise SharesMissing(have=len(counting), need=vault.k)
    able = answering(vault, directory, actor.id)
    return Asked(release, vault, testimony, able, counting)


def open_release(session: Session, actor: Actor, request: str, act: Act) -> list[dict[str, Any]]:
    """Give the reader what custodians sealed to them, set by set; that they took it is recorded, and told to the witness."""
    seen = mine(session, actor, request, act.directory, act.today, lock=True)
    act.accept(session, actor, "release-open", seen.release.case, {"request": request})
    seen.release.opened_on = seen.release.opened_on or act.today
    query = sa.select(ReleasedShare).where(ReleasedShare.request == request)
    rows = session.scalars(query.order_by(ReleasedShare.subset, ReleasedShare.custodian)).all()
    return [
        {
            "subset": list(split_ids(one.subset)),
            "custodian": one.custodian,
            "sealed": b64(one.sealed),
        }
        for one in rows
        if seen.shared.issuperset(split_ids(one.subset))
    ]


def released_object(
    session: Session, actor: Actor, request: str, n: int, directory: Directory, now: datetime
) -> Stored:
    """Return where an object of a vault is, for the reader who opened its release within the last hours."""
    seen = mine(session, actor, request, directory, now.date())
    signed_lately(session, actor, seen.release.case, now, ("release-open",))
    key = (seen.release.case, n)
    upload = session.get(UploadedObject, key) if n < MAX_OBJECTS else None
    if upload is None or upload.vault != seen.release.vault:
        raise NotFound
    return Stored(upload.size, upload.sealed_sha256, None, f"{seen.release.case}/{n}")


# It leaves in an export


@dataclass(frozen=True)
class Leaving:
    """What an export says of a vault that is to leave with it."""

    case: str
    vault: str
    request: str
    reader: str
    partner: str
    purpose: str


def check_leaves(session: Session, leaving: Leaving, directory: Directory, today: date) -> None:
    """Refuse to let a vault leave unless k custodians released it to this reader for this partner and purpose, today."""
    release = session.get(Release, leaving.request)
    fits = release is not None and leaving == Leaving(
        case=release.case,
        vault=release.vault,
        request=release.request,
        reader=release.reader,
        partner=release.partner or "",
        purpose=release.purpose,
    )
    if release is None or not fits:
        raise ReleaseMissing
    vault = session.get(Vault, (release.case, release.vault))
    if vault is None or _ended_because(release, today) is not None:
        raise ReleaseOver
    if len(_counting(session, release, vault, directory, today)) < vault.k:
        raise ReleaseMissing


def signed_release(session: Session, request: str) -> dict[str, Any] | None:
    """Return what a reader and custodians signed about a release; None once the case was destroyed."""
    release = session.get(Release, request)
    asked = None if release is None else session.get(SignedAction, release.action)
    if release is None or asked is None or asked.body is None:
        return None
    query = sa.select(SignedAction).where(
        SignedAction.case == release.case, SignedAction.action == "release-share"
    )
    answers = session.scalars(query.order_by(SignedAction.accepted_at, SignedAction.nonce))
    bodies = [(one, json.loads(one.body or b"{}")) for one in answers]
    return {
        "request": {"action": json.loads(asked.document), "body": json.loads(asked.body)},
        "shares": [
            {"action": json.loads(one.document), "body": body}
            for one, body in bodies
            if body.get("request") == request and "shares" in body
        ],
    }


# Its time ends


def end_expired(session: Session, today: date) -> int:
    """End the requests whose time is over and delete what custodians sealed for them; returns how many."""
    query = sa.select(Release).where(Release.ended_on.is_(None), Release.expires_on < today)
    rows = session.scalars(query.with_for_update(skip_locked=True)).all()
    for one in rows:
        _end(session, one, "expired", today)
    return len(rows)


def end_open(
    session: Session, case: str, today: date, because: str, *, vault: str | None = None
) -> None:
    """End every open request about a case, or one vault of it; what ended must be asked for again."""
    query = sa.select(Release).where(Release.case == case, Release.ended_on.is_(None))
    if vault is not None:
        query = query.where(Release.vault == vault)
    for one in session.scalars(query.with_for_update()):
        _end(session, one, because, today)


def _end(session: Session, release: Release, because: str, today: date) -> None:
    release.ended_on, release.ended_because = today, because
    session.execute(sa.delete(ReleasedShare).where(ReleasedShare.request == release.request))
    event = {
        "v": 1,
        "kind": "release-ended",
        "case": release.case,
        "request": release.request,
        "because": because,
        "ended_on": today.isoformat(),
    }
    custody.record(session, event)


def forget(session: Session, case: str) -> None:
    """Delete every share of a case and what was answered about it; that a release was, and for what, stays."""
    for table in (ReleasedShare, ReleaseAnswer, SharePiece, Share, Vault):
        session.execute(sa.delete(table).where(table.case == case))


def told(session: Session, case: str) -> list[dict[str, Any]]:
    """Return what a witness may know of releases: of which vault, for what, to whom, on which days."""
    query = sa.select(
        Release.vault,
        Release.purpose,
        Release.partner.label("to"),
        Release.reader,
        Release.released_on,
        Release.opened_on,
        Release.expires_on,
    ).where(Release.case == case, Release.released_on.is_not(None))
    rows = session.execute(query.order_by(Release.released_on, Release.request))
    return [dict(row._mapping) for row in rows]
