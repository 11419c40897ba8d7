# SPDX-License-Identifier: AGPL-3.0-or-later
"""The tour of `make run`: a demonstration organisation, one synthetic testimony from witness to reviewer, step by step."""

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

ROOT = Path(__file__).parents[1]
DATA = ROOT / "var"
DEMO = DATA / "demo"
OPENED = DATA / "opened"
RELEASED = DATA / "released"
SAMPLES = ROOT / "samples"
AMANA = [sys.executable, "-m", "amana.cli"]
DESK = "chemical"


class StepFailed(Exception):
    """A step of the tour did not end as it should."""


def say(text: str) -> None:
    print(f"\033[1m•\033[0m {text}" if sys.stdout.isatty() else f"* {text}", flush=True)


def amana(*arguments: str | Path, **env: str) -> dict[str, Any]:
    """Run one command with --json and return what it prints."""
    done = subprocess.run(
        [*AMANA, *map(str, arguments), "--json"],
        env={**os.environ, "AMANA_PASSPHRASE": "demo", **env},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise StepFailed(f"'amana {arguments[0]} …' ended with status {done.returncode}")
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def free_address(usual: int = 8600) -> str:
    """Return the usual address, or another when it is taken."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", usual))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


class Cosigner:
    """What two partner organisations would run on machines of their own."""

    def __init__(self, name: str, usual_port: int) -> None:
        self.name = f"{name}.example/1"
        self.address = free_address(usual_port)
        folder = DATA / "cosigners" / name
        self.files = ("--key", folder / "key", "--state", folder / "state")
        public = folder / "vkey"
        if not public.exists():
            made = amana("cosigner", "init", "--name", self.name, *self.files)
            public.write_text(made["vkey"], encoding="utf-8")
        self.vkey = public.read_text("utf-8")

    def serve(self) -> "subprocess.Popen[bytes]":
        """Watch the logs of the demonstration organisation."""
        root = ("--root", DEMO / "root.json")
        command = ("cosigner", "serve", "--listen", self.address, *self.files, *root)
        return subprocess.Popen([*AMANA, *map(str, command)], stderr=subprocess.DEVNULL)


def wait_for(url: str, server: "subprocess.Popen[bytes]") -> None:
    """Wait until the service answers."""
    deadline = time.monotonic() + 60
    while server.poll() is None and time.monotonic() < deadline:
        try:
            with urlopen(f"{url}/health/live", timeout=2):  # noqa: S310
                return
        except (URLError, OSError):
            time.sleep(0.05)
    raise StepFailed("the service did not start")


def tour(url: str, organisation: dict[str, Any]) -> None:
    """Let the sample testimony travel."""
    reviewers = organisation["desks"][DESK]
    say(
        f"Desks: {', '.join(f'{desk} ({len(ids)} readers)' for desk, ids in organisation['desks'].items())}."
    )
    attachments = [SAMPLES / name for name in ("photo.jpg", "voice.ogg", "video.mp4")]
    size = sum(path.stat().st_size for path in attachments)
    say(
        f"A witness seals an Arabic text, a photo, a voice note and a video ({size / 1e6:.1f} MB) and sends them."
    )
    sent = amana(
        "witness", "send", "--server", url, "--root", DEMO / "root.json", "--desk", DESK,
        "--language", "ar", "--text", SAMPLES / "testimony.ar.txt", "--identity", SAMPLES / "identity.ar.json",
        "--identity-level", "prosecutors", "--consent", "icc=allow",
        *(argument for path in attachments for argument in ("--attach", path)),
    )  # fmt: skip
    say(f"The server stored what it cannot read and signed a receipt: case {sent['case']}.")
    say(f"The witness keeps a codename of eight words: {sent['codename']}")
    receipt = DATA / "receipt.json"
    receipt.write_text(json.dumps(sent["receipt"]), encoding="utf-8")
    checked = amana("verify", "receipt", receipt, "--root", DEMO / "root.json")
    say(
        f"The receipt {'verifies' if checked['verified'] else 'DOES NOT VERIFY'} with the key that the officers' root pins."
    )
    receipt.unlink()
    keys = {"AMANA_KEY": str(DEMO / "reviewers" / f"{reviewers[0]}.key")}
    access = ("--server", url, "--root", DEMO / "root.json")
    queue = amana("reviewer", "cases", *access, **keys)["cases"]
    say(
        f"A reviewer of the desk signs in and sees {len(queue)} case(s); sizes and days, nothing else."
    )
    shutil.rmtree(OPENED, ignore_errors=True)
    amana("reviewer", "open", sent["case"], "--out", OPENED, *access, **keys)
    names = ", ".join(sorted(path.name for path in OPENED.iterdir()))
    say(f"The reviewer signed an opening, verified everything and holds: {names}")
    if (SAMPLES / "testimony.ar.txt").read_text("utf-8").strip() not in json.loads(
        (OPENED / "account.json").read_text("utf-8")
    ).get("text", ""):
        raise StepFailed("what was opened is not what was sent")
    say("It is word for word what the witness wrote.")
    watched = amana("monitor", "--server", url, "--root", DEMO / "root.json",
                    "--state", DATA / "monitor.json", "--accept", "1")  # fmt: skip
    logs = watched["logs"]
    say(
        f"A monitor outside followed both public logs ({logs['directory']['size']} and {logs['custody']['size']} leaves):"
        f" {'nothing was taken back' if watched['verified'] else 'SOMETHING DOES NOT VERIFY'}."
    )
    release(sent["case"], access, keys)


def release(case: str, access: tuple[str | Path, ...], keys: dict[str, str]) -> None:
    """Let two of three custodians release who the witness is."""
    request = amana(
        "reviewer", "request-identity", case, "--purpose", "icc", "--days", "7",
        "--reason", "[DEMONSTRATION] A prosecutor asks for the witness.", *access, **keys,
    )["request"]  # fmt: skip
    say("Who the witness is lies apart. The reviewer asks the custodians for it, with a reason.")
    for key in sorted((DEMO / "custodians").glob("*.key"))[:2]:
        amana("custodian", "share", request, "--yes", *access, AMANA_KEY=str(key))
    shutil.rmtree(RELEASED, ignore_errors=True)
    amana("reviewer", "identity", case, "--out", RELEASED, *access, **keys)
    say(
        "Two of three custodians verified the request and sealed their shares; one alone opens nothing."
    )
    name = json.loads((RELEASED / "identity.json").read_text("utf-8"))["name"]
    if name != json.loads((SAMPLES / "identity.ar.json").read_text("utf-8"))["name"]:
        raise StepFailed("what was released is not what was sent")
    say(
        "The reviewer's program put the key together, and holds the identity that the witness sent."
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--once", action="store_true", help="End after the tour.")
    arguments = parser.parse_args()
    address = free_address()
    url = f"http://{address}"
    say(f"The service starts with SQLite and a folder under {DATA.relative_to(ROOT)}/.")
    cosigners = [Cosigner("one", 8601), Cosigner("two", 8602)]
    addresses = ",".join(f"{one.name}=http://{one.address}" for one in cosigners)
    server = subprocess.Popen(
        [*AMANA, "serve", "all", "--listen", address, "--data", str(DATA)],
        env={**os.environ, "AMANA_COSIGNERS": addresses},
        stderr=None if os.environ.get("AMANA_TOUR_LOG") else subprocess.DEVNULL,
    )
    beside: list[subprocess.Popen[bytes]] = []
    try:
        wait_for(url, server)
        pinned = [option for one in cosigners for option in ("--cosigner", one.vkey)]
        organisation = amana("demo", "--data", DATA, "--out", DEMO, *pinned)
        say("Three officers made keys; two of them signed the directory of who may read.")
        beside += [one.serve() for one in cosigners]
        say("Two cosigners, of other organisations, watch that the public logs only grow.")
        tour(url, organisation)
        if not arguments.once:
            say(f"Serving at {url} (its interface: {url}/docs). Ctrl-C ends it.")
            server.wait()
    except StepFailed as failed:
        say(f"Stopped: {failed}.")
        return 1
    except KeyboardInterrupt:
        say("Ended. The data stay in ./var; 'make run' goes on with them.")
    finally:
        for process in (server, *beside):
            process.terminate()
        for process in (server, *beside):
            process.wait(timeout=30)
    return 0


if __name__ == "__main__":
    sys.exit(main())
