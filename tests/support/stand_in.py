"""A stand-in for the application behind nginx: keeps what reaches it, byte by byte, and when."""

import re
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass
class Arrived:
    """One request as it came off the wire; `body` grows while it arrives."""

    head: bytes
    body: bytearray = field(default_factory=bytearray)
    ended: bool = False

    @property
    def headers(self) -> dict[str, str]:
        lines = self.head.decode("latin-1").split("\r\n")[1:]
        return {name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)}


class StandIn:
    """Answers 200 to whole requests. Tests read `arrived`, under `changed` if it is still growing."""

    def __init__(self) -> None:
        self.arrived: list[Arrived] = []
        self.changed = threading.Condition()
        self.refuse_at_once = False
        self.answer = b"ok"
        self.answered = 0
        """How many answers were taken off its hands whole."""

    def wait_for_bytes(self, count: int, seconds: float = 20) -> Arrived:
        """Return the last request once that much of its body has arrived."""
        with self.changed:
            there = self.changed.wait_for(
                lambda: self.arrived and len(self.arrived[-1].body) >= count, seconds
            )
            assert there, [len(one.body) for one in self.arrived]
            return self.arrived[-1]

    def wait_for_end(self, seconds: float = 20) -> Arrived:
        """Return the last request once its connection has ended or its body is whole."""
        with self.changed:
            assert self.changed.wait_for(
                lambda: self.arrived and self.arrived[-1].ended, seconds
            ), "the request did not end"
            return self.arrived[-1]

    def wait_until_answered(self, count: int, seconds: float = 20) -> None:
        """Wait until so many answers were taken whole by whoever asked."""
        with self.changed:
            assert self.changed.wait_for(lambda: self.answered >= count, seconds), self.answered

    def serve(self, connection: socket.socket) -> None:
        """Take requests from one connection until it ends."""
        held = b""
        while True:
            while b"\r\n\r\n" not in held:
                more = connection.recv(65536)
                if not more:
                    return
                held += more
            head, _, held = held.partition(b"\r\n\r\n")
            arrived = Arrived(head)
            with self.changed:
                self.arrived.append(arrived)
                self.changed.notify_all()
            found = _LENGTH.search(head)
            length = int(found.group(1)) if found else 0
            if self.refuse_at_once:
                connection.sendall(
                    b"HTTP/1.1 409 Conflict\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                )
                return
            held = self._take(connection, arrived, held, length)
            if len(arrived.body) < length:
                return
            connection.sendall(
                b"HTTP/1.1 200 OK\r\nServer: secret/1.0\r\nContent-Length: %d\r\n\r\n"
                % len(self.answer)
            )
            connection.sendall(self.answer)
            with self.changed:
                self.answered += 1
                self.changed.notify_all()

    def _take(self, connection: socket.socket, arrived: Arrived, held: bytes, length: int) -> bytes:
        try:
            while len(arrived.body) < length:
                if not held:
                    held = connection.recv(65536)
                    if not held:
                        break
                part, held = held[: length - len(arrived.body)], held[length - len(arrived.body) :]
                with self.changed:
                    arrived.body += part
                    self.changed.notify_all()
        except ConnectionError:
            held = b""
        with self.changed:
            arrived.ended = True
            self.changed.notify_all()
        return held


@contextmanager
def standing_in(path: Path) -> Iterator[StandIn]:
    """Serve a stand-in on a unix socket."""
    stand_in = StandIn()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            # nginx may hang up at any moment; that is what the tests are about.
            with suppress(ConnectionError):
                stand_in.serve(self.request)

    class Server(socketserver.ThreadingUnixStreamServer):
        daemon_threads = True

    with Server(str(path), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield stand_in
        finally:
            server.shutdown()
            thread.join()
