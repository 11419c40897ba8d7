"""The vault: any k of the custodians open it, k - 1 hold what fits every key, and no share passes for another."""

import json
from collections.abc import Callable
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amana.protocol.encoding import canonical, parse_canonical, random_id
from amana.protocol.errors import CannotOpen, ProtocolError
from amana.protocol.sealing import Identity, Kind, seal
from amana.protocol.vault import (
    SHARES_LIMIT_BYTES,
    VAULTS,
    SealedVault,
    ShareMismatch,
    Subset,
    VaultKeyWrong,
    combine,
    open_pieces,
    open_released,
    open_share,
    parse_entries,
    parse_shares,
    places,
    resharing,
    seal_pieces,
    seal_released,
    seal_vault,
    share_text,
    shares_bytes,
    split,
    subset_id,
    subsets,
    vault_key_id,
    xor,
)

CASE = random_id()
PEOPLE = {random_id(): Identity.generate() for _ in range(7)}
IDS = sorted(PEOPLE)
SIZES = [(n, k) for n in range(2, 6) for k in range(2, n + 1)]


def sealed(
    n: int, k: int, vault: str = "identity", case: str = CASE
) -> tuple[Identity, SealedVault]:
    identity = Identity.generate()
    custodians = {one: PEOPLE[one].recipient for one in IDS[:n]}
    made = seal_vault(identity, case=case, vault=vault, custodians=custodians, k=k, objects=[1])
    return identity, made


def shares_of(made: SealedVault, case: str = CASE) -> dict[tuple[Subset, str], bytes]:
    """Open every share as its holder would."""
    return {
        (subset, custodian): open_share(
            share,
            PEOPLE[custodian],
            case=case,
            vault=made.entry.vault,
            custodian=custodian,
            subset=subset,
        )
        for (subset, custodian), share in zip(made.entry.places, made.shares, strict=True)
    }


@pytest.mark.parametrize(("n", "k"), SIZES)
def test_any_k_of_n_open_a_vault_and_no_other_number_of_shares_does(n: int, k: int) -> None:
    identity, made = sealed(n, k)
    opened = shares_of(made)
    assert len(opened) == len(made.entry.sha256) == len(list(combinations(range(n), k))) * k
    for together in combinations(IDS[:n], k):
        shares = [opened[together, one] for one in together]
        assert combine(shares, made.entry.key).seed == identity.seed
        for fewer in range(k):
            with pytest.raises(VaultKeyWrong):
                combine(shares[:fewer] or [bytes(32)], made.entry.key)
        with pytest.raises(VaultKeyWrong):
            combine([*shares, shares[0]], made.entry.key)


@given(
    st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32), st.sampled_from(SIZES)
)
@settings(max_examples=60, deadline=None)
def test_what_fewer_than_k_hold_fits_every_seed(
    seed: bytes, other: bytes, size: tuple[int, int]
) -> None:
    n, k = size
    dealt = {subset: split(seed, k) for subset in subsets(IDS[:n], k)}
    for few in combinations(IDS[:n], k - 1):
        for subset, shares in dealt.items():
            theirs = {i: shares[i] for i, one in enumerate(subset) if one in few}
            missing = [i for i in range(k) if i not in theirs]
            assert missing, "somebody else is needed in every set"
            # Whatever the seed had been, the share that they lack would make these shares its shares.
            last = xor([other, *theirs.values(), *(shares[i] for i in missing[1:])])
            rest = {**theirs, **{i: shares[i] for i in missing[1:]}, missing[0]: last}
            assert xor([rest[i] for i in range(k)]) == other


@given(st.binary(min_size=32, max_size=32), st.integers(2, 5), st.data())
def test_shares_are_as_random_as_what_they_are_made_of(seed: bytes, k: int, data: Any) -> None:
    drawn = [data.draw(st.binary(min_size=32, max_size=32)) for _ in range(k - 1)]
    stream = iter(drawn)
    shares = split(seed, k, lambda _size: next(stream))
    assert shares[:-1] == drawn
    # Only the last one depends on the seed, and it is hidden by those that were drawn.
    assert xor(shares) == seed
    assert xor(shares[1:]) == xor([seed, drawn[0]])


@pytest.mark.parametrize(("n", "k"), [(3, 2), (4, 3), (5, 3), (5, 4)])
def test_no_combination_of_what_fewer_than_k_hold_is_the_key(n: int, k: int) -> None:
    identity, made = sealed(n, k)
    seed = int.from_bytes(identity.seed, "big")
    for few in combinations(IDS[:n], k - 1):
        held = [
            int.from_bytes(one, "big") for (_, who), one in shares_of(made).items() if who in few
        ]
        sums = {0}
        for share in held:
            sums |= {share ^ one for one in sums}
        assert seed not in sums


def test_a_share_says_nothing_of_the_seed_on_average() -> None:
    bits = [0] * 256
    rounds = 600
    for _ in range(rounds):
        share = int.from_bytes(split(b"\xff" * 32, 3)[-1], "big")
        for i in range(256):
            bits[i] += share >> i & 1
    # Six standard deviations of a fair coin: a bit that leaned would be seen.
    assert all(abs(count - rounds / 2) < 6 * (rounds / 4) ** 0.5 for count in bits)


def altered(made: SealedVault, change: Callable[[list[bytes]], object]) -> list[bytes]:
    shares = list(made.shares)
    change(shares)
    return shares


@pytest.mark.parametrize("n_k", [(3, 2), (5, 3)])
def test_a_share_does_not_pass_for_another(n_k: tuple[int, int]) -> None:
    _, made = sealed(*n_k)
    (subset, custodian), share = made.entry.places[0], made.shares[0]
    labels: dict[str, Any] = {
        "case": CASE,
        "vault": "identity",
        "custodian": custodian,
        "subset": subset,
    }
    assert len(open_share(share, PEOPLE[custodian], **labels)) == 32
    others = {
        "case": random_id(),
        "vault": "originals",
        "custodian": subset[1],
        "subset": tuple(IDS[1 : 1 + n_k[1]]),
    }
    for name, value in others.items():
        with pytest.raises(ShareMismatch):
            open_share(share, PEOPLE[custodian], **{**labels, name: value})
    with pytest.raises(CannotOpen):
        open_share(share, PEOPLE[subset[1]], **labels)
    damaged = share[:-1] + bytes([share[-1] ^ 1])
    with pytest.raises(CannotOpen):
        open_share(damaged, PEOPLE[custodian], **labels)


@given(st.integers(0, 1914), st.integers(0, 7))
@settings(max_examples=40, deadline=None)
def test_a_flipped_bit_anywhere_is_noticed(place: int, bit: int) -> None:
    _, made = sealed(2, 2)
    share = bytearray(made.shares[0])
    share[place] ^= 1 << bit
    subset, custodian = made.entry.places[0]
    with pytest.raises(ProtocolError):
        open_share(
            bytes(share),
            PEOPLE[custodian],
            case=CASE,
            vault="identity",
            custodian=custodian,
            subset=subset,
        )


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"x",
        b"amana-vault-share-v1\n",
        share_text(
            b"x" * 31, case=CASE, vault="identity", custodian=IDS[0], subset=(IDS[0], IDS[1])
        ),
        share_text(
            b"x" * 32, case=CASE, vault="identity", custodian=IDS[0], subset=(IDS[0], IDS[1])
        )
        + b"\n",
        share_text(
            b"x" * 32, case=CASE, vault="identity", custodian=IDS[0], subset=(IDS[0], IDS[1])
        ).replace(b"v1", b"v2", 1),
        "é".encode(),
    ],
    ids=lambda _text: "text",
)
def test_what_is_sealed_but_no_share_is_refused(text: bytes) -> None:
    data = seal(text, PEOPLE[IDS[0]].recipient, Kind.SHARE)
    with pytest.raises(ShareMismatch):
        open_share(
            data,
            PEOPLE[IDS[0]],
            case=CASE,
            vault="identity",
            custodian=IDS[0],
            subset=(IDS[0], IDS[1]),
        )


def test_wrong_shares_together_are_not_the_key() -> None:
    _, one = sealed(3, 2)
    _, other = sealed(3, 2)
    mine, theirs = shares_of(one), shares_of(other)
    subset = (IDS[0], IDS[1])
    for shares in (
        [mine[subset, IDS[0]], theirs[subset, IDS[1]]],
        [mine[subset, IDS[0]], mine[(IDS[1], IDS[2]), IDS[1]]],
        [mine[subset, IDS[0]], bytes(32)],
    ):
        with pytest.raises(VaultKeyWrong):
            combine(shares, one.entry.key)


def test_identity_and_originals_have_nothing_in_common() -> None:
    first, one = sealed(3, 2, "identity")
    second, other = sealed(3, 2, "originals")
    assert first.seed != second.seed
    assert one.entry.key != other.entry.key
    subset = (IDS[0], IDS[1])
    with pytest.raises(VaultKeyWrong):
        combine([shares_of(one)[subset, who] for who in subset], other.entry.key)


# The part of a submission


def both(n: int = 3, k: int = 2) -> list[SealedVault]:
    made = []
    for i, vault in enumerate(VAULTS, start=1):
        custodians = {one: PEOPLE[one].recipient for one in IDS[:n]}
        identity = Identity.generate()
        made.append(
            seal_vault(identity, case=CASE, vault=vault, custodians=custodians, k=k, objects=[i])
        )
    return made


@pytest.mark.parametrize(("n", "k"), SIZES)
def test_shares_travel_whole(n: int, k: int) -> None:
    made = both(n, k)
    data = shares_bytes(made)
    assert len(data) <= SHARES_LIMIT_BYTES
    assert list(parse_shares(data)) == made
    assert parse_entries([one.entry.document() for one in made]) == tuple(one.entry for one in made)


def test_nothing_is_no_vault() -> None:
    assert parse_shares(b"[]") == ()
    assert shares_bytes([]) == b"[]"


def first(document: list[dict[str, Any]], **changes: Any) -> list[dict[str, Any]]:
    return [{**document[0], **changes}, *document[1:]]


MADE = parse_canonical(shares_bytes(both()), limit=SHARES_LIMIT_BYTES)
HOLDERS, SEALED = MADE[0]["custodians"], MADE[0]["sealed"]
FAULTS: dict[str, Any] = {
    "no list": {},
    "an empty vault": [{}],
    "three vaults": [*MADE, MADE[0]],
    "a vault twice": [MADE[0], MADE[0]],
    "vaults out of order": MADE[::-1],
    "a vault of another name": first(MADE, vault="names"),
    "one field more": first(MADE, name="x"),
    "a key that is none": first(MADE, key="x"),
    "k of one": first(MADE, k=1),
    "k of more than there are": first(MADE, k=4),
    "k that is no number": first(MADE, k="2"),
    "k that is true": first(MADE, k=True),
    "a custodian twice": first(MADE, custodians=[HOLDERS[0], HOLDERS[0], HOLDERS[2]]),
    "custodians out of order": first(MADE, custodians=HOLDERS[::-1]),
    "nobody": first(MADE, custodians=[], sealed=[]),
    "a custodian with one field more": first(
        MADE, custodians=[{**HOLDERS[0], "name": "x"}, *HOLDERS[1:]]
    ),
    "a custodian who is none": first(MADE, custodians=["x", *HOLDERS[1:]]),
    "six custodians": first(
        MADE,
        custodians=[{"custodian": c * 32, "intake_key": "a" * 32} for c in "abcdef"],
        sealed=SEALED[:1] * 30,
    ),
    "a set that is not whole": first(MADE, sealed=SEALED[:-1]),
    "a share too many": first(MADE, sealed=[*SEALED, SEALED[0]]),
    "no shares": first(MADE, sealed=[]),
    "no objects": first(MADE, objects=[]),
    "the account": first(MADE, objects=[0]),
    "objects out of order": first(MADE, objects=[4, 3]),
    "an object twice": first(MADE, objects=[3, 3]),
    "an object in both vaults": first(MADE, objects=[2]),
    "an object that is no number": first(MADE, objects=["1"]),
}


@pytest.mark.parametrize("name", FAULTS)
def test_shares_out_of_their_form_are_refused(name: str) -> None:
    with pytest.raises(ProtocolError) as refused:
        parse_shares(canonical(FAULTS[name]))
    assert refused.value.slug == "shares-invalid"


def test_shares_that_are_not_sealed_are_refused_as_such() -> None:
    plain = first(MADE, sealed=["A" * len(SEALED[0][:-1]) + "=", *SEALED[1:]])
    with pytest.raises(ProtocolError) as refused:
        parse_shares(canonical(plain))
    assert refused.value.slug in {"sealed-plaintext", "bad-encoding"}
    short = first(MADE, sealed=["AAAA", *SEALED[1:]])
    with pytest.raises(ProtocolError):
        parse_shares(canonical(short))
    with pytest.raises(ProtocolError):
        parse_shares(json.dumps(MADE).encode())
    with pytest.raises(ProtocolError):
        parse_shares(b"[" + b" " * SHARES_LIMIT_BYTES + b"]")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(0, 9) | st.text("ab1", max_size=3),
        lambda one: (
            st.lists(one, max_size=3)
            | st.dictionaries(st.sampled_from([*MADE[0], "x"]), one, max_size=7)
        ),
    )
)
def test_whatever_comes_is_refused_or_is_nothing(value: Any) -> None:
    try:
        assert parse_shares(canonical(value)) == ()
    except ProtocolError:
        assert value != []


# Released to a reader


def test_what_a_custodian_seals_to_a_reader_is_for_one_request_alone() -> None:
    reader, share = Identity.generate(), bytes(range(32))
    labels: dict[str, Any] = {
        "request": random_id(),
        "case": CASE,
        "vault": "originals",
        "to": random_id(),
        "custodian": IDS[0],
        "subset": (IDS[0], IDS[1]),
    }
    data = seal_released(share, reader.recipient, **labels)
    assert len(data) == 1915
    assert open_released(data, reader, **labels) == share
    for name in ("request", "case", "to", "custodian"):
        with pytest.raises(ShareMismatch):
            open_released(data, reader, **{**labels, name: random_id()})
    with pytest.raises(ShareMismatch):
        open_released(data, reader, **{**labels, "vault": "identity"})
    with pytest.raises(ShareMismatch):
        open_released(data, reader, **{**labels, "subset": (IDS[0], IDS[2])})
    with pytest.raises(CannotOpen):
        open_released(data, Identity.generate(), **labels)
    # A custodian's own share is no reply to a request, and a reply is no share.
    with pytest.raises(ShareMismatch):
        open_share(
            data, reader, case=CASE, vault="originals", custodian=IDS[0], subset=(IDS[0], IDS[1])
        )


# Custodians come and go


def shared_anew(
    made: SealedVault, source: Subset, custodians: list[str], k: int
) -> dict[tuple[Subset, str], bytes]:
    """Let the members of `source` make the shares that are missing; returns all shares of the new set."""
    shares = shares_of(made)
    plan = resharing(subsets(made.entry.custodians, made.entry.k), custodians, k)
    assert source in plan.sources
    recipients = {one: PEOPLE[one].recipient for one in custodians}
    pieces = {
        maker: {
            (one.subset, one.custodian): one.sealed
            for one in seal_pieces(
                shares[source, maker],
                recipients,
                plan.missing,
                case=CASE,
                vault=made.entry.vault,
                maker=maker,
                source=source,
            )
        }
        for maker in source
    }
    found = {place: share for place, share in shares.items() if place[0] not in plan.superfluous}
    for subset in plan.missing:
        for custodian in subset:
            found[subset, custodian] = open_pieces(
                {maker: (pieces[maker][subset, custodian], PEOPLE[custodian]) for maker in source},
                case=CASE,
                vault=made.entry.vault,
                custodian=custodian,
                subset=subset,
            )
    return found


@pytest.mark.parametrize(
    ("n", "k", "left", "come", "new_k"),
    [
        (3, 2, 1, 1, 2),
        (3, 2, 1, 2, 3),
        (5, 3, 2, 2, 3),
        (5, 3, 0, 0, 2),
        (2, 2, 0, 3, 3),
        (3, 3, 0, 1, 2),
        (5, 2, 3, 2, 4),
    ],
)
def test_custodians_are_replaced_without_anybody_holding_the_key(
    n: int, k: int, left: int, come: int, new_k: int
) -> None:
    identity, made = sealed(n, k)
    custodians = IDS[left:n] + IDS[n : n + come]
    for source in subsets(IDS[left:n], k):
        found = shared_anew(made, source, custodians, new_k)
        assert found.keys() == set(places(custodians, new_k))
        for subset in subsets(custodians, new_k):
            shares = [found[subset, one] for one in subset]
            assert combine(shares, made.entry.key).seed == identity.seed
            with pytest.raises(VaultKeyWrong):
                combine(shares[1:], made.entry.key)
        # Who left has nothing that goes with the new shares.
        old = shares_of(made)
        for gone in IDS[:left]:
            mine = [share for (_, who), share in old.items() if who == gone]
            for subset in subsets(custodians, new_k):
                rest = [found[subset, one] for one in subset[1:]]
                for share in mine:
                    with pytest.raises(VaultKeyWrong):
                        combine([share, *rest], made.entry.key)


def test_the_pieces_that_one_maker_makes_say_nothing_of_their_share() -> None:
    _, made = sealed(3, 2)
    share = shares_of(made)[(IDS[0], IDS[1]), IDS[0]]
    [one, other] = split(share, 2)
    assert xor([one, other]) == share
    assert share not in (one, other)


@pytest.mark.parametrize(
    "case", ["one maker less", "one maker more", "of another source", "of another place"]
)
def test_pieces_that_do_not_belong_together_are_noticed(case: str) -> None:
    _, made = sealed(4, 2)
    source, subset = (IDS[1], IDS[2]), (IDS[1], IDS[4])
    recipients = {one: PEOPLE[one].recipient for one in IDS[1:5]}

    def piece(maker: str, source: Subset, subset: Subset = subset) -> tuple[bytes, Identity]:
        share = shares_of(made)[source, maker]
        pieces = seal_pieces(
            share, recipients, [subset], case=CASE, vault="identity", maker=maker, source=source
        )
        sealed_to = {one.custodian: one.sealed for one in pieces}
        return sealed_to[IDS[4]], PEOPLE[IDS[4]]

    whole = {maker: piece(maker, source) for maker in source}
    labels: dict[str, Any] = {"case": CASE, "vault": "identity", "custodian": IDS[4]}
    assert len(open_pieces(whole, **labels, subset=subset)) == 32
    other = (IDS[1], IDS[3])
    wrong = {
        "one maker less": {IDS[1]: whole[IDS[1]]},
        "one maker more": {**whole, IDS[3]: piece(IDS[3], other)},
        "of another source": {IDS[1]: piece(IDS[1], other), IDS[2]: whole[IDS[2]]},
        "of another place": {
            IDS[1]: piece(IDS[1], source, (IDS[2], IDS[4])),
            IDS[2]: whole[IDS[2]],
        },
    }
    with pytest.raises(ShareMismatch):
        open_pieces(wrong[case], **labels, subset=subset)
    with pytest.raises(ShareMismatch):
        open_pieces({}, **labels, subset=subset)


def test_what_is_to_be_done_when_custodians_change() -> None:
    a, b, c, d, e = IDS[:5]
    stored = subsets([a, b, c], 2)
    assert not resharing(stored, [c, b, a], 2).is_needed
    gone = resharing(stored, [a, b], 2)
    assert (gone.sources, gone.missing) == (((a, b),), ())
    assert gone.superfluous == ((a, c), (b, c))
    replaced = resharing(stored, [a, b, d], 2)
    assert replaced.missing == ((a, d), (b, d))
    assert replaced.is_needed
    assert not replaced.is_lost
    lost = resharing(stored, [a, d, e], 2)
    assert lost.is_lost
    assert lost.is_needed
    replaced_key = resharing(stored, [a, b, c], 2, [(a, b), (a, c)])
    assert (replaced_key.missing, replaced_key.superfluous) == (((a, b), (a, c)), ())
    assert replaced_key.sources == stored
    more = resharing(stored, [a, b, c], 3)
    assert (more.missing, more.superfluous) == (((a, b, c),), stored)


def test_names_of_sets_and_keys_are_apart() -> None:
    assert subset_id([IDS[1], IDS[0]]) == subset_id((IDS[0], IDS[1]))
    assert subset_id(IDS[:2]) != subset_id(IDS[:3])
    one = Identity.generate().recipient
    assert vault_key_id(one) != vault_key_id(Identity.generate().recipient)
