"""A partner's keys, made and used on their own machine, without a server."""

import json
from pathlib import Path

import pytest

from amana.client.keyfile import PersonKeys, read_key, write_key
from amana.protocol.directory import fingerprint
from tests.cli.test_officer import printed, refused
from tests.support.node import ask_node
from tests.support.server import PASSPHRASE, amana


def test_a_partner_makes_keys_without_a_server(tmp_path: Path) -> None:
    key, public = tmp_path / "own" / "partner.key", tmp_path / "partner.json"
    made = printed("partner", "init", "--key", key, "--public", public)
    keys = read_key(key, PASSPHRASE)
    assert (made["key"], made["role"], made["public"]["id"]) == (str(key), "partner", keys.id)
    assert made["public"]["intake_key"] == str(keys.intake_recipient)
    assert made["fingerprint"] == fingerprint(made["public"])
    given = json.loads(public.read_text())
    assert given == {name: made[name] for name in ("role", "fingerprint", "public")}
    assert {one.stat().st_mode & 0o777 for one in (key, public)} == {0o600}
    shown = amana("partner", "fingerprint", "--key", key)
    assert shown.stdout == made["fingerprint"] + "\n"

    before = key.read_bytes()
    assert refused(2, "partner", "init", "--key", key) == "file-exists"
    other = ("partner", "init", "--key", tmp_path / "other.key", "--public", public)
    assert refused(2, *other) == "file-exists"
    assert key.read_bytes() == before
    assert not (tmp_path / "other.key").exists()


def test_the_public_tool_gets_the_key_that_bundles_are_sealed_to(tmp_path: Path) -> None:
    key = tmp_path / "partner.key"
    made = printed("partner", "init", "--key", key)
    told = amana("partner", "age-identity", "--key", key)
    assert told.stdout.startswith("AGE-SECRET-KEY-PQ-1")
    assert told.stdout.count("\n") == 1
    assert told.stderr.startswith("Warning: ")
    assert "SECRET" not in told.stderr
    task = {"task": "recipient", "identity": told.stdout.strip()}
    assert ask_node("age.mjs", [task]) == [{"recipient": made["public"]["intake_key"]}]

    wrong = amana(
        "partner", "age-identity", "--key", key, env={"AMANA_PASSPHRASE": "other"}, check=2
    )
    assert (wrong.stdout, "wrong-passphrase: " in wrong.stderr) == ("", True)


@pytest.mark.parametrize("role", ["reviewer", "custodian", "officer"])
def test_nobody_else_takes_a_key_out_of_its_file(tmp_path: Path, role: str) -> None:
    path = write_key(PersonKeys.generate(role), tmp_path, PASSPHRASE, work_factor=2)
    done = amana("partner", "age-identity", "--key", path, check=2)
    assert done.stdout == ""
    assert "not-a-partner: " in done.stderr
