# SPDX-License-Identifier: AGPL-3.0-or-later
"""Publish a version of the directory: from that day on, whoever it lists has a standing. Never commits."""

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy.orm import Session

from amana.access.service import receive
from amana.directory import service as directory
from amana.protocol.signing import SigningKey


def publish(
    session: Session,
    *,
    metadata: Mapping[str, bytes],
    targets: Mapping[str, bytes],
    trusted_root: bytes,
    online: SigningKey,
    now: datetime,
) -> int:
    """Publish what the officers signed, as `directory.service.publish` does, and receive whom it lists."""
    version = directory.publish(
        session,
        metadata=metadata,
        targets=targets,
        trusted_root=trusted_root,
        online=online,
        now=now,
    )
    # What this parses is not kept: it is not published before this transaction is.
    receive(session, directory.at(session, version, {}))
    return version
