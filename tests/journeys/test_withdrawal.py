"""With the codename alone, from a new phone: status, consent and withdrawal; while downloads run, and without a network."""

import json
import sqlite3
import threading
from pathlib import Path
from typing import Any

from tests.support.relay import relay_to
from tests.support.server import Service, amana, make_demo, running_service, wait_until

SAMPLES = Path(__file__).parents[2] / "samples"
FILM_BYTES = 48 * 2**20


class Phone:
    """A witness's phone: it has the root and the address, and a codename typed in."""

    def __init__(self, service: Service, demo: Path, folder: Path) -> None:
        self.service, self.root, self.folder = service, demo / "root.json", folder

    @property
    def way(self) -> tuple[str | Path, ...]:
        return ("--server", self.service.url, "--root", self.root)

    def send(self, *arguments: str | Path) -> dict[str, Any]:
        done = amana(
            "witness", "send", *self.way, "--desk", "chemical", "--language", "ar",
            "--text", SAMPLES / "testimony.ar.txt", *arguments, "--json",
        )  # fmt: skip
        sent: dict[str, Any] = json.loads(done.stdout)
        return sent

    def codename(self, digits: str) -> Path:
        """Type a codename in anew; nothing else is known on this phone."""
        path = self.folder / "typed"
        path.write_text(json.dumps({"codename": digits, "next": 0}))
        return path

    def ask(self, command: str, digits: str, *arguments: str | Path, check: int = 0) -> Any:
        done = amana(
            "witness", command, *arguments, "--codename-file", self.codename(digits), *self.way,
            "--longest-pause", "0", "--json", check=check,
        )  # fmt: skip
        return json.loads(done.stdout) if check == 0 else done.stderr


def everything_stored(service: Service, backup: Path) -> bytes:
    """Return every byte of database and objects, and of a fresh backup of the database."""
    with sqlite3.connect(service.data / "amana.db") as source, sqlite3.connect(backup) as target:
        source.backup(target)
    files = [backup, *(path for path in service.data.rglob("*") if path.is_file())]
    return b"".join(path.read_bytes() for path in files)


def grants_in(service: Service, case: str) -> list[bytes]:
    with sqlite3.connect(f"file:{service.data}/amana.db?mode=ro", uri=True) as database:
        rows = database.execute('SELECT sealed FROM grants WHERE "case" = ?', (case,)).fetchall()
        parts = database.execute(
            'SELECT manifest, account, policy FROM testimonies WHERE "case" = ?', (case,)
        ).fetchall()
    return [bytes(value) for row in (*rows, *parts) for value in row]


def test_a_witness_changes_their_mind_with_the_codename_alone(
    tmp_path: Path, stores: dict[str, str]
) -> None:
    with running_service(tmp_path, stores) as service:
        demo = tmp_path / "demo"
        reader, _ = make_demo(service, demo)["chemical"]
        phone = Phone(service, demo, tmp_path)
        file = tmp_path / "codename"
        first = phone.send("--codename-file", file)
        second = phone.send("--codename-file", file, "--consent", "iiim=allow")
        digits = first["codename_digits"]
        staff = (
            *phone.way, "--key", demo / "reviewers" / f"{reader}.key", "--json"
        )  # fmt: skip
        amana("reviewer", "open", first["case"], "--out", tmp_path / "out", *staff)

        told = phone.ask("status", digits)["testimonies"]
        assert [one["case"] for one in told] == [first["case"], second["case"]]
        assert [one["reader"] for one in told[0]["opened"]] == [reader]
        assert told[1]["consent"]["scopes"] == {"iiim": "allow", "review": "allow"}

        changed = phone.ask(
            "consent", digits, second["case"], "--scope", "iiim=deny", "--scope", "opcw=allow"
        )["changed"]
        [one] = changed
        assert one["consent"]["scopes"] == {"iiim": "deny", "opcw": "deny", "review": "allow"}
        assert one["consent"]["asked_for"]["scopes"]["opcw"] == "allow"

        refused = phone.ask("withdraw", digits, first["case"], check=2)
        assert "not-confirmed" in refused
        withdrawn = phone.ask("withdraw", digits, first["case"], "--yes")
        assert withdrawn["withdrawn"] == [first["case"]]
        assert [one["what"] for one in withdrawn["cannot_be_recalled"]] == ["opened", "backups"]
        assert withdrawn["cannot_be_recalled"][0]["by"] == reader
        stopped = amana(
            "reviewer", "open", first["case"], "--out", tmp_path / "again", *staff, check=1
        )
        assert "case-withdrawn" in stopped.stderr
        listed = amana("reviewer", "cases", *staff)
        assert json.loads(listed.stdout)["withdrawn"][0]["case"] == first["case"]
        assert f"Withdrawn by its witness on {told[0]['opened'][0]['day']}" in listed.stderr
        assert phone.ask("withdraw", digits, first["case"], "--take-back") == {
            "taken_back": [first["case"]]
        }
        amana("reviewer", "open", first["case"], "--out", tmp_path / "again", *staff)

        assert "case-not-yours" in phone.ask("withdraw", digits, "a" * 32, "--yes", check=2)
        assert "nothing-to-change" in phone.ask("consent", digits, check=2)
        other = amana("witness", "send", *phone.way, "--desk", "chemical", "--language", "ar",
                      "--text", SAMPLES / "testimony.ar.txt", "--json")  # fmt: skip
        stranger = json.loads(other.stdout)
        assert [
            one["case"] for one in phone.ask("status", stranger["codename_digits"])["testimonies"]
        ] == [stranger["case"]]
        maintained = json.loads(
            amana("maintain", "--data", service.data, "--json", env=service.env).stdout
        )
        assert maintained["done"]["statements_kept"] == 3
        assert maintained["done"]["cases_destroyed"] == 0


def test_a_withdrawal_is_signed_without_a_network_and_delivered_by_somebody_else(
    tmp_path: Path,
) -> None:
    with running_service(tmp_path) as service:
        demo = tmp_path / "demo"
        make_demo(service, demo)
        phone = Phone(service, demo, tmp_path)
        sent = phone.send()
        queue = tmp_path / "queue"
        offline = ("witness", "withdraw", "--offline", queue, "--root", phone.root, "--json")
        typed = phone.codename(sent["codename_digits"])
        nowhere = ("--server", "http://127.0.0.1:9", "--codename-file", typed)
        assert json.loads(amana(*offline, *nowhere).stdout) == {"queued": 3}
        assert queue.stat().st_mode & 0o777 == 0o600
        assert "file-exists" in amana(*offline, *nowhere, check=2).stderr
        deliver = ("witness", "deliver", queue, "--longest-pause", "0", "--attempts", "1", "--json")
        root = ("--root", phone.root)
        amana(*deliver, *root, "--server", "http://127.0.0.1:9", check=4)
        assert queue.exists()
        delivered = json.loads(amana(*deliver, *phone.way).stdout)
        assert delivered == {"withdrawn": [sent["case"]], "unknown": 2, "refused": []}
        assert not queue.exists()
        [told] = phone.ask("status", sent["codename_digits"])["testimonies"]
        assert told["state"] == "withdrawn"
        amana(*offline, *nowhere)
        phone.ask("withdraw", sent["codename_digits"], "--take-back")
        refused = amana(*deliver, *phone.way, check=1)
        assert json.loads(refused.stdout)["refused"] == ["control-order"]
        queue.write_text("{}")
        assert "queue-file" in amana(*deliver, *phone.way, check=2).stderr


def test_a_withdrawal_ends_a_running_download_and_leaves_nothing_that_opens_the_case(
    tmp_path: Path,
) -> None:
    film = tmp_path / "film.bin"
    film.write_bytes(bytes(range(256)) * (FILM_BYTES // 256))
    with running_service(tmp_path) as service:
        demo = tmp_path / "demo"
        reader, _ = make_demo(service, demo)["chemical"]
        phone = Phone(service, demo, tmp_path)
        sent = phone.send("--withdrawal-delay", "0", "--keep-metadata", film)
        case = sent["case"]
        key = ("--root", phone.root, "--key", demo / "reviewers" / f"{reader}.key", "--json")
        sealed = grants_in(service, case)
        objects = [path for path in (service.data / "objects").glob("??/**/*") if path.is_file()]
        sealed += [path.read_bytes()[-4096:] for path in objects]
        assert len(sealed) >= 5
        before = everything_stored(service, tmp_path / "before")
        assert all(one[-500:] in before for one in sealed), "the search finds what is there"

        with relay_to(service.url) as line:
            ended: list[Any] = []

            def download() -> None:
                far = ("--out", tmp_path / "out", "--server", f"http://127.0.0.1:{line.port}")
                ended.append(amana("reviewer", "open", case, *far, *key, check=None))

            # The reader's line stands still in the middle of the film, and goes on after the withdrawal.
            line.hold_after = FILM_BYTES // 4
            thread = threading.Thread(target=download)
            thread.start()
            assert line.held.wait(timeout=60)
            withdrawn = phone.ask("withdraw", sent["codename_digits"], "--yes")
            line.let_go()
            thread.join(timeout=120)
        assert withdrawn["withdrawn"] == [case]
        assert ended[0].returncode == 1, ended[0].stderr
        assert "case-withdrawn" in ended[0].stderr or "not-found" in ended[0].stderr
        assert not (tmp_path / "out" / "film.bin").exists()

        def destroyed_on() -> Any:
            [told] = phone.ask("status", sent["codename_digits"])["testimonies"]
            return told["withdrawal"]["destroyed_on"]

        wait_until(destroyed_on, "the case to be destroyed")
        left = everything_stored(service, tmp_path / "after")
        assert case.encode() in left, "the tombstone stays"
        assert [one for one in sealed if one[-500:] in left] == []
