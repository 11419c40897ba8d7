"""What happens at one moment: each invitation, suspension and consent counts once, and no decision undoes another."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from amana.client.keyfile import PersonKeys
from amana.protocol.sealing import Identity
from tests.support.decisions import decide, newcomer
from tests.support.newcomers import (
    bring,
    enrolment,
    invitation,
    invite,
    new_keys,
    vetting,
    withdraw,
)
from tests.support.organisation import Organisation, Person


def at_once(*acts: Callable[[], Any]) -> list[Any]:
    """Let everybody begin at the same moment; returns what each got."""
    start = threading.Barrier(len(acts))

    def act(one: Callable[[], Any]) -> Any:
        start.wait()
        return one()

    with ThreadPoolExecutor(len(acts)) as pool:
        return [one.result() for one in [pool.submit(act, one) for one in acts]]


def statuses(*acts: Callable[[], Any]) -> list[int]:
    return sorted(answer.status_code for answer in at_once(*acts))


def conflicts_of(administrator: Person, person: str) -> set[str]:
    known = administrator.get("/v1/people").get_json()["people"]
    return {code for one in known if one["id"] == person for code in one["conflicts"]}


def test_an_invitation_lets_one_of_several_in(
    organisation: Organisation, administrators: list[Person]
) -> None:
    for _ in range(3):
        token = invite(administrators[0])
        documents = [enrolment(organisation, new_keys(), token) for _ in range(4)]
        acts = [lambda one=one, token=token: bring(organisation, token, one) for one in documents]
        assert statuses(*acts) == [201, 403, 403, 403]


def test_an_invitation_is_used_or_withdrawn(
    organisation: Organisation, administrators: list[Person]
) -> None:
    for _ in range(5):
        made, token = invitation(administrators[0])
        document = enrolment(organisation, new_keys(), token)
        acts = [
            lambda token=token, document=document: bring(organisation, token, document),
            lambda made=made: withdraw(administrators[1], made),
        ]
        came, withdrawn = (answer.status_code for answer in at_once(*acts))
        assert (came, withdrawn) in {(201, 409), (403, 204)}


def test_the_same_keys_come_in_once_under_several_invitations(
    organisation: Organisation, administrators: list[Person]
) -> None:
    for _ in range(3):
        keys = new_keys()
        tokens = [invite(administrators[0]) for _ in range(4)]
        acts = [
            lambda token=token, keys=keys: bring(
                organisation, token, enrolment(organisation, keys, token)
            )
            for token in tokens
        ]
        assert statuses(*acts) == [201, 409, 409, 409]


def test_two_administrators_suspend_once_and_reinstate_together(
    organisation: Organisation, administrators: list[Person]
) -> None:
    for _ in range(3):
        person = newcomer(organisation, administrators[0]).id
        acts = [
            lambda by=by, person=person: decide(by, "suspend", "suspension", person, reason="x")
            for by in administrators
        ]
        assert statuses(*acts) == [201, 409]
        acts = [
            lambda by=by, person=person: decide(
                by, "reinstate", "reinstatement", person, reason="x"
            )
            for by in administrators
        ]
        consents = [answer.get_json() for answer in at_once(*acts)]
        assert sorted(one["consents"] for one in consents) == [1, 2]
        assert [one["reinstated"] for one in consents].count(True) == 1


def test_one_administrator_twice_at_once_is_one(
    organisation: Organisation, administrators: list[Person]
) -> None:
    person, by = newcomer(organisation, administrators[0]).id, administrators[0]
    assert decide(by, "suspend", "suspension", person, reason="x").status_code == 201
    consent = lambda: decide(by, "reinstate", "reinstatement", person, reason="x")  # noqa: E731
    assert statuses(consent, consent, consent) == [200, 409, 409]
    known = administrators[1].get("/v1/people").get_json()["people"]
    assert [one["standing"] for one in known if one["id"] == person] == ["suspended"]


def test_no_conflict_is_lost_to_another_that_is_recorded_at_once(
    organisation: Organisation, administrators: list[Person]
) -> None:
    person = organisation.as_person(organisation.desks["chemical"][1]).sign_in()
    for n in range(5):
        vetted = {**vetting(organisation), "conflicts": [f"place:{n}"]}
        acts = [
            lambda n=n: person.act("recuse", "/v1/conflicts", conflicts=[f"person:{n}"]),
            lambda n=n: person.act("recuse", "/v1/conflicts", conflicts=[f"person:other-{n}"]),
            lambda vetted=vetted: decide(
                administrators[0], "vet", "vetting", person.keys.id, **vetted
            ),
        ]
        assert statuses(*acts) == [204, 204, 204]
        added = {f"place:{n}", f"person:{n}", f"person:other-{n}"}
        assert added <= conflicts_of(administrators[1], person.keys.id)


def test_of_several_new_keys_that_come_at_once_one_waits(
    organisation: Organisation, administrators: list[Person]
) -> None:
    keys = organisation.desks["general"][1]
    person = organisation.as_person(keys).sign_in()
    new = [PersonKeys(keys.id, keys.role, keys.signing, Identity.generate()) for _ in range(4)]
    acts = [lambda one=one: person.replace_key(one) for one in new]
    assert statuses(*acts) == [204, 204, 204, 204]
    waiting = administrators[0].get("/v1/enrolments").get_json()["enrolments"]
    [shown] = [one for one in waiting if one["id"] == keys.id]
    assert shown["intake_key"] in {str(one.intake_recipient) for one in new}
