"""The directory over HTTP: everyone may read it, and signatures alone publish it."""

import json
from typing import Any

import pytest

from amana.app import Surface, create_app
from amana.client.officer import Proposal
from amana.protocol.encoding import b64
from tests.directory.conftest import Server


@pytest.fixture
def database_url(tmp_path: Any) -> str:
    """What is asked here does not depend on the database."""
    return f"sqlite:///{tmp_path}/amana.db"


def publish(server: Server, body: Any) -> Any:
    return server.client.post("/v1/directory", json=body)


def problem(answer: Any) -> tuple[int, str]:
    assert answer.content_type == "application/problem+json"
    return answer.status_code, answer.get_json()["type"]


def with_root(server: Server, proposal: Proposal) -> dict[str, Any]:
    """Return the bundle of a version that brings the configured root along, as a first one does."""
    bundle = proposal.bundle()
    bundle["metadata"]["1.root.json"] = b64(server.ceremony.root_bytes)
    return bundle


def test_an_officers_bundle_is_published_without_signing_in(server: Server) -> None:
    bundle = with_root(server, server.ceremony.proposal())
    for _ in range(2):
        answer = publish(server, bundle)
        assert (answer.status_code, answer.get_json()) == (200, {"version": 1})
    assert server.client.get("/v1/directory/1.root.json").data == server.ceremony.root_bytes


def test_a_file_may_be_kept_unless_it_tells_what_is_fresh(server: Server) -> None:
    server.publish(server.ceremony.proposal())
    fresh = server.client.get("/v1/directory/timestamp.json")
    assert fresh.headers["Cache-Control"] == "no-cache"
    assert fresh.content_type == "application/json"
    for name in ("1.root.json", "1.snapshot.json", "1.targets.json"):
        kept = server.client.get(f"/v1/directory/{name}")
        assert "immutable" in kept.headers["Cache-Control"]
        json.loads(kept.data)


def test_who_has_the_file_already_is_told_so(server: Server) -> None:
    server.publish(server.ceremony.proposal())
    first = server.client.get("/v1/directory/timestamp.json")
    again = {"If-None-Match": first.headers["ETag"]}
    unchanged = server.client.get("/v1/directory/timestamp.json", headers=again)
    assert (unchanged.status_code, unchanged.data) == (304, b"")
    server.turn(hours=13)
    changed = server.client.get("/v1/directory/timestamp.json", headers=again)
    assert changed.status_code == 200
    assert changed.headers["ETag"] != first.headers["ETag"]


@pytest.mark.parametrize(
    "name",
    [
        "root.json",
        "9.targets.json",
        "versions/1/directory.json",
        "targets/directory.json",
        "targets/%00",
        "%00",
        "timestamp.json%00",
        "targets/" + "a" * 300,
        "targets/%D8%A3",
        "..%2f..%2fetc%2fpasswd",
    ],
)
def test_nothing_else_is_served(server: Server, name: str) -> None:
    server.publish(server.ceremony.proposal())
    assert problem(server.client.get(f"/v1/directory/{name}")) == (404, "not-found")


def test_before_the_first_version_there_is_nothing(server: Server) -> None:
    assert problem(server.client.get("/v1/directory/timestamp.json")) == (404, "not-found")


def test_a_refusal_is_a_problem(server: Server) -> None:
    unsigned = server.ceremony.proposal(signers=server.ceremony.officers[:1])
    assert problem(publish(server, with_root(server, unsigned))) == (422, "directory-threshold")
    server.publish(server.ceremony.proposal())
    other = server.ceremony.proposal(drop_bits=1)
    assert problem(publish(server, with_root(server, other))) == (409, "directory-rollback")


@pytest.mark.parametrize(
    "change",
    [
        lambda bundle: bundle.pop("targets"),
        lambda bundle: bundle.update(more={}),
        lambda bundle: bundle.update(targets=[]),
        lambda bundle: bundle["targets"].update({"people.json": 1}),
        lambda bundle: bundle["targets"].update({"people.json": "AA"}),
        lambda bundle: bundle["targets"].update({"people.json": "=====" * 9}),
        lambda bundle: bundle["metadata"].clear(),
    ],
)
def test_a_bundle_in_another_form_is_refused(server: Server, change: Any) -> None:
    bundle = with_root(server, server.ceremony.proposal())
    change(bundle)
    assert problem(publish(server, bundle))[0] == 422
    assert server.get("timestamp.json") is None


@pytest.mark.parametrize(("size", "status"), [(2**20 - 100, 422), (2**20 + 1, 413)])
def test_a_bundle_may_have_a_mebibyte(server: Server, size: int, status: int) -> None:
    body = {"metadata": {"1.targets.json": "A" * (size - 200)}, "targets": {}}
    padded = json.dumps(body).ljust(size).encode()
    answer = server.client.post("/v1/directory", data=padded, content_type="application/json")
    assert answer.status_code == status


def test_without_a_root_of_the_operator_nothing_is_accepted(server: Server) -> None:
    bundle = with_root(server, server.ceremony.proposal())
    server.services.config.root.unlink()
    assert problem(publish(server, bundle)) == (503, "root-missing")


def test_witnesses_read_where_they_send_and_officers_publish_where_staff_work(
    server: Server,
) -> None:
    server.publish(server.ceremony.proposal())
    intake = create_app(server.services, Surface.INTAKE).test_client()
    staff = create_app(server.services, Surface.DESK).test_client()
    assert intake.get("/v1/directory/timestamp.json").status_code == 200
    assert intake.post("/v1/directory", json={}).status_code in {404, 405}
    assert staff.post("/v1/directory", json={}).status_code == 422
