"""The real service in real processes, for journeys: started, killed, started again on the same data."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.support import commands

AMANA = [sys.executable, "-m", "amana.cli"]
LATER = [sys.executable, "-m", "tests.support.later"]
PASSPHRASE = "demo"


def command(days: int = 0) -> list[str]:
    """Return what runs `amana`: now, or with its clock so many days ahead."""
    return [*LATER, str(days)] if days else AMANA


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def amana(
    *arguments: str | Path,
    env: Mapping[str, str] | None = None,
    check: int | None = 0,
    days: int = 0,
) -> "subprocess.CompletedProcess[str]":
    """Run a command as a person would, on a day to come; `check` is the exit status it must have."""
    done = commands.run(
        [*map(str, arguments)],
        {**os.environ, "AMANA_PASSPHRASE": PASSPHRASE, **(env or {})},
        days=days,
    )
    if check is not None:
        assert done.returncode == check, (done.returncode, done.stdout[-2000:], done.stderr[-4000:])
    return done


class Service:
    """One `amana serve` on a loopback port. `log` keeps everything it ever printed."""

    def __init__(
        self, folder: Path, env: Mapping[str, str] | None = None, surface: str = "all"
    ) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.log = folder / f"server-{free_port()}.log"
        self.port = free_port()
        self.surface = surface
        self.prefix: list[str] = []
        """What the command is run by, for example a mount namespace."""
        self.env = {
            "AMANA_ADMISSION_PRICE": "0",
            "AMANA_THREADS": "64",
            "AMANA_SILENCE_SECONDS": "5",
            **(env or {}),
        }
        self.days = 0
        """How many days its clock is ahead."""
        self.uds: Path | None = None
        """A unix socket to listen on instead of the port, behind nginx."""
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> "Service":
        where = ["--uds", str(self.uds)] if self.uds else ["--listen", f"127.0.0.1:{self.port}"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *self.prefix,
                    *command(self.days),
                    "serve",
                    self.surface,
                    *where,
                    "--data",
                    str(self.data),
                ],
                env={**os.environ, **self.env},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until(self.is_live, "the service to answer", process=self.process, log=self.log)
        return self

    def is_live(self) -> bool:
        if self.uds is not None:
            return self.uds.is_socket()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        try:
            connection.request("GET", "/health/live")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def kill(self) -> None:
        """SIGKILL to every process of the service, at once."""
        self._signal(signal.SIGKILL)

    def stop(self) -> None:
        self._signal(signal.SIGTERM)

    def _signal(self, number: int) -> None:
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)
            self.process.wait(timeout=30)
            self.process = None


def wait_until(
    condition: Any,
    what: str,
    *,
    process: "subprocess.Popen[bytes] | None" = None,
    log: Path | None = None,
    seconds: float = 60,
) -> None:
    """Wait for a condition, as short as possible."""
    deadline = time.monotonic() + seconds
    while not condition():
        died = process is not None and process.poll() is not None
        if died or time.monotonic() > deadline:
            tail = log.read_text()[-3000:] if log is not None and log.exists() else ""
            raise AssertionError(f"waited in vain for {what}: {tail}")
        time.sleep(0.02)


@contextmanager
def running_service(
    folder: Path, env: Mapping[str, str] | None = None, surface: str = "all"
) -> Iterator[Service]:
    service = Service(folder, env, surface)
    try:
        yield service.start()
    finally:
        service.kill()


def make_demo(service: Service, out: Path, cosigners: Sequence[str] = ()) -> dict[str, list[str]]:
    """Make the demonstration organisation in the store of a service, whose root pins the keys of `cosigners`.

    Returns the reviewers of each desk.
    """
    import json

    pinned = [option for vkey in cosigners for option in ("--cosigner", vkey)]
    done = amana("demo", "--data", service.data, "--out", out, *pinned, "--json", env=service.env)
    desks: dict[str, list[str]] = json.loads(done.stdout)["desks"]
    return desks
