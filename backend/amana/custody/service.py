# SPDX-License-Identifier: AGPL-3.0-or-later
"""Record what happened, in the transaction of the thing itself; nothing here can be changed afterwards."""

import os
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.orm import Session

from amana.custody.models import Event, WaitingLeaf
from amana.protocol.encoding import canonical
from amana.protocol.receipt import leaf
from amana.storage.database import table_of

CUSTODY: Final = "custody"
DIRECTORY: Final = "directory"

_EVENT = sa.insert(table_of(Event))
_WAITING = sa.insert(table_of(WaitingLeaf))
# PostgreSQL writes both rows in one statement: a second one would take longer than the row.
_BOTH = _WAITING.values(kind=CUSTODY, entry=sa.bindparam("leaf", type_=sa.LargeBinary)).add_cte(
    _EVENT.values({name: sa.bindparam(name) for name in ("leaf", "case", "event", "key")}).cte(
        "recorded"
    )
)


def record(session: Session, event: dict[str, Any]) -> bytes:
    """Store `event` under a fresh key, let its leaf wait for the custody log, and return the key.

    With event and key it can later be proven that the log holds it.
    """
    key = os.urandom(32)
    content = canonical(event)
    commitment = leaf(content, key)
    row = {"leaf": commitment, "case": event.get("case"), "event": content, "key": key}
    connection = session.connection()
    if connection.dialect.name == "postgresql":
        connection.execute(_BOTH, row)
    else:
        connection.execute(_EVENT, row)
        connection.execute(_WAITING, {"kind": CUSTODY, "entry": commitment})
    return key


def enter(session: Session, entry: bytes) -> None:
    """Let an entry wait for the directory log, where everybody can read it."""
    session.connection().execute(_WAITING, {"kind": DIRECTORY, "entry": entry})
