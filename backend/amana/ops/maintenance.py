# SPDX-License-Identifier: AGPL-3.0-or-later
"""What is due from time to time; idempotent, and safe to run twice and from two machines at once."""

from amana.api.services import Services
from amana.directory import service as directory
from amana.intake.receiving import expire


def maintain(services: Services) -> dict[str, int]:
    """Do what is due and return how much of each was done."""
    abandoned = expire(services)
    with services.database.transaction() as session:
        refreshed = directory.refresh(session, services.secrets.online, services.clock())
    return {"abandoned_uploads_deleted": abandoned, "directory_metadata_signed": refreshed}
