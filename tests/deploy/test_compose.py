"""What deploy/compose.yaml and the Containerfiles promise; no container engine is needed to read them."""

import re
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Any

import pytest
import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


@pytest.fixture(params=sorted(SERVICES))
def service(request: pytest.FixtureRequest) -> dict[str, Any]:
    found: dict[str, Any] = SERVICES[request.param]
    return found


def test_every_container_is_read_only_without_root_and_without_capabilities(
    service: dict[str, Any],
) -> None:
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert re.fullmatch(r"[1-9][0-9]*:[1-9][0-9]*", service["user"])
    assert "cap_add" not in service
    assert "privileged" not in service
    assert service["ulimits"]["core"] == 0


def test_only_nginx_has_an_address() -> None:
    assert {name for name, one in SERVICES.items() if "ports" in one} == {"nginx"}
    assert SERVICES["nginx"]["networks"] == ["public"]


def test_the_database_and_the_objects_cannot_reach_the_world() -> None:
    internal = {name for name, one in COMPOSE["networks"].items() if one.get("internal")}
    for name in ("postgres", "objects", "intake", "desk", "migrate", "grants"):
        assert set(SERVICES[name]["networks"]) <= internal, name


def test_intake_and_desk_are_apart() -> None:
    intake, desk = SERVICES["intake"], SERVICES["desk"]
    assert not set(intake["networks"]) & set(desk["networks"])
    shared = set(intake["volumes"]) & set(desk["volumes"])
    assert all(volume.endswith(":ro") for volume in shared)
    assert "intake-database-url" in intake["secrets"]
    assert "intake-database-url" not in desk["secrets"]
    assert "desk-database-url" in desk["secrets"]
    assert "desk-database-url" not in intake["secrets"]


def test_only_the_migration_is_the_owner_of_the_tables() -> None:
    owners = {
        name for name, one in SERVICES.items() if "owner-database-url" in one.get("secrets", [])
    }
    assert owners == {"migrate"}


def test_secrets_are_files_and_never_settings(service: dict[str, Any]) -> None:
    for name in service.get("secrets", []):
        assert COMPOSE["secrets"][name]["file"].startswith("./secrets/")
    for name, value in service.get("environment", {}).items():
        if re.search("PASSWORD|SECRET|KEY|DATABASE_URL", name):
            assert name.endswith("_FILE"), name
            assert str(value).removeprefix("/run/secrets/") in service["secrets"]


def test_every_secret_that_is_mounted_is_made() -> None:
    script = (DEPLOY / "make-secrets").read_text()
    for name in ("owner", "intake", "desk", "maintain"):
        script += f"{name}-password {name}-database-url"
    for secret in COMPOSE["secrets"].values():
        assert Path(secret["file"]).name in script


def test_files_that_are_mounted_are_there(service: dict[str, Any]) -> None:
    for volume in service.get("volumes", []):
        source = volume.split(":")[0]
        if source.startswith("./") and source not in ("./trust",):
            assert (DEPLOY / source).exists(), source
        elif not source.startswith("./"):
            assert source in COMPOSE["volumes"], source


def test_images_are_pinned_by_version_and_can_be_pinned_by_digest() -> None:
    images = [one["image"] for one in SERVICES.values() if "build" not in one]
    for one in SERVICES.values():
        images += one.get("build", {}).get("args", {}).values()
    example = (DEPLOY / ".env.example").read_text()
    for image in images:
        found = re.fullmatch(r"\$\{([A-Z]+_IMAGE):-([^}:]+:[^}]+)\}", image)
        assert found, image
        assert not found[2].endswith(":latest")
        assert f"{found[1]}={found[2]}@sha256:" in example
    for line in (DEPLOY / "Containerfile").read_text().splitlines():
        assert not line.startswith("FROM") or "${PYTHON_IMAGE}" in line


def test_logs_are_small() -> None:
    for one in SERVICES.values():
        assert one["logging"]["options"]["max-size"] == "1m"


def test_the_image_takes_only_what_the_lock_has_a_hash_for() -> None:
    text = (DEPLOY / "Containerfile").read_text()
    installs = [
        line
        for line in text.replace("\\\n", " ").splitlines()
        if re.search(r"pip\b.* install", line)
    ]
    assert installs
    for line in installs:
        for command in re.findall(r"pip[^&|]* install[^&|]*", line):
            assert "--require-hashes" in command or "--no-index" in command, command
    assert "PIP_ONLY_BINARY=:all:" in text
    assert not re.search(r"apt-get|gcc|build-essential", text)


def test_what_builds_the_wheel_is_complete() -> None:
    """A part of hatchling that the Containerfile does not name would make the image fail to build."""
    text = (DEPLOY / "Containerfile").read_text()
    found = re.search(r"/\^\(([^)]+)\)==/", text)
    assert found
    named = {name.replace(".", "-") for name in found[1].split("|")}
    needed, seen = ["hatchling"], set()
    while needed:
        name = needed.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            required = requires(name) or []
        except PackageNotFoundError:
            pytest.fail(f"{name} is not in requirements/dev.txt")
        for one in required:
            if "extra ==" not in one and "python_version <" not in one:
                needed.append(re.split(r"[^A-Za-z0-9_.-]", one)[0].lower())
    assert seen == named


def test_only_who_asks_cosigners_can_be_given_a_way_out() -> None:
    added: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.cosigners.yaml").read_text())
    assert set(added["services"]) == {"intake", "maintain"}
    for name, one in added["services"].items():
        assert set(one) == {"environment", "networks"}
        assert set(one["environment"]) == {"AMANA_COSIGNERS", "AMANA_COSIGNER_PROXY"}
        assert set(one["networks"]) == {*SERVICES[name]["networks"], "cosigners"}
    assert added["networks"] == {"cosigners": {}}


def test_only_who_asks_authorities_of_time_stamps_can_be_given_a_way_out() -> None:
    added: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.authorities.yaml").read_text())
    assert set(added["services"]) == {"intake", "maintain", "doctor"}
    for name, one in added["services"].items():
        assert all(variable.startswith("AMANA_TIMESTAMP_") for variable in one["environment"])
        assert one["volumes"] == ["./authorities:/authorities:ro"]
        assert one.get("networks", []) == (
            [] if name == "doctor" else [*SERVICES[name]["networks"], "authorities"]
        )
    assert added["networks"] == {"authorities": {}}
