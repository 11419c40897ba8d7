# SPDX-License-Identifier: AGPL-3.0-or-later
"""Blueprints of staff: nobody passes without signing in, and the documentation says so."""

from typing import Any

from amana.access.doors import staff_must_sign_in
from amana.api.blueprints import Blueprint

DPOP_HEADER = {
    "in": "header",
    "name": "DPoP",
    "required": True,
    "schema": {"type": "string", "maxLength": 2048},
    "description": "A proof for this request (RFC 9449).",
}


class StaffBlueprint(Blueprint):
    """A blueprint behind the door of staff."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.before_request(staff_must_sign_in)

    def problems(self, *statuses: int) -> Any:
        """Document the problems that a view answers with, and that it needs a token."""

        documented = super().problems(401, *statuses)

        def decorate(view: Any) -> Any:
            return self.doc(security=[{"dpop": []}], parameters=[DPOP_HEADER])(documented(view))

        return decorate
