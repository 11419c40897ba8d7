"""Three officers on three machines bring the first directory to a new service, by the commands alone."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from amana.cli import main
from amana.client.officer import Proposal
from amana.protocol.encoding import sha256_hex
from tests.support.ceremony import desk
from tests.support.server import PASSPHRASE, Service, amana, running_service

TEXT = "I agree"


def printed(*arguments: str | Path) -> dict[str, Any]:
    """Run a command with --json; return the one object on its standard output."""
    document: dict[str, Any] = json.loads(amana(*arguments, "--json").stdout)
    return document


def refused(status: int, *arguments: str | Path) -> str:
    """Run a command that must end with `status`; return the slug it names."""
    done = amana(*arguments, "--json", check=status)
    assert done.stdout == ""
    return done.stderr.partition(":")[0].split("\n")[-1]


@dataclass
class Hands:
    """What is carried by hand: public keys to the one who proposes, a folder from officer to officer."""

    folder: Path
    service: Service
    officers: list[dict[str, Any]] = field(default_factory=list)
    reviewers: list[dict[str, Any]] = field(default_factory=list)

    def describe(self, **changes: Any) -> Path:
        readers = [
            {**one["public"], "roles": ["reviewer"], "takes": ["minor"]} for one in self.reviewers
        ]
        description = {
            "deployment": "amana-here",
            "desks": [desk("chemical", readers)],
            "custodians": {"k": 0, "members": []},
            "partners": [],
            "consent_texts": [
                {"id": "c1.en", "language": "en", "text": TEXT, "sha256": sha256_hex(TEXT.encode())}
            ],
            "drop_bits": 0,
            "people": [],
        }
        path = self.folder / "description.json"
        path.write_text(json.dumps(description | changes))
        return path

    def propose(self, out: Path, version: int = 1, **changes: Any) -> dict[str, Any]:
        first: list[str | Path] = []
        if version == 1:
            first = ["--online", self.folder / "online.json"]
            for one in self.officers:
                first += ["--officer", one["public"]]
        return printed(
            "officer", "propose", "--from", self.describe(**changes), "--version", str(version),
            "--out", out, *first,
        )  # fmt: skip

    def sign(self, proposal: Path, officer: int) -> dict[str, Any]:
        return printed("officer", "sign", proposal, "--key", self.officers[officer]["key"])


@pytest.fixture(scope="module")
def hands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hands]:
    folder = tmp_path_factory.mktemp("ceremony")
    with running_service(folder) as service:
        carried = Hands(folder, service)
        carried.officers = [
            printed("officer", "init", "--out", folder / f"officer-{number}") for number in range(3)
        ]
        carried.reviewers = [printed("reviewer", "init", "--out", folder / "reviewer")]
        online = printed("directory", "keys", "--data", service.data)
        (folder / "online.json").write_text(json.dumps(online))
        yield carried


def test_the_first_directory_is_proposed_signed_and_published(hands: Hands) -> None:
    proposal = hands.folder / "first"
    said = "\n".join(hands.propose(proposal)["summary"])
    assert hands.reviewers[0]["fingerprint"] in said
    assert "root: 2 of 3 officers" in said

    publish = ("officer", "publish", proposal, "--server", hands.service.url)
    hands.sign(proposal, 0)
    again = hands.sign(proposal, 0)
    assert (again["signed"], again["signatures"]) == (["directory", "root"], 1)

    # Without the root that the operator trusts, signatures count for nothing.
    assert refused(4, *publish) == "root-missing"
    shutil.copy(proposal / "root.json", hands.service.data / "root.json")
    assert refused(1, *publish) == "directory-threshold"

    # The third officer works on another machine.
    carried = hands.folder / "carried"
    shutil.copytree(proposal, carried)
    assert hands.sign(carried, 2)["signatures"] == 2
    shutil.copy(carried / "root.json", hands.service.data / "root.json")
    assert printed(*publish[:2], carried, *publish[3:]) == {"version": 1, "warnings": []}

    sent = printed(
        "witness", "send", "--server", hands.service.url, "--root", carried / "root.json",
        "--desk", "chemical", "--language", "en", "--text", hands.describe(),
    )  # fmt: skip
    listed = printed(
        "reviewer", "cases", "--server", hands.service.url, "--root", carried / "root.json",
        "--key", hands.reviewers[0]["key"],
    )  # fmt: skip
    assert [one["case"] for one in listed["cases"]] == [sent["case"]]

    second = hands.folder / "second"
    hands.propose(second, 2)
    hands.sign(second, 1)
    hands.sign(second, 2)
    assert printed(*publish[:2], second, *publish[3:]) == {"version": 2, "warnings": []}
    assert refused(1, "officer", "publish", carried, "--server", hands.service.url) == (
        "directory-rollback"
    )


def test_what_is_signed_is_shown_before_it_is_signed(hands: Hands) -> None:
    proposal = hands.folder / "shown"
    hands.propose(proposal)
    done = amana("officer", "sign", proposal, "--key", hands.officers[0]["key"])
    assert done.stdout.startswith("This is the first version: all of it is new.\n")
    assert "directory of amana-here, version 1" in done.stdout
    assert hands.reviewers[0]["fingerprint"] in done.stdout
    assert "1 signature" in done.stdout


@pytest.mark.parametrize(("typed", "status", "signatures"), [("n\n", 2, 0), ("y\n", 0, 1)])
def test_whoever_sits_at_a_terminal_is_asked_after_reading(
    hands: Hands, monkeypatch: pytest.MonkeyPatch, typed: str, status: int, signatures: int
) -> None:
    proposal = hands.folder / f"asked-{status}"
    hands.propose(proposal)
    monkeypatch.setenv("AMANA_PASSPHRASE", PASSPHRASE)
    terminal = SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("amana.cli.officer.sys", terminal)
    sign = ["officer", "sign", str(proposal), "--key", hands.officers[0]["key"]]
    done = CliRunner().invoke(main, sign, input=typed)
    assert done.exit_code == status
    assert "directory of amana-here, version 1" in done.stdout
    assert len(Proposal.load(proposal).targets.signatures) == signatures


def test_a_key_file_opens_with_its_passphrase_only(hands: Hands) -> None:
    proposal = hands.folder / "locked"
    hands.propose(proposal)
    key = hands.officers[0]["key"]
    done = amana(
        "officer", "sign", proposal, "--key", key, env={"AMANA_PASSPHRASE": "wrong"}, check=2
    )
    assert "wrong-passphrase" in done.stderr


def test_only_officers_sign(hands: Hands) -> None:
    proposal = hands.folder / "others"
    hands.propose(proposal)
    refused(2, "officer", "sign", proposal, "--key", hands.reviewers[0]["key"])
    stranger = printed("officer", "init", "--out", hands.folder / "stranger")
    sign = ("officer", "sign", proposal, "--key", stranger["key"])
    assert refused(2, *sign) == "not-an-officer"


def test_a_proposal_is_not_written_over_another(hands: Hands) -> None:
    proposal = hands.folder / "taken"
    hands.propose(proposal)
    again = ("officer", "propose", "--from", hands.describe(), "--version", "2", "--out", proposal)
    assert refused(2, *again) == "folder-taken"


def test_a_proposal_that_contradicts_itself_is_not_made(hands: Hands) -> None:
    out = hands.folder / "never"
    chemical = {**desk("chemical", []), "leads": [hands.officers[0]["id"]]}
    described = hands.describe(desks=[chemical])
    propose = ("officer", "propose", "--from", described, "--version", "2", "--out", out)
    assert refused(2, *propose) == "directory-invalid"
    assert not out.exists()


def test_a_place_that_is_no_folder_is_said(hands: Hands) -> None:
    file = hands.folder / "a-file"
    file.write_text("a file")
    for out in (file, file / "below"):
        propose = ("officer", "propose", "--from", hands.describe(), "--version", "2", "--out", out)
        assert refused(2, *propose) == "folder-unusable"
        assert refused(2, "officer", "init", "--out", out) == "key-not-written"
        sign = ("officer", "sign", out, "--key", hands.officers[0]["key"])
        assert refused(2, *sign) == "unreadable-file"
        assert refused(2, "officer", "audit", "--from", out, "--to", out) == "unreadable-file"
    assert file.read_text() == "a file"
    long = "9" * 5000
    assert refused(2, "officer", "audit", "--from", long, "--to", long) == "unreadable-file"


@pytest.mark.parametrize(
    "content",
    ["[" * 50_000, "[" * 900 + "]" * 900, "{", '{"a":1,"a":2}'],
    ids=["endless", "deep", "cut", "doubled"],
)
def test_what_is_no_json_or_nests_deep_is_refused_by_every_command(
    hands: Hands, content: str
) -> None:
    bad, proposal = hands.folder / "bad.json", hands.folder / f"whole-{len(content)}"
    bad.write_text(content)
    described, officer = hands.describe(), hands.officers[0]["public"]
    first = ("officer", "propose", "--version", "1", "--out", hands.folder / "never")
    online = ("--online", hands.folder / "online.json", "--officer", officer)
    assert refused(2, "officer", "pending", bad) == "unreadable-file"
    assert refused(2, *first, "--from", bad) == "unreadable-file"
    assert refused(2, *first, "--from", bad, *online) == "unreadable-file"
    assert refused(2, *first, "--from", described, *online[2:], "--online", bad) == (
        "unreadable-file"
    )
    waiting = ("--pending", bad, "--accept", "a" * 32)
    assert refused(2, *first, "--from", described, *waiting) == "unreadable-file"
    hands.propose(proposal)
    assert refused(2, "officer", "expect", proposal, "--out", bad) == "unreadable-file"
    for part in ("targets.json", "root.json", "current-root.json", "targets/directory.json"):
        damaged = hands.folder / "damaged"
        shutil.copytree(proposal, damaged)
        (damaged / part).write_text(content)
        refused(3, "officer", "sign", damaged, "--key", hands.officers[0]["key"])
        shutil.rmtree(damaged)


KEYS_IN_NO_FORM = '{"online":"AAAA","directory_log":{"origin":"a","key":"b"},"custody_log":{"origin":"c","key":"d"}}'


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"online":1}', '{"online":"AAAA"}', KEYS_IN_NO_FORM]
)
def test_keys_of_a_server_in_another_form_are_refused(hands: Hands, content: str) -> None:
    online = hands.folder / "bad.json"
    online.write_text(content)
    officer = hands.officers[0]["public"]
    refused(
        2, "officer", "propose", "--from", hands.describe(), "--version", "1", "--out",
        hands.folder / "bad", "--online", online, "--officer", officer,
        "--root-threshold", "1", "--targets-threshold", "1",
    )  # fmt: skip


def test_the_servers_keys_are_the_same_each_time(hands: Hands) -> None:
    first = json.loads((hands.folder / "online.json").read_text())
    assert printed("directory", "keys", "--data", hands.service.data) == first
    assert set(first) == {"online", "directory_log", "custody_log"}
