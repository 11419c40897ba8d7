# SPDX-License-Identifier: AGPL-3.0-or-later
"""Whether the process lives, and whether it can do its work; tells nothing else."""

import marshmallow as ma

from amana.api.blueprints import Blueprint
from amana.api.doors import nobody_needs_to_sign_in
from amana.api.services import services

health = Blueprint("health", __name__, description="For the operator's probes.")
health.before_request(nobody_needs_to_sign_in)


class HealthOut(ma.Schema):
    """One word."""

    status = ma.fields.String(metadata={"example": "ok"})


@health.get("/health/live")
@health.response(200, HealthOut)
def live() -> dict[str, str]:
    """Tell that the process answers."""
    return {"status": "ok"}


@health.get("/health/ready")
@health.response(200, HealthOut)
@health.problems(503)
def ready() -> dict[str, str]:
    """Tell that the database and the object store answer."""
    services().database.check()
    services().blobs.check()
    return {"status": "ok"}
