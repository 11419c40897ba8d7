"""What every answer carries, whoever asks for whatever; and that the service answers only to its own names."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from flask import Flask

from amana.api.problems import MEDIA_TYPE
from amana.app import create_app
from amana.protocol.dpop import make_proof
from tests.support.organisation import Organisation, organisation_in

# Written down once more, so that a header that is taken away is missed.
EXPECTED = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


@pytest.fixture(scope="module")
def organisation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Organisation]:
    with organisation_in(tmp_path_factory.mktemp("headers")) as made:
        yield made


def addresses(app: Flask) -> list[tuple[str, str]]:
    """Every route with every method that it has, and some that nothing has."""
    parts = {"<int:n>": "1", "<path:name>": "timestamp.json"}
    found = [("GET", "/nowhere"), ("POST", "/"), ("PUT", "/v1/cases"), ("TRACE", "/v1/sessions")]
    for rule in app.url_map.iter_rules():
        path = rule.rule
        for part, value in parts.items():
            path = path.replace(part, value)
        found += [(method, path.replace("<", "").replace(">", "")) for method in rule.methods or ()]
    return found


def test_every_answer_of_every_route_carries_every_header(organisation: Organisation) -> None:
    client = organisation.app.test_client()
    asked = addresses(organisation.app)
    assert len(asked) > 50
    for method, path in asked:
        answer = client.open(path, method=method)
        for name, value in EXPECTED.items():
            # Its page of documentation may show its own style, and what never changes may be kept.
            if name in ("Content-Security-Policy", "Cache-Control") and answer.status_code == 200:
                assert len(answer.headers.getlist(name)) == 1, (method, path, name)
                continue
            assert answer.headers.getlist(name) == [value], (method, path, name)
        assert "Set-Cookie" not in answer.headers


def test_an_answer_to_who_is_signed_in_carries_them_too(organisation: Organisation) -> None:
    person = organisation.as_person(organisation.desks["chemical"][0]).sign_in()
    for path in ("/v1/cases", "/v1/record", "/v1/cases/x"):
        headers = person.get(path).headers
        assert {name: headers.get(name) for name in EXPECTED} == EXPECTED


def test_the_service_answers_to_its_own_names_alone(organisation: Organisation) -> None:
    config = replace(organisation.services.config, trusted_hosts=("desk.example",))
    app = create_app(replace(organisation.services, config=config))
    client = app.test_client()
    for host in ("evil.example", "desk.example.evil.example", "evil.example:80", "localhost", ""):
        for method, path in (("GET", "/v1/cases"), ("POST", "/v1/sessions"), ("GET", "/nowhere")):
            answer = client.open(path, method=method, headers={"Host": host})
            assert (answer.status_code, answer.content_type) == (400, MEDIA_TYPE), (host, path)
            assert "example" not in answer.get_data(as_text=True)
    own = {"Host": "desk.example"}
    assert client.get("/v1/cases", headers=own).status_code == 401
    person = organisation.as_person(organisation.desks["chemical"][0])
    for named, status in (("http://desk.example", 201), ("http://localhost", 401)):
        url, now = f"{named}/v1/sessions", organisation.clock()
        headers = {**own, "DPoP": make_proof(person.dpop, "POST", url, now)}
        body = {"assertion": person.assertion()}
        assert client.post("/v1/sessions", json=body, headers=headers).status_code == status


def test_no_name_is_repeated_in_where_an_answer_leads(tmp_path: Path) -> None:
    with organisation_in(tmp_path) as organisation:
        client = organisation.app.test_client()
        for path in ("/v1/cases/", "//v1/cases", "/docs/"):
            answer = client.get(path, headers={"Host": "evil.example"})
            assert "evil.example" not in str(answer.headers) + answer.get_data(as_text=True)
