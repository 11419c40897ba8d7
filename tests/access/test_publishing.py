"""Whoever a published directory lists has a standing from that day on, also if they never come."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from amana.access.models import Person as PersonRow
from amana.client.keyfile import PersonKeys
from amana.protocol.encoding import random_id
from tests.support.decisions import decide, shown
from tests.support.newcomers import list_by_hand, new_keys
from tests.support.officers import Officers
from tests.support.organisation import Organisation, Person, organisation_in


@pytest.fixture
def own(tmp_path: Path, database_url: str) -> Iterator[Organisation]:
    with organisation_in(tmp_path, database_url) as organisation:
        yield organisation


def administrators(organisation: Organisation) -> list[Person]:
    return [organisation.as_person(one).sign_in() for one in organisation.of_role("administrator")]


def let_days_pass(organisation: Organisation, *days: int) -> list[Person]:
    """Let the administrators alone work, and confirm each other; returns them."""
    working = administrators(organisation)
    for one in days:
        organisation.clock.turn(days=one)
        working = administrators(organisation)
        for by, about in (working, working[::-1]):
            assert decide(by, "confirm", "confirmation", about.keys.id).status_code == 204
    return working


def problem(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.get_json()["type"]


def due(administrator: Person) -> set[str]:
    return {one["id"] for one in administrator.get("/v1/access-reviews").get_json()["due"]}


def list_also(organisation: Organisation, keys: PersonKeys) -> None:
    Officers(organisation).publish(lambda description: list_by_hand(description, keys))


def test_who_never_signs_in_becomes_due_lapses_and_comes_back_only_when_confirmed(
    own: Organisation,
) -> None:
    listed = own.clock().date().isoformat()
    others = {one.id for one in own.directory.people.values() if "administrator" not in one.roles}
    assert len(others) > 5
    administrator = administrators(own)[0]
    for one in others:
        found = shown(administrator, one)
        assert (found["standing"], found["confirmed_on"]) == ("active", listed)
        assert (found["first_seen_on"], found["last_active_on"]) == (listed, None)
    assert not due(administrator)
    administrator = let_days_pass(own, 76)[0]
    assert due(administrator) == others
    administrator = let_days_pass(own, 15)[0]
    assert due(administrator) == others
    assert {shown(administrator, one)["standing"] for one in others} == {"lapsed"}
    late = own.as_person(own.desks["general"][1])
    assert problem(late.offer(late.assertion())) == (403, "access-lapsed")
    assert decide(administrator, "confirm", "confirmation", late.keys.id).status_code == 204
    assert late.sign_in().get("/v1/cases").status_code == 200


def test_the_days_of_who_is_listed_later_begin_then_and_a_further_version_begins_none_anew(
    own: Organisation,
) -> None:
    let_days_pass(own, 50)
    keys = new_keys()
    list_also(own, keys)
    listed = own.clock().date().isoformat()
    administrator = let_days_pass(own, 60)[0]
    Officers(own).publish(lambda _: None)
    assert shown(administrator, keys.id)["confirmed_on"] == listed
    first = shown(administrator, own.desks["general"][1].id)
    assert first["standing"] == "lapsed"
    later = own.as_person(keys)
    assert later.sign_in().get("/v1/cases").status_code == 200


def test_whose_key_was_another_persons_does_not_enter_and_keeps_nobody_else_out(
    own: Organisation,
) -> None:
    left, fresh = own.desks["general"][1], new_keys()
    Officers(own).remove(left.id)
    taken = replace(left, id=random_id())
    Officers(own).publish(
        lambda description: [list_by_hand(description, one) for one in (taken, fresh)]
    )
    thief = own.as_person(taken)
    assert problem(thief.offer(thief.assertion())) == (401, "not-signed-in")
    assert own.as_person(fresh).sign_in().get("/v1/cases").status_code == 200
    assert shown(administrators(own)[0], left.id)["standing"] == "gone"


def test_a_version_from_before_gives_a_standing_from_its_own_day(own: Organisation) -> None:
    listed = own.clock().date().isoformat()
    with own.services.database.transaction() as session:
        session.execute(sa.delete(PersonRow))
    own.clock.turn(days=30)
    keys = own.desks["general"][1]
    administrator = administrators(own)[0]
    assert shown(administrator, keys.id)["confirmed_on"] == listed
    assert decide(administrator, "suspend", "suspension", keys.id, reason="x").status_code == 201
