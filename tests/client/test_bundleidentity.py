"""A bundle says of the identity what custodians released for it; without both conditions it does not verify."""

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from amana.client.bundleidentity import check_identity, release_path
from amana.client.errors import NotVerified
from amana.protocol.action import sign_action
from amana.protocol.bundle import parse_index
from amana.protocol.consent import Entry
from amana.protocol.encoding import canonical, parse_day, unb64
from amana.protocol.errors import CannotOpen
from amana.protocol.identity import parse_identity
from amana.protocol.policy import parse_policy
from tests.support.bundles import Bundle, bundle_with_identity_in, faults, listed_anew
from tests.support.vaults import ORIGINAL, WHO

IDENTITY = release_path("identity")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bundle]:
    with bundle_with_identity_in(tmp_path_factory.mktemp("identity")) as made:
        yield made


def index_of(bundle: Bundle) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((bundle.folder / "bundle.json").read_bytes())
    return found


def test_it_holds_who_the_witness_is_and_says_under_what(bundle: Bundle) -> None:
    for place in (bundle.made.file, bundle.folder):
        checks = bundle.check(place)
        assert faults(checks) == {}
    [told] = [one.detail for one in checks if one.name == "identity"]
    releases = {one["vault"]: one["request"] for one in index_of(bundle)["released"]}
    for vault, request in releases.items():
        covered = f"covered by version 0 of the witness's policy and release {request}"
        assert f"{vault}: included, {covered}" in told
    for one in bundle.leaving.vault.custodians[:2]:  # type: ignore[attr-defined]
        assert one.keys.id in told
    files = [one.read_bytes() for one in (bundle.folder / "data" / "files").iterdir()]
    assert ORIGINAL in files
    assert WHO in [parse_identity(one) for one in files if b'"zeros"' in one]


def test_what_leaves_opens_no_more_than_what_leaves(bundle: Bundle) -> None:
    everything = b"".join((bundle.folder / one).read_bytes() for one in bundle.paths)
    assert str(bundle.leaving.made.case_key).encode() not in everything
    partner = bundle.partner.intake
    evidence = json.loads((bundle.folder / IDENTITY).read_bytes())
    assert "sealed" not in json.dumps(evidence["shares"]), "hashes of shares, not shares"
    from amana.protocol.sealing import Kind, open_sealed

    for one in evidence["request"]["body"]["reasons"]:
        with pytest.raises(CannotOpen):
            open_sealed(unb64(one["sealed"]), partner, Kind.REASON)


@pytest.mark.parametrize("bit", range(0, 8, 3))
def test_a_flipped_bit_in_a_release_or_the_identity_is_named(
    bundle: Bundle, tmp_path: Path, bit: int
) -> None:
    folder = bundle.copy(tmp_path / "flipped")
    for path in bundle.paths:
        if not path.startswith(("data/releases/", "data/files/", "data/openings/")):
            continue
        whole = (folder / path).read_bytes()
        place = len(whole) * bit // 8
        (folder / path).write_bytes(
            whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :]
        )
        assert path in faults(bundle.check(folder))["files"]
        (folder / path).write_bytes(whole)


# A maker who lies with a true key


def lied(
    bundle: Bundle,
    to: Path,
    change: Callable[[dict[str, Any]], Any] | None = None,
    index: Callable[[dict[str, Any]], None] = lambda _fields: None,
) -> dict[str, str]:
    """Change the release of the identity, or the index, and let the maker sign it all."""
    folder = bundle.copy(to)
    if change is not None:
        evidence = json.loads((folder / IDENTITY).read_bytes())
        (folder / IDENTITY).write_bytes(canonical(change(evidence) or evidence))
    listed_anew(folder, bundle.leaving.reader.keys, index)
    return faults(bundle.check(folder))


def signed_by(bundle: Bundle, keys: Any, kind: str, body: dict[str, Any]) -> dict[str, Any]:
    leaving = bundle.leaving
    action = sign_action(
        keys.signing,
        deployment=leaving.organisation.directory.deployment,
        directory=1,
        action=kind,
        case=leaving.case,
        actor=keys.id,
        body=body,
        made_at=leaving.organisation.clock(),
    )
    return {"action": action, "body": body}


def test_a_lie_about_a_release_is_found(bundle: Bundle, tmp_path: Path) -> None:
    number = 0

    def lie(change: Callable[[dict[str, Any]], Any]) -> str:
        nonlocal number
        number += 1
        found = lied(bundle, tmp_path / str(number), change)
        assert set(found) == {"identity"}, found
        return found["identity"]

    reader = bundle.leaving.reader.keys
    custodian = bundle.leaving.vault.custodians[0].keys  # type: ignore[attr-defined]
    assert "Not enough" in lie(lambda one: one.update(shares=one["shares"][:1]))
    assert "Not enough" in lie(lambda one: one.update(shares=[]))
    assert "Not enough" in lie(lambda one: one.update(shares=[one["shares"][0]] * 2))
    for name, value in (("to", None), ("to", "b" * 32), ("purpose", "review"), ("days", 30)):

        def change(one: dict[str, Any], name: str = name, value: Any = value) -> None:
            one["request"]["body"][name] = value

        assert "something else" in lie(change), name

        def signed_too(one: dict[str, Any], name: str = name, value: Any = value) -> dict[str, Any]:
            body = {**one["request"]["body"], name: value}
            return {**one, "request": signed_by(bundle, reader, "release-request", body)}

        expected = "The log does not tell" if name == "days" else "something else"
        assert expected in lie(signed_too), name

    def one_custodian_for_two(one: dict[str, Any]) -> dict[str, Any]:
        body = copy.deepcopy(one["shares"][0]["body"])
        body["shares"] = [{**body["shares"][0], "subset": [custodian.id]}]
        return {**one, "shares": [signed_by(bundle, custodian, "release-share", body)]}

    assert "Not enough" in lie(one_custodian_for_two)

    def by_somebody_else(one: dict[str, Any]) -> dict[str, Any]:
        body = one["shares"][0]["body"]
        return {**one, "shares": [signed_by(bundle, reader, "release-share", body)] * 2}

    assert "Nobody who may" in lie(by_somebody_else)

    def signed_later(one: dict[str, Any]) -> dict[str, Any]:
        again = [
            signed_by(bundle, person.keys, "release-share", each["body"])
            for each in one["shares"]
            for person in bundle.leaving.vault.custodians  # type: ignore[attr-defined]
            if person.keys.id == each["action"]["actor"]
        ]
        return {**one, "shares": again}

    assert "The log does not tell" in lie(signed_later)


def test_an_index_that_says_something_else_is_found(bundle: Bundle, tmp_path: Path) -> None:
    def index(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
        return lambda fields: fields.update({name: value})

    found = lied(bundle, tmp_path / "a", index=index("identity_level", "anonymous"))
    assert {"export", "identity"} <= set(found)
    found = lied(bundle, tmp_path / "b", index=index("released", []))
    assert {"ciphertext", "export", "identity"} <= set(found)
    found = lied(bundle, tmp_path / "c", index=index("purpose", "ngo"))
    assert {"export", "consent", "identity"} <= set(found)
    folder = bundle.copy(tmp_path / "d")
    (folder / IDENTITY).unlink()
    listed_anew(folder, bundle.leaving.reader.keys, lambda _fields: None)
    assert faults(bundle.check(folder))["identity"].startswith("The bundle lacks a release")


def test_a_release_that_had_ended_covers_nothing(bundle: Bundle) -> None:
    index = parse_index((bundle.folder / "bundle.json").read_bytes())
    event = json.loads((bundle.folder / "data" / "receipt.json").read_bytes())["event"]
    paths = (bundle.folder / "data" / "custody").glob("*.event.json")
    events = [json.loads(one.read_bytes()) for one in paths]
    policy = parse_policy((bundle.folder / "data" / "policies" / "0.json").read_bytes())
    small = {
        path: (bundle.folder / path).read_bytes()
        for path in bundle.paths
        if path.startswith("data/releases/")
    }
    day = parse_day(index.made_on)

    def check(more: list[dict[str, Any]]) -> str:
        return check_identity(
            small,
            index,
            event["shares"],
            [*events, *more],
            [Entry(policy, day)],
            [day],
            lambda _version: bundle.leaving.organisation.directory,
        )

    assert check([]).startswith("identity: included")
    assert check([{"kind": "release-ended", "request": "b" * 32}])
    for one in index.released:
        with pytest.raises(NotVerified) as error:
            check([{"kind": "release-ended", "request": one.request}])
        assert error.value.slug == "release-over"
