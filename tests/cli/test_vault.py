"""The commands of custodians and of readers who ask them, as a person types them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from amana.client.keyfile import read_key
from amana.protocol.case import intake_key_id
from amana.protocol.identity import identity_document
from tests.support.server import PASSPHRASE, Service, amana
from tests.support.testimonies import Made
from tests.support.uploads import Client
from tests.support.vaults import CLEANED, ORIGINAL, SCOPES, WHO

REASON = "A court asks.\nسطر ثان \x1b[2J with escapes [red]"


@dataclass
class House:
    """A case with a vault, and the environment of whoever asks about it."""

    service: Service
    made: Made
    root: Path
    cache: Path

    def env(self, key: Path) -> dict[str, str]:
        return {
            "AMANA_SERVER": self.service.url,
            "AMANA_ROOT": str(self.root),
            "AMANA_KEY": str(key),
            "AMANA_DIRECTORY_CACHE": str(self.cache),
        }

    @property
    def reader(self) -> dict[str, str]:
        reader = json.loads(self.made.submission.labels)[0]["reader"]
        return self.env(self.service.folder / "demo" / "reviewers" / f"{reader}.key")

    @property
    def custodians(self) -> list[dict[str, str]]:
        keys = sorted((self.service.folder / "demo" / "custodians").glob("*.key"))
        return [self.env(key) for key in keys]

    def ask(self, *more: str) -> str:
        done = amana(
            "reviewer", "request-identity", self.made.case, "--reason", REASON, "--purpose", "icc",
            "--days", "2", *more, "--json", env=self.reader,
        )  # fmt: skip
        request: str = json.loads(done.stdout)["request"]
        return request


@pytest.fixture(scope="module")
def client(service: Service, root: Path) -> Iterator[Client]:
    client = Client(service.url, root, service.data / "objects")
    yield client
    client.http.close()


@pytest.fixture
def house(client: Client, service: Service, root: Path, tmp_path: Path) -> House:
    custodians = client.directory.custodians
    made = client.testimony(
        custodians=custodians.members,
        k=custodians.k,
        identity=identity_document(WHO),
        files=(CLEANED,),
        originals=(ORIGINAL,),
        scopes=SCOPES,
        identity_level="prosecutors",
    )
    locations, completion = client.announce(made)
    for location, data in zip(locations, made.sealed, strict=True):
        assert client.patch(location, 0, data).status_code == 204
    assert client.complete(completion).status_code == 200
    house = House(service, made, root, tmp_path / "cache")
    amana("reviewer", "claim", made.case, env=house.reader)
    return house


def test_keys_of_a_custodian_are_made_on_this_device(tmp_path: Path) -> None:
    shown = json.loads(amana("custodian", "init", "--out", tmp_path, "--json").stdout)
    keys = read_key(Path(shown["key"]), PASSPHRASE)
    assert keys.role == "custodian"
    assert shown["public"]["intake_key"] == str(keys.intake_recipient)
    again = amana("custodian", "fingerprint", "--key", shown["key"]).stdout.strip()
    assert again == shown["fingerprint"]


def test_what_a_person_reads_steers_no_terminal(house: House) -> None:
    request = house.ask()
    first, second, third = house.custodians
    told = amana("custodian", "pending", env=first).stdout
    assert request in told
    assert "for the purpose icc" in told
    assert "  | A court asks." in told
    assert "سطر ثان" in told
    assert "\x1b" not in told
    shared = amana("custodian", "share", request, "--yes", env=first).stdout
    assert "Others are needed." in shared
    amana("custodian", "decline", request, "--reason", "No \x1b[2J.", env=second)
    stands = amana("reviewer", "identity", house.made.case, env=house.reader).stdout
    assert "1 of 2 shared" in stands
    assert "declined" in stands
    assert "\x1b" not in stands
    last = amana("custodian", "share", request, "--yes", env=third).stdout
    assert "it is released" in last
    out = house.cache.parent / "who"
    opened = amana("reviewer", "identity", house.made.case, "--out", out, env=house.reader).stdout
    assert "What you have seen stays seen" in opened
    assert "سناء" not in opened
    listed = amana("reviewer", "identity", house.made.case, env=house.reader).stdout
    assert ": released" in listed
    taken = amana(
        "reviewer", "identity", house.made.case, "--out", out, env=house.reader, check=2
    ).stderr
    assert taken.startswith("folder-taken: ")


def test_how_it_stands_before_anybody_answered(house: House) -> None:
    ask = ("reviewer", "identity", house.made.case)
    assert amana(*ask, env=house.reader).stdout == "Nobody was asked.\n"
    out = house.cache.parent / "who"
    refused = amana(*ask, "--out", out, env=house.reader, check=1).stderr
    assert refused.startswith("not-released: ")
    house.ask("--originals")
    assert amana(*ask, env=house.reader).stdout == "Nobody was asked.\n"
    assert "originals for icc" in amana(*ask, "--originals", env=house.reader).stdout
    refused = amana(*ask, "--originals", "--out", out, env=house.reader, check=1).stderr
    assert "0 of 2" in refused
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "slug"),
    [
        (["--purpose", "curiosity"], "purpose-unknown"),
        (["--reason", "  "], "reason-invalid"),
        (["--reason", "x" * 1001], "reason-invalid"),
        (["--days", "0"], "Usage:"),
        (["--days", "31"], "Usage:"),
    ],
)
def test_wrong_usage_asks_nobody(house: House, arguments: list[str], slug: str) -> None:
    done = amana(
        "reviewer", "request-identity", house.made.case, "--reason", "x", "--purpose", "icc",
        "--days", "2", *arguments, env=house.reader, check=2,
    )  # fmt: skip
    assert done.stderr.startswith(slug)


def test_a_custodian_is_asked_before_anything_is_shared(house: House) -> None:
    request = house.ask()
    first = house.custodians[0]
    refused = amana("custodian", "share", request, env=first, check=2)
    assert refused.stderr.startswith("not-confirmed: ")
    assert amana("custodian", "share", "../x", "--yes", env=first, check=2).stderr.startswith(
        "bad-id: "
    )
    pending = json.loads(amana("custodian", "pending", "--json", env=first).stdout)
    assert request in {one["request"] for one in pending["requests"]}
    assert pending["not_verified"] == []
    done = json.loads(amana("custodian", "re-share", "--json", env=first).stdout)
    assert done == {"complete": [], "waiting": [], "lost": [], "kept": [], "destroyed": []}


def test_a_former_key_stays_while_anything_is_sealed_to_it(house: House, tmp_path: Path) -> None:
    own = tmp_path / "own.key"
    third = house.custodians[2]
    own.write_bytes(Path(third["AMANA_KEY"]).read_bytes())
    env = {**third, "AMANA_KEY": str(own)}
    old = intake_key_id(read_key(own, PASSPHRASE).intake_recipient)
    amana("custodian", "replace-key", "--json", env=env)
    done = json.loads(amana("custodian", "re-share", "--destroy-old", "--json", env=env).stdout)
    [kept] = done["kept"]
    # The officers do not list the new key yet, so that the one before is not even former.
    assert (kept["intake_key"], kept["kept_until"]) == (old, "None")
    assert kept["shares"] >= 4
    assert done["destroyed"] == []
    assert [one.name for one in read_key(own, PASSPHRASE).former] == [old]
