"""Who lets the identity leave judges for themselves: the reader who asks, the custodians, and the second person."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from amana.client.administrator import Administrator
from amana.client.custodian import Asked
from amana.client.errors import NotVerified, Refused, Usage
from amana.client.exporting import Exporter
from amana.client.released import Wanted, check_release
from amana.client.releases import NotReleased
from amana.client.transport import Transport
from amana.protocol.encoding import parse_day
from tests.support.bundles import sequenced
from tests.support.exports import SCOPES, LeavingWithIdentity
from tests.support.lying import Lying, in_json
from tests.support.organisation import Organisation, organisation_in
from tests.support.statements import Witness
from tests.support.vaults import IMPATIENT, Programs


@dataclass
class Place:
    organisation: Organisation
    lying: Lying
    programs: Programs

    def exporter(self, leaving: LeavingWithIdentity) -> Exporter:
        return Exporter(
            self.transport(), self.organisation.root, leaving.reader.keys, patience=IMPATIENT
        )

    def administrator(self, leaving: LeavingWithIdentity) -> Administrator:
        keys = leaving.administrator.keys
        return Administrator(self.transport(), self.organisation.root, keys, patience=IMPATIENT)

    def transport(self) -> Transport:
        self.organisation.clock.follow()
        transport = Transport(self.programs.url, silence_seconds=60)
        return self.programs.stack.enter_context(transport)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with organisation_in(tmp_path_factory.mktemp("leaving")) as organisation, ExitStack() as stack:
        lying = Lying(organisation.app.wsgi_app)
        organisation.app.wsgi_app = lying  # type: ignore[method-assign]
        stack.enter_context(sequenced(organisation))
        url = stack.enter_context(organisation.served())
        yield Place(organisation, lying, Programs(organisation, url, stack))


@pytest.fixture
def place(served: Place) -> Iterator[Place]:
    served.organisation.clock.follow()
    yield served
    served.lying.lies.clear()


@pytest.fixture
def leaving(place: Place) -> LeavingWithIdentity:
    return LeavingWithIdentity.vaulted(place.organisation)


def test_a_reader_asks_only_under_a_release_for_that(
    place: Place, leaving: LeavingWithIdentity
) -> None:
    exporter = place.exporter(leaving)
    to = leaving.partner.id

    def slug(vault: str = "identity") -> str:
        with pytest.raises(NotReleased) as error:
            exporter.request(leaving.case, to, "iiim", (vault,))
        return error.value.slug

    assert slug() == "release-missing"
    leaving.released(to=None)
    assert slug() == "release-missing"
    leaving.vault.asked(purpose="iiim", to=to)
    assert slug() == "release-missing"
    leaving.released()
    assert slug("originals") == "release-missing"
    assert exporter.request(leaving.case, to, "iiim", ("identity",))


def test_custodians_see_to_whom_it_is_to_be_handed(
    place: Place, leaving: LeavingWithIdentity
) -> None:
    keys = leaving.vault.custodians[0].keys
    reader = place.programs.reader(leaving.reader.keys)
    with pytest.raises(Usage) as error:
        reader.request_release(
            leaving.case, "identity", purpose="iiim", days=3, reason="x", to="b" * 32
        )
    assert error.value.slug == "partner-unknown"
    asked = reader.request_release(
        leaving.case, "identity", purpose="iiim", days=3, reason="x", to=leaving.partner.id
    )
    assert asked.to == leaving.partner.id
    found = place.programs.custodian(keys).look_at(asked.request)
    assert isinstance(found, Asked)
    assert (found.to, found.purpose) == (leaving.partner.id, "iiim")

    # A server cannot leave out, or change, to whom.
    path = f"/v1/releases/{asked.request}"
    for other in (None, "b" * 32):
        place.lying.lies[path] = in_json(
            lambda document, other=other: document["body"].update(to=other)
        )
        with pytest.raises(NotVerified) as wrong:
            place.programs.custodian(keys).look_at(asked.request)
        assert wrong.value.slug in {"request-differs", "partner-unknown"}


def test_the_second_person_says_that_the_identity_leaves(
    place: Place, leaving: LeavingWithIdentity
) -> None:
    export = leaving.asked_with("identity")
    administrator = place.administrator(leaving)
    [judged] = [one for one in administrator.exports("pending") if one.listed.export == export]
    assert (judged.fault, list(judged.listed.releases)) == (None, ["identity"])
    with pytest.raises(Usage) as error:
        administrator.decide_export(export, "approve")
    assert error.value.slug == "identity-unconfirmed"
    assert leaving.told(export)["state"] == "pending"
    plain = leaving.asked()
    with pytest.raises(Usage):
        administrator.decide_export(plain, "approve", with_identity=True)
    assert administrator.decide_export(export, "approve", with_identity=True) == "approved"
    assert administrator.decide_export(plain, "refuse") == "refused"


def test_the_second_person_judges_the_release_for_themselves(
    place: Place, leaving: LeavingWithIdentity
) -> None:
    export = leaving.asked_with("identity")
    other = LeavingWithIdentity.vaulted(place.organisation)
    elsewhere = other.told(other.asked_with("identity"))["released"]

    def fault(lie: Any) -> str:
        place.lying.lies["/v1/exports"] = in_json(
            lambda document: [lie(one) for one in document["exports"] if one["export"] == export]
        )
        administrator = place.administrator(leaving)
        with pytest.raises(NotVerified) as error:
            administrator.decide_export(export, "approve", with_identity=True)
        assert error.value.slug == "export-doubtful"
        return error.value.title

    lies: list[Any] = [
        lambda one: one.update(releases=[]),
        lambda one: one["released"].clear(),
        lambda one: one["released"].update(identity=None),
        lambda one: one.update(released=elsewhere),
        lambda one: one["released"]["identity"]["shares"].pop(),
        lambda one: one["released"]["identity"]["request"]["body"].update(to=None),
        lambda one: one["released"]["identity"]["shares"][0]["action"].update(actor="b" * 32),
        lambda one: one["released"]["identity"]["shares"][0]["body"].update(request="b" * 32),
        lambda one: one["released"]["identity"]["shares"][0]["action"].update(
            made_at="2020-01-01T00:00:00Z"
        ),
        lambda one: one["released"]["identity"]["request"]["action"].update(nonce="b" * 32),
        lambda one: one.update(identity_level="public"),
    ]
    for lie in lies:
        assert fault(lie)
    assert leaving.told(export)["state"] == "pending"


def test_a_release_counts_on_its_days_alone(place: Place, leaving: LeavingWithIdentity) -> None:
    export = leaving.asked_with("identity")
    told = leaving.told(export)
    wanted = Wanted(
        deployment=place.organisation.directory.deployment,
        case=leaving.case,
        vault="identity",
        request=told["releases"][0]["request"],
        reader=leaving.reader.keys.id,
        to=leaving.partner.id,
        purpose="iiim",
    )
    evidence = told["released"]["identity"]
    first = parse_day(told["requested_on"])

    def directory_of(_version: int) -> Any:
        return place.organisation.directory

    given = check_release(evidence, wanted, [first, first + timedelta(7)], directory_of, 2)
    assert given.last_day == first + timedelta(7)
    for day in (first - timedelta(1), first + timedelta(8)):
        with pytest.raises(NotVerified) as error:
            check_release(evidence, wanted, [first, day], directory_of, 2)
        assert error.value.slug == "release-over"
    with pytest.raises(NotVerified) as error:
        check_release(evidence, wanted, [first], directory_of, 3)
    assert error.value.slug == "release-missing"


@pytest.mark.parametrize("how", ["withdrawn", "narrowed", "replaced"])
def test_what_ends_while_it_is_assembled_leaves_nothing(
    place: Place, leaving: LeavingWithIdentity, tmp_path: Path, how: str
) -> None:
    export = leaving.asked_with("identity")
    assert leaving.decide(export).status_code == 200
    witness = Witness(place.organisation, leaving.made)

    def end(_document: dict[str, Any]) -> None:
        if how == "withdrawn":
            assert witness.change("withdraw").status_code == 200
        elif how == "narrowed":
            assert witness.consent(SCOPES, level="anonymous").status_code == 200
        else:
            leaving.vault.asked(purpose="iiim", to=leaving.partner.id)

    # The moment at which the client asks what happened, with everything fetched and opened.
    place.lying.lies[f"/v1/cases/{leaving.case}/consent"] = in_json(end)
    exporter = place.exporter(leaving)
    [listed] = exporter.exports(leaving.case)
    with pytest.raises((Refused, NotVerified)) as error:
        exporter.assemble(listed, tmp_path / "bundle.age")
    slugs = {
        "withdrawn": "case-withdrawn",
        "narrowed": "identity-denied",
        "replaced": "release-over",
    }
    assert error.value.slug == slugs[how]
    assert list(tmp_path.iterdir()) == []


def test_what_a_server_says_of_a_release_is_checked_before_it_leaves(
    place: Place, leaving: LeavingWithIdentity, tmp_path: Path
) -> None:
    export = leaving.asked_with("identity")
    assert leaving.decide(export).status_code == 200

    def lie(document: dict[str, Any]) -> None:
        for one in document["exports"]:
            one["released"]["identity"]["shares"].pop()

    place.lying.lies["/v1/exports"] = in_json(lie)
    exporter = place.exporter(leaving)
    [listed] = exporter.exports(leaving.case)
    with pytest.raises(NotVerified) as error:
        exporter.assemble(listed, tmp_path / "bundle.age")
    assert "identity: Not enough custodians" in error.value.title
    assert list(tmp_path.iterdir()) == []
