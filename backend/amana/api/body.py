# SPDX-License-Identifier: AGPL-3.0-or-later
"""The body of a request as it comes off the wire, block by block; a cut or silent sender ends it without loss."""

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from enum import StrEnum
from typing import Any

BLOCK_BYTES = 512 * 1024


class End(StrEnum):
    """How a body ended."""

    COMPLETE = "complete"
    CUT = "cut"
    SILENT = "silent"
    SUPERSEDED = "superseded"


class Body:
    """One request's body of declared length. Owned by the request's thread; only `supersede` is called from others.

    Under gunicorn the bytes are received straight into one reused buffer: first what its parser
    already holds, then the socket. That is faster than wsgi.input, keeps every byte that came
    before a reset, and allows a time limit on silence. Elsewhere wsgi.input serves.
    """

    def __init__(self, environ: dict[str, Any], length: int, silence_seconds: float) -> None:
        self.length = length
        self.end = End.CUT
        self._environ = environ
        self._silence_seconds = silence_seconds
        self._socket: socket.socket | None = environ.get("gunicorn.socket")
        self._lock = threading.Lock()
        self._superseded = False

    def blocks(self) -> Iterator[memoryview]:
        """Yield the body; a block is valid until the next one is asked for."""
        received = 0
        try:
            for block in self._source():
                received += len(block)
                yield block
        finally:
            with self._lock:
                # Whatever comes on this connection now is another request, perhaps another person's.
                self._socket = None
        if received == self.length:
            self.end = End.COMPLETE
        elif self._superseded:
            self.end = End.SUPERSEDED

    def supersede(self) -> None:
        """End the body from another thread, now; what was received before stays with its owner."""
        self._superseded = True
        with self._lock:
            if self._socket is not None:
                with suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RD)

    def _source(self) -> Iterator[memoryview]:
        stream = self._environ["wsgi.input"]
        reader: Any = getattr(stream, "reader", None)
        unreader: Any = getattr(reader, "unreader", None)
        if self._socket is None or reader is None or not hasattr(unreader, "take_buffered"):
            yield from self._from_stream(stream)
            return
        held = stream.buf.getvalue() + unreader.take_buffered()
        stream.buf.seek(0)
        stream.buf.truncate()
        if len(held) > self.length:
            unreader.unread(held[self.length :])
            held = held[: self.length]
        # The parser must not wait for what is taken from under it here.
        reader.length = self.length - len(held)
        if held:
            yield memoryview(held)
        for block in self._from_socket(self._socket, self.length - len(held)):
            reader.length -= len(block)
            yield block

    def _from_socket(self, connection: socket.socket, left: int) -> Iterator[memoryview]:
        before = connection.gettimeout()
        connection.settimeout(self._silence_seconds)
        view = memoryview(bytearray(min(BLOCK_BYTES, left)))
        try:
            while left and not self._superseded:
                count = connection.recv_into(view[: min(len(view), left)])
                if not count:
                    return
                left -= count
                yield view[:count]
        except TimeoutError:
            self.end = End.SILENT
        except OSError:
            return
        finally:
            with suppress(OSError):
                connection.settimeout(before)

    def _from_stream(self, stream: Any) -> Iterator[memoryview]:
        left = self.length
        while left and not self._superseded:
            try:
                block = stream.read(min(BLOCK_BYTES, left))
            except OSError:
                return
            if not block:
                return
            left -= len(block)
            yield memoryview(block)
