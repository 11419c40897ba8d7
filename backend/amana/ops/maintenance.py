# SPDX-License-Identifier: AGPL-3.0-or-later
"""What is due from time to time; idempotent, and safe to run twice and from two machines at once."""

from amana.api.services import Services
from amana.directory import service as directory
from amana.intake.appending import receive_what_is_whole
from amana.intake.receiving import expire
from amana.intake.writers import Writers


def maintain(services: Services) -> dict[str, int]:
    """Do what is due and return how much of each was done."""
    # First what keeps the service going, then what cannot be taken back.
    with services.database.transaction() as session:
        refreshed = directory.refresh(session, services.secrets.online, services.clock())
    received = receive_what_is_whole(services, Writers(services.database))
    return {
        "directory_metadata_signed": refreshed,
        "whole_testimonies_received": received,
        "abandoned_uploads_deleted": expire(services),
    }
