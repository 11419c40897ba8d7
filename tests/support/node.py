"""Other implementations under Node: installed once for a lock file, run with bytes in and bytes out."""

import functools
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).parents[2]
INTEROP = PROJECT / "tests" / "interop"
NO_NETWORK = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ETIMEDOUT", "ENETUNREACH", "ENOTCACHED")


@functools.cache
def node_modules_dir() -> Path:
    """Return the `node_modules` of tests/interop's lock file, kept in build/; skips without Node."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        pytest.skip("Node and npm are not installed; they run the other implementations.")
    lock = (INTEROP / "package-lock.json").read_bytes()
    home = PROJECT / "build" / "interop" / hashlib.sha256(lock).hexdigest()[:16]
    if not home.is_dir():
        home.parent.mkdir(parents=True, exist_ok=True)
        _install(Path(tempfile.mkdtemp(dir=home.parent)), home, npm)
    return home / "node_modules"


def _install(making: Path, home: Path, npm: str) -> None:
    """Install in a folder of its own, so that a cut or parallel run leaves no half of one."""
    try:
        for name in ("package.json", "package-lock.json", ".npmrc"):
            shutil.copy(INTEROP / name, making)
        done = subprocess.run(
            [npm, "ci", "--ignore-scripts"], cwd=making, capture_output=True, text=True, check=False
        )
        if done.returncode:
            if any(code in done.stderr for code in NO_NETWORK):
                pytest.skip("npm reaches no package registry; it installs other implementations.")
            raise RuntimeError(f"npm ci failed: {done.stderr}")
        try:
            making.rename(home)
        except OSError:
            if not home.is_dir():
                raise
    finally:
        shutil.rmtree(making, ignore_errors=True)


def run_node(
    script: str, *arguments: str, data: bytes = b"", timeout_seconds: float = 120
) -> bytes:
    """Run tests/interop/`script` with `data` on its standard input and return its output.

    A module finds its packages beside itself, so the script is copied to where they are.
    """
    home = node_modules_dir().parent
    source = (INTEROP / script).read_bytes()
    copy = home / f"{Path(script).stem}-{hashlib.sha256(source).hexdigest()[:16]}.mjs"
    if not copy.exists():
        making = copy.with_suffix(f".{os.getpid()}")
        making.write_bytes(source)
        making.replace(copy)
    done = subprocess.run(
        ["node", copy, *arguments],
        input=data,
        capture_output=True,
        timeout=timeout_seconds,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{script}: {done.stderr.decode(errors='replace')}")
    return done.stdout


def ask_node(script: str, question: Any) -> Any:
    """Run a script that reads one JSON value and writes one."""
    return json.loads(run_node(script, data=json.dumps(question).encode()))
