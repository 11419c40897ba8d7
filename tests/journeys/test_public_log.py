"""A stranger can see that nothing is taken back: testimony is sealed only under a quorum, and a fork is caught."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from amana.ops.maintenance import maintain
from tests.support.cosigners import RunningCosigner
from tests.support.forking import Forking
from tests.support.officers import Officers
from tests.support.organisation import organisation_in
from tests.support.server import Service, amana, wait_until

SAMPLE = Path(__file__).parents[2] / "samples" / "testimony.ar.txt"


@pytest.fixture
def cosigners(tmp_path: Path) -> Iterator[list[RunningCosigner]]:
    running = [RunningCosigner(tmp_path, f"{name}.example/1") for name in ("one", "two")]
    yield running
    for one in running:
        one.close()


def send(url: str, root: Path, check: int) -> Any:
    done = amana(
        "witness", "send", "--server", url, "--root", root, "--desk", "chemical",
        "--language", "ar", "--text", SAMPLE, "--json", check=check,
    )  # fmt: skip
    return json.loads(done.stdout) if check == 0 else done.stderr


def look(url: str, root: Path, state: Path, *options: str, check: int) -> dict[str, Any]:
    done = amana(
        "monitor", "--server", url, "--root", root, "--state", state, *options, "--json", check=check
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_testimony_is_sealed_only_when_a_quorum_vouches_for_the_directory(
    tmp_path: Path, cosigners: list[RunningCosigner]
) -> None:
    addresses = ",".join(f"{one.name}={one.url}" for one in cosigners)
    service = Service(tmp_path, {"AMANA_COSIGNERS": addresses, "AMANA_WORKERS": "2"})
    root, state = tmp_path / "demo" / "root.json", tmp_path / "monitor.json"
    try:
        service.start()
        pinned = [option for one in cosigners for option in ("--cosigner", one.vkey)]
        amana("demo", "--data", service.data, "--out", tmp_path / "demo", *pinned)
        assert send(service.url, root, check=3).startswith("log-quorum:")
        cosigners[0].start(["--root", str(root)])
        assert send(service.url, root, check=3).startswith("log-quorum:")
        cosigners[1].start(["--root", str(root)])
        # The server asks again by itself, or an operator does so at once.
        amana("maintain", "--data", service.data, env=service.env)
        sent = send(service.url, root, check=0)
        assert sent["receipt"]["case"] == sent["case"]
        amana("maintain", "--data", service.data, env=service.env)
        found = look(service.url, root, state, check=1)
        assert found["unexpected"][0] == {
            "what": "directory", "version": 1, "person": None, "place": None, "key": None,
        }  # fmt: skip
        found = look(service.url, root, state, "--accept", "1", check=0)
        assert found["verified"]
        assert found["logs"]["directory"]["fresh_operators"] == 2
        # What was vouched for a moment ago counts for as long as the root says.
        for one in cosigners:
            one.kill()
        send(service.url, root, check=0)
        wait_until(
            lambda: (
                look(service.url, root, state, check=0)["logs"]["custody"]["size"]
                > found["logs"]["custody"]["size"]
            ),
            "the custody log to grow",
        )
        reviewer = next((tmp_path / "demo" / "reviewers").glob("*.key"))
        access = ["--server", service.url, "--root", str(root)]
        amana("reviewer", "cases", *access, env={"AMANA_KEY": str(reviewer)})
    finally:
        service.kill()


def test_a_server_that_forks_its_log_for_one_victim_is_caught(
    tmp_path: Path, cosigners: list[RunningCosigner]
) -> None:
    addresses = {one.vkey: one.url for one in cosigners}
    with organisation_in(tmp_path, cosigners=addresses) as organisation:
        root, state = tmp_path / "demo" / "root.json", tmp_path / "monitor.json"
        for one in cosigners:
            one.start(["--root", str(root)])
        maintain(organisation.services)
        forking = Forking(organisation)
        # A reader is coerced, and the officers take them out of the directory.
        Officers(organisation).remove(organisation.desks["chemical"][1].id)
        maintain(organisation.services)
        forking.fork()
        assert forking.refusals == ["cosigner-disagrees"] * 2
        with organisation.served() as genuine, organisation.served(forking) as false:
            send(genuine, root, check=0)
            # The victim's client saw nothing before, and still seals nothing for the coerced reader.
            assert send(false, root, check=3).startswith("log-quorum:")
            look(genuine, root, state, "--accept", "1", "--accept", "2", check=0)
            found = look(false, root, state, check=3)
        slugs = {one["slug"]: one for one in found["problems"]}
        assert {"log-forked", "log-quorum"} & set(slugs)
        evidence = Path(slugs["log-forked"]["evidence"]).read_text("utf-8")
        assert str(forking.log.checkpoint()) in evidence
        for one in cosigners:
            assert list(one.state.glob("fork-*.txt"))
