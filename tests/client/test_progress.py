"""Bars are for a person at a terminal: elsewhere there is nothing, and never anything on standard output."""

import os
import pty
import subprocess
import sys

import pytest

from amana.client.progress import Silent, progress_for

PROGRAM = """
from amana.client.progress import progress_for
with progress_for(as_json={as_json}).step("Sealing 1 of 2", 100) as advance:
    advance(60)
    advance(40)
with progress_for(as_json={as_json}).step("Waiting") as advance:
    pass
"""


def test_without_a_terminal_nothing_is_shown(capfd: pytest.CaptureFixture[str]) -> None:
    assert isinstance(progress_for(as_json=False), Silent)
    with progress_for(as_json=False).step("Sealing", 100) as advance:
        advance(100)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("as_json", [False, True])
def test_a_terminal_shows_bars_on_its_error_stream_unless_json_is_asked_for(as_json: bool) -> None:
    near, far = pty.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM.format(as_json=as_json)],
            env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
            stdout=subprocess.PIPE,
            stderr=far,
            check=True,
        )
        os.close(far)
        shown = b""
        while block := _read(near):
            shown += block
    finally:
        os.close(near)
    assert done.stdout == b""
    assert (b"Sealing 1 of 2" in shown) is not as_json


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:
        # Linux ends the reading of a terminal that nobody writes to any more by EIO.
        return b""
