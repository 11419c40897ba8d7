"""Resumable uploads against a real service: nothing that arrived is lost, nothing is mixed, every misuse has its answer."""

import base64
import hashlib
import socket
import threading
from urllib.parse import urlsplit

import pytest

from tests.support.server import wait_until
from tests.support.testimonies import Made
from tests.support.uploads import OFFSET, TUS, Client


@pytest.fixture
def upload(client: Client) -> tuple[Made, str, str]:
    made = client.testimony(files=[b"x" * 300_000])
    [location], completion = client.announce(made)
    return made, location, completion


def test_an_object_in_pieces_is_received_once_it_is_whole(
    client: Client, upload: tuple[Made, str, str]
) -> None:
    made, location, completion = upload
    data = made.sealed[0]
    for start in range(0, len(data), 100_000):
        answer = client.patch(location, start, data[start : start + 100_000])
        assert answer.status_code == 204, answer.text
        assert int(answer.headers["Upload-Offset"]) == min(start + 100_000, len(data))
    receipt = client.complete(completion)
    assert receipt.status_code == 200
    assert receipt.json() == client.complete(completion).json()
    assert client.head(location).status_code == 410


def test_completion_before_the_end_tells_what_is_missing(
    client: Client, upload: tuple[Made, str, str]
) -> None:
    made, location, completion = upload
    client.patch(location, 0, made.sealed[0][:1234])
    answer = client.complete(completion)
    assert answer.status_code == 409
    assert answer.json()["type"] == "case-incomplete"
    assert answer.json()["missing"] == [{"i": 1, "offset": 1234, "size": len(made.sealed[0])}]


@pytest.mark.parametrize("end", ["finish", "reset"])
def test_a_cut_connection_loses_nothing_that_arrived(
    client: Client, upload: tuple[Made, str, str], end: str
) -> None:
    made, location, completion = upload
    data = made.sealed[0]
    patch = client.begin_patch(location, 0, len(data))
    patch.send(data[:200_000])
    # What the kernel of this machine still holds when the connection is reset never left it, so
    # wait until the partial object has grown.
    wait_until(lambda: stored(client, location) >= 200_000, "what was sent to be stored")
    getattr(patch, end)()
    assert client.offset(location) == 200_000
    assert client.patch(location, 200_000, data[200_000:]).status_code == 204
    assert client.complete(completion).status_code == 200


def stored(client: Client, location: str) -> int:
    """How much of an upload lies in the folder store."""
    case, n, _ = location.rsplit("/", 1)[1].split(".")
    folder = client.objects / case[:2] / case
    return sum(path.stat().st_size for path in folder.glob(f"{n}.part")) if folder.exists() else 0


def test_a_newer_request_takes_over_from_a_stuck_one_and_keeps_its_bytes(
    client: Client, upload: tuple[Made, str, str]
) -> None:
    made, location, completion = upload
    data = made.sealed[0]
    stuck = client.begin_patch(location, 0, len(data))
    stuck.send(data[:150_000])
    wait_until(lambda: stored(client, location) >= 150_000, "the first bytes")
    assert client.offset(location) == 150_000
    assert stuck.answer() == 409
    assert client.patch(location, 150_000, data[150_000:]).status_code == 204
    assert client.complete(completion).status_code == 200


def test_two_patches_at_once_are_never_mixed(client: Client, upload: tuple[Made, str, str]) -> None:
    made, location, completion = upload
    data = made.sealed[0]
    answers: list[int] = []

    def send() -> None:
        answers.append(client.patch(location, 0, data).status_code)

    threads = [threading.Thread(target=send) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(answers) <= {204, 409, 410}
    if client.head(location).status_code == 200 and (offset := client.offset(location)) < len(data):
        assert client.patch(location, offset, data[offset:]).status_code == 204
    assert client.complete(completion).status_code == 200


def test_a_peer_that_falls_silent_is_ended_and_its_bytes_are_kept(
    client: Client, upload: tuple[Made, str, str]
) -> None:
    made, location, _ = upload
    silent = client.begin_patch(location, 0, len(made.sealed[0]))
    silent.send(made.sealed[0][:5000])
    assert silent.answer() == 408
    assert client.offset(location) == 5000


def test_a_checksum_that_does_not_fit_discards_the_bytes(
    client: Client, upload: tuple[Made, str, str]
) -> None:
    made, location, _ = upload
    data = made.sealed[0]
    good = base64.b64encode(hashlib.sha256(data[:1000]).digest()).decode()
    bad = base64.b64encode(bytes(32)).decode()
    assert (
        client.patch(location, 0, data[:1000], **{"Upload-Checksum": f"sha256 {bad}"}).status_code
        == 460
    )
    assert client.offset(location) == 0
    assert (
        client.patch(location, 0, data[:1000], **{"Upload-Checksum": f"sha256 {good}"}).status_code
        == 204
    )
    assert client.offset(location) == 1000
    unknown = client.patch(location, 1000, b"x", **{"Upload-Checksum": "md5 AAAA"})
    assert unknown.json()["type"] == "checksum-unknown"


def test_bytes_without_the_announced_hash_are_discarded_and_can_be_sent_again(
    client: Client, upload: tuple[Made, str, str]
) -> None:
    made, location, completion = upload
    data = made.sealed[0]
    altered = data[:-1] + bytes([data[-1] ^ 1])
    answer = client.patch(location, 0, altered)
    assert (answer.status_code, answer.json()["type"]) == (422, "object-hash-mismatch")
    assert client.offset(location) == 0
    client.patch(location, 0, altered[:100_000])
    client.patch(location, 100_000, altered[100_000:])
    answer = client.complete(completion)
    assert (answer.status_code, answer.json()["type"]) == (422, "object-hash-mismatch")
    assert client.patch(location, 0, data).status_code == 204
    assert client.complete(completion).status_code == 200


def test_plaintext_is_refused_though_it_has_the_announced_size(
    client: Client, upload: tuple[Made, str, str]
) -> None:
    made, location, _ = upload
    answer = client.patch(location, 0, b"p" * len(made.sealed[0]))
    assert (answer.status_code, answer.json()["type"]) == (422, "sealed-plaintext")
    assert stored(client, location) == 0


@pytest.mark.parametrize(
    ("headers", "status", "slug"),
    [
        ({"Tus-Resumable": "0.2.2"}, 412, "tus-version"),
        ({"Tus-Resumable": ""}, 412, "tus-version"),
        ({"Content-Type": "application/octet-stream"}, 415, "wrong-media-type"),
        ({"Upload-Offset": "-1"}, 400, "header-invalid"),
        ({"Upload-Offset": "one"}, 400, "header-invalid"),
        ({"Upload-Offset": "7"}, 409, "upload-offset-mismatch"),
        ({"Upload-Offset": "99999999999"}, 409, "upload-offset-mismatch"),
    ],
)
def test_a_wrong_header_has_its_answer(
    client: Client, upload: tuple[Made, str, str], headers: dict[str, str], status: int, slug: str
) -> None:
    _, location, _ = upload
    given = {**TUS, **OFFSET, "Upload-Offset": "0", **headers}
    answer = client.http.patch(location, content=b"x", headers=given)
    assert (answer.status_code, answer.json()["type"]) == (status, slug)
    assert client.offset(location) == 0


def test_more_than_was_announced_is_refused_before_it_is_stored(
    client: Client, upload: tuple[Made, str, str]
) -> None:
    made, location, _ = upload
    answer = client.patch(location, 0, made.sealed[0] + b"x")
    assert (answer.status_code, answer.json()["type"]) == (413, "upload-too-long")
    assert client.offset(location) == 0


def test_a_body_without_a_length_is_refused(client: Client, upload: tuple[Made, str, str]) -> None:
    _, location, _ = upload

    def chunks():  # type: ignore[no-untyped-def]
        yield b"x"

    given = {**TUS, **OFFSET, "Upload-Offset": "0"}
    answer = client.http.patch(location, content=chunks(), headers=given)
    assert (answer.status_code, answer.json()["type"]) == (411, "length-required")


def test_a_deleted_upload_is_gone(client: Client, upload: tuple[Made, str, str]) -> None:
    made, location, completion = upload
    client.patch(location, 0, made.sealed[0][:5000])
    assert client.http.delete(location, headers=TUS).status_code == 204
    assert stored(client, location) == 0
    assert client.head(location).status_code == 410
    assert client.patch(location, 0, b"x").status_code == 410
    assert client.complete(completion).status_code == 410


@pytest.mark.parametrize(
    "spoil",
    [lambda a: a[:-1] + ("a" if a[-1] != "a" else "b"), lambda a: a[:-30], lambda a: a + "x"],
)
def test_an_address_that_was_not_given_does_not_exist(
    client: Client, upload: tuple[Made, str, str], spoil
) -> None:  # type: ignore[no-untyped-def]
    _, location, completion = upload
    assert client.head(spoil(location)).status_code == 404
    assert client.complete(location + "/completion").status_code == 404
    assert client.head(completion.removesuffix("/completion")).status_code == 404


def test_options_tell_what_is_spoken(client: Client, upload: tuple[Made, str, str]) -> None:
    answer = client.http.options(upload[1])
    assert answer.status_code == 204
    assert answer.headers["Tus-Version"] == "1.0.0"
    assert answer.headers["Tus-Checksum-Algorithm"] == "sha256"


def test_a_request_that_falls_silent_holds_no_thread(client: Client) -> None:
    address = urlsplit(client.url)
    with socket.create_connection((address.hostname or "", address.port or 80), timeout=60) as peer:
        peer.sendall(
            f"POST /v1/testimonies HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Length: 1000\r\n"
            "Content-Type: multipart/form-data; boundary=x\r\n\r\n--x".encode()
        )
        assert peer.recv(4096).startswith(b"HTTP/1.1 400 ")
