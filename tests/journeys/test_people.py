"""Vetted: three officers on three machines bring a reviewer in, nobody else can, and whoever is put out is out at once."""

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa
from tuf.api.metadata import Metadata, TargetFile, Targets

from amana.client.desk import DeskClient
from amana.client.keyfile import PersonKeys, change_key, intake_key_fields, read_key
from amana.client.officer import tuf_signer
from amana.client.transport import Transport
from amana.directory.models import DirectoryFile, DirectoryVersion
from amana.protocol.encoding import canonical
from amana.protocol.signing import SigningKey
from amana.storage.database import Database
from tests.support.postgres import fresh_database
from tests.support.relay import relay_to
from tests.support.server import (
    AMANA,
    PASSPHRASE,
    Service,
    amana,
    make_demo,
    running_service,
    wait_until,
)
from tests.support.uploads import Client

LANGUAGE = ("--language", "ar")
FILM_BYTES = 48 * 2**20


@dataclass
class Place:
    """A running service, and a folder for each person's own machine."""

    folder: Path
    service: Service

    @property
    def demo(self) -> Path:
        return self.folder / "demo"

    @property
    def root(self) -> Path:
        return self.demo / "root.json"

    def keys(self, group: str) -> list[Path]:
        return sorted((self.demo / group).glob("*.key"))

    def machine(self, name: str) -> Path:
        folder = self.folder / "machines" / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def run(self, *arguments: str | Path, key: Path | None = None, check: int | None = 0) -> Any:
        whose = ("--key", key) if key else ()
        here = ("--server", self.service.url, "--root", self.root)
        return amana(*arguments, *here, *whose, "--json", check=check)

    def told(self, *arguments: str | Path, key: Path | None = None) -> Any:
        return json.loads(self.run(*arguments, key=key).stdout)

    def cases(self, key: Path) -> Any:
        return self.run("reviewer", "cases", key=key, check=None)

    def send(self, desk: str = "chemical") -> str:
        text = self.folder / "account.txt"
        text.write_text("Synthetic: what a witness of the test saw.")
        sent = self.told("witness", "send", "--desk", desk, *LANGUAGE, "--text", text)
        case: str = sent["case"]
        return case


@pytest.fixture(scope="module", params=["sqlite and folder", "postgresql"])
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("people")
    settings = {}
    with ExitStack() as stack:
        if request.param == "postgresql":
            url = stack.enter_context(fresh_database(request.getfixturevalue("postgres")))
            settings["AMANA_DATABASE_URL"] = url
        service = stack.enter_context(running_service(folder, settings))
        make_demo(service, folder / "demo")
        yield Place(folder, service)


def carry(source: Path, machine: Path) -> Path:
    """Carry a file or a folder by hand to another machine."""
    target = machine / source.name
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    else:
        shutil.copy(source, target)
    return target


def enrol(place: Place, role: str, *desks: str) -> tuple[Path, str]:
    """Invite somebody and let them enrol from their own machine; returns their key file and id."""
    administrator = place.keys("administrators")[0]
    wanted = [part for desk in desks for part in ("--desk", desk)]
    token = place.told("admin", "invite", "--role", role, *wanted, key=administrator)["token"]
    home = place.machine(f"newcomer-{token[:6]}")
    made = json.loads(amana("reviewer", "init", "--role", role, "--out", home, "--json").stdout)
    key = Path(made["key"])
    enrolled = place.told("reviewer", "enrol", "--invitation", token, *wanted, key=key)
    assert enrolled["fingerprint"] == made["fingerprint"]
    assert len(made["fingerprint"].split()) == 11
    shown = amana("reviewer", "fingerprint", "--key", key).stdout.strip()
    assert shown == made["fingerprint"]
    return key, enrolled["id"]


def list_by_officers(place: Place, person: str) -> None:
    """Carry who waits to the officers' machines; two sign there; the third publishes."""
    administrator = place.keys("administrators")[0]
    waiting = place.machine("administrator") / f"pending-{person}.json"
    place.run("admin", "pending", "--out", waiting, key=administrator)
    first, second, third = (place.machine(f"officer-{n}") for n in (1, 2, 3))
    officers = [
        carry(key, place.machine(f"officer-{n + 1}"))
        for n, key in enumerate(place.keys("officers"))
    ]
    pending = carry(waiting, first)
    seen = amana(
        "officer", "pending", pending, "--server", place.service.url, "--root", place.root
    ).stdout
    assert person in seen
    proposal = first / f"proposal-{person}"
    place.run("officer", "propose", "--pending", pending, "--accept", person, "--out", proposal)
    amana("officer", "sign", proposal, "--key", officers[0])
    early = amana("officer", "publish", proposal, "--server", place.service.url, check=1)
    assert early.stderr.startswith("directory-threshold: ")
    # The same officer twice is still one.
    amana("officer", "sign", proposal, "--key", officers[0])
    again = amana("officer", "publish", proposal, "--server", place.service.url, check=1)
    assert again.stderr.startswith("directory-threshold: ")
    there = carry(proposal, second)
    amana("officer", "sign", there, "--key", officers[1])
    amana("officer", "publish", carry(there, third), "--server", place.service.url)


def vet(place: Place, person: str) -> None:
    today = datetime.now(UTC).date()
    place.run(
        "admin", "vet", person, "--voucher", "Dr. A", "--voucher", "Advocate B",
        "--vetted-on", today.isoformat(), "--valid-until", (today + timedelta(days=300)).isoformat(),
        "--language", "ar", key=place.keys("administrators")[0],
    )  # fmt: skip


def test_three_officers_on_three_machines_bring_a_reviewer_in(place: Place) -> None:
    key, person = enrol(place, "reviewer", "chemical")
    before = place.cases(key)
    assert (before.returncode, before.stderr.split(":")[0]) == (1, "not-signed-in")
    vet(place, person)
    list_by_officers(place, person)
    case = place.send()
    listed = json.loads(place.cases(key).stdout)["cases"]
    assert [one["case"] for one in listed] == [case]
    out = place.machine("newcomer-out") / case
    place.run("reviewer", "open", case, "--out", out, key=key)
    assert json.loads((out / "account.json").read_text())["text"].startswith("Synthetic")
    people = place.told("admin", "people", key=place.keys("auditors")[0])["people"]
    [found] = [one for one in people if one["id"] == person]
    assert (found["standing"], found["listed"], found["desks"]) == ("active", True, ["chemical"])


def test_somebody_who_was_not_vetted_is_accepted_by_no_officers_command(place: Place) -> None:
    _, person = enrol(place, "reviewer", "chemical")
    waiting = place.machine("administrator") / "unvetted.json"
    place.run("admin", "pending", "--out", waiting, key=place.keys("administrators")[0])
    done = place.run(
        "officer", "propose", "--pending", waiting, "--accept", person,
        "--out", place.machine("officer-1") / "unvetted", check=2,
    )  # fmt: skip
    assert done.stderr.startswith("not-vetted: ")


def test_a_suspension_bites_in_the_middle_of_a_download(place: Place, tmp_path: Path) -> None:
    administrator = place.keys("administrators")[0]
    client = Client(place.service.url, place.root, place.service.data / "objects")
    made = client.testimony(files=[os.urandom(3_000_000)])
    [location], completion = client.announce(made)
    assert client.patch(location, 0, made.sealed[0]).status_code == 204
    assert client.complete(completion).status_code == 200
    client.http.close()
    holders = {one["reader"] for one in json.loads(made.submission.labels)}
    key = next(one for one in place.keys("reviewers") if one.stem in holders)
    out = tmp_path / "out"
    # The command is held between two of its requests, and in that moment the person is put out.
    process = subprocess.Popen(
        [*AMANA, "reviewer", "open", made.case, "--out", str(out), "--server", place.service.url,
         "--root", str(place.root), "--key", str(key)],
        env={**os.environ, "AMANA_PASSPHRASE": PASSPHRASE},
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    workplace = out / f".opening-{made.case}"
    wait_until(workplace.exists, "the download to begin", process=process)
    process.send_signal(19)  # SIGSTOP
    place.run("admin", "suspend", key.stem, "--reason", "lost device", key=administrator)
    process.send_signal(18)  # SIGCONT
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert said.splitlines()[-1].startswith("suspended: ")
    assert not (out / "account.json").exists()
    record = place.told("admin", "record", "--person", key.stem, key=administrator)
    assert made.case in [one["case"] for one in record["could_open"]]
    shown = amana(
        "admin",
        "record",
        "--server",
        place.service.url,
        "--root",
        place.root,
        "--key",
        administrator,
    ).stdout
    assert "Administrators cannot open testimonies" in shown
    for one in place.keys("administrators"):
        place.run("admin", "reinstate", key.stem, "--reason", "found", key=one)
    assert place.cases(key).returncode == 0


def test_a_suspension_ends_the_answer_that_is_being_sent(place: Place, tmp_path: Path) -> None:
    client = Client(place.service.url, place.root, place.service.data / "objects")
    made = client.testimony(files=[os.urandom(FILM_BYTES)])
    [location], completion = client.announce(made)
    assert client.patch(location, 0, made.sealed[0]).status_code == 204
    assert client.complete(completion).status_code == 200
    client.http.close()
    holders = {one["reader"] for one in json.loads(made.submission.labels)}
    key = next(one for one in place.keys("reviewers") if one.stem in holders)
    first, second = place.keys("administrators")
    out = tmp_path / "out"
    with relay_to(place.service.url) as line:
        ended: list[Any] = []

        def download() -> None:
            far = ("--server", f"http://127.0.0.1:{line.port}", "--root", place.root, "--key", key)
            ended.append(amana("reviewer", "open", made.case, "--out", out, *far, check=None))

        # The reader's line stands still in the middle of the film, and goes on after the suspension.
        line.hold_after = FILM_BYTES // 4
        thread = threading.Thread(target=download)
        thread.start()
        assert line.held.wait(timeout=60)
        place.run("admin", "suspend", key.stem, "--reason", "lost device", key=first)
        line.let_go()
        thread.join(timeout=120)
    assert ended[0].returncode == 1, ended[0].stderr
    assert ended[0].stderr.splitlines()[-1].startswith("suspended: ")
    # What followed was under way already.
    assert line.passed < FILM_BYTES // 4 * 3
    assert not (out / "account.json").exists()
    for one in (first, second):
        place.run("admin", "reinstate", key.stem, key=one)


def test_a_new_key_is_listed_and_old_grants_follow_to_it(place: Place, tmp_path: Path) -> None:
    desk = "general"
    before = place.send(desk)
    keys = [one for one in place.keys("reviewers") if before in place.cases(one).stdout]
    key = carry(keys[0], place.machine("renewing"))
    early = place.run("reviewer", "re-wrap", key=key)
    assert json.loads(early.stdout)["done"] == []
    place.run("reviewer", "replace-key", key=key)
    unlisted = place.run("reviewer", "re-wrap", key=key, check=2)
    assert unlisted.stderr.startswith("key-not-listed: ")
    # Until the officers list the new key, the old one opens, from the same key file.
    place.run("reviewer", "open", before, "--out", tmp_path / "before", key=key)
    # What is decided must follow too.
    reason = ("--decision", "accept", "--reason", "It agrees.")
    place.run("reviewer", "decide", before, *reason, key=key)
    list_by_officers(place, key.stem)
    after = place.send(desk)
    place.run("reviewer", "open", after, "--out", tmp_path / "after", key=key)
    done = json.loads(place.run("reviewer", "re-wrap", "--destroy-old", key=key).stdout)
    assert before in done["done"]
    # A phone may still seal to the old key under the directory that it fetched before.
    [kept] = done["kept"]
    assert (done["left"], done["destroyed"], kept["open"]) == ([], [], 0)
    place.run("reviewer", "open", before, "--out", tmp_path / "again", key=key)
    long_ago = datetime.now(UTC).date() - timedelta(days=46)
    change_key(
        key,
        PASSPHRASE,
        lambda keys: replace(keys, former=tuple(replace(x, left_on=long_ago) for x in keys.former)),
    )
    done = json.loads(place.run("reviewer", "re-wrap", "--destroy-old", key=key).stdout)
    assert (done["destroyed"], done["kept"]) == ([kept["intake_key"]], [])
    assert read_key(key, PASSPHRASE).former == ()
    # The key file that was lost with an old device opens nothing that is sealed now.
    lost = place.run("reviewer", "open", before, "--out", tmp_path / "lost", key=keys[0], check=1)
    assert lost.stderr.startswith("grant-for-other-key: ")
    assert not (tmp_path / "lost").exists()


def test_signing_out_and_a_used_or_wrong_invitation(place: Place) -> None:
    administrator = place.keys("administrators")[0]
    made = place.told("admin", "invite", "--role", "auditor", "--days", "1", key=administrator)
    home = place.machine("auditor")
    key = Path(
        json.loads(amana("reviewer", "init", "--role", "auditor", "--out", home, "--json").stdout)[
            "key"
        ]
    )
    token = made["token"]
    wrong = place.run(
        "reviewer", "enrol", "--invitation", token, "--role", "administrator", key=key, check=1
    )
    assert wrong.stderr.startswith("invitation-refused: ")
    place.run("reviewer", "enrol", "--invitation", token, key=key)
    other = Path(
        json.loads(amana("reviewer", "init", "--role", "auditor", "--out", home, "--json").stdout)[
            "key"
        ]
    )
    used = place.run("reviewer", "enrol", "--invitation", token, key=other, check=1)
    assert used.stderr.startswith("invitation-refused: ")
    late = place.run("admin", "withdraw", made["id"], key=administrator, check=1)
    assert late.stderr.startswith("invitation-over: ")
    astray = place.told("admin", "invite", "--role", "auditor", key=administrator)
    withdrawn = place.told("admin", "withdraw", astray["id"], key=administrator)
    assert withdrawn == {"withdrawn": astray["id"]}
    gone = place.run("reviewer", "enrol", "--invitation", astray["token"], key=other, check=1)
    assert gone.stderr.startswith("invitation-refused: ")
    signed_out = place.told("reviewer", "sign-out", key=place.keys("reviewers")[1])
    assert signed_out == {"signed_out": True}


def test_a_server_with_its_whole_database_adds_no_reader(place: Place, tmp_path: Path) -> None:
    """The operator rewrites every row and signs with every key of the server; both clients refuse."""
    evil = PersonKeys.generate("reviewer")
    url = place.service.env.get("AMANA_DATABASE_URL", f"sqlite:///{place.service.data}/amana.db")
    database = Database(url)
    kept: dict[str, bytes] = {}
    try:
        with database.transaction() as session:
            version = session.scalar(sa.select(sa.func.max(DirectoryVersion.version)))
            rows = {row.name: row for row in session.scalars(sa.select(DirectoryFile))}
            kept = {name: row.content for name, row in rows.items()}
            signed = Metadata[Targets].from_bytes(rows[f"{version}.targets.json"].content)
            name = "desks/chemical.json"
            listed = json.loads(rows[f"versions/{version}/{name}"].content)
            entry = {"id": evil.id, "roles": ["reviewer"], "signing_key": evil.signing.public}
            listed["readers"].append({**entry, **intake_key_fields(evil), "takes": []})
            content = canonical(listed)
            target = TargetFile.from_data(name, content, ["sha256"])
            signed.signed.targets[name] = target
            # The server holds no officer's key; its own is all that it can sign with.
            online = (place.service.data / "secrets" / "online").read_bytes()
            signed.sign(tuf_signer(SigningKey(online)), append=True)
            rows[f"{version}.targets.json"].content = signed.to_bytes()
            rows[f"versions/{version}/{name}"].content = content
            session.add(
                DirectoryFile(
                    name=f"targets/desks/{target.hashes['sha256']}.chemical.json", content=content
                )
            )
        text = tmp_path / "account.txt"
        text.write_text("Synthetic.")
        sent = place.run(
            "witness", "send", "--desk", "chemical", *LANGUAGE, "--text", text, check=3
        )
        assert sent.stderr.startswith("directory-")
        key = place.keys("reviewers")[0]
        cache = tmp_path / "fresh-cache"
        opened = place.run(
            "reviewer", "open", "a" * 32, "--out", tmp_path / "out",
            "--directory-cache", cache, key=key, check=3,
        )  # fmt: skip
        assert opened.stderr.startswith("directory-")
    finally:
        with database.transaction() as session:
            for row in session.scalars(sa.select(DirectoryFile)).all():
                if row.name in kept:
                    row.content = kept[row.name]
                else:
                    session.delete(row)
        database.dispose()


def test_what_a_thief_takes_opens_nothing(place: Place) -> None:
    """A token, an assertion, a proof, each alone; and everything that the database holds."""
    key = read_key(place.keys("reviewers")[3], PASSPHRASE)
    stolen: dict[str, str] = {}

    class Watched(Transport):
        def ask(self, method: str, path: str, **options: Any) -> Any:
            stolen.update(options.get("headers") or {})
            if path == "/v1/sessions":
                stolen["assertion"] = json.loads(options["content"])["assertion"]
            return super().ask(method, path, **options)

    with Watched(place.service.url) as transport:
        desk = DeskClient(transport, key, "amana-demo")
        assert desk.ask("GET", "/v1/cases").status == 200
    with httpx2.Client(base_url=place.service.url) as thief:
        token, proof = stolen["Authorization"], stolen["DPoP"]
        tries: list[dict[str, str]] = [
            {"Authorization": token},
            {"Authorization": token.replace("DPoP", "Bearer")},
            {"DPoP": proof},
            {"Authorization": f"DPoP {stolen['assertion']}", "DPoP": proof},
            {"Authorization": f"DPoP {proof}", "DPoP": proof},
        ]
        for headers in tries:
            assert thief.get("/v1/cases", headers=headers).status_code == 401
        # Even with the proof: it is for this address and method alone, and changes nothing.
        both = {"Authorization": token, "DPoP": proof}
        for method, path in (
            ("GET", "/v1/people"),
            ("DELETE", "/v1/sessions"),
            ("GET", "/v1/record"),
        ):
            assert thief.request(method, path, headers=both).status_code == 401
        body = {"assertion": stolen["assertion"]}
        for headers in ({}, {"DPoP": proof}):
            assert thief.post("/v1/sessions", json=body, headers=headers).status_code == 401
    url = place.service.env.get("AMANA_DATABASE_URL", f"sqlite:///{place.service.data}/amana.db")
    database = Database(url)
    secret = [token.removeprefix("DPoP "), proof, stolen["assertion"], str(key.intake)]
    with database.engine.connect() as connection:
        for table in sa.inspect(database.engine).get_table_names():
            for row in connection.execute(sa.select(sa.text("*")).select_from(sa.table(table))):
                assert not [one for one in secret if one in str(tuple(row))]
    database.dispose()
