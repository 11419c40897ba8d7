"""The first directory, by the steps that docs/operating.md gives to officers and nothing else."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from amana.client.keyfile import PersonKeys, public_document
from tests.cli.test_officer import printed, refused
from tests.support.server import Service, amana, running_service


@dataclass
class People:
    """The files with public parts that everybody gave to the officers, and how to describe an installation of them."""

    folder: Path

    def file(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def made(self, name: str, *command: str) -> dict[str, Any]:
        """Make somebody's keys on their device; `name.json` is what they give to the officers."""
        home = self.folder / name
        return printed(*command, "--out", home, "--public", self.file(name))

    def describe(self, out: Path, *more: str | Path) -> tuple[str | Path, ...]:
        return (
            "officer", "describe", "--deployment", "amana-here",
            "--desk", "chemical=ar,en", "--desk-name", "chemical:en=Chemical attacks",
            "--lead", f"chemical={self.file('lead')}", "--reader", f"chemical={self.file('reader')}",
            "--administrator", self.file("administrator"), "--auditor", self.file("auditor"),
            "--consent", f"en={self.folder / 'consent.en.txt'}", "--out", out, *more,
        )  # fmt: skip

    @property
    def custodians(self) -> tuple[str | Path, ...]:
        return (
            "--custodian", self.file("c1"), "--custodian", self.file("c2"), "--custodians", "2",
        )  # fmt: skip


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> People:
    here = People(tmp_path_factory.mktemp("first"))
    for name in ("lead", "reader"):
        here.made(name, "reviewer", "init")
    for name in ("c1", "c2"):
        here.made(name, "custodian", "init")
    here.made("administrator", "admin", "init")
    here.made("auditor", "admin", "init", "--role", "auditor")
    key, public = here.folder / "partner.key", here.file("partner")
    printed("partner", "init", "--key", key, "--public", public)
    (here.folder / "consent.en.txt").write_text("[SYNTHETIC] I agree.\n")
    return here


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with running_service(tmp_path) as running:
        yield running


def test_the_documented_steps_lead_to_a_testimony(
    people: People, service: Service, tmp_path: Path
) -> None:
    keys = tmp_path / "online.json"
    keys.write_text(amana("directory", "keys", "--data", service.data, "--json").stdout)
    officers = [printed("officer", "init", "--out", tmp_path / str(n)) for n in range(3)]
    lead = json.loads(people.file("lead").read_text())
    takes = ("--takes", f"{lead['public']['id']}=minor,sexual_violence")
    description, proposal = tmp_path / "directory.json", tmp_path / "proposal"
    partner = ("--partner", f"{people.file('partner')}=iiim")
    said = amana(*people.describe(description, *people.custodians, *takes, *partner)).stdout
    for name in ("partner", "lead", "reader", "c1", "c2", "administrator", "auditor"):
        assert json.loads(people.file(name).read_text())["fingerprint"] in said

    named = [part for one in officers for part in ("--officer", one["public"])]
    amana(
        "officer", "propose", "--from", description, "--version", "1", "--online", keys, *named,
        "--out", proposal,
    )  # fmt: skip
    for one in officers[:2]:
        amana("officer", "sign", proposal, "--key", one["key"])
    root = service.data / "root.json"
    shutil.copy(proposal / "root.json", root)
    amana("officer", "publish", proposal, "--server", service.url)

    way = ("--server", service.url, "--root", root)
    sent = printed(
        "witness", "send", *way, "--desk", "chemical", "--language", "en", "--flag", "minor",
        "--text", people.folder / "consent.en.txt",
    )  # fmt: skip
    [key] = (people.folder / "lead").glob("*.key")
    cases = printed("reviewer", "cases", *way, "--key", key)["cases"]
    assert [one["case"] for one in cases] == [sent["case"]]


def test_what_was_altered_or_is_of_another_role_is_not_described(
    people: People, tmp_path: Path
) -> None:
    out = tmp_path / "directory.json"
    whole = people.file("c1").read_text()
    other = public_document(PersonKeys.generate("custodian"))

    def described(document: dict[str, Any], status: int = 3) -> str:
        people.file("c1").write_text(json.dumps(document))
        try:
            return refused(status, *people.describe(out, *people.custodians))
        finally:
            people.file("c1").write_text(whole)

    mine = json.loads(whole)
    stolen = {**mine["public"], "signing_key": other["public"]["signing_key"]}
    assert described({**mine, "public": stolen}) == "bad-signature"
    assert described({**mine, "public": other["public"]}) == "fingerprint-differs"
    assert described({**mine, "role": "reviewer"}, 2) == "bad-public-file"
    assert described({**mine, "public": {}}, 2) == "bad-public-file"
    assert described(public_document(PersonKeys.generate("auditor")), 2) == "bad-public-file"
    assert not out.exists()


@pytest.mark.parametrize(
    ("more", "slug"),
    [
        (("--custodians", "2"), "bad-custodians"),
        (("--takes", f"{'a' * 32}=minor"), "unknown-person"),
        (("--lead", "general=x.json"), "desk-unknown"),
        (("--reader", "chemical=/nowhere.json"), "unreadable-file"),
        (("--consent", "ar=/nowhere.txt"), "unreadable-file"),
        (("--desk", "NO DESK=ar"), "directory-invalid"),
        (("--desk-name", "nothing"), "usage"),
    ],
)
def test_what_cannot_be_described_is_said(
    people: People, tmp_path: Path, more: tuple[str, ...], slug: str
) -> None:
    out = tmp_path / "directory.json"
    assert refused(2, *people.describe(out, *more)) == slug
    assert not out.exists()


def test_a_public_part_is_written_over_nothing(people: People, tmp_path: Path) -> None:
    taken = people.file("lead")
    before = taken.read_bytes()
    init = ("reviewer", "init", "--out", tmp_path / "keys", "--public", taken)
    assert refused(2, *init) == "file-exists"
    assert taken.read_bytes() == before
    assert not (tmp_path / "keys").exists()
