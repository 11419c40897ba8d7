"""An organisation on each database, and a witness who has a control key and nothing else."""

from collections.abc import Iterator

import pytest

from tests.support.organisation import Organisation, organisation_on
from tests.support.statements import Witness
from tests.support.wholeness import check_everything


@pytest.fixture(params=["sqlite", "postgresql"], scope="module")
def organisation(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Organisation]:
    folder = tmp_path_factory.mktemp("organisation")
    with organisation_on(request.param, request, folder) as made:
        yield made
        check_everything(made)


@pytest.fixture
def witness(organisation: Organisation) -> Witness:
    organisation.clock.follow()
    return Witness(organisation, organisation.send(files=(b"a photo",)))
