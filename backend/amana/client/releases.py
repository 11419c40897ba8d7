# SPDX-License-Identifier: AGPL-3.0-or-later
"""A reader asks custodians for a vault, and opens it when enough of them have sealed their shares to them.

Only here, on the reader's own device, is the key of a vault put together, and it is not written anywhere.
"""

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from amana.client.casework import Caseworker
from amana.client.errors import ClientError, NotVerified, Refused, Usage
from amana.client.reviewer import (
    VerifiedCase,
    case_argument,
    download,
    names_for,
    open_objects,
    verify_case,
    verifying,
    workplace_in,
)
from amana.protocol.case import intake_key_id
from amana.protocol.directory import Directory
from amana.protocol.encoding import check_id, parse_day, random_id, unb64
from amana.protocol.errors import CannotOpen, ProtocolError
from amana.protocol.identity import NAME as IDENTITY_FILE
from amana.protocol.identity import SEALED_LIMIT_BYTES, parse_identity
from amana.protocol.policy import is_scope
from amana.protocol.release import (
    MAX_DAYS,
    Request,
    SealedReason,
    open_reason,
    reason_document,
    reason_sha256,
    seal_reason,
)
from amana.protocol.sealing import Identity
from amana.protocol.vault import (
    IDENTITY,
    OBJECT_KINDS,
    VAULTS,
    Subset,
    VaultEntry,
    VaultKeyWrong,
    combine,
    open_released,
)

UNREADABLE: Final = "identity.raw"
_ANSWERS: Final = ("shared", "declined")
_SLUG: Final = re.compile(r"[a-z][a-z-]{0,31}")


class NotReleased(ClientError):
    """Not enough custodians have answered, or nobody was asked."""

    exit_status = 1
    slug = "not-released"


@dataclass(frozen=True)
class Answer:
    """What a custodian answered; a reason for declining was opened with one's own key."""

    custodian: str
    answer: str
    answered_on: str
    reason: str | None


@dataclass(frozen=True)
class OwnRelease:
    """One's own request about a case, as the server tells of it."""

    request: str
    vault: str
    purpose: str
    to: str | None
    """The partner to whom it may be handed in an export, if any."""
    requested_on: str
    expires_on: str
    released_on: str | None
    opened_on: str | None
    ended_because: str | None
    k: int
    answers: tuple[Answer, ...]

    @property
    def is_open(self) -> bool:
        return self.ended_because is None


@dataclass(frozen=True)
class Released:
    """What a release left in `folder`, and until when the server gives it again."""

    case: str
    vault: str
    request: str
    purpose: str
    folder: Path
    files: tuple[str, ...]
    expires_on: str
    custodians: tuple[str, ...]
    """The set whose shares gave the key."""
    wrong: tuple[Subset, ...]
    """Sets whose shares did not give it: somebody in each sealed a wrong one."""


class ReleaseReader(Caseworker):
    """A reader who asks for what lies in the vault of a case that they have."""

    def request_release(
        self,
        case: str,
        vault: str,
        *,
        purpose: str,
        days: int,
        reason: str,
        to: str | None = None,
    ) -> OwnRelease:
        """Sign a request and seal its reason to every custodian who can answer; raises Refused and Usage.

        With `to` it is asked for in order to hand it to that partner in an export.
        """
        case_argument(case)
        if not is_scope(purpose):
            raise Usage("There is no such purpose.", slug="purpose-unknown")
        if not 1 <= days <= MAX_DAYS:
            raise Usage(f"A release lasts 1 to {MAX_DAYS} days.", slug="days-invalid")
        request = random_id()
        try:
            document = reason_document(reason, case=case, request=request)
        except ProtocolError as error:
            raise Usage(error.title, slug=error.slug) from None
        directory = self._directory().directory
        if to is not None and directory.partner(to) is None:
            raise Usage("The officers' directory lists no such partner.", slug="partner-unknown")
        reasons = [
            SealedReason(one, intake_key_id(key), seal_reason(document, key))
            for one, key in self._custodians(case, vault, directory).items()
        ]
        asked = Request(
            request=request,
            vault=vault,
            purpose=purpose,
            to=to,
            days=days,
            intake_key=intake_key_id(self.keys.intake_recipient),
            reason_sha256=reason_sha256(document),
            reasons=tuple(reasons),
        )
        path = f"/v1/cases/{case}/releases"
        try:
            self._desk.act(
                "release-request",
                path,
                directory=directory.version,
                case=case,
                body=asked.body(),
            )
        except Refused as refused:
            # An earlier try arrived, and its answer was lost.
            if refused.slug != "request-known":
                raise
        return self._own(case, request)

    def _custodians(self, case: str, vault: str, directory: Directory) -> dict[str, Any]:
        """Return the custodians who can answer, with their keys from the directory; the server only says which of them."""
        listed = directory.custodians.members
        with verifying("the vault"):
            told = self._desk.get(f"/v1/cases/{case}/releases").document()["vaults"]
            found = next((one for one in told if one["vault"] == vault), None)
            able = [] if found is None else sorted(check_id(one) for one in found["custodians"])
        if found is None:
            raise Usage(f"The witness left no {vault} in the vault.", slug="vault-missing")
        if (
            len(set(able)) < len(able)
            or not able
            or not set(able) <= listed.keys() - {self.keys.id}
        ):
            raise NotVerified(
                "The server names custodians who are not in the directory.",
                slug="custodians-differ",
            )
        return {one: listed[one] for one in able}

    def releases(self, case: str) -> list[OwnRelease]:
        """Return one's own requests about a case, the newest first; reasons for declining are opened."""
        case_argument(case)
        with verifying("the requests"):
            told = self._desk.get(f"/v1/cases/{case}/releases").document()["releases"]
            return [self._read_release(case, one) for one in told]

    def _own(self, case: str, request: str) -> OwnRelease:
        found = next((one for one in self.releases(case) if one.request == request), None)
        if found is None:
            raise NotVerified("The server does not know the request.", slug="bad-answer")
        return found

    def _read_release(self, case: str, told: Mapping[str, Any]) -> OwnRelease:
        request, because, k = check_id(told["request"]), told["ended_because"], told["k"]
        if told["vault"] not in VAULTS or not is_scope(told["purpose"]) or type(k) is not int:
            raise KeyError
        if because is not None and not _SLUG.fullmatch(because):
            raise KeyError
        return OwnRelease(
            request=request,
            vault=told["vault"],
            purpose=told["purpose"],
            to=None if told["to"] is None else check_id(told["to"]),
            requested_on=parse_day(told["requested_on"]).isoformat(),
            expires_on=parse_day(told["expires_on"]).isoformat(),
            released_on=_day(told["released_on"]),
            opened_on=_day(told["opened_on"]),
            ended_because=because,
            k=k,
            answers=tuple(self._read_answer(case, request, one) for one in told["answers"]),
        )

    def _read_answer(self, case: str, request: str, told: Mapping[str, Any]) -> Answer:
        if told["answer"] not in _ANSWERS:
            raise KeyError
        words = None
        if told["reason"] is not None:
            words = self._opened_reason(unb64(told["reason"]), case, request)
        return Answer(
            custodian=check_id(told["custodian"]),
            answer=told["answer"],
            answered_on=parse_day(told["answered_on"]).isoformat(),
            reason=words,
        )

    def _opened_reason(self, sealed: bytes, case: str, request: str) -> str | None:
        """Return a reason, or nothing where it opens with none of one's keys: that must not hide how a request stands."""
        for identity in self._identities():
            with suppress(ProtocolError):
                return open_reason(sealed, identity, case=case, request=request)
        return None

    def _identities(self) -> list[Identity]:
        former = [one.identity for one in self.keys.former]
        return [*([self.keys.intake] if self.keys.intake else []), *former]

    def open_vault(self, case: str, vault: str, out: Path) -> Released:
        """Take what custodians sealed to one, put the key together, and write what lies in the vault into `out`.

        Raises NotReleased, NotVerified, after which nothing is left, NetworkFailed, Refused and Usage.
        """
        release = self._release_to_open(case, vault)
        with workplace_in(out, release.request, (IDENTITY_FILE, UNREADABLE)) as workplace:
            verified = self._directory()
            found = self._verified_case(case)
            entry = found.manifest.vault(vault)
            if entry is None:
                raise NotVerified(
                    "The witness's manifest knows of no such vault.", slug="vault-missing"
                )
            key, subset, wrong = self._take_key(release, case, entry, verified.directory.version)
            parts = found.parts({OBJECT_KINDS[vault]})
            address = f"/v1/releases/{release.request}/objects"
            download(self._desk, parts, address, workplace, self._progress)
            plain = open_objects(parts, key, workplace, self._progress)
            names = [_clean_identity(plain[0])] if vault == IDENTITY else names_for(parts, out, ())
            for path, name in zip(plain, names, strict=True):
                path.chmod(0o600)
                path.rename(out / name)
        return Released(
            case=case,
            vault=vault,
            request=release.request,
            purpose=release.purpose,
            folder=out,
            files=tuple(names),
            expires_on=release.expires_on,
            custodians=subset,
            wrong=wrong,
        )

    def _release_to_open(self, case: str, vault: str) -> OwnRelease:
        requests = [one for one in self.releases(case) if one.vault == vault]
        release = next((one for one in requests if one.is_open), None)
        if release is None:
            last = f": the last one ended ({requests[0].ended_because})" if requests else ""
            raise NotReleased(f"There is no open request of yours for the {vault}{last}.")
        return release

    def _verified_case(self, case: str) -> VerifiedCase:
        """Return a case with its manifest; without a recent opening one is signed, and recorded."""
        verified = self._directory()
        described = self._desk.get(f"/v1/cases/{case}").document()
        try:
            with verifying("the case"):
                return verify_case(self._desk, verified.pins, case, described)
        except Refused as refused:
            if refused.slug != "opening-needed":
                raise
        version = verified.directory.version
        self._desk.act("open", f"/v1/cases/{case}/openings", directory=version, case=case)
        with verifying("the case"):
            return verify_case(self._desk, verified.pins, case, described)

    def _take_key(
        self, release: OwnRelease, case: str, entry: VaultEntry, directory: int
    ) -> tuple[Identity, Subset, tuple[Subset, ...]]:
        """Put a vault's key together from what custodians sealed; that it was taken is recorded."""
        return _key_of(self._take_shares(release, case, directory), entry)

    def _take_shares(
        self, release: OwnRelease, case: str, directory: int
    ) -> dict[Subset, dict[str, bytes | None]]:
        """Fetch and open what custodians sealed, set by set; None stands for a share that does not open as what it is."""
        body = {"request": release.request}
        path = f"/v1/releases/{release.request}/readings"
        try:
            answer = self._desk.act(
                "release-open", path, directory=directory, case=case, body=body, sent={}
            )
        except Refused as refused:
            if refused.slug == "shares-missing":
                shared = sum(one.answer == "shared" for one in release.answers)
                raise NotReleased(
                    f"Not enough custodians have answered yet: {shared} of {release.k} that are needed."
                ) from None
            raise
        found: dict[Subset, dict[str, bytes | None]] = {}
        with verifying("the shares"):
            for one in answer.document()["shares"]:
                subset = tuple(check_id(member) for member in one["subset"])
                custodian, sealed = check_id(one["custodian"]), unb64(one["sealed"])
                if custodian not in subset or subset != tuple(sorted(set(subset))):
                    raise KeyError
                share = self._opened_share(sealed, release, case, custodian, subset)
                found.setdefault(subset, {})[custodian] = share
        return found

    def _opened_share(
        self, sealed: bytes, release: OwnRelease, case: str, custodian: str, subset: Subset
    ) -> bytes | None:
        for identity in self._identities():
            with suppress(CannotOpen):
                return open_released(
                    sealed,
                    identity,
                    request=release.request,
                    case=case,
                    vault=release.vault,
                    to=self.keys.id,
                    custodian=custodian,
                    subset=subset,
                )
        return None


def _clean_identity(path: Path) -> str:
    """Leave what the person said, without salt and zeros, and return what the file is called.

    What is authentic but not in its form is left as it is, under a name that promises nothing.
    """
    with path.open("rb") as file:
        content = file.read(SEALED_LIMIT_BYTES + 1)
    try:
        said = parse_identity(content)
    except ProtocolError:
        return UNREADABLE
    path.write_text(json.dumps(said, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    return IDENTITY_FILE


def _key_of(
    given: Mapping[Subset, Mapping[str, bytes | None]], entry: VaultEntry
) -> tuple[Identity, Subset, tuple[Subset, ...]]:
    """Return the key, the set that gave it, and those whole sets that did not; raises NotVerified where none gives it."""
    wrong: list[Subset] = []
    for subset, shares in sorted(given.items()):
        if shares.keys() != set(subset):
            continue
        try:
            return combine(_all(shares.values()), entry.key), subset, tuple(wrong)
        except VaultKeyWrong:
            wrong.append(subset)
    if not wrong:
        raise NotReleased("No custodians' shares make a whole set yet.")
    raise NotVerified(VaultKeyWrong.title, slug=VaultKeyWrong.slug)


def _all(shares: Any) -> Sequence[bytes]:
    found = [one for one in shares if one is not None]
    if len(found) < len(list(shares)):
        raise VaultKeyWrong
    return found


def _day(told: Any) -> str | None:
    return None if told is None else parse_day(told).isoformat()
