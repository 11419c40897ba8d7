# SPDX-License-Identifier: AGPL-3.0-or-later
"""A testimony leaves: asked for, judged by its witness's consent, approved by a second person, reported. Never commits."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from amana.access.actions import Act, ActionRefused
from amana.access.models import SignedAction
from amana.access.roles import Actor, Permission
from amana.access.service import require
from amana.custody.models import Event
from amana.errors import Conflict, NotAllowed, NotFound, Unprocessable
from amana.export.models import Export
from amana.export.stages import LEFT, Stage, after
from amana.intake.models import Testimony
from amana.intake.service import move, policy_chain, policy_versions
from amana.protocol.consent import covers
from amana.protocol.directory import Directory
from amana.protocol.encoding import b64, canonical, check_id, random_id
from amana.protocol.errors import BadSignature, ProtocolError
from amana.protocol.handover import parse_handover
from amana.protocol.policy import IDENTITY_LEVELS
from amana.protocol.release import leaving_level
from amana.routing.service import assigned_to, case_of
from amana.vault.service import Leaving, PartnerUnknown, check_leaves, signed_release

PAGE = 100
CUSTODY_PAGE = 200
WATCHING_CUSTODY = frozenset({"auditor"})
WITHOUT_IDENTITY = IDENTITY_LEVELS[0]


class IdentityNotExported(Unprocessable):
    slug = "export-identity"
    title = (
        "A bundle holds of the identity what its releases cover, asked for at the purpose's level."
    )


class CustodyNotCommitted(Unprocessable):
    slug = "export-custody"
    title = "Whoever approves signs for the events so far, and whoever refuses does not."


class ExportForbids(Conflict):
    slug = "export-state"
    title = "The export is not at the point where this can be done."


class OwnExport(NotAllowed):
    slug = "own-act"
    title = "Nobody approves an export that they asked for."


class HandoverRefused(Unprocessable):
    slug = "handover-refused"
    title = "This is not the partner's receipt for this export."


@dataclass(frozen=True)
class Asked:
    """What an export is for."""

    to: str
    purpose: str
    identity_level: str
    releases: tuple[tuple[str, str], ...] = ()
    """The vaults that are to leave with it, sorted, each with the release that allows it."""

    @property
    def body(self) -> dict[str, Any]:
        releases = [{"vault": vault, "request": release} for vault, release in self.releases]
        return {
            "to": self.to,
            "purpose": self.purpose,
            "identity_level": self.identity_level,
            "releases": releases,
        }


def request(session: Session, actor: Actor, case: str, act: Act, asked: Asked) -> Export:
    """Ask, signed, that an accepted case may go to a partner; refused unless its witness's consent covers it today."""
    require(actor, Permission.REQUEST_EXPORT)
    testimony = case_of(session, actor, case, lock=True)
    assigned_to(session, actor, testimony)
    judged = _judge(session, testimony, act.directory, asked, act.today, "export-request", actor.id)
    action = act.accept(session, actor, "export-request", case, asked.body)
    export = Export(
        id=random_id(),
        case=case,
        state=Stage.PENDING,
        partner=asked.to,
        purpose=asked.purpose,
        identity_level=asked.identity_level,
        releases=canonical(asked.body["releases"]).decode("ascii"),
        requested_by=actor.id,
        requested_on=act.today,
        request=action.nonce,
        evaluation=canonical([judged]),
    )
    session.add(export)
    session.flush()
    return export


def _judge(
    session: Session,
    testimony: Testimony,
    directory: Directory,
    asked: Asked,
    day: date,
    step: str,
    reader: str,
) -> dict[str, Any]:
    """Refuse what consent, and for a vault its release, does not cover on a day, and say how it was judged."""
    move(session, testimony, "export")
    vaults = [vault for vault, _ in asked.releases]
    level = leaving_level(asked.purpose) if vaults else WITHOUT_IDENTITY
    if asked.identity_level != level or vaults != sorted(set(vaults)):
        raise IdentityNotExported
    partner = directory.partner(asked.to)
    if partner is None:
        raise PartnerUnknown
    chain = policy_chain(session, testimony)
    covered = covers(chain, partner, asked.purpose, asked.identity_level, day)
    if not covered.allowed:
        raise NotAllowed(covered.title, slug=covered.reason)
    for name, release in asked.releases:
        leaving = Leaving(testimony.case, name, release, reader, asked.to, asked.purpose)
        check_leaves(session, leaving, directory, day)
    return {
        "step": step,
        "day": day.isoformat(),
        "directory": directory.version,
        "policies": [entry.policy.sha256 for entry in chain],
        "reason": covered.reason,
        "releases": asked.body["releases"],
    }


def decide(
    session: Session,
    actor: Actor,
    export_id: str,
    act: Act,
    *,
    decision: str,
    asked: Asked,
    request: str,
    custody: dict[str, Any] | None,
) -> Export:
    """Approve or refuse an export, by somebody who did not ask for it; consent is judged anew.

    `custody` is what the approver's client commits to, so that no bundle can leave those events out.
    """
    require(actor, Permission.APPROVE_EXPORT)
    if (custody is None) == (decision == "approve"):
        raise CustodyNotCommitted
    export, testimony = _locked(session, export_id)
    if export.requested_by == actor.id:
        raise OwnExport
    if (asked, request) != (_asked(export), export.request):
        # They signed for something else than what lies here.
        raise ActionRefused
    _move(export, decision)
    if decision == "approve":
        reader = export.requested_by
        judged = _judge(
            session, testimony, act.directory, asked, act.today, "export-approve", reader
        )
        export.evaluation = canonical([*json.loads(export.evaluation), judged])
    body = {
        "export": export_id,
        "decision": decision,
        "request": request,
        "custody": custody,
        **asked.body,
    }
    action = act.accept(session, actor, "export-approve", export.case, body)
    export.decided_by, export.decided_on, export.approval = actor.id, act.today, action.nonce
    return export


def served(
    session: Session, actor: Actor, export_id: str, directory: Directory, today: date
) -> Export:
    """Return an approved export of the actor's; asked at each step of assembling, so that a withdrawal ends it."""
    require(actor, Permission.REQUEST_EXPORT)
    export = _own(session, actor, export_id)
    testimony = case_of(session, actor, export.case)
    assigned_to(session, actor, testimony)
    if export.state != Stage.APPROVED:
        raise ExportForbids
    _judge(session, testimony, directory, _asked(export), today, "assemble", actor.id)
    return export


def complete(
    session: Session,
    actor: Actor,
    export_id: str,
    act: Act,
    *,
    bag_sha256: str,
    sealed_sha256: str,
    size: int,
) -> Export:
    """Report the bundle that was made, signed; without it the client keeps none. Consent is judged once more."""
    require(actor, Permission.REQUEST_EXPORT)
    export, testimony = _locked(session, export_id)
    if export.requested_by != actor.id:
        raise NotFound
    assigned_to(session, actor, testimony)
    _move(export, "complete")
    asked = _asked(export)
    _judge(session, testimony, act.directory, asked, act.today, "export-complete", actor.id)
    body = {
        "export": export_id,
        "bag_sha256": bag_sha256,
        "sealed_sha256": sealed_sha256,
        "size": size,
    }
    act.accept(session, actor, "export-complete", export.case, body)
    export.bag_sha256, export.sealed_sha256, export.size = bag_sha256, sealed_sha256, size
    export.exported_on = act.today
    return export


def file_receipt(
    session: Session, actor: Actor, export_id: str, act: Act, document: dict[str, Any]
) -> Export:
    """Keep what the partner signed on receipt; also when the testimony was withdrawn meanwhile, as it did leave."""
    require(actor, Permission.REQUEST_EXPORT)
    export, _ = _locked(session, export_id)
    if export.requested_by != actor.id:
        raise NotFound
    _move(export, "receipt")
    signed = parse_handover(document)
    partner = act.directory.person(export.partner)
    facts = (signed.deployment, signed.case, signed.export, signed.partner)
    hashes = (signed.sealed_sha256, signed.bag_sha256)
    if (
        partner is None
        or facts != (act.directory.deployment, export.case, export.id, export.partner)
        or hashes != (export.sealed_sha256, export.bag_sha256)
    ):
        raise HandoverRefused
    try:
        signed.verify(partner.signing_key)
    except BadSignature:
        raise HandoverRefused from None
    body = {"export": export_id, "receipt": document}
    act.accept(session, actor, "export-receipt", export.case, body)
    export.receipt, export.received_on = canonical(document), act.today
    return export


def _move(export: Export, step: str) -> None:
    following = after(export.state, step)
    if following is None:
        raise ExportForbids
    export.state = following


def _asked(export: Export) -> Asked:
    releases = tuple((one["vault"], one["request"]) for one in json.loads(export.releases))
    return Asked(export.partner, export.purpose, export.identity_level, releases)


def _locked(session: Session, export_id: str) -> tuple[Export, Testimony]:
    """Return an export and its case, locked in the order in which a withdrawal locks them."""
    found = _find(session, export_id)
    testimony = session.get(Testimony, found.case, with_for_update=True, populate_existing=True)
    session.refresh(found, with_for_update=True)
    if testimony is None:
        raise NotFound
    return found, testimony


def _own(session: Session, actor: Actor, export_id: str) -> Export:
    found = _find(session, export_id)
    if found.requested_by != actor.id:
        raise NotFound
    return found


def _find(session: Session, export_id: str) -> Export:
    found = session.get(Export, _id(export_id))
    if found is None:
        raise NotFound
    return found


def _id(text: str) -> str:
    """Refuse what can be no id: PostgreSQL takes no NUL in a text, not even to look for it."""
    try:
        return check_id(text)
    except ProtocolError:
        raise NotFound from None


# What is told of exports


@dataclass(frozen=True)
class Told:
    """An export with what was signed about it; policies and leaves only where somebody must judge it."""

    export: Export
    request: dict[str, Any] | None
    approval: dict[str, Any] | None
    policies: Sequence[dict[str, Any]]
    leaves: Sequence[str]
    released: dict[str, dict[str, Any] | None]
    """What was signed about the release of each vault that is to leave with it."""


def listed(session: Session, actor: Actor, *, state: str | None, case: str | None) -> list[Told]:
    """Return the newest exports: to those who watch, all; to a reader, what they asked for."""
    require(actor, Permission.SEE_EXPORTS)
    query = sa.select(Export).order_by(Export.requested_on.desc(), Export.id.desc()).limit(PAGE)
    if not actor.may(Permission.WATCH_EXPORTS):
        query = query.where(Export.requested_by == actor.id)
    if state is not None:
        query = query.where(Export.state == state)
    if case is not None:
        query = query.where(Export.case == _id(case))
    return [_told(session, one) for one in session.scalars(query)]


def _told(session: Session, export: Export) -> Told:
    testimony = session.get(Testimony, export.case)
    is_open = export.state in (Stage.PENDING, Stage.APPROVED) and testimony is not None
    return Told(
        export=export,
        request=_signed(session, export.request),
        approval=_signed(session, export.approval),
        policies=_policies(session, testimony) if testimony and is_open else (),
        leaves=_leaves(session, export.case) if is_open else (),
        released={
            vault: signed_release(session, request)
            for vault, request in _asked(export).releases
            if is_open
        },
    )


def _policies(session: Session, testimony: Testimony) -> list[dict[str, Any]]:
    versions = policy_versions(session, testimony)
    return [{"policy": b64(policy), "received_on": day} for policy, day in versions]


def _leaves(session: Session, case: str) -> list[str]:
    query = sa.select(Event.leaf).where(Event.case == case).order_by(Event.leaf)
    return [one.hex() for one in session.scalars(query)]


def _signed(session: Session, nonce: str | None) -> dict[str, Any] | None:
    """Return a signed action with its body, which is gone once the case was destroyed."""
    found = None if nonce is None else session.get(SignedAction, nonce)
    if found is None:
        return None
    return {
        "action": json.loads(found.document),
        "body": json.loads(found.body) if found.body else None,
    }


def told_to_witness(session: Session, case: str) -> list[dict[str, Any]]:
    """Return to whom a testimony was to go or went, for its witness."""
    # Columns one by one: the public surface's database role may see no others.
    told = (Export.partner, Export.purpose, Export.identity_level, Export.state)
    query = (
        sa.select(*told, Export.requested_on, Export.exported_on)
        .where(Export.case == case, Export.state != Stage.REFUSED)
        .order_by(Export.requested_on, Export.id)
    )
    return [
        {
            "to": one.partner,
            "purpose": one.purpose,
            "identity_level": one.identity_level,
            "state": one.state,
            "requested_on": one.requested_on,
            "exported_on": one.exported_on if one.state in LEFT else None,
        }
        for one in session.execute(query)
    ]


def end_unfinished(session: Session, case: str) -> None:
    """End what has not left yet: its witness withdrew."""
    session.execute(
        sa.update(Export)
        .where(Export.case == case, Export.state.in_((Stage.PENDING, Stage.APPROVED)))
        .values(state=Stage.ENDED)
    )


# Custody of a case


def custody_of(
    session: Session, actor: Actor, case: str, after_leaf: str | None
) -> list[dict[str, Any]]:
    """Return a page of the events of a case with their keys: to whoever works on it, and to those who watch."""
    require(actor, Permission.SEE_CUSTODY)
    if not actor.roles & WATCHING_CUSTODY:
        testimony = case_of(session, actor, case)
        assigned_to(session, actor, testimony)
    query = sa.select(Event).where(Event.case == _id(case)).order_by(Event.leaf)
    if after_leaf is not None:
        query = query.where(Event.leaf > bytes.fromhex(after_leaf))
    found = session.scalars(query.limit(CUSTODY_PAGE)).all()
    if not found and after_leaf is None:
        raise NotFound
    return [{"leaf": one.leaf.hex(), "event": b64(one.event), "key": b64(one.key)} for one in found]
