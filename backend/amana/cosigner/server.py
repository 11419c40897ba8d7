# SPDX-License-Identifier: AGPL-3.0-or-later
"""Serve one cosigner over HTTP with the standard library alone; a proxy in front of it brings TLS.

A connection lives for a few seconds in all, whatever it does, and there are never more than a few at once: so
nobody can hold the cosigner by being slow. Nothing about who asks is written down.
"""

import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from typing import Any, Final

from amana.cosigner.judging import TEXT, Answer, Judge
from amana.protocol.cosigning import LIMIT_BYTES, PATH

CONNECTION_SECONDS: Final = 15.0
CONNECTIONS: Final = 64


class Server(ThreadingTCPServer):
    """Answers for one cosigner until it is shut down. `prefix` is the path below which it stands."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        address: tuple[str, int],
        judge: Judge,
        *,
        say: Callable[[str], None] | None = None,
        connection_seconds: float = CONNECTION_SECONDS,
    ) -> None:
        self.judge = judge
        self.say = say or _say
        self._seconds = connection_seconds
        self._places = threading.BoundedSemaphore(CONNECTIONS)
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        # Whoever comes when all places are taken waits in the system's queue.
        self._places.acquire()
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._places.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        end = threading.Timer(self._seconds, _hang_up, [request])
        end.daemon = True
        end.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            end.cancel()
            self._places.release()

    def handle_error(self, _request: Any, _client_address: Any) -> None:
        # The usual text names the address of who asked.
        if not isinstance(sys.exc_info()[1], OSError):
            self.say("failed")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if self.path != PATH:
            self._refuse(404)
        elif "Transfer-Encoding" in self.headers or not (length.isascii() and length.isdigit()):
            self._refuse(411)
        elif len(length) > 7 or int(length) > LIMIT_BYTES:
            self._refuse(413)
        else:
            data = self.rfile.read(int(length))
            if len(data) == int(length):
                self._answer(self._judge(data))

    def do_GET(self) -> None:
        # For whoever looks whether it lives, and whose key it has.
        if self.path == "/":
            self._answer(Answer(200, f"{self.server.judge.vkey}\n".encode(), "asked"))
        else:
            self._refuse(404)

    def _judge(self, data: bytes) -> Answer:
        try:
            answer = self.server.judge.add_checkpoint(data)
        except OSError:
            answer = Answer(500, b"", "not-remembered")
        self.server.say(answer.said)
        return answer

    def _refuse(self, status: int) -> None:
        """Refuse a request whose body is not read; the connection cannot go on after it."""
        self.close_connection = True
        # Where the request line was malformed, this still says HTTP/0.9, which has no status.
        self.request_version = self.protocol_version
        self._answer(Answer(status, b"", "refused"))

    def _answer(self, answer: Answer) -> None:
        self.send_response_only(answer.status)
        self.send_header("Content-Type", answer.content_type if answer.body else TEXT)
        self.send_header("Content-Length", str(len(answer.body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(answer.body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002
        """Answer a malformed request without repeating any of it."""
        self._refuse(code)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Write nothing down of a request."""


def _hang_up(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _say(what: str) -> None:
    with suppress(OSError):
        sys.stderr.write(f"{what}\n")
        sys.stderr.flush()
