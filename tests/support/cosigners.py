"""Real cosigner processes on loopback ports: started, killed, started again on the same state."""

import http.client
import json
import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tests.support.server import AMANA, amana, free_port, wait_until


class RunningCosigner:
    """One `amana cosigner serve`; its operator is the first part of its name."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.folder = folder / name.replace("/", "-")
        self.port = free_port()
        self.log = self.folder / "log"
        self.process: subprocess.Popen[bytes] | None = None
        done = amana("cosigner", "init", "--name", name, *self._files(), "--json")
        self.vkey: str = json.loads(done.stdout)["vkey"]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def operator(self) -> str:
        return self.name.partition("/")[0]

    def _files(self) -> list[str]:
        return ["--key", str(self.folder / "key"), "--state", str(self.state)]

    def command(self, *logs: str) -> list[str]:
        listen = ["--listen", f"127.0.0.1:{self.port}"]
        return [*AMANA, "cosigner", "serve", *listen, *self._files(), *logs]

    def start(self, logs: Sequence[str]) -> "RunningCosigner":
        """Serve; `logs` are the options that say what is watched."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(*logs), stdout=log, stderr=log, start_new_session=True
            )
        wait_until(self.is_live, "the cosigner to answer", process=self.process, log=self.log)
        return self

    def is_live(self) -> bool:
        with suppress(OSError, http.client.HTTPException):
            return self.ask("GET", "/")[0] == 200
        return False

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, str, bytes]:
        """Return status, type and body of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            return answer.status, answer.getheader("Content-Type", ""), answer.read()
        finally:
            connection.close()

    def kill(self, number: int = signal.SIGKILL) -> int:
        """End the process; returns how it ended."""
        assert self.process is not None
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)
        ended = self.process.wait(timeout=30)
        self.process = None
        return ended

    def close(self) -> None:
        if self.process is not None:
            self.kill()
