"""Maintenance run twice at once, and killed anywhere: what is due is done once and whole, and nothing else is touched."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from amana.intake.models import ServerProcess
from amana.ops.maintenance import maintain
from tests.support.casework import decide_case
from tests.support.dying_maintenance import found
from tests.support.newcomers import invite
from tests.support.organisation import Organisation, organisation_in
from tests.support.server import command as amana_command
from tests.support.statements import Witness

DAYS = 44
SHORT = {
    "open_days": 100,
    "set_aside_days": 30,
    "kept_days": 365,
    "unused_days": 30,
    "notice_days": 14,
}
STEP = {"sqlite": 293, "postgresql": 431}
"""Lines from one death to the next; a run has some five thousand."""


@dataclass
class Prepared:
    """An organisation in which something is due for every duty, 44 days ahead."""

    folder: Path
    database_url: str | None
    now: datetime
    expired: list[str]
    withdrawn: str
    kept: str

    @property
    def data(self) -> Path:
        return self.folder / "data"


def announced_and_left(own: Organisation, *, whole: bool) -> None:
    made = own.seal(files=(b"a film" * 1000,))
    [upload] = own.announce(made)["uploads"]
    data = made.sealed[0]
    for start, part in ((0, data[:5000]), (5000, data[5000:])):
        if start and not whole:
            return
        sent = own.app.test_client().patch(
            upload["location"],
            data=part,
            headers={"Tus-Resumable": "1.0.0", "Upload-Offset": str(start)},
            content_type="application/offset+octet-stream",
        )
        assert sent.status_code == 204


@pytest.fixture
def prepared(database_url: str, tmp_path: Path) -> Prepared:
    is_sqlite = database_url.startswith("sqlite")
    with organisation_in(tmp_path, None if is_sqlite else database_url) as own:
        administrator = own.as_person(own.administrator).sign_in()
        rules = administrator.get("/v1/rules").get_json()["rules"]
        rules = {**rules, "retention": SHORT}
        assert administrator.act("rule", "/v1/rules", rules=rules, replaces=0).status_code == 201
        invite(administrator, "reviewer", ("chemical",))
        reader = own.as_person(own.desks["chemical"][0]).sign_in()
        kept, *over = [own.send(files=(b"a photo", b"another")) for _ in range(4)]
        assert reader.claim(kept.case).status_code == 204
        for made in over[:2]:
            decide_case(reader, made)
        began = own.clock()
        own.clock.turn(days=30)
        assert maintain(own.services).done["cases_announced_to_expire"] == 2
        own.clock.turn(days=1)
        assert Witness(own, over[2]).change("withdraw").status_code == 200
        own.clock.now = began
        # What came on the first day and was left: one whole and never asked about, one cut.
        announced_and_left(own, whole=True)
        announced_and_left(own, whole=False)
        with own.services.database.transaction() as session:
            # Nobody serves any more, so that nobody is waited for.
            session.execute(sa.delete(ServerProcess))
        made = Prepared(
            folder=tmp_path,
            database_url=None if is_sqlite else database_url,
            now=began + timedelta(days=DAYS),
            expired=[one.case for one in over[:2]],
            withdrawn=over[2].case,
            kept=kept.case,
        )
    return made


def check(prepared: Prepared, told: dict[str, Any]) -> None:
    """See that everything that was due is done, and nothing else."""
    states = told["states"]
    assert {states[one] for one in prepared.expired} == {"expired"}
    assert (states[prepared.withdrawn], states[prepared.kept]) == ("withdrawn", "in-review")
    [received] = [case for case, state in states.items() if state == "received"]
    assert len(states) == 5, "the upload that was cut is gone"
    assert {(case, why) for case, why, day in told["destroyed"] if day != "None"} == {
        *((one, "expired") for one in prepared.expired),
        (prepared.withdrawn, "withdrawn"),
    }
    day = prepared.now.date()
    assert {x[2] for x in told["destroyed"]} == {str(day)}
    kept = {f"objects/{prepared.kept[:2]}/{prepared.kept}/{n}" for n in (1, 2)}
    assert set(told["objects"]) == {*kept, f"objects/{received[:2]}/{received}/1"}
    assert told["rows"] == {
        "grants": 4,
        "objects": 3,
        "notes": 0,
        "damages": 0,
        "invitations": 0,
    }
    assert (received, "None") in map(tuple, told["assigned"])
    assert told["events"]["testimony-expired"] == 2
    assert told["events"]["testimony-destroyed"] == 3
    assert told["events"]["testimony-received"] == 5


def settings(prepared: Prepared) -> dict[str, str]:
    url = {"AMANA_DATABASE_URL": prepared.database_url} if prepared.database_url else {}
    return {**url, "AMANA_SCRUB_DAYS": "40"}


def test_two_at_once_do_everything_once(prepared: Prepared) -> None:
    command = [*amana_command(DAYS), "maintain", "--data", str(prepared.data), "--json"]
    env = {**os.environ, **settings(prepared)}
    both = [
        subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    reports = []
    for one in both:
        out, err = one.communicate(timeout=120)
        assert one.returncode == 0, err.decode()[-3000:]
        reports.append(json.loads(out))
    assert [one["failed"] for one in reports] == [[], [], []]
    check(prepared, found(prepared.data, prepared.database_url, prepared.now))
    for name in ("cases_expired", "cases_destroyed", "abandoned_uploads_deleted"):
        expected = {"cases_expired": 2, "cases_destroyed": 3, "abandoned_uploads_deleted": 1}
        assert sum(one["done"][name] for one in reports) >= expected[name]
    assert sum(one["done"]["cases_expired"] for one in reports) == 2
    assert sum(one["done"]["objects_checked"] for one in reports) == 2
    again = subprocess.run(command, env=env, capture_output=True, check=True, timeout=120)
    done = json.loads(again.stdout)["done"]
    assert {name for name, count in done.items() if count} <= {"directory_metadata_signed"}


def test_killed_anywhere_it_is_done_by_the_next(prepared: Prepared) -> None:
    # The journal is beside the database, and the folder is copied whole for each death.
    spec = {
        "data": str(prepared.data),
        "database_url": prepared.database_url,
        "folder": str(prepared.folder / "copies"),
        "now": prepared.now.isoformat(),
        "step": STEP["postgresql" if prepared.database_url else "sqlite"],
    }
    (prepared.folder / "copies").mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.dying_maintenance", json.dumps(spec)],
        capture_output=True,
        text=True,
        timeout=550,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    whole, *killed = json.loads(done.stdout.splitlines()[-1])
    check(prepared, whole)
    assert len(killed) > 8, "it was killed often enough"
    for one in killed:
        assert one == whole
    shutil.rmtree(prepared.folder / "copies")


def test_the_command_names_a_duty_that_failed_and_does_the_others(prepared: Prepared) -> None:
    def run(*more: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*amana_command(DAYS), "maintain", "--data", str(prepared.data), *more],
            env={**os.environ, **settings(prepared)},
            capture_output=True,
            text=True,
            check=False,
        )

    (prepared.data / "objects" / ".amana").rmdir()
    done = run()
    assert done.returncode == 1, done.stderr
    assert "FAILED objects_checked" in done.stderr
    assert "cases_expired: 2" in done.stdout
    for kind in ("destruction-late", "uploads-stuck"):
        assert kind in done.stdout
    logged = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    assert {one["error"] for one in logged if "error" in one} == {"StoreUnavailable"}
    (prepared.data / "objects" / ".amana").mkdir()
    done = run("--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["failed"], report["done"]["cases_destroyed"]) == ([], 3)
    assert {"destruction-late", "uploads-stuck"}.isdisjoint(
        one["kind"] for one in report["needs_a_person"]
    )
