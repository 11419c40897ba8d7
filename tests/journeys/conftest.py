"""Stores of each kind, and what a journey needs on its way."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.postgres import fresh_database
from tests.support.s3 import S3Server
from tests.support.testimonies import sample_files


@pytest.fixture
def postgres_and_s3(postgres: str, s3_server: S3Server) -> Iterator[dict[str, str]]:
    """Settings of PostgreSQL and S3, with a database and a bucket of their own."""
    bucket = s3_server.fresh_bucket()
    with fresh_database(postgres) as url:
        yield {
            "AMANA_DATABASE_URL": url,
            "AMANA_OBJECTS": "s3",
            "AMANA_S3_ENDPOINT_URL": bucket.endpoint_url or "",
            "AMANA_S3_BUCKET": bucket.bucket,
            "AMANA_S3_REGION": bucket.region,
            "AMANA_S3_ACCESS_KEY": bucket.access_key or "",
            "AMANA_S3_SECRET_KEY": bucket.secret_key or "",
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
