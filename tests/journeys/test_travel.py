"""A testimony travels from a witness to a reviewer, over every pair of stores, through the real commands."""

import json
from pathlib import Path
from typing import Any

from tests.support.server import Service, amana, make_demo, running_service

SAMPLES = Path(__file__).parents[2] / "samples"
SAMPLE_FILES = [SAMPLES / name for name in ("photo.jpg", "voice.ogg", "video.mp4")]


def send(service: Service, root: Path, *arguments: str | Path, check: int = 0) -> dict[str, Any]:
    done = amana(
        "witness", "send", "--server", service.url, "--root", root, "--desk", "chemical",
        "--language", "ar", "--text", SAMPLES / "testimony.ar.txt", *arguments, "--json", check=check,
    )  # fmt: skip
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def open_case(
    service: Service, demo: Path, reviewer: str, case: str, out: Path, check: int = 0
) -> str:
    done = amana(
        "reviewer", "open", case, "--out", out, "--server", service.url, "--root", demo / "root.json",
        "--key", demo / "reviewers" / f"{reviewer}.key", "--json", check=check,
    )  # fmt: skip
    return done.stderr


def test_the_sample_travels_end_to_end(tmp_path: Path, stores: dict[str, str]) -> None:
    with running_service(tmp_path, stores) as service:
        demo, out = tmp_path / "demo", tmp_path / "out"
        desks = make_demo(service, demo)
        sent = send(
            service, demo / "root.json", *(x for f in SAMPLE_FILES for x in ("--attach", f))
        )
        assert len(sent["codename"].split()) == 8

        receipt = tmp_path / "receipt.json"
        receipt.write_text(json.dumps(sent["receipt"]))
        verified = amana("verify", "receipt", receipt, "--root", demo / "root.json", "--json")
        assert json.loads(verified.stdout)["verified"] is True

        reviewer = desks["chemical"][0]
        cases = amana(
            "reviewer", "cases", "--server", service.url, "--root", demo / "root.json",
            "--key", demo / "reviewers" / f"{reviewer}.key", "--json",
        )  # fmt: skip
        [listed] = json.loads(cases.stdout)["cases"]
        assert listed["case"] == sent["case"]
        assert listed["desk"] == "chemical"
        # The account, three cleaned files, and in the vault the three originals, which are not given out with the case.
        assert listed["objects"] == 7

        open_case(service, demo, reviewer, sent["case"], out)
        account = json.loads((out / "account.json").read_text("utf-8"))
        assert account["text"].strip() == (SAMPLES / "testimony.ar.txt").read_text("utf-8").strip()
        names = {path.name for path in out.iterdir()}
        assert names == {"account.json", "manifest.json", "photo.jpg", "voice.ogg", "video.mp4"}
        for name in ("photo.jpg", "voice.ogg", "video.mp4"):
            assert (out / name).stat().st_size > 1000

        other_desk = next(ids for desk, ids in desks.items() if desk != "chemical")
        outsider = next(one for one in other_desk if one not in desks["chemical"])
        refused = open_case(service, demo, outsider, sent["case"], tmp_path / "none", check=1)
        assert "not-found" in refused
        assert not (tmp_path / "none" / "account.json").exists()


def test_a_changed_receipt_does_not_verify(tmp_path: Path) -> None:
    with running_service(tmp_path) as service:
        demo = tmp_path / "demo"
        make_demo(service, demo)
        receipt = send(service, demo / "root.json")["receipt"]
        receipt["received_on"] = "2013-08-21"
        path = tmp_path / "receipt.json"
        path.write_text(json.dumps(receipt))
        done = amana("verify", "receipt", path, "--root", demo / "root.json", "--json", check=3)
        assert json.loads(done.stdout)["verified"] is False


def test_nothing_stays_with_the_witness_after_success(
    tmp_path: Path, attachments: list[Path]
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with running_service(tmp_path) as service:
        demo = tmp_path / "demo"
        make_demo(service, demo)
        env = {"HOME": str(home), "TMPDIR": str(home)}
        kept = [x for f in attachments for x in ("--attach", f, "--keep-metadata", f)]
        amana(
            "witness", "send", "--server", service.url, "--root", demo / "root.json",
            "--desk", "chemical", "--language", "ar", "--text", SAMPLES / "testimony.ar.txt",
            *kept, "--state", home / "state", "--json", env=env,
        )  # fmt: skip
    assert list(home.iterdir()) == []
