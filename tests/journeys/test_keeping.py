"""How long a testimony is kept, with the real commands and a clock that goes on; and what is stored is spoiled and found."""

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
import sqlalchemy as sa
from botocore.config import Config

from tests.support.server import Service, amana, make_demo, running_service

SAMPLES = Path(__file__).parents[2] / "samples"
SHORT = {
    "open_days": 30,
    "set_aside_days": 30,
    "kept_days": 365,
    "unused_days": 30,
    "notice_days": 14,
}


@dataclass(frozen=True)
class Institution:
    """A service, the demonstration organisation's people, and the day on which they act."""

    service: Service
    demo: Path
    lead: str
    reader: str
    days: int = 0

    def on_day(self, days: int) -> "Institution":
        """Return the same so many days later; the service is started again with its clock ahead."""
        self.service.stop()
        self.service.days = days
        self.service.start()
        return replace(self, days=days)

    @property
    def way(self) -> tuple[str | Path, ...]:
        return ("--server", self.service.url, "--root", self.demo / "root.json", "--json")

    def run(self, *arguments: str | Path, check: int = 0) -> tuple[dict[str, Any], str]:
        done = amana(*arguments, *self.way, check=check, days=self.days)
        return (json.loads(done.stdout) if done.stdout else {}), done.stderr

    def reads(
        self, person: str, *arguments: str | Path, check: int = 0
    ) -> tuple[dict[str, Any], str]:
        key = ("--key", self.demo / "reviewers" / f"{person}.key")
        return self.run("reviewer", *arguments, *key, check=check)

    def send(self, *arguments: str | Path) -> dict[str, Any]:
        text = ("--text", SAMPLES / "testimony.ar.txt")
        where = ("--desk", "chemical", "--language", "ar")
        return self.run("witness", "send", *where, *text, *arguments)[0]

    def status(self, codename: Path) -> list[dict[str, Any]]:
        asked = ("--codename-file", codename, "--longest-pause", "0")
        found: list[dict[str, Any]] = self.run("witness", "status", *asked)[0]["testimonies"]
        return found

    def maintain(self, check: int = 0) -> dict[str, Any]:
        done = amana(
            "maintain", "--data", self.service.data, "--json", env=self.service.env,
            check=check, days=self.days,
        )  # fmt: skip
        report: dict[str, Any] = json.loads(done.stdout)
        assert report["failed"] == []
        return report

    def doctor(self, check: int = 0) -> dict[str, Any]:
        env = {**self.service.env, "AMANA_TRUST_ROOT": str(self.demo / "root.json")}
        done = amana("doctor", "--data", self.service.data, "--json", env=env, check=check)
        checks = {one["name"]: one for one in json.loads(done.stdout)["checks"]}
        found: dict[str, Any] = checks["stored parts"]
        return found


def institution(service: Service, demo: Path) -> Institution:
    lead, reader = make_demo(service, demo)["chemical"]
    return Institution(service, demo, lead, reader)


def set_periods(here: Institution, folder: Path) -> None:
    [key, *_] = sorted((here.demo / "administrators").glob("*.key"))
    rules = here.run("admin", "rules", "show", "--key", key)[0]["rules"]
    file = folder / "rules.json"
    file.write_text(json.dumps({**rules, "retention": {**SHORT, "notice_days": 1}}))
    _, refused = here.run("admin", "rules", "set", file, "--key", key, check=2)
    assert "rules-invalid" in refused
    file.write_text(json.dumps({**rules, "retention": SHORT}))
    assert here.run("admin", "rules", "set", file, "--key", key)[0] == {"version": 1}


def test_a_declined_testimony_is_announced_prolonged_or_destroyed(
    tmp_path: Path, database_url: str
) -> None:
    # An object store of its own would not take what is signed on a day to come.
    with running_service(tmp_path, {"AMANA_DATABASE_URL": database_url}) as service:
        here = institution(service, tmp_path / "demo")
        set_periods(here, tmp_path)
        codename = tmp_path / "codename"
        goes, stays, waits = [
            here.send("--codename-file", codename, "--attach", SAMPLES / "video.mp4")["case"]
            for _ in range(3)
        ]
        for case in (goes, stays):
            here.reads(here.lead, "open", case, "--out", tmp_path / case)
            decided = ("--decision", "decline", "--reason", "Synthetic")
            here.reads(here.lead, "decide", case, *decided)
        shown = here.reads(here.reader, "retention", goes)[0]["cases"]
        assert [(one["then"], one["ends_on"]) for one in shown] == [("expire", None)]
        assert here.reads(here.lead, "retention")[0] == {"cases": []}
        assert here.maintain()["done"]["cases_announced_to_expire"] == 0

        here = here.on_day(30)
        report = here.maintain()
        assert report["done"]["cases_announced_to_expire"] == 2
        asked = {one["kind"]: one for one in report["needs_a_person"]}
        assert (asked["cases-expiring"]["count"], asked["cases-expiring"]["about"]) == (
            2,
            [here.lead],
        )
        assert asked["review-days-past"]["count"] == 1
        assert "directory-expiring" not in asked
        listed, told = here.reads(here.lead, "cases")
        assert {one["case"] for one in listed["expiring"]} == {goes, stays}
        assert f"unless a lead prolongs it: {goes}" in told
        found = here.reads(here.lead, "retention")[0]["cases"]
        assert {one["case"]: one["then"] for one in found} == {
            goes: "expire",
            stays: "expire",
            waits: "look",
        }
        day = found[0]["review_on"]
        _, refused = here.reads(
            here.lead, "prolong", stays, "--until", day, "--reason", "other", check=1
        )
        assert "prolong-days" in refused
        until = ("--until", f"{int(day[:4]) + 1}{day[4:8]}01", "--reason", "proceedings")
        _, refused = here.reads(here.reader, "prolong", stays, *until, check=1)
        assert "not-allowed" in refused
        kept = here.reads(here.lead, "prolong", stays, *until)[0]
        assert (kept["review_on"], kept["ends_on"]) == (until[1], None)
        ends = {one["case"]: one["ends_on"] for one in here.status(codename)}
        assert ends[goes] is not None
        assert (ends[stays], ends[waits]) == (None, None)

        here = here.on_day(44)
        report = here.maintain()
        assert (report["done"]["cases_expired"], report["done"]["cases_destroyed"]) == (1, 1)
        asked = {one["kind"]: one for one in report["needs_a_person"]}
        assert (asked["directory-expiring"]["count"], asked["directory-expiring"]["about"]) == (
            1,
            [],
        )
        listed, told = here.reads(here.lead, "cases")
        assert [one["case"] for one in listed["expired"]] == [goes]
        assert "Its time was over" in told
        _, refused = here.reads(here.lead, "open", goes, "--out", tmp_path / "x", check=1)
        assert "not-found" in refused
        here.reads(here.lead, "open", stays, "--out", tmp_path / "again")
        standing = {one["case"]: one for one in here.status(codename)}
        assert (standing[goes]["state"], standing[goes]["consent"]) == ("expired", {})
        assert standing[goes]["expired"]["destroyed_on"] == ends[goes]
        # What is over is passed by, and the rest can still be withdrawn.
        asked_for = ("--codename-file", codename, "--longest-pause", "0", "--yes")
        withdrawn = here.run("witness", "withdraw", *asked_for)[0]["withdrawn"]
        assert set(withdrawn) == {stays, waits}
        assert not list((service.data / "objects").glob(f"*/{goes}"))


def came_yesterday(service: Service) -> None:
    """Set the days back on which objects were checked last."""
    url = service.env.get("AMANA_DATABASE_URL", f"sqlite:///{service.data}/amana.db")
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    with engine.begin() as connection:
        statement = sa.text("UPDATE objects SET checked_on = :day")
        connection.execute(statement, {"day": yesterday.isoformat()})


def spoil(service: Service, key: str) -> bytes:
    """Flip a byte of a stored object behind the service's back; returns what was there."""
    env = service.env
    if "AMANA_S3_BUCKET" not in env:
        path = service.data / "objects" / key[:2] / key
        good = path.read_bytes()
        path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
        return good
    client = bucket_of(env)
    good = client.get_object(Bucket=env["AMANA_S3_BUCKET"], Key=key)["Body"].read()
    bad = good[:-1] + bytes([good[-1] ^ 1])
    client.put_object(Bucket=env["AMANA_S3_BUCKET"], Key=key, Body=bad)
    return bytes(good)


def bucket_of(env: dict[str, str]) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=env["AMANA_S3_ENDPOINT_URL"],
        aws_access_key_id=env["AMANA_S3_ACCESS_KEY"],
        aws_secret_access_key=env["AMANA_S3_SECRET_KEY"],
        region_name=env["AMANA_S3_REGION"],
        config=Config(s3={"addressing_style": "path"}),
    )


def repair(service: Service, key: str, good: bytes) -> None:
    env = service.env
    if "AMANA_S3_BUCKET" not in env:
        (service.data / "objects" / key[:2] / key).write_bytes(good)
    else:
        bucket_of(env).put_object(Bucket=env["AMANA_S3_BUCKET"], Key=key, Body=good)


def test_a_flipped_byte_is_found_and_named_and_stops_nobody_else(
    tmp_path: Path, stores: dict[str, str]
) -> None:
    with running_service(tmp_path, {**stores, "AMANA_SCRUB_DAYS": "2"}) as service:
        here = institution(service, tmp_path / "demo")
        spoiled, whole = [here.send("--attach", SAMPLES / "video.mp4")["case"] for _ in range(2)]
        assert here.maintain()["done"]["objects_checked"] == 0
        good = spoil(service, f"{spoiled}/1")
        came_yesterday(service)
        report = here.maintain()
        # Of each case what was sealed for readers, and the original that lies in its vault.
        assert report["done"]["objects_checked"] == 4
        [need] = [x for x in report["needs_a_person"] if x["kind"] == "stored-parts-damaged"]
        assert (need["count"], need["about"]) == (1, [spoiled])
        assert not here.doctor(check=1)["ok"]
        here.reads(here.lead, "open", whole, "--out", tmp_path / "whole")
        here.reads(here.lead, "open", spoiled, "--out", tmp_path / "no", check=3)
        assert not (tmp_path / "no").exists()
        plain = amana("maintain", "--data", service.data, env=service.env).stdout
        assert "stored-parts-damaged" in plain
        assert spoiled in plain
        repair(service, f"{spoiled}/1", good)
        report = here.maintain()
        assert "stored-parts-damaged" not in {x["kind"] for x in report["needs_a_person"]}
        assert here.doctor()["ok"]
        here.reads(here.lead, "open", spoiled, "--out", tmp_path / "yes")


@pytest.mark.parametrize("days", ["1", "366", "x"])
def test_a_schedule_that_cannot_be_is_refused(tmp_path: Path, days: str) -> None:
    env = {"AMANA_SCRUB_DAYS": days}
    done = amana("maintain", "--data", tmp_path / "data", env=env, check=2)
    assert "SCRUB_DAYS" in done.stderr
