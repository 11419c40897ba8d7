# SPDX-License-Identifier: AGPL-3.0-or-later
"""Run the application under gunicorn: threads that may each wait for a slow witness, and a log without addresses."""

import gc
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger

from amana.logs import configure_logs, log_event


class QuietLogger(Logger):  # type: ignore[misc]
    """gunicorn's own log, reduced to the fact that something happened.

    gunicorn names the client's address and repeats parts of malformed requests in its warnings,
    so of its messages nothing is passed on but their level.
    """

    def setup(self, cfg: Any) -> None:  # noqa: ARG002
        self.error_log.handlers = [logging.NullHandler()]
        self.error_log.propagate = False
        self.access_log.handlers = [logging.NullHandler()]
        self.access_log.propagate = False

    def warning(self, msg: str, *args: Any, **kwargs: Any) -> None:  # noqa: ARG002
        log_event("server-warning")

    def error(self, msg: str, *args: Any, **kwargs: Any) -> None:  # noqa: ARG002
        log_event("server-error")

    def critical(self, msg: str, *args: Any, **kwargs: Any) -> None:  # noqa: ARG002
        log_event("server-critical")

    def exception(self, msg: str, *args: Any, **kwargs: Any) -> None:  # noqa: ARG002
        log_event("server-exception")

    def access(self, resp: Any, req: Any, environ: Any, request_time: Any) -> None:
        """Log no access at all."""


def impatient(
    app: Callable[..., Iterable[bytes]], silence_seconds: float
) -> Callable[..., Iterable[bytes]]:
    """Let a body that falls silent end in a TimeoutError; else its sender could hold a thread for ever."""

    def wrapped(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        connection = environ.get("gunicorn.socket")
        if connection is None:
            return app(environ, start_response)
        before = connection.gettimeout()
        connection.settimeout(silence_seconds)
        try:
            # The answer is sent later, and may take as long as a slow reader needs.
            return app(environ, start_response)
        finally:
            with suppress(OSError):
                connection.settimeout(before)

    return wrapped


def closing_when_asked(app: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
    """Let a response that says `Connection: close` close; gunicorn drops the header and keeps the connection.

    A refused body lies unread in the connection; its sender must not be told that it can go on.
    """

    def wrapped(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            if ("Connection", "close") in headers:
                start_response.__self__.force_close()
            return start_response(status, headers, exc_info)

        return app(environ, start)

    return wrapped


class Server(BaseApplication):  # type: ignore[misc]
    """One listening address, some worker processes, many threads in each; `leaving` ends what runs beside an application."""

    def __init__(
        self,
        make_app: Callable[[], Flask],
        bind: str,
        *,
        workers: int,
        threads: int,
        ready: Callable[[], None] | None = None,
        leaving: Callable[[Flask], None] = lambda _app: None,
    ) -> None:
        self._make_app = make_app
        self._options = {
            "bind": bind,
            "workers": workers,
            "threads": threads,
            "worker_class": "gthread",
            "worker_connections": threads + 2000,
            "logger_class": QuietLogger,
            "accesslog": None,
            "keepalive": 75,
            "timeout": 60,
            "graceful_timeout": 10,
            "limit_request_line": 2048,
            "limit_request_fields": 50,
            "limit_request_field_size": 4096,
            # Headers move no request to another address, whoever sends them.
            "forwarder_headers": "",
            "forwarded_allow_ips": "",
            "control_socket_disable": True,
            "umask": 0o077,
            "proc_name": "amana",
            "when_ready": lambda _server: ready() if ready else None,
            "worker_exit": lambda _server, worker: _leave(worker, leaving),
        }
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._options.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        # In the worker, after the fork: every process opens its own connections.
        configure_logs()
        app = self._make_app()
        # What is loaded now stays; the garbage collector need not walk it for every few requests.
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 20, 20)
        silence_seconds = app.extensions["amana"].config.silence_seconds
        app.wsgi_app = closing_when_asked(  # type: ignore[method-assign]
            impatient(app.wsgi_app, silence_seconds)
        )
        return app


def _leave(worker: Any, leaving: Callable[[Flask], None]) -> None:
    # A worker that could not load its application has none.
    if isinstance(worker.app.callable, Flask):
        leaving(worker.app.callable)
