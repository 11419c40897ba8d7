"""deploy/torrc as tor itself reads it."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

TORRC = Path(__file__).parents[2] / "deploy" / "torrc"
NGINX = TORRC.with_name("nginx.conf")


def test_tor_takes_the_file(tmp_path: Path) -> None:
    binary = shutil.which("tor")
    if binary is None:
        pytest.skip("tor is not installed here (Debian: apt-get install tor)")
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    text = TORRC.read_text()
    assert "/var/lib/tor/amana" in text
    moved = tmp_path / "torrc"
    moved.write_text(text.replace("/var/lib/tor/amana", str(state)))
    none = tmp_path / "defaults"
    none.touch()
    done = subprocess.run(
        [binary, "--verify-config", "--defaults-torrc", str(none), "-f", str(moved)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout
    warnings = [line for line in done.stdout.splitlines() if "[warn]" in line]
    assert [line for line in warnings if "as root" not in line] == []


def settings() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in TORRC.read_text().splitlines():
        if line and not line.startswith("#"):
            name, _, value = line.partition(" ")
            found.setdefault(name, []).append(value)
    return found


def test_each_onion_service_ends_at_a_socket_of_nginx() -> None:
    targets = [value.partition("unix:")[2] for value in settings()["HiddenServicePort"]]
    listened = re.findall(r"listen unix:([^;]+);", NGINX.read_text())
    assert targets == listened


def test_the_way_in_is_defended_and_nothing_is_logged() -> None:
    found = settings()
    assert found["HiddenServicePoWDefensesEnabled"] == ["1"]
    assert found["SocksPort"] == ["0"]
    assert found["Log"] == ["err stderr"]
    assert found["SafeLogging"] == ["1"]
    assert "HiddenServiceNonAnonymousMode" not in found
    assert "HiddenServiceExportCircuitID" not in found
