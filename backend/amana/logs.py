# SPDX-License-Identifier: AGPL-3.0-or-later
"""The server's log: one JSON line an event, fields from an allow-list; addresses, paths, values and texts never pass."""

import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable, MutableMapping
from typing import Any

import structlog

ALLOWED = frozenset(
    {"event", "level", "route", "method", "status", "error", "place", "surface", "count"}
)


def _only_allowed(
    _logger: object, _name: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    return {name: value for name, value in event.items() if name in ALLOWED}


def configure_logs() -> None:
    """Send the log to standard error, without times finer than the log's reader adds himself.

    What libraries log, and the traces of threads that die, may hold anything and go nowhere.
    """
    logging.getLogger().addHandler(logging.NullHandler())
    threading.excepthook = lambda died: log_failure(
        died.exc_value or died.exc_type(), None, "thread"
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            _only_allowed,
            structlog.processors.JSONRenderer(sort_keys=True),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )


def log_event(event: str, **fields: Any) -> None:
    """Log one event of the service itself; `event` is a constant of the code."""
    structlog.get_logger().info(event, **fields)


class Seldom:
    """An event that whoever asks can cause again and again: a process logs it at most once in so many seconds."""

    def __init__(
        self, event: str, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._event = event
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._not_before = float("-inf")

    def log(self) -> None:
        """Log the event, unless it was logged a moment ago."""
        with self._lock:
            now = self._clock()
            if now < self._not_before:
                return
            self._not_before = now + self._seconds
        log_event(self._event)


def log_failure(error: BaseException, route: str | None, method: str) -> None:
    """Log an unexpected error by its class and place; its text may hold what must not be written down."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "amana" in frame.filename] or list(frames)
    place = f"{ours[-1].name}:{ours[-1].lineno}" if ours else "unknown"
    structlog.get_logger().error(
        "unexpected-error", route=route, method=method, error=type(error).__name__, place=place
    )
