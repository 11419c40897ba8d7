"""One running service for the tests of intake, which each bring their own testimonies."""

from collections.abc import Iterator

import pytest

from tests.support.server import Service, make_demo, running_service
from tests.support.uploads import Client


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("service")
    with running_service(folder, {"AMANA_SILENCE_SECONDS": "1"}) as running:
        make_demo(running, folder / "demo")
        yield running


@pytest.fixture(scope="session")
def client(service: Service) -> Iterator[Client]:
    root = service.folder / "demo" / "root.json"
    client = Client(service.url, root, service.data / "objects")
    yield client
    client.http.close()
