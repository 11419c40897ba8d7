"""An organisation on each database, and a witness who has a control key and nothing else."""

from collections.abc import Iterator

import pytest

from tests.support.organisation import Organisation, organisation_in
from tests.support.postgres import fresh_database
from tests.support.statements import Witness


@pytest.fixture(params=["sqlite", "postgresql"], scope="module")
def organisation(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Organisation]:
    folder = tmp_path_factory.mktemp("organisation")
    if request.param == "sqlite":
        with organisation_in(folder) as made:
            yield made
        return
    with (
        fresh_database(request.getfixturevalue("postgres")) as url,
        organisation_in(folder, url) as made,
    ):
        yield made


@pytest.fixture
def witness(organisation: Organisation) -> Witness:
    organisation.clock.follow()
    return Witness(organisation, organisation.send(files=(b"a photo",)))
