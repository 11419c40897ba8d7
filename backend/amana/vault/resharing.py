# SPDX-License-Identifier: AGPL-3.0-or-later
"""Custodians come and go: those of an old set make the shares of new ones, and nobody holds a key. Never commits."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from amana.access.actions import Act
from amana.access.roles import Actor, Permission
from amana.access.service import require
from amana.custody import service as custody
from amana.errors import CaseWithdrawn, Conflict, NotFound, Unprocessable
from amana.intake.models import Share, State, Testimony, Vault
from amana.intake.service import joined, split_ids
from amana.protocol.case import intake_key_id
from amana.protocol.directory import Custodians, Directory
from amana.protocol.encoding import check_id, sha256_hex
from amana.protocol.errors import ProtocolError
from amana.protocol.vault import MIN_K, Resharing, Subset, resharing
from amana.vault.models import SharePiece
from amana.vault.service import SharesDiffer, check_share, end_open, own_shares

PAGE_LIMIT = 100


class NothingToShare(Conflict):
    slug = "nothing-to-share"
    title = "The custodians of this vault, and their keys, are those of the directory."


class SourceUnknown(Unprocessable):
    slug = "source-unknown"
    title = "The custodians who are to share anew are not one set of those who are left."


@dataclass(frozen=True)
class Work:
    """A vault whose custodians or keys are others than the directory's, and what one of those who are left has to do."""

    case: str
    vault: str
    k: int
    sets: tuple[Subset, ...]
    """The sets that have shares."""
    stale: tuple[Subset, ...]
    """Those of them in which a share is sealed to a key that was replaced."""
    done: tuple[Subset, ...]
    """The sources for which the one who asks has made pieces that count."""


def waiting(session: Session, actor: Actor, directory: Directory, after: str) -> list[Work]:
    """Return the vaults that have to be shared anew and of which the actor holds shares; a page, in the order of cases."""
    require(actor, Permission.SHARE_ANEW)
    there = directory.custodians
    if there.k < MIN_K or actor.id not in there.members:
        return []
    query = (
        _outdated(there)
        .where(Vault.case > after, Vault.custodians.contains(actor.id))
        .order_by(Vault.case, Vault.vault)
        .limit(PAGE_LIMIT + 1)
    )
    rows = session.scalars(query).all()
    if len(rows) > PAGE_LIMIT:
        # Both vaults of a case stand on one page, since the next one begins after the case.
        rows = [one for one in rows if one.case != rows[-1].case]
    return [_work(session, one, actor, there) for one in rows]


def _outdated(there: Custodians) -> sa.Select[Vault]:
    """Return the query of vaults whose custodians, or their keys, are others than the directory's."""
    under_former_key = sa.exists().where(
        Share.case == Vault.case,
        Share.vault == Vault.vault,
        Share.intake_key.not_in(list(_names(there).values())),
    )
    changed = Vault.custodians != joined(sorted(there.members))
    return (
        sa.select(Vault)
        .join(Testimony, Testimony.case == Vault.case)
        .where(sa.or_(changed, Vault.k != there.k, under_former_key))
        .where(Testimony.received_on.is_not(None), Testimony.state != State.WITHDRAWN)
    )


def _names(there: Custodians) -> dict[str, str]:
    """Return the short name of each custodian's key of today."""
    return {one: intake_key_id(key) for one, key in there.members.items()}


def outdated(session: Session, directory: Directory) -> int:
    """Count the vaults that wait to be shared anew."""
    there = directory.custodians
    if there.k < MIN_K:
        return 0
    counted = sa.select(sa.func.count()).select_from(_outdated(there).subquery())
    return session.scalar(counted) or 0


def _work(session: Session, vault: Vault, actor: Actor, there: Custodians) -> Work:
    sets, stale = _sets(session, vault, there)
    plan = resharing(sets, list(there.members), there.k, stale)
    done = [
        source
        for source in plan.sources
        if actor.id in source and not _lacking(session, vault, source, [actor.id], plan, there)
    ]
    done = done if plan.missing else []
    return Work(vault.case, vault.vault, vault.k, sets, stale, tuple(done))


def _sets(
    session: Session, vault: Vault, there: Custodians
) -> tuple[tuple[Subset, ...], tuple[Subset, ...]]:
    """Return the sets of a vault that have shares, and which of them have one under a key that was replaced."""
    query = sa.select(Share.subset, Share.custodian, Share.intake_key).where(
        Share.case == vault.case, Share.vault == vault.vault
    )
    now = _names(there)
    rows = session.execute(query).all()
    stale = {row.subset for row in rows if now.get(row.custodian, row.intake_key) != row.intake_key}
    sets = {row.subset for row in rows}
    return tuple(sorted(map(split_ids, sets))), tuple(sorted(map(split_ids, stale)))


def _lacking(
    session: Session,
    vault: Vault,
    source: Subset,
    makers: Sequence[str],
    plan: Resharing,
    there: Custodians,
) -> bool:
    """Tell whether a piece is missing that these makers owe: for a missing set, to the key that its custodian has now."""
    query = sa.select(SharePiece).where(
        SharePiece.case == vault.case,
        SharePiece.vault == vault.vault,
        SharePiece.source == joined(source),
    )
    have = {
        (one.maker, split_ids(one.subset), one.custodian, one.intake_key)
        for one in session.scalars(query)
    }
    wanted = {(maker, *place) for maker in makers for place in _places(plan, there)}
    return not have >= wanted


def _places(plan: Resharing, there: Custodians) -> list[tuple[Subset, str, str]]:
    """Return set, custodian and short name of the key for each share that is missing."""
    return [
        (subset, custodian, intake_key_id(there.members[custodian]))
        for subset in plan.missing
        for custodian in subset
    ]


def held(session: Session, actor: Actor) -> dict[str, int]:
    """Count what is sealed to each of a custodian's keys, also of testimonies that still arrive or were withdrawn."""
    require(actor, Permission.SHARE_ANEW)
    found: dict[str, int] = {}
    for table in (Share, SharePiece):
        query = sa.select(table.intake_key, sa.func.count()).where(table.custodian == actor.id)
        for name, count in session.execute(query.group_by(table.intake_key)):
            found[name] = found.get(name, 0) + count
    return found


@dataclass(frozen=True)
class _Found:
    vault: Vault
    plan: Resharing
    there: Custodians


def _find(
    session: Session, actor: Actor, case: str, vault: str, source: Subset, act: Act
) -> _Found:
    require(actor, Permission.SHARE_ANEW)
    testimony = session.get(Testimony, case, with_for_update=True) if _is_id(case) else None
    found = None if testimony is None else session.get(Vault, (case, vault))
    there = act.directory.custodians
    if testimony is None or found is None or testimony.received_on is None:
        raise NotFound
    if actor.id not in there.members or actor.id not in split_ids(found.custodians):
        raise NotFound
    if testimony.state == State.WITHDRAWN:
        raise CaseWithdrawn
    sets, stale = _sets(session, found, there)
    plan = resharing(sets, list(there.members), there.k, stale)
    if there.k < MIN_K or not plan.is_needed:
        raise NothingToShare
    if source not in plan.sources or actor.id not in source:
        raise SourceUnknown
    return _Found(found, plan, there)


def _is_id(case: str) -> bool:
    try:
        check_id(case)
    except ProtocolError:
        return False
    return True


def announce(
    session: Session, actor: Actor, case: str, vault: str, source: Subset, act: Act
) -> list[dict[str, Any]]:
    """Give a custodian their own share of a set, to be split for the new custodians; that they took it is recorded."""
    _find(session, actor, case, vault, source, act)
    act.accept(session, actor, "re-share", case, {"vault": vault, "source": list(source)})
    return own_shares(session, case, vault, actor.id, frozenset({source}))


@dataclass(frozen=True)
class GivenPiece:
    """What a custodian sealed to a new one."""

    subset: Subset
    custodian: str
    sealed: bytes


def add_pieces(
    session: Session,
    actor: Actor,
    case: str,
    vault: str,
    source: Subset,
    act: Act,
    given: Sequence[GivenPiece],
) -> bool:
    """Keep one custodian's pieces for missing sets; once all of `source` have made them all, they are the shares.

    Returns whether that is so now. Where nothing is missing, because custodians only left, their sets end.
    """
    found = _find(session, actor, case, vault, source, act)
    sets = {one.subset for one in given}
    places = [one for one in _places(found.plan, found.there) if one[0] in sets]
    if [(one.subset, one.custodian) for one in given] != [place[:2] for place in places]:
        raise SharesDiffer
    if found.plan.missing and not given:
        raise SharesDiffer
    for one in given:
        check_share(one.sealed)
    pieces = [
        {
            "subset": list(one.subset),
            "custodian": one.custodian,
            "sha256": sha256_hex(one.sealed),
        }
        for one in given
    ]
    body = {"vault": vault, "source": list(source), "pieces": pieces}
    act.accept(session, actor, "re-share", case, body)
    _keep(session, actor, found, source, given, places)
    if _lacking(session, found.vault, source, source, found.plan, found.there):
        return False
    _replace(session, found, source, act.today)
    return True


def _keep(
    session: Session,
    actor: Actor,
    found: _Found,
    source: Subset,
    given: Sequence[GivenPiece],
    places: Sequence[tuple[Subset, str, str]],
) -> None:
    vault = found.vault
    session.execute(
        sa.delete(SharePiece).where(
            SharePiece.case == vault.case,
            SharePiece.vault == vault.vault,
            SharePiece.source == joined(source),
            SharePiece.maker == actor.id,
            SharePiece.subset.in_({joined(one.subset) for one in given}),
        )
    )
    for one, (subset, custodian, intake_key) in zip(given, places, strict=True):
        session.add(
            SharePiece(
                case=vault.case,
                vault=vault.vault,
                source=joined(source),
                maker=actor.id,
                subset=joined(subset),
                custodian=custodian,
                intake_key=intake_key,
                sealed=one.sealed,
            )
        )
    session.flush()


def _replace(session: Session, found: _Found, source: Subset, today: date) -> None:
    """Put the new shares in the place of those that are superfluous; of the old ones nothing stays."""
    vault, plan = found.vault, found.plan
    of_vault = (Share.case == vault.case, Share.vault == vault.vault)
    gone = [joined(one) for one in (*plan.superfluous, *plan.missing)]
    session.execute(sa.delete(Share).where(*of_vault, Share.subset.in_(gone)))
    missing = {joined(one) for one in plan.missing}
    query = sa.select(SharePiece).where(
        SharePiece.case == vault.case, SharePiece.vault == vault.vault
    )
    made = [
        one
        for one in session.scalars(query)
        if one.source == joined(source) and one.subset in missing
    ]
    rows = [
        {
            "case": one.case,
            "vault": one.vault,
            "subset": one.subset,
            "custodian": one.custodian,
            "maker": one.maker,
            "intake_key": one.intake_key,
            "sealed": one.sealed,
        }
        for one in made
    ]
    if rows:
        session.execute(sa.insert(Share), rows)
    session.execute(
        sa.delete(SharePiece).where(SharePiece.case == vault.case, SharePiece.vault == vault.vault)
    )
    vault.custodians, vault.k = joined(sorted(found.there.members)), found.there.k
    end_open(session, vault.case, today, "shared-anew", vault=vault.vault)
    event = {
        "v": 1,
        "kind": "vault-shared-anew",
        "case": vault.case,
        "vault": vault.vault,
        "k": found.there.k,
        "custodians": sorted(found.there.members),
        "makers": list(source),
        "shared_on": today.isoformat(),
    }
    custody.record(session, event)
