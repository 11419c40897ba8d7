"""Each duty by itself: one that fails is named and keeps no other; and what needs a person is told, without content."""

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from amana.access.models import Invitation
from amana.api.services import Services
from amana.client.keyfile import PersonKeys
from amana.config import read_config
from amana.consent.models import Destruction
from amana.ops import maintenance
from amana.ops.attention import LOOKS
from amana.ops.maintenance import DUTIES, Duty, Report, maintain
from amana.protocol.encoding import check_id
from amana.storage.database import DatabaseUnavailable
from tests.support.decisions import decide, newcomer
from tests.support.newcomers import bring, enrolment, invite, new_keys
from tests.support.organisation import Organisation, organisation_in
from tests.support.statements import Witness

OPERATING = Path(__file__).parents[2] / "docs" / "operating.md"


@pytest.fixture
def own(database_url: str, tmp_path: Path) -> Iterator[Organisation]:
    with organisation_in(tmp_path, database_url) as made:
        yield made


def needs(own: Organisation) -> dict[str, Any]:
    report = maintain(own.services)
    assert report.failed == ()
    return {one.kind: one for one in report.needs_a_person}


def test_a_duty_that_fails_is_named_and_keeps_only_what_it_would_harm(
    own: Organisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = []

    def fails(_services: Services) -> int:
        raise DatabaseUnavailable

    def works(_services: Services) -> int:
        ran.append(1)
        return 3

    duties = (
        Duty("first", fails),
        Duty("second", works, after=("first",)),
        Duty("third", works),
        Duty("fourth", works, after=("second",)),
        Duty("fifth", works, after=("third",)),
    )
    monkeypatch.setattr(maintenance, "DUTIES", duties)
    report = maintain(own.services)
    assert report.failed == ("first", "second", "fourth")
    assert report.done == {"third": 3, "fifth": 3}
    assert len(ran) == 2


def test_duties_have_names_of_their_own_and_follow_what_they_depend_on() -> None:
    names = [duty.name for duty in DUTIES]
    assert len(names) == len(set(names))
    for place, duty in enumerate(DUTIES):
        assert set(duty.after) <= set(names[:place])


def test_a_journal_that_cannot_be_read_stops_what_would_forget_a_withdrawal(
    own: Organisation,
) -> None:
    own.send()
    own.services.config.journal.mkdir()
    report = maintain(own.services)
    left = {"cases_routed", "cases_announced_to_expire", "cases_expired", "cases_destroyed"}
    assert {"statements_repeated", "statements_kept", *left} <= set(report.failed)
    assert report.done["directory_metadata_signed"] == 0
    own.services.config.journal.rmdir()
    assert maintain(own.services).done["cases_routed"] == 1


def test_an_installation_in_which_nobody_works_yet_needs_nothing(tmp_path: Path) -> None:
    from amana.app import make_services
    from amana.storage.migrations import migrate

    services = make_services(read_config(tmp_path / "data"), create_secrets=True)
    migrate(services.database)
    services.blobs.prepare()
    assert maintain(services) == Report(done=dict.fromkeys([one.name for one in DUTIES], 0))
    services.database.dispose()


def test_a_database_that_is_away_fails_every_duty_and_ends(own: Organisation) -> None:
    from amana.storage.database import Database

    away = Database("postgresql+psycopg://nobody@127.0.0.1:9/nothing?connect_timeout=1")
    report = maintain(replace(own.services, database=away))
    # There is no journal yet, and so nothing to repeat.
    assert report.done.pop("statements_repeated") == 0
    assert not any(report.done.values())
    assert {one.name for one in DUTIES[1:]} | set(LOOKS) == {*report.failed, *report.done}


def test_invitations_that_are_over_are_deleted_and_used_ones_stay(own: Organisation) -> None:
    administrator = own.as_person(own.administrator).sign_in()
    token = invite(administrator, "reviewer", ("chemical",), days=7)
    newcomer(own, administrator)
    own.clock.turn(days=7)
    assert maintain(own.services).done["invitations_deleted"] == 0
    own.clock.turn(days=1)
    assert maintain(own.services).done["invitations_deleted"] == 1
    assert maintain(own.services).done["invitations_deleted"] == 0
    with own.services.database.reading() as session:
        assert [one.used_by is not None for one in session.scalars(sa.select(Invitation))] == [True]
    keys = new_keys()
    answer = bring(own, token, enrolment(own, keys, token))
    assert (answer.status_code, answer.get_json()["type"]) == (403, "invitation-refused")


def vetted(own: Organisation, person: PersonKeys, days: int) -> None:
    from tests.support.newcomers import vetting

    administrator = own.as_person(own.administrator).sign_in()
    body = vetting(own, days)
    assert decide(administrator, "vet", "vetting", person.id, **body).status_code == 204


def test_what_needs_a_person_is_told_by_kind_number_and_random_ids(own: Organisation) -> None:
    assert needs(own) == {}
    administrator = own.as_person(own.administrator).sign_in()
    lead, reader = own.desks["chemical"]
    # Nobody may take it: the lead recuses, and the other is not trained.
    flagged = own.send(flags=("minor",), readers={
        one.id: one.intake_key
        for one in own.directory.readers_of("chemical")
        if one.id == lead.id
    })  # fmt: skip
    person = own.as_person(lead).sign_in()
    path = f"/v1/cases/{flagged.case}/recusals"
    assert person.act("recuse", path, flagged.case, reason="other").status_code == 204
    vetted(own, reader, 20)
    new = newcomer(own, administrator)
    renewed = lead.renewed()
    assert person.replace_key(renewed).status_code == 204
    found = needs(own)
    assert {kind: one.count for kind, one in found.items()} == {
        "routing-tasks": 1,
        "newcomers-pending": 1,
        "replacements-pending": 1,
    }
    assert found["routing-tasks"].about == (lead.id,)
    assert found["newcomers-pending"].about == (new.id,)
    assert found["replacements-pending"].about == (lead.id,)

    own.clock.turn(days=6)
    assert needs(own)["vettings-ending"].about == (reader.id,)
    own.clock.turn(days=26)
    assert needs(own)["directory-expiring"].count == 1
    own.clock.turn(days=45)
    due = needs(own)["access-reviews-due"]
    assert {lead.id, reader.id} <= set(due.about)


def test_what_could_not_be_destroyed_on_its_day_is_told(own: Organisation) -> None:
    made = own.send(files=(b"a photo",))
    assert Witness(own, made).change("withdraw").status_code == 200
    own.clock.turn(days=8)
    mark = own.services.config.data / "objects" / ".amana"
    mark.rmdir()
    [late] = [x for x in maintain(own.services).needs_a_person if x.kind == "destruction-late"]
    assert late.about == (made.case,)
    mark.mkdir()
    assert "destruction-late" not in needs(own)
    with own.services.database.reading() as session:
        assert session.scalars(sa.select(Destruction.destroyed_on)).one() is not None


def test_a_report_holds_no_content_and_every_line_is_explained(own: Organisation) -> None:
    own.send()
    own.clock.turn(days=400)
    report = maintain(own.services)
    assert report.needs_a_person
    for one in report.needs_a_person:
        for name in one.about:
            check_id(name)
    text = json.dumps(asdict(report))
    assert "chemical" not in text
    assert "127.0.0.1" not in text
    explained = OPERATING.read_text("utf-8")
    for kind in LOOKS:
        assert f"`{kind}`" in explained, kind
