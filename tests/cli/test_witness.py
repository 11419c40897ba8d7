"""`amana witness` from the outside: what it prints, how it ends, and what it leaves behind."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from amana.protocol.codename import Codename, word_list
from tests.support.attachments import jpeg
from tests.support.cutting_proxy import End, cutting_proxy
from tests.support.server import AMANA, Service, amana, make_demo, running_service, wait_until
from tests.support.socks import socks_server

TEXT = "شهادة تجريبية، للاختبار فقط."


class Home:
    """A witness's device: a folder with the text, an attachment, and a place for temporary files."""

    def __init__(self, folder: Path, url: str, root: Path) -> None:
        self.folder, self.url, self.root = folder, url, root
        self.text, self.film = folder / "text", folder / "film"
        self.text.write_text(TEXT, encoding="utf-8")
        self.film.write_bytes(os.urandom(3_000_000))
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self.state = folder / "state"

    def arguments(self, *more: str | Path, url: str | None = None) -> list[str | Path]:
        return [
            "witness", "send", "--server", url or self.url, "--root", self.root,
            "--desk", "chemical", "--language", "ar", "--text", self.text, *more,
        ]  # fmt: skip

    @property
    def env(self) -> dict[str, str]:
        return {"TMPDIR": str(self.temporary)}

    def send(
        self, *more: str | Path, url: str | None = None, check: int = 0
    ) -> "subprocess.CompletedProcess[str]":
        return amana(*self.arguments(*more, url=url), env=self.env, check=check)

    def left(self) -> set[str]:
        """Return what lies here that the witness did not put here."""
        there = {path.name for path in self.folder.iterdir()} - {"text", "film", "tmp"}
        return there | {f"tmp/{path.name}" for path in self.temporary.iterdir()}


@pytest.fixture
def home(tmp_path: Path, service: Service, root: Path) -> Home:
    return Home(tmp_path, service.url, root)


def one_object(text: str) -> dict[str, Any]:
    document = json.loads(text)
    assert isinstance(document, dict)
    return document


def test_json_is_one_object_and_nothing_else(home: Home) -> None:
    done = home.send("--keep-metadata", home.film, "--json")
    sent = one_object(done.stdout)
    assert done.stderr == ""
    assert sent.keys() == {"case", "codename", "codename_digits", "receipt", "proof"}
    assert sent["receipt"]["case"] == sent["case"]
    assert set(sent["codename"].split()) <= set(word_list("ar"))
    assert Codename.parse(sent["codename"]) == Codename.parse(sent["codename_digits"])
    assert len(sent["codename_digits"].replace(" ", "")) == 30
    assert len(sent["receipt"]["event"]["objects"]) == 2
    assert home.left() == set()


def test_a_person_sees_the_codename_and_the_consent_text_on_the_terminal_only(home: Home) -> None:
    done = home.send("--receipt-file", home.folder / "receipt")
    assert "Your codename" in done.stderr
    assert "تجريبي" in done.stderr
    shown = [line.split() for line in done.stderr.splitlines()]
    assert any(len(line) == 8 and set(line) <= set(word_list("ar")) for line in shown)
    assert "Your codename" not in done.stdout
    assert "has arrived" in done.stdout
    amana("verify", "receipt", home.folder / "receipt", "--root", home.root)
    # The proof is there if the log was in time.
    assert {"receipt"} <= home.left() <= {"receipt", "receipt.tlog-proof"}
    for name in home.left():
        assert (home.folder / name).stat().st_mode & 0o777 == 0o600


def test_a_receipt_takes_the_place_of_no_other_file(home: Home) -> None:
    receipt, proof = home.folder / "receipt", home.folder / "receipt.tlog-proof"
    for taken in (receipt, proof):
        taken.write_text("something else")
        done = home.send("--receipt-file", receipt, check=2)
        assert done.stderr.startswith("file-exists: ")
        assert taken.read_text() == "something else"
        assert home.left() == {taken.name}
        taken.unlink()


def test_a_codename_file_is_written_once_and_used_again(home: Home) -> None:
    path = home.folder / "codename"
    first = one_object(home.send("--codename-file", path, "--json").stdout)
    assert path.stat().st_mode & 0o777 == 0o600
    second = one_object(home.send("--codename-file", path, "--json").stdout)
    assert first["codename"] == second["codename"]
    assert first["case"] != second["case"]
    assert json.loads(path.read_text()) == {"codename": first["codename_digits"], "next": 2}


def test_a_number_used_before_is_refused_by_the_server_and_not_offered_again(home: Home) -> None:
    path = home.folder / "codename"
    home.send("--codename-file", path)
    path.write_text(json.dumps({**json.loads(path.read_text()), "next": 0}))
    done = home.send("--codename-file", path, "--json", check=1)
    assert done.stdout == ""
    assert done.stderr.startswith("case-known: ")
    assert home.left() == {"codename"}
    home.send("--codename-file", path)
    assert json.loads(path.read_text())["next"] == 2


def test_what_could_not_be_sealed_uses_no_number_and_leaves_no_codename(home: Home) -> None:
    path = home.folder / "codename"
    assert home.send("--codename-file", path, "--desk", "none", check=2).stderr
    assert home.left() == set()
    home.send("--codename-file", path)
    home.send("--codename-file", path, "--desk", "none", check=2)
    assert json.loads(path.read_text())["next"] == 1


def test_a_structured_account_need_not_be_canonical(home: Home) -> None:
    account = home.folder / "tmp" / "account.json"
    account.write_text(json.dumps({"v": 1, "text": TEXT, "language": "ar"}, indent=4))
    arguments = [account if one == home.text else one for one in home.arguments("--json")]
    arguments[arguments.index("--text")] = "--account"
    assert one_object(amana(*arguments).stdout)["receipt"]
    account.write_text(json.dumps({"v": 1, "text": TEXT, "language": "ar", "agent": "sarin"}))
    assert amana(*arguments, check=2).stderr.startswith("account-invalid: ")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--account", "{text}"],
        ["--consent", "everything=allow"],
        ["--consent", "review=perhaps"],
        ["--consent", "review"],
        ["--flag", "famous"],
        ["--identity-level", "nobody"],
        ["--identity", "{film}"],
        ["--identity", "{text}"],
        ["--identity", "{folder}/none"],
        ["--withdrawal-delay", "3"],
        ["--attach", "{film}"],
        ["--attach", "{folder}/none"],
        ["--desk", "nowhere"],
        ["--consent-text", "none"],
        ["--language", "kmr"],
        ["--server", "http://amana.example"],
        ["--proxy", "http://127.0.0.1:1"],
        ["--text", "{film}"],
        ["--codename-file", "{text}"],
    ],
    ids=" ".join,
)
def test_wrong_usage_sends_nothing_and_leaves_nothing(home: Home, arguments: list[str]) -> None:
    places = {"text": home.text, "film": home.film, "folder": home.folder}
    state = ["--state", str(home.state)]
    done = home.send(*(one.format(**places) for one in arguments), *state, "--json", check=2)
    assert done.stdout == ""
    assert done.stderr
    assert home.left() == set()


def test_a_root_of_somebody_else_ends_before_anything_is_sealed(home: Home) -> None:
    document = json.loads(home.root.read_bytes())
    document["signed"]["x-amana"]["deployment"] = "another"
    home.root = home.folder / "tmp" / "root.json"
    home.root.write_text(json.dumps(document))
    done = home.send("--state", home.state, "--json", check=3)
    assert done.stderr.startswith("root-invalid: ")
    assert home.left() == {"tmp/root.json"}


def test_without_a_network_nothing_is_sealed(home: Home) -> None:
    done = home.send("--attempts", "1", "--json", url="http://127.0.0.1:9", check=4)
    assert done.stdout == ""
    assert done.stderr.startswith("network: ")
    assert home.left() == set()


@pytest.mark.parametrize("named", [True, False], ids=["--state", "no --state"])
def test_a_cut_sending_says_how_to_go_on_and_then_leaves_nothing(home: Home, named: bool) -> None:
    cuts = [(1_000_000, End.RST), *[(1, End.FIN)] * 20]
    state = ["--state", home.state] if named else []
    with cutting_proxy(home.url, cuts) as proxy:
        done = home.send(
            "--keep-metadata", home.film, *state, "--attempts", "2", "--json", url=proxy.url, check=4
        )  # fmt: skip
    unfinished = one_object(done.stdout)
    assert unfinished.keys() == {"case", "codename", "codename_digits", "state"}
    assert "bytes arrived" in done.stderr
    assert f"amana witness resume {unfinished['state']}" in done.stderr

    again = home.send("--state", unfinished["state"], "--json", check=2)
    assert again.stderr.startswith("state-exists: ")

    resumed = amana(
        "witness", "resume", unfinished["state"], "--server", home.url, "--root", home.root, "--json",
        env=home.env,
    )  # fmt: skip
    finished = one_object(resumed.stdout)
    assert finished.keys() == {"case", "receipt", "proof"}
    assert finished["case"] == unfinished["case"] == finished["receipt"]["case"]
    assert home.left() == set()


def who(home: Home, fields: object) -> Path:
    path = home.folder / "tmp" / "who.json"
    path.write_text(json.dumps(fields, ensure_ascii=False, indent=1), encoding="utf-8")
    return path


def test_a_cut_sending_with_an_identity_and_an_original_is_resumed(home: Home) -> None:
    name = "[SYNTHETIC] سناء التجريبية"
    photo = home.folder / "tmp" / "photo.jpg"
    jpeg(photo)
    identity = who(home, {"name": name})
    cuts = [(180_000, End.RST), *[(1, End.FIN)] * 20]
    with cutting_proxy(home.url, cuts) as proxy:
        done = home.send(
            "--attach", photo, "--identity", identity, "--state", home.state, "--attempts", "1", "--json",
            url=proxy.url, check=4,
        )  # fmt: skip
    kept = [home.state, *(home.folder / "state.d").iterdir()]
    assert len(kept) == 4, "the state, and three sealed objects"
    for path in kept:
        assert name.encode() not in path.read_bytes()
        assert photo.read_bytes()[:100] not in path.read_bytes()
    resumed = amana("witness", "resume", home.state, "--server", home.url, "--json")
    finished = one_object(resumed.stdout)
    assert finished["case"] == one_object(done.stdout)["case"]
    event = finished["receipt"]["event"]
    assert [one["vault"] for one in event["shares"]] == ["identity", "originals"]
    assert [len(one["sha256"]) for one in event["shares"]] == [6, 6]
    assert [one["objects"] for one in event["shares"]] == [[2], [3]]
    assert home.left() == {"tmp/photo.jpg", "tmp/who.json"}


def test_an_identity_out_of_its_form_is_refused_without_a_word_of_it(home: Home) -> None:
    for fields in ({}, {"name": ""}, {"secret_field": "سناء"}, ["سناء"], {"name": 1}):
        done = home.send("--identity", who(home, fields), "--json", check=2)
        assert done.stderr.startswith("identity-invalid: ")
        assert "سناء" not in done.stderr
    assert home.left() == {"tmp/who.json"}


def test_whoever_stays_anonymous_is_told_that_nobody_may_learn_who_they_are(home: Home) -> None:
    identity = who(home, {"name": "x"})
    assert "You allow nobody" in home.send("--identity", identity).stderr
    told = home.send("--identity", identity, "--identity-level", "prosecutors").stderr
    assert "You allow nobody" not in told
    photo = home.folder / "tmp" / "photo.jpg"
    jpeg(photo)
    sent = one_object(home.send("--attach", photo, "--no-originals", "--json").stdout)
    assert sent["receipt"]["event"]["shares"] == []


def test_a_state_of_another_service_is_not_sent_to_this_one(home: Home, tmp_path: Path) -> None:
    cuts = [(1_000_000, End.RST), *[(1, End.FIN)] * 20]
    with cutting_proxy(home.url, cuts) as proxy:
        home.send(
            "--keep-metadata", home.film, "--state", home.state, "--attempts", "1", url=proxy.url,
            check=4,
        )  # fmt: skip
    other = tmp_path / "other"
    amana("demo", "--data", other / "data", "--out", other / "demo")
    done = amana(
        "witness", "resume", home.state, "--root", other / "demo" / "root.json", check=2
    )  # fmt: skip
    assert done.stderr.startswith("other-root: ")
    assert home.state.exists()


def test_what_is_no_state_is_not_resumed(home: Home) -> None:
    assert amana("witness", "resume", home.text, check=2).stderr.startswith("bad-state: ")
    assert amana("witness", "resume", home.state, check=2).stderr.startswith("no-state: ")


def test_everything_goes_through_the_proxy_also_on_resuming(home: Home) -> None:
    host, port = home.url.removeprefix("http://").split(":")
    cuts = [(1_000_000, End.FIN), *[(1, End.FIN)] * 20]
    with cutting_proxy(home.url, cuts) as cutting:
        places = {"aaaa.onion": ("127.0.0.1", cutting.port)}
        with socks_server(places) as proxy:
            home.send(
                "--keep-metadata", home.film, "--state", home.state, "--proxy", proxy.url,
                "--attempts", "1", url="http://aaaa.onion", check=4,
            )  # fmt: skip
            proxy.places = {"aaaa.onion": (host, int(port))}
            before = len(proxy.asked)
            amana("witness", "resume", home.state)
    assert before > 0
    assert len(proxy.asked) > before
    assert set(proxy.asked) == {("aaaa.onion", 80)}
    assert home.left() == set()


@pytest.fixture(scope="module")
def dear_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service whose price takes hours to pay."""
    folder = tmp_path_factory.mktemp("dear")
    with running_service(folder, {"AMANA_ADMISSION_PRICE": "24"}) as running:
        make_demo(running, folder / "demo")
        yield running


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_an_interrupted_sending_keeps_its_state_and_the_codename(
    tmp_path: Path, dear_service: Service, number: signal.Signals
) -> None:
    home = Home(tmp_path, dear_service.url, dear_service.folder / "demo" / "root.json")
    process = subprocess.Popen(
        [*AMANA, *map(str, home.arguments("--state", home.state, "--json"))],
        env={**os.environ, **home.env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until(home.state.exists, "the state")
        process.send_signal(number)
        printed, said = process.communicate(timeout=60)
    finally:
        # It would go on paying for hours.
        process.kill()
    assert process.returncode == 4
    assert said.startswith("interrupted: ")
    assert one_object(printed)["state"] == str(home.state)
    assert len(one_object(printed)["codename"].split()) == 8
    assert home.left() == {"state", "state.d"}
