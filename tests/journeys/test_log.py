"""Nothing vanishes and nothing forks: processes that die at any moment, databases of another day, a stranger who checks."""

import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from amana.client.directory import read_root
from amana.client.log import fetch_checkpoint, fetch_tile, from_server
from amana.client.transport import Patience, Transport
from amana.protocol.checkpoint import Checkpoint
from amana.protocol.merkle import (
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    verify_consistency,
    verify_inclusion,
)
from amana.protocol.tiles import Tile, TileReader, bundles_of, split_bundle
from tests.support.server import (
    Service,
    amana,
    make_demo,
    running_service,
    wait_until,
)

SAMPLES = Path(__file__).parents[2] / "samples"
SOAK = bool(os.environ.get("AMANA_SOAK"))
PROCESSES = 4
APPENDS = 10_000
KILLS = 40 if SOAK else 12


class Watcher:
    """Asks for the checkpoint again and again, as an outsider, and keeps every one that it got."""

    def __init__(self, service: Service, root: Path) -> None:
        self._service = service
        self._key = read_root(root.read_bytes()).custody_log
        self._over = threading.Event()
        self.seen: dict[str, Checkpoint] = {}
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "Watcher":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.01):
            try:
                with Transport(self._service.url) as transport:
                    fetch = from_server(transport, Patience(1))
                    found = fetch_checkpoint(fetch, self._key).checkpoint
            except Exception:  # noqa: S112 - The service is dead as often as not.
                continue
            self.seen[found.text] = found

    def check(self, acknowledged: set[str]) -> None:
        """See that the log holds what was acknowledged, and continues every checkpoint that was ever seen."""
        with Transport(self._service.url) as transport:
            fetch = from_server(transport)
            newest = fetch_checkpoint(fetch, self._key).checkpoint
            entries = [
                entry
                for tile in bundles_of(newest.size)
                for entry in split_bundle(tile, fetch_tile(fetch, self._key, tile))
            ]

            def get(tile: Tile) -> bytes:
                return fetch_tile(fetch, self._key, tile)

            read = TileReader(get, newest.size)
            for old in self.seen.values():
                proof = consistency_proof(read, old.size, newest.size)
                verify_consistency(old.size, newest.size, old.root, newest.root, proof)
            assert len(entries) == len(set(entries)) == newest.size
            assert acknowledged <= {entry.hex() for entry in entries}
            for place in random.Random(1).sample(range(newest.size), 50):
                proof = inclusion_proof(read, place, newest.size)
                verify_inclusion(leaf_hash(entries[place]), place, newest.size, proof, newest.root)


@pytest.mark.parametrize("database", ["postgresql", "sqlite"])
def test_nothing_acknowledged_is_missing_and_nothing_forks_while_all_processes_are_killed(
    database: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Appends come from four processes; they and the servers that number them die by SIGKILL again and again."""
    env, appends, kills = {}, APPENDS, KILLS
    url = f"sqlite:///{tmp_path}/data/amana.db"
    if database == "postgresql":
        url = request.getfixturevalue("postgres_and_s3")["AMANA_DATABASE_URL"]
        env["AMANA_DATABASE_URL"] = url
    else:
        # One writer at a time, and each commit waits for the disk.
        appends, kills = APPENDS // (4 if SOAK else 20), KILLS // 3
    dice, files = random.Random(7), [tmp_path / f"acknowledged-{n}" for n in range(PROCESSES)]
    for path in files:
        path.touch()

    def acknowledged() -> int:
        return sum(path.read_bytes().count(b"\n") for path in files)

    def append(path: Path) -> "subprocess.Popen[bytes]":
        left = appends // PROCESSES - path.read_bytes().count(b"\n")
        command = [sys.executable, "-m", "tests.support.appending", url, str(left), str(path)]
        return subprocess.Popen(command, cwd=Path(__file__).parents[2])

    with running_service(tmp_path, env) as service:
        make_demo(service, tmp_path / "demo")
        with Watcher(service, tmp_path / "demo" / "root.json") as watcher:
            running = {path: append(path) for path in files}
            for kill in range(kills):
                wanted = appends * (kill + 1) // (kills + 2)
                wait_until(lambda wanted=wanted: acknowledged() >= wanted, "appends")
                if kill % 2:
                    service.kill()
                    service.start()
                else:
                    path = dice.choice(files)
                    running[path].kill()
                    running[path].wait()
                    running[path] = append(path)
            for one in running.values():
                assert one.wait(timeout=600) == 0
            assert acknowledged() == appends
            told = {line for path in files for line in path.read_text().split()}
            wait_until(lambda: size_of(service) >= appends, "everything to be published")
        watcher.check(told)
        # How many depends on the machine: the appenders leave a new sequencer few turns.
        assert len(watcher.seen) > 1
    # Who was killed between commit and acknowledgement left at most one more each time.
    assert appends <= size_of_folder(service) <= appends + kills


def size_of(service: Service) -> int:
    try:
        note = httpx2.get(f"{service.url}/log/custody/checkpoint").text
        return int(note.split("\n")[1])
    except (httpx2.HTTPError, IndexError, ValueError):
        return -1


def size_of_folder(service: Service) -> int:
    path = service.data / "objects" / "log" / "custody" / "checkpoint"
    return int(path.read_text().split("\n")[1])


# What a stranger checks, and what an operator does when something was restored


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with running_service(tmp_path) as running:
        make_demo(running, tmp_path / "demo")
        yield running


def send(service: Service, demo: Path, *more: str | Path) -> dict[str, Any]:
    done = amana(
        "witness", "send", "--server", service.url, "--root", demo / "root.json", "--desk", "chemical",
        "--language", "ar", "--text", SAMPLES / "testimony.ar.txt", "--json", *more,
    )  # fmt: skip
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def send_until_proven(service: Service, demo: Path, receipt: Path) -> tuple[dict[str, Any], Path]:
    """Send until the log was there in time: the client waits 1.5 seconds, in which a busy machine may not get to it."""
    for number in range(10):
        path = receipt.with_name(f"{receipt.name}-{number}.json")
        sent = send(service, demo, "--receipt-file", path)
        if sent["proof"] is not None:
            return sent, path
    raise AssertionError("the log is never there in time")


def verified(what: str, *arguments: str | Path, status: int = 0) -> dict[str, dict[str, Any]]:
    done = amana("verify", what, *arguments, "--json", check=status)
    document = json.loads(done.stdout)
    assert document["verified"] is (status == 0)
    return {one["name"]: one for one in document["checks"]}


def test_a_receipt_is_proven_offline_to_have_been_logged(service: Service, tmp_path: Path) -> None:
    demo = tmp_path / "demo"
    root = ("--root", demo / "root.json")
    sent, receipt = send_until_proven(service, demo, tmp_path / "receipt")
    proof = receipt.with_name(f"{receipt.name}.tlog-proof")
    assert proof.read_text() == sent["proof"]
    other, _ = send_until_proven(service, demo, tmp_path / "other")
    fetched = verified("receipt", receipt, *root, "--server", service.url)["inclusion"]
    assert fetched["ok"]
    assert f"{size_of(service)} leaves" in fetched["detail"]
    service.stop()
    # From here on without a server: the proof beside it, in what was printed, or given.
    assert verified("receipt", receipt, *root)["inclusion"]["ok"]
    printed = tmp_path / "printed.json"
    printed.write_text(json.dumps(sent))
    assert verified("receipt", printed, *root)["inclusion"]["ok"]
    assert verified("receipt", printed, *root, "--proof", proof)["inclusion"]["ok"]
    wrong = tmp_path / "wrong"
    wrong.write_text(other["proof"])
    assert not verified("receipt", receipt, *root, "--proof", wrong, status=3)["inclusion"]["ok"]
    content = proof.read_bytes()
    for at in range(0, len(content), 41):
        damaged = bytearray(content)
        damaged[at] ^= 1
        wrong.write_bytes(damaged)
        assert not verified("receipt", receipt, *root, "--proof", wrong, status=3)["inclusion"][
            "ok"
        ]
    receipt.write_text(json.dumps({**sent["receipt"], "key": other["receipt"]["key"]}))
    assert "inclusion" not in verified("receipt", receipt, *root, status=3)


def test_a_stranger_reads_both_logs_whole_and_remembers_them(
    service: Service, tmp_path: Path
) -> None:
    demo, state = tmp_path / "demo", tmp_path / "state"
    root = ("--root", demo / "root.json")
    send(service, demo)
    wait_until(lambda: size_of(service) == 1, "it to be published")
    first = verified("log", *root, "--server", service.url, "--state", state)
    assert set(first) == {
        "root",
        *(
            f"{log} {what}"
            for log in ("custody", "directory")
            for what in ("checkpoint", "tiles", "entries")
        ),
    }
    kept = tmp_path / "kept"
    shutil.copytree(service.data / "objects" / "log", kept)
    send(service, demo)
    wait_until(lambda: size_of(service) == 2, "the second to be published")
    second = verified("log", *root, "--server", service.url, "--state", state)
    assert second["custody consistency"]["ok"]
    assert second["custody entries"]["detail"] == "2 commitments"
    assert second["directory entries"]["detail"] == "newest: root 1, targets 1"
    # The copy of the first day verifies by itself, and not after what was seen since.
    assert verified("log", *root, "--dir", kept, "--log", "custody")
    checks = verified("log", *root, "--dir", kept, "--state", state, status=3)
    assert checks["custody consistency"]["detail"].startswith("2 leaves were seen before")
    remembered = json.loads(state.read_text())
    remembered["amana-demo/custody"]["root"] = remembered["amana-demo/directory"]["root"]
    state.write_text(json.dumps(remembered))
    forked = verified("log", *root, "--server", service.url, "--state", state, status=3)
    assert not forked["custody consistency"]["ok"]
    assert json.loads(state.read_text()) == remembered
    # Every file of the copy matters.
    for path in sorted(kept.glob("custody/**/*")):
        if path.is_file():
            whole = path.read_bytes()
            path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
            checks = verified("log", *root, "--dir", kept, "--log", "custody", status=3)
            assert not all(one["ok"] for one in checks.values()), path
            path.write_bytes(whole)


def copy_database(source: Path, target: Path) -> None:
    with sqlite3.connect(source) as opened, sqlite3.connect(target) as copy:
        opened.backup(copy)
    for one in (opened, copy):
        one.close()


def change_database(service: Service, *statements: str) -> None:
    connection = sqlite3.connect(service.data / "amana.db")
    with connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


def test_a_service_whose_log_forked_does_not_start(service: Service, tmp_path: Path) -> None:
    for _ in range(2):
        send(service, tmp_path / "demo")
    wait_until(lambda: size_of(service) == 2, "both to be published")
    service.stop()
    change_database(
        service, "UPDATE log_leaves SET entry = zeroblob(32) WHERE place = 1 AND length(entry) = 32"
    )
    done = amana("serve", "--listen", "127.0.0.1:1", "--data", service.data, check=1)
    assert "log-forked: custody" in done.stderr
    told = json.loads(amana("log", "status", "--data", service.data, "--json", check=1).stdout)
    assert {one["name"]: one["state"] for one in told["logs"]} == {
        "custody": "log-forked",
        "directory": "open",
    }
    doctor = json.loads(amana("doctor", "--data", service.data, "--json", check=1).stdout)
    assert [one["name"] for one in doctor["checks"] if not one["ok"]] == ["logs"]


def test_a_database_restored_behind_its_log_is_frozen_and_the_officers_open_another(
    service: Service, tmp_path: Path
) -> None:
    demo = tmp_path / "demo"
    root = ("--root", demo / "root.json")
    first = send(service, demo)
    wait_until(lambda: size_of(service) == 1, "it to be published")
    service.stop()
    backup = tmp_path / "backup.db"
    copy_database(service.data / "amana.db", backup)
    service.start()
    lost = send(service, demo)
    wait_until(lambda: size_of(service) == 2, "the second to be published")
    service.stop()
    for name in ("amana.db", "amana.db-wal", "amana.db-shm"):
        (service.data / name).unlink(missing_ok=True)
    copy_database(backup, service.data / "amana.db")
    # It takes testimonies, and gives nothing out that would contradict what it gave out.
    service.start()
    assert "log-behind: custody" in service.log.read_text()
    waiting = send(service, demo)
    assert waiting["proof"] is None
    assert size_of(service) == 1
    told = json.loads(amana("log", "status", "--data", service.data, "--json", check=1).stdout)
    assert [(one["state"], one["waiting"]) for one in told["logs"]] == [
        ("log-behind", 1),
        ("open", 0),
    ]
    assert "log-behind" in amana("doctor", "--data", service.data, check=1).stdout
    # The officers' ceremony.
    proposal = tmp_path / "proposal"
    amana(
        "officer",
        "rotate-root",
        "--server",
        service.url,
        *root,
        "--reopen",
        "custody",
        "--out",
        proposal,
    )
    for key in sorted((demo / "officers").glob("*.key"))[:2]:
        amana("officer", "sign", proposal, "--key", key)
    amana("officer", "publish", proposal, "--server", service.url)
    checkpoint = f"{service.url}/log/custody-2/checkpoint"
    wait_until(lambda: httpx2.get(checkpoint).text.split("\n")[1:2] == ["1"], "the new log")
    newest = tmp_path / "2.root.json"
    newest.write_bytes(httpx2.get(f"{service.url}/v1/directory/2.root.json").content)
    receipts = {}
    for name, sent in (("first", first), ("lost", lost), ("waiting", waiting)):
        receipts[name] = tmp_path / f"{name}.json"
        receipts[name].write_text(json.dumps(sent["receipt"]))
    assert verified("receipt", receipts["waiting"], "--root", newest, "--server", service.url)
    assert verified("receipt", receipts["first"], *root, "--server", service.url)
    assert verified("log", *root, "--server", service.url)
    # The log that ended still proves what only its files remember.
    lost = verified("receipt", receipts["lost"], *root, "--server", service.url, status=3)
    assert lost["inclusion"]["detail"] == "The log does not hold this yet."
    done = json.loads(amana("log", "recover", "custody", "--data", service.data, "--json").stdout)
    assert done == {"files": 0, "leaves": 1}
    assert verified("receipt", receipts["lost"], *root, "--server", service.url)
    assert send(service, demo)["proof"]
    whole = json.loads(amana("log", "status", "--whole", "--data", service.data, "--json").stdout)
    assert {one["name"]: one["state"] for one in whole["logs"]} == {
        "custody": "closed",
        "custody-2": "open",
        "directory": "open",
    }


def test_lost_files_of_a_log_are_refused_and_recovered(service: Service, tmp_path: Path) -> None:
    demo = tmp_path / "demo"
    sent, _ = send(service, demo), send(service, demo)
    wait_until(lambda: size_of(service) == 2, "both to be published")
    service.stop()
    shutil.rmtree(service.data / "objects" / "log" / "custody" / "tile" / "0")
    service.start()
    assert "log-damaged: custody" in service.log.read_text()
    assert httpx2.get(f"{service.url}/log/custody/tile/0/000.p/2").status_code == 503
    root = ("--root", demo / "root.json", "--server", service.url)
    damaged = verified("log", *root, "--log", "custody", status=3)["custody tiles"]
    assert not damaged["ok"]
    assert "lost or damaged" in damaged["detail"]
    # A proof that leads nowhere is not given out either.
    receipt = tmp_path / "receipt.json"
    receipt.write_text(json.dumps(sent["receipt"]))
    refused = verified("receipt", receipt, *root, status=3)
    assert refused["signature"]["ok"]
    assert not refused["inclusion"]["ok"]
    assert "lost or damaged" in refused["inclusion"]["detail"]
    assert amana("log", "recover", "custody", "--data", service.data).returncode == 0
    wait_until(
        lambda: httpx2.get(f"{service.url}/log/custody/tile/0/000.p/2").status_code == 200,
        "the tile",
    )
    assert verified("log", "--root", demo / "root.json", "--server", service.url)


def test_freezing_is_asked_about_and_lasts(service: Service, tmp_path: Path) -> None:
    send(service, tmp_path / "demo")
    wait_until(lambda: size_of(service) == 1, "it to be published")
    asked = subprocess.run(
        [sys.executable, "-m", "amana.cli", "log", "freeze", "custody", "--data", service.data],
        input="n\n", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert asked.returncode == 1
    assert "log-frozen" not in amana("log", "status", "--data", service.data).stdout
    amana("log", "freeze", "custody", "--yes", "--data", service.data)
    assert "log-frozen custody" in amana("log", "status", "--data", service.data, check=1).stdout
    assert (
        "There is no log"
        in amana("log", "freeze", "x", "--yes", "--data", service.data, check=1).stderr
    )
