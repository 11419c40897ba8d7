"""Stock tus clients upload an object, given its address: tuspy from PyPI and tus-js-client from npm."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tusclient.client import TusClient

from tests.support.node import INTEROP, node_modules_dir, run_node
from tests.support.server import make_demo, running_service
from tests.support.testimonies import Made
from tests.support.uploads import Client

CHUNK = 300_000


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with running_service(tmp_path) as service:
        make_demo(service, tmp_path / "demo")
        client = Client(service.url, tmp_path / "demo" / "root.json", service.data / "objects")
        yield client
        client.http.close()


@pytest.fixture
def announced(client: Client, tmp_path: Path) -> tuple[Made, str, str, Path]:
    made = client.testimony(files=[b"x" * 1_000_000])
    [location], completion = client.announce(made)
    path = tmp_path / "sealed"
    path.write_bytes(made.sealed[0])
    return made, client.url + location, completion, path


def test_tuspy_uploads_an_object(client: Client, announced: tuple[Made, str, str, Path]) -> None:
    _, address, completion, path = announced
    uploader = TusClient(client.url).uploader(str(path), url=address, chunk_size=CHUNK)
    uploader.upload()
    assert client.complete(completion).status_code == 200


def test_tuspy_continues_what_was_begun_with_checksums(
    client: Client, announced: tuple[Made, str, str, Path]
) -> None:
    made, address, completion, path = announced
    client.patch(address, 0, made.sealed[0][:123_456])
    uploader = TusClient(client.url).uploader(str(path), url=address, chunk_size=CHUNK)
    assert uploader.offset == 123_456
    uploader.upload()
    assert client.complete(completion).status_code == 200
