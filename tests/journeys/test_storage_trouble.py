"""A full disk and an unreachable object store: 503 with Retry-After, nothing lost, and the client continues later."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.journeys.test_endurance import opens, opens_bytes, send_command
from tests.support.relay import relay_to
from tests.support.server import Service, amana, make_demo
from tests.support.uploads import Client

MOUNT = "mount -t tmpfs -o size=12m tmpfs"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Service]:
    """A service whose objects rest on a file system of 12 MiB of its own."""
    service = Service(tmp_path)
    objects = service.data / "objects"
    objects.mkdir(parents=True)
    service.data.chmod(0o700)
    room = ["unshare", "-rm", "sh", "-c"]
    try:
        subprocess.run([*room, f'{MOUNT} "{objects}"'], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no small file system can be mounted here")
    service.prefix = [*room, f'{MOUNT} "{objects}" && exec "$@"', "sh"]
    try:
        yield service.start()
    finally:
        service.kill()


def test_a_full_disk_is_told_and_the_upload_continues_when_there_is_room(
    small_disk: Service, tmp_path: Path
) -> None:
    service = small_disk
    desks = make_demo(service, tmp_path / "demo")
    client = Client(service.url, tmp_path / "demo" / "root.json", service.data / "objects")
    made = client.testimony(files=[os.urandom(6_000_000)])
    [location], completion = client.announce(made)
    data = made.sealed[0]
    assert service.process is not None
    # The mount is seen by the service only; its own view of the root lies in /proc.
    disk = Path(f"/proc/{service.process.pid}/root{service.data}/objects")
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(8 * 2**20))
    answer = client.patch(location, 0, data)
    assert answer.status_code == 503
    assert answer.json()["type"] == "unavailable"
    assert int(answer.headers["Retry-After"]) > 0
    reached = client.offset(location)
    assert 0 < reached < len(data), "what still fitted is kept"
    ballast.unlink()
    assert client.patch(location, reached, data[reached:]).status_code == 204
    assert client.complete(completion).status_code == 200
    client.http.close()
    opens_bytes(service, tmp_path, desks["chemical"][0], made)


def test_an_object_store_that_is_away_is_told_and_the_client_continues_later(
    tmp_path: Path, postgres_and_s3: dict[str, str], attachments: list[Path]
) -> None:
    with relay_to(postgres_and_s3["AMANA_S3_ENDPOINT_URL"]) as relay:
        service = Service(
            tmp_path, {**postgres_and_s3, "AMANA_S3_ENDPOINT_URL": f"http://127.0.0.1:{relay.port}"}
        )
        try:
            service.start()
            demo, state = tmp_path / "demo", tmp_path / "state"
            desks = make_demo(service, demo)
            client = Client(service.url, demo / "root.json", service.data)
            made = client.testimony(files=[os.urandom(1_000_000)])
            [location], _ = client.announce(made)
            relay.cut()
            answer = client.patch(location, 0, made.sealed[0])
            assert answer.status_code == 503
            assert int(answer.headers["Retry-After"]) > 0
            ready = client.http.get("/health/ready")
            assert ready.status_code == 503
            assert client.http.get("/health/live").status_code == 200
            client.http.close()
            sending = subprocess.Popen(
                send_command(service.url, demo, attachments, state),
                env={**os.environ},
                stdout=subprocess.PIPE,
                text=True,
            )
            relay.mend()
            output, _ = sending.communicate(timeout=300)
            if sending.returncode == 0:
                case = json.loads(output)["case"]
            else:
                resume = ["witness", "resume", str(state), "--server", service.url, "--json"]
                case = json.loads(amana(*resume).stdout)["case"]
            opens(service, demo, desks["chemical"][0], case, tmp_path / "out", attachments)
        finally:
            service.kill()
