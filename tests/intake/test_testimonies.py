"""Submissions against a real service: taken once and whole, or refused with a reason and nothing stored."""

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from amana.protocol.admission import Notice, Proof
from amana.protocol.encoding import random_id, sha256_hex
from amana.protocol.receipt import verify_receipt
from amana.protocol.sealing import Identity, Recipient
from amana.protocol.submission import Limits, check_submission
from tests.support.testimonies import Made
from tests.support.uploads import Client


def test_a_text_only_testimony_is_received_with_one_request(client: Client) -> None:
    made = client.testimony()
    answer = client.submit(made)
    assert answer.status_code == 201
    document = answer.json()
    assert document["uploads"] == []
    event = check_submission(made.submission, Limits()).event(document["receipt"]["received_on"])
    assert document["receipt"]["event"] == event


def test_the_same_bytes_again_get_the_same_answer_without_a_price(client: Client) -> None:
    made = client.testimony()
    first = client.submit(made)
    again = client.submit(made, admission=None)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()


def test_the_same_case_with_other_bytes_is_refused_and_the_first_stays(client: Client) -> None:
    made, other = client.testimony(), client.testimony()
    first = client.submit(made)
    changed = replace(made, submission=replace(made.submission, account=other.submission.account))
    answer = client.submit(changed)
    assert (answer.status_code, answer.json()["type"]) == (409, "case-differs")
    assert client.submit(made, admission=None).json() == first.json()


def test_a_control_key_serves_one_testimony_only(client: Client) -> None:
    made, other = client.testimony(), client.testimony()
    client.submit(made)
    stolen = replace(other, submission=replace(other.submission, policy=made.submission.policy))
    answer = client.submit(stolen)
    assert (answer.status_code, answer.json()["type"]) == (409, "case-known")


def readers(client: Client, desk: str) -> dict[str, Any]:
    return {one.id: one.intake_key for one in client.directory.readers_of(desk)}


FAULTS: dict[str, tuple[str, Callable[[Client], Made]]] = {
    "a desk that is not there": (
        "desk-unknown",
        lambda c: c.testimony(readers=readers(c, "chemical"), desk="nowhere"),
    ),
    "another installation": ("deployment-unknown", lambda c: c.testimony(deployment="elsewhere")),
    "a consent text nobody wrote": (
        "consent-text-unknown",
        lambda c: c.testimony(consent_text_sha256=sha256_hex(b"other")),
    ),
    "a label of nobody": (
        "grant-for-nobody",
        lambda c: c.testimony(readers={random_id(): Identity.generate().recipient}),
    ),
    "a reader of another desk": (
        "grant-for-nobody",
        lambda c: c.testimony(readers=readers(c, "general")),
    ),
    "a reader whom the flags exclude": ("grant-excluded", lambda c: c.testimony(flags=["minor"])),
    "a key that is not in the directory": (
        "grant-key-unknown",
        lambda c: c.testimony(
            readers={i: Identity.generate().recipient for i in readers(c, "chemical")}
        ),
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_the_officers_did_not_sign_is_refused(client: Client, name: str) -> None:
    slug, make = FAULTS[name]
    made = make(client)
    answer = client.submit(made)
    assert (answer.status_code, answer.json()["type"]) == (422, slug)
    assert client.submit(made).status_code == 422


def test_each_fault_of_admission_is_answered_with_todays_price(client: Client) -> None:
    made = client.testimony()
    paid = Proof.parse(client.pay(made))
    faults = {
        "admission-missing": None,
        "admission-stale": replace(paid, day="2013-08-21").to_bytes(),
        "not-canonical": b"{",
    }
    for slug, proof in faults.items():
        answer = client.submit(made, admission=proof)
        assert answer.json()["type"] == slug
        if answer.status_code == 402:
            Notice.parse(answer.json()["notice"])
    assert client.submit(made).status_code == 201


@pytest.mark.parametrize(
    ("part", "data", "slug"),
    [
        ("policy", b"{}", "policy-invalid"),
        ("manifest", b"plain", "sealed-plaintext"),
        ("account", b"x" * 34427, "sealed-plaintext"),
        ("labels", b"[]", "grants-none"),
        ("objects", b"[[]]", "objects-invalid"),
        ("shares", b"[{}]", "shares-invalid"),
    ],
)
def test_a_malformed_part_has_its_slug(client: Client, part: str, data: bytes, slug: str) -> None:
    made = client.testimony()
    spoiled = replace(made, submission=replace(made.submission, **{part: data}))
    answer = client.submit(spoiled, admission=None)
    assert (answer.status_code, answer.json()["type"]) == (422, slug)


def test_a_vault_is_shared_among_the_custodians_of_the_directory_and_nobody_else(
    client: Client,
) -> None:
    custodians = client.directory.custodians
    listed = dict(custodians.members)
    assert custodians.k == 2
    first, *_ = listed
    stranger = Identity.generate().recipient
    wrong: list[tuple[dict[str, Recipient], int]] = [
        ({**listed, random_id(): stranger}, 2),
        ({one: key for one, key in listed.items() if one != first}, 2),
        ({**listed, first: stranger}, 2),
        (listed, 3),
    ]
    for members, k in wrong:
        made = client.testimony(files=(b"x",), custodians=members, k=k, identity=b"who")
        answer = client.submit(made)
        assert (answer.status_code, answer.json()["type"]) == (422, "custodians-differ")
    made = client.testimony(files=(b"x",), custodians=listed, k=2, identity=b"who")
    assert client.submit(made).status_code == 201


def test_a_testimony_with_a_vault_is_received_and_its_receipt_lists_every_share(
    client: Client,
) -> None:
    custodians = client.directory.custodians
    made = client.testimony(
        files=(b"a photo",),
        custodians=custodians.members,
        identity=b"who",
        originals=(b"a photo as it was",),
    )
    locations, completion = client.announce(made)
    again = client.submit(made, admission=None)
    assert again.status_code == 200
    other = replace(made, submission=replace(made.submission, shares=b"[]"))
    assert client.submit(other).json()["type"] == "case-differs"
    for location, data in zip(locations, made.sealed, strict=True):
        assert client.patch(location, 0, data).status_code == 204
    done = client.complete(completion)
    assert done.status_code == 200
    event = done.json()["receipt"]["event"]
    assert event["shares"] == [one.entry.document() for one in made.vaults]


def test_missing_unknown_and_double_parts_are_refused(client: Client) -> None:
    def post(**files: Any) -> str:
        slug: str = client.http.post("/v1/testimonies", files=files).json()["type"]
        return slug

    assert post(case=("case", b"x")) == "parts-invalid"
    assert post(extra=("extra", b"x")) == "parts-invalid"
    double = client.http.post(
        "/v1/testimonies", files=[("case", ("c", b"x")), ("case", ("c", b"x"))]
    )
    assert double.json()["type"] == "parts-invalid"
    assert client.http.post("/v1/testimonies", json={}).json()["type"] == "wrong-media-type"
    huge = client.http.post("/v1/testimonies", files={"policy": ("p", bytes(600_000))})
    assert huge.status_code == 413


def test_sixty_four_first_testimonies_at_once_are_all_received(client: Client) -> None:
    mades = [client.testimony() for _ in range(64)]
    paid = [client.pay(made) for made in mades]
    answers: dict[str, int] = {}

    def send(made: Made, proof: bytes) -> None:
        answers[made.case] = client.submit(made, admission=proof).status_code

    threads = [threading.Thread(target=send, args=pair) for pair in zip(mades, paid, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {made.case: 201 for made in mades}
    for made in mades:
        assert client.submit(made, admission=None).json()["receipt"]["case"] == made.case


def test_one_submission_sent_many_times_at_once_is_one(client: Client) -> None:
    made = client.testimony()
    proof = client.pay(made)
    answers: list[Any] = []

    def send() -> None:
        answers.append(client.submit(made, admission=proof))

    threads = [threading.Thread(target=send) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted({answer.status_code for answer in answers}) == [200, 201]
    assert [answer.status_code for answer in answers].count(201) == 1
    assert len({answer.json()["receipt"]["sig"] for answer in answers}) == 1


def test_the_receipt_is_signed_by_the_key_that_the_root_pins(client: Client) -> None:
    document = client.submit(client.testimony()).json()["receipt"]
    assert (
        verify_receipt(document, client.pins.custody_log_key).received_on == document["received_on"]
    )
