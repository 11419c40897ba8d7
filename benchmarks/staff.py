# SPDX-License-Identifier: AGPL-3.0-or-later
"""People: what letting somebody in costs a request, how long a sign-in takes, and what a large directory weighs."""

import asyncio
import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import httpx2
import sqlalchemy as sa
from flask import Blueprint, Response
from werkzeug.test import EnvironBuilder

from amana.access.doors import staff_must_sign_in
from amana.api.doors import nobody_needs_to_sign_in
from amana.app import create_app
from amana.client.directory import fetch_directory
from amana.client.keyfile import PersonKeys, intake_key_fields, read_key
from amana.ops.demo import DEPLOYMENT, PASSPHRASE
from amana.protocol.assertion import sign_assertion
from amana.protocol.dpop import make_proof, thumbprint
from amana.protocol.encoding import unb64
from amana.protocol.signing import SigningKey
from benchmarks.load import run
from tests.support.officers import Officers
from tests.support.organisation import Organisation, organisation_in
from tests.support.server import Service

REVIEWERS = 200
DESKS = 16


def authorisation(folder: Path, database_url: str, rounds: int = 1000) -> dict[str, float]:
    """Return what the door adds to a request: CPU time of one behind it less that of one in the open.

    Both answer nothing, in this process, by turns. Proofs are made beforehand. What PostgreSQL spends, and what
    one Ed25519 verification costs meanwhile, stand beside.
    """
    with organisation_in(folder, database_url) as organisation:
        app = create_app(organisation.services)
        for name, door in (("open", nobody_needs_to_sign_in), ("closed", staff_must_sign_in)):
            blueprint = Blueprint(name, name)
            blueprint.before_request(door)
            blueprint.add_url_rule(f"/{name}", name, lambda: Response(status=204))
            app.register_blueprint(blueprint)
        organisation.clock.follow()
        person = organisation.as_person(organisation.desks["chemical"][0]).sign_in()
        environments = [
            [
                EnvironBuilder(path, headers=person.signed("GET", path)).get_environ()
                for path in PATHS
            ]
            for _ in range(rounds)
        ]
        spent: dict[str, list[float]] = {name: [] for name in (*PATHS, "verify")}
        message = bytes(350)
        key, signature = person.dpop.private.public_key(), person.dpop.private.sign(message)
        database_began = _database_seconds(organisation)
        for environment in environments:
            for path, one in zip(PATHS, environment, strict=True):
                spent[path].append(_cpu(lambda one=one: list(app.wsgi_app(one, _expect_204))))
            spent["verify"].append(_cpu(lambda: key.verify(signature, message)))
        database = (_database_seconds(organisation) - database_began) / rounds
    door_ms = 1000 * (median(spent["/closed"]) - median(spent["/open"]))
    return {
        "cpu_ms_each": round(door_ms, 3),
        "ed25519_ms": round(1000 * median(spent["verify"]), 3),
        "postgresql_cpu_ms_each": round(1000 * database, 3),
    }


PATHS = ("/open", "/closed")


def _cpu(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def _expect_204(status: str, _headers: object, _error: object = None) -> None:
    assert status.startswith("204"), status


def _database_seconds(organisation: Organisation) -> float:
    """Return the CPU seconds of the connections to this organisation's database."""
    query = sa.text("SELECT pid FROM pg_stat_activity WHERE datname = current_database()")
    with organisation.services.database.reading() as session:
        pids = session.scalars(query).all()
    # proc(5): the first number is nanoseconds on a processor.
    return sum(int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) for pid in pids) / 1e9


def sign_in_requests(service: Service, key: PersonKeys, count: int) -> list[bytes]:
    """Prepare sign-ins, each with its own DPoP key."""
    prepared = []
    for _ in range(count):
        dpop, now = SigningKey.generate(), datetime.now(UTC)
        jkt = thumbprint(unb64(dpop.public, 32))
        assertion = sign_assertion(key.signing, key.id, DEPLOYMENT, now, jkt=jkt, seconds=120)
        proof = make_proof(dpop, "POST", f"{service.url}/v1/sessions", now)
        body = json.dumps({"assertion": assertion})
        prepared.append(
            (
                f"POST /v1/sessions HTTP/1.1\r\nHost: 127.0.0.1:{service.port}\r\n"
                f"Content-Type: application/json\r\nDPoP: {proof}\r\n"
                f"Content-Length: {len(body)}\r\n\r\n{body}"
            ).encode()
        )
    return prepared


def sign_ins(service: Service, key: Path, count: int = 400) -> dict[str, float]:
    """Sign in `count` times at concurrency 8."""
    requests = sign_in_requests(service, read_key(key, PASSPHRASE), count)
    result = asyncio.run(run("127.0.0.1", service.port, requests, 8, 201))
    return {
        "per_second": round(result.rate, 1),
        "p50_ms": round(result.percentile_ms(50), 1),
        "p99_ms": round(result.percentile_ms(99), 1),
        "errors": result.errors,
    }


def _large(description: dict[str, Any]) -> None:
    """Turn the demonstration's directory into one of 200 reviewers at 16 desks."""
    description["desks"] = [
        {**description["desks"][0], "id": f"desk-{n}", "leads": [], "readers": []}
        for n in range(DESKS)
    ]
    for n in range(REVIEWERS):
        keys = PersonKeys.generate("reviewer")
        entry = {"id": keys.id, "roles": ["reviewer"], "signing_key": keys.signing.public}
        desk = description["desks"][n % DESKS]
        desk["readers"].append({**entry, **intake_key_fields(keys), "takes": []})


@contextmanager
def _counting(url: str) -> Iterator[tuple[Any, list[int]]]:
    with httpx2.Client(base_url=url) as http:
        sizes: list[int] = []

        def get(path: str) -> bytes | None:
            answer = http.get(f"/v1/directory/{path}")
            sizes.append(len(answer.content))
            return answer.content if answer.status_code == 200 else None

        yield get, sizes


def large_directory(folder: Path, runs: int) -> dict[str, float]:
    """Measure a witness's first check of a desk, a reader's first check of all, and a refresh."""
    logging.getLogger("werkzeug").disabled = True
    with organisation_in(folder) as organisation:
        officers = Officers(organisation)
        officers.publish(_large)
        seen: dict[str, list[float]] = {"witness": [], "reader": [], "refresh": []}
        kilobytes: dict[str, float] = {}
        with organisation.served() as url:
            for n in range(runs):
                cache = folder / f"cache-{n}"
                for name, kept, desk in (
                    ("witness", None, "desk-3"),
                    ("reader", cache, None),
                    ("refresh", cache, None),
                ):
                    with _counting(url) as (get, sizes):
                        began = time.perf_counter()
                        fetch_directory(get, organisation.root, kept, desk=desk)
                        seen[name].append(time.perf_counter() - began)
                    kilobytes[name] = sum(sizes) / 1000
    return {
        f"{name}_{unit}": value
        for name in seen
        for unit, value in (
            ("ms", round(1000 * median(seen[name]), 1)),
            ("kb", round(kilobytes[name], 1)),
        )
    }
