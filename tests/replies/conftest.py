"""An organisation on each database, whose witnesses may be asked."""

from collections.abc import Iterator

import pytest

from amana.replies import service
from tests.support.organisation import Organisation, Person, organisation_on
from tests.support.wholeness import check_everything


@pytest.fixture(params=["sqlite", "postgresql"], scope="module")
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Organisation]:
    folder = tmp_path_factory.mktemp("organisation")
    with organisation_on(request.param, request, folder) as made:
        yield made
        check_everything(made)


@pytest.fixture
def organisation(served: Organisation, monkeypatch: pytest.MonkeyPatch) -> Organisation:
    """The organisation at the time of day, where a test before may have turned its clock."""
    served.clock.follow()
    # One reader asks in all tests of this folder, on one day.
    monkeypatch.setattr(service, "ASKS_PER_READER", 1000)
    return served


@pytest.fixture
def reader(organisation: Organisation) -> Person:
    return organisation.as_person(organisation.desks["chemical"][0]).sign_in()
