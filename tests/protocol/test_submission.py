"""A submission is taken only in its one form; each fault has its own slug."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from amana.intake.routes import SUBMISSION_LIMIT_BYTES
from amana.protocol.case import GRANT_SIZE, intake_key_id, seal_grant
from amana.protocol.encoding import canonical, parse_canonical, random_id
from amana.protocol.errors import ProtocolError
from amana.protocol.policy import LIMIT_BYTES as POLICY_LIMIT
from amana.protocol.sealing import Identity, Kind, seal, sealed_size
from amana.protocol.submission import (
    DeclaredObject,
    Label,
    Limits,
    Submission,
    check_submission,
    labels_bytes,
    objects_bytes,
)
from amana.protocol.vault import SHARES_LIMIT_BYTES
from tests.support.testimonies import Made, make_testimony

READERS = {random_id(): Identity.generate().recipient for _ in range(3)}
MADE = make_testimony(READERS, files=[b"one", b"two"])
CUSTODIANS = {random_id(): Identity.generate().recipient for _ in range(3)}
VAULTED = make_testimony(
    READERS,
    files=(b"a photo",),
    custodians=CUSTODIANS,
    identity=b"who I am",
    originals=(b"a photo as it was",),
)


def test_a_whole_submission_is_taken() -> None:
    checked = check_submission(MADE.submission, Limits())
    assert checked.case == MADE.case
    assert [label.reader for label in checked.labels] == sorted(READERS)
    assert [item.size for item in checked.objects] == [len(one) for one in MADE.sealed]


def with_labels(count: int, *, same: bool = False) -> Submission:
    ids = sorted(random_id() for _ in range(count))
    if same:
        ids = [ids[0]] * count
    recipient = Identity.generate().recipient
    grant = seal_grant(MADE.case_key, recipient)
    labels = labels_bytes([Label(one, intake_key_id(recipient)) for one in ids])
    return replace(MADE.submission, labels=labels, grants=grant * count)


def declared(*objects: DeclaredObject) -> Submission:
    return replace(MADE.submission, objects=objects_bytes(list(objects)))


FILE = sealed_size(65536)
HASH = "0" * 64
LONE = seal(b"x", MADE.case_key.recipient, Kind.GRANT)

FAULTS: dict[str, tuple[str, Callable[[Made], Submission]]] = {
    "no grant": ("grants-none", lambda m: replace(m.submission, labels=b"[]", grants=b"")),
    "seventeen grants": ("grants-too-many", lambda _: with_labels(17)),
    "two grants for one reader": ("grants-double", lambda _: with_labels(2, same=True)),
    "a grant too few": (
        "grants-size",
        lambda m: replace(m.submission, grants=m.submission.grants[GRANT_SIZE:]),
    ),
    "a grant of another kind": (
        "sealed-plaintext",
        lambda m: replace(m.submission, grants=bytes(len(m.submission.grants))),
    ),
    "labels out of order": (
        "labels-invalid",
        lambda _: replace(
            with_labels(2),
            labels=canonical([{"reader": c * 32, "intake_key": "a" * 32} for c in ("b", "a")]),
        ),
    ),
    "a label with one field more": (
        "labels-invalid",
        lambda _: replace(
            with_labels(1),
            labels=canonical([{"reader": "a" * 32, "intake_key": "a" * 32, "name": "x"}]),
        ),
    ),
    "a manifest in no bucket": (
        "sealed-size",
        lambda m: replace(m.submission, manifest=m.submission.manifest + b"x"),
    ),
    "a grant as manifest": ("sealed-bucket", lambda m: replace(m.submission, manifest=LONE)),
    "a plain account": ("sealed-plaintext", lambda m: replace(m.submission, account=b"{}")),
    "shares that are none": ("shares-invalid", lambda m: replace(m.submission, shares=b"[1]")),
    "a vault whose object is not announced": (
        "shares-invalid",
        lambda _: replace(VAULTED.submission, objects=objects_bytes([])),
    ),
    "an id that is none": ("bad-id", lambda m: replace(m.submission, case=b"x")),
    "an id that is not ascii": ("bad-id", lambda m: replace(m.submission, case=b"\xff" * 32)),
    "four tebibytes": (
        "object-too-large",
        lambda _: declared(DeclaredObject(1, sealed_size(4 * 2**40), HASH)),
    ),
    "a size that no sealed file has": (
        "sealed-size",
        lambda _: declared(DeclaredObject(1, FILE + 1, HASH)),
    ),
    "a size in no bucket": (
        "sealed-size",
        lambda _: declared(DeclaredObject(1, sealed_size(65537), HASH)),
    ),
    "a number twice": (
        "objects-invalid",
        lambda _: declared(DeclaredObject(1, FILE, HASH), DeclaredObject(1, FILE, HASH)),
    ),
    "more objects than are taken": (
        "objects-too-many",
        lambda _: declared(*(DeclaredObject(i, FILE, HASH) for i in range(1, 65))),
    ),
    "neither account nor objects": (
        "account-missing",
        lambda m: replace(m.submission, account=b"", objects=b"[]"),
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_has_its_slug(name: str) -> None:
    slug, spoil = FAULTS[name]
    with pytest.raises(ProtocolError) as refused:
        check_submission(spoil(MADE), Limits())
    assert refused.value.slug == slug


def test_a_case_larger_than_its_limit_is_refused() -> None:
    total = sum(len(one) for one in MADE.sealed)
    check_submission(MADE.submission, Limits(case_bytes=total))
    with pytest.raises(ProtocolError) as refused:
        check_submission(MADE.submission, Limits(case_bytes=total - 1))
    assert refused.value.slug == "case-too-large"


def test_the_digest_covers_every_part_and_where_it_ends() -> None:
    digest = MADE.submission.digest()
    for name in Submission.__dataclass_fields__:
        part = getattr(MADE.submission, name)
        assert replace(MADE.submission, **{name: part + b"x"}).digest() != digest
    moved = replace(
        MADE.submission,
        manifest=MADE.submission.manifest + MADE.submission.account[:1],
        account=MADE.submission.account[1:],
    )
    assert moved.digest() != digest


def test_a_vault_is_taken_with_all_its_shares_and_its_event_lists_them() -> None:
    checked = check_submission(VAULTED.submission, Limits())
    assert checked.vaults == VAULTED.vaults
    assert [one.entry.vault for one in checked.vaults] == ["identity", "originals"]
    listed = checked.event("2026-11-24")["shares"]
    assert listed == [one.entry.document() for one in VAULTED.vaults]
    assert check_submission(MADE.submission, Limits()).event("2026-11-24")["shares"] == []


def test_no_vault_holds_an_account_that_is_uploaded() -> None:
    first, *rest = parse_canonical(VAULTED.submission.shares, limit=SHARES_LIMIT_BYTES)
    shares = canonical([{**first, "objects": [0]}, *rest])
    with pytest.raises(ProtocolError) as refused:
        check_submission(replace(VAULTED.submission, shares=shares), Limits())
    assert refused.value.slug == "shares-invalid"


def test_the_largest_submission_fits_the_limit_of_the_server() -> None:
    five = {random_id(): Identity.generate().recipient for _ in range(5)}
    largest = make_testimony(
        {random_id(): Identity.generate().recipient for _ in range(16)},
        account=bytes(131072 - 8),
        files=[b"x"] * 31,
        custodians=five,
        k=3,
        identity=b"who I am",
        originals=[f"original {n}".encode() for n in range(31)],
    )
    parts = vars(largest.submission)
    # The largest policy and the largest manifest are still to come.
    grown = sum(map(len, parts.values())) - len(parts["policy"]) - len(parts["manifest"])
    grown += POLICY_LIMIT + sealed_size(131072)
    assert grown + 16 * 1024 < SUBMISSION_LIMIT_BYTES
    check_submission(largest.submission, Limits())
