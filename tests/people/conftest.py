"""An organisation on each database, for a whole module, and its two administrators."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.support.organisation import Organisation, Person, organisation_in
from tests.support.postgres import fresh_database


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def organisation(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Organisation]:
    with ExitStack() as stack:
        url = None
        if request.param == "postgresql":
            url = stack.enter_context(fresh_database(request.getfixturevalue("postgres")))
        yield stack.enter_context(organisation_in(tmp_path_factory.mktemp("people"), url))


@pytest.fixture
def administrators(organisation: Organisation) -> list[Person]:
    return [organisation.as_person(one).sign_in() for one in organisation.of_role("administrator")]
