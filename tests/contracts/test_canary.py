"""What is planted in requests is found afterwards in no log line, table, object or file of the server."""

import socket
from pathlib import Path

from amana.consent.models import Destruction
from amana.custody.models import Event
from amana.intake import models
from amana.protocol.encoding import b64
from amana.replies.models import Shard, Slot, WaitingSlot
from amana.scrub.models import Damage
from tests.support.server import make_demo, running_service, wait_until
from tests.support.uploads import OFFSET, TUS, Client

TEXT = "canary-كناري-text"
NAME = "canary-file-name.jpg"
CODENAME = "canary codename of eight words that nobody keeps here"
AGENT = "canary-agent/1.0"
TOKEN = "canary-token-aaaaaaaaaaaaaaaaaaaaaaaa"
FORWARDED = "203.0.113.77"
HEADERS = {
    "User-Agent": AGENT,
    "X-Forwarded-For": FORWARDED,
    "Forwarded": f"for={FORWARDED}",
    "Authorization": f"Bearer {TOKEN}",
    "Cookie": f"session={TOKEN}",
    "Referer": f"https://canary-referer.example/{CODENAME.replace(' ', '-')}",
}
CANARIES = [
    TEXT.encode(),
    NAME.encode(),
    CODENAME.encode(),
    CODENAME.replace(" ", "-").encode(),
    AGENT.encode(),
    TOKEN.encode(),
    FORWARDED.encode(),
    b"canary",
    b64(TEXT.encode()).encode(),
    TEXT.encode("utf-16-le"),
]


def plant(client: Client) -> None:
    """Send canaries wherever a request can carry something, well formed and not."""
    client.http.headers.update(HEADERS)
    made = client.testimony(account=TEXT.encode(), files=[NAME.encode() * 1000 + CODENAME.encode()])
    [location], completion = client.announce(made)
    client.patch(
        location,
        0,
        made.sealed[0][:70_000],
        **{"Upload-Metadata": f"filename {b64(NAME.encode())}"},
    )
    client.patch(location, 70_000, made.sealed[0][70_000:])
    assert client.complete(completion).status_code == 200
    for path in (
        f"/{TOKEN}",
        f"/v1/uploads/{TOKEN}",
        f"/v1/cases/{TOKEN}",
        f"/v1/directory/{NAME}",
        f"/v1/cases?desk={TEXT}",
    ):
        client.http.get(path)
    client.http.post(
        "/v1/testimonies",
        content=TEXT.encode(),
        headers={"Content-Type": f"multipart/form-data; boundary={TOKEN}"},
    )
    client.http.post("/v1/testimonies", files={NAME: (NAME, TEXT.encode())})
    client.http.post("/v1/sessions", json={"assertion": TOKEN, "canary": TEXT})
    client.http.post("/v1/directory", json={"metadata": {NAME: TEXT}, "targets": {}})
    client.http.get(f"/v1/drop/{TOKEN}/{TEXT}")
    client.http.post("/v1/drop", json={"slots": [b64(TEXT.encode())], "reason": TEXT, NAME: TOKEN})
    client.http.patch(
        location, content=TEXT.encode(), headers={**TUS, **OFFSET, "Upload-Offset": TOKEN}
    )
    port = int(client.url.rpartition(":")[2])
    for line in (
        f"GARBAGE {TOKEN}",
        f"GET /{TOKEN} HTTP/9.9",
        f"GET / HTTP/1.1\r\n{TEXT}",
        f"\x16{TEXT}",
    ):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(f"{line}\r\n\r\n".encode())
            connection.settimeout(5)
            try:
                connection.recv(1000)
            except OSError:
                continue


def everything_below(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_no_canary_is_found_on_the_server(tmp_path: Path) -> None:
    with running_service(tmp_path) as service:
        make_demo(service, tmp_path / "demo")
        client = Client(service.url, tmp_path / "demo" / "root.json", service.data / "objects")
        try:
            plant(client)
        finally:
            client.http.close()
        service.stop()
        kept = everything_below(service.data) | {service.log: service.log.read_bytes()}
    assert sum(map(len, kept.values())) > 100_000, "the store was looked at"
    for path, content in kept.items():
        for canary in CANARIES:
            assert canary not in content, f"{canary!r} in {path.name}"
            assert canary.decode("utf-8", "replace") not in path.name


def test_rows_about_witnesses_hold_days_and_no_times() -> None:
    for model in (
        models.Testimony,
        models.Grant,
        models.UploadedObject,
        models.ServerProcess,
        Destruction,
        Damage,
        Event,
        Shard,
        Slot,
        WaitingSlot,
    ):
        kinds = {str(column.type) for column in model.__table__.columns}
        assert not {kind for kind in kinds if "TIME" in kind}, model


def test_stored_objects_tell_the_day_of_their_arrival_only(tmp_path: Path) -> None:
    with running_service(tmp_path) as service:
        make_demo(service, tmp_path / "demo")
        client = Client(service.url, tmp_path / "demo" / "root.json", service.data / "objects")
        made = client.testimony(files=[b"x"])
        [location], completion = client.announce(made)
        client.patch(location, 0, made.sealed[0])
        client.complete(completion)
        client.http.close()
        objects = service.data / "objects"
        wait_until((objects / "log" / "custody" / "checkpoint").exists, "the log to be published")
        for path in (objects / "log").glob("*/**/*"):
            assert not path.is_file() or path.stat().st_mtime % 86400 == 0, path
        [stored] = (path for path in objects.glob("??/**/*") if path.is_file())
        assert stored.stat().st_mtime % 86400 == 0
        assert stored.read_bytes() == made.sealed[0]
