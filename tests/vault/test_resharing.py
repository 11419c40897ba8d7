"""Custodians come and go: whoever is left makes the new shares together, old ones end, and nobody holds a key meanwhile."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from amana.client.errors import NotVerified, Refused
from amana.client.keyfile import PersonKeys
from amana.custody.models import Event
from amana.intake.models import Share, Vault
from amana.protocol.case import intake_key_id
from amana.protocol.encoding import b64, random_id, sha256_hex, unb64
from amana.protocol.sealing import Kind, seal
from amana.protocol.vault import Subset, open_share, subset_id, subsets
from amana.vault.models import SharePiece
from tests.support.officers import Officers
from tests.support.organisation import Organisation, Person, organisation_on
from tests.support.statements import Witness
from tests.support.vaults import WHO, Programs, Vaulted, act, drop_custodian, make_custodian
from tests.support.wholeness import check_everything

REASON = "The court asks."


@dataclass
class Changing:
    """An organisation whose custodians change, and the programs of everybody."""

    organisation: Organisation
    programs: Programs

    @property
    def custodians(self) -> list[PersonKeys]:
        return self.organisation.of_role("custodian")

    def change(self, *, leave: list[PersonKeys], come: int, k: int = 2) -> list[PersonKeys]:
        """Publish a version with other custodians; returns who came."""
        new = [PersonKeys.generate("custodian") for _ in range(come)]

        def describe(description: dict[str, Any]) -> None:
            for one in leave:
                drop_custodian(description, one.id)
            for one in new:
                make_custodian(description, one)
            description["custodians"]["k"] = k

        Officers(self.organisation).publish(describe)
        return new

    def release(
        self, vaulted: Vaulted, custodians: list[PersonKeys], folder: Path, **options: Any
    ) -> Any:
        """Let a reader ask, these custodians share, and the reader open; returns what was released."""
        reader = self.programs.reader(vaulted.reader.keys)
        made = reader.request_release(
            vaulted.case, "identity", purpose="icc", days=3, reason=REASON, **options
        )
        for keys in custodians:
            self.programs.custodian(keys).share(made.request)
        return reader.open_vault(vaulted.case, "identity", folder)

    def sets(self, vaulted: Vaulted, vault: str = "identity") -> set[Subset]:
        query = sa.select(Share.subset).where(Share.case == vaulted.case, Share.vault == vault)
        with self.organisation.services.database.reading() as session:
            return {tuple(one.split(",")) for one in session.scalars(query)}

    def pieces(self) -> int:
        with self.organisation.services.database.reading() as session:
            return session.scalar(sa.select(sa.func.count()).select_from(SharePiece)) or 0


@contextmanager
def changing_on(database: str, request: Any, folder: Path) -> Iterator[Changing]:
    with organisation_on(database, request, folder) as organisation, ExitStack() as stack:
        url = stack.enter_context(organisation.served())
        yield Changing(organisation, Programs(organisation, url, stack))
        check_everything(organisation)


@pytest.fixture(params=["sqlite", "postgresql"])
def changing(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Changing]:
    with changing_on(request.param, request, tmp_path / "organisation") as made:
        yield made


def ids(keys: list[PersonKeys]) -> list[str]:
    return [one.id for one in keys]


def test_a_custodian_is_replaced_and_the_new_one_opens_with_one_who_stayed(
    changing: Changing, tmp_path: Path
) -> None:
    vaulted = Vaulted.make(changing.organisation)
    gone, stays, also = changing.custodians
    old = _shares_of(vaulted, gone)
    [new] = changing.change(leave=[gone], come=1)
    assert changing.programs.custodian(new).share_anew().complete == ()
    first = changing.programs.custodian(stays).share_anew()
    assert (first.complete, first.waiting, first.lost) == ((), (vaulted.case,), ())
    assert changing.sets(vaulted) == set(subsets(ids([gone, stays, also]), 2))
    assert changing.pieces() == 8
    # Repeated, nothing is made twice.
    assert changing.programs.custodian(stays).share_anew().waiting == (vaulted.case,)
    assert changing.pieces() == 8
    second = changing.programs.custodian(also).share_anew()
    assert (second.complete, second.waiting) == ((vaulted.case,), ())
    for vault in ("identity", "originals"):
        assert changing.sets(vaulted, vault) == set(subsets(ids([stays, also, new]), 2))
    assert changing.pieces() == 0
    told = [one for one in events(changing, vaulted) if one["kind"] == "vault-shared-anew"]
    assert sorted(one["vault"] for one in told) == ["identity", "originals"]
    for one in told:
        assert (one["k"], one["custodians"]) == (2, sorted(ids([stays, also, new])))
        assert one["makers"] == sorted(ids([stays, also]))
    again = changing.programs.custodian(also).share_anew()
    assert (again.complete, again.waiting, again.lost) == ((), (), ())
    with pytest.raises(Refused) as refused:
        changing.programs.custodian(gone).pending()
    assert refused.value.slug == "not-signed-in"

    released = changing.release(vaulted, [new, also], tmp_path / "out")
    assert set(released.custodians) == {new.id, also.id}
    assert json.loads((tmp_path / "out" / "identity.json").read_text("utf-8")) == WHO
    # The set that stayed is the one that the witness made.
    released = changing.release(vaulted, [stays, also], tmp_path / "again")
    assert set(released.custodians) == {stays.id, also.id}
    # What the one who left kept goes with nothing that is there.
    held = {share for (subset, who), share in old.items() if who == gone.id}
    assert held
    assert not any(set(one) & {gone.id} for one in changing.sets(vaulted))
    # And once more, from pieces.
    [newest] = changing.change(leave=[stays], come=1)
    assert changing.programs.custodian(new).share_anew().waiting == (vaulted.case,)
    assert changing.programs.custodian(also).share_anew().complete == (vaulted.case,)
    released = changing.release(vaulted, [newest, new], tmp_path / "third")
    assert set(released.custodians) == {newest.id, new.id}


def events(changing: Changing, vaulted: Vaulted) -> list[dict[str, Any]]:
    """Return what the custody log was given about a case."""
    with changing.organisation.services.database.reading() as session:
        found = session.scalars(sa.select(Event.event).where(Event.case == vaulted.case))
        return [json.loads(one) for one in found]


def _shares_of(vaulted: Vaulted, keys: PersonKeys) -> dict[tuple[Subset, str], bytes]:
    found = {}
    [made] = [one for one in vaulted.made.vaults if one.entry.vault == "identity"]
    for (subset, custodian), sealed in zip(made.entry.places, made.shares, strict=True):
        if custodian == keys.id:
            assert keys.intake is not None
            found[subset, custodian] = open_share(
                sealed,
                keys.intake,
                case=vaulted.case,
                vault="identity",
                custodian=custodian,
                subset=subset,
            )
    return found


def test_three_of_five_come_after_two_of_three_and_others_after_them(
    changing: Changing, tmp_path: Path
) -> None:
    vaulted = Vaulted.make(changing.organisation, identity=None)
    first, second, third = changing.custodians
    new = changing.change(leave=[], come=2, k=3)
    five = ids([first, second, third, *new])
    # Any two of the old three are enough, whichever.
    assert changing.programs.custodian(third).share_anew().waiting == (vaulted.case,)
    assert changing.programs.custodian(first).share_anew().complete == (vaulted.case,)
    assert changing.sets(vaulted, "originals") == set(subsets(five, 3))
    assert len(subsets(five, 3)) == 10
    with changing.organisation.services.database.reading() as session:
        vault = session.get(Vault, (vaulted.case, "originals"))
        assert vault is not None
        assert (vault.k, vault.custodians) == (3, ",".join(sorted(five)))
    reader = changing.programs.reader(vaulted.reader.keys)
    made = reader.request_release(vaulted.case, "originals", purpose="icc", days=1, reason=REASON)
    assert made.k == 3
    for keys in (new[0], second):
        assert not changing.programs.custodian(keys).share(made.request)
    assert changing.programs.custodian(new[1]).share(made.request)
    released = reader.open_vault(vaulted.case, "originals", tmp_path / "out")
    assert set(released.custodians) == {new[0].id, new[1].id, second.id}

    changing.change(leave=[first], come=0, k=3)
    assert changing.programs.custodian(second).share_anew().complete == (vaulted.case,)
    assert changing.sets(vaulted, "originals") == set(subsets(five, 3)) - {
        one for one in subsets(five, 3) if first.id in one
    }


def test_too_few_who_are_left_are_told_so(changing: Changing) -> None:
    vaulted = Vaulted.make(changing.organisation)
    first, second, third = changing.custodians
    new = changing.change(leave=[first, second], come=2)
    done = changing.programs.custodian(third).share_anew()
    assert (done.complete, done.waiting, done.lost) == ((), (), (vaulted.case,))
    assert changing.programs.custodian(new[0]).share_anew().lost == ()
    reader = changing.programs.reader(vaulted.reader.keys)
    with pytest.raises(Refused) as refused:
        reader.request_release(vaulted.case, "identity", purpose="icc", days=1, reason=REASON)
    assert refused.value.slug == "custodians-differ"
    # Nothing was thrown away: who comes back can still help.
    assert changing.sets(vaulted) == set(subsets(ids([first, second, third]), 2))


def test_an_open_request_ends_when_its_vault_is_shared_anew(changing: Changing) -> None:
    vaulted = Vaulted.make(changing.organisation)
    gone, stays, also = changing.custodians
    reader = changing.programs.reader(vaulted.reader.keys)
    made = reader.request_release(vaulted.case, "identity", purpose="icc", days=1, reason=REASON)
    changing.programs.custodian(gone).share(made.request)
    changing.change(leave=[gone], come=1)
    # Their answer counts no more; of those who stay two are needed.
    assert not changing.programs.custodian(stays).share(made.request)
    for keys in (stays, also):
        changing.programs.custodian(keys).share_anew()
    [one] = reader.releases(vaulted.case)
    assert one.ended_because == "shared-anew"


def test_a_false_piece_spoils_only_the_sets_that_it_is_in(
    changing: Changing, tmp_path: Path
) -> None:
    vaulted = Vaulted.make(changing.organisation, originals=())
    gone, stays, liar = changing.custodians
    [new] = changing.change(leave=[gone], come=1)
    changing.programs.custodian(stays).share_anew()
    person = changing.organisation.as_person(liar).sign_in()
    source = sorted(ids([stays, liar]))
    wanted = [one for one in subsets(ids([stays, liar, new]), 2) if new.id in one]
    members = changing.organisation.directory.custodians.members
    given = []
    for subset in wanted:
        for custodian in subset:
            lines = [
                "amana-vault-piece-v1", vaulted.case, "identity", liar.id, subset_id(source), custodian,
                subset_id(subset), b64(b"x" * 32), "",
            ]  # fmt: skip
            data = seal("\n".join(lines).encode(), members[custodian], Kind.SHARE)
            given.append({"subset": list(subset), "custodian": custodian, "sealed": b64(data)})
    assert add(person, vaulted.case, source, given).get_json() == {"complete": True}
    with pytest.raises(NotVerified) as refused:
        changing.release(vaulted, [new, stays], tmp_path / "no")
    assert refused.value.slug == "vault-key-wrong"
    assert not (tmp_path / "no").exists()
    # With the set that nobody had to make anew it opens, and it shows which ones do not.
    reader = changing.programs.reader(vaulted.reader.keys)
    made = reader.request_release(vaulted.case, "identity", purpose="icc", days=3, reason=REASON)
    for keys in (stays, liar):
        changing.programs.custodian(keys).share(made.request)
    released = reader.open_vault(vaulted.case, "identity", tmp_path / "out")
    assert set(released.custodians) == {stays.id, liar.id}


def add(person: Person, case: str, source: list[str], given: list[dict[str, Any]]) -> Any:
    labels = {"vault": "identity", "source": source}
    named = [
        {
            "subset": one["subset"],
            "custodian": one["custodian"],
            "sha256": sha256_hex(unb64(one["sealed"])),
        }
        for one in given
    ]
    return act(
        person,
        "re-share",
        f"/v1/cases/{case}/re-sharings",
        case,
        {**labels, "pieces": named},
        {**labels, "pieces": given},
    )


def take(person: Person, case: str, source: list[str]) -> Any:
    labels = {"vault": "identity", "source": source}
    path = f"/v1/cases/{case}/re-sharings/openings"
    return act(person, "re-share", path, case, labels, labels)


def slug(answer: Any, status: int) -> str:
    assert answer.status_code == status, answer.get_json()
    found: str = answer.get_json()["type"]
    return found


def test_nobody_shares_anew_what_is_not_theirs_or_not_to_be_shared(changing: Changing) -> None:
    organisation = changing.organisation
    vaulted = Vaulted.make(organisation)
    gone, stays, also = changing.custodians
    whole = sorted(ids([stays, also]))
    person = organisation.as_person(stays).sign_in()
    assert slug(take(person, vaulted.case, whole), 409) == "nothing-to-share"
    [new] = changing.change(leave=[gone], come=1)
    newcomer = organisation.as_person(new).sign_in()
    person = organisation.as_person(stays).sign_in()
    assert slug(take(newcomer, vaulted.case, whole), 404) == "not-found"
    assert slug(take(person, random_id(), whole), 404) == "not-found"
    for source in (
        sorted(ids([gone, stays])),
        sorted(ids([also, new])),
        [stays.id],
        whole[::-1],
    ):
        assert slug(take(person, vaulted.case, source), 422) == "source-unknown"
    own = take(person, vaulted.case, whole).get_json()["shares"]
    assert [one["subset"] for one in own] == [whole]

    missing = [one for one in subsets(ids([stays, also, new]), 2) if new.id in one]
    members = organisation.directory.custodians.members
    piece = b64(seal(b"x", members[new.id], Kind.SHARE))
    given = [
        {"subset": list(subset), "custodian": one, "sealed": piece}
        for subset in missing
        for one in subset
    ]
    assert slug(add(person, vaulted.case, whole, []), 422) == "shares-differ"
    assert slug(add(person, vaulted.case, whole, given[:1]), 422) == "shares-differ"
    assert slug(add(person, vaulted.case, whole, given[::-1]), 422) == "shares-differ"
    kept = [{**given[0], "subset": whole, "custodian": whole[0]}, *given[1:]]
    assert slug(add(person, vaulted.case, whole, kept), 422) == "shares-differ"
    plain = [{**given[0], "sealed": b64(bytes(1915))}, *given[1:]]
    assert slug(add(person, vaulted.case, whole, plain), 422) == "sealed-plaintext"
    # Set by set, as the limit of a request may ask for.
    assert add(person, vaulted.case, whole, given[:2]).get_json() == {"complete": False}
    assert add(person, vaulted.case, whole, given[2:]).get_json() == {"complete": False}
    assert changing.pieces() == 4
    Witness(organisation, vaulted.made).change("withdraw")
    assert slug(take(person, vaulted.case, whole), 410) == "case-withdrawn"
    assert changing.programs.custodian(stays).share_anew().waiting == ()


def test_pieces_to_a_key_that_was_replaced_meanwhile_do_not_count(
    changing: Changing, tmp_path: Path
) -> None:
    vaulted = Vaulted.make(changing.organisation)
    gone, stays, also = changing.custodians
    [new] = changing.change(leave=[gone], come=1)
    changing.programs.custodian(stays).share_anew()
    renewed = new.renewed()

    def replace_key(description: dict[str, Any]) -> None:
        drop_custodian(description, new.id)
        make_custodian(description, renewed)

    Officers(changing.organisation).publish(replace_key)
    assert changing.programs.custodian(also).share_anew().complete == ()
    assert changing.programs.custodian(stays).share_anew().complete == (vaulted.case,)
    only_new = replace(renewed, former=())
    released = changing.release(vaulted, [only_new, stays], tmp_path / "out")
    assert set(released.custodians) == {new.id, stays.id}


def test_what_is_sealed_to_a_replaced_key_is_shared_anew(
    changing: Changing, tmp_path: Path
) -> None:
    vaulted = Vaulted.make(changing.organisation)
    renewing, second, third = changing.custodians
    assert renewing.intake is not None
    old = intake_key_id(renewing.intake.recipient)
    renewed = renewing.renewed()
    program = changing.programs.custodian(renewed)
    assert not program.newest_is_listed()

    def replace_key(description: dict[str, Any]) -> None:
        drop_custodian(description, renewing.id)
        make_custodian(description, renewed)

    Officers(changing.organisation).publish(replace_key)
    assert program.newest_is_listed()
    # Until it is shared anew, the former key still answers.
    released = changing.release(vaulted, [renewed, second], tmp_path / "before")
    assert set(released.custodians) == {renewing.id, second.id}
    assert {name: one.open for name, one in program.held_keys().items()} == {old: 4}
    third_ones = changing.sets(vaulted)
    assert changing.programs.custodian(third).share_anew().waiting == (vaulted.case,)
    assert changing.programs.custodian(second).share_anew().complete == (vaulted.case,)
    assert changing.sets(vaulted) == third_ones
    [(name, held)] = program.held_keys().items()
    assert name == intake_key_id(renewed.intake_recipient)
    # Two sets of two vaults, each share in two pieces.
    assert held.open == 8
    assert program.share_anew().waiting == ()
    only_new = replace(renewed, former=())
    released = changing.release(vaulted, [only_new, third], tmp_path / "after")
    assert set(released.custodians) == {renewing.id, third.id}
    # The set in which nothing was replaced is still the witness's own.
    kept = changing.release(vaulted, [second, third], tmp_path / "kept")
    assert set(kept.custodians) == {second.id, third.id}
