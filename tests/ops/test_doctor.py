"""The doctor sees coming that nobody will be able to administer any more, and that files of a log are lost."""

import shutil
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from amana.access.models import Person, Suspension
from amana.config import read_config
from amana.ops.doctor import Check, examine
from amana.ops.sequencer import sequence
from amana.protocol.encoding import random_id
from amana.storage.folder import FolderStore
from tests.support.officers import Officers
from tests.support.organisation import Organisation, organisation_in


def check(organisation: Organisation, name: str = "administrators") -> Check:
    [found] = [one for one in examine(organisation.services.config) if one.name == name]
    return found


def confirmed(organisation: Organisation, *ids: str, days_ago: int) -> None:
    day = organisation.clock().date() - timedelta(days=days_ago)
    with organisation.services.database.transaction() as session:
        session.execute(sa.update(Person).where(Person.id.in_(ids)).values(confirmed_on=day))


def suspend(organisation: Organisation, person: str) -> None:
    with organisation.services.database.transaction() as session:
        session.add(
            Suspension(
                id=random_id(),
                person=person,
                by=random_id(),
                reason="a test",
                suspended_at=organisation.clock(),
            )
        )


def test_administrators_who_can_confirm_one_another_are_well(tmp_path: Path) -> None:
    with organisation_in(tmp_path) as organisation:
        first, second = organisation.of_role("administrator")
        before = check(organisation)
        assert (before.ok, before.warning, before.detail) == (True, False, "2 may work")
        for one in (first, second):
            organisation.as_person(one).sign_in()
        assert not check(organisation).warning
        confirmed(organisation, first.id, days_ago=85)
        assert not check(organisation).warning
        confirmed(organisation, first.id, second.id, days_ago=80)
        soon = check(organisation)
        assert (soon.ok, soon.warning) == (True, True)
        last = organisation.clock().date() + timedelta(days=10)
        assert f"the last after {last}" in soon.detail
        confirmed(organisation, first.id, second.id, days_ago=91)
        gone = check(organisation)
        assert not gone.ok
        assert "None may work" in gone.detail


def test_an_administrator_alone_is_told_when_it_ends(tmp_path: Path) -> None:
    with organisation_in(tmp_path) as organisation:
        first, second = organisation.of_role("administrator")
        for one in (first, second):
            organisation.as_person(one).sign_in()
        suspend(organisation, second.id)
        alone = check(organisation)
        assert (alone.ok, alone.warning) == (True, True)
        ends = organisation.clock().date() + timedelta(days=90)
        assert (
            f"One alone may work, whom nobody can confirm: all administration ends after {ends}."
            in (alone.detail)
        )
        suspend(organisation, first.id)
        assert not check(organisation).ok


def test_one_whom_the_officers_alone_list_is_alone_from_the_first_day(tmp_path: Path) -> None:
    with organisation_in(tmp_path) as organisation:
        _, second = organisation.of_role("administrator")
        Officers(organisation).remove(second.id)
        alone = check(organisation)
        assert (alone.ok, alone.warning) == (True, True)
        ends = organisation.clock().date() + timedelta(days=90)
        assert f"all administration ends after {ends}." in alone.detail


@pytest.mark.parametrize("missing", ["root", "data"])
def test_before_the_first_directory_there_is_nobody(tmp_path: Path, missing: str) -> None:
    config = read_config(tmp_path / "data")
    if missing == "root":
        config.data.mkdir(mode=0o700)
    [found] = [one for one in examine(config) if one.name == "administrators"]
    assert (found.ok, found.warning) == (True, False)


def test_lost_files_of_a_log_are_noticed(tmp_path: Path) -> None:
    with organisation_in(tmp_path) as organisation:
        organisation.send()
        sequence(organisation.services)
        whole = check(organisation, "logs")
        assert whole.ok
        assert "--whole" in whole.detail
        store = organisation.services.blobs
        assert isinstance(store, FolderStore)
        shutil.rmtree(store.root / "log" / "custody" / "tile" / "entries")
        lost = check(organisation, "logs")
        assert not lost.ok
        assert lost.detail.startswith("custody: log-damaged.")
