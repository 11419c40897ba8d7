"""A vault opens for a reader whom k custodians answered, whose witness allows it, for as long as was asked; never else."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import combinations
from typing import Any

import pytest
import sqlalchemy as sa

from amana.access.models import SignedAction
from amana.consent.destroying import destroy_due
from amana.custody.models import Event
from amana.intake import models as intake
from amana.intake.models import Share, UploadedObject, Vault
from amana.ops.maintenance import maintain
from amana.protocol.action import sign_action
from amana.protocol.encoding import b64, random_id, unb64
from amana.protocol.errors import ProtocolError
from amana.protocol.identity import parse_identity
from amana.protocol.release import reason_document, seal_reason
from amana.protocol.sealing import Identity, Kind, open_sealed
from amana.protocol.vault import xor
from amana.storage.database import Base
from amana.vault.models import Release, ReleaseAnswer, ReleasedShare
from tests.support.officers import Officers
from tests.support.organisation import Organisation, Person
from tests.support.statements import Witness
from tests.support.vaults import ORIGINAL, WHO, Vaulted, make_custodian, vault_options


def slug(answer: Any, status: int) -> str:
    assert answer.status_code == status, answer.get_json()
    found: str = answer.get_json()["type"]
    return found


def rows(organisation: Organisation, table: type[Base], **where: str) -> int:
    query = sa.select(sa.func.count()).select_from(table).filter_by(**where)
    with organisation.services.database.reading() as session:
        return session.scalar(query) or 0


def administrators(organisation: Organisation) -> list[Person]:
    return [organisation.as_person(one).sign_in() for one in organisation.of_role("administrator")]


def suspend(organisation: Organisation, person: Person) -> Callable[[], None]:
    """Let an administrator suspend somebody; returns what lifts it."""
    one, other = administrators(organisation)
    about = {"person": person.keys.id, "reason": "lost device"}
    path = f"/v1/people/{person.keys.id}"
    done = one.act("suspend", f"{path}/suspension", **about)
    assert done.status_code in {200, 201, 204}, done.get_json()

    def lift() -> None:
        for administrator in (one, other):
            administrator.act("reinstate", f"{path}/reinstatement", **about)

    return lift


def events(organisation: Organisation, case: str) -> list[bytes]:
    with organisation.services.database.reading() as session:
        return list(session.scalars(sa.select(Event.event).where(Event.case == case)))


def test_two_of_three_custodians_release_an_identity_to_the_reader_who_asked(
    vaulted: Vaulted,
) -> None:
    organisation, case, reader = vaulted.organisation, vaulted.case, vaulted.reader
    first, second, third = (one.sign_in() for one in vaulted.custodians)
    request = vaulted.asked()
    [waiting] = [
        one for one in third.get("/v1/releases").get_json()["releases"] if one["request"] == request
    ]
    assert waiting["case"] == case
    assert slug(vaulted.open(request), 409) == "shares-missing"

    one = vaulted.share(first, request)
    assert one.get_json() == {"released_on": None, "ended_because": None}
    missing = vaulted.open(request)
    assert slug(missing, 409) == "shares-missing"
    assert (missing.get_json()["have"], missing.get_json()["need"]) == (1, 2)
    today = organisation.clock().date()
    assert vaulted.share(second, request).get_json()["released_on"] == today.isoformat()
    # Enough have answered: nobody asks the third any more.
    listed = third.get("/v1/releases").get_json()["releases"]
    assert request not in {one["request"] for one in listed}
    assert slug(vaulted.share(third, request), 409) == "answered-already"

    witness = Witness(organisation, vaulted.made)
    [told] = witness.status()["releases"]
    until = (today + timedelta(days=7)).isoformat()
    assert told == {
        "vault": "identity",
        "purpose": "icc",
        "to": None,
        "reader": reader.keys.id,
        "released_on": today.isoformat(),
        "opened_on": None,
        "expires_on": until,
    }
    opened = vaulted.open(request)
    assert opened.status_code == 201, opened.get_json()
    shares = opened.get_json()["shares"]
    assert {one["custodian"] for one in shares} == {first.keys.id, second.keys.id}
    seed = vaulted.key_from(shares, request)
    assert seed == vaulted.made.vault_keys["identity"].seed
    [entry] = [one.entry for one in vaulted.made.vaults if one.entry.vault == "identity"]
    sealed = reader.get(f"/v1/releases/{request}/objects/{entry.objects[0]}")
    assert sealed.status_code == 200
    document = open_sealed(sealed.data, Identity.from_seed(seed), Kind.FILE)
    assert parse_identity(document) == WHO
    part = reader.get(f"/v1/releases/{request}/objects/{entry.objects[0]}", Range="bytes=10-19")
    assert (part.status_code, part.data) == (206, sealed.data[10:20])

    [told] = witness.status()["releases"]
    assert told["opened_on"] == today.isoformat()
    [own] = reader.get(f"/v1/cases/{case}/releases").get_json()["releases"]
    assert [one["answer"] for one in own["answers"]] == ["shared", "shared"]
    recorded = b"".join(events(organisation, case))
    for action in ("release-request", "release-share", "release-open"):
        assert f'"action":"{action}"'.encode() in recorded


def test_the_released_identity_opens_no_original(vaulted: Vaulted) -> None:
    request = vaulted.released()
    seed = vaulted.key_from(vaulted.open(request).get_json()["shares"], request)
    [original] = [one.entry for one in vaulted.made.vaults if one.entry.vault == "originals"]
    answer = vaulted.reader.get(f"/v1/releases/{request}/objects/{original.objects[0]}")
    assert slug(answer, 404) == "not-found"
    sealed = vaulted.made.sealed[original.objects[0] - 1]
    with pytest.raises(ProtocolError):
        open_sealed(sealed, Identity.from_seed(seed), Kind.FILE)
    key = vaulted.made.vault_keys["originals"]
    assert open_sealed(sealed, key, Kind.FILE) == ORIGINAL


def test_what_lies_in_the_vault_is_not_given_out_with_the_case(vaulted: Vaulted) -> None:
    case, reader = vaulted.case, vaulted.reader
    assert reader.open(case).status_code == 201
    for n, status in ((0, 200), (1, 200), (2, 403), (3, 403)):
        answer = reader.get(f"/v1/cases/{case}/objects/{n}")
        assert answer.status_code == status, n
    assert slug(reader.get(f"/v1/cases/{case}/objects/2"), 403) == "in-vault"
    request = vaulted.released()
    # Released, but nobody signed that they open it.
    path = f"/v1/releases/{request}/objects/2"
    assert slug(reader.get(path), 403) == "opening-needed"
    assert vaulted.open(request).status_code == 201
    assert reader.get(path).status_code == 200
    for n in (0, 1, 3, 64, 10**30):
        assert slug(reader.get(f"/v1/releases/{request}/objects/{n}"), 404) == "not-found"


# Who may ask, and for what


def test_only_who_has_the_case_may_ask(vaulted: Vaulted) -> None:
    colleague = vaulted.organisation.as_person(vaulted.organisation.desks["chemical"][1])
    stranger = vaulted.organisation.as_person(vaulted.organisation.desks["general"][0])
    assert slug(vaulted.ask(colleague.sign_in()), 403) == "not-assigned"
    assert slug(vaulted.ask(stranger.sign_in()), 404) == "not-found"
    request = vaulted.released()
    # Another reader's request is nobody's but theirs.
    assert slug(vaulted.open(request, colleague), 404) == "not-found"
    assert slug(colleague.get(f"/v1/releases/{request}/objects/2"), 404) == "not-found"
    listed = colleague.get(f"/v1/cases/{vaulted.case}/releases").get_json()["releases"]
    assert listed == []


@pytest.mark.parametrize(
    ("changes", "scopes", "level", "found"),
    [
        ({"purpose": "iiim"}, {"iiim": "ask"}, "prosecutors", "consent-asks"),
        ({"purpose": "opcw"}, {}, "prosecutors", "consent-denies"),
        ({"purpose": "icc"}, {"icc": "allow"}, "pseudonym", "identity-denied"),
        ({"purpose": "contact"}, {"contact": "allow"}, "anonymous", "identity-denied"),
        ({"purpose": "national_court:DE"}, {"icc": "allow"}, "public", "consent-denies"),
        ({"purpose": "publication"}, {"publication": "allow"}, "defence", "identity-denied"),
    ],
)
def test_consent_must_cover_what_is_asked(
    organisation: Organisation,
    changes: dict[str, str],
    scopes: dict[str, str],
    level: str,
    found: str,
) -> None:
    vaulted = Vaulted.make(organisation, scopes={"review": "allow", **scopes}, identity_level=level)
    assert slug(vaulted.ask(**changes), 403) == found
    assert slug(vaulted.ask(**changes, vault="originals"), 403) == found
    assert rows(organisation, Release, case=vaulted.case) == 0


def test_a_request_is_sealed_to_those_who_can_answer_it(vaulted: Vaulted) -> None:
    body = vaulted.body()

    def ask(**changes: Any) -> str:
        return slug(vaulted.ask(**{**body, "request": random_id(), **changes}), 422)

    reasons = body["reasons"]
    assert ask(reasons=reasons[:2]) == "custodians-differ"
    other = {**reasons[0], "custodian": "a" * 32}
    assert ask(reasons=[other, *reasons[1:]]) in {"custodians-differ", "release-invalid"}
    assert (
        ask(reasons=[{**reasons[0], "intake_key": "a" * 32}, *reasons[1:]]) == "custodians-differ"
    )
    plain = {**reasons[0], "sealed": b64(bytes(5755))}
    assert ask(reasons=[plain, *reasons[1:]]) == "sealed-plaintext"
    assert ask(reasons=[reasons[0], reasons[0], reasons[2]]) == "release-invalid"
    assert ask(intake_key="a" * 32) == "key-not-listed"
    assert ask(purpose="curiosity") == "release-invalid"
    assert ask(reason_sha256="x" * 64) == "release-invalid"
    assert ask(days=31) == "unprocessable-entity"
    assert ask(vault="names") == "unprocessable-entity"
    assert ask(unknown=1) == "unprocessable-entity"


def test_a_case_without_a_vault_has_nothing_to_release(organisation: Organisation) -> None:
    bare = Vaulted.make(organisation, identity=None)
    assert slug(bare.ask(), 422) == "vault-missing"
    assert bare.ask(vault="originals").status_code == 201


def test_a_request_is_taken_once_and_the_next_one_replaces_it(vaulted: Vaulted) -> None:
    organisation = vaulted.organisation
    body = vaulted.body()
    path = f"/v1/cases/{vaulted.case}/releases"
    action = vaulted.reader.action(
        vaulted.case, action="release-request", body=body, directory=organisation.directory.version
    )
    assert vaulted.reader.post(path, {**body, "action": action}).status_code == 201
    assert slug(vaulted.reader.post(path, {**body, "action": action}), 409) == "request-known"
    first = vaulted.custodians[0].sign_in()
    assert vaulted.share(first, body["request"]).status_code == 201
    again = vaulted.asked()
    assert slug(vaulted.share(first, body["request"]), 410) == "release-over"
    assert slug(vaulted.open(body["request"]), 410) == "release-over"
    assert rows(organisation, ReleasedShare, request=body["request"]) == 0
    assert vaulted.share(first, again).status_code == 201
    # What is signed about one request is not signed about another.
    other = {**vaulted.body(), "action": action}
    assert slug(vaulted.reader.post(path, other), 422) == "action-refused"


# What custodians may answer


def test_a_custodian_answers_once_and_only_what_was_asked(vaulted: Vaulted) -> None:
    first, second, third = (one.sign_in() for one in vaulted.custodians)
    request = vaulted.asked()
    own = vaulted.own_shares(first, request).get_json()["shares"]
    assert len(own) == 2
    assert all(first.keys.id in one["subset"] for one in own)
    given = vaulted.sealed(first, request, own)

    assert slug(vaulted.give(first, random_id(), given), 404) == "not-found"
    assert slug(vaulted.give(first, request, given[:1]), 422) == "shares-differ"
    assert slug(vaulted.give(first, request, given[::-1]), 422) == "shares-differ"
    assert slug(vaulted.give(second, request, given), 422) == "shares-differ"
    foreign = [{**given[0], "subset": [second.keys.id, third.keys.id]}, given[1]]
    assert slug(vaulted.give(first, request, foreign), 422) == "shares-differ"
    plain = [{**given[0], "sealed": b64(bytes(1915))}, given[1]]
    assert slug(vaulted.give(first, request, plain), 422) == "sealed-plaintext"
    short = [{**given[0], "sealed": b64(b"x")}, given[1]]
    assert slug(vaulted.give(first, request, short), 422) == "shares-size"
    # Signed over other bytes than those that came.
    hashes = [{"subset": one["subset"], "sha256": "0" * 64} for one in given]
    body = {"request": request, "shares": hashes}
    action = first.action(
        vaulted.case,
        action="release-share",
        body=body,
        directory=vaulted.organisation.directory.version,
    )
    path = f"/v1/releases/{request}/shares"
    assert slug(first.post(path, {"shares": given, "action": action}), 422) == "action-refused"
    assert rows(vaulted.organisation, ReleasedShare, request=request) == 0

    assert vaulted.give(first, request, given).status_code == 201
    assert slug(vaulted.give(first, request, given), 409) == "answered-already"
    assert slug(vaulted.own_shares(first, request), 409) == "answered-already"
    assert slug(vaulted.decline(first, request), 409) == "answered-already"


def test_too_many_who_decline_end_a_request(vaulted: Vaulted) -> None:
    first, second, third = (one.sign_in() for one in vaulted.custodians)
    request = vaulted.asked()
    assert vaulted.decline(first, request).get_json()["ended_because"] is None
    assert vaulted.share(second, request).status_code == 201
    assert vaulted.decline(third, request).get_json()["ended_because"] == "declined"
    assert slug(vaulted.open(request), 410) == "release-over"
    assert rows(vaulted.organisation, ReleasedShare, request=request) == 0
    path = f"/v1/cases/{vaulted.case}/releases"
    [own] = vaulted.reader.get(path).get_json()["releases"]
    reasons = [one["reason"] for one in own["answers"] if one["answer"] == "declined"]
    reader = vaulted.reader.keys.intake
    assert b"I know this person." in open_sealed(unb64(reasons[0]), reader, Kind.REASON)
    assert Witness(vaulted.organisation, vaulted.made).status()["releases"] == []


def test_nobody_answers_their_own_request_nor_opens_with_a_share_of_their_own(
    organisation: Organisation,
) -> None:
    """A reader who is a custodian needs as many others as everybody else."""
    vaulted = Vaulted.make(organisation)
    reader, before = vaulted.reader, organisation.directory.custodians.members
    second_key = Identity.generate()
    keys = reader.keys
    as_custodian = replace(keys, intake=second_key)
    Officers(organisation).publish(lambda description: make_custodian(description, as_custodian))
    try:
        both = Vaulted.make(organisation)
        both.extra_keys[keys.id] = second_key
        assert len(organisation.directory.custodians.members) == 4
        request = both.asked()
        me = both.reader
        assert slug(both.own_shares(me, request), 403) == "own-request"
        assert request not in str(me.get("/v1/releases").get_json())
        assert slug(both.share(me, request), 403) == "own-request"
        first, second = [one.sign_in() for one in both.custodians if one.keys.id != keys.id][:2]
        own = both.own_shares(first, request).get_json()["shares"]
        assert all(keys.id not in one["subset"] for one in own)
        assert len(own) == 2
        assert both.share(first, request).status_code == 201
        assert slug(both.open(request), 409) == "shares-missing"
        assert both.share(second, request).status_code == 201
        shares = both.open(request).get_json()["shares"]
        assert both.key_from(shares, request) == both.made.vault_keys["identity"].seed
        # The address list of a request leaves out who asks.
        body = both.body()
        assert len(body["reasons"]) == 3
    finally:
        Officers(organisation).publish(
            lambda description: description["custodians"].update(
                members=[one for one in description["custodians"]["members"] if one["id"] in before]
            )
        )


def test_a_suspended_custodian_neither_answers_nor_counts(vaulted: Vaulted) -> None:
    organisation = vaulted.organisation
    first, second, third = (one.sign_in() for one in vaulted.custodians)
    request = vaulted.asked()
    assert vaulted.share(first, request).status_code == 201
    lift = suspend(organisation, first)
    try:
        assert slug(first.get("/v1/releases"), 401) == "not-signed-in"
        assert vaulted.share(second, request).get_json()["released_on"] is None
        missing = vaulted.open(request)
        assert slug(missing, 409) == "shares-missing"
        assert missing.get_json()["have"] == 1
        assert vaulted.share(third, request).get_json()["released_on"] is not None
        shares = vaulted.open(request).get_json()["shares"]
        assert first.keys.id not in {one["custodian"] for one in shares}
        assert vaulted.key_from(shares, request) == vaulted.made.vault_keys["identity"].seed
    finally:
        lift()


def test_a_custodian_who_was_suspended_after_the_release_closes_it(vaulted: Vaulted) -> None:
    request = vaulted.released()
    assert vaulted.open(request).status_code == 201
    lift = suspend(vaulted.organisation, vaulted.custodians[0])
    try:
        assert slug(vaulted.open(request), 409) == "shares-missing"
        answer = vaulted.reader.get(f"/v1/releases/{request}/objects/2")
        assert slug(answer, 409) == "shares-missing"
    finally:
        lift()
    assert vaulted.open(request).status_code == 201


def test_nobody_seals_to_a_reader_who_lost_the_case_or_their_standing(vaulted: Vaulted) -> None:
    organisation = vaulted.organisation
    first, second, _ = (one.sign_in() for one in vaulted.custodians)
    request = vaulted.asked()
    assert vaulted.share(first, request).status_code == 201
    lift = suspend(organisation, vaulted.reader)
    try:
        assert slug(vaulted.share(second, request), 409) == "reader-gone"
    finally:
        lift()
    vaulted.reader.sign_in()
    assert vaulted.reader.release(vaulted.case).status_code == 204
    assert slug(vaulted.share(second, request), 409) == "reader-gone"
    assert slug(vaulted.open(request), 403) == "not-assigned"
    assert vaulted.reader.claim(vaulted.case).status_code == 204
    assert vaulted.share(second, request).status_code == 201
    assert vaulted.open(request).status_code == 201
    assert vaulted.reader.release(vaulted.case).status_code == 204
    assert slug(vaulted.open(request), 403) == "not-assigned"
    path = f"/v1/releases/{request}/objects/2"
    assert slug(vaulted.reader.get(path), 403) == "not-assigned"


def test_two_custodians_at_once_release_and_one_twice_counts_once(vaulted: Vaulted) -> None:
    first, second, third = (one.sign_in() for one in vaulted.custodians)
    request = vaulted.asked()
    given = {
        one.keys.id: vaulted.sealed(
            one, request, vaulted.own_shares(one, request).get_json()["shares"]
        )
        for one in (first, second)
    }
    answers: list[int] = []
    barrier = threading.Barrier(6)

    def share(custodian: Person) -> None:
        barrier.wait()
        answer = vaulted.give(custodian, request, given[custodian.keys.id])
        answers.append(answer.status_code)

    again = [vaulted.organisation.as_person(first.keys).sign_in() for _ in range(4)]
    threads = [threading.Thread(target=share, args=(one,)) for one in (first, second, *again)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [201, 201, 409, 409, 409, 409]
    assert rows(vaulted.organisation, ReleaseAnswer, request=request) == 2
    shares = vaulted.open(request).get_json()["shares"]
    assert vaulted.key_from(shares, request) == vaulted.made.vault_keys["identity"].seed
    assert third.get("/v1/releases").status_code == 200


# Consent and time


def test_consent_that_narrows_closes_a_release_at_once(vaulted: Vaulted) -> None:
    witness = Witness(vaulted.organisation, vaulted.made)
    request = vaulted.released()
    assert vaulted.open(request).status_code == 201
    other = vaulted.asked(vault="originals")
    narrowed = witness.consent({"review": "allow", "icc": "deny"})
    assert narrowed.status_code == 200, narrowed.get_json()
    assert slug(vaulted.open(request), 403) == "consent-denies"
    assert slug(vaulted.reader.get(f"/v1/releases/{request}/objects/2"), 403) == "consent-denies"
    third = vaulted.custodians[2].sign_in()
    assert slug(vaulted.own_shares(third, other), 403) == "consent-denies"
    assert slug(third.get(f"/v1/releases/{other}"), 403) == "consent-denies"
    # A witness who takes it back waits for the delay, like for any widening.
    assert witness.consent({"review": "allow", "icc": "allow"}).status_code == 200
    assert slug(vaulted.open(request), 403) == "consent-denies"


def test_a_release_ends_with_its_days_and_leaves_nothing_sealed(vaulted: Vaulted) -> None:
    organisation, clock = vaulted.organisation, vaulted.organisation.clock
    request = vaulted.released(days=3)
    assert vaulted.open(request).status_code == 201
    open_one = vaulted.asked(vault="originals", days=3)
    clock.turn(days=3)
    vaulted.reader.sign_in()
    assert vaulted.open(request).status_code == 201
    clock.turn(days=1)
    vaulted.reader.sign_in()
    third = vaulted.custodians[2].sign_in()
    # Refused before anybody cleaned up.
    assert slug(vaulted.open(request), 410) == "release-over"
    assert slug(vaulted.reader.get(f"/v1/releases/{request}/objects/2"), 410) == "release-over"
    assert slug(vaulted.own_shares(third, open_one), 410) == "release-over"
    assert open_one not in str(third.get("/v1/releases").get_json())
    assert rows(organisation, ReleasedShare, request=request) == 4
    sealed = _released_bytes(organisation, request)
    for _ in range(2):
        maintain(organisation.services)
    assert rows(organisation, ReleasedShare, request=request) == 0
    ended = [one for one in events(organisation, vaulted.case) if b"release-ended" in one]
    assert len(ended) == 2, "each of the two requests ended once"
    [own, _] = sorted(
        vaulted.reader.get(f"/v1/cases/{vaulted.case}/releases").get_json()["releases"],
        key=lambda one: one["vault"],
    )
    assert own["ended_because"] == "expired"
    assert b'"because":"expired"' in b"".join(events(organisation, vaulted.case))
    # What was seen stays seen, and stays told.
    [told] = Witness(organisation, vaulted.made).status()["releases"]
    assert told["opened_on"] is not None
    assert not any(one in everything_stored(organisation) for one in sealed)


def _released_bytes(organisation: Organisation, request: str) -> list[bytes]:
    query = sa.select(ReleasedShare.sealed).where(ReleasedShare.request == request)
    with organisation.services.database.reading() as session:
        found = list(session.scalars(query))
    assert len(found) == 4
    return [one[-100:] for one in found]


def values_of(organisation: Organisation) -> Iterator[tuple[str, bytes]]:
    """Yield every value of every table, as bytes."""
    with organisation.services.database.reading() as session:
        for table in sorted(Base.metadata.tables.values(), key=lambda one: one.name):
            for row in session.execute(sa.select(table)):
                for value in row:
                    data = value.encode() if isinstance(value, str) else value
                    if isinstance(data, bytes):
                        yield table.name, data


def everything_stored(organisation: Organisation) -> bytes:
    """Return every value of every table, what is in Base64 also decoded, and SQLite's files."""
    stored = [data for _, data in values_of(organisation)]
    if organisation.services.database.is_sqlite:
        folder = organisation.services.config.data
        stored += [path.read_bytes() for path in folder.rglob("*.db*")]
    return b"\0".join(stored)


def test_a_withdrawal_ends_every_release_and_destroys_every_share(vaulted: Vaulted) -> None:
    organisation, case = vaulted.organisation, vaulted.case
    witness = Witness(organisation, vaulted.made)
    request = vaulted.released()
    assert vaulted.open(request).status_code == 201
    pending = vaulted.asked(vault="originals")
    third = vaulted.custodians[2].sign_in()
    sealed = [one[-100:] for vault in vaulted.made.vaults for one in vault.shares]
    sealed += _released_bytes(organisation, request)
    stored = everything_stored(organisation)
    assert all(one in stored for one in sealed), "the search finds what is there"

    assert witness.change("withdraw").status_code == 200
    assert slug(vaulted.open(request), 410) == "case-withdrawn"
    assert slug(vaulted.reader.get(f"/v1/releases/{request}/objects/2"), 410) == "case-withdrawn"
    assert slug(vaulted.ask(), 410) == "case-withdrawn"
    assert slug(vaulted.own_shares(third, pending), 410) == "case-withdrawn"
    assert slug(third.get(f"/v1/releases/{pending}"), 410) == "case-withdrawn"
    assert pending not in str(third.get("/v1/releases").get_json())
    assert rows(organisation, ReleasedShare, case=case) == 0
    assert rows(organisation, Share, case=case) == 12

    # Taken back in time, the vault is there, and its release is not.
    assert witness.change("take-back").status_code == 200
    assert vaulted.reader.claim(case).status_code == 204
    assert slug(vaulted.open(request), 410) == "release-over"
    assert slug(vaulted.own_shares(third, pending), 410) == "release-over"
    again = vaulted.released(reason="They agreed again.")
    assert vaulted.open(again).status_code == 201
    sealed += _released_bytes(organisation, again)

    assert witness.change("withdraw").status_code == 200
    organisation.clock.turn(days=7)
    assert destroy_due(organisation.services) == 1
    for table in (Share, Vault, ReleasedShare, ReleaseAnswer, UploadedObject):
        assert rows(organisation, table, case=case) == 0
    assert organisation.services.blobs.size(f"{case}/2") is None
    left = everything_stored(organisation)
    assert not any(one in left for one in sealed)
    assert not any(b64(one)[8:-8].encode() in left for one in sealed)
    told = witness.status()["releases"]
    assert [(one["vault"], one["purpose"]) for one in told] == [("identity", "icc")] * 2
    with organisation.services.database.reading() as session:
        testimony = session.get(intake.Testimony, case)
        assert testimony is not None
        # The tombstone keeps the hashes.
        assert vaulted.made.vaults[0].entry.sha256[0] in (testimony.receipt or "")
        bodies = session.scalars(
            sa.select(SignedAction.body).where(SignedAction.case == case)
        ).all()
        assert not any(bodies)


def test_what_was_never_finished_leaves_no_share(organisation: Organisation) -> None:
    organisation.clock.follow()
    made = organisation.seal(**vault_options(organisation))
    organisation.announce(made)
    assert rows(organisation, Share, case=made.case) == 12
    organisation.clock.turn(days=31)
    maintain(organisation.services)
    for table in (Share, Vault, UploadedObject, intake.Testimony):
        assert rows(organisation, table, case=made.case) == 0
    organisation.clock.follow()


# Nobody alone


def test_neither_server_nor_administrator_nor_one_custodian_holds_the_key(
    vaulted: Vaulted,
) -> None:
    """With everything that the server has, the reader's keys and one custodian's keys, after that one shared."""
    organisation = vaulted.organisation
    request = vaulted.asked()
    first = vaulted.custodians[0].sign_in()
    assert vaulted.share(first, request).status_code == 201
    for administrator in administrators(organisation):
        assert slug(administrator.get(f"/v1/releases/{request}"), 403) == "not-allowed"
        path = f"/v1/cases/{vaulted.case}/releases"
        assert slug(administrator.get(path), 403) == "not-allowed"
    seeds = [key.seed for key in vaulted.made.vault_keys.values()]
    identities = [vaulted.reader.keys.intake, first.keys.intake, vaulted.made.case_key]
    secrets = set(_secrets_of(vaulted, [one for one in identities if one]))
    assert len(secrets) >= 4, "the reader and one custodian open what is theirs"
    held = sorted(secrets)
    for size in (1, 2, 3, 4):
        for some in combinations(held, size):
            assert xor(some) not in seeds
    stored = everything_stored(organisation)
    folder = organisation.services.config.data
    files = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    for seed in seeds:
        for form in (seed, b64(seed).encode(), seed.hex().encode(), str(Identity(seed)).encode()):
            assert form not in stored
            assert form not in files


def _secrets_of(vaulted: Vaulted, identities: list[Identity]) -> Iterator[bytes]:
    """Open all that opens of a case, and yield what stands as 32 bytes in a line of its own."""
    with vaulted.organisation.services.database.reading() as session:
        sealed = [
            (kind, data)
            for table, kind in (
                (Share, Kind.SHARE),
                (ReleasedShare, Kind.SHARE),
                (intake.Grant, Kind.GRANT),
            )
            for data in session.scalars(sa.select(table.sealed).where(table.case == vaulted.case))
        ]
    for kind, data in sealed:
        for identity in identities:
            try:
                lines = open_sealed(data, identity, kind).decode("ascii").split("\n")
            except ProtocolError:
                continue
            for line in lines:
                try:
                    yield unb64(line, 32)
                except ProtocolError:
                    continue


def test_a_request_under_another_name_or_clock_is_refused(vaulted: Vaulted) -> None:
    organisation = vaulted.organisation
    body = vaulted.body()
    path = f"/v1/cases/{vaulted.case}/releases"

    def ask(**changes: Any) -> str:
        fields: dict[str, Any] = {
            "deployment": organisation.directory.deployment,
            "directory": organisation.directory.version,
            "action": "release-request",
            "case": vaulted.case,
            "actor": vaulted.reader.keys.id,
            "body": body,
            "made_at": organisation.clock(),
        }
        action = sign_action(vaulted.reader.keys.signing, **(fields | changes))
        return slug(vaulted.reader.post(path, {**body, "action": action}), 422)

    assert ask(action="release-share") == "action-refused"
    assert ask(actor=vaulted.custodians[0].keys.id) == "action-refused"
    assert ask(case=random_id()) == "action-refused"
    assert ask(body={**body, "days": 30}) == "action-refused"
    late = organisation.clock() - timedelta(minutes=6)
    assert ask(made_at=late) == "action-refused"
    reason = reason_document("another", case=vaulted.case, request=body["request"])
    key = organisation.directory.custodians.members[body["reasons"][0]["custodian"]]
    first = {**body["reasons"][0], "sealed": b64(seal_reason(reason, key))}
    assert ask(body={**body, "reasons": [first, *body["reasons"][1:]]}) == "action-refused"
