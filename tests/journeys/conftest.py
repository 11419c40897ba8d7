"""Stores of each kind, and what a journey needs on its way."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.postgres import fresh_database
from tests.support.s3 import swift_server
from tests.support.testimonies import sample_files


@pytest.fixture(scope="session")
def swift(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Settings of a real S3-compatible server."""
    with swift_server(tmp_path_factory.mktemp("swift")) as server:
        yield {
            "AMANA_OBJECTS": "s3",
            "AMANA_S3_ENDPOINT_URL": server.endpoint_url,
            "AMANA_S3_ACCESS_KEY": server.access_key,
            "AMANA_S3_SECRET_KEY": server.secret_key,
        }


@pytest.fixture
def postgres_and_s3(postgres: str, swift: dict[str, str]) -> Iterator[dict[str, str]]:
    """Settings of PostgreSQL and S3, with a database and a bucket of their own."""
    with fresh_database(postgres) as url:
        yield {
            **swift,
            "AMANA_DATABASE_URL": url,
            "AMANA_S3_BUCKET": f"amana-{uuid.uuid4().hex[:12]}",
        }


@pytest.fixture(params=["sqlite and folder", "postgresql and s3"])
def stores(request: pytest.FixtureRequest) -> dict[str, str]:
    if request.param == "sqlite and folder":
        return {}
    settings: dict[str, str] = request.getfixturevalue("postgres_and_s3")
    return settings


@pytest.fixture
def attachments(tmp_path: Path) -> list[Path]:
    """Files that need no cleaning to be told apart: a few that span several parts of an upload."""
    return sample_files(tmp_path / "attachments")
