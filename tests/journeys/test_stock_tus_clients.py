"""Stock tus clients upload an object, given its address: tuspy from PyPI and tus-js-client from npm."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tusclient.client import TusClient

from tests.support.node import run_node
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
    with path.open("rb") as file:
        TusClient(client.url).uploader(file_stream=file, url=address, chunk_size=CHUNK).upload()
    assert client.complete(completion).status_code == 200


def test_tuspy_continues_what_was_begun(
    client: Client, announced: tuple[Made, str, str, Path]
) -> None:
    made, address, completion, path = announced
    client.patch(address, 0, made.sealed[0][:123_456])
    with path.open("rb") as file:
        uploader = TusClient(client.url).uploader(
            file_stream=file, url=address, chunk_size=CHUNK, upload_checksum=False
        )
        assert uploader.offset == 123_456
        uploader.upload()
    assert client.complete(completion).status_code == 200


def test_tus_js_client_uploads_an_object(
    client: Client, announced: tuple[Made, str, str, Path]
) -> None:
    _, address, completion, path = announced
    assert run_node("tus.mjs", address, str(path), str(CHUNK)).strip() == b"done"
    assert client.complete(completion).status_code == 200
