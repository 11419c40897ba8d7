"""The command `amana cosigner` in real processes: what it answers over HTTP, what it takes, and how it ends."""

import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from amana.cosigner.heads import Heads
from amana.cosigner.judging import Judge
from amana.cosigner.server import CONNECTIONS, Server
from amana.protocol.checkpoint import KeyType, NoteKey, parse_signatures
from amana.protocol.cosigning import LIMIT_BYTES, PATH, SIZE_TYPE
from amana.protocol.signing import SigningKey
from tests.support.cosigners import RunningCosigner
from tests.support.logbook import Logbook
from tests.support.server import amana


@pytest.fixture
def log() -> Logbook:
    return Logbook("amana-test/custody").add(*(b"%d" % n for n in range(20)))


@pytest.fixture
def cosigner(tmp_path: Path, log: Logbook) -> Iterator[RunningCosigner]:
    running = RunningCosigner(tmp_path, "one.example/1")
    try:
        yield running.start(["--log", log.verifier.vkey])
    finally:
        running.close()


def test_checkpoints_are_cosigned_over_http(cosigner: RunningCosigner, log: Logbook) -> None:
    request = log.request(0, 7)
    status, _, body = cosigner.ask("POST", PATH, bytes(request))
    assert status == 200
    (signature,) = parse_signatures(body)
    NoteKey.parse(cosigner.vkey).verify(request.checkpoint.text, signature.signature)
    status, kind, body = cosigner.ask("POST", PATH, bytes(log.request(0, 9)))
    assert (status, kind, body) == (409, SIZE_TYPE, b"7\n")
    assert cosigner.ask("POST", PATH, bytes(log.request(7, 9)))[0] == 200
    assert cosigner.ask("GET", "/")[2].decode() == f"{cosigner.vkey}\n"


def test_a_connection_can_be_kept(cosigner: RunningCosigner, log: Logbook) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", cosigner.port, timeout=10)
    for old, size in ((0, 3), (3, 5), (5, 20)):
        connection.request("POST", PATH, bytes(log.request(old, size)))
        answer = connection.getresponse()
        assert answer.status == 200
        assert answer.read()
    connection.close()


def test_killed_and_started_again_it_goes_on_where_it_was(
    cosigner: RunningCosigner, log: Logbook
) -> None:
    assert cosigner.ask("POST", PATH, bytes(log.request(0, 7)))[0] == 200
    assert cosigner.kill() == -signal.SIGKILL
    cosigner.start(["--log", log.verifier.vkey])
    other = log.fork(6, *(b"%d other" % n for n in range(9)))
    assert cosigner.ask("POST", PATH, bytes(other.request(0)))[0] == 409
    assert cosigner.ask("POST", PATH, bytes(other.request(7)))[0] == 422
    assert cosigner.ask("POST", PATH, bytes(log.request(7)))[0] == 200
    assert cosigner.kill(signal.SIGTERM) == 0


def test_two_processes_never_share_a_state(cosigner: RunningCosigner, log: Logbook) -> None:
    second = subprocess.run(
        cosigner.command("--log", log.verifier.vkey),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert second.returncode == 2
    assert "Another process uses this state" in second.stderr


def test_nothing_of_a_request_is_written_down(cosigner: RunningCosigner, log: Logbook) -> None:
    cosigner.ask("POST", PATH, bytes(log.request(0, 7)))
    cosigner.ask("POST", "/secret-path", b"secret-body")
    cosigner.ask("GET", "/secret-path")
    cosigner.ask("POST", PATH, b"old 1\nsecret-body")
    with socket.create_connection(("127.0.0.1", cosigner.port)) as raw:
        raw.sendall(b"secret-method / HTTP/9.9 secret\r\n\r\n")
        assert b"secret" not in raw.recv(1000)
    cosigner.kill(signal.SIGTERM)
    first, *rest = cosigner.log.read_text().splitlines()
    assert first.startswith("The cosigner one.example/1 serves at")
    assert rest == ["cosigned", "malformed"]


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (f"POST {PATH} HTTP/1.1\r\nHost: a\r\n\r\n", 411),
        (f"POST {PATH} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
        (f"POST {PATH} HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", 411),
        (f"POST {PATH} HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 411),
        (f"POST {PATH} HTTP/1.1\r\nHost: a\r\nContent-Length: {LIMIT_BYTES + 1}\r\n\r\n", 413),
        (f"POST {PATH} HTTP/1.1\r\nHost: a\r\nContent-Length: {'9' * 400}\r\n\r\n", 413),
        (f"GET {PATH} HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", 404),
        ("PUT / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        ("GET / HTTP/nonsense\r\n\r\n", 400),
        (f"GET /{'a' * 70000} HTTP/1.1\r\n\r\n", 414),
        ("GET / HTTP/1.1\r\n" + "A: b\r\n" * 200 + "\r\n", 431),
    ],
)
def test_what_is_too_much_is_refused_before_it_is_read(
    cosigner: RunningCosigner, head: str, status: int
) -> None:
    with socket.create_connection(("127.0.0.1", cosigner.port), timeout=10) as raw:
        raw.sendall(head.encode())
        answer = raw.makefile("rb").readline()
    assert str(status) in answer.decode()


def test_slow_connections_end_and_leave_their_places(tmp_path: Path, log: Logbook) -> None:
    key = SigningKey.generate()
    vkey = NoteKey("one.example/1", KeyType.COSIGNER, key.public).vkey
    Heads.create(tmp_path / "state", vkey)
    heads = Heads.take(tmp_path / "state", vkey)
    judge = Judge("one.example/1", key, [log.verifier], heads)
    server = Server(("127.0.0.1", 0), judge, say=lambda _: None, connection_seconds=1)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    port = server.server_address[1]
    try:
        held = [socket.create_connection(("127.0.0.1", port)) for _ in range(CONNECTIONS + 5)]
        for one in held:
            one.sendall(f"POST {PATH} HTTP/1.1\r\nContent-Length: 100\r\n\r\nold".encode())
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("POST", PATH, bytes(log.request(0, 7)))
        assert connection.getresponse().status == 200
        connection.close()
        for one in held:
            one.close()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        heads.close()


def test_init_never_overwrites(cosigner: RunningCosigner) -> None:
    key = cosigner.folder / "key"
    before = key.read_bytes()
    assert key.stat().st_mode & 0o777 == 0o600
    options = ["--name", "one.example/1", "--state", str(cosigner.folder / "fresh")]
    done = amana("cosigner", "init", *options, "--key", key, check=2)
    assert "already" in done.stderr
    assert key.read_bytes() == before
    done = amana("cosigner", "init", "--name", "a b", "--key", cosigner.folder / "k",
                 "--state", cosigner.folder / "fresh", check=3)  # fmt: skip
    assert "checkpoint-invalid" in done.stderr


def test_what_is_watched_must_be_said(cosigner: RunningCosigner, tmp_path: Path) -> None:
    cosigner.kill()
    assert "--log or --root" in amana(*cosigner.command()[3:], check=2).stderr
    done = amana(*cosigner.command("--log", cosigner.vkey)[3:], check=2)
    assert "not of a cosigner" in done.stderr
    assert amana(*cosigner.command("--log", "nonsense")[3:], check=3).stdout == ""
    (tmp_path / "root").write_bytes(b"{}")
    done = amana(*cosigner.command("--root", str(tmp_path / "root"))[3:], check=3)
    assert "root-invalid" in done.stderr
    (cosigner.folder / "key").chmod(0o644)
    done = amana(*cosigner.command("--log", Logbook("a/b").verifier.vkey)[3:], check=2)
    assert "0600" in done.stderr


def test_it_loads_nothing_of_the_service_or_its_libraries() -> None:
    code = (
        "import sys, json; import amana.cli.cosigner;"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    loaded = set(json.loads(done.stdout))
    unwanted = {"flask", "werkzeug", "sqlalchemy", "marshmallow", "tuf", "httpx2", "boto3", "av"}
    assert {"cryptography", "click"} <= loaded
    assert not loaded & unwanted
