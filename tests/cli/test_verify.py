"""`amana verify receipt` says what it checked, and needs nothing but the root."""

import json
from pathlib import Path
from typing import Any

import pytest

from amana.protocol.signing import SigningKey
from tests.support.server import Service, amana


@pytest.fixture(scope="module")
def sent(service: Service, root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    text = tmp_path_factory.mktemp("text") / "text"
    text.write_text("synthetic")
    done = amana(
        "witness", "send", "--server", service.url, "--root", root, "--desk", "general",
        "--language", "en", "--text", text, "--json",
    )  # fmt: skip
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def verify(content: object, folder: Path, root: Path, status: int) -> dict[str, Any]:
    path = folder / "receipt.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    done = amana("verify", "receipt", path, "--root", root, "--json", check=status)
    document: dict[str, Any] = json.loads(done.stdout)
    assert document["verified"] is (status == 0)
    assert all(check.keys() == {"name", "ok", "detail"} for check in document["checks"])
    return document


def failed(document: dict[str, Any]) -> list[str]:
    return [check["name"] for check in document["checks"] if check["ok"] is False]


def test_a_receipt_verifies_alone_and_in_what_send_printed(
    sent: dict[str, Any], root: Path, tmp_path: Path
) -> None:
    alone = verify(sent["receipt"], tmp_path, root, 0)
    shown = dict.fromkeys(("root", "form", "signature", "deployment", "event"), True)
    assert {check["name"]: check["ok"] for check in alone["checks"]} == shown
    assert [one["name"] for one in alone["not_checked"]] == ["inclusion"]
    with_proof = verify(sent, tmp_path, root, 0)
    shown = {check["name"]: check["ok"] for check in with_proof["checks"]}
    assert shown["inclusion"]
    assert [one["name"] for one in with_proof["not_checked"]] == ["cosigned"]


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"received_on": "2013-08-21"}, "signature"),
        ({"case": "a" * 32}, "signature"),
        ({"more": 1}, "form"),
        ({"sig": None}, "form"),
    ],
)
def test_a_changed_receipt_does_not_verify(
    sent: dict[str, Any], root: Path, tmp_path: Path, changes: dict[str, Any], check: str
) -> None:
    assert failed(verify({**sent["receipt"], **changes}, tmp_path, root, 3)) == [check]


@pytest.mark.parametrize("content", ["", "[]", "null", "[" * 50_000, '{"receipt": {}}', "\x00"])
def test_something_else_is_no_receipt(root: Path, tmp_path: Path, content: str) -> None:
    assert failed(verify(content, tmp_path, root, 3)) == ["form"]


def test_what_is_no_receipt_is_told_in_json_though_a_server_was_named(
    service: Service, root: Path, tmp_path: Path
) -> None:
    path = tmp_path / "t.txt"
    path.write_text("no receipt")
    given = ("verify", "receipt", path, "--root", root, "--json", "--server")
    document = json.loads(amana(*given, service.url, check=3).stdout)
    assert (document["verified"], failed(document)) == (False, ["form"])


def test_a_page_that_cannot_be_written_is_refused_before_anything_is_checked(
    root: Path, tmp_path: Path
) -> None:
    custody, taken = tmp_path / "custody.json", tmp_path / "taken"
    custody.write_text("{}")
    taken.write_text("of somebody")
    for page, slug in ((tmp_path / "none" / "x", "file-unusable"), (taken, "file-exists")):
        done = amana("verify", "custody", custody, "--root", root, "--html", page, check=2)
        assert done.stderr.startswith(f"{slug}: ")
        assert done.stdout == ""
    assert taken.read_text() == "of somebody"
    page = tmp_path / "page"
    amana("verify", "custody", custody, "--root", root, "--html", page, check=3)
    assert not page.exists()


def test_a_root_that_was_changed_is_not_trusted(
    sent: dict[str, Any], root: Path, tmp_path: Path
) -> None:
    document = json.loads(root.read_bytes())
    document["signed"]["x-amana"]["custody_log"]["key"] = SigningKey.generate().public
    changed = tmp_path / "root.json"
    changed.write_text(json.dumps(document))
    assert failed(verify(sent["receipt"], tmp_path, changed, 3)) == ["root"]


def test_a_person_reads_the_checks_line_by_line(
    sent: dict[str, Any], root: Path, tmp_path: Path
) -> None:
    path = tmp_path / "receipt.json"
    path.write_text(json.dumps(sent["receipt"]))
    done = amana("verify", "receipt", path, "--root", root)
    lines = done.stdout.splitlines()
    assert [line[:5] for line in lines] == [*["ok   "] * 5, "-    "]
    assert sent["case"] in lines[-2]
    assert "inclusion: not shown" in lines[-1]


def test_a_file_that_is_not_there_is_wrong_usage(root: Path, tmp_path: Path) -> None:
    amana("verify", "receipt", tmp_path / "none", "--root", root, check=2)
