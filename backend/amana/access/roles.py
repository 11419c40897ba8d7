# SPDX-License-Identifier: AGPL-3.0-or-later
"""Roles × permissions, on one screen. Who holds which role stands in the directory that the officers sign."""

from dataclasses import dataclass
from enum import StrEnum


class Permission(StrEnum):
    """What staff may do in this version."""

    LIST_CASES = "list-cases"
    OPEN_CASE = "open-case"


PERMISSIONS: dict[Permission, frozenset[str]] = {
    Permission.LIST_CASES: frozenset({"reviewer", "lead"}),
    Permission.OPEN_CASE: frozenset({"reviewer", "lead"}),
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
