"""A reader opens a vault only with the key that the witness's manifest names, and writes what that manifest describes."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from amana.client.errors import NetworkFailed, NotVerified, Refused, Usage
from amana.client.releases import NotReleased
from amana.protocol.encoding import b64, random_id, unb64
from amana.protocol.receipt import sign_receipt
from amana.protocol.release import REASON_LIMIT
from amana.protocol.vault import seal_released
from tests.support.lying import Lying, in_json
from tests.support.organisation import Organisation, organisation_in
from tests.support.vaults import ORIGINAL, REASON, WHO, Programs, Vaulted


@dataclass
class House:
    """An organisation, served by a server that can lie."""

    organisation: Organisation
    lying: Lying
    programs: Programs

    def released(self, vaulted: Vaulted, vault: str = "identity", count: int = 2) -> str:
        """Ask as the reader's program does, and let some custodians share."""
        reader = self.programs.reader(vaulted.reader.keys)
        made = reader.request_release(vaulted.case, vault, purpose="icc", days=3, reason=REASON)
        for one in vaulted.custodians[:count]:
            self.programs.custodian(one.keys).share(made.request)
        return made.request

    def open(self, vaulted: Vaulted, out: Path, vault: str = "identity") -> Any:
        reader = self.programs.reader(vaulted.reader.keys)
        return reader.open_vault(vaulted.case, vault, out)


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
    served.lying.lost.clear()
    served.lying.cuts.clear()
    served.lying.seen.clear()
    served.organisation.clock.follow()
    return served


@pytest.fixture
def vaulted(house: House) -> Vaulted:
    return Vaulted.make(house.organisation)


def test_identity_and_originals_are_opened_each_by_its_own_release(
    house: House, vaulted: Vaulted, tmp_path: Path
) -> None:
    request = house.released(vaulted)
    with pytest.raises(NotReleased):
        house.open(vaulted, tmp_path / "originals", "originals")
    opened = house.open(vaulted, tmp_path / "who")
    assert (opened.request, opened.purpose, opened.files) == (request, "icc", ("identity.json",))
    assert opened.wrong == ()
    assert json.loads((tmp_path / "who" / "identity.json").read_text("utf-8")) == WHO
    assert {path.name for path in (tmp_path / "who").iterdir()} == {"identity.json"}
    assert (tmp_path / "who" / "identity.json").stat().st_mode & 0o777 == 0o600
    house.released(vaulted, "originals")
    found = house.open(vaulted, tmp_path / "originals", "originals")
    assert (tmp_path / "originals" / found.files[0]).read_bytes() == ORIGINAL
    with pytest.raises(Usage):
        house.open(vaulted, tmp_path / "who")


def test_opening_a_case_takes_nothing_of_the_vault(
    house: House, vaulted: Vaulted, tmp_path: Path
) -> None:
    reader = house.programs.reader(vaulted.reader.keys)
    opened = reader.open(vaulted.case, tmp_path / "out")
    assert opened.in_vault == ("identity", "originals")
    assert set(opened.files) == {"account.raw", "file-1.bin", "manifest.json"}
    asked = [path for _, path, _ in house.lying.seen if "/objects/" in path]
    assert {path.rpartition("/")[2] for path in asked} == {"0", "1"}


def test_fewer_than_k_shares_open_nothing(house: House, vaulted: Vaulted, tmp_path: Path) -> None:
    with pytest.raises(NotReleased) as nobody:
        house.open(vaulted, tmp_path / "out")
    assert "no open request" in nobody.value.title
    for count in (0, 1):
        house.released(vaulted, count=count)
        with pytest.raises(NotReleased) as refused:
            house.open(vaulted, tmp_path / "out")
        assert f"{count} of 2" in refused.value.title
    assert not (tmp_path / "out").exists()


def test_how_a_request_stands_is_told_with_the_reasons_of_who_declined(
    house: House, vaulted: Vaulted
) -> None:
    request = house.released(vaulted, count=1)
    house.programs.custodian(vaulted.custodians[1].keys).decline(request, "I know them. أعرفهم")
    reader = house.programs.reader(vaulted.reader.keys)
    [one] = reader.releases(vaulted.case)
    told = {answer.custodian: (answer.answer, answer.reason) for answer in one.answers}
    assert told == {
        vaulted.custodians[0].keys.id: ("shared", None),
        vaulted.custodians[1].keys.id: ("declined", "I know them. أعرفهم"),
    }
    assert one.is_open
    house.programs.custodian(vaulted.custodians[2].keys).decline(request, "No.")
    [one] = reader.releases(vaulted.case)
    assert one.ended_because == "declined"
    with pytest.raises(NotReleased) as refused:
        reader.open_vault(vaulted.case, "identity", Path("nowhere"))
    assert "declined" in refused.value.title


def test_an_answer_that_was_lost_asks_nobody_twice(house: House, vaulted: Vaulted) -> None:
    path = f"/v1/cases/{vaulted.case}/releases"

    def lose_the_next(_: dict[str, Any]) -> None:
        house.lying.lies.pop(path)
        house.lying.lost.add(path)

    # The first question is who can answer; the request follows it.
    house.lying.lies[path] = in_json(lose_the_next)
    reader = house.programs.reader(vaulted.reader.keys)
    made = reader.request_release(vaulted.case, "identity", purpose="icc", days=3, reason=REASON)
    assert [method for method, asked, _ in house.lying.seen if asked == path].count("POST") == 2
    assert [one.request for one in reader.releases(vaulted.case)] == [made.request]


Lie = Callable[[dict[str, Any], Vaulted, str], object]


def damaged(told: dict[str, Any], _: Vaulted, __: str) -> None:
    sealed = bytearray(unb64(told["shares"][0]["sealed"]))
    sealed[-1] ^= 1
    told["shares"][0]["sealed"] = b64(bytes(sealed))


def wrong_by(told: dict[str, Any], vaulted: Vaulted, request: str) -> None:
    """A custodian, or whoever has the reader's public key, seals other bytes under the right names."""
    one = told["shares"][0]
    data = seal_released(
        b"x" * 32,
        vaulted.reader.keys.intake_recipient,
        request=request,
        case=vaulted.case,
        vault="identity",
        to=vaulted.reader.keys.id,
        custodian=one["custodian"],
        subset=tuple(one["subset"]),
    )
    one["sealed"] = b64(data)


def exchanged(told: dict[str, Any], _: Vaulted, __: str) -> None:
    one, other = told["shares"]
    one["sealed"], other["sealed"] = other["sealed"], one["sealed"]


def too_few(told: dict[str, Any], _: Vaulted, __: str) -> None:
    told["shares"].pop()


def none(told: dict[str, Any], _: Vaulted, __: str) -> None:
    told["shares"] = []


def of_an_earlier_request(told: dict[str, Any], vaulted: Vaulted, _: str) -> None:
    one = told["shares"][0]
    data = seal_released(
        b"x" * 32,
        vaulted.reader.keys.intake_recipient,
        request=random_id(),
        case=vaulted.case,
        vault="identity",
        to=vaulted.reader.keys.id,
        custodian=one["custodian"],
        subset=tuple(one["subset"]),
    )
    one["sealed"] = b64(data)


def twice_one(told: dict[str, Any], _: Vaulted, __: str) -> None:
    told["shares"][1] = told["shares"][0]


def of_a_stranger(told: dict[str, Any], _: Vaulted, __: str) -> None:
    told["shares"][0]["custodian"] = "a" * 32


def out_of_order(told: dict[str, Any], _: Vaulted, __: str) -> None:
    told["shares"][0]["subset"].reverse()


@pytest.mark.parametrize(
    "lie",
    [
        damaged,
        wrong_by,
        exchanged,
        too_few,
        none,
        of_an_earlier_request,
        twice_one,
        of_a_stranger,
        out_of_order,
    ],
)
def test_shares_that_are_not_the_key_leave_nothing(
    house: House, vaulted: Vaulted, tmp_path: Path, lie: Lie
) -> None:
    request = house.released(vaulted)
    path = f"/v1/releases/{request}/readings"
    house.lying.lies[path] = in_json(lambda told: lie(told, vaulted, request))
    with pytest.raises((NotVerified, NotReleased)):
        house.open(vaulted, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    house.lying.lies.clear()
    assert house.open(vaulted, tmp_path / "out").files == ("identity.json",)


def test_objects_other_than_the_witness_sealed_leave_nothing(
    house: House, vaulted: Vaulted, tmp_path: Path
) -> None:
    request = house.released(vaulted)
    path = f"/v1/releases/{request}/objects/2"
    other = Vaulted.make(house.organisation).made.sealed[1]
    for lie in (lambda _: other, lambda body: body[:-1] + b"x"):
        house.lying.lies[path] = lie
        with pytest.raises(NotVerified) as refused:
            house.open(vaulted, tmp_path / "out")
        assert refused.value.slug == "object-differs"
        assert not (tmp_path / "out").exists()


def test_a_download_that_was_cut_goes_on(house: House, vaulted: Vaulted, tmp_path: Path) -> None:
    house.released(vaulted)
    house.lying.cuts[:] = [5000, 1]
    try:
        opened = house.open(vaulted, tmp_path / "out")
    except NetworkFailed:
        opened = house.open(vaulted, tmp_path / "out")
    assert opened.files == ("identity.json",)


def test_an_identity_that_is_not_in_its_form_is_kept_as_it_is(house: House, tmp_path: Path) -> None:
    odd = Vaulted.make(house.organisation, identity=b"\x1b[2J my name is")
    house.released(odd)
    assert house.open(odd, tmp_path / "out").files == ("identity.raw",)
    assert (tmp_path / "out" / "identity.raw").read_bytes() == b"\x1b[2J my name is"


def test_a_reason_is_sealed_to_nobody_but_custodians_of_the_directory(
    house: House, vaulted: Vaulted
) -> None:
    reader = house.programs.reader(vaulted.reader.keys)
    path = f"/v1/cases/{vaulted.case}/releases"

    def ask() -> Any:
        return reader.request_release(
            vaulted.case, "identity", purpose="icc", days=3, reason=REASON
        )

    for custodians in (
        ["a" * 32],
        [],
        [vaulted.reader.keys.id],
        [house.organisation.administrator.id],
        ["x"],
        [vaulted.custodians[0].keys.id] * 2,
    ):

        def lie(told: dict[str, Any], named: list[str] = custodians) -> None:
            for one in told["vaults"]:
                one["custodians"] = named

        house.lying.lies[path] = in_json(lie)
        house.lying.seen.clear()
        with pytest.raises(NotVerified):
            ask()
        assert ("POST", path, None) not in house.lying.seen


@pytest.mark.parametrize(
    "change",
    [
        lambda one: one.update(vault="\x1b[2J"),
        lambda one: one.update(purpose="\x1b[2J"),
        lambda one: one.update(k="two"),
        lambda one: one.update(ended_because="\x1b[2J"),
        lambda one: one.update(expires_on="tomorrow"),
        lambda one: one.update(request="x"),
        lambda one: one["answers"].append({}),
        lambda one: one["answers"].append(
            {"custodian": "a" * 32, "answer": "\x1b", "answered_on": "2026-11-24", "reason": None}
        ),
    ],
)
def test_what_is_told_of_requests_is_in_its_form_or_refused(
    house: House, vaulted: Vaulted, change: Callable[[dict[str, Any]], object]
) -> None:
    house.released(vaulted, count=0)
    path = f"/v1/cases/{vaulted.case}/releases"
    house.lying.lies[path] = in_json(lambda told: change(told["releases"][0]))
    with pytest.raises(NotVerified):
        house.programs.reader(vaulted.reader.keys).releases(vaulted.case)


def test_what_cannot_be_asked_is_not_sent(house: House, vaulted: Vaulted) -> None:
    reader = house.programs.reader(vaulted.reader.keys)
    good: dict[str, Any] = {"purpose": "icc", "days": 3, "reason": REASON}
    house.lying.seen.clear()
    for changes in (
        {"purpose": "curiosity"},
        {"days": 0},
        {"days": 31},
        {"reason": " "},
        {"reason": "x" * (REASON_LIMIT + 1)},
    ):
        with pytest.raises(Usage):
            reader.request_release(vaulted.case, "identity", **{**good, **changes})
    with pytest.raises(Usage):
        reader.request_release("../people", "identity", **good)
    assert not any(method == "POST" for method, _, _ in house.lying.seen)
    bare = Vaulted.make(house.organisation, identity=None)
    with pytest.raises(Usage) as missing:
        reader.request_release(bare.case, "identity", **good)
    assert missing.value.slug == "vault-missing"
    with pytest.raises(Refused) as refused:
        reader.request_release(vaulted.case, "identity", **{**good, "purpose": "iiim"})
    assert refused.value.slug == "consent-asks"


def test_shares_that_arrived_other_than_the_witness_sealed_them_stop_every_reader(
    house: House, vaulted: Vaulted, tmp_path: Path
) -> None:
    """A server that swapped a share on its arrival shows itself to whoever opens the case."""
    receipt = vaulted.reader.get(f"/v1/cases/{vaulted.case}").get_json()["receipt"]
    event = {**receipt["event"], "shares": receipt["event"]["shares"][:1]}
    custody_log = house.organisation.services.secrets.custody_log
    forged = sign_receipt(custody_log, event, unb64(receipt["key"], 32))
    house.lying.lies[f"/v1/cases/{vaulted.case}"] = in_json(
        lambda told: told.update(receipt=forged)
    )
    with pytest.raises(NotVerified) as refused:
        house.programs.reader(vaulted.reader.keys).open(vaulted.case, tmp_path / "out")
    assert refused.value.slug == "shares-differ"
