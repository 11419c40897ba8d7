"""A custodian's program seals a share to nobody whose request, reason, consent and receipt did not verify right there."""

import copy
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from amana.client.custodian import Asked, Custodian, Unverified
from amana.client.errors import NotVerified, Refused, Usage
from amana.client.keyfile import PersonKeys
from amana.protocol.action import sign_action
from amana.protocol.case import intake_key_id
from amana.protocol.encoding import b64, canonical, parse_canonical, random_id, unb64
from amana.protocol.policy import LIMIT_BYTES as POLICY_LIMIT
from amana.protocol.policy import TAG as POLICY_TAG
from amana.protocol.policy import next_policy, parse_policy
from amana.protocol.receipt import sign_receipt
from amana.protocol.release import (
    parse_request,
    reason_document,
    reason_sha256,
    seal_reason,
)
from amana.protocol.signing import SigningKey
from amana.vault.models import ReleaseAnswer
from tests.support.lying import Lying, in_json
from tests.support.organisation import Organisation, organisation_in
from tests.support.vaults import REASON, Programs, Vaulted


@dataclass
class House:
    """An organisation, served by a server that can lie."""

    organisation: Organisation
    lying: Lying
    programs: Programs

    @property
    def keys(self) -> list[PersonKeys]:
        return self.organisation.of_role("custodian")

    def custodian(self, n: int = 0, **options: Any) -> Custodian:
        return self.programs.custodian(self.keys[n], **options)

    def posted(self) -> list[str]:
        """Return where the programs posted anything but their sign-in; the lies of a test send testimonies."""
        own = ("/v1/sessions", "/v1/testimonies")
        return [path for method, path, _ in self.lying.seen if method == "POST" and path not in own]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with organisation_in(tmp_path_factory.mktemp("organisation")) as organisation:
        lying = Lying(organisation.app.wsgi_app)
        organisation.app.wsgi_app = lying  # type: ignore[method-assign]
        with organisation.served() as url, ExitStack() as stack:
            yield House(organisation, lying, Programs(organisation, url, stack))


@pytest.fixture
def house(served: House) -> House:
    served.lying.lies.clear()
    served.lying.seen.clear()
    served.organisation.clock.follow()
    return served


@pytest.fixture
def vaulted(house: House) -> Vaulted:
    return Vaulted.make(house.organisation)


def test_a_request_is_shown_as_it_was_signed(house: House, vaulted: Vaulted) -> None:
    request = vaulted.asked()
    found = {one.request: one for one in house.custodian().pending()}
    asked = found[request]
    assert isinstance(asked, Asked)
    assert (asked.case, asked.vault, asked.purpose) == (vaulted.case, "identity", "icc")
    assert asked.reader == vaulted.reader.keys.id
    assert asked.desks == ("chemical",)
    assert asked.reason == REASON
    assert (asked.k, asked.shared, asked.granted_by_witness) == (2, 0, True)
    house.custodian().share(request)
    assert house.custodian(1).look_at(request).shared == 1
    assert request not in {one.request for one in house.custodian().pending()}


def test_a_reader_who_was_handed_the_case_is_told_from_those_whom_the_witness_chose(
    house: House,
) -> None:
    lead, colleague = house.organisation.desks["chemical"]
    vaulted = Vaulted.make(house.organisation, readers={lead.id: lead.intake_recipient})
    house.programs.reader(lead).hand_over(vaulted.case, colleague.id, second=False)
    reader = house.organisation.as_person(colleague).sign_in()
    assert reader.claim(vaulted.case).status_code == 204
    answer = vaulted.ask(reader)
    assert answer.status_code == 201, answer.get_json()
    asked = house.custodian().look_at(answer.get_json()["request"])
    assert (asked.reader, asked.granted_by_witness) == (colleague.id, False)


Lie = Callable[[dict[str, Any], Vaulted], None]


def another_action(told: dict[str, Any], vaulted: Vaulted, **changes: Any) -> None:
    fields: dict[str, Any] = {
        "deployment": vaulted.organisation.directory.deployment,
        "directory": vaulted.organisation.directory.version,
        "action": "release-request",
        "case": vaulted.case,
        "actor": vaulted.reader.keys.id,
        "body": told["body"],
        "made_at": vaulted.organisation.clock(),
    }
    key = changes.pop("key", vaulted.reader.keys.signing)
    told["action"] = sign_action(key, **(fields | changes))


def by_a_stranger(told: dict[str, Any], vaulted: Vaulted) -> None:
    another_action(told, vaulted, key=SigningKey.generate(), actor=random_id())


def under_a_readers_name(told: dict[str, Any], vaulted: Vaulted) -> None:
    another_action(told, vaulted, key=SigningKey.generate())


def by_an_administrator(told: dict[str, Any], vaulted: Vaulted) -> None:
    keys = vaulted.organisation.administrator
    another_action(told, vaulted, key=keys.signing, actor=keys.id)


def by_the_custodian(told: dict[str, Any], vaulted: Vaulted) -> None:
    keys = vaulted.custodians[0].keys
    another_action(told, vaulted, key=keys.signing, actor=keys.id)


def by_a_reader_of_another_desk(told: dict[str, Any], vaulted: Vaulted) -> None:
    keys = vaulted.organisation.desks["general"][0]
    told["body"]["intake_key"] = intake_key_id(keys.intake_recipient)
    another_action(told, vaulted, key=keys.signing, actor=keys.id)


def for_another_act(told: dict[str, Any], vaulted: Vaulted) -> None:
    another_action(told, vaulted, action="open")


def of_another_installation(told: dict[str, Any], vaulted: Vaulted) -> None:
    another_action(told, vaulted, deployment="elsewhere")


def of_another_case(told: dict[str, Any], vaulted: Vaulted) -> None:
    another_action(told, vaulted, case=random_id())


def of_an_earlier_day(told: dict[str, Any], vaulted: Vaulted) -> None:
    days = timedelta(days=told["body"]["days"] + 1)
    another_action(told, vaulted, made_at=vaulted.organisation.clock() - days)


def with_another_purpose(told: dict[str, Any], _: Vaulted) -> None:
    told["body"]["purpose"] = "contact"


def for_longer(told: dict[str, Any], _: Vaulted) -> None:
    told["body"]["days"] = 30


def for_the_originals(told: dict[str, Any], _: Vaulted) -> None:
    told["body"]["vault"] = "originals"


def to_another_key(told: dict[str, Any], vaulted: Vaulted) -> None:
    told["body"]["intake_key"] = "a" * 32
    another_action(told, vaulted)


def under_another_request(told: dict[str, Any], vaulted: Vaulted) -> None:
    told["body"]["request"] = random_id()
    another_action(told, vaulted)


def with_another_reason(told: dict[str, Any], vaulted: Vaulted) -> None:
    """A reader in league with the server tells one custodian something else."""
    mine = next(
        one for one in told["body"]["reasons"] if one["custodian"] == vaulted.custodians[0].keys.id
    )
    document = reason_document("Nothing much.", case=vaulted.case, request=told["request"])
    recipient = vaulted.custodians[0].keys.intake_recipient
    mine["sealed"] = b64(seal_reason(document, recipient))
    another_action(told, vaulted)


def without_a_reason_for_me(told: dict[str, Any], vaulted: Vaulted) -> None:
    me = vaulted.custodians[0].keys.id
    told["body"]["reasons"] = [one for one in told["body"]["reasons"] if one["custodian"] != me]
    another_action(told, vaulted)


def whose_reason_nobody_opens(told: dict[str, Any], vaulted: Vaulted) -> None:
    told["body"]["reason_sha256"] = reason_sha256(b"something else")
    another_action(told, vaulted)


def with_the_receipt_of_another_case(told: dict[str, Any], vaulted: Vaulted) -> None:
    other = vaulted.organisation.send()
    client = vaulted.reader
    told["receipt"] = client.get(f"/v1/cases/{other.case}").get_json()["receipt"]


def with_a_forged_receipt(told: dict[str, Any], _: Vaulted) -> None:
    event = {**told["receipt"]["event"], "received_on": "2026-01-01"}
    key = unb64(told["receipt"]["key"], 32)
    told["receipt"] = sign_receipt(SigningKey.generate(), event, key)


def with_another_policy(told: dict[str, Any], vaulted: Vaulted) -> None:
    control = SigningKey.generate()
    other = vaulted.organisation.seal(
        control=control,
        scopes=dict.fromkeys(("review", "icc"), "allow"),
        identity_level="public",
    )
    told["policies"] = [{**told["policies"][0], "policy": b64(other.submission.policy)}]


def with_a_policy_that_nobody_signed(told: dict[str, Any], vaulted: Vaulted) -> None:
    """What the server would like the witness to have allowed."""
    last = parse_policy(unb64(told["policies"][-1]["policy"]))
    wide = next_policy(
        vaulted.made.control,
        last,
        scopes={"icc": "allow"},
        identity_level="public",
        made_on="2026-11-24",
    )
    fields = parse_canonical(wide, limit=POLICY_LIMIT)
    fields.pop("sig")
    forged = canonical(SigningKey.generate().sign_fields(POLICY_TAG, fields))
    told["policies"].append(
        {"policy": b64(forged), "received_on": told["policies"][0]["received_on"]}
    )


def without_policies(told: dict[str, Any], _: Vaulted) -> None:
    told["policies"] = []


def without_form(told: dict[str, Any], _: Vaulted) -> None:
    told["action"] = None


def counted_in_words(told: dict[str, Any], _: Vaulted) -> None:
    told["k"] = "\x1b[2J"


LIES: dict[str, tuple[Lie, set[str]]] = {
    one.__name__: (one, slugs)
    for one, slugs in (
        (by_a_stranger, {"reader-unknown"}),
        (under_a_readers_name, {"bad-signature"}),
        (by_an_administrator, {"reader-unknown"}),
        (by_the_custodian, {"reader-unknown"}),
        (by_a_reader_of_another_desk, {"reader-unknown"}),
        (for_another_act, {"request-differs"}),
        (of_another_installation, {"request-differs"}),
        (of_another_case, {"reason-invalid"}),
        (of_an_earlier_day, {"release-over"}),
        (with_another_purpose, {"request-differs"}),
        (for_longer, {"request-differs"}),
        (for_the_originals, {"request-differs"}),
        (to_another_key, {"reader-key-replaced"}),
        (under_another_request, {"request-differs"}),
        (with_another_reason, {"reason-differs"}),
        (without_a_reason_for_me, {"reason-missing"}),
        (whose_reason_nobody_opens, {"reason-differs"}),
        (with_the_receipt_of_another_case, {"receipt-differs"}),
        (with_a_forged_receipt, {"bad-signature"}),
        (with_another_policy, {"receipt-differs"}),
        (with_a_policy_that_nobody_signed, {"bad-signature", "policy-changes"}),
        (without_policies, {"policy-order"}),
        (without_form, {"action-invalid"}),
        (counted_in_words, {"bad-answer"}),
    )
}


@pytest.mark.parametrize("name", LIES)
def test_a_request_that_does_not_hold_is_not_answered(
    house: House, vaulted: Vaulted, name: str
) -> None:
    lie, slugs = LIES[name]
    request = vaulted.asked()
    house.lying.lies[f"/v1/releases/{request}"] = in_json(lambda told: lie(told, vaulted))
    house.lying.seen.clear()
    custodian = house.custodian()
    with pytest.raises(NotVerified) as refused:
        custodian.share(request)
    assert refused.value.slug in slugs
    with pytest.raises(NotVerified):
        custodian.decline(request, "no")
    shown = {one.request: one for one in custodian.pending()}[request]
    assert isinstance(shown, Unverified)
    assert shown.slug in slugs
    assert house.posted() == []


def test_consent_that_does_not_cover_it_stops_the_custodian_also_where_the_server_does_not_mind(
    house: House, vaulted: Vaulted
) -> None:
    """The server of this test serves what another one would refuse: the policies of a witness who asks first."""
    request = vaulted.asked()
    narrow = Vaulted.make(house.organisation, scopes={"review": "allow", "icc": "ask"})
    receipt = narrow.reader.get(f"/v1/cases/{narrow.case}").get_json()["receipt"]
    policy = b64(narrow.made.submission.policy)

    def lie(told: dict[str, Any]) -> None:
        body = {**told["body"], "reasons": []}
        document = reason_document(REASON, case=narrow.case, request=request)
        body["reason_sha256"] = reason_sha256(document)
        members = house.organisation.directory.custodians.members
        body["reasons"] = [
            {**one, "sealed": b64(seal_reason(document, members[one["custodian"]]))}
            for one in told["body"]["reasons"]
        ]
        parse_request(body)
        told["body"], told["receipt"] = body, receipt
        told["policies"] = [{"policy": policy, "received_on": told["policies"][0]["received_on"]}]
        another_action(told, vaulted, case=narrow.case)

    house.lying.lies[f"/v1/releases/{request}"] = in_json(lie)
    with pytest.raises(NotVerified) as refused:
        house.custodian().share(request)
    assert refused.value.slug == "consent-asks"


def test_a_request_whose_time_is_over_is_not_answered_whatever_the_server_says(
    house: House, vaulted: Vaulted
) -> None:
    request = vaulted.asked(days=2)
    moment = house.organisation.clock()

    def later() -> datetime:
        return moment + timedelta(days=3)

    with pytest.raises((NotVerified, Refused)):
        house.custodian(clock=later).share(request)
    assert house.custodian().share(request) is False


def first(told: dict[str, Any]) -> dict[str, Any]:
    one: dict[str, Any] = told["shares"][0]
    return one


def set_with_the_reader(told: dict[str, Any], vaulted: Vaulted) -> None:
    me = vaulted.custodians[0].keys.id
    first(told)["subset"] = sorted([me, vaulted.reader.keys.id])


def share_of_another_case(told: dict[str, Any], vaulted: Vaulted) -> None:
    other = Vaulted.make(vaulted.organisation)
    [made] = [one for one in other.made.vaults if one.entry.vault == "identity"]
    me = vaulted.custodians[0].keys.id
    at = next(n for n, (_, who) in enumerate(made.entry.places) if who == me)
    first(told)["sealed"] = b64(made.shares[at])
    first(told)["maker"] = vaulted.custodians[1].keys.id


def share_of_the_other_vault(told: dict[str, Any], vaulted: Vaulted) -> None:
    [made] = [one for one in vaulted.made.vaults if one.entry.vault == "originals"]
    me = vaulted.custodians[0].keys.id
    at = next(n for n, (_, who) in enumerate(made.entry.places) if who == me)
    first(told)["sealed"] = b64(made.shares[at])


def share_that_was_damaged(told: dict[str, Any], _: Vaulted) -> None:
    sealed = bytearray(unb64(first(told)["sealed"]))
    sealed[-1] ^= 1
    first(told)["sealed"] = b64(bytes(sealed))


def share_to_another_key(told: dict[str, Any], _: Vaulted) -> None:
    first(told)["intake_key"] = "a" * 32


def share_of_another_set(told: dict[str, Any], _: Vaulted) -> None:
    one, other = told["shares"]
    one["sealed"], other["sealed"] = other["sealed"], one["sealed"]


def no_share(told: dict[str, Any], _: Vaulted) -> None:
    told["shares"] = []


def short_share(told: dict[str, Any], _: Vaulted) -> None:
    first(told)["sealed"] = "AAAA"


def pieces_of_one_maker(told: dict[str, Any], vaulted: Vaulted) -> None:
    first(told)["maker"] = vaulted.custodians[1].keys.id


@pytest.mark.parametrize(
    "lie",
    [
        set_with_the_reader,
        share_of_another_case,
        share_of_the_other_vault,
        share_that_was_damaged,
        share_to_another_key,
        share_of_another_set,
        no_share,
        short_share,
        pieces_of_one_maker,
    ],
)
def test_a_share_that_is_not_ones_own_is_sealed_to_nobody(
    house: House, vaulted: Vaulted, lie: Lie
) -> None:
    request = vaulted.asked()
    path = f"/v1/releases/{request}/openings"
    house.lying.lies[path] = in_json(lambda told: lie(told, vaulted))
    with pytest.raises(NotVerified):
        house.custodian().share(request)
    assert f"/v1/releases/{request}/shares" not in house.posted()
    house.lying.lies.clear()
    with house.organisation.services.database.reading() as session:
        assert session.get(ReleaseAnswer, (request, house.keys[0].id)) is None
    assert house.custodian().share(request) is False


def test_a_custodian_whose_key_was_replaced_still_opens_older_shares(
    house: House, vaulted: Vaulted
) -> None:
    request = vaulted.asked()
    renewed = house.keys[0].renewed()
    assert house.programs.custodian(renewed).share(request) is False
    forgetful = replace(renewed, former=())
    again = vaulted.asked()
    with pytest.raises(NotVerified) as refused:
        house.programs.custodian(forgetful).share(again)
    assert refused.value.slug == "reason-missing"


def test_what_cannot_be_asked_is_not_sent(house: House, vaulted: Vaulted) -> None:
    request = vaulted.asked()
    custodian = house.custodian()
    house.lying.seen.clear()
    with pytest.raises(Usage):
        custodian.share("../people")
    with pytest.raises(Usage):
        custodian.decline(request, " ")
    assert house.posted() == []
    with pytest.raises(Refused) as refused:
        custodian.share(random_id())
    assert refused.value.slug == "not-found"


@pytest.mark.parametrize(
    "change",
    [
        lambda told: told["vaults"][0].update(case="\x1b[2J"),
        lambda told: told["vaults"][0].update(vault="names"),
        lambda told: told["vaults"][0].update(sets=[["x"]]),
        lambda told: told["vaults"][0]["sets"][0].reverse(),
        lambda told: told.update(vaults=[{}]),
        lambda told: told.pop("vaults"),
    ],
)
def test_a_list_out_of_its_form_is_refused(
    house: House, change: Callable[[dict[str, Any]], object]
) -> None:
    a, b = "a" * 32, "b" * 32
    work = {"case": a, "vault": "identity", "k": 2, "sets": [[a, b]], "stale": [], "done": []}

    def lie(told: dict[str, Any]) -> None:
        told["vaults"] = [copy.deepcopy(work)]
        change(told)

    house.lying.lies["/v1/re-sharings"] = in_json(lie)
    with pytest.raises(NotVerified):
        house.custodian().share_anew()


def test_a_list_that_does_not_end_is_left(house: House) -> None:
    a, b = "a" * 32, "b" * 32
    work = {"case": a, "vault": "identity", "k": 2, "sets": [[a, b]], "stale": [], "done": []}
    house.lying.lies["/v1/re-sharings"] = in_json(lambda told: told.update(vaults=[work]))
    with pytest.raises(NotVerified) as refused:
        house.custodian().share_anew()
    assert refused.value.slug == "bad-answer"
