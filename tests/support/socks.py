"""A tiny SOCKS5 server on loopback (RFC 1928, RFC 1929) that notes whom it was asked to reach, and as whom."""

import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field


@dataclass
class SocksServer:
    """Connects names to the places it was told; owns its threads and sockets."""

    places: Mapping[str, tuple[str, int]]
    listener: socket.socket
    asked: list[tuple[str, int]] = field(default_factory=list)
    """Host names and ports, as the client wrote them."""
    users: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"socks5h://127.0.0.1:{self.listener.getsockname()[1]}"

    def serve(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve_one, args=(client,), daemon=True).start()

    def _serve_one(self, client: socket.socket) -> None:
        with client, client.makefile("rb") as reader, suppress(OSError, IndexError):
            methods = reader.read(reader.read(2)[1])
            if 2 in methods:
                client.sendall(b"\x05\x02")
                user = reader.read(reader.read(2)[1])
                reader.read(reader.read(1)[0])
                self.users.append(user.decode())
                client.sendall(b"\x01\x00")
            else:
                client.sendall(b"\x05\x00")
            _, _, _, kind = reader.read(4)
            host = (
                reader.read(reader.read(1)[0]).decode()
                if kind == 3
                else socket.inet_ntop(
                    socket.AF_INET6 if kind == 4 else socket.AF_INET,
                    reader.read(16 if kind == 4 else 4),
                )
            )
            port = int.from_bytes(reader.read(2), "big")
            self.asked.append((host, port))
            if host not in self.places:
                client.sendall(b"\x05\x04\x00\x01" + bytes(6))
                return
            with socket.create_connection(self.places[host]) as far:
                client.sendall(b"\x05\x00\x00\x01" + bytes(6))
                threading.Thread(target=_forward, args=(far, client), daemon=True).start()
                while block := client.recv(65536):
                    far.sendall(block)


def _forward(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while block := source.recv(65536):
            sink.sendall(block)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)


@contextmanager
def socks_server(places: Mapping[str, tuple[str, int]]) -> Iterator[SocksServer]:
    """Give a SOCKS server that knows where each name leads."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = SocksServer(places, listener)
        threading.Thread(target=server.serve, daemon=True).start()
        try:
            yield server
        finally:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
