"""An application of both surfaces over an empty SQLite store, for rules about the whole."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from flask import Flask

from amana.api.services import Services
from amana.app import create_app, make_services
from amana.config import read_config
from amana.ops.demo import make_demo
from amana.storage.migrations import migrate
from tests.support.organisation import Clock


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    folder = tmp_path_factory.mktemp("contracts")
    built = make_services(read_config(folder / "data"), create_secrets=True)
    # It stands still: there are more requests to try than a minute has room for, and proofs last that long.
    built = replace(built, clock=Clock())
    migrate(built.database)
    built.blobs.prepare()
    make_demo(built, folder / "demo")
    yield built
    built.database.dispose()


@pytest.fixture(scope="session")
def app(services: Services) -> Flask:
    return create_app(services)


@pytest.fixture
def data(services: Services) -> Path:
    return services.config.data
