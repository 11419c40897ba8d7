# SPDX-License-Identifier: AGPL-3.0-or-later
"""The administrator's and the auditor's end: people and the record. Nothing here asks for anything sealed."""

import re
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

from amana.client.directory import custody_logs, fetch_version
from amana.client.errors import ClientError, NotVerified, Usage
from amana.client.exporting import ListedExport, listed_exports
from amana.client.log import PROOF_WAITS_SECONDS, prove_somewhere
from amana.client.released import Wanted, check_release
from amana.client.reviewer import verifying
from amana.client.staff import Staff
from amana.protocol import schema
from amana.protocol.action import body_sha256, parse_action
from amana.protocol.consent import Entry as PolicyEntry
from amana.protocol.consent import check_chain, covers
from amana.protocol.custody import commitment_to
from amana.protocol.directory import Directory
from amana.protocol.encoding import check_id, check_sha256_hex, parse_day, unb64
from amana.protocol.errors import ProtocolError
from amana.protocol.policy import DESK, IDENTITY_LEVELS, LANGUAGE, parse_policy
from amana.protocol.release import leaving_level

LIMIT_BYTES: Final = 8 * 2**20
_CURSOR: Final = re.compile(r"[A-Za-z0-9_.-]{1,400}")
_OF_PERSON: Final = ("could_open", "opened", "actions", "decisions")


def _between(least: int, most: int) -> schema.Check:
    return lambda value: type(value) is int and least <= value <= most


def _are_weekdays(value: object) -> bool:
    return isinstance(value, list) and value == [day for day in range(7) if day in value]


def _is_duty(value: object) -> bool:
    return isinstance(value, dict) and all(
        check_id(person) and _are_weekdays(days) for person, days in value.items()
    )


_RULES: Final[schema.Checks] = {
    "claim_days": _between(1, 30),
    "urgent_claim_days": _between(1, 30),
    "cap_per_day": _between(1, 1000),
    "duty": _is_duty,
    "retention": {
        "open_days": _between(30, 730),
        "set_aside_days": _between(30, 3650),
        "kept_days": _between(365, 18_250),
        "unused_days": _between(30, 3650),
        "notice_days": _between(14, 180),
    },
}
"""The form of rules, as the server checks it too (docs/protocol.md §12.4)."""


@dataclass(frozen=True)
class JudgedExport:
    """An export as listed, the nonce of its signed request, and what speaks against it, if anything."""

    listed: ListedExport
    request: str
    fault: str | None


class Administrator(Staff):
    """Somebody who looks after people. Every decision is signed by them and kept."""

    def invite(self, role: str, desks: list[str], days: int) -> dict[str, Any]:
        """Invite somebody once; returns id, token and expires_on."""
        body = {"role": role, "desks": sorted(set(desks)), "days": days}
        return self.act("invite", "/v1/invitations", body=body).document()

    def withdraw_invitation(self, invitation: str) -> None:
        """Let nobody come with an invitation any more, given by its id."""
        path = f"/v1/invitations/{_id(invitation)}/withdrawal"
        self.act("withdraw-invite", path, body={"invitation": invitation})

    def listed(self, what: str) -> list[dict[str, Any]]:
        """Return `people`, `invitations`, `enrolments` or `desks`."""
        return _objects(self._desk.get(f"/v1/{what}", limit=LIMIT_BYTES).document().get(what))

    def access_review(self) -> tuple[list[dict[str, Any]], list[str]]:
        """Return whose access ends soon or has ended, and the administrators who may work today."""
        answer = self._desk.get("/v1/access-reviews", limit=LIMIT_BYTES).document()
        working = answer.get("administrators")
        if not isinstance(working, list):
            raise NotVerified("The server's answer is not in its form.", slug="bad-answer")
        return _objects(answer.get("due")), [_answered_id(one) for one in working]

    def decide(self, kind: str, decision: str, person: str, **body: Any) -> dict[str, Any]:
        """Sign a decision about a person: vetting, suspension, reinstatement or confirmation."""
        path = f"/v1/people/{_id(person)}/{decision}"
        answer = self.act(kind, path, body={"person": person, **body})
        return answer.document() if answer.status == 200 else {}

    def rules(self) -> dict[str, Any]:
        """Return the rules of routing in force, and their version."""
        return self._desk.get("/v1/rules").document()

    def set_rules(self, rules: Mapping[str, Any]) -> int:
        """Put new rules in the place of those in force; returns their version. Raises Usage for what are none."""
        try:
            schema.checked_by(_RULES, dict(rules), "rules-invalid")
        except ProtocolError as error:
            raise Usage(error.title, slug=error.slug) from None
        replaced = self.rules().get("version")
        body = {"rules": dict(rules), "replaces": replaced}
        version = self.act("rule", "/v1/rules", body=body).document().get("version")
        if type(version) is not int:
            raise NotVerified("The server's answer is not in its form.", slug="bad-answer")
        return version

    def try_rules(self, desk: str, language: str, flags: list[str]) -> dict[str, Any]:
        """Return whom a testimony with this policy would reach today, and a verdict for everybody else."""
        if not (re.fullmatch(DESK, desk) and re.fullmatch(LANGUAGE, language)):
            raise Usage("This is not the name of a desk, or not a language.")
        query = "".join(f"&flags={flag}" for flag in flags)
        path = f"/v1/rules/trials?desk={desk}&language={language}{query}"
        found = self._desk.get(path).document()
        if not isinstance(found.get("verdicts"), dict):
            raise NotVerified("The server's answer is not in its form.", slug="bad-answer")
        return found

    def record(self, day: str | None, person: str | None) -> dict[str, Any]:
        """Return who could open what until the end of a day, who did, and what was decided; of one person, all of it."""
        given = {"day": day, "person": person and _id(person)}
        query = "&".join(f"{name}={value}" for name, value in given.items() if value)
        found = self._desk.get(f"/v1/record?{query}", limit=LIMIT_BYTES).document()
        lists = ("people", "decisions") if person is None else _OF_PERSON
        for name in lists:
            _objects(found.get(name))
        following = found.get("next")
        while following is not None:
            if not isinstance(following, str) or not _CURSOR.fullmatch(following):
                raise NotVerified("The server's answer is not in its form.", slug="bad-answer")
            path = f"/v1/record?{query}&cursor={following}"
            page = self._desk.get(path, limit=LIMIT_BYTES).document()
            more = {name: _objects(page.get(name)) for name in lists}
            after = page.get("next")
            # A server that never ends its pages must not keep the client for ever.
            if after is not None and (not any(more.values()) or after == following):
                raise NotVerified("The server's answer is not in its form.", slug="bad-answer")
            for name, rows in more.items():
                found[name] += rows
            following = after
        found.pop("next", None)
        return found

    def exports(self, state: str | None = None) -> list[JudgedExport]:
        """Return the newest exports, each judged by this client from what was signed, not by the server's word."""
        query = "" if state is None else f"?state={state}"
        found = self._desk.get(f"/v1/exports{query}", limit=2 * LIMIT_BYTES).document()
        directory = self._directory().directory
        today = self._desk.clock().date()
        known: dict[int, Directory] = {directory.version: directory}

        def directory_of(version: int) -> Directory:
            if version not in known:
                known[version] = fetch_version(self._get, self._root, version).directory
            return known[version]

        return [judged_export(one, directory, today, directory_of) for one in listed_exports(found)]

    def decide_export(self, export: str, decision: str, *, with_identity: bool = False) -> str:
        """Approve or refuse an export; returns its state. What is approved must hold by this client's own judgement.

        Parts of the vault are approved only by who says so in words, `with_identity`.
        """
        wanted = _id(export)
        found = next((one for one in self.exports() if one.listed.export == wanted), None)
        if found is None:
            raise Usage("There is no such export among the newest.", slug="export-unknown")
        if decision == "approve" and found.fault is not None:
            raise NotVerified(found.fault, slug="export-doubtful")
        listed = found.listed
        if decision == "approve" and bool(listed.releases) != with_identity:
            holds = ", ".join(listed.releases) or "nothing of it"
            raise Usage(
                f"Whether the identity leaves must be said: this export holds {holds}.",
                slug="identity-unconfirmed",
            )
        body = {
            "export": wanted,
            "decision": decision,
            "to": listed.to,
            "purpose": listed.purpose,
            "identity_level": listed.identity_level,
            "releases": _named(listed.releases),
            "request": found.request,
            "custody": self._custody_so_far(listed) if decision == "approve" else None,
        }
        path = f"/v1/exports/{wanted}/decisions"
        answer = self.act("export-approve", path, case=listed.case, body=body).document()
        return str(answer.get("state"))

    def _custody_so_far(self, listed: ListedExport) -> dict[str, Any]:
        """Return what stands for the events of a case that the log holds: no bundle can leave one of them out.

        Raises NotVerified where it holds none yet.
        """
        with verifying("the export"):
            leaves = {bytes.fromhex(check_sha256_hex(one)) for one in listed.signed["leaves"]}
        placed: dict[tuple[int, int], bytes] = {}
        found: dict[tuple[int, int], bytes] = {}
        for seconds in (0.0, *PROOF_WAITS_SECONDS):
            time.sleep(seconds)
            placed |= found
            found = self._placed(leaves - set(placed.values()))
            if len(placed) + len(found) == len(leaves):
                break
        else:
            # The log may grow between two answers: what it did not hold may stand before what it held a moment later.
            found = {place: one for place, one in found.items() if placed and place < max(placed)}
        placed |= found
        if not placed:
            raise NotVerified(
                "The log does not prove what happened with the case yet; try again in some minutes.",
                slug="export-unlogged",
            )
        return commitment_to([placed[place] for place in sorted(placed)])

    def _placed(self, leaves: Collection[bytes]) -> dict[tuple[int, int], bytes]:
        """Return those leaves that the log proves to hold, by their places."""
        logs = custody_logs(self._get, self._root)
        order = {pins.custody_log.name: number for number, pins in enumerate(logs)}
        found = {}
        for leaf in leaves:
            proof = prove_somewhere(self._desk.transport, logs, leaf)
            if proof is not None:
                found[order[proof.origin], proof.index] = leaf
        return found


def _named(releases: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"vault": vault, "request": request} for vault, request in releases.items()]


def judged_export(
    listed: ListedExport,
    directory: Directory,
    day: date,
    directory_of: Callable[[int], Directory],
) -> JudgedExport:
    """Check the signed request of an export, and the consent and the releases that should cover it."""
    request = ""
    try:
        signed = listed.signed["request"]
        action, body = parse_action(signed["action"]), signed["body"]
        request = action.nonce
        wanted = {
            "to": listed.to, "purpose": listed.purpose, "identity_level": listed.identity_level,
            "releases": _named(listed.releases),
        }  # fmt: skip
        if body != wanted or action.body_sha256 != body_sha256(body):
            raise NotVerified("The request that was signed is for something else.")
        if (action.action, action.case, action.actor) != (
            "export-request",
            listed.case,
            listed.requested_by,
        ):
            raise NotVerified("The request that was signed is of somebody or something else.")
        person = directory.person(action.actor)
        if person is None:
            raise NotVerified("Whoever asked is not in the directory any more.")
        action.verify(person.signing_key)
        chain = [
            PolicyEntry(parse_policy(unb64(one["policy"])), parse_day(one["received_on"]))
            for one in listed.signed["policies"]
        ]
        check_chain(chain)
        partner = directory.partner(listed.to)
        if partner is None:
            raise NotVerified("The officers' directory lists no such partner.")
        covered = covers(chain, partner, listed.purpose, listed.identity_level, day)
        if not covered.allowed:
            return JudgedExport(listed, request, covered.title)
        _check_releases(listed, directory.deployment, day, directory_of)
        return JudgedExport(listed, request, None)
    except (ProtocolError, ClientError) as error:
        return JudgedExport(listed, request, error.title)
    except (KeyError, TypeError, ValueError):
        return JudgedExport(listed, request, "What was signed about it is not in its form.")


def _check_releases(
    listed: ListedExport,
    deployment: str,
    day: date,
    directory_of: Callable[[int], Directory],
) -> None:
    """Check that custodians released each vault that is to leave, to this reader for this partner and purpose."""
    level = leaving_level(listed.purpose) if listed.releases else IDENTITY_LEVELS[0]
    if listed.identity_level != level:
        raise NotVerified("The identity level is not the one that this purpose asks for.")
    for vault, request in listed.releases.items():
        wanted = Wanted(
            deployment=deployment,
            case=listed.case,
            vault=vault,
            request=request,
            reader=listed.requested_by,
            to=listed.to,
            purpose=listed.purpose,
        )
        check_release(listed.signed["released"][vault], wanted, [day], directory_of)


def vetting_body(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body of a vetting with its codes in order."""
    return {
        "vouchers": list(fields["vouchers"]),
        "vetted_on": fields["vetted_on"],
        "valid_until": fields["valid_until"],
        **{name: sorted(set(fields[name])) for name in ("languages", "specialities", "conflicts")},
    }


def _objects(found: object) -> list[dict[str, Any]]:
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise NotVerified("The server's answer is not in its form.", slug="bad-answer")
    return found


def _answered_id(person: object) -> str:
    try:
        return check_id(person)
    except ProtocolError:
        raise NotVerified("The server's answer is not in its form.", slug="bad-answer") from None


def _id(person: str) -> str:
    try:
        return check_id(person)
    except ProtocolError:
        raise Usage(
            "A person, invitation or export is called by 32 letters and digits.", slug="bad-id"
        ) from None
