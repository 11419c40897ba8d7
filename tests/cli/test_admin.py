"""What administrators see at a terminal: whole ids, and nothing that steers it."""

import json
from pathlib import Path

import pytest

from amana.cli.admin import EXPORT_COLUMNS
from amana.cli.custody import show_custody
from amana.cli.tables import harmless, show, show_blocks
from amana.protocol.custody import Custody
from tests.support.decisions import decide
from tests.support.organisation import organisation_in
from tests.support.server import Service, amana


@pytest.fixture
def administrator(service: Service) -> Path:
    return sorted((service.folder / "demo" / "administrators").glob("*.key"))[0]


def test_everybody_is_shown_with_a_whole_id(
    service: Service, root: Path, administrator: Path
) -> None:
    here = ("--server", service.url, "--root", root, "--key", administrator)
    told = json.loads(amana("admin", "people", *here, "--json").stdout)["people"]
    shown = amana("admin", "people", *here, env={"COLUMNS": "80"}).stdout
    assert len(told) == 11
    for person in told:
        assert person["id"] in shown
    assert "administrator" in shown
    assert all(len(line.rstrip()) <= 80 for line in shown.splitlines())


def test_what_makes_no_sense_is_said_before_anything_is_sent(
    service: Service, root: Path, administrator: Path
) -> None:
    here = ("--server", service.url, "--root", root, "--key", administrator)
    done = amana("admin", "suspend", "nobody", "--reason", "x", *here, check=2)
    assert done.stderr.startswith("bad-id: ")
    unknown = amana("admin", "suspend", "a" * 32, "--reason", "x", *here, check=1)
    assert unknown.stderr.startswith("not-found: ")
    amana("admin", "invite", "--role", "officer", *here, check=2)
    amana("admin", "suspend", "a" * 32, *here, check=2)
    # What only the server judges is said by the name of the field.
    day = amana("admin", "record", "--day", "2026-99-99", *here, check=1)
    assert day.stderr == "unprocessable-entity: Unprocessable Entity. (refused: day)\n"


def test_who_waits_is_written_for_its_owner_alone_and_over_nothing(
    service: Service, root: Path, administrator: Path, tmp_path: Path
) -> None:
    here = ("--server", service.url, "--root", root, "--key", administrator)
    out = tmp_path / "pending.json"
    amana("admin", "pending", "--out", out, *here)
    assert out.stat().st_mode & 0o777 == 0o600
    assert json.loads(out.read_text()).keys() == {"enrolments"}
    out.write_text("a key file")
    taken = amana("admin", "pending", "--out", out, *here, check=2)
    assert taken.stderr.startswith("file-exists: ")
    assert out.read_text() == "a key file"
    nowhere = amana("admin", "pending", "--out", out / "below", *here, check=2)
    assert nowhere.stderr.startswith("file-unusable: ")


def test_an_access_review_says_when_one_administrator_is_left(tmp_path: Path) -> None:
    with organisation_in(tmp_path) as organisation, organisation.served() as url:
        first, second = organisation.of_role("administrator")
        root = tmp_path / "demo" / "root.json"
        key = tmp_path / "demo" / "administrators" / f"{first.id}.key"
        review = ("admin", "access-review", "--server", url, "--root", root, "--key", key)
        assert amana(*review).stderr == ""
        by = organisation.as_person(first).sign_in()
        answer = decide(by, "suspend", "suspension", second.id, reason="a lost device")
        assert answer.status_code == 201
        alone = amana(*review)
        assert alone.stderr.startswith("Warning: only one administrator may work.")
        assert alone.stdout == "Nobody's access ends soon.\n"
        told = json.loads(amana(*review, "--json").stdout)
        assert told == {"due": [], "administrators": [first.id]}


@pytest.mark.parametrize("value", ["\x1b[2J", "\u202eabc", "[red]x[/red]", "a\nb", "\x07"])
def test_no_text_of_a_server_steers_the_terminal(
    value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    show({"a": "a"}, [{"a": value}])
    printed = capsys.readouterr().out
    assert not set(printed) & {"\x1b", "\u202e", "\x07"}
    assert harmless(value).isprintable()


EXPORT = {"export": "e" * 32, "case": "c" * 32, "to": "p" * 32, "purpose": "iiim", "fault": None,
    "identity": ["identity", "originals"], "requested_by": "r" * 32, "requested_on": "2026-01-02"}  # fmt: skip


def test_what_a_second_person_must_read_of_an_export_stands_whole_in_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    fault = (
        "The witness's consent does not cover this purpose today, nor any other that is like it."
    )
    show_blocks(EXPORT_COLUMNS, [EXPORT, {**EXPORT, "fault": fault}])
    printed = capsys.readouterr().out
    assert all(len(line) <= 80 for line in printed.splitlines())
    first, second = printed.split("\n\n")
    assert first.splitlines()[2].split() == ["to", "p" * 32]
    assert [line.split()[-1] for line in first.splitlines()] == [
        "e" * 32, "c" * 32, "p" * 32, "iiim", "originals", "r" * 32, "2026-01-02",
    ]  # fmt: skip
    assert fault in " ".join(second.split())


def test_what_happened_with_a_case_stands_whole_in_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    event = {
        "what": "verification-mended", "who": "w" * 32, "when": "2026-01-02 03:04:05",
        "authority": "administrator, reviewer; directory 17", "signature": "nobody-signs", "proof": "logged",
    }  # fmt: skip
    show_custody(Custody("here", "c" * 32, "m" * 32, 1, "2026-01-02", [event, event], {}, {}))
    printed = capsys.readouterr().out
    assert all(len(line) <= 80 for line in printed.splitlines())
    for value in event.values():
        assert printed.count(value) == 2


@pytest.mark.parametrize("value", ["\x1b[2J", "\u202eabc", "\x07", ["\x1b[2J", "\u202e"]])
def test_no_block_steers_the_terminal(value: object, capsys: pytest.CaptureFixture[str]) -> None:
    show_blocks({"a": "a"}, [{"a": value}])
    assert not set(capsys.readouterr().out) & {"\x1b", "\u202e", "\x07"}


def test_numbers_are_numbers_and_answers_are_words() -> None:
    assert [harmless(x) for x in (0, 1, True, False, None, 1.5, {})] == [
        "0",
        "1",
        "yes",
        "no",
        "",
        "",
        "",
    ]
    assert harmless(["b", "a"]) == "b\na"
