"""A testimony leaves with its proof, by the commands that people type; and a withdrawal ends one that is on its way."""

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.journeys.test_withdrawal import Phone
from tests.support.cosigners import RunningCosigner
from tests.support.relay import relay_to
from tests.support.server import Service, amana, make_demo, running_service, wait_until

SAMPLES = Path(__file__).parents[2] / "samples"
FILM_BYTES = 48 * 2**20


class Office:
    """Everybody who has to do with an export, at one service."""

    def __init__(self, service: Service, folder: Path, cosigners: Sequence[str] = ()) -> None:
        self.service, self.folder, self.demo = service, folder, folder / "demo"
        self.reader, _ = make_demo(service, self.demo, cosigners)["chemical"]
        self.phone = Phone(service, self.demo, folder)
        self.root = self.demo / "root.json"
        [self.partner] = (self.demo / "partners").glob("*.key")
        self.administrator = min((self.demo / "administrators").glob("*.key"))

    def run(self, who: Path, *command: str | Path, url: str | None = None, check: int = 0) -> Any:
        way = ("--server", url or self.service.url, "--root", self.root, "--key", who, "--json")
        done = amana(*command, *way, check=check)
        return json.loads(done.stdout) if check == 0 else done.stderr

    @property
    def reader_key(self) -> Path:
        return self.demo / "reviewers" / f"{self.reader}.key"

    def accepted(self, *attachments: str | Path) -> dict[str, Any]:
        sent = self.phone.send("--consent", "iiim=allow", *attachments)
        out = self.folder / "opened"
        self.run(self.reader_key, "reviewer", "open", sent["case"], "--out", out)
        self.run(
            self.reader_key, "reviewer", "decide", sent["case"], "--decision", "accept",
            "--reason", "It is clear.",
        )  # fmt: skip
        return sent

    def custody(self, who: Path, case: str) -> dict[str, Any]:
        """Return the custody of a case as it is printed once the log holds all of it."""
        found: list[dict[str, Any]] = []

        def is_logged() -> bool:
            found[:] = [self.run(who, "reviewer", "custody", case)]
            return {one["proof"] for one in found[0]["events"]} == {"logged"}

        wait_until(is_logged, "the log to hold everything")
        return found[0]

    def export(self, case: str, *more: str | Path, check: int = 0, url: str | None = None) -> Any:
        command = ("reviewer", "export", case, "--to", self.partner.stem, "--purpose", "iiim")
        return self.run(self.reader_key, *command, *more, check=check, url=url)

    def approved(self, case: str) -> str:
        asked = self.export(case)
        assert asked["state"] == "pending"
        assert self.export(case) == asked, "asking again asks for nothing more"
        [waiting] = self.run(self.administrator, "admin", "exports", "pending")["exports"]
        assert (waiting["export"], waiting["fault"]) == (asked["export"], None)
        way = ("--server", self.service.url, "--root", self.root, "--key", self.administrator)
        shown = amana("admin", "exports", "pending", *way, env={"COLUMNS": "80"}).stdout
        assert {asked["export"], case, self.partner.stem} <= set(shown.split())
        done = self.run(self.administrator, "admin", "exports", "approve", asked["export"])
        assert done["state"] == "approved"
        export: str = asked["export"]
        return export


@pytest.fixture
def office(tmp_path: Path, stores: dict[str, str]) -> Iterator[Office]:
    """An office whose root pins two cosigners, without whom nobody seals and nothing leaves."""
    cosigners = [RunningCosigner(tmp_path, f"{name}.example/1") for name in ("one", "two")]
    addresses = ",".join(f"{one.name}={one.url}" for one in cosigners)
    with running_service(tmp_path, {**stores, "AMANA_COSIGNERS": addresses}) as service:
        made = Office(service, tmp_path, [one.vkey for one in cosigners])
        try:
            for one in cosigners:
                one.start(["--root", str(made.root)])
            with _maintained(service):
                yield made
        finally:
            for one in cosigners:
                one.close()


@contextmanager
def _maintained(service: Service) -> Iterator[None]:
    """Run maintenance again and again: the server asks cosigners about the custody log every five minutes, this at once."""
    amana("maintain", "--data", service.data, env=service.env)
    done = threading.Event()

    def maintain() -> None:
        while not done.wait(2):
            amana("maintain", "--data", service.data, env=service.env, check=None)

    operator = threading.Thread(target=maintain)
    operator.start()
    try:
        yield
    finally:
        done.set()
        operator.join()


def verified(*arguments: str | Path, check: int = 0) -> dict[str, Any]:
    done = amana("verify", "bundle", *arguments, "--json", check=check)
    document: dict[str, Any] = json.loads(done.stdout)
    assert set(document) == {"verified", "checks", "not_checked"}
    return document


def test_a_testimony_leaves_with_its_proof(office: Office, tmp_path: Path) -> None:
    photo = tmp_path / "photo.bin"
    photo.write_bytes(bytes(range(256)) * 3000)
    sent = office.accepted("--keep-metadata", photo)
    case, digits = sent["case"], sent["codename_digits"]
    translation = tmp_path / "account.en.txt"
    translation.write_text("[SYNTHETIC] in English")
    export = office.approved(case)
    sealed = tmp_path / "bundle.age"
    assert "out-missing" in office.export(case, check=2)
    made = office.export(case, "--out", sealed, "--translation", f"0={translation}")
    assert (made["state"], made["size"]) == ("exported", sealed.stat().st_size)
    assert [one for one in tmp_path.iterdir() if one.name.startswith(".export")] == []

    # The partner, without a network.
    key = ("--root", office.root, "--identity", office.partner)
    assert verified(sealed, *key)["verified"] is True
    folder, receipt = tmp_path / "received", tmp_path / "receipt.json"
    nowhere = amana(
        "partner", "receive", sealed, "--out", folder, "--receipt", tmp_path / "none" / "r.json",
        "--root", office.root, "--key", office.partner, check=2,
    )  # fmt: skip
    assert nowhere.stderr.startswith("file-unusable: ")
    assert not folder.exists()
    received = amana(
        "partner", "receive", sealed, "--out", folder, "--receipt", receipt, "--root", office.root,
        "--key", office.partner,
    )  # fmt: skip
    assert "No bundle can prove" in received.stdout
    assert "NOT" not in received.stdout
    assert verified(folder, "--root", office.root)["verified"] is True
    assert (folder / "data" / "files" / "1.bin").read_bytes() == photo.read_bytes()
    assert b"[SYNTHETIC] in English" in (folder / "data" / "derived" / "0.txt").read_bytes()
    closed = office.run(
        office.reader_key, "reviewer", "handed-over", case, "--receipt", receipt
    )  # fmt: skip
    assert closed == {"export": export, "state": "handed-over"}

    # Who did what with it, for whoever asks, and for a court that has the root and nothing else.
    page = tmp_path / "custody.html"
    told = office.run(office.reader_key, "reviewer", "custody", case, "--html", page)
    assert {one["proof"] for one in told["events"]} <= {"logged", "waiting"}
    assert office.partner.stem not in page.read_text("utf-8")
    [auditor] = (office.demo / "auditors").glob("*.key")
    told = office.custody(auditor, case)
    assert [one["what"] for one in told["events"]][-2:] == ["export-complete", "export-receipt"]
    _a_court_checks_the_custody(told, office.root, tmp_path)

    # One bit, and a table that says so.
    damaged = bytearray((folder / "data" / "files" / "1.bin").read_bytes())
    damaged[5] ^= 1
    (folder / "data" / "files" / "1.bin").write_bytes(bytes(damaged))
    document = verified(folder, "--root", office.root, check=3)
    wrong = [one["name"] for one in document["checks"] if one["ok"] is False]
    assert wrong == ["files", "content"]
    shown = amana("verify", "bundle", folder, "--root", office.root, check=3)
    assert "NOT" in shown.stdout
    assert "data/files/1.bin" in "".join(shown.stdout.split())

    # The witness.
    [told] = office.phone.ask("status", digits)["testimonies"]
    assert [(one["to"], one["state"]) for one in told["exports"]] == [
        (office.partner.stem, "handed-over")
    ]
    gone = office.phone.ask("withdraw", digits, "--yes")
    assert "exported" in [one["what"] for one in gone["cannot_be_recalled"]]
    assert "case-withdrawn" in office.export(case, check=1)


def _a_court_checks_the_custody(told: dict[str, Any], root: Path, folder: Path) -> None:
    file, page = folder / "custody.json", folder / "checked.html"
    file.write_text(json.dumps(told))
    document = json.loads(amana("verify", "custody", file, "--root", root, "--json").stdout)
    assert document["verified"] is True
    assert {one.keys() == {"name", "ok", "detail"} for one in document["checks"]} == {True}
    shown = amana("verify", "custody", file, "--root", root, "--html", page).stdout
    assert "No custody can prove" in shown
    assert "export-receipt" in shown.split()
    assert "NOT" not in shown
    assert "amana verify custody FILE" in page.read_text("utf-8")
    told["events"][2]["event"]["action"]["made_at"] = "2020-01-01T00:00:00Z"
    file.write_text(json.dumps(told))
    failed = json.loads(amana("verify", "custody", file, "--root", root, "--json", check=3).stdout)
    assert failed["verified"] is False
    wrong = [one for one in failed["checks"] if one["ok"] is False]
    assert [one["name"] for one in wrong] == ["parts", "custody", "shown", "log"]
    assert all("events/3" in one["detail"] for one in wrong)


def test_a_withdrawal_ends_an_export_that_is_on_its_way(tmp_path: Path) -> None:
    film = tmp_path / "film.bin"
    film.write_bytes(bytes(range(256)) * (FILM_BYTES // 256))
    with running_service(tmp_path) as service:
        office = Office(service, tmp_path)
        sent = office.accepted("--keep-metadata", film)
        # One that was refused leads nowhere; who asks again is judged again.
        asked = office.export(sent["case"])["export"]
        refused = office.run(office.administrator, "admin", "exports", "refuse", asked)
        assert refused == {"export": asked, "state": "refused"}
        assert office.approved(sent["case"]) != asked
        sealed = tmp_path / "bundle.age"
        said: list[Any] = []
        with relay_to(service.url) as line:
            url = f"http://127.0.0.1:{line.port}"

            def take_out() -> None:
                way = ("--to", office.partner.stem, "--purpose", "iiim", "--out", sealed)
                key = ("--root", office.root, "--key", office.reader_key, "--server", url)
                said.append(amana("reviewer", "export", sent["case"], *way, *key, check=None))

            line.hold_after = FILM_BYTES // 4
            thread = threading.Thread(target=take_out)
            thread.start()
            assert line.held.wait(timeout=60)
            office.phone.ask("withdraw", sent["codename_digits"], "--yes")
            line.let_go()
            thread.join(timeout=120)
        assert said[0].returncode == 1, said[0].stderr
        assert "case-withdrawn" in said[0].stderr
        assert not sealed.exists()
        assert [one for one in tmp_path.iterdir() if one.name.startswith(".export")] == []
        exports = office.run(office.administrator, "admin", "exports", "pending")["exports"]
        assert exports == []
