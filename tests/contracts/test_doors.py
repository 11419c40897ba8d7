"""Every route states who may pass; a new one without a door fails here."""

from flask import Flask

from amana.access.doors import staff_must_sign_in
from amana.api.doors import nobody_needs_to_sign_in
from amana.api.services import Services
from amana.app import Surface, create_app

DOORS = {nobody_needs_to_sign_in, staff_must_sign_in}

OPEN_TO_ALL = {
    "/health/live",
    "/health/ready",
    "/v1/admission",
    "/v1/directory",  # The officers' signatures are the only authority.
    "/v1/directory/<path:name>",
    "/v1/sessions",
    "/v1/testimonies",
    "/v1/uploads/<capability>",
    "/v1/uploads/<capability>/completion",
}
WITHOUT_BLUEPRINT = {"/openapi.json", "/docs"}


def test_every_blueprint_has_one_door(app: Flask) -> None:
    for name in app.blueprints:
        doors = DOORS & set(app.before_request_funcs.get(name, []))
        assert len(doors) == 1, f"blueprint {name!r} does not say who may pass"


def test_what_is_open_to_all_is_listed_here_and_nothing_else_is(app: Flask) -> None:
    for rule in app.url_map.iter_rules():
        blueprint = rule.endpoint.rpartition(".")[0]
        if rule.rule in WITHOUT_BLUEPRINT:
            assert not blueprint
            continue
        is_open = nobody_needs_to_sign_in in app.before_request_funcs[blueprint]
        assert is_open == (rule.rule in OPEN_TO_ALL), rule.rule


def test_everything_else_asks_for_a_token(app: Flask) -> None:
    client = app.test_client()
    closed = 0
    for rule in app.url_map.iter_rules():
        if rule.rule in OPEN_TO_ALL | WITHOUT_BLUEPRINT:
            continue
        path = rule.rule.replace("<case>", "a" * 32).replace("<int:n>", "1")
        for method in rule.methods - {"HEAD", "OPTIONS"}:
            for token in ({}, {"Authorization": "Bearer x"}, {"Authorization": "Bearer a.b.c"}):
                answer = client.open(path, method=method, headers=token)
                assert answer.status_code == 401, (path, method)
                assert answer.json["type"] == "not-signed-in"
                assert answer.headers["WWW-Authenticate"] == "Bearer"
                closed += 1
    assert closed


def test_the_public_surface_has_nothing_of_staff(services: Services) -> None:
    rules = {rule.rule for rule in create_app(services, Surface.INTAKE).url_map.iter_rules()}
    assert not {rule for rule in rules if rule.startswith("/v1/cases")}
    assert not rules & {"/docs", "/openapi.json", "/v1/sessions"}
    assert "/v1/testimonies" in rules


def test_the_desk_takes_no_testimonies(services: Services) -> None:
    rules = {rule.rule for rule in create_app(services, Surface.DESK).url_map.iter_rules()}
    assert not rules & {"/v1/testimonies", "/v1/admission", "/v1/uploads/<capability>"}
    assert "/v1/cases" in rules
