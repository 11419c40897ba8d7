# SPDX-License-Identifier: AGPL-3.0-or-later
"""A custodian's end: what a reader asks is verified here, against all that was signed, before a share is sealed to them.

Nothing that the server says decides: reader, request, reason, consent and receipt are checked on this device.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby
from typing import Any, Final

from amana.client.directory import VerifiedDirectory
from amana.client.errors import NotVerified, Refused, Usage
from amana.client.reviewer import HeldKey, verifying
from amana.client.staff import Staff
from amana.protocol.action import Action, body_sha256, parse_action
from amana.protocol.case import intake_key_id
from amana.protocol.consent import Entry, check_chain
from amana.protocol.directory import READER_ROLES, eligible
from amana.protocol.encoding import b64, check_id, parse_day, sha256_hex, unb64
from amana.protocol.errors import ProtocolError
from amana.protocol.policy import parse_policy
from amana.protocol.receipt import verify_receipt
from amana.protocol.release import (
    Request,
    may_release,
    open_reason,
    parse_request,
    reason_document,
    seal_reason,
)
from amana.protocol.sealing import Identity, Recipient
from amana.protocol.vault import (
    MAX_PIECES,
    SHARE_SIZE,
    Piece,
    Resharing,
    Subset,
    VaultEntry,
    open_pieces,
    open_share,
    parse_entries,
    resharing,
    seal_pieces,
    seal_released,
)

WITNESS: Final = "witness"
MAX_PAGES: Final = 10_000


@dataclass(frozen=True)
class Asked:
    """A request whose every part was verified: who asks, for what, why, and what the witness allows."""

    request: str
    case: str
    vault: str
    purpose: str
    to: str | None
    """The partner to whom the reader is to hand it in an export; None where it is for the reader alone."""
    reader: str
    desks: tuple[str, ...]
    requested_on: str
    last_day: str
    k: int
    shared: int
    """How many custodians shared already; the server's word."""
    reason: str
    granted_by_witness: bool
    """Whether the witness chose this reader, or a colleague handed the case over."""


@dataclass(frozen=True)
class Unverified:
    """A request of which something does not hold; it must not be answered, and somebody should be told."""

    request: str
    slug: str
    title: str


@dataclass(frozen=True, repr=False)
class _Verified:
    asked: Asked
    recipient: Recipient
    """The reader's intake key, from the directory."""
    entry: VaultEntry
    """The vault as it arrived."""


@dataclass(frozen=True)
class SharedAnew:
    """What became of the vaults whose custodians changed: cases that are complete, that wait for others, that are lost."""

    complete: tuple[str, ...]
    waiting: tuple[str, ...]
    lost: tuple[str, ...]


class Custodian(Staff):
    """Who holds shares of vaults."""

    def pending(self) -> list[Asked | Unverified]:
        """Return the requests that wait for one's answer, each verified, or with what does not hold."""
        with verifying("the list"):
            listed = self._desk.get("/v1/releases").document()["releases"]
            requests = [check_id(one["request"]) for one in listed]
        found: list[Asked | Unverified] = []
        directory = self._directory()
        for request in requests:
            try:
                found.append(self._verified(request, directory).asked)
            except NotVerified as error:
                found.append(Unverified(request, error.slug, error.title))
            except Refused as refused:
                # Answered, ended or withdrawn since it was listed.
                if refused.slug == "not-signed-in":
                    raise
        return found

    def look_at(self, request: str) -> Asked:
        """Verify one request; raises NotVerified and Refused."""
        return self._verified(_request(request), self._directory()).asked

    def share(self, request: str) -> bool:
        """Seal one's shares of the vault to the reader of a request; returns whether it is released now."""
        directory = self._directory()
        verified = self._verified(_request(request), directory)
        asked = verified.asked
        shares = self._own_shares(verified, directory)
        sealed = [
            (
                subset,
                seal_released(
                    share,
                    verified.recipient,
                    request=asked.request,
                    case=asked.case,
                    vault=asked.vault,
                    to=asked.reader,
                    custodian=self.keys.id,
                    subset=subset,
                ),
            )
            for subset, share in shares.items()
        ]
        hashes = [{"subset": list(subset), "sha256": sha256_hex(one)} for subset, one in sealed]
        answer = self._desk.act(
            "release-share",
            f"/v1/releases/{asked.request}/shares",
            directory=directory.directory.version,
            case=asked.case,
            body={"request": asked.request, "shares": hashes},
            sent={
                "shares": [{"subset": list(subset), "sealed": b64(one)} for subset, one in sealed]
            },
        )
        return answer.document().get("released_on") is not None

    def decline(self, request: str, reason: str) -> None:
        """Decline a request, with a reason that its reader alone can open; raises Usage, NotVerified and Refused."""
        directory = self._directory()
        verified = self._verified(_request(request), directory)
        asked = verified.asked
        try:
            document = reason_document(reason, case=asked.case, request=asked.request)
        except ProtocolError as error:
            raise Usage(error.title, slug=error.slug) from None
        sealed = b64(seal_reason(document, verified.recipient))
        self._desk.act(
            "release-decline",
            f"/v1/releases/{asked.request}/refusals",
            directory=directory.directory.version,
            case=asked.case,
            body={"request": asked.request, "reason": sealed},
            sent={"reason": sealed},
        )

    # What is verified before anything is sealed

    def _verified(self, request: str, directory: VerifiedDirectory) -> _Verified:
        told = self._desk.get(f"/v1/releases/{request}").document()
        with verifying("the request"):
            action, body = parse_action(told["action"]), told["body"]
            asked = parse_request(body)
            recipient = self._check_signed(action, body, asked, request, directory)
            case = check_id(action.case)
            reason = self._reason(asked, case)
            entry, granted = self._check_covered(told, case, asked, action.actor, directory)
            last_day = action.made_at.date() + timedelta(days=asked.days)
            if last_day < self._desk.clock().date():
                raise NotVerified("The time of the request is over.", slug="release-over")
            person = directory.directory.person(action.actor)
            assert person is not None  # noqa: S101
            counts = (told["k"], told["shared"])
            if not all(type(one) is int and 0 <= one <= 5 for one in counts):
                raise KeyError
        return _Verified(
            Asked(
                request=request,
                case=case,
                vault=asked.vault,
                purpose=asked.purpose,
                to=asked.to,
                reader=action.actor,
                desks=tuple(sorted(person.desks)),
                requested_on=action.made_at.date().isoformat(),
                last_day=last_day.isoformat(),
                k=counts[0],
                shared=counts[1],
                reason=reason,
                granted_by_witness=granted,
            ),
            recipient,
            entry,
        )

    def _check_signed(
        self,
        action: Action,
        body: dict[str, Any],
        asked: Request,
        request: str,
        directory: VerifiedDirectory,
    ) -> Recipient:
        """Check that a reader whom the officers list signed this very request; returns the key that is listed for them."""
        person = directory.directory.person(action.actor)
        if person is None or not person.roles & READER_ROLES or action.actor == self.keys.id:
            raise NotVerified("Nobody who may ask signed the request.", slug="reader-unknown")
        action.verify(person.signing_key)
        fits = (
            action.action == "release-request"
            and action.deployment == directory.pins.deployment
            and action.body_sha256 == body_sha256(body)
            and asked.request == request
        )
        listed = directory.directory.intake_key(action.actor)
        if not fits or listed is None:
            raise NotVerified("The reader signed something else.", slug="request-differs")
        if intake_key_id(listed) != asked.intake_key:
            raise NotVerified(
                "The reader's key was replaced since; they must ask again.",
                slug="reader-key-replaced",
            )
        return listed

    def _reason(self, asked: Request, case: str) -> str:
        mine = next((one for one in asked.reasons if one.custodian == self.keys.id), None)
        identity = None if mine is None else self.keys.identity_for(mine.intake_key)
        if mine is None or identity is None:
            raise NotVerified("The request gives you no reason.", slug="reason-missing")
        return open_reason(
            mine.sealed,
            identity,
            case=case,
            request=asked.request,
            sha256=asked.reason_sha256,
        )

    def _check_covered(
        self,
        told: Mapping[str, Any],
        case: str,
        asked: Request,
        reader: str,
        directory: VerifiedDirectory,
    ) -> tuple[VaultEntry, bool]:
        """Check that the reader is one of the witness's desk and flags, and that the witness's own policies allow it today.

        Returns the vault as the receipt has it, and whether the testimony was sealed to the reader when it arrived.
        """
        pins = directory.pins
        receipt = verify_receipt(told["receipt"], pins.custody_log_key)
        event = receipt.event
        entries = [
            Entry(parse_policy(unb64(one["policy"])), parse_day(one["received_on"]))
            for one in told["policies"]
        ]
        check_chain(entries)
        fits = (
            (receipt.case, receipt.deployment) == (case, pins.deployment)
            and event["kind"] == "testimony-received"
            and entries[0].policy.sha256 == event["policy_sha256"]
            and entries[0].policy.deployment == pins.deployment
        )
        vaults = parse_entries(event["shares"])
        entry = next((one for one in vaults if one.vault == asked.vault), None)
        if not fits or entry is None:
            raise NotVerified(
                "Receipt, policies and vault are not of one testimony.", slug="receipt-differs"
            )
        if reader not in eligible(directory.directory, entries[0].policy):
            # A reader of another desk, in league with the server, would do for any case.
            raise NotVerified(
                "The reader who signed may not read this testimony.", slug="reader-unknown"
            )
        partner = None if asked.to is None else directory.directory.partner(asked.to)
        if asked.to is not None and partner is None:
            raise NotVerified(
                "The officers' directory does not list the partner to whom it is to be handed.",
                slug="partner-unknown",
            )
        covered = may_release(entries, asked.purpose, self._desk.clock().date(), partner)
        if not covered.allowed:
            raise NotVerified(covered.title, slug=covered.reason)
        return entry, any(one["reader"] == reader for one in event["grants"])

    # Shares

    def _own_shares(self, verified: _Verified, directory: VerifiedDirectory) -> dict[Subset, bytes]:
        asked = verified.asked
        answer = self._desk.act(
            "release-share",
            f"/v1/releases/{asked.request}/openings",
            directory=directory.directory.version,
            case=asked.case,
            body={"request": asked.request},
            sent={},
        )
        with verifying("a share"):
            rows = _by_set(answer.document()["shares"])
            if not rows:
                raise NotVerified("The server gives no share of yours.", slug="shares-differ")
            for subset, sealed in rows.items():
                # Whoever is in the set holds the other part of it, and needs one custodian less.
                if asked.reader in subset or not set(subset) <= self._listed(directory):
                    raise NotVerified(
                        "The server asks for a share that is not to be given.", slug="shares-differ"
                    )
                self._check_arrived(sealed, subset, verified.entry)
            return {
                subset: self._opened(sealed, asked.case, asked.vault, subset)
                for subset, sealed in sorted(rows.items())
            }

    @staticmethod
    def _listed(directory: VerifiedDirectory) -> frozenset[str]:
        return frozenset(directory.directory.custodians.members)

    def _check_arrived(
        self, sealed: Mapping[str, tuple[str, bytes]], subset: Subset, entry: VaultEntry
    ) -> None:
        """Check that a share which the witness sealed is the one that arrived; one that was shared anew is not."""
        if WITNESS not in sealed:
            return
        arrived = dict(zip(entry.places, entry.sha256, strict=True))
        name, data = sealed[WITNESS]
        # A share that its custodian sealed anew to another key of theirs is another, too.
        first = {one.custodian: one.intake_key for one in entry.holders}
        if first.get(self.keys.id) == name and arrived.get((subset, self.keys.id)) != sha256_hex(
            data
        ):
            raise NotVerified("The share is not the one that arrived.", slug="share-differs")

    def _opened(
        self, sealed: Mapping[str, tuple[str, bytes]], case: str, vault: str, subset: Subset
    ) -> bytes:
        """Open one's share of a set: as the witness sealed it, or the pieces of those who shared it anew."""
        opened_by = {maker: (data, self._identity(name)) for maker, (name, data) in sealed.items()}
        labels: dict[str, Any] = {
            "case": case,
            "vault": vault,
            "custodian": self.keys.id,
            "subset": subset,
        }
        if opened_by.keys() == {WITNESS}:
            data, identity = opened_by[WITNESS]
            return open_share(data, identity, **labels)
        return open_pieces(opened_by, **labels)

    def _identity(self, name: str) -> Identity:
        found = self.keys.identity_for(name)
        if found is None:
            raise NotVerified(
                "A share is sealed to another key than yours.", slug="share-for-other-key"
            )
        return found

    # Custodians come and go

    def share_anew(self) -> SharedAnew:
        """Do one's part for every vault whose custodians changed: pieces of one's shares for today's custodians.

        It is done for every old set that one is in and all of whose members are left, so that any whole set of those
        who run this is enough. Raises Refused and NotVerified.
        """
        directory = self._directory()
        there = directory.directory.custodians
        complete, waiting, lost = [], [], []
        for work in self._works():
            plan = resharing(work.sets, list(there.members), there.k, work.stale)
            if not plan.sources:
                lost.append(work.case)
            elif self._do_part(work, plan, directory):
                complete.append(work.case)
            else:
                waiting.append(work.case)
        return SharedAnew(*(tuple(dict.fromkeys(one)) for one in (complete, waiting, lost)))

    def newest_is_listed(self) -> bool:
        """Tell whether the officers list one's newest key; until then the one before is no former one."""
        listed = self._directory().directory.custodians.members.get(self.keys.id)
        return listed is not None and str(listed) == str(self.keys.intake_recipient)

    def held_keys(self) -> dict[str, HeldKey]:
        """Return by short name how many shares are sealed to each key of one's own, as the server counts them."""
        with verifying("the list"):
            told = self._desk.get("/v1/re-sharings").document()["held"]
            # They are printed: nothing but numbers may come this far.
            if not all(type(count) is int for count in told.values()):
                raise KeyError
            return {check_id(name): HeldKey(name, open=count) for name, count in told.items()}

    def _do_part(self, work: "_Work", plan: Resharing, directory: VerifiedDirectory) -> bool:
        sources = [one for one in plan.sources if self.keys.id in one and one not in work.done]
        try:
            return any(
                self._add_pieces(work, source, plan.missing, directory) for source in sources
            )
        except Refused as refused:
            # Others completed it meanwhile.
            if refused.slug == "nothing-to-share":
                return True
            raise

    def _works(self) -> Iterator["_Work"]:
        after = ""
        for _ in range(MAX_PAGES):
            query = f"?after={after}" if after else ""
            with verifying("the list"):
                listed = self._desk.get(f"/v1/re-sharings{query}").document()["vaults"]
                works = [_work(one) for one in listed]
            if not works:
                return
            if works[-1].case <= after:
                break
            after = works[-1].case
            yield from works
        raise NotVerified("The server's list does not end.", slug="bad-answer")

    def _add_pieces(
        self,
        work: "_Work",
        source: Subset,
        missing: tuple[Subset, ...],
        directory: VerifiedDirectory,
    ) -> bool:
        """Make and bring one's pieces for the missing sets; returns whether the vault is shared anew with them."""
        there = directory.directory.custodians.members
        pieces: list[Piece] = []
        if missing:
            share = self._share_of(work, source, directory)
            pieces = seal_pieces(
                share,
                there,
                missing,
                case=work.case,
                vault=work.vault,
                maker=self.keys.id,
                source=source,
            )
        complete = False
        for some in _in_whole_sets(pieces):
            complete = self._bring(work, source, some, directory)
        return complete

    def _share_of(self, work: "_Work", source: Subset, directory: VerifiedDirectory) -> bytes:
        answer = self._desk.act(
            "re-share",
            f"/v1/cases/{work.case}/re-sharings/openings",
            directory=directory.directory.version,
            case=work.case,
            body={"vault": work.vault, "source": list(source)},
        )
        with verifying("a share"):
            rows = _by_set(answer.document()["shares"])
            return self._opened(rows[source], work.case, work.vault, source)

    def _bring(
        self, work: "_Work", source: Subset, pieces: Sequence[Piece], directory: VerifiedDirectory
    ) -> bool:
        labels = {"vault": work.vault, "source": list(source)}
        places = [{"subset": list(one.subset), "custodian": one.custodian} for one in pieces]
        both = list(zip(places, (one.sealed for one in pieces), strict=True))
        answer = self._desk.act(
            "re-share",
            f"/v1/cases/{work.case}/re-sharings",
            directory=directory.directory.version,
            case=work.case,
            body={
                **labels,
                "pieces": [{**place, "sha256": sha256_hex(one)} for place, one in both],
            },
            sent={**labels, "pieces": [{**place, "sealed": b64(one)} for place, one in both]},
        )
        return answer.document().get("complete") is True


def _in_whole_sets(pieces: Sequence[Piece]) -> Iterator[list[Piece]]:
    """Yield pieces as many as one request takes, never half a set; nothing is yielded as one empty list."""
    some: list[Piece] = []
    for _, of_set in groupby(pieces, key=lambda one: one.subset):
        more = list(of_set)
        if len(some) + len(more) > MAX_PIECES:
            yield some
            some = []
        some += more
    yield some


@dataclass(frozen=True)
class _Work:
    """A vault that has to be shared anew, as the server tells of it."""

    case: str
    vault: str
    sets: tuple[Subset, ...]
    stale: tuple[Subset, ...]
    done: tuple[Subset, ...]


def _work(told: Mapping[str, Any]) -> _Work:
    vault = told["vault"]
    if vault not in ("identity", "originals"):
        raise KeyError
    return _Work(
        check_id(told["case"]),
        vault,
        tuple(map(_set, told["sets"])),
        tuple(map(_set, told["stale"])),
        tuple(map(_set, told["done"])),
    )


def _set(told: Any) -> Subset:
    found = tuple(check_id(one) for one in told)
    if found != tuple(sorted(set(found))) or not found:
        raise KeyError
    return found


def _by_set(told: Any) -> dict[Subset, dict[str, tuple[str, bytes]]]:
    """Read shares as the server gives them: by set and maker, the key's short name and the sealed bytes."""
    found: dict[Subset, dict[str, tuple[str, bytes]]] = {}
    for one in told:
        maker = one["maker"] if one["maker"] == WITNESS else check_id(one["maker"])
        sealed = unb64(one["sealed"], SHARE_SIZE)
        found.setdefault(_set(one["subset"]), {})[maker] = (check_id(one["intake_key"]), sealed)
    return found


def _request(request: str) -> str:
    try:
        return check_id(request)
    except ProtocolError:
        raise Usage(
            "A request or person is called by 32 letters and digits.", slug="bad-id"
        ) from None
