"""Broken networks and dying servers: whatever was acknowledged is there and opens."""

import json
import os
import random
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from tests.support.cutting_proxy import CuttingProxy, End
from tests.support.server import (
    AMANA,
    PASSPHRASE,
    Service,
    amana,
    make_demo,
    running_service,
    wait_until,
)
from tests.support.testimonies import Made
from tests.support.uploads import Client

SAMPLES = Path(__file__).parents[2] / "samples"
CUTS = 20
KILLS = 20


def send_command(url: str, demo: Path, files: list[Path], state: Path) -> list[str]:
    kept = [x for path in files for x in ("--attach", str(path), "--keep-metadata", str(path))]
    return [
        *AMANA, "witness", "send", "--server", url, "--root", str(demo / "root.json"),
        "--desk", "chemical", "--language", "ar", "--text", str(SAMPLES / "testimony.ar.txt"),
        *kept, "--state", str(state), "--json",
    ]  # fmt: skip


def deliver(command: list[str], url: str, state: Path, *, tries: int = 40) -> dict[str, object]:
    """Send, and as long as the network fails (exit status 4) resume from the state."""
    env = {**os.environ, "AMANA_PASSPHRASE": PASSPHRASE}
    for _ in range(tries):
        done = subprocess.run(
            command, env=env, capture_output=True, text=True, timeout=300, check=False
        )
        if done.returncode == 0:
            document: dict[str, object] = json.loads(done.stdout)
            return document
        assert done.returncode == 4, (done.returncode, done.stderr)
        if state.exists():
            # Before it was sealed there is nothing to resume, and sending begins anew.
            command = [*AMANA, "witness", "resume", str(state), "--server", url, "--json"]
    raise AssertionError(f"the testimony never arrived: {done.stderr}")


def opens(
    service: Service, demo: Path, reviewer: str, case: str, out: Path, files: list[Path]
) -> None:
    amana(
        "reviewer", "open", case, "--out", out, "--server", service.url, "--root", demo / "root.json",
        "--key", demo / "reviewers" / f"{reviewer}.key",
    )  # fmt: skip
    for path in files:
        assert (out / path.name).read_bytes() == path.read_bytes()


def test_a_sending_that_is_cut_twenty_times_arrives_whole(
    tmp_path: Path, stores: dict[str, str], attachments: list[Path]
) -> None:
    randomness = random.Random(20130821)
    sizes = [randomness.randrange(1, 2_000_000) for _ in range(CUTS)]
    ends = [randomness.choice(list(End)) for _ in range(CUTS)]
    with running_service(tmp_path, stores) as service:
        demo, state = tmp_path / "demo", tmp_path / "state"
        desks = make_demo(service, demo)
        proxy = CuttingProxy(("127.0.0.1", service.port), zip(sizes, ends, strict=True))
        try:
            sent = deliver(send_command(proxy.url, demo, attachments, state), proxy.url, state)
        finally:
            proxy.close()
        assert proxy.done == CUTS
        assert not state.exists()
        opens(service, demo, desks["chemical"][0], str(sent["case"]), tmp_path / "out", attachments)


def test_a_server_that_is_killed_twenty_times_loses_nothing_it_acknowledged(
    tmp_path: Path, stores: dict[str, str], attachments: list[Path]
) -> None:
    randomness = random.Random(20170404)
    with running_service(tmp_path, stores) as service:
        demo = tmp_path / "demo"
        desks = make_demo(service, demo)
        acknowledged: list[str] = []
        failures: list[BaseException] = []
        over = threading.Event()

        def witnesses(number: int) -> None:
            try:
                while not over.is_set():
                    state = tmp_path / f"state-{number}"
                    command = send_command(service.url, demo, attachments[:2], state)
                    acknowledged.append(str(deliver(command, service.url, state)["case"]))
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=witnesses, args=(number,)) for number in range(2)]
        for thread in threads:
            thread.start()
        for _ in range(KILLS):
            # A random moment is the point; what is awaited afterwards is a condition.
            over.wait(randomness.uniform(0.0, 1.5))
            service.kill()
            service.start()
        over.set()
        for thread in threads:
            thread.join(timeout=300)
        assert not failures, failures
        assert len(acknowledged) >= 2
        for number, case in enumerate(acknowledged):
            out = tmp_path / f"out-{number}"
            opens(service, demo, desks["chemical"][0], case, out, attachments[:2])


def test_a_command_that_is_killed_can_be_resumed(tmp_path: Path, attachments: list[Path]) -> None:
    with running_service(tmp_path) as service:
        demo, state = tmp_path / "demo", tmp_path / "state"
        desks = make_demo(service, demo)
        command = send_command(service.url, demo, attachments, state)
        env = {**os.environ, "AMANA_PASSPHRASE": PASSPHRASE}
        with subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL) as sending:
            objects = service.data / "objects"
            wait_until(lambda: any(objects.rglob("*.part")), "an upload to begin", process=sending)
            sending.send_signal(signal.SIGKILL)
        resumed = amana("witness", "resume", state, "--server", service.url, "--json")
        case = json.loads(resumed.stdout)["case"]
        opens(service, demo, desks["chemical"][0], case, tmp_path / "out", attachments)


@pytest.fixture
def two_servers(tmp_path: Path, postgres_and_s3: dict[str, str]):  # type: ignore[no-untyped-def]
    first = Service(tmp_path / "one", postgres_and_s3)
    second = Service(
        tmp_path / "two", {**postgres_and_s3, "AMANA_SECRETS": str(first.data / "secrets")}
    )
    second.env["AMANA_TRUST_ROOT"] = str(first.data / "root.json")
    for service in (first, second):
        service.folder.mkdir()
    try:
        yield first.start(), second.start()
    finally:
        first.kill()
        second.kill()


def test_each_request_can_go_to_another_server(
    two_servers: tuple[Service, Service], tmp_path: Path
) -> None:
    """One database, one object store, two servers: every request of an upload goes to the other one."""
    first, second = two_servers
    desks = make_demo(first, tmp_path / "demo")
    root = tmp_path / "demo" / "root.json"
    clients = [Client(service.url, root, service.data / "objects") for service in (first, second)]
    made = clients[0].testimony(files=[os.urandom(20_000_000)])
    [location], completion = clients[0].announce(made)
    data, offset, turn = made.sealed[0], 0, 0
    while offset < len(data):
        turn += 1
        piece = data[offset : offset + 3_000_000]
        answer = clients[turn % 2].patch(location, offset, piece)
        assert answer.status_code == 204, answer.text
        offset += len(piece)
        assert clients[(turn + 1) % 2].offset(location) == offset or offset == len(data)
    stuck_made = clients[0].testimony(files=[os.urandom(500_000)])
    [stuck_location], stuck_completion = clients[0].announce(stuck_made)
    stuck = clients[0].begin_patch(stuck_location, 0, len(stuck_made.sealed[0]))
    stuck.send(stuck_made.sealed[0][:100_000])

    def rest_arrives() -> bool:
        # The stuck request may begin to write between the two; then the offset is another.
        reached = clients[1].offset(stuck_location)
        rest = clients[1].patch(stuck_location, reached, stuck_made.sealed[0][reached:])
        return rest.status_code == 204

    wait_until(rest_arrives, "the other server to take over")
    for client, address in ((clients[1], completion), (clients[0], stuck_completion)):
        assert client.complete(address).status_code == 200
        client.http.close()
    stuck.answer()
    opens_bytes(second, tmp_path, desks["chemical"][0], made)


def opens_bytes(service: Service, folder: Path, reviewer: str, made: Made) -> None:
    """Open a case that was made without the witness's command, and compare its file."""
    out = folder / "opened"
    amana(
        "reviewer", "open", made.case, "--out", out, "--server", service.url,
        "--root", folder / "demo" / "root.json",
        "--key", folder / "demo" / "reviewers" / f"{reviewer}.key",
    )  # fmt: skip
    assert (out / "file-1.bin").read_bytes() == made.files[0]
