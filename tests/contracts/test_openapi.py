"""The interface is described, the description is valid and fresh, and no generated request finds an unexplained error."""

import json
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from flask import Flask
from hypothesis import HealthCheck, given, settings
from openapi_spec_validator import validate

from amana.api.services import Services
from amana.client.keyfile import read_key
from amana.ops.demo import PASSPHRASE
from scripts.write_openapi import text
from tests.support.organisation import Clock, Organisation, Person

DOCUMENT = Path(__file__).parents[2] / "docs" / "openapi.json"


@schemathesis.serializer("application/offset+octet-stream")
def upload_bytes(_context: Any, value: Any) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value, default=str).encode()


def test_the_committed_document_is_fresh_and_valid() -> None:
    fresh = text()
    assert DOCUMENT.read_text("utf-8") == fresh, "run 'make openapi'"
    validate(json.loads(fresh))


def test_every_operation_says_what_it_does_and_how_it_refuses() -> None:
    document = json.loads(DOCUMENT.read_text("utf-8"))
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if method == "parameters":
                continue
            assert operation["summary"], (path, method)
            assert operation["responses"], (path, method)


def test_the_page_shows_it_and_loads_nothing_from_elsewhere(app: Flask) -> None:
    page = app.test_client().get("/docs")
    assert page.status_code == 200
    assert "/v1/testimonies" in page.text
    assert "http://" not in page.text.replace("http://www.w3.org", "")
    assert "<script" not in page.text
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]


@pytest.mark.parametrize("role", ["reviewers", "administrators", "custodians"])
def test_no_generated_request_finds_an_unexplained_error(
    app: Flask, services: Services, data: Path, role: str
) -> None:
    key = sorted((data.parent / "demo" / role).glob("*.key"))[0]
    the_clock = services.clock
    assert isinstance(the_clock, Clock)
    person = Person(
        Organisation(services, app, data.parent, the_clock, {}, read_key(key, PASSPHRASE)),
        read_key(key, PASSPHRASE),
    ).sign_in()
    schema = schemathesis.openapi.from_wsgi("/openapi.json", app)
    seen: set[str] = set()

    for found in schema.get_all_operations():
        operation = found.ok()

        @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy())
        def fuzz(case: Any) -> None:
            # As the person themselves, whose program proves its key for each request.
            person.organisation.clock.follow()
            path = case.formatted_path
            case.headers = {**(case.headers or {}), **person.signed(case.method, path)}
            response = case.call()
            # 503 explains itself; every other answer of this class is a fault of ours.
            assert response.status_code < 500 or response.status_code == 503, case.operation.label
            if response.status_code >= 400 and case.method != "HEAD":
                assert response.headers["content-type"][0] == "application/problem+json"
                assert json.loads(response.content)["type"]

        if operation.label == "DELETE /v1/sessions":
            continue
        fuzz()
        seen.add(operation.label)
    assert len(seen) >= 15
