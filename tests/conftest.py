"""Fixtures that every folder of tests shares."""

import os
import tempfile

# pytest imports it in the middle of garbage collection otherwise, where a second fault finds half of it.
import tracemalloc  # noqa: F401
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support.postgres import fresh_database, postgres_server
from tests.support.s3 import S3Server, swift_server

# What is slow is found by measuring (`make bench`): here another program may have the processor just now.
settings.register_profile("untimed", deadline=None)
# What lands is judged by the same examples every time; whoever runs the tests by hand searches further.
settings.register_profile("landing", deadline=None, derandomize=True)
settings.load_profile("landing" if "CI" in os.environ else "untimed")


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    # Under root it runs as another user, whom pytest's own folder shuts out as soon as a second
    # session of pytest begins.
    with (
        tempfile.TemporaryDirectory(prefix="amana-postgres-") as folder,
        postgres_server(Path(folder) / "data") as url,
    ):
        yield url


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3-compatible server; `s3_server.fresh_bucket()` gives the settings of an empty bucket."""
    with swift_server(tmp_path_factory.mktemp("swift")) as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/amana.db"
        return
    with fresh_database(request.getfixturevalue("postgres")) as url:
        yield url
