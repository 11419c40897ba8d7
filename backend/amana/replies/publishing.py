# SPDX-License-Identifier: AGPL-3.0-or-later
"""The daily batch over all shards, each in a transaction of its own; any machine may do it, and one does."""

from amana.api.services import Services
from amana.directory import service as directory
from amana.replies import service


def publish_drop(services: Services, *, again: bool = False) -> int:
    """Publish what is due in every shard, or everywhere `again`; returns in how many shards it was done."""
    with services.database.reading() as session:
        try:
            bits = directory.current(session, services.caches).drop_bits
        except directory.NoDirectory:
            return 0
        places = service.places(session, bits)
    done = 0
    for place in places:
        with services.database.transaction() as session:
            done += service.publish(session, place, services.today(), bits=bits, again=again)
    # What died is not to be found in a journal.
    services.database.forget_deleted()
    return done
