"""A running service with its demonstration organisation, for commands to talk to."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.server import Service, make_demo, running_service


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("service")
    with running_service(folder) as running:
        make_demo(running, folder / "demo")
        yield running


@pytest.fixture(scope="session")
def root(service: Service) -> Path:
    return service.folder / "demo" / "root.json"
