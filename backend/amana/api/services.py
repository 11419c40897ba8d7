# SPDX-License-Identifier: AGPL-3.0-or-later
"""What the stages are given instead of globals: configuration, database, objects, keys and clock."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, cast

from flask import current_app

from amana.api.secrets import Secrets
from amana.config import Config
from amana.errors import Unavailable
from amana.storage.blobs import BlobStore
from amana.storage.database import Database


@dataclass(frozen=True)
class Services:
    """Built once by `create_app()`; tests replace the clock and the stores."""

    config: Config
    database: Database
    blobs: BlobStore
    secrets: Secrets
    clock: Callable[[], datetime]
    caches: dict[str, Any] = field(default_factory=dict)
    """What a stage keeps between requests of one process, under its own name."""

    def trusted_root(self) -> bytes:
        """Return the root that the operator configured; without it nobody is trusted."""
        try:
            return self.config.root.read_bytes()
        except OSError:
            raise Unavailable("No trust root is configured.", slug="root-missing") from None

    def today(self) -> date:
        """Return the day in UTC."""
        return self.clock().date()


def services() -> Services:
    """Return the services of the application that handles this request."""
    return cast(Services, current_app.extensions["amana"])
