"""A wire between a client and a server on loopback that tests can cut, mend and make lie."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


class Relay:
    """Passes bytes both ways while it is mended; owns its threads and sockets.

    `cut_after` counts down the bytes towards the server and cuts the wire at zero; `flip` changes
    one bit of the first block of at least that many bytes. `hold_after` counts down the bytes towards the
    client; at zero those connections stand still, and `held` is set, until `let_go`. `passed` counts them up.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._is_cut = False
        self.cut_after: int | None = None
        self.flip: int | None = None
        self.hold_after: int | None = None
        self.passed = 0
        self.held = threading.Event()
        self._let_go = threading.Event()
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """End all connections, and every new one at once."""
        with self._lock:
            self._is_cut = True
            for one in self._open:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        """Let new connections pass."""
        with self._lock:
            self._is_cut, self.cut_after = False, None

    def let_go(self) -> None:
        """Let what stands still go on."""
        self.hold_after = None
        self._let_go.set()

    def end(self) -> None:
        """Cut for good."""
        self.let_go()
        self.cut()
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
        with near, socket.create_connection(self._target) as far:
            # Else the kernel takes in up to thirty megabytes of what stands still.
            far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**18)
            with self._lock:
                if self._is_cut:
                    return
                self._open |= {near, far}
            back = threading.Thread(target=_pass, args=(far, near, self._hold), daemon=True)
            back.start()
            _pass(near, far, self._change)
            back.join()
            with self._lock:
                self._open -= {near, far}

    def _change(self, block: bytes) -> bytes:
        if self.cut_after is not None:
            self.cut_after -= len(block)
            if self.cut_after <= 0:
                self.cut()
        if self.flip is not None and len(block) >= self.flip:
            self.flip = None
            block = block[:-1] + bytes([block[-1] ^ 1])
        return block

    def _hold(self, block: bytes) -> bytes:
        self.passed += len(block)
        if self.hold_after is not None:
            self.hold_after -= len(block)
            if self.hold_after <= 0:
                self.held.set()
                self._let_go.wait()
        return block


def _pass(source: socket.socket, sink: socket.socket, change: Callable[[bytes], bytes]) -> None:
    with suppress(OSError):
        while block := source.recv(65536):
            sink.sendall(change(block))
    for one in (source, sink):
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


@contextmanager
def relay_to(endpoint_url: str) -> Iterator[Relay]:
    """Give a relay in front of `http://HOST:PORT`."""
    host, port = endpoint_url.removeprefix("http://").split(":")
    relay = Relay((host, int(port)))
    try:
        yield relay
    finally:
        relay.end()
