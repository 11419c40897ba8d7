# SPDX-License-Identifier: AGPL-3.0-or-later
"""HTTP to one server that tells nothing of who speaks: no cookies, no user agent, no redirects, answers of limited size."""

import ipaddress
import json
import logging
import random
import re
import secrets
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import httpx2
import socksio

from amana.client.errors import NetworkFailed, NotVerified, Refused, Usage

ANSWER_LIMIT_BYTES: Final = 1024 * 1024
CONNECT_SECONDS: Final = 120.0  # A circuit to an onion service takes long to build.
SILENCE_SECONDS: Final = 120.0
RETRY_AFTER_LIMIT_SECONDS: Final = 300.0
BUSY_STATUSES: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
FIELDS_SHOWN: Final = 16
_SLUG: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")

# Both libraries write addresses of requests to their logs, and those of uploads are secrets.
for _name in ("httpx2", "httpcore2"):
    logging.getLogger(_name).setLevel(logging.CRITICAL + 1)

T = TypeVar("T")


class Busy(NetworkFailed):
    """The server answers that it cannot serve now, and perhaps when to come back."""

    def __init__(self, title: str, *, slug: str, retry_after_seconds: float) -> None:
        super().__init__(title, slug=slug)
        self.retry_after_seconds = retry_after_seconds


@dataclass(frozen=True)
class Answer:
    """What the server said; `body` is within the limit that was asked for."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def document(self) -> dict[str, Any]:
        """Return the body as a JSON object."""
        try:
            document = json.loads(self.body)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            raise NotVerified("The server's answer is not what was asked for.", slug="bad-answer")
        return document

    def refusal(self) -> Refused:
        """Return the problem that the server named (RFC 9457), with the fields that it refused, made safe for a terminal."""
        fields = self._fields()
        where = f" (refused: {', '.join(fields)})" if fields else ""
        return Refused(self._title() + where, slug=self.slug)

    def busy(self) -> Busy:
        """Return the same as a reason to come back later."""
        return Busy(self._title(), slug=self.slug, retry_after_seconds=self.retry_after_seconds)

    @property
    def retry_after_seconds(self) -> float:
        """How long the server asks to wait; 0 when it does not say so in seconds (RFC 9110 §10.2.3)."""
        text = self.headers.get("retry-after", "")
        seconds = float(text) if re.fullmatch(r"[0-9]{1,9}", text) else 0.0
        return min(seconds, RETRY_AFTER_LIMIT_SECONDS)

    def _problem(self) -> dict[str, Any]:
        try:
            return self.document()
        except NotVerified:
            return {}

    @property
    def slug(self) -> str:
        """The problem's slug, or one made of the status."""
        slug = self._problem().get("type")
        return slug if isinstance(slug, str) and _SLUG.fullmatch(slug) else f"http-{self.status}"

    def _title(self) -> str:
        title = self._problem().get("title")
        if not isinstance(title, str):
            return f"The server answered with status {self.status}."
        return _printable(title)[:300]

    def _fields(self) -> list[str]:
        named = self._problem().get("fields")
        names = named[:FIELDS_SHOWN] if isinstance(named, list) else []
        return [_printable(name)[:40] for name in names if isinstance(name, str)]


def _printable(text: str) -> str:
    return "".join(filter(str.isprintable, text))


@dataclass(frozen=True)
class Patience:
    """How often something is tried without any progress, and how long to wait in between."""

    attempts: int = 6
    first_seconds: float = 0.5
    longest_seconds: float = 30.0

    def wait(self, failures: int, failure: NetworkFailed) -> None:
        """Wait after the n-th failure in a row, twice as long each time; raise it when it was the last."""
        if failures >= self.attempts:
            raise failure
        longest = min(self.longest_seconds, self.first_seconds * 2 ** (failures - 1))
        # Clients that were cut off together must not come back together.
        asked = failure.retry_after_seconds if isinstance(failure, Busy) else 0.0
        time.sleep(asked + random.uniform(longest / 2, longest))  # noqa: S311

    def persist(self, work: Callable[[], T]) -> T:
        """Do what may be repeated until it succeeds or patience ends."""
        failures = 0
        while True:
            try:
                return work()
            except NetworkFailed as failure:
                failures += 1
                self.wait(failures, failure)


class Transport:
    """A connection to one server, for one errand; owns its connection pool."""

    def __init__(
        self,
        server: str,
        *,
        proxy: str | None = None,
        silence_seconds: float = SILENCE_SECONDS,
        connect_seconds: float = CONNECT_SECONDS,
        plain_http: bool = False,
    ) -> None:
        self.server = check_server(server, proxy, plain_http=plain_http)
        self._client = httpx2.Client(
            verify=_tls(),
            proxy=_proxy(proxy) if proxy else None,
            timeout=httpx2.Timeout(silence_seconds, connect=connect_seconds),
            # Variables of the environment and ~/.netrc would add proxies and credentials unseen.
            trust_env=False,
            follow_redirects=False,
        )
        self._client.headers = httpx2.Headers({"Accept": "*/*", "Accept-Encoding": "identity"})
        del self._client.headers["User-Agent"]

    def __enter__(self) -> "Transport":
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._client.close()

    def ask(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | Iterable[bytes] | None = None,
        files: Mapping[str, bytes] | None = None,
        limit: int = ANSWER_LIMIT_BYTES,
        write: Callable[[bytes], object] | None = None,
    ) -> Answer:
        """Send one request and return any answer but one of a busy server.

        `path` begins with a slash and is relative to the server's address. `files` go as parts of a
        form. With `write`, the body of a successful answer goes there, up to `limit` bytes.
        Raises NetworkFailed, Busy, and NotVerified for a certificate or an answer too large.
        """
        parts = {
            name: (name, data, "application/octet-stream") for name, data in (files or {}).items()
        }
        try:
            with self._client.stream(
                method,
                self.server + check_path(path),
                headers=dict(headers or {}),
                content=content,
                files=parts or None,
            ) as response:
                body = _read(response, limit, write)
                answer = Answer(response.status_code, response.headers, body)
        except (httpx2.HTTPError, socksio.SOCKSError, AssertionError) as error:
            raise _failure(error) from None
        finally:
            # A server that was never asked for cookies must not find any of its own.
            self._client.cookies.clear()
        if answer.status in BUSY_STATUSES:
            raise answer.busy()
        return answer

    def get(
        self, path: str, *, limit: int = ANSWER_LIMIT_BYTES, patience: Patience | None = None
    ) -> bytes | None:
        """Return what is at `path`, or None where nothing is; tries again while the network fails."""
        answer = (patience or Patience()).persist(lambda: self.ask("GET", path, limit=limit))
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise answer.refusal()
        return answer.body


def check_server(server: str, proxy: str | None = None, *, plain_http: bool = False) -> str:
    """Return a server's address, normalised; refuses what would send in the clear or ask DNS for an onion.

    `plain_http` is for what is public and signed in itself.
    """
    try:
        parts = urlsplit(server)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise Usage("The server's address is not a URL.", slug="bad-server") from None
    plain = parts.scheme == "http"
    if parts.scheme not in {"http", "https"} or not host or "@" in parts.netloc:
        raise Usage("The server's address is not a URL.", slug="bad-server")
    if parts.query or parts.fragment or not server.isascii() or not server.isprintable():
        raise Usage("The server's address is not a URL.", slug="bad-server")
    if plain and not (plain_http or is_loopback(host) or is_onion(host)):
        raise Usage(
            "Without https only this machine and onion services can be reached.",
            slug="plain-http",
        )
    if is_onion(host) and proxy is None:
        raise Usage("An onion service is reached through Tor: give --proxy.", slug="proxy-needed")
    # As the Host header has it: a proof of possession names the whole address (RFC 9449 §4.3).
    return str(httpx2.URL(server)).rstrip("/")


def check_path(path: str) -> str:
    """Return an address relative to the server; one that leads elsewhere is refused."""
    if not re.fullmatch(r"/[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*", path) or path.startswith("//"):
        raise NotVerified("The server named an address that is not its own.", slug="bad-answer")
    return path


def is_onion(host: str) -> bool:
    return host.rstrip(".").endswith(".onion")


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _tls() -> ssl.SSLContext:
    # Not ssl.create_default_context(): that one writes the connection's keys to where SSLKEYLOGFILE says.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    return context


def _proxy(proxy: str) -> httpx2.Proxy:
    try:
        url = httpx2.URL(proxy)
    except httpx2.InvalidURL:
        url = httpx2.URL("")
    # Plain socks5 would let a program look the name up itself, which tells the network.
    if url.scheme != "socks5h" or not url.host:
        raise Usage("A proxy is written socks5h://HOST:PORT.", slug="bad-proxy")
    if url.userinfo:
        return httpx2.Proxy(url)
    # Tor keeps streams with other credentials on other circuits, so that two testimonies of one person do
    # not come over the same one, also not to an address that is no onion (tor(1), IsolateSOCKSAuth).
    return httpx2.Proxy(url, auth=(secrets.token_hex(8), secrets.token_hex(8)))


def _read(
    response: httpx2.Response, limit: int, write: Callable[[bytes], object] | None = None
) -> bytes:
    """Read a body within its limit, as it came: nothing is unpacked."""
    body = bytearray()
    size = 0
    sink = write if write is not None and response.is_success else body.extend
    for block in response.iter_raw():
        size += len(block)
        if size > (limit if sink is write else min(limit, ANSWER_LIMIT_BYTES)):
            raise NotVerified("The server's answer is too large.", slug="answer-too-large")
        sink(block)
    return bytes(body)


def _failure(error: BaseException) -> NetworkFailed | NotVerified:
    """Turn what went wrong into a sentence of ours; the library's text may name hosts."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return NotVerified("The server's certificate does not verify.", slug="bad-certificate")
        cause = cause.__cause__ or cause.__context__
    # The SOCKS part of the library asserts what a proxy answers.
    if isinstance(error, httpx2.ProxyError | socksio.SOCKSError | AssertionError):
        return NetworkFailed("The proxy does not connect to the server.", slug="proxy")
    if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
        return NetworkFailed("The server cannot be reached.")
    return NetworkFailed("The connection to the server was cut.")
