"""A loopback proxy that cuts one connection after another, each after a given number of bytes, by FIN or by RST."""

import select
import socket
import struct
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from enum import Enum


class End(Enum):
    """How a connection ends."""

    FIN = "fin"
    RST = "rst"


class CuttingProxy:
    """Forwards TCP to `target`; owns its threads and sockets.

    `cuts` are taken one for each connection, in order: after so many bytes (at least 1) towards the
    server that connection ends on both sides. When they are used up, connections pass unharmed.
    """

    def __init__(self, target: tuple[str, int], cuts: Iterable[tuple[int, End]]) -> None:
        self._target = target
        self._cuts = iter(cuts)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self.port: int = self._listener.getsockname()[1]
        self.done = 0
        """How many connections were cut so far."""
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        with self._lock:
            left, end = next(self._cuts, (None, End.FIN))
        with near, suppress(OSError), socket.create_connection(self._target) as far:
            # One thread for both directions: a socket that another thread reads cannot send RST.
            while True:
                ready, _, _ = select.select([near, far], [], [])
                if far in ready:
                    if not (block := far.recv(65536)):
                        return
                    near.sendall(block)
                if near in ready:
                    if not (block := near.recv(65536 if left is None else min(left, 65536))):
                        return
                    far.sendall(block)
                    if left is not None:
                        left -= len(block)
                        if left == 0:
                            self.done += 1
                            _prepare(end, near, far)
                            return


def _prepare(end: End, *sockets: socket.socket) -> None:
    if end is End.RST:
        for one in sockets:
            # Closing with a linger time of zero sends RST instead of FIN.
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@contextmanager
def cutting_proxy(server: str, cuts: Iterable[tuple[int, End]]) -> Iterator[CuttingProxy]:
    """Give a cutting proxy in front of `http://HOST:PORT`."""
    host, port = server.removeprefix("http://").split(":")
    proxy = CuttingProxy((host, int(port)), cuts)
    try:
        yield proxy
    finally:
        proxy.close()
