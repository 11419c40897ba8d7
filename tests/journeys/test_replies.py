"""A witness is asked back and answers from a new phone with the codename alone; readers see one thread."""

import json
from pathlib import Path
from typing import Any

from tests.journeys.test_review import Desk
from tests.journeys.test_withdrawal import Phone
from tests.support.server import Service, amana, make_demo, running_service

QUESTION = "هل كان أحد معك؟ Was anybody with you, and which way did the wind blow?"
ANSWER = "كنا ثلاثة. الريح من الغرب."
MAY_ASK = ("--consent", "contact=allow")


def publish(service: Service) -> dict[str, int]:
    done = amana(
        "maintain", "--data", service.data, "--publish-drop", "--json", env=service.env
    ).stdout
    counted: dict[str, int] = json.loads(done)["done"]
    return counted


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_witness_is_asked_back_and_answers_from_a_new_phone(
    tmp_path: Path, stores: dict[str, str]
) -> None:
    with running_service(tmp_path, stores) as service:
        demo = tmp_path / "demo"
        desk = Desk(service, demo, make_demo(service, demo)["chemical"])
        reader, colleague = desk.readers
        phone = Phone(service, demo, tmp_path)
        sent = phone.send("--codename-file", tmp_path / "codename", *MAY_ASK)
        case, digits = sent["case"], sent["codename_digits"]
        question = written(tmp_path / "question.txt", QUESTION)
        opened = tmp_path / "cases"

        # Before anything was published there is nothing, and nobody who does not have the case may ask.
        assert phone.ask("replies", digits)["replies"] == []
        desk.reader(reader, "open", case, "--out", opened / "first")
        ask = ("ask", case, "--text", question, "--reason", "The account names nobody.")
        _, refused = desk.reader(colleague, *ask, check=1)
        assert "not-assigned" in refused
        _, refused = desk.reader(reader, *ask[:-1], " ", check=2)
        assert "reason-missing" in refused
        assert desk.reader(reader, *ask)[0] == {"asked": case, "left": 4}
        [listed] = desk.reader(reader, "cases")[0]["cases"]
        assert listed["state"] == "waiting"

        assert publish(service)["drop_shards_published"] == 1
        today = phone.ask("status", digits)["testimonies"][0]["asked"]
        found = phone.ask("replies", digits)
        assert found == {
            "replies": [
                {"case": case, "text": QUESTION, "sent_on": today[0], "verified": True},
            ],
            "incomplete": 0,
            "unreadable": 0,
        }
        shown = amana(
            "witness", "replies", "--codename-file", phone.codename(digits), *phone.way,
            "--longest-pause", "0",
        ).stdout  # fmt: skip
        assert QUESTION in shown
        assert "NOT VERIFIED" not in shown

        # The answer, from a phone that knows nothing but the codename.
        answer = written(tmp_path / "answer.txt", ANSWER)
        more = phone.ask("add", digits, "--text", answer)
        assert more["case"] != case
        again = phone.ask("add", digits, "--text", answer, "--to", more["case"], *MAY_ASK)
        phone.ask("add", digits, "--text", answer, "--to", "a" * 32, check=2)
        told = phone.ask("status", digits)["testimonies"]
        assert [one["case"] for one in told] == [case, more["case"], again["case"]]

        seen, warned = desk.reader(reader, "open", more["case"], "--out", opened / "second")
        assert (seen["adds_to"], seen["same_codename"]) == (case, [case])
        assert "codename can be forced out" in warned
        account = json.loads((opened / "second" / "account.json").read_bytes())
        assert (account["text"], account["language"]) == (ANSWER, "ar")
        seen, _ = desk.reader(reader, "open", again["case"], "--out", opened / "third")
        assert (seen["adds_to"], seen["same_codename"]) == (
            more["case"],
            sorted([case, more["case"]]),
        )

        # The case goes on, is decided, and taken up again.
        assert desk.reader(reader, "resume", case)[0] == {"resumed": case}
        _, refused = desk.reader(reader, "resume", case, check=1)
        assert "state-forbids" in refused
        desk.reader(reader, "decide", case, "--decision", "accept", "--reason", "whole now")
        _, refused = desk.reader(reader, *ask, check=1)
        assert "state-forbids" in refused
        desk.reader(reader, "release", case)
        desk.reader(colleague, "claim", case)
        _, refused = desk.reader(colleague, "reopen", case, "--reason", "", check=2)
        assert "reason-missing" in refused
        desk.reader(colleague, "reopen", case, "--reason", "the film is of another day")
        notes = desk.reader(colleague, "notes", case)[0]["notes"]
        assert [one["kind"] for one in notes] == ["question", "decision", "reopening"]
        assert all(one["verified"] for one in notes)
        assert notes[0]["content"]["text"] == QUESTION

        # A withdrawal of one does not touch the others, and says what it cannot reach.
        gone = phone.ask("withdraw", digits, case, "--yes")
        assert gone["withdrawn"] == [case]
        assert {one["what"] for one in gone["cannot_be_recalled"]} == {
            "opened",
            "questions",
            "backups",
        }
        _, refused = desk.reader(colleague, *ask, check=1)
        assert "case-withdrawn" in refused
        states = {one["case"]: one["state"] for one in phone.ask("status", digits)["testimonies"]}
        assert states == {case: "withdrawn", more["case"]: "in-review", again["case"]: "in-review"}
        assert [one["verified"] for one in phone.ask("replies", digits)["replies"]] == [True]
        after = phone.ask("add", digits, "--text", answer)
        seen, _ = desk.reader(reader, "open", after["case"], "--out", opened / "fourth")
        assert seen["adds_to"] == more["case"], "what was withdrawn is not added to unless named"

        # What the server holds of all this is sealed, also what it said of itself.
        stored = b"".join(path.read_bytes() for path in service.data.rglob("*") if path.is_file())
        stored += service.log.read_bytes()
        for word in ("which way did the wind", "الريح", "names nobody", "film is of"):
            assert word.encode() not in stored


def test_whoever_did_not_allow_it_or_is_under_age_is_not_asked(tmp_path: Path) -> None:
    with running_service(tmp_path) as service:
        demo = tmp_path / "demo"
        desk = Desk(service, demo, make_demo(service, demo)["chemical"])
        lead, _ = desk.readers
        question = written(tmp_path / "question.txt", QUESTION)

        def refused(*options: str) -> str:
            case = desk.send(*options)
            desk.reader(lead, "claim", case)
            ask = ("ask", case, "--text", question, "--reason", "because")
            return desk.reader(lead, *ask, check=1)[1]

        assert "consent-denies" in refused()
        assert "consent-asks" in refused("--consent", "contact=ask")
        assert "minor-no-contact" in refused(*MAY_ASK, "--flag", "minor")


def test_the_first_batch_is_published_by_the_first_upkeep_of_a_day(tmp_path: Path) -> None:
    with running_service(tmp_path) as service:
        demo = tmp_path / "demo"
        desk = Desk(service, demo, make_demo(service, demo)["chemical"])

        def maintain(*options: str) -> Any:
            done = amana("maintain", "--data", service.data, *options, "--json", env=service.env)
            return json.loads(done.stdout)["done"]["drop_shards_published"]

        def warned() -> bool:
            done = amana("doctor", "--data", service.data, "--json", env=service.env)
            checks = {one["name"]: one for one in json.loads(done.stdout)["checks"]}
            assert checks["dead drop"]["ok"]
            return bool(checks["dead drop"]["warning"])

        assert warned()
        assert [maintain(), maintain(), maintain("--publish-drop")] == [1, 0, 1]
        assert not warned()
        phone = Phone(service, demo, tmp_path)
        sent = phone.send("--codename-file", tmp_path / "codename", *MAY_ASK)
        question = written(tmp_path / "question.txt", QUESTION)
        desk.reader(desk.readers[0], "claim", sent["case"])
        desk.reader(desk.readers[0], "ask", sent["case"], "--text", question, "--reason", "because")
        # The day's batch is over; the question waits for the next.
        assert maintain() == 0
        assert phone.ask("replies", sent["codename_digits"])["replies"] == []
        assert maintain("--publish-drop") == 1
        [reply] = phone.ask("replies", sent["codename_digits"])["replies"]
        assert reply["text"] == QUESTION
