"""The life of a directory by the commands alone: people come and go, officers too, and everybody can read what changed."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from amana.client.keyfile import PersonKeys, intake_key_fields, read_key
from amana.ops.demo import DEPLOYMENT
from amana.protocol.directory import fingerprint
from amana.protocol.encoding import random_id
from amana.protocol.enrolment import make_enrolment
from amana.protocol.sealing import Identity
from tests.cli.test_officer import printed, refused
from tests.support.ceremony import replacement_entry
from tests.support.server import PASSPHRASE, Service, amana, make_demo, running_service


@dataclass
class House:
    """A demonstration organisation whose first root everybody got; `officers` are the key files in office."""

    folder: Path
    service: Service
    officers: list[Path]
    count: int = 0

    @property
    def root(self) -> Path:
        return self.folder / "first-root.json"

    @property
    def source(self) -> tuple[str | Path, ...]:
        return ("--server", self.service.url, "--root", self.root)

    def new(self) -> Path:
        self.count += 1
        return self.folder / f"proposal-{self.count}"

    def keys(self, group: str) -> list[Path]:
        return sorted((self.folder / "demo" / group).glob("*.key"))

    def pending(self, *entries: dict[str, Any]) -> Path:
        path = self.folder / f"pending-{random_id()}.json"
        path.write_text(json.dumps({"enrolments": entries}))
        return path

    def propose(self, *arguments: str | Path) -> tuple[Path, dict[str, Any]]:
        out = self.new()
        return out, printed("officer", "propose", *self.source, "--out", out, *arguments)

    def publish(self, proposal: Path) -> dict[str, Any]:
        return printed("officer", "publish", proposal, "--server", self.service.url)

    def sign_and_publish(self, proposal: Path, *keys: Path) -> dict[str, Any]:
        for key in keys or self.officers[:2]:
            printed("officer", "sign", proposal, "--key", key)
        return self.publish(proposal)

    def cases(self, key: Path) -> Any:
        """Ask as a reviewer who has the first root and nothing newer."""
        return amana(
            "reviewer", "cases", "--server", self.service.url, "--root", self.root, "--key", key,
            "--directory-cache", self.folder / f"cache-{random_id()}", "--json", check=None,
        )  # fmt: skip


def public(key: Path) -> str:
    return read_key(key, PASSPHRASE).signing.public


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("house")
    with running_service(folder) as service:
        make_demo(service, folder / "demo")
        shutil.copy(folder / "demo" / "root.json", folder / "first-root.json")
        yield House(folder, service, sorted((folder / "demo" / "officers").glob("*.key")))


def newcomer(folder: Path, **changes: Any) -> tuple[dict[str, Any], Path]:
    """Make keys on a device and what the server tells of them after they enrolled; returns the key file too."""
    made = printed("reviewer", "init", "--out", folder / "device")
    keys = read_key(Path(made["key"]), PASSPHRASE)
    enrolment = make_enrolment(
        keys.signing,
        deployment=DEPLOYMENT,
        token=random_id(),
        role="reviewer",
        desks=["chemical"],
        person=keys.id,
        intake=intake_key_fields(keys),
        made_on=f"{datetime.now(UTC):%Y-%m-%d}",
    )
    vetting = {"vouchers": ["a", "b"], "vetted_on": "2026-01-01", "valid_until": "2099-01-01"}
    entry = {"id": keys.id, "kind": "new", "enrolment": enrolment, "vetting": vetting, **changes}
    return entry, Path(made["key"])


def test_a_person_comes_in_when_two_officers_published_and_not_before(house: House) -> None:
    entry, key = newcomer(house.folder)
    path = house.pending(entry)
    [shown] = printed("officer", "pending", path, *house.source)["pending"]
    keys = read_key(key, PASSPHRASE)
    entire = {"id": keys.id, "signing_key": keys.signing.public, **intake_key_fields(keys)}
    assert (shown["fault"], shown["fingerprint"]) == ("", fingerprint(entire))
    # On a machine without a network, the same is verified.
    assert fingerprint(entire) in amana("officer", "pending", path).stdout

    proposal, said = house.propose(
        "--pending", path, "--accept", keys.id, "--takes", f"{keys.id}=minor"
    )
    [added] = [line for line in said["changes"] if line.startswith("added: ")]
    assert f"reader {keys.id} at desk chemical" in added
    assert fingerprint(entire) in added
    assert "takes: minor" in added
    assert said["signatures"] == ["directory: 0 of 2 signatures"]

    # Whoever signs sees in words what changes, before all the rest, and only beside the version before.
    root = ("--root", house.root)
    signed = amana("officer", "sign", proposal, "--key", house.officers[0], *root).stdout
    changes, _, all_of_it = signed.partition("\nWhat you would sign:\n")
    assert changes.startswith(f"What changes since version {said['version'] - 1}:\n")
    assert [one for one in changes.splitlines() if one.startswith("added: ")] == [added]
    assert f"directory of {DEPLOYMENT}, version {said['version']}" in all_of_it
    stripped = house.new()
    shutil.copytree(proposal, stripped)
    shutil.rmtree(stripped / "current-targets")
    assert refused(2, "officer", "sign", stripped, "--key", house.officers[2]) == "unreadable-file"
    again = printed("officer", "sign", proposal, "--key", house.officers[0])
    assert again["standing"] == ["directory: 1 of 2 signatures"]
    publish = ("officer", "publish", proposal, "--server", house.service.url)
    assert refused(1, *publish) == "directory-threshold"
    assert house.cases(key).returncode != 0

    printed("officer", "sign", proposal, "--key", house.officers[2])
    assert house.publish(proposal)["version"] == said["version"]
    assert house.cases(key).returncode == 0
    propose = ("officer", "propose", *house.source, "--out", house.new())
    assert refused(3, *propose, "--pending", path, "--accept", keys.id) == "key-known"

    # Offline, the folder that was signed is as good as the server, by the root alone.
    leaving, said = house.new(), ["--remove", keys.id]
    offline = ("--current", proposal, "--root", house.root)
    printed("officer", "propose", *offline, *said, "--out", leaving)
    assert house.sign_and_publish(leaving)["version"] == again_version(proposal) + 1
    assert house.cases(key).returncode != 0


def again_version(proposal: Path) -> int:
    version: int = json.loads((proposal / "targets.json").read_bytes())["signed"]["version"]
    return version


def test_who_does_not_verify_is_not_proposed(house: House) -> None:
    forged, _ = newcomer(house.folder)
    forged["enrolment"]["desks"] = ["general"]
    unvetted, _ = newcomer(house.folder, vetting=None)
    path = house.pending(forged, unvetted)
    done = amana("officer", "pending", path, "--json", check=3)
    assert "enrolment-refused" in done.stderr
    faults = [bool(one["fault"]) for one in json.loads(done.stdout)["pending"]]
    assert faults == [True, False]
    out = house.new()
    propose = ("officer", "propose", *house.source, "--out", out, "--pending", path)
    assert refused(3, *propose, "--accept", forged["id"]) == "enrolment-refused"
    assert refused(2, *propose, "--accept", unvetted["id"]) == "not-vetted"
    assert refused(2, *propose, "--accept", random_id()) == "unknown-person"
    assert not out.exists()


def test_a_partner_comes_in_by_the_public_part_alone(house: House) -> None:
    public = house.folder / "partner.json"
    made = printed("partner", "init", "--key", house.folder / "partner.key", "--public", public)
    proposal, said = house.propose("--partner", f"{public}=icc,iiim")
    person = made["public"]["id"]
    assert f"added: partner {person} (purposes: icc, iiim)" in said["changes"]
    assert any(made["fingerprint"] in line for line in said["changes"])
    house.sign_and_publish(proposal)
    again = ("officer", "propose", *house.source, "--out", house.new())
    assert refused(2, *again, "--partner", f"{public}=icc") == "directory-invalid"
    other = house.folder / "other.json"
    other.write_text(public.read_text().replace(person, random_id()))
    assert refused(3, *again, "--partner", f"{other}=icc") == "bad-signature"
    leaving, _ = house.propose("--remove", person)
    house.sign_and_publish(leaving)


def test_a_key_is_replaced_when_officers_and_its_owner_signed(house: House) -> None:
    owner = read_key(house.keys("reviewers")[0], PASSPHRASE)

    def replacement(by: PersonKeys) -> dict[str, Any]:
        new = PersonKeys(owner.id, owner.role, by.signing, Identity.generate())
        return replacement_entry(new, owner.intake_recipient, deployment=DEPLOYMENT)

    thief = house.pending(replacement(PersonKeys.generate("reviewer")))
    propose = ("officer", "propose", *house.source, "--out", house.new(), "--accept", owner.id)
    assert refused(3, *propose, "--pending", thief) == "bad-signature"
    proposal, said = house.propose(
        "--pending", house.pending(replacement(owner)), "--accept", owner.id
    )
    changed = [line for line in said["changes"] if "fingerprint" in line]
    assert changed
    assert all(line.startswith(f"changed: reader {owner.id} at desk") for line in changed)
    house.sign_and_publish(proposal)


def test_the_others_go_on_when_an_officer_lost_the_key(house: House) -> None:
    lost, *others = house.officers
    made = printed("officer", "init", "--out", house.folder / "newcomer")
    out = house.new()
    said = printed(
        "officer", "rotate-root", *house.source, "--out", out,
        "--drop", public(lost), "--add", made["public"],
    )  # fmt: skip
    assert said["signatures"] == [
        "directory: 0 of 2 signatures",
        "root: 0 of 2 signatures",
        "root, by the officers before: 0 of 2 signatures",
    ]
    assert f"removed: officer {public(lost)} (signs: root, targets)" in said["changes"]
    publish = ("officer", "publish", out, "--server", house.service.url)
    for key in (others[0], Path(made["key"])):
        printed("officer", "sign", out, "--key", key)
        # The newcomer counts for the new root alone.
        assert refused(1, *publish) == "directory-threshold"
    done = printed("officer", "sign", out, "--key", others[1])
    assert done["standing"][2] == "root, by the officers before: 2 of 2 signatures"
    version = house.publish(out)["version"]
    house.officers = [*others, Path(made["key"])]

    # Whoever has the first root follows, and the retired key is worth nothing.
    assert house.cases(house.keys("reviewers")[1]).returncode == 0
    following, _ = house.propose()
    assert refused(2, "officer", "sign", following, "--key", lost) == "not-an-officer"
    house.sign_and_publish(following, others[0], Path(made["key"]))
    changes = printed("officer", "audit", "--from", str(version), *house.source)["changes"]
    assert f"changed: the directory: version: {version} → {version + 1}" in changes
    # From the time before, the change of officers is told; so it is to who has the new root file.
    audit = ("officer", "audit", "--from", str(version - 1))
    changes = printed(*audit, *house.source)["changes"]
    assert f"added: officer {made['public']} (signs: root, targets)" in changes
    newest = ("--server", house.service.url, "--root", out / "root.json")
    assert printed("officer", "audit", "--from", str(version), *newest)["to"] == version + 1
    assert printed(*audit, "--to", out, *house.source)["to"] == version


def test_a_rotation_that_cannot_work_is_refused(house: House) -> None:
    rotate = ("officer", "rotate-root", *house.source, "--out", house.new())
    first, second, _ = map(public, house.officers)
    assert refused(2, *rotate, "--add", first) == "key-known"
    assert refused(2, *rotate, "--drop", first, "--drop", second) == "bad-threshold"
    for nobody in ("nosuch", "AAAA"):
        assert refused(2, *rotate, "--drop", nobody) == "bad-key"
        assert refused(2, *rotate, "--add", nobody) == "bad-key"
    assert refused(2, *rotate, "--cosigner", "nosuch", "--quorum", "1") == "vkey-invalid"
    administrator = public(house.keys("administrators")[0])
    assert refused(2, *rotate, "--drop", administrator) == "not-an-officer"
    assert refused(3, *rotate, "--add", administrator) == "directory-invalid"


def test_what_expires_soon_is_said_by_every_command_that_meets_it(house: House) -> None:
    doctor = ("doctor", "--data", house.service.data, "--json")
    [hosts] = [
        one for one in json.loads(amana(*doctor).stdout)["checks"] if one["name"] == "addresses"
    ]
    assert hosts["warning"]
    env = {"AMANA_TRUSTED_HOSTS": "desk.amana.example"}
    assert "ok   addresses: desk.amana.example" in amana(*doctor[:-1], env=env).stdout
    [check] = [one for one in json.loads(amana(*doctor).stdout)["checks"] if is_directory(one)]
    assert (check["ok"], check["warning"]) == (True, False)
    short, _ = house.propose("--days", "10")
    [warning] = house.sign_and_publish(short)["warnings"]
    assert warning.startswith("The directory expires on ")
    [check] = [one for one in json.loads(amana(*doctor).stdout)["checks"] if is_directory(one)]
    assert (check["ok"], check["warning"], check["detail"]) == (True, True, warning)
    assert f"WARN directory: {warning}" in amana(*doctor[:-1]).stdout
    nobody = house.pending()
    assert printed("officer", "pending", nobody, *house.source)["warnings"] == [warning]
    shown = amana("officer", "pending", nobody, *house.source)
    assert shown.stderr == f"Warning: {warning}\n"
    renewal, said = house.propose()
    assert said["warnings"] == [warning]
    assert house.sign_and_publish(renewal)["warnings"] == []


def is_directory(check: dict[str, Any]) -> bool:
    return bool(check["name"] == "directory")


@pytest.mark.parametrize(
    ("arguments", "slug"),
    [
        ((), "usage"),
        (("--server", "http://127.0.0.1:9"), "usage"),
        (("--version", "1"), "usage"),
    ],
)
def test_a_proposal_starts_from_something(
    house: House, arguments: tuple[str, ...], slug: str
) -> None:
    assert refused(2, "officer", "propose", "--out", house.new(), *arguments) == slug
