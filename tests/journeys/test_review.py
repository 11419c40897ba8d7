"""From queue to decision with the real commands: claimed, written about, handed over, read by a second reader, decided."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amana.protocol.account import vocabulary
from tests.support.server import Service, amana, make_demo, running_service

SAMPLES = Path(__file__).parents[2] / "samples"


@dataclass
class Desk:
    """The readers of a desk at a running service, and its administrator."""

    service: Service
    demo: Path
    readers: list[str]

    def ask(self, key: str, *arguments: str | Path, check: int = 0) -> tuple[dict[str, Any], str]:
        done = amana(
            *arguments, "--server", self.service.url, "--root", self.demo / "root.json",
            "--key", self.demo / key, "--json", check=check,
        )  # fmt: skip
        return (json.loads(done.stdout) if check == 0 else {}), done.stderr

    def reader(
        self, person: str, *arguments: str | Path, check: int = 0
    ) -> tuple[dict[str, Any], str]:
        return self.ask(f"reviewers/{person}.key", "reviewer", *arguments, check=check)

    def send(self, *arguments: str | Path) -> str:
        sent = amana(
            "witness", "send", "--server", self.service.url, "--root", self.demo / "root.json",
            "--desk", "chemical", "--language", "ar", "--text", SAMPLES / "testimony.ar.txt",
            *arguments, "--json",
        )  # fmt: skip
        case: str = json.loads(sent.stdout)["case"]
        return case


def test_a_case_is_worked_on_handed_over_and_decided(
    tmp_path: Path, stores: dict[str, str]
) -> None:
    with running_service(tmp_path, stores) as service:
        demo = tmp_path / "demo"
        desk = Desk(service, demo, make_demo(service, demo)["chemical"])
        lead, reader = desk.readers
        case, other = desk.send(), desk.send()
        text = tmp_path / "note.txt"
        text.write_text("Ask about the wind. اسأل عن الريح", encoding="utf-8")

        _, told = desk.reader(lead, "open", case, "--out", tmp_path / "lead")
        assert "claimed by you" in told
        _, refused = desk.reader(reader, "open", case, "--out", tmp_path / "no", check=1)
        assert "not-assigned" in refused
        assert not (tmp_path / "no").exists()
        _, refused = desk.reader(reader, "claim", case, check=1)
        assert "claimed-already" in refused

        assert desk.reader(lead, "note", case, "--text", text)[0] == {"note": 1}
        desk.reader(lead, "note", case, "--text", text, "--private")
        _, refused = desk.reader(lead, "code", case, "--label", "symptoms=nonsense", check=2)
        assert "label-unknown" in refused
        key = vocabulary("reliability")[0]["key"]
        labels = ("--label", "violation_status=likely", "--label", f"reliability={key}")
        desk.reader(lead, "code", case, *labels)
        desk.reader(lead, "link", case, "--to", other, "--relation", "same-event")

        desk.reader(lead, "hand-over", case, "--to", reader, "--second")
        opened, _ = desk.reader(reader, "open", case, "--out", tmp_path / "second")
        assert "account.json" in opened["files"]
        seen = desk.reader(reader, "notes", case)[0]["notes"]
        assert [(one["kind"], one["author"]) for one in seen] == [
            (kind, lead) for kind in ("note", "coding", "link")
        ]
        assert all(one["verified"] for one in seen)
        assert seen[0]["content"]["text"] == text.read_text("utf-8")
        assert seen[2]["content"]["to"] == other
        assert len(desk.reader(lead, "notes", case)[0]["notes"]) == 4

        decide = ("decide", case, "--decision")
        _, refused = desk.reader(reader, *decide, "accept", "--reason", "I agree", check=1)
        assert "not-assigned" in refused
        _, refused = desk.reader(lead, *decide, "accept", "--reason", " ", check=2)
        assert "reason-missing" in refused
        desk.reader(lead, *decide, "accept", "--reason", "as before", "--of", other, check=2)
        desk.reader(lead, *decide, "duplicate", "--reason", "as before", "--of", other)
        _, refused = desk.reader(lead, *decide, "accept", "--reason", "no", check=1)
        assert "state-forbids" in refused
        counts = desk.reader(lead, "cases", "--counts")[0]["counts"]
        assert counts == {"received": 1, "duplicate": 1}
        [last] = desk.reader(reader, "notes", case)[0]["notes"][3:]
        assert last["content"] == {"decision": "duplicate", "of": other, "text": "as before"}

        # What the server holds of all this is sealed.
        stored = b"".join(path.read_bytes() for path in service.data.rglob("*") if path.is_file())
        assert lead.encode() in stored or stores, "the search looks where nothing is stored"
        assert b"wind" not in stored
        assert "الريح".encode() not in stored


def test_a_flag_of_sexual_violence_leads_to_trained_readers_alone(tmp_path: Path) -> None:
    with running_service(tmp_path) as service:
        demo = tmp_path / "demo"
        desk = Desk(service, demo, make_demo(service, demo)["chemical"])
        lead, reader = desk.readers
        case = desk.send("--flag", "sexual_violence")
        assert desk.reader(reader, "cases")[0]["cases"] == []
        [listed] = desk.reader(lead, "cases")[0]["cases"]
        assert (listed["case"], listed["assigned"]) == (case, "offered")
        _, refused = desk.reader(reader, "open", case, "--out", tmp_path / "no", check=1)
        assert "not-found" in refused
        desk.reader(lead, "open", case, "--out", tmp_path / "out")
        _, refused = desk.reader(lead, "hand-over", case, "--to", reader, check=1)
        assert "untrained" in refused
        desk.reader(lead, "recuse", case, "--reason", "other")
        desk.reader(lead, "cases")
        [task] = desk.reader(lead, "routing-tasks")[0]["tasks"]
        assert (task["case"], task["reason"]) == (case, "nobody-may")

        [administrator] = list((demo / "administrators").glob("*.key"))[:1]
        admin = f"administrators/{administrator.name}"
        tried, _ = desk.ask(
            admin, "admin", "rules", "try", "--desk", "chemical", "--flag", "sexual_violence"
        )
        assert tried["reader"] == lead
        assert tried["verdicts"][reader] == "untrained"
        rules = desk.ask(admin, "admin", "rules", "show")[0]["rules"]
        file = tmp_path / "rules.json"
        file.write_text(json.dumps({**rules, "cap_per_day": 3}))
        assert desk.ask(admin, "admin", "rules", "set", file)[0] == {"version": 1}
        file.write_text(json.dumps({**rules, "claim_days": 0, "duty": {"x": [9]}}))
        _, refused = desk.ask(admin, "admin", "rules", "set", file, check=2)
        assert "rules-invalid" in refused
        assert "claim_days, duty" in refused
        file.write_text("[]")
        _, refused = desk.ask(admin, "admin", "rules", "set", file, check=2)
        assert "rules-invalid" in refused
