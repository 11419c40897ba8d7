"""Somebody outside says until when a testimony existed: serve, an OpenSSL authority, maintain, export, verify, openssl."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from amana.client.transport import Transport
from tests.journeys.test_export import Office, verified
from tests.support.authority import Authority, AuthorityServer, serving
from tests.support.server import Service, amana, running_service, wait_until

Outside = tuple[Authority, AuthorityServer]


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Outside]:
    authority = Authority(tmp_path / "authority")
    with serving(authority.reply) as server:
        yield authority, server


@pytest.fixture
def office(tmp_path: Path, outside: Outside) -> Iterator[Office]:
    authority, server = outside
    certificates = tmp_path / "certificates"
    certificates.mkdir()
    (certificates / "clock.pem").write_bytes((authority.folder / "root.pem").read_bytes())
    settings = {
        "AMANA_TIMESTAMP_AUTHORITIES": f"clock={server.url}",
        "AMANA_TIMESTAMP_CERTIFICATES": str(certificates),
    }
    with running_service(tmp_path, settings) as service:
        yield Office(service, tmp_path)


def fetched(service: Service, path: str) -> bytes:
    with Transport(service.url) as transport:
        return transport.get(f"/log/{path}") or b""


def test_a_stranger_learns_until_when_a_testimony_existed(
    office: Office, outside: Outside, tmp_path: Path
) -> None:
    authority, server = outside
    service = office.service
    # The service asks by itself, beside its work.
    wait_until(lambda: fetched(service, "directory/stamps/0") != b"", "the first stamp")
    case = office.accepted()["case"]
    # An authority that is down holds nothing up, and an operator who asks is told nothing that stops the rest.
    server.status = 503
    amana("maintain", "--stamp", "--data", service.data, env=service.env)
    office.approved(case)
    server.status = 200
    amana("maintain", "--stamp", "--data", service.data, env=service.env)
    assert fetched(service, "custody/stamps/0").endswith(b" clock\n")
    sealed, folder = tmp_path / "bundle.age", tmp_path / "received"
    office.export(case, "--out", sealed)
    key = ("--root", office.root, "--identity", office.partner)
    root = authority.folder / "root.pem"
    document = verified(sealed, *key, "--authority", root)
    assert document["verified"] is True
    [said] = [one for one in document["checks"] if one["name"] == "stamps"]
    assert said["detail"].startswith("the testimony existed at the latest on 20")
    assert f"says {authority.name}" in said["detail"]
    # Whom the verifier does not know does not count, and is no fault.
    for more in ((), ("--authority", Authority(tmp_path / "other").folder / "root.pem")):
        document = verified(sealed, *key, *more)
        assert document["verified"] is True
        [said] = document["not_checked"]
        assert said["name"] == "stamps"
        assert said["detail"].startswith("no independent time stamp of an authority that you trust")
        assert authority.name in said["detail"]
    shown = amana("verify", "bundle", sealed, *key).stdout
    # Neither proven nor a fault, as whoever reads the table sees at once.
    assert any(line.startswith("- ") and "When it" in line for line in shown.splitlines()), shown
    assert "NOT" not in shown
    refused = amana("verify", "bundle", sealed, *key, "--authority", office.root, check=2)
    assert refused.stderr.startswith("timestamp-certificates:")
    # With openssl alone, after the partner has opened it.
    amana(
        "partner", "receive", sealed, "--out", folder, "--receipt", tmp_path / "receipt.json",
        "--root", office.root, "--key", office.partner,
    )  # fmt: skip
    stamps = sorted((folder / "data" / "stamps").iterdir())
    for place in stamps:
        done = subprocess.run(
            ["openssl", "ts", "-verify", "-data", "checkpoint", "-in", "clock.tsr",
             "-untrusted", "clock.pem", "-CAfile", root],
            cwd=place, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert done.stdout.strip() == "Verification: OK"
    assert (stamps[0] / "00001.proof").exists()
    # Nothing in the log of the service says whom it asks, or where.
    log = service.log.read_text("utf-8")
    assert str(server.port) not in log
    assert authority.name not in log
