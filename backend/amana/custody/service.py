# SPDX-License-Identifier: AGPL-3.0-or-later
"""Record what happened, in the transaction of the thing itself; nothing here can be changed afterwards."""

import os
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from amana.custody.models import Event
from amana.protocol.encoding import canonical
from amana.protocol.receipt import leaf
from amana.storage.database import table_of

_INSERT = sa.insert(table_of(Event))


def record(session: Session, event: dict[str, Any]) -> bytes:
    """Store `event` under a fresh key and return the key, with which it can later be proven."""
    key = os.urandom(32)
    content = canonical(event)
    row = {
        "leaf": leaf(content, key),
        "case": event.get("case"),
        "event": content,
        "key": key,
        "sequence": None,
    }
    session.connection().execute(_INSERT, row)
    return key
