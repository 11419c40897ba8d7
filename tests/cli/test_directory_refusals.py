"""A server that shows another directory than the officers signed: the commands of witnesses and officers refuse it."""

import http.server
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from amana.client.keyfile import PersonKeys
from amana.client.officer import tuf_signer
from tests.support.ceremony import Ceremony, Mirror, desk, reader
from tests.support.server import amana

PREFIX = "/v1/directory/"


@pytest.fixture(scope="module")
def ceremony() -> Ceremony:
    return Ceremony()


@contextmanager
def served(mirror: Mirror) -> Iterator[tuple[str, list[str]]]:
    """Serve a mirror on loopback; gives its address, and what else was asked of it."""
    others: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = mirror.get(self.path.removeprefix(PREFIX))
            if not self.path.startswith(PREFIX):
                others.append(self.path)
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        def do_POST(self) -> None:
            others.append(self.path)
            self.send_error(503)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", others
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _one_officer(mirror: Mirror) -> None:
    mirror.show(mirror.ceremony.proposal(2, signers=mirror.ceremony.officers[:1]))


def _one_officer_twice(mirror: Mirror) -> None:
    first = mirror.ceremony.officers[0]
    mirror.show(mirror.ceremony.proposal(2, signers=[first, first]))


def _reader_by_the_server(mirror: Mirror) -> None:
    intruder = reader(PersonKeys.generate("reviewer"))
    forged = mirror.ceremony.proposal(2, signers=[], desks=[desk("chemical", [intruder])])
    forged.targets.sign(tuf_signer(mirror.ceremony.online), append=True)
    mirror.show(forged)


def _expired(mirror: Mirror) -> None:
    past = datetime.now(UTC) - timedelta(days=46)
    mirror.show(mirror.ceremony.proposal(2, now=past))


def _parts_of_two_versions(mirror: Mirror) -> None:
    [old] = [name for name in mirror.files if name.endswith(".chemical.json")]
    chemical = desk("chemical", [reader(mirror.ceremony.lead, lead=True)])
    mirror.show(mirror.ceremony.proposal(2, desks=[chemical]))
    [new] = [n for n in mirror.files if n.endswith(".chemical.json") and n != old]
    mirror.files[new] = mirror.files[old]


def _officer_listed_as_auditor(mirror: Mirror) -> None:
    officer = mirror.ceremony.officers[2]
    people = mirror.ceremony.description()["people"]
    people.append({"id": officer.id, "roles": ["auditor"], "signing_key": officer.signing.public})
    mirror.show(mirror.ceremony.proposal(2, people=people))


@pytest.mark.parametrize(
    ("lie", "slug"),
    [
        (_one_officer, "directory-threshold"),
        (_one_officer_twice, "directory-threshold"),
        (_reader_by_the_server, "directory-threshold"),
        (_expired, "directory-expired"),
        (_parts_of_two_versions, "directory-tampered"),
        (_officer_listed_as_auditor, "directory-tampered"),
    ],
    ids=lambda value: getattr(value, "__name__", value).strip("_"),
)
def test_a_witness_sends_nothing_under_a_directory_that_does_not_verify(
    ceremony: Ceremony, tmp_path: Path, lie: Callable[[Mirror], None], slug: str
) -> None:
    mirror = Mirror(ceremony)
    mirror.show(ceremony.proposal(1))
    lie(mirror)
    root, text = tmp_path / "root.json", tmp_path / "text"
    root.write_bytes(ceremony.root_bytes)
    text.write_text("[synthetic]")
    with served(mirror) as (url, others):
        done = amana(
            "witness", "send", "--server", url, "--root", root, "--desk", "chemical",
            "--language", "en", "--text", text, check=3,
        )  # fmt: skip
    assert f"{slug}: " in done.stderr
    assert others == []


def test_officers_do_not_start_from_an_older_version_than_they_saw(
    ceremony: Ceremony, tmp_path: Path
) -> None:
    mirror = Mirror(ceremony)
    mirror.show(ceremony.proposal(1))
    old = dict(mirror.files)
    mirror.show(ceremony.proposal(2))
    root = tmp_path / "root.json"
    root.write_bytes(ceremony.root_bytes)

    def propose(number: int, url: str, status: int) -> str:
        return amana(
            "officer", "propose", "--server", url, "--root", root,
            "--directory-cache", tmp_path / "cache", "--out", tmp_path / f"{number}", check=status,
        ).stderr  # fmt: skip

    with served(mirror) as (url, _):
        propose(1, url, 0)
        mirror.files = old
        assert "directory-rollback: " in propose(2, url, 3)
    assert not (tmp_path / "2").exists()


def test_officers_renew_what_expired_and_are_told(ceremony: Ceremony, tmp_path: Path) -> None:
    mirror = Mirror(ceremony)
    _expired(mirror)
    root = tmp_path / "root.json"
    root.write_bytes(ceremony.root_bytes)
    with served(mirror) as (url, _):
        done = amana(
            "officer", "propose", "--server", url, "--root", root, "--out", tmp_path / "new"
        )
    assert "The directory has expired on " in done.stderr
    assert "directory of amana-test, version 3" in done.stdout
