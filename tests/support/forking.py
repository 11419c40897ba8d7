"""A server that forks its directory log for one victim: it withholds what officers published last."""

from collections.abc import Callable, Iterable
from typing import Any

from amana.custody.cosigning import Address, CosignerFailed, ask
from amana.directory import service as directory
from amana.protocol.checkpoint import Note, Signature, with_signatures
from amana.protocol.tiles import Tile
from tests.support.logbook import Logbook
from tests.support.organisation import Organisation


class Forking:
    """A WSGI application around the genuine one, for the victim's eyes.

    It remembers what was published when it was made, and later shows that as the newest: with its own online key
    it signs a fresh time stamp, with the log's own key another history that ends with the old version. It has
    every key of the server and asks every cosigner; it has none of the officers' and none of the cosigners' keys.
    """

    def __init__(self, organisation: Organisation) -> None:
        self.organisation = organisation
        client = organisation.app.test_client()
        self._files = {
            name: client.get(f"/v1/directory/{name}").data
            for name in ("timestamp.json", "1.snapshot.json")
        }
        services = organisation.services
        self.log = Logbook("amana-demo/directory", services.secrets.directory_log)
        size = int(client.get("/log/directory/checkpoint").data.split(b"\n")[1])
        bundle = client.get(f"/log/directory/tile/{Tile(-1, 0, size).path}").data
        while bundle:
            length = int.from_bytes(bundle[:2], "big")
            self.log.add(bundle[2 : 2 + length])
            bundle = bundle[2 + length :]
        self.honest = len(self.log.entries)
        self.refusals: list[str] = []

    def fork(self) -> None:
        """Make the other history as long as the true one, and ask the cosigners about it."""
        last = self.log.entries[-1]
        self.log.add(last)
        note = self.log.checkpoint()
        self.log.cosigned = with_signatures(note, self._cosignatures(note))

    def _cosignatures(self, note: Note) -> list[Signature]:
        services = self.organisation.services
        with services.database.reading() as session:
            pins = directory.pinned(session, services.trusted_root())
        found = []
        for one in pins.cosigners:
            address = Address(services.config.cosigners[one.key.name])
            try:
                found.append(ask(one, address, note, self._tile))  # type: ignore[arg-type]
            except CosignerFailed as failed:
                self.refusals.append(failed.slug)
        return found

    def _tile(self, tile: Tile) -> bytes:
        content = self.log.get(f"directory/tile/{tile.path}")
        assert content is not None
        return content

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        content: bytes | None
        if path.startswith("/log/directory/"):
            content = self.log.get(path.removeprefix("/log/"))
        else:
            content = self._files.get(path.removeprefix("/v1/directory/"))
            if content is None:
                return self.organisation.app.wsgi_app(environ, start_response)
        status = "404 Not Found" if content is None else "200 OK"
        start_response(status, [("Content-Length", str(len(content or b"")))])
        return [content or b""]
