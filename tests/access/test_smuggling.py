"""Requests that two programs could read in two ways, sent byte by byte to the real server: none does what it should not."""

import json
import socket
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from amana.client.keyfile import read_key
from amana.ops.demo import DEPLOYMENT, PASSPHRASE
from amana.protocol.assertion import sign_assertion
from amana.protocol.dpop import make_proof, thumbprint
from amana.protocol.encoding import unb64
from amana.protocol.signing import SigningKey
from tests.support.server import Service, make_demo, running_service


class Reader:
    """A reviewer who is signed in, and writes requests by hand."""

    def __init__(self, service: Service, key_file: Path) -> None:
        self.service = service
        self.dpop = SigningKey.generate()
        keys = read_key(key_file, PASSPHRASE)
        jkt = thumbprint(unb64(self.dpop.public, 32))
        assertion = sign_assertion(keys.signing, keys.id, DEPLOYMENT, datetime.now(UTC), jkt=jkt)
        body = json.dumps({"assertion": assertion}).encode()
        lines = [
            self.host,
            f"DPoP: {self.proof('POST', '/v1/sessions')}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
        ]
        status, answer = self.send("POST /v1/sessions HTTP/1.1", lines, body)
        assert status == 201, answer
        self.token = json.loads(answer)["access_token"]

    @property
    def host(self) -> str:
        return f"Host: 127.0.0.1:{self.service.port}"

    def proof(self, method: str, path: str, token: str | None = None) -> str:
        return make_proof(self.dpop, method, self.service.url + path, datetime.now(UTC), token)

    def signed(self, path: str = "/v1/cases", method: str = "GET") -> list[str]:
        """Return the lines of a good request."""
        proof = self.proof(method, path, self.token)
        return [self.host, f"Authorization: DPoP {self.token}", f"DPoP: {proof}"]

    def send(self, first: str, lines: Sequence[str], body: bytes = b"") -> tuple[int, bytes]:
        """Send one request as it stands; returns status and body of the first answer."""
        head = "\r\n".join([first, *lines, "Connection: close", "", ""])
        with socket.create_connection(("127.0.0.1", self.service.port), timeout=10) as connection:
            connection.sendall(head.encode("latin-1") + body)
            received = b""
            while block := connection.recv(65536):
                received += block
        answer_head, _, answer = received.partition(b"\r\n\r\n")
        assert received.count(b"HTTP/1.1 ") == 1, "two answers to one request"
        assert b"set-cookie" not in answer_head.lower()
        assert b"access-control" not in answer_head.lower()
        return int(answer_head.split(b" ")[1]), answer


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    folder = tmp_path_factory.mktemp("smuggling")
    with running_service(folder, surface="desk") as service:
        make_demo(service, folder / "demo")
        yield Reader(service, sorted((folder / "demo" / "reviewers").glob("*.key"))[0])


GET = "GET /v1/cases HTTP/1.1"


def test_the_request_from_which_the_faults_are_made_is_good(reader: Reader) -> None:
    status, answer = reader.send(GET, reader.signed())
    assert (status, json.loads(answer)) == (
        200,
        {"cases": [], "next": None, "withdrawn": [], "expired": [], "expiring": []},
    )


@pytest.mark.parametrize("added", ["", ",", "DPoP x", "Bearer x", "Basic cmVhZGVyOng="])
def test_a_second_credential_is_refused_even_an_empty_one(reader: Reader, added: str) -> None:
    status, _ = reader.send(GET, [*reader.signed(), f"Authorization: {added}"])
    assert status == 401


@pytest.mark.parametrize("added", ["", ",", "!!", "a.b.c"])
@pytest.mark.parametrize("first", [True, False])
def test_a_second_proof_is_refused_even_an_empty_one(
    reader: Reader, added: str, first: bool
) -> None:
    lines = reader.signed()
    lines.insert(0 if first else len(lines), f"DPoP: {added}")
    assert reader.send(GET, lines)[0] == 401


def test_two_good_proofs_are_not_better_than_one(reader: Reader) -> None:
    assert reader.send(GET, [*reader.signed(), reader.signed()[-1]])[0] == 401


@pytest.mark.parametrize(
    "lines",
    [
        ["Host: evil.example"],
        ["Content-Length: 0", "Content-Length: 5"],
        ["Content-Length: 5", "Content-Length: 5"],
        ["Content-Length: 5, 5"],
        ["Content-Length: +5"],
        ["Content-Length: 5", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked", "Content-Length: 5"],
        ["Transfer-Encoding: identity"],
        ["Transfer-Encoding: chunked, identity"],
        ["Transfer-Encoding : chunked"],
        ["DPoP : x"],
        ["X-Folded: a", " DPoP: x"],
        ["X-Zero: a\0b"],
    ],
    ids=str,
)
def test_a_request_with_two_lengths_hosts_or_readings_is_not_read(
    reader: Reader, lines: list[str]
) -> None:
    smuggled = b"0\r\n\r\nGET /v1/cases HTTP/1.1\r\nHost: x\r\n\r\n"
    assert reader.send(GET, [*reader.signed(), *lines], smuggled)[0] == 400


@pytest.mark.parametrize(
    ("first", "lines"),
    [
        ("GET /health/live HTTP/1.1", ["PATH_INFO: /v1/cases"]),
        ("GET /x/v1/cases HTTP/1.1", ["SCRIPT_NAME: /x"]),
        ("GET /v1 HTTP/1.1", ["X-Original-URL: /v1/cases", "X-Rewrite-URL: /v1/cases"]),
        ("POST /v1/cases HTTP/1.1", ["X-HTTP-Method-Override: GET", "X-HTTP-Method: GET"]),
    ],
    ids=str,
)
def test_no_header_moves_a_request_to_another_address(
    reader: Reader, first: str, lines: list[str]
) -> None:
    method, path, _ = first.split(" ")
    _, answer = reader.send(first, [*reader.signed(path, method), *lines])
    assert b'"cases"' not in answer


@pytest.mark.parametrize(
    "line", ["HTTP_DPOP: x", "D_POP: x", "REMOTE_USER: x", "X-Forwarded-Host: evil.example"]
)
def test_no_header_stands_for_another(reader: Reader, line: str) -> None:
    assert reader.send(GET, [*reader.signed(), line])[0] == 200
    name = line.partition(":")[0]
    instead = [*reader.signed()[:2], f"{name}: {reader.proof('GET', '/v1/cases', reader.token)}"]
    assert reader.send(GET, instead)[0] == 401


@pytest.mark.parametrize(
    "target", ["http://evil.example/v1/cases", "/v1/%63ases", "//v1/cases", "/v1/cases/"]
)
def test_a_proof_is_for_the_address_as_it_was_sent(reader: Reader, target: str) -> None:
    status, answer = reader.send(f"GET {target} HTTP/1.1", reader.signed("/v1/cases"))
    assert status in {401, 404}, answer


@pytest.mark.parametrize("path", ["/v1/cases?access_token=", "/v1/cases?jwt="])
def test_a_token_in_a_cookie_or_an_address_is_none(reader: Reader, path: str) -> None:
    host, _, proof = reader.signed()
    cookies = [f"Cookie: {name}={reader.token}" for name in ("access_token_cookie", "session")]
    for lines in ([host, proof], *([host, proof, cookie] for cookie in cookies)):
        assert reader.send(GET, lines)[0] == 401
    assert reader.send(f"GET {path}{reader.token} HTTP/1.1", [host, proof])[0] == 401


def test_too_many_and_too_long_headers_are_refused(reader: Reader) -> None:
    many = [f"X-{number}: a" for number in range(60)]
    for lines in (many, ["X: " + "a" * 5000]):
        assert reader.send(GET, [*reader.signed(), *lines])[0] == 431
