"""The systemd units: read by systemd itself where it is installed, and by their promises everywhere."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from amana.cli import COMMANDS

UNITS = Path(__file__).parents[2] / "deploy" / "systemd"
NGINX = UNITS.with_name("nginx.conf")
SERVICES = sorted(UNITS.glob("*.service"))
# systemd's own scale from 0 (confined) to 10; a common service without any limits has 9.6.
MOST_EXPOSED = "2.0"


def settings(path: Path) -> dict[str, list[str]]:
    """Return every value of every setting of a unit, its drop-ins included, in the order they count."""
    prefix = path.name.split("-")[0]
    dropped = [*UNITS.glob(f"{prefix}-.service.d/*"), *UNITS.glob(f"{path.name}.d/*")]
    files = [path, *(sorted(dropped, key=lambda x: x.name) if path.suffix == ".service" else [])]
    found: dict[str, list[str]] = {}
    for file in files:
        for line in file.read_text().splitlines():
            if "=" in line and not line.startswith("#"):
                name, _, value = line.partition("=")
                found.setdefault(name, []).append(value)
    return found


@pytest.fixture
def analyze(tmp_path: Path) -> list[str]:
    binary = shutil.which("systemd-analyze")
    if binary is None:
        pytest.skip("systemd is not installed here (Debian: apt-get install systemd)")
    copy = tmp_path / "units"
    shutil.copytree(UNITS, copy)
    for unit in copy.glob("*.service"):
        # It wants the programs to be there; which arguments they take is tested below.
        text = re.sub(r"^(Exec\w+=)\S+", r"\1/bin/true", unit.read_text(), flags=re.MULTILINE)
        unit.write_text(text)
    return ["env", f"SYSTEMD_UNIT_PATH={copy}:", f"--chdir={copy}", binary]


@pytest.mark.parametrize("unit", sorted(p.name for p in UNITS.glob("amana-*.*") if p.is_file()))
def test_systemd_understands_every_line(analyze: list[str], unit: str) -> None:
    done = subprocess.run(
        [*analyze, "verify", "--man=no", f"./{unit}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    complaints = [line for line in done.stderr.splitlines() if "amana" in line]
    assert complaints == []
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("unit", [path.name for path in SERVICES])
def test_systemd_finds_little_exposed(analyze: list[str], unit: str) -> None:
    threshold = str(int(float(MOST_EXPOSED) * 10))
    done = subprocess.run(
        [*analyze, "security", "--offline=true", f"--threshold={threshold}", f"./{unit}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "SYSTEMD_COLORS": "0"},
    )
    assert done.returncode == 0, done.stdout[-300:] + done.stderr


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.name)
def test_every_service_is_confined_and_unprivileged(path: Path) -> None:
    found = settings(path)
    assert found["User"][0].startswith("amana_")
    assert f"u {found['User'][0]} " in (UNITS / "sysusers.conf").read_text()
    for name in ("NoNewPrivileges", "PrivateTmp", "PrivateDevices", "MemoryDenyWriteExecute"):
        assert found[name] == ["yes"], name
    assert found["ProtectSystem"] == ["strict"]
    assert found["UMask"] == ["0077"]
    assert found["LimitCORE"] == ["0"]
    assert "@system-service" in found["SystemCallFilter"]
    allowed = {"CAP_NET_BIND_SERVICE"} if path.name == "amana-nginx.service" else {""}
    assert {found["CapabilityBoundingSet"][-1], found["AmbientCapabilities"][-1]} == allowed


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.name)
def test_secrets_are_credentials_and_commands_exist(path: Path) -> None:
    found = settings(path)
    for value in found.get("Environment", []):
        assert not re.search(r"(PASSWORD|SECRET_KEY|ACCESS_KEY|DATABASE_URL)=", value)
    for name in re.findall(r"%d/(\S+)", " ".join(found.get("Environment", []))):
        assert f"{name}:/etc/amana/secrets/{name}" in found["LoadCredential"]
    for command in found["ExecStart"]:
        words = command.split()
        if words[0] == "/opt/amana/bin/amana":
            assert words[1] in COMMANDS


def test_settings_for_all_hold_no_secret() -> None:
    for line in (UNITS / "amana.env.example").read_text().splitlines():
        assert re.match(r"#|AMANA_[A-Z0-9_]+=[^@]*$", line), line


@pytest.mark.parametrize("surface", ["intake", "desk"])
def test_socket_service_and_nginx_mean_the_same_path(surface: str) -> None:
    made = settings(UNITS / f"amana-{surface}.socket")
    [path] = made["ListenStream"]
    [served] = settings(UNITS / f"amana-{surface}.service")["ExecStart"]
    assert served.endswith(f" serve {surface} --uds {path}")
    assert f"server unix:{path} " in NGINX.read_text()
    # nginx, by its group, and the service itself; nobody else.
    assert made["SocketMode"] == ["0660"]
    assert made["SocketGroup"] == settings(UNITS / "amana-nginx.service")["User"]
    assert made["SocketUser"] == settings(UNITS / f"amana-{surface}.service")["User"]


@pytest.mark.parametrize("timer", ["amana-maintain.timer", "amana-doctor.timer"])
def test_upkeep_happens_at_least_daily_even_after_the_machine_was_off(timer: str) -> None:
    found = settings(UNITS / timer)
    assert found["OnCalendar"][0].startswith("*-*-* ")
    assert found["Persistent"] == ["yes"]
    assert (UNITS / timer.replace(".timer", ".service")).is_file()
