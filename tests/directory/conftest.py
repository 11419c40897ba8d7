"""A server without a directory yet, whose online key stands in the root of three officers."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from amana.api.services import Services
from amana.app import create_app, make_services
from amana.client.officer import Proposal
from amana.config import read_config
from amana.directory import service as directory
from amana.storage.migrations import migrate
from tests.support.ceremony import Ceremony


@dataclass
class Server:
    """Services and application, the officers who trust its keys, and a clock that tests turn."""

    services: Services
    ceremony: Ceremony
    app: Flask = field(init=False)
    now: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))

    def __post_init__(self) -> None:
        self.services = replace(self.services, clock=lambda: self.now)
        self.services.config.root.write_bytes(self.ceremony.root_bytes)
        self.app = create_app(self.services)

    @property
    def client(self) -> FlaskClient:
        return self.app.test_client()

    def turn(self, **by: float) -> None:
        self.now += timedelta(**by)

    def publish(self, proposal: Proposal, **metadata: bytes) -> int:
        """Publish through the service; `metadata` is added under its names."""
        files = {f"{proposal.targets.signed.version}.targets.json": proposal.targets.to_bytes()}
        with self.services.database.transaction() as session:
            return directory.publish(
                session,
                metadata={**files, **metadata},
                targets=proposal.files,
                trusted_root=self.services.trusted_root(),
                online=self.services.secrets.online,
                now=self.now,
            )

    def get(self, name: str) -> bytes | None:
        """Fetch a file as a client does."""
        answer = self.client.get(f"/v1/directory/{name}")
        return answer.data if answer.status_code == 200 else None


@pytest.fixture
def server(tmp_path: Path, database_url: str) -> Iterator[Server]:
    config = replace(read_config(tmp_path / "data"), database_url=database_url)
    services = make_services(config, create_secrets=True)
    migrate(services.database)
    services.blobs.prepare()
    secrets = services.secrets
    ceremony = Ceremony(
        online=secrets.online,
        directory_log=secrets.directory_log,
        custody_log=secrets.custody_log,
    )
    try:
        yield Server(services, ceremony)
    finally:
        services.database.dispose()
