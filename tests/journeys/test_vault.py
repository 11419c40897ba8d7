"""Who spoke stays apart: released by two of three custodians with the real commands, and in no way by one."""

import json
import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from amana.client.keyfile import read_key
from amana.protocol.encoding import unb64
from amana.protocol.errors import ProtocolError
from amana.protocol.sealing import Identity, Kind, open_sealed
from tests.support.attachments import jpeg
from tests.support.server import PASSPHRASE, Service, amana, make_demo, running_service

SAMPLES = Path(__file__).parents[2] / "samples"
WHO = {
    "name": "[SYNTHETIC] سناء التجريبية",
    "contacts": [{"channel": "signal", "address": "+49 000", "safe_words": "how is the garden"}],
}
REASON = "The prosecutor asks for the witness. يطلب المدعي العام الشاهدة"


@dataclass
class House:
    """A running service with its demonstration organisation, and a witness with a codename file."""

    service: Service
    folder: Path
    readers: list[str]

    @property
    def demo(self) -> Path:
        return self.folder / "demo"

    @property
    def way(self) -> tuple[str | Path, ...]:
        return ("--server", self.service.url, "--root", self.demo / "root.json")

    @property
    def custodians(self) -> list[Path]:
        return sorted((self.demo / "custodians").glob("*.key"))

    def reader(self, n: int, *arguments: str | Path, check: int = 0) -> Any:
        return self.ask(
            self.demo / "reviewers" / f"{self.readers[n]}.key", "reviewer", *arguments, check=check
        )

    def custodian(self, key: Path, *arguments: str | Path, check: int = 0) -> Any:
        return self.ask(key, "custodian", *arguments, check=check)

    def ask(self, key: Path, *arguments: str | Path, check: int = 0) -> Any:
        """Run a command as somebody; returns what it printed as JSON, or its errors where it must fail."""
        done = amana(*arguments, *self.way, "--key", key, "--json", check=check)
        return json.loads(done.stdout) if check == 0 else done.stderr

    def send(self, *arguments: str | Path, level: str = "prosecutors") -> dict[str, Any]:
        who, photo = self.folder / "who.json", self.folder / "photo.jpg"
        who.write_text(json.dumps(WHO, ensure_ascii=False, indent=2), encoding="utf-8")
        jpeg(photo)
        done = amana(
            "witness", "send", *self.way, "--desk", "chemical", "--language", "ar",
            "--text", SAMPLES / "testimony.ar.txt", "--attach", photo, "--identity", who,
            "--identity-level", level, "--consent", "icc=allow", "--consent", "contact=allow",
            "--codename-file", self.folder / "codename", *arguments, "--json",
        )  # fmt: skip
        sent: dict[str, Any] = json.loads(done.stdout)
        return sent

    def witness(self, command: str, *arguments: str | Path) -> Any:
        done = amana(
            "witness", command, *arguments, *self.way, "--codename-file", self.folder / "codename",
            "--longest-pause", "0", "--json",
        )  # fmt: skip
        return json.loads(done.stdout)

    def request(self, case: str, *more: str, check: int = 0, purpose: str = "icc") -> Any:
        return self.reader(
            0, "request-identity", case, "--reason", REASON, "--purpose", purpose, "--days", "5", *more, check=check
        )  # fmt: skip


@pytest.fixture
def house(tmp_path: Path, stores: dict[str, str]) -> Any:
    with running_service(tmp_path, stores) as service:
        yield House(service, tmp_path, make_demo(service, tmp_path / "demo")["chemical"])


def test_an_identity_is_released_by_two_of_three_and_in_no_way_by_one(house: House) -> None:
    case = house.send()["case"]
    opened = house.reader(0, "open", case, "--out", house.folder / "opened")
    assert opened["in_vault"] == ["identity", "originals"]
    assert set(opened["files"]) == {"account.json", "photo.jpg", "manifest.json"}
    first, second, third = house.custodians

    # Before anybody asked.
    out = house.folder / "who"
    identity = ("identity", case, "--out", out)
    assert "not-released" in house.reader(0, *identity, check=1)
    assert house.custodian(first, "pending") == {"requests": [], "not_verified": []}
    assert "not-assigned" in house.ask(
        house.demo / "reviewers" / f"{house.readers[1]}.key", "reviewer", "request-identity", case,
        "--reason", REASON, "--purpose", "icc", "--days", "5", check=1,
    )  # fmt: skip
    assert "consent-denies" in house.request(case, purpose="iiim", check=1)
    assert "identity-denied" in _ask_about_an_anonymous_one(house)

    request = house.request(case)["request"]
    for key in house.custodians:
        [asked] = house.custodian(key, "pending")["requests"]
        assert (asked["request"], asked["case"], asked["purpose"]) == (request, case, "icc")
        assert asked["reason"] == REASON
        assert asked["reader"] == house.readers[0]
    assert "not-confirmed" in house.custodian(first, "share", request, check=2)

    # With one.
    assert house.custodian(first, "share", request, "--yes") == {
        "request": request,
        "released": False,
    }
    assert "answered-already" in house.custodian(first, "share", request, "--yes", check=1)
    assert "not-released" in house.reader(0, *identity, check=1)
    assert not out.exists()
    assert "answered-already" in house.custodian(
        first, "decline", request, "--reason", "x", check=1
    )
    for group in ("administrators", "auditors"):
        key = sorted((house.demo / group).glob("*.key"))[0]
        assert "not-allowed" in house.custodian(key, "share", request, "--yes", check=1)
        assert "not-allowed" in house.ask(key, "reviewer", *identity, check=1)
    reader = house.demo / "reviewers" / f"{house.readers[0]}.key"
    assert "not-allowed" in house.custodian(reader, "share", request, "--yes", check=1)
    assert "not-allowed" in house.ask(first, "reviewer", *identity, check=1)
    assert "not-found" in house.custodian(first, "share", "a" * 32, "--yes", check=1)
    assert house.witness("status")["testimonies"][0]["releases"] == []
    if not _uses_postgres(house):
        _nothing_opens_with_one(house, case, [first, reader])

    # With two.
    assert house.custodian(second, "share", request, "--yes")["released"]
    assert house.custodian(third, "pending")["requests"] == []
    other = house.demo / "reviewers" / f"{house.readers[1]}.key"
    assert "not-released" in house.ask(other, "reviewer", *identity, check=1)
    released = house.reader(0, *identity)
    assert released["files"] == ["identity.json"]
    document = json.loads((out / "identity.json").read_text("utf-8"))
    assert document == WHO, "what the person said, and neither salt nor zeros"
    assert "not-released" in house.reader(
        0, "identity", case, "--originals", "--out", house.folder / "no", check=1
    )
    today = datetime.now(UTC).date()
    [told] = house.witness("status")["testimonies"][0]["releases"]
    assert told == {
        "vault": "identity",
        "purpose": "icc",
        "reader": house.readers[0],
        "to": None,
        "released_on": today.isoformat(),
        "opened_on": today.isoformat(),
        "expires_on": (today + timedelta(days=5)).isoformat(),
    }
    shown = amana(
        "witness", "status", *house.way, "--codename-file", house.folder / "codename",
        "--longest-pause", "0",
    ).stdout  # fmt: skip
    assert f"who you are was released on {today} to {house.readers[0]} for icc" in shown

    originals = house.request(case, "--originals")["request"]
    for key in (second, third):
        house.custodian(key, "share", originals, "--yes")
    found = house.reader(0, "identity", case, "--originals", "--out", house.folder / "originals")
    original = (house.folder / "photo.jpg").read_bytes()
    assert (house.folder / "originals" / found["files"][0]).read_bytes() == original
    assert (house.folder / "opened" / "photo.jpg").read_bytes() != original

    # Nothing of all this is in the server's files or its log.
    kept = b"".join(path.read_bytes() for path in house.service.data.rglob("*") if path.is_file())
    kept += house.service.log.read_bytes()
    for secret in (WHO["name"], "how is the garden", "prosecutor asks", "المدعي"):
        assert str(secret).encode() not in kept


def _ask_about_an_anonymous_one(house: House) -> str:
    case = house.send(level="anonymous")["case"]
    house.reader(0, "claim", case)
    refused: str = house.request(case, check=1)
    return refused


def _uses_postgres(house: House) -> bool:
    return "AMANA_DATABASE_URL" in house.service.env


def _nothing_opens_with_one(house: House, case: str, keys: list[Path]) -> None:
    """Take the whole database and every object, and the keys of one custodian and of the reader: no vault opens."""
    identities = [read_key(key, PASSPHRASE).intake for key in keys]
    with sqlite3.connect(f"file:{house.service.data}/amana.db?mode=ro", uri=True) as database:
        sealed = [
            bytes(row[0])
            for table in ("shares", "released_shares")
            for row in database.execute(f'SELECT sealed FROM {table} WHERE "case" = ?', (case,))  # noqa: S608
        ]
    secrets = set()
    for data in sealed:
        for identity in identities:
            assert identity is not None
            try:
                lines = open_sealed(data, identity, Kind.SHARE).decode().split("\n")
            except ProtocolError:
                continue
            secrets.add(unb64(lines[-2], 32))
    assert len(secrets) == 4, "two shares of each of two vaults are the custodian's own"
    sums = {bytes(32)}
    for one in secrets:
        sums |= {bytes(a ^ b for a, b in zip(one, other, strict=True)) for other in sums}
    objects = [path for path in (house.service.data / "objects").rglob("*") if path.is_file()]
    opened = []
    for seed in sums - {bytes(32)}:
        for path in objects:
            if path.stat().st_size < 1643:
                continue
            try:
                open_sealed(path.read_bytes(), Identity.from_seed(seed), Kind.FILE)
                opened.append(path)
            except ProtocolError:
                continue
    assert opened == []


def test_a_withdrawal_ends_a_release_and_says_what_it_cannot_recall(house: House) -> None:
    case = house.send("--withdrawal-delay", "7")["case"]
    house.reader(0, "claim", case)
    request = house.request(case)["request"]
    first, second, third = house.custodians
    for key in (first, second):
        house.custodian(key, "share", request, "--yes")
    out = house.folder / "who"
    house.reader(0, "identity", case, "--out", out)
    pending = house.request(case, "--originals")["request"]
    withdrawn = house.witness("withdraw", "--yes")
    assert withdrawn["withdrawn"] == [case]
    [seen] = [one for one in withdrawn["cannot_be_recalled"] if one["what"] == "released"]
    assert seen == {
        "case": case,
        "what": "released",
        "vault": "identity",
        "purpose": "icc",
        "by": house.readers[0],
        "on": datetime.now(UTC).date().isoformat(),
    }
    assert "case-withdrawn" in house.custodian(third, "share", pending, "--yes", check=1)
    assert house.custodian(third, "pending")["requests"] == []
    again = house.reader(0, "identity", case, "--out", house.folder / "again", check=1)
    assert "not-released" in again
    assert "withdrawn" in again
    assert "case-withdrawn" in house.request(case, check=1)
    house.witness("withdraw", "--take-back")
    house.reader(0, "claim", case)
    assert "not-released" in house.reader(
        0, "identity", case, "--out", house.folder / "again", check=1
    )
    assert "release-over" in house.custodian(third, "share", pending, "--yes", check=1)
    assert json.loads((out / "identity.json").read_text("utf-8"))["name"] == WHO["name"]


def test_a_custodian_declines_and_another_is_replaced_by_the_officers(tmp_path: Path) -> None:
    with running_service(tmp_path) as service:
        readers = make_demo(service, tmp_path / "demo")["chemical"]
        _decline_and_replace(House(service, tmp_path, readers))


def _decline_and_replace(house: House) -> None:
    case = house.send()["case"]
    house.reader(0, "claim", case)
    first, second, third = house.custodians
    request = house.request(case)["request"]
    house.custodian(first, "decline", request, "--reason", "I know this person. أعرفها")
    [stands] = house.reader(0, "identity", case)["releases"]
    assert [one["reason"] for one in stands["answers"]] == ["I know this person. أعرفها"]
    house.custodian(second, "decline", request, "--reason", "No.")
    assert "declined" in house.reader(0, "identity", case, "--out", house.folder / "no", check=1)

    # The first one leaves; somebody comes, is vetted, listed by two officers, and given shares by those who stay.
    administrator = sorted((house.demo / "administrators").glob("*.key"))[0]
    token = house.ask(administrator, "admin", "invite", "--role", "custodian")["token"]
    home = house.folder / "newcomer"
    new = Path(json.loads(amana("custodian", "init", "--out", home, "--json").stdout)["key"])
    enrolled = house.custodian(new, "enrol", "--invitation", token)["id"]
    today = datetime.now(UTC).date()
    house.ask(
        administrator, "admin", "vet", enrolled, "--voucher", "Dr. A", "--voucher", "Advocate B",
        "--vetted-on", today.isoformat(), "--valid-until", (today + timedelta(days=90)).isoformat(),
        "--language", "ar",
    )  # fmt: skip
    pending = house.folder / "pending.json"
    house.ask(administrator, "admin", "pending", "--out", pending)
    proposal = house.folder / "proposal"
    amana(
        "officer", "propose", *house.way, "--pending", pending, "--accept", enrolled,
        "--remove", first.stem, "--out", proposal,
    )  # fmt: skip
    for officer in sorted((house.demo / "officers").glob("*.key"))[:2]:
        amana("officer", "sign", proposal, "--key", officer)
    amana("officer", "publish", proposal, "--server", house.service.url)

    assert house.custodian(new, "re-share")["complete"] == []
    assert "2 are shared among others" in _doctor_on_vaults(house)
    nothing: dict[str, list[str]] = {"lost": [], "kept": [], "destroyed": []}
    assert house.custodian(second, "re-share") == {"complete": [], "waiting": [case], **nothing}
    assert house.custodian(third, "re-share") == {"complete": [case], "waiting": [], **nothing}
    assert _doctor_on_vaults(house) == "shared among today's custodians"
    assert "not-signed-in" in house.custodian(first, "pending", check=1)
    request = house.request(case)["request"]
    house.custodian(new, "share", request, "--yes")
    assert house.custodian(third, "share", request, "--yes")["released"]
    released = house.reader(0, "identity", case, "--out", house.folder / "who")
    assert set(released["custodians"]) == {enrolled, third.stem}
    assert json.loads((house.folder / "who" / "identity.json").read_text())["name"] == WHO["name"]


def _doctor_on_vaults(house: House) -> str:
    """Return what `amana doctor` says of the vaults; one testimony has two."""
    done = amana("doctor", "--data", house.service.data, "--json", env=house.service.env)
    [check] = [one for one in json.loads(done.stdout)["checks"] if one["name"] == "vaults"]
    detail: str = check["detail"]
    return detail
