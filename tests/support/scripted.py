"""A server on loopback that plays answers in order and keeps what it was asked."""

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from ssl import SSLContext

CUT = b""
"""In place of an answer: the connection ends without one."""


def answer(status: int, body: bytes = b"", **headers: str) -> bytes:
    """Return the bytes of an answer; underscores in header names become hyphens."""
    lines = [f"HTTP/1.1 {status} Scripted", f"Content-Length: {len(body)}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


@dataclass
class Asked:
    """One request as it came."""

    line: str
    headers: dict[str, str]
    body: bytes


@dataclass
class ScriptedServer:
    """Owns its listener and its one thread."""

    answers: list[bytes]
    listener: socket.socket
    tls: SSLContext | None = None
    asked: list[Asked] = field(default_factory=list)

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.listener.getsockname()
        return host, port

    @property
    def url(self) -> str:
        scheme = "https" if self.tls else "http"
        return f"{scheme}://127.0.0.1:{self.address[1]}"

    def serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                if not self.answers:
                    # Whoever asks for more than was planned must not wait for it.
                    continue
                if self.tls:
                    connection = self.tls.wrap_socket(connection, server_side=True)
                self.asked.append(_read(connection))
                connection.sendall(self.answers.pop(0))


def _read(connection: socket.socket) -> Asked:
    with connection.makefile("rb") as reader:
        line = reader.readline().decode().strip()
        headers: dict[str, str] = {}
        while header := reader.readline().decode().strip():
            name, _, value = header.partition(": ")
            headers[name.lower()] = value
        return Asked(line, headers, reader.read(int(headers.get("content-length", "0"))))


@contextmanager
def scripted_server(*answers: bytes, tls: SSLContext | None = None) -> Iterator[ScriptedServer]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = ScriptedServer(list(answers), listener, tls)
        thread = threading.Thread(target=server.serve, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            thread.join(timeout=5)


def lines(asked: Sequence[Asked]) -> list[str]:
    """Return the methods and paths that were asked for."""
    return [one.line.removesuffix(" HTTP/1.1") for one in asked]
