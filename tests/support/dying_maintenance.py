"""Maintenance that is killed: a process dies by SIGKILL at the n-th line of our code, for many n, and another runs after it.

Run as `python -m tests.support.dying_maintenance '<JSON>'` with `data` (a folder to copy), `database_url` (PostgreSQL to
copy, or null), `folder`, `now` and `step`; prints, as JSON, what there is after each death and another run, and first
what there is after a run that nobody killed.
"""

import json
import os
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import make_url

from amana.access.models import Invitation
from amana.api.services import Services
from amana.app import make_services
from amana.config import read_config
from amana.consent.models import Destruction
from amana.custody.models import Event
from amana.intake import appending, receiving
from amana.intake.models import Grant, Testimony, UploadedObject
from amana.ops.maintenance import maintain
from amana.review.models import Note
from amana.routing.models import Assignment
from amana.scrub.models import Damage
from tests.support.dying_writer import die_at_line, in_child, watch

ID_CHARACTERS = 32
OURS = re.compile(r"/amana/(consent|retention|scrub|intake|routing|ops|people|storage)/")
# Whoever died here is dead, and need not be waited for.
receiving.DEAD_AFTER_SECONDS = appending.DEAD_AFTER_SECONDS = 0.2


def services_of(folder: Path, url: str | None, now: datetime) -> Services:
    config = read_config(folder)
    config = replace(config, database_url=url or config.database_url, scrub_days=40)
    return replace(make_services(config), clock=lambda: now)


@contextmanager
def copied(spec: dict[str, Any], name: str) -> Iterator[tuple[Path, str | None]]:
    """Give a copy of the prepared data, which one death may spoil."""
    folder = Path(spec["folder"]) / name
    shutil.copytree(spec["data"], folder)
    if spec["database_url"] is None:
        yield folder, None
        shutil.rmtree(folder)
        return
    url = make_url(spec["database_url"])
    admin = sa.create_engine(
        url.set(database="postgres"), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool
    )
    copy = f"{url.database}_{name}"
    with admin.connect() as connection:
        # Whoever prepared it may not have closed the last connection.
        end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"
        connection.execute(sa.text(end), {"name": url.database})
        connection.execute(sa.text(f"CREATE DATABASE {copy} TEMPLATE {url.database}"))
    yield folder, url.set(database=copy).render_as_string(hide_password=False)
    with admin.connect() as connection:
        connection.execute(sa.text(f"DROP DATABASE {copy} WITH (FORCE)"))
    shutil.rmtree(folder)


def found(folder: Path, url: str | None, now: datetime) -> dict[str, Any]:
    """Return everything that must be the same, whoever was killed on the way."""
    services = services_of(folder, url, now)
    with services.database.reading() as session:
        events = Counter(
            kind
            for event in session.scalars(sa.select(Event.event))
            if (kind := json.loads(event)["kind"]) != "action"
        )
        rows = {
            table.__tablename__: session.scalar(sa.select(sa.func.count()).select_from(table))
            for table in (Grant, UploadedObject, Note, Damage, Invitation)
        }
        told: dict[str, Any] = {
            "states": {x.case: x.state for x in session.scalars(sa.select(Testimony))},
            "destroyed": sorted(
                (x.case, x.reason, str(x.destroyed_on))
                for x in session.scalars(sa.select(Destruction))
            ),
            "assigned": sorted(
                (x.case, str(x.ended_because)) for x in session.scalars(sa.select(Assignment))
            ),
        }
    services.database.dispose()
    objects = sorted(
        str(path.relative_to(folder))
        for path in (folder / "objects").glob("*/*/*")
        # The logs' tiles lie there too.
        if path.is_file() and len(path.parent.name) == ID_CHARACTERS
    )
    return {**told, "events": dict(sorted(events.items())), "rows": rows, "objects": objects}


def run(folder: Path, url: str | None, now: datetime, die_at: int | None) -> int:
    def work() -> None:
        services = services_of(folder, url, now)
        if die_at is not None:
            die_at_line(die_at)
        report = maintain(services)
        sys.settrace(None)
        assert report.failed == (), report.failed

    return in_child(work)


def main(spec: dict[str, Any]) -> None:
    now = datetime.fromisoformat(spec["now"])
    watch(lambda filename: OURS.search(filename) is not None)
    told = []
    with copied(spec, "whole") as (folder, url):
        assert run(folder, url, now, None) == 0
        told.append(found(folder, url, now))
    place = 1
    while True:
        with copied(spec, f"at_{place}") as (folder, url):
            end = run(folder, url, now, place)
            assert run(folder, url, now, None) == 0, f"not done after a death at line {place}"
            told.append(found(folder, url, now))
        if end == 0:
            break
        place += spec["step"]
    print(json.dumps(told))


if __name__ == "__main__":
    os.environ.pop("AMANA_DATABASE_URL", None)
    main(json.loads(sys.argv[1]))
