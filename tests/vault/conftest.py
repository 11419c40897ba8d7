"""An organisation on each database, and a case with who its witness is in the vault."""

from collections.abc import Iterator

import pytest

from tests.support.organisation import Organisation, organisation_on
from tests.support.vaults import Vaulted
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
def vaulted(organisation: Organisation) -> Vaulted:
    return Vaulted.make(organisation)
