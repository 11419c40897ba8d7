"""Raw uploads against a running service: a client that can be cut, fall silent, or lie about lengths."""

import socket
import struct
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2

from amana.client.directory import VerifiedDirectory, fetch_directory
from amana.protocol.admission import Notice, pay
from tests.support.testimonies import Made, make_testimony

TUS = {"Tus-Resumable": "1.0.0"}
OFFSET = {"Content-Type": "application/offset+octet-stream"}


class Client:
    """Speaks HTTP to one service as a witness's client would, step by step."""

    def __init__(self, url: str, root: Path, objects: Path) -> None:
        self.url = url
        self.objects = objects
        self.http = httpx2.Client(base_url=url, timeout=30)
        found = self._directory(root)
        self.directory, self.pins = found.directory, found.pins

    def _directory(self, root: Path) -> VerifiedDirectory:
        def get(path: str) -> bytes | None:
            response = self.http.get(f"/v1/directory/{path}")
            return response.content if response.status_code == 200 else None

        return fetch_directory(get, root.read_bytes(), None)

    def testimony(self, desk: str = "chemical", **options: Any) -> Made:
        """Seal a testimony for the readers of a desk."""
        text = self.directory.consent_texts[0]
        listed = self.directory.readers.get(desk, ())
        defaults = {
            "readers": {one.id: one.intake_key for one in listed},
            "desk": desk,
            "directory": self.directory.version,
            "deployment": self.directory.deployment,
            "consent_text": text.id,
            "consent_text_sha256": text.sha256,
        }
        return make_testimony(**(defaults | options))

    def pay(self, made: Made) -> bytes:
        notice = Notice.parse(self.http.get("/v1/admission").json())
        size = sum(map(len, made.sealed))
        return pay(notice, made.submission.digest(), size).to_bytes()

    def submit(self, made: Made, admission: bytes | None = b"pay") -> httpx2.Response:
        """Send a submission; `admission` is made unless given, and left out when None."""
        if admission == b"pay":
            admission = self.pay(made)
        parts = {
            name: getattr(made.submission, name) for name in made.submission.__dataclass_fields__
        }
        if admission is not None:
            parts["admission"] = admission
        files = {name: (name, data) for name, data in parts.items() if data or name != "account"}
        return self.http.post("/v1/testimonies", files=files)

    def announce(self, made: Made) -> tuple[list[str], str]:
        """Submit and return the addresses of uploads and completion."""
        answer = self.submit(made)
        assert answer.status_code == 201, answer.text
        document = answer.json()
        return [one["location"] for one in document["uploads"]], document["completion"]

    def head(self, location: str) -> httpx2.Response:
        return self.http.head(location, headers=TUS)

    def offset(self, location: str) -> int:
        response = self.head(location)
        assert response.status_code == 200, response.status_code
        return int(response.headers["Upload-Offset"])

    def patch(self, location: str, offset: int, data: bytes, **headers: str) -> httpx2.Response:
        given = {**TUS, **OFFSET, "Upload-Offset": str(offset), **headers}
        return self.http.patch(location, content=data, headers=given)

    def complete(self, completion: str) -> httpx2.Response:
        return self.http.post(completion)

    def begin_patch(self, location: str, offset: int, length: int) -> "OpenPatch":
        """Start a PATCH by hand and leave it open."""
        return OpenPatch(self.url, location, offset, length)


class OpenPatch:
    """A PATCH whose body is sent piece by piece over a socket of its own."""

    def __init__(self, url: str, location: str, offset: int, length: int) -> None:
        parts = urlsplit(url)
        self.socket = socket.create_connection((parts.hostname or "", parts.port or 80), timeout=30)
        self.socket.sendall(
            (
                f"PATCH {location} HTTP/1.1\r\nHost: {parts.netloc}\r\nTus-Resumable: 1.0.0\r\n"
                f"Content-Type: application/offset+octet-stream\r\nUpload-Offset: {offset}\r\n"
                f"Content-Length: {length}\r\n\r\n"
            ).encode()
        )

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def finish(self) -> None:
        """Close in an orderly way: FIN."""
        self.socket.close()

    def reset(self) -> None:
        """Close with RST, as a network does that loses its memory."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def answer(self) -> int:
        """Return the status of the answer, and close."""
        data = b""
        with self.socket:
            while b"\r\n" not in data and (more := self.socket.recv(4096)):
                data += more
        return int(data.split(b" ", 2)[1]) if data else 0
