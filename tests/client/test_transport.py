"""What a server and the network learn from a request, and what a hostile answer can do."""

import datetime
import gc
import ssl
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from amana.client.errors import ClientError, NetworkFailed, NotVerified, Refused, Usage
from amana.client.transport import Busy, Patience, Transport, check_server
from tests.support.scripted import CUT, answer, lines, scripted_server
from tests.support.socks import socks_server

SWIFT = Patience(attempts=3, first_seconds=0.01, longest_seconds=0.02)


def test_a_request_tells_nothing_of_who_asks() -> None:
    with scripted_server(answer(200, b"{}")) as server, Transport(server.url) as transport:
        transport.ask("GET", "/v1/admission")
        port = server.address[1]
    assert server.asked[0].line == "GET /v1/admission HTTP/1.1"
    assert server.asked[0].headers == {
        "host": f"127.0.0.1:{port}",
        "accept": "*/*",
        "accept-encoding": "identity",
        "connection": "keep-alive",
    }


def test_cookies_of_a_server_never_come_back_to_it() -> None:
    with (
        scripted_server(answer(200, Set_Cookie="who=you; Path=/"), answer(200)) as server,
        Transport(server.url) as transport,
    ):
        transport.ask("GET", "/a")
        transport.ask("GET", "/b")
    assert "cookie" not in server.asked[1].headers


def test_a_redirect_is_not_followed() -> None:
    with (
        scripted_server(answer(302, Location="/other"), answer(200)) as server,
        Transport(server.url) as transport,
        pytest.raises(Refused),
    ):
        transport.get("/v1/admission")
    assert lines(server.asked) == ["GET /v1/admission"]


@pytest.mark.parametrize("status", [200, 500])
def test_an_answer_beyond_the_limit_is_refused(status: int) -> None:
    with (
        scripted_server(answer(status, bytes(1001))) as server,
        Transport(server.url) as transport,
        pytest.raises(NotVerified) as refused,
    ):
        transport.ask("GET", "/", limit=1000)
    assert refused.value.slug == "answer-too-large"


def test_nothing_that_comes_packed_is_unpacked() -> None:
    with (
        scripted_server(answer(200, b"\x1f\x8b\x08 bomb", Content_Encoding="gzip")) as server,
        Transport(server.url) as transport,
    ):
        assert transport.get("/") == b"\x1f\x8b\x08 bomb"


def test_variables_of_the_environment_choose_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with scripted_server(answer(200, b"here")) as server, Transport(server.url) as transport:
        assert transport.get("/") == b"here"


@pytest.mark.parametrize(
    "address",
    [
        "https://amana.example",
        "https://amana.example/base/",
        "http://127.0.0.1:8600",
        "http://[::1]:1",
    ],
)
def test_these_addresses_are_taken(address: str) -> None:
    assert check_server(address) == address.rstrip("/")


@pytest.mark.parametrize(
    ("address", "normal"),
    [
        ("https://Amana.Example", "https://amana.example"),
        ("https://amana.example:443/", "https://amana.example"),
        ("https://amana.example:80", "https://amana.example:80"),
        ("http://127.0.0.1:80", "http://127.0.0.1"),
        ("http://[::1]:80", "http://[::1]"),
        ("HTTPS://amana.example/Base", "https://amana.example/Base"),
    ],
)
def test_an_address_is_kept_as_the_host_header_has_it(address: str, normal: str) -> None:
    assert check_server(address) == normal


@pytest.mark.parametrize(
    ("address", "slug"),
    [
        ("http://amana.example", "plain-http"),
        ("http://10.0.0.1", "plain-http"),
        ("http://127.0.0.1.example", "plain-http"),
        ("http://localhost.example", "plain-http"),
        ("http://aaaa.onion", "proxy-needed"),
        ("https://aaaa.onion.", "proxy-needed"),
        ("ftp://amana.example", "bad-server"),
        ("amana.example", "bad-server"),
        ("https://user:pass@amana.example", "bad-server"),
        ("https://amana.example/?x=1", "bad-server"),
        ("https://amana.example:port", "bad-server"),
        ("https://amana.exämple", "bad-server"),
        ("", "bad-server"),
    ],
)
def test_what_would_send_in_the_clear_is_refused(address: str, slug: str) -> None:
    with pytest.raises(Usage) as refused:
        check_server(address)
    assert refused.value.slug == slug


@pytest.mark.parametrize(
    "proxy",
    ["socks5://127.0.0.1:9050", "http://127.0.0.1:8080", "127.0.0.1:9050", "socks5h://", "\x00"],
)
def test_a_proxy_that_could_ask_dns_is_refused(proxy: str) -> None:
    with pytest.raises(Usage):
        Transport("https://amana.example", proxy=proxy)


def test_the_proxy_resolves_the_name_and_each_errand_has_a_circuit_of_its_own() -> None:
    with (
        scripted_server(answer(200, b"one"), answer(200, b"two")) as server,
        socks_server({"aaaa.onion": server.address}) as proxy,
    ):
        for expected in (b"one", b"two"):
            with Transport("http://aaaa.onion", proxy=proxy.url) as transport:
                assert transport.get("/v1/admission") == expected
    assert proxy.asked == [("aaaa.onion", 80)] * 2
    assert len(set(proxy.users)) == 2


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_address_that_is_no_onion_has_a_circuit_of_its_own_too(tmp_path: Path) -> None:
    with (
        scripted_server(answer(200), answer(200), tls=_self_signed(tmp_path)) as server,
        socks_server({"amana.example": server.address}) as proxy,
    ):
        for _ in range(2):
            with (
                Transport("https://amana.example", proxy=proxy.url) as transport,
                pytest.raises(NotVerified),
            ):
                transport.ask("GET", "/")
    assert len(set(proxy.users)) == 2
    gc.collect()


def test_the_keys_of_a_connection_are_written_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    with (
        scripted_server(answer(200), tls=_self_signed(tmp_path)) as server,
        Transport(server.url) as transport,
        pytest.raises(NotVerified),
    ):
        transport.ask("GET", "/")
    assert not (tmp_path / "keys").exists()


def test_a_proxy_that_does_not_reach_the_server_is_named() -> None:
    with (
        socks_server({}) as proxy,
        Transport("http://aaaa.onion", proxy=proxy.url) as transport,
        pytest.raises(NetworkFailed) as failed,
    ):
        transport.ask("GET", "/")
    assert failed.value.slug == "proxy"


# The library leaves the socket of a failed SOCKS handshake to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_something_else_than_a_proxy_is_a_failure_of_the_network() -> None:
    with (
        scripted_server(answer(200)) as other,
        Transport(
            "http://aaaa.onion",
            proxy=f"socks5h://127.0.0.1:{other.address[1]}",
            silence_seconds=0.5,
        ) as transport,
        pytest.raises(NetworkFailed),
    ):
        transport.ask("GET", "/")
    gc.collect()


def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    with (
        scripted_server(answer(200), tls=_self_signed(tmp_path)) as server,
        Transport(server.url) as transport,
        pytest.raises(NotVerified) as refused,
    ):
        transport.ask("GET", "/")
    assert refused.value.slug == "bad-certificate"
    assert server.asked == []


def _self_signed(folder: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path = folder / "server.pem"
    path.write_bytes(pem + certificate.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


def test_a_cut_connection_is_tried_again() -> None:
    with (
        scripted_server(CUT, CUT, answer(200, b"here")) as server,
        Transport(server.url) as transport,
    ):
        assert transport.get("/", patience=SWIFT) == b"here"


def test_patience_ends() -> None:
    with (
        scripted_server(CUT, CUT, CUT, answer(200)) as server,
        Transport(server.url) as transport,
        pytest.raises(NetworkFailed),
    ):
        transport.get("/", patience=SWIFT)
    assert len(server.asked) == 3


def test_a_server_that_cannot_be_reached_is_a_failure_of_the_network() -> None:
    with scripted_server() as server:
        url = server.url
    with Transport(url) as transport, pytest.raises(NetworkFailed) as failed:
        transport.ask("GET", "/")
    assert failed.value.slug == "network"


def test_a_silent_server_does_not_hold_the_client() -> None:
    with (
        scripted_server(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe") as server,
        Transport(server.url, silence_seconds=0.2) as transport,
        pytest.raises(NetworkFailed),
    ):
        transport.ask("GET", "/")


def test_a_busy_server_is_given_the_time_it_asks_for() -> None:
    problem = b'{"type": "unavailable", "title": "Later.", "status": 503}'
    with (
        scripted_server(answer(503, problem, Retry_After="1"), answer(200, b"here")) as server,
        Transport(server.url) as transport,
    ):
        began = time.monotonic()
        assert transport.get("/", patience=SWIFT) == b"here"
        assert time.monotonic() - began >= 1


@pytest.mark.parametrize("asked", ["-1", "1e9", "Wed, 21 Oct 2026 07:28:00 GMT", "٣", ""])
def test_a_time_to_wait_that_is_no_number_is_ignored(asked: str) -> None:
    with (
        scripted_server(answer(503, Retry_After=asked)) as server,
        Transport(server.url) as transport,
        pytest.raises(Busy) as busy,
    ):
        transport.ask("GET", "/")
    assert busy.value.retry_after_seconds == 0


def test_no_server_makes_a_client_wait_for_years() -> None:
    with (
        scripted_server(answer(503, Retry_After="999999999")) as server,
        Transport(server.url) as transport,
        pytest.raises(Busy) as busy,
    ):
        transport.ask("GET", "/")
    assert busy.value.retry_after_seconds == 300


@pytest.mark.parametrize(
    ("body", "slug", "title"),
    [
        (b'{"type":"case-differs","title":"Plain."}', "case-differs", "Plain."),
        (b'{"type":"x\\u001b[2J","title":"a\\u001b[2J\\r\\nb"}', "http-409", "a[2Jb"),
        (
            b'{"type":"unprocessable-entity","title":"No.","fields":["valid_until","a\\u001b[2J",7]}',
            "unprocessable-entity",
            "No. (refused: valid_until, a[2J)",
        ),
        (b'{"type":"x","title":"No.","fields":{"a":1}}', "x", "No."),
        (b'{"type":["a"],"title":7}', "http-409", "The server answered with status 409."),
        (b"<html>", "http-409", "The server answered with status 409."),
        (b"[" * 100_000, "http-409", "The server answered with status 409."),
    ],
)
def test_what_a_server_says_cannot_steer_a_terminal(body: bytes, slug: str, title: str) -> None:
    with scripted_server(answer(409, body)) as server, Transport(server.url) as transport:
        refusal = transport.ask("GET", "/").refusal()
    assert (refusal.slug, refusal.title) == (slug, title)


@pytest.mark.parametrize(
    "path", ["//evil.example/x", "https://evil.example/", "x", "/\r\nHost: evil", "/\\evil", ""]
)
def test_an_address_of_another_server_is_not_asked(path: str) -> None:
    with Transport("http://127.0.0.1:9") as transport, pytest.raises(ClientError) as refused:
        transport.ask("GET", path)
    assert refused.value.slug == "bad-answer"
