"""Staff's client at the desk: whoever writes the server's address in another way is let in as well."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from amana.client.desk import DeskClient
from amana.client.errors import Refused
from amana.client.transport import Transport
from amana.ops.demo import DEPLOYMENT
from tests.support.organisation import Organisation, organisation_in


@pytest.fixture(scope="module")
def organisation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Organisation]:
    with organisation_in(tmp_path_factory.mktemp("organisation")) as made:
        yield made


@pytest.fixture(scope="module")
def server(organisation: Organisation) -> Iterator[str]:
    with organisation.served() as address:
        yield address


def client_of(organisation: Organisation, server: str) -> DeskClient:
    keys = organisation.desks["chemical"][0]
    organisation.clock.follow()
    return DeskClient(Transport(server), keys, DEPLOYMENT)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LocalHost"])
@pytest.mark.parametrize("end", ["", "/"])
def test_the_servers_address_may_be_written_in_any_way(
    organisation: Organisation, server: str, host: str, end: str
) -> None:
    client = client_of(organisation, server.replace("127.0.0.1", host) + end)
    assert client.get("/v1/cases?limit=1").document()["cases"] == []


def test_every_client_has_a_key_of_its_own_and_every_request_a_proof_of_its_own(
    organisation: Organisation, server: str
) -> None:
    first, second = client_of(organisation, server), client_of(organisation, server)
    first.get("/v1/cases")
    first.get("/v1/cases")
    # What one client was given is worth nothing in another.
    second._token, second._renew_at = first._token, first._renew_at
    assert second._ask_signed_in("GET", "/v1/cases", {}, {}).status == 401
    assert first._proof("GET", "/v1/cases", "x") != first._proof("GET", "/v1/cases", "x")


def test_a_client_that_was_signed_out_signs_in_anew(
    organisation: Organisation, server: str
) -> None:
    client, other = client_of(organisation, server), client_of(organisation, server)
    client.get("/v1/cases")
    other.sign_in()
    other.sign_out()
    token = client._token
    client.get("/v1/cases")
    assert client._token != token


def test_a_clock_that_is_wrong_is_refused_once_and_not_in_circles(
    organisation: Organisation, server: str
) -> None:
    client = client_of(organisation, server)
    client.clock = lambda: datetime.now(UTC) - timedelta(minutes=3)
    with pytest.raises(Refused) as refused:
        client.get("/v1/cases")
    assert refused.value.slug == "not-signed-in"
