"""Who a witness is leaves with a case by the commands that people type: where witness and custodians both let it."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.journeys.test_export import verified
from tests.journeys.test_vault import REASON, WHO, House
from tests.support.server import amana, make_demo, running_service


@pytest.fixture
def house(tmp_path: Path, stores: dict[str, str]) -> Any:
    with running_service(tmp_path, stores) as service:
        yield House(service, tmp_path, make_demo(service, tmp_path / "demo")["chemical"])


def test_an_identity_leaves_where_witness_and_custodians_let_it(house: House) -> None:
    case = house.send("--consent", "iiim=allow")["case"]
    house.reader(0, "open", case, "--out", house.folder / "opened")
    house.reader(0, "decide", case, "--decision", "accept", "--reason", "It is clear.")
    [partner] = (house.demo / "partners").glob("*.key")
    administrator = min((house.demo / "administrators").glob("*.key"))
    root = house.demo / "root.json"
    sealed = house.folder / "bundle.age"

    def export(*more: str | Path, check: int = 0) -> Any:
        way = ("--to", partner.stem, "--purpose", "iiim", "--identity")
        return house.reader(0, "export", case, *way, *more, check=check)

    # Nobody was asked; then for the reader alone, by two custodians: that is not for a partner.
    first, second, _ = house.custodians
    assert "release-missing" in export(check=1)
    own = house.request(case, purpose="iiim")["request"]
    for key in (first, second):
        house.custodian(key, "share", own, "--yes")
    assert "release-missing" in export(check=1)
    request = house.request(case, "--to", partner.stem, purpose="iiim")["request"]
    [asked] = house.custodian(first, "pending")["requests"]
    assert (asked["to"], asked["reason"]) == (partner.stem, REASON)
    shown = amana("custodian", "pending", *house.way, "--key", first).stdout
    assert f"TO BE HANDED TO THE PARTNER {partner.stem}" in shown
    house.custodian(first, "share", request, "--yes")
    assert "release-missing" in export(check=1)
    house.custodian(second, "share", request, "--yes")

    asked = export()
    [waiting] = house.ask(administrator, "admin", "exports", "pending")["exports"]
    assert (waiting["identity"], waiting["fault"]) == (["identity"], None)
    approve = ("admin", "exports", "approve", asked["export"])
    assert "identity-unconfirmed" in house.ask(administrator, *approve, check=2)
    assert house.ask(administrator, *approve, "--with-identity")["state"] == "approved"
    assert export("--out", sealed)["state"] == "exported"

    # The partner, without a network.
    folder, receipt = house.folder / "received", house.folder / "receipt.json"
    received = amana(
        "partner", "receive", sealed, "--out", folder, "--receipt", receipt, "--root", root,
        "--key", partner,
    ).stdout  # fmt: skip
    assert "NOT" not in received
    document = verified(folder, "--root", root)
    [told] = [one["detail"] for one in document["checks"] if one["name"] == "identity"]
    assert told.startswith("identity: included, covered by version 0 of the witness's policy and")
    assert request in told
    assert told.endswith("originals: not included")
    found = [json.loads(one.read_bytes()) for one in (folder / "data/files").glob("*.json")]
    assert WHO["name"] in {one.get("name") for one in found}

    # One word of the release, and a table that says so.
    place = folder / "data" / "releases" / "identity.json"
    place.write_bytes(place.read_bytes().replace(b'"days":5', b'"days":9'))
    failed = verified(folder, "--root", root, check=3)
    assert [one["name"] for one in failed["checks"] if not one["ok"]] == ["files"]
    assert "identity" in {one["name"] for one in failed["not_checked"]}

    # The witness, and the end of it: with the policy narrowed nothing of the kind leaves again.
    [standing] = house.witness("status")["testimonies"]
    assert {one["to"] for one in standing["releases"]} == {None, partner.stem}
    [left] = standing["exports"]
    assert (left["identity_level"], left["state"]) == ("prosecutors", "exported")
    house.witness("consent", "--identity-level", "pseudonym")
    assert "identity-denied" in export(check=1)
