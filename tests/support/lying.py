"""A server that lies: it stands between an application and its clients, and changes what it pleases."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

Answer = Callable[[bytes], bytes]


@dataclass
class Lying:
    """A WSGI application around another one.

    `lies` change the body of a successful answer to the path they stand under; `cuts` are the numbers
    of bytes after which the next answers about objects end early; `denials` are statuses that the
    next answers to a path get instead of their own.
    """

    application: Callable[..., Iterable[bytes]]
    lies: dict[str, Answer] = field(default_factory=dict)
    cuts: list[int] = field(default_factory=list)
    denials: dict[str, list[int]] = field(default_factory=dict)
    lost: set[str] = field(default_factory=set)
    """Paths whose next answer is lost though the request was carried out."""
    seen: list[tuple[str, str, str | None]] = field(default_factory=list)
    """Method, path and range of every request."""
    page_limit: int | None = None

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        self.seen.append((environ["REQUEST_METHOD"], path, environ.get("HTTP_RANGE")))
        if self.page_limit and path == "/v1/cases":
            environ["QUERY_STRING"] = environ["QUERY_STRING"].replace(
                "limit=100", f"limit={self.page_limit}"
            )
        if self.denials.get(path):
            status = self.denials[path].pop(0)
            start_response(f"{status} Denied", [("Content-Length", "0")])
            return []
        if path in self.lost:
            self.lost.remove(path)
            b"".join(self.application(environ, lambda *_: None))
            start_response("200 OK", [("Content-Length", "1000")])
            return _cut([b" " * 1000], 1)
        if path in self.lies:
            return self._lie(environ, start_response, self.lies[path])
        body = self.application(environ, start_response)
        if "/objects/" in path and self.cuts:
            return _cut(body, self.cuts.pop(0))
        return body

    def _lie(self, environ: dict[str, Any], start_response: Any, lie: Answer) -> Iterable[bytes]:
        said: list[Any] = []

        def note(status: str, headers: list[tuple[str, str]], *_more: Any) -> None:
            said[:] = [status, headers]

        body = b"".join(self.application(environ, note))
        status, headers = said
        if status.startswith("2"):
            body = lie(body)
        kept = [(k, v) for k, v in headers if k.lower() != "content-length"]
        start_response(status, [*kept, ("Content-Length", str(len(body)))])
        return [body]


def _cut(body: Iterable[bytes], left: int) -> Iterator[bytes]:
    for block in body:
        if len(block) >= left:
            yield block[:left]
            # What the server's own loop ends quietly, as when the network is gone.
            raise ConnectionError
        left -= len(block)
        yield block


def in_json(change: Callable[[dict[str, Any]], object]) -> Answer:
    """Change the document of an answer."""

    def lie(body: bytes) -> bytes:
        document = json.loads(body)
        change(document)
        return json.dumps(document).encode()

    return lie
