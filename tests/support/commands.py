"""Commands of `amana`, each in a process of its own, forked from one that has loaded everything: loading takes a second.

What a start itself does (what a command loads, how it ends when it is interrupted) is tested with
`python -m amana.cli`, and so are all servers.
"""

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from subprocess import CompletedProcess, TimeoutExpired

import time_machine

from amana.cli import COMMANDS, main

SECONDS = 300

_forking = multiprocessing.get_context("forkserver")
_forking.set_forkserver_preload(
    [__name__, "amana.app", *sorted({place.partition(":")[0] for place in COMMANDS.values()})]
)


def run(
    arguments: Sequence[str], env: Mapping[str, str], *, days: int = 0
) -> "CompletedProcess[str]":
    """Run a command to its end, with this environment alone and a clock so many days ahead."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        # So that a command that cannot even begin is told from one that says nothing by its status alone.
        out.touch()
        err.touch()
        process = _forking.Process(
            target=_command, args=(list(arguments), dict(env), days, Path.cwd(), out, err)
        )
        process.start()
        process.join(SECONDS)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise TimeoutExpired(list(arguments), SECONDS, out.read_bytes(), err.read_bytes())
        return CompletedProcess(arguments, process.exitcode, out.read_text(), err.read_text())


def later(days: int, arguments: Sequence[str]) -> None:
    """Run a command in this process on another day; the clock goes on from there."""
    sys.argv = ["amana", *arguments]
    with time_machine.travel(datetime.now(UTC) + timedelta(days=days), tick=True):
        main()


def _command(
    arguments: Sequence[str],
    env: Mapping[str, str],
    days: int,
    folder: Path,
    out: Path,
    err: Path,
) -> None:
    for path, stream in ((out, 1), (err, 2)):
        with path.open("wb") as file:
            os.dup2(file.fileno(), stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    if days:
        later(days, arguments)
    else:
        sys.argv = ["amana", *arguments]
        main()
