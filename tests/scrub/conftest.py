"""An organisation over each pair of stores, whose bytes a test may spoil."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.organisation import Organisation, organisation_in
from tests.support.postgres import fresh_database


@pytest.fixture(params=["sqlite and folder", "postgresql and s3"])
def own(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Organisation]:
    if request.param == "sqlite and folder":
        with organisation_in(tmp_path) as made:
            yield made
        return
    bucket = request.getfixturevalue("s3_server").fresh_bucket()
    monkeypatch.setenv("AMANA_OBJECTS", "s3")
    monkeypatch.setenv("AMANA_S3_ENDPOINT_URL", bucket.endpoint_url)
    monkeypatch.setenv("AMANA_S3_BUCKET", bucket.bucket)
    monkeypatch.setenv("AMANA_S3_REGION", bucket.region)
    monkeypatch.setenv("AMANA_S3_ACCESS_KEY", bucket.access_key)
    monkeypatch.setenv("AMANA_S3_SECRET_KEY", bucket.secret_key)
    with (
        fresh_database(request.getfixturevalue("postgres")) as url,
        organisation_in(tmp_path, url) as made,
    ):
        yield made
