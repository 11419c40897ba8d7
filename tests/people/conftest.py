"""An organisation on each database, for a whole module, and its two administrators."""

from collections.abc import Iterator

import pytest

from tests.support.organisation import Organisation, Person, organisation_on


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def organisation(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Organisation]:
    folder = tmp_path_factory.mktemp("people")
    with organisation_on(request.param, request, folder) as made:
        yield made


@pytest.fixture
def administrators(organisation: Organisation) -> list[Person]:
    return [organisation.as_person(one).sign_in() for one in organisation.of_role("administrator")]
