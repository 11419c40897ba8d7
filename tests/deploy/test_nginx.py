"""nginx really runs with deploy/nginx.conf, in front of a stand-in for the application."""

import fcntl
import os
import signal
import socket
import ssl
import struct
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from http.client import BadStatusLine, HTTPResponse
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.nginx import Nginx, running_nginx, webdav_put
from tests.support.server import free_port, wait_until
from tests.support.stand_in import StandIn, standing_in

# Loopback has a whole network of addresses; this one is the witness's.
WITNESS = "127.84.63.21"
CAPABILITY = "canarycapability234567"
AGENT = "CanaryPhone/7.1"
UPLOAD = f"/v1/uploads/{CAPABILITY}"


class Behind(NamedTuple):
    nginx: Nginx
    intake: StandIn
    desk: StandIn


@pytest.fixture
def behind(tmp_path: Path) -> Iterator[Behind]:
    intake, desk = tmp_path / "i.sock", tmp_path / "d.sock"
    with (
        standing_in(intake) as at_intake,
        standing_in(desk) as at_desk,
        running_nginx(intake, desk, tmp_path / "nginx") as nginx,
    ):
        yield Behind(nginx, at_intake, at_desk)


def connect(url: str) -> socket.socket:
    """Connect as the witness, from the witness's address."""
    port = urlsplit(url).port
    assert port is not None
    return socket.create_connection(("127.0.0.1", port), timeout=20, source_address=(WITNESS, 0))


def head(method: str, path: str, length: int | None = None, **headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: amana.example", f"User-Agent: {AGENT}"]
    lines += [] if length is None else [f"Content-Length: {length}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


def answer(connection: socket.socket, method: str | None = None) -> tuple[int, bytes]:
    """Return the status and all of an answer, and close; status 0 if the connection just ended."""
    with connection, closing(HTTPResponse(connection, method=method)) as response:
        try:
            response.begin()
        except (ConnectionError, BadStatusLine):
            return 0, b""
        return response.status, str(response.headers).encode() + response.read()


def test_bytes_of_an_unfinished_upload_reach_the_application_at_once(behind: Behind) -> None:
    with connect(behind.nginx.intake) as sender:
        sender.sendall(head("PATCH", UPLOAD, 1_000_000) + b"a" * 1000)
        assert behind.intake.wait_for_bytes(1000).body == b"a" * 1000
        sender.sendall(b"b" * 70_000)
        assert behind.intake.wait_for_bytes(71_000).body[1000:] == b"b" * 70_000


@pytest.mark.parametrize("how", ["FIN", "RST"])
def test_a_cut_upload_leaves_what_was_sent_with_the_application(behind: Behind, how: str) -> None:
    sender = connect(behind.nginx.intake)
    sender.sendall(head("PATCH", UPLOAD, 10_000_000) + os.urandom(300_000))
    behind.intake.wait_for_bytes(300_000)
    if how == "RST":
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sender.close()
    # The end is told on at once, so that the application can make the bytes durable and free its thread.
    assert len(behind.intake.wait_for_end().body) == 300_000


def test_a_cut_in_the_same_instant_loses_no_more_than_one_buffer(behind: Behind) -> None:
    with connect(behind.nginx.intake) as sender:
        sender.sendall(head("PATCH", UPLOAD, 10_000_000) + os.urandom(3_000_000))
    assert len(behind.intake.wait_for_end().body) >= 3_000_000 - 65536


def test_a_silent_sender_is_given_up(tmp_path: Path) -> None:
    intake = tmp_path / "i.sock"
    with (
        standing_in(intake) as application,
        running_nginx(
            intake,
            tmp_path / "d.sock",
            tmp_path / "nginx",
            changes={"client_body_timeout 60s;": "client_body_timeout 1s;"},
        ) as nginx,
        connect(nginx.intake) as sender,
    ):
        sender.sendall(head("PATCH", UPLOAD, 10_000_000) + b"a" * 5000)
        assert len(application.wait_for_end().body) == 5000


def test_a_small_request_reaches_the_application_only_when_it_is_whole(behind: Behind) -> None:
    with connect(behind.nginx.intake) as sender:
        sender.sendall(head("POST", "/v1/testimonies", 300_000) + b"a" * 299_999)
        # A second request that overtakes the first shows that nginx was not just slow.
        assert answer_to(behind.nginx.intake, head("GET", "/v1/admission"))[0] == 200
        assert [b"POST" in one.head for one in behind.intake.arrived] == [False]
        sender.sendall(b"a")
        assert len(behind.intake.wait_for_bytes(300_000).body) == 300_000


def test_a_body_waits_in_memory_and_not_on_disk(behind: Behind) -> None:
    with connect(behind.nginx.intake) as sender:
        sender.sendall(head("POST", "/v1/testimonies", 500_000) + b"a" * 499_999)
        # Read by nginx, or else nothing can be said about where it went.
        wait_until(lambda: unsent(sender) == 0, "nginx to be sent the body")
        assert answer_to(behind.nginx.intake, head("GET", "/v1/admission"))[0] == 200
        assert not files_in_use(behind.nginx)


def test_an_answer_that_nobody_takes_does_not_wait_on_disk(behind: Behind) -> None:
    behind.desk.answer = bytes(60_000_000)
    with connect(behind.nginx.desk) as sender:
        sender.sendall(head("GET", "/v1/cases/x/objects/1"))
        received = 0
        while received < 20_000_000:
            received += len(sender.recv(65536))
            assert not files_in_use(behind.nginx)


def unsent(connection: socket.socket) -> int:
    """Return how many bytes the other end has not acknowledged yet (SIOCOUTQ)."""
    answer = fcntl.ioctl(connection, termios.TIOCOUTQ, b"\0\0\0\0")
    return int.from_bytes(answer, sys.byteorder)


def files_in_use(nginx: Nginx) -> list[str]:
    """Return the temporary files of nginx; it deletes them while it still writes to them."""
    found = []
    for pid in Path(f"/proc/{nginx.pid}/task/{nginx.pid}/children").read_text().split():
        for fd in Path(f"/proc/{pid}/fd").iterdir():
            # A connection may end between being listed and being looked at.
            with suppress(FileNotFoundError):
                found.append(str(fd.readlink()))
    return [path for path in found if "-overflow" in path]


def test_only_named_headers_reach_the_application(behind: Behind) -> None:
    told = {
        "User_Agent": AGENT,
        "Referer": "https://canary.example/",
        "X_Forwarded_For": WITNESS,
        "X_Real_IP": WITNESS,
        "Forwarded": f"for={WITNESS}",
        "Via": "canary",
        "Cookie": "canary=1",
        "Accept_Language": "ar-SY",
        "Accept": "canary/1",
        "Sec_CH_UA_Platform": "canary",
        "X_Anything": "canary",
    }
    spoken = {
        "Content_Type": "application/offset+octet-stream",
        "Tus_Resumable": "1.0.0",
        "Upload_Offset": "5",
        "Upload_Checksum": "sha256 AAAA",
    }
    request = head("PATCH", UPLOAD, 3, **told, **spoken, Authorization="Bearer x") + b"abc"
    assert answer_to(behind.nginx.intake, request)[0] == 200
    names = {name.lower().replace("_", "-") for name in spoken}
    assert set(behind.intake.arrived[-1].headers) == names | {"host", "content-length"}
    assert behind.intake.arrived[-1].headers["host"] == "amana.example"

    asked = head("GET", "/v1/cases", **told, Authorization="Bearer x", Range="bytes=1-2")
    assert answer_to(behind.nginx.desk, asked)[0] == 200
    assert set(behind.desk.arrived[-1].headers) == {"host", "authorization", "range"}


def answer_to(url: str, request: bytes) -> tuple[int, bytes]:
    sender = connect(url)
    sender.sendall(request)
    return answer(sender, request.split(b" ")[0].decode())


@pytest.mark.parametrize(
    ("path", "method", "limit"),
    [
        ("/v1/testimonies", "POST", 512 * 1024),
        (UPLOAD, "PATCH", 4 * 2**30),
        (f"{UPLOAD}/completion", "POST", 64 * 1024),
        ("/v1/anything", "POST", 64 * 1024),
    ],
)
def test_a_body_that_is_too_large_is_refused_before_it_is_sent(
    behind: Behind, path: str, method: str, limit: int
) -> None:
    status, data = answer_to(behind.nginx.intake, head(method, path, limit + 1))
    assert status == 413
    assert b'"type":"too-large"' in data
    assert b"application/problem+json" in data
    assert not behind.intake.arrived
    with connect(behind.nginx.intake) as sender:
        sender.sendall(head(method, path, limit) + b"a" * min(limit, 512 * 1024))
        behind.intake.wait_for_bytes(min(limit, 512 * 1024))


def test_the_desk_takes_a_directory_of_a_mebibyte_and_little_else(behind: Behind) -> None:
    big = 2**20
    assert answer_to(behind.nginx.desk, head("POST", "/v1/directory", big + 1))[0] == 413
    assert answer_to(behind.nginx.desk, head("POST", "/v1/sessions", big))[0] == 413
    whole = head("POST", "/v1/directory", big) + bytes(big)
    assert answer_to(behind.nginx.desk, whole)[0] == 200


def test_the_desk_takes_a_question_of_eight_slots(behind: Behind) -> None:
    big = 128 * 1024
    assert answer_to(behind.nginx.desk, head("POST", "/v1/drop", big + 1))[0] == 413
    assert answer_to(behind.nginx.desk, head("POST", "/v1/drop", big) + bytes(big))[0] == 200
    assert answer_to(behind.nginx.intake, head("POST", "/v1/drop", big))[0] == 413


def test_a_slow_client_of_a_shard_holds_nothing_of_the_application(tmp_path: Path) -> None:
    """What nobody takes yet waits in nginx, so that the application has sent it all and is free."""
    intake, port = tmp_path / "i.sock", free_port()
    # The kernel must not take for the client what nginx is to hold.
    changes = {"listen 127.0.0.1:8080;": f"listen 127.0.0.1:{port} sndbuf=16k;"}
    with (
        standing_in(intake) as application,
        running_nginx(intake, tmp_path / "d.sock", tmp_path / "n", changes=changes) as nginx,
        socket.socket() as slow,
    ):
        application.answer = bytes(256 * 5755)
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.settimeout(20)
        slow.connect(("127.0.0.1", port))
        slow.sendall(head("GET", "/v1/drop/0/0"))
        application.wait_until_answered(1)
        assert not files_in_use(nginx)


def test_shards_beyond_what_nginx_holds_are_put_off(tmp_path: Path) -> None:
    intake = tmp_path / "i.sock"
    changes = {"limit_conn drop 200;": "limit_conn drop 1;"}
    with (
        standing_in(intake) as application,
        running_nginx(intake, tmp_path / "d.sock", tmp_path / "n", changes=changes) as nginx,
        connect(nginx.intake) as slow,
    ):
        application.answer = bytes(20_000_000)
        slow.sendall(head("GET", "/v1/drop/0/0"))
        assert slow.recv(1000)
        status, data = answer_to(nginx.intake, head("GET", "/v1/drop/0/0"))
        assert status == 503
        assert b"Retry-After: " in data
        application.answer = b"{}"
        assert answer_to(nginx.intake, head("GET", "/v1/admission"))[0] == 200


def test_an_early_refusal_reaches_the_sender_of_a_large_body(behind: Behind) -> None:
    behind.intake.refuse_at_once = True
    for _ in range(20):
        with connect(behind.nginx.intake) as sender:
            sender.sendall(head("PATCH", UPLOAD, 50_000_000) + b"a" * 1000)
            assert answer(sender)[0] == 409


def test_no_software_names_itself(behind: Behind) -> None:
    _, data = answer_to(behind.nginx.intake, head("GET", "/v1/admission"))
    assert b"Server: nginx\n" in data
    assert b"secret/1.0" not in data
    _, data = answer_to(behind.nginx.intake, head("GET", "/health/ready"))
    assert b"nginx/" not in data


def test_readiness_is_not_for_the_public(behind: Behind) -> None:
    for url in (behind.nginx.intake, behind.nginx.desk):
        assert answer_to(url, head("GET", "/health/ready"))[0] == 404
    assert answer_to(behind.nginx.intake, head("GET", "/health/live"))[0] == 200


def test_an_application_that_is_away_is_told_as_a_problem_that_passes(tmp_path: Path) -> None:
    with running_nginx(tmp_path / "i.sock", tmp_path / "d.sock", tmp_path / "nginx") as nginx:
        for url in (nginx.intake, nginx.desk):
            response = httpx2.get(f"{url}/v1/anything")
            assert response.status_code == 503
            assert response.json()["type"] == "unavailable"
            assert int(response.headers["Retry-After"]) > 0


def test_uploads_beyond_the_threads_are_put_off_and_other_requests_are_not(tmp_path: Path) -> None:
    intake = tmp_path / "i.sock"
    with (
        standing_in(intake) as application,
        running_nginx(
            intake,
            tmp_path / "d.sock",
            tmp_path / "nginx",
            changes={"limit_conn uploads 500;": "limit_conn uploads 1;"},
        ) as nginx,
        connect(nginx.intake) as sender,
    ):
        sender.sendall(head("PATCH", UPLOAD, 10_000) + b"a" * 1000)
        application.wait_for_bytes(1000)
        status, data = answer_to(nginx.intake, head("PATCH", f"{UPLOAD}7", 3) + b"abc")
        assert status == 503
        assert b"Retry-After: " in data
        # Whoever comes back must be able to ask how far the upload is, which frees it.
        assert answer_to(nginx.intake, head("HEAD", UPLOAD))[0] == 200
        assert answer_to(nginx.intake, head("GET", "/v1/admission"))[0] == 200


def test_tor_comes_in_by_a_unix_socket(behind: Behind) -> None:
    with socket.socket(socket.AF_UNIX) as sender:
        sender.settimeout(20)
        sender.connect(str(behind.nginx.intake_onion))
        sender.sendall(head("PATCH", UPLOAD, 3) + b"abc")
        assert answer(sender)[0] == 200
    assert "x-forwarded-for" not in behind.intake.arrived[-1].headers


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.name != "nginx.conf"]


def test_whatever_goes_wrong_nginx_writes_down_nobody(tmp_path: Path) -> None:
    """Provoke each message that names a client at its level: info to alert, missing sockets, too few connections."""
    intake = tmp_path / "i.sock"
    folder = tmp_path / "nginx"
    changes = {
        "worker_processes auto;": "worker_processes 1;",
        "worker_connections 8192;": "worker_connections 24;",
        "limit_conn uploads 500;": "limit_conn uploads 2;",
        "client_body_timeout 60s;": "client_body_timeout 1s;",
    }
    with running_nginx(intake, tmp_path / "d.sock", folder, changes=changes) as nginx:
        # No socket yet: "connect() failed" is crit.
        assert answer_to(nginx.intake, head("GET", f"/v1/canary?{CAPABILITY}"))[0] == 503
        with standing_in(intake) as application:
            misbehave(nginx, application)
    more = {**changes, "limit_conn uploads 500;": "limit_conn uploads 40;"}
    with (
        standing_in(tmp_path / "j.sock"),
        running_nginx(tmp_path / "j.sock", tmp_path / "d.sock", folder, changes=more) as nginx,
    ):
        crowd(nginx)
    # A socket that nobody listens on any more: "Connection refused" is error.
    with running_nginx(intake, tmp_path / "d.sock", folder, changes=changes) as nginx:
        assert answer_to(nginx.intake, head("GET", f"/v1/canary?{CAPABILITY}"))[0] == 503
    written = b"".join(path.read_bytes() for path in files_below(folder))
    names = " ".join(str(path.relative_to(folder)) for path in folder.rglob("*"))
    for canary in (WITNESS, AGENT, CAPABILITY, "canary", "bodybodybody"):
        assert canary.encode() not in written
        assert canary not in names


def misbehave(nginx: Nginx, application: StandIn) -> None:
    body = b"bodybodybody" * 1000
    assert answer_to(nginx.intake, head("POST", "/v1/canary", 10**7))[0] == 413
    assert answer_to(nginx.intake, b"NONSENSE canary\r\n\r\n")[0] == 400
    assert answer_to(nginx.intake, head("GET", "/canary", Cookie="canary" * 9000))[0] == 400
    assert answer_to(nginx.intake, head("GET", "/" + "canary" * 9000))[0] == 414
    application.refuse_at_once = True
    assert answer_to(nginx.intake, head("PATCH", UPLOAD, 10**6) + body)[0] == 409
    application.refuse_at_once = False
    with connect(nginx.intake) as silent, connect(nginx.intake) as cut:
        for one in (silent, cut):
            one.sendall(head("PATCH", UPLOAD, 10**6) + body)
        wait_until(
            lambda: sum(len(one.body) >= len(body) for one in application.arrived) >= 2,
            "both uploads to begin",
        )
        assert answer_to(nginx.intake, head("PATCH", UPLOAD, 3) + b"abc")[0] == 503
        cut.close()
        assert answer(silent)[0] != 200


def crowd(nginx: Nginx) -> None:
    """Use up the connections, so that an upload finds none towards the application: that is alert."""
    body = b"bodybodybody" * 1000
    senders = [connect(nginx.intake) for _ in range(40)]
    refused = 0
    for one in senders:
        try:
            one.sendall(head("PATCH", UPLOAD, 10**6) + body)
        except ConnectionError:
            refused += 1
    for one in senders:
        refused += answer(one)[0] in (0, 503)
    assert refused, "the workers had connections enough, so nothing was provoked"


def test_nginx_tells_its_operator_why_a_worker_died(tmp_path: Path) -> None:
    with running_nginx(tmp_path / "i.sock", tmp_path / "d.sock", tmp_path / "nginx") as nginx:
        children = Path(f"/proc/{nginx.pid}/task/{nginx.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGKILL)
        wait_until(lambda: b"exited on signal 9" in nginx.log.read_bytes(), "the message")


def write_certificate(folder: Path, name: str) -> None:
    """Write a certificate that vouches for itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(pem))
    (folder / "key.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


def test_a_public_address_is_added_with_tls(tmp_path: Path) -> None:
    folder, intake, port = tmp_path / "nginx", tmp_path / "i.sock", free_port()
    example = Path(__file__).parents[2] / "deploy" / "tls" / "listen.conf.example"
    names = folder / "tls" / "intake"
    names.mkdir(parents=True)
    write_certificate(folder, "amana.example")
    text = example.read_text()
    for old, new in {
        "listen 8443 ": f"listen 127.0.0.1:{port} ",
        "listen [::]:8443 ": f"listen [::1]:{port} ",
        "/etc/amana/tls/": f"{folder}/",
    }.items():
        assert old in text
        text = text.replace(old, new)
    (names / "listen.conf").write_text(text)
    trust = ssl.create_default_context(cafile=f"{folder}/certificate.pem")
    with (
        standing_in(intake) as application,
        running_nginx(intake, tmp_path / "d.sock", folder) as nginx,
    ):
        with (
            connect(f"https://amana.example:{port}") as plain,
            trust.wrap_socket(plain, server_hostname="amana.example") as sender,
        ):
            assert sender.version() == "TLSv1.3"
            sender.sendall(head("PATCH", UPLOAD, 10**6) + b"a" * 1000)
            assert application.wait_for_bytes(1000).body == b"a" * 1000
        with (
            connect(f"https://amana.example:{port}") as plain,
            trust.wrap_socket(plain, server_hostname="amana.example") as sender,
        ):
            sender.sendall(head("GET", "/v1/admission"))
            assert b"Strict-Transport-Security: " in sender.recv(65536)
        # HSTS promises TLS where there is some; over the onion address there is none.
        _, data = answer_to(nginx.intake, head("GET", "/v1/admission"))
        assert b"Strict-Transport-Security" not in data


def test_the_bare_put_that_uploads_are_measured_against_works(tmp_path: Path) -> None:
    port = free_port()
    folder = tmp_path / "nginx"
    extra = webdav_put(folder, port)
    with running_nginx(tmp_path / "i.sock", tmp_path / "d.sock", folder, extra=extra):
        data = os.urandom(3_000_000)
        assert httpx2.put(f"http://127.0.0.1:{port}/dav/file", content=data).status_code == 201
    assert (folder / "dav" / "file").read_bytes() == data


def test_nginx_ends_quickly(tmp_path: Path) -> None:
    with running_nginx(tmp_path / "i.sock", tmp_path / "d.sock", tmp_path / "nginx"):
        began = time.monotonic()
    assert time.monotonic() - began < 10
