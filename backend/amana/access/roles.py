# SPDX-License-Identifier: AGPL-3.0-or-later
"""Roles × permissions, on one screen. Who holds which role stands in the directory that the officers sign."""

from dataclasses import dataclass
from enum import StrEnum


class Permission(StrEnum):
    """What staff may do."""

    LIST_CASES = "list-cases"
    OPEN_CASE = "open-case"
    WORK_ON_CASE = "work-on-case"
    ASK_WITNESS = "ask-witness"
    REWRAP_GRANT = "rewrap-grant"
    SEE_RETURNED_CASES = "see-returned-cases"
    SEE_ROUTING_TASKS = "see-routing-tasks"
    REQUEST_RELEASE = "request-release"
    OPEN_RELEASE = "open-release"
    ANSWER_RELEASE = "answer-release"
    SHARE_ANEW = "share-anew"
    SEE_RETENTION = "see-retention"
    PROLONG = "prolong"
    DECLARE_CONFLICT = "declare-conflict"
    REPLACE_KEY = "replace-key"
    INVITE = "invite"
    VET = "vet"
    SEE_PEOPLE = "see-people"
    SUSPEND = "suspend"
    REINSTATE = "reinstate"
    CONFIRM_ACCESS = "confirm-access"
    SEE_RECORD = "see-record"
    SEE_RULES = "see-rules"
    SET_RULES = "set-rules"
    REQUEST_EXPORT = "request-export"
    APPROVE_EXPORT = "approve-export"
    SEE_EXPORTS = "see-exports"
    WATCH_EXPORTS = "watch-exports"
    SEE_CUSTODY = "see-custody"


_READERS = frozenset({"reviewer", "lead"})
_CUSTODIANS = frozenset({"custodian"})
_ADMINISTRATORS = frozenset({"administrator"})
_WATCHERS = frozenset({"administrator", "auditor"})
_KEY_HOLDERS = frozenset({"reviewer", "lead", "custodian"})

PERMISSIONS: dict[Permission, frozenset[str]] = {
    Permission.LIST_CASES: _READERS,
    Permission.OPEN_CASE: _READERS,
    Permission.WORK_ON_CASE: _READERS,
    Permission.ASK_WITNESS: _READERS,
    Permission.REWRAP_GRANT: _READERS,
    Permission.SEE_RETURNED_CASES: frozenset({"lead"}),
    Permission.SEE_ROUTING_TASKS: frozenset({"lead"}),
    Permission.REQUEST_RELEASE: _READERS,
    Permission.OPEN_RELEASE: _READERS,
    Permission.ANSWER_RELEASE: _CUSTODIANS,
    Permission.SHARE_ANEW: _CUSTODIANS,
    Permission.SEE_RETENTION: frozenset({"lead"}),
    Permission.PROLONG: frozenset({"lead"}),
    Permission.DECLARE_CONFLICT: _KEY_HOLDERS,
    Permission.REPLACE_KEY: _KEY_HOLDERS,
    Permission.INVITE: _ADMINISTRATORS,
    Permission.VET: _ADMINISTRATORS,
    Permission.SEE_PEOPLE: _WATCHERS,
    Permission.SUSPEND: _ADMINISTRATORS,
    Permission.REINSTATE: _ADMINISTRATORS,
    Permission.CONFIRM_ACCESS: _ADMINISTRATORS,
    Permission.SEE_RECORD: _WATCHERS,
    Permission.SEE_RULES: _WATCHERS,
    Permission.SET_RULES: _ADMINISTRATORS,
    Permission.REQUEST_EXPORT: _READERS,
    Permission.APPROVE_EXPORT: _ADMINISTRATORS,
    Permission.SEE_EXPORTS: _READERS | _WATCHERS,
    Permission.WATCH_EXPORTS: _WATCHERS,
    Permission.SEE_CUSTODY: _READERS | frozenset({"auditor"}),
}


@dataclass(frozen=True)
class Actor:
    """The person behind a request, as the directory has them at this moment."""

    id: str
    roles: frozenset[str]
    desks: frozenset[str]
    signing_key: str

    def may(self, permission: Permission) -> bool:
        """Tell whether one of the roles carries a permission."""
        return bool(self.roles & PERMISSIONS[permission])
