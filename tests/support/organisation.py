"""A demonstration organisation in this process: the real application over real stores, with a clock that tests turn."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.serving import make_server

from amana.api.services import Services
from amana.app import create_app, make_services
from amana.client.keyfile import PersonKeys, intake_key_fields, read_key
from amana.config import read_config
from amana.directory import service as directory
from amana.ops.demo import DEPLOYMENT, PASSPHRASE, make_demo
from amana.protocol.action import sign_action
from amana.protocol.admission import Notice, pay
from amana.protocol.assertion import sign_assertion
from amana.protocol.case import intake_key_id
from amana.protocol.directory import Directory
from amana.protocol.dpop import make_proof, thumbprint
from amana.protocol.encoding import unb64
from amana.protocol.signing import SigningKey
from amana.storage.migrations import migrate
from tests.support.testimonies import Made, make_testimony


class Clock:
    """Says the same moment until it is turned."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now

    def follow(self) -> None:
        """Set the clock to the time of day again."""
        self.now = datetime.now(UTC)

    def turn(self, **by: float) -> None:
        self.now += timedelta(**by)


@dataclass
class Organisation:
    """Services, application and the keys of everybody in the demonstration organisation."""

    services: Services
    app: Flask
    folder: Path
    clock: Clock
    desks: dict[str, list[PersonKeys]]
    administrator: PersonKeys

    @property
    def root(self) -> bytes:
        return (self.folder / "demo" / "root.json").read_bytes()

    @property
    def directory(self) -> Directory:
        with self.services.database.reading() as session:
            return directory.current(session, self.services.caches)

    def of_role(self, role: str) -> list[PersonKeys]:
        """Return the keys of everybody who came with a role, as the demonstration wrote them."""
        paths = sorted((self.folder / "demo" / f"{role}s").glob("*.key"))
        return [read_key(path, PASSPHRASE) for path in paths]

    def as_person(self, keys: PersonKeys) -> "Person":
        return Person(self, keys)

    def send(self, desk: str = "chemical", **options: Any) -> Made:
        """Let a testimony for a desk's readers arrive, with all its objects, through the real routes."""
        made = self.seal(desk, **options)
        self.deliver(made)
        return made

    def seal(self, desk: str = "chemical", **options: Any) -> Made:
        """Seal a testimony for a desk's readers as the directory has them."""
        current = self.directory
        text = current.consent_texts[0]
        defaults = {
            "readers": {one.id: one.intake_key for one in current.readers_of(desk)},
            "desk": desk,
            "directory": current.version,
            "deployment": current.deployment,
            "consent_text": text.id,
            "consent_text_sha256": text.sha256,
        }
        return make_testimony(**(defaults | options))

    def announce(self, made: Made) -> dict[str, Any]:
        """Send all but the uploads; returns where those go."""
        client = self.app.test_client()
        notice = Notice.parse(client.get("/v1/admission").get_json())
        proof = pay(notice, made.submission.digest(), sum(map(len, made.sealed)))
        parts = {**vars(made.submission), "admission": proof.to_bytes()}
        body, content_type = _multipart(parts)
        answer = client.post("/v1/testimonies", data=body, content_type=content_type)
        assert answer.status_code == 201, answer.get_json()
        announced: dict[str, Any] = answer.get_json()
        return announced

    def deliver(self, made: Made) -> None:
        """Send what was sealed."""
        client = self.app.test_client()
        announced = self.announce(made)
        for upload, data in zip(announced["uploads"], made.sealed, strict=True):
            headers = {"Tus-Resumable": "1.0.0", "Upload-Offset": "0"}
            sent = client.patch(
                upload["location"],
                data=data,
                headers=headers,
                content_type="application/offset+octet-stream",
            )
            assert sent.status_code == 204, sent.get_json()
        if made.sealed:
            assert client.post(announced["completion"]).status_code == 200

    @contextmanager
    def served(self, application: Any = None) -> Iterator[str]:
        """Serve the application, or one that lies for it, on loopback; gives its address."""
        server = make_server("127.0.0.1", 0, application or self.app, threaded=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.port}"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


class Person:
    """One of staff, speaking HTTP by hand."""

    def __init__(self, organisation: Organisation, keys: PersonKeys) -> None:
        self.organisation = organisation
        self.keys = keys
        self.client: FlaskClient = organisation.app.test_client()
        self.dpop = SigningKey.generate()
        self.token = ""

    @property
    def jkt(self) -> str:
        return thumbprint(unb64(self.dpop.public, 32))

    def replace_key(self, new: PersonKeys, **changes: str) -> Any:
        """Ask the officers to list the intake key of `new` in the place of the one listed now."""
        listed = self.organisation.directory.intake_key(self.keys.id)
        assert listed is not None
        body = {**intake_key_fields(new), "replaces": intake_key_id(listed), **changes}
        return self.act("replace-key", "/v1/key-replacements", **body)

    def proof(self, method: str, path: str, token: str | None = None) -> str:
        """Prove the key of this client for one request."""
        url = "http://localhost" + path.partition("?")[0]
        return make_proof(self.dpop, method, url, self.organisation.clock(), token)

    def signed(self, method: str, path: str) -> dict[str, str]:
        """Return the headers of a request by who is signed in."""
        if not self.token:
            return {}
        return {
            "Authorization": f"DPoP {self.token}",
            "DPoP": self.proof(method, path, self.token),
        }

    def assertion(self, **changes: Any) -> str:
        fields = {"now": self.organisation.clock(), "jkt": self.jkt, **changes}
        return sign_assertion(self.keys.signing, self.keys.id, DEPLOYMENT, **fields)

    def sign_in(self) -> "Person":
        answer = self.offer(self.assertion())
        assert answer.status_code == 201, answer.get_json()
        self.token = answer.get_json()["access_token"]
        return self

    def offer(self, assertion: str) -> Any:
        headers = {"DPoP": self.proof("POST", "/v1/sessions")}
        return self.client.post("/v1/sessions", json={"assertion": assertion}, headers=headers)

    def get(self, path: str, **headers: str) -> Any:
        return self.client.get(path, headers={**self.signed("GET", path), **headers})

    def post(self, path: str, document: Any) -> Any:
        return self.client.post(path, json=document, headers=self.signed("POST", path))

    def act(self, kind: str, path: str, case: str | None = None, **body: Any) -> Any:
        """Sign an action over `body` and bring both to `path`."""
        now = self.organisation.directory.version
        action = self.action(case, action=kind, body=body, directory=now)
        return self.post(path, {**body, "action": action})

    def action(self, case: str | None, /, **changes: Any) -> dict[str, Any]:
        """Sign an opening, with whatever a test wants otherwise."""
        fields: dict[str, Any] = {
            "deployment": DEPLOYMENT,
            "directory": 1,
            "action": "open",
            "case": case,
            "actor": self.keys.id,
            "body": {},
            "made_at": self.organisation.clock(),
        }
        return sign_action(changes.pop("key", self.keys.signing), **(fields | changes))

    def claim(self, case: str) -> Any:
        return self.act("claim", f"/v1/cases/{case}/claims", case)

    def release(self, case: str) -> Any:
        return self.act("release", f"/v1/cases/{case}/claims/release", case)

    def hand_over(self, case: str, to: str, **body: Any) -> Any:
        fields = {"to": to, "second": False, "intake_key": None, "grant": None, **body}
        return self.act("hand-over", f"/v1/cases/{case}/hand-overs", case, **fields)

    def open(self, case: str, action: dict[str, Any] | None = None) -> Any:
        """Open a case, which is claimed first where nobody has it; the answer is that to the opening."""
        self.claim(case)
        body = {"action": self.action(case) if action is None else action}
        return self.post(f"/v1/cases/{case}/openings", body)


def _multipart(parts: dict[str, bytes]) -> tuple[bytes, str]:
    boundary = b"boundary-of-a-test"
    body = b"".join(
        b'--%b\r\nContent-Disposition: form-data; name="%b"; filename="%b"\r\n\r\n%b\r\n'
        % (boundary, name.encode(), name.encode(), data)
        for name, data in parts.items()
        if data or name != "account"
    )
    return body + b"--%b--\r\n" % boundary, f"multipart/form-data; boundary={boundary.decode()}"


@contextmanager
def organisation_in(
    folder: Path,
    database_url: str | None = None,
    *,
    cosigners: Mapping[str, str] | None = None,
    quorum: int | None = None,
) -> Iterator[Organisation]:
    """Make the demonstration organisation over a database and objects in `folder`.

    `cosigners` maps the keys that its root pins to where they are reached.
    """
    clock = Clock()
    config = replace(read_config(folder / "data"), admission_price=0)
    addresses = {vkey.partition("+")[0]: url for vkey, url in (cosigners or {}).items()}
    config = replace(config, database_url=database_url or config.database_url, cosigners=addresses)
    services = replace(make_services(config, create_secrets=True), clock=clock)
    migrate(services.database)
    services.blobs.prepare()
    demo = folder / "demo"
    desks = make_demo(services, demo, list(cosigners or ()), quorum)
    keys = {path.stem: read_key(path, PASSPHRASE) for path in demo.glob("*/*.key")}
    try:
        yield Organisation(
            services=services,
            app=create_app(services),
            folder=folder,
            clock=clock,
            desks={desk: [keys[one] for one in ids] for desk, ids in desks.items()},
            administrator=next(one for one in keys.values() if one.role == "administrator"),
        )
    finally:
        services.database.dispose()


@contextmanager
def organisation_on(database: str, request: Any, folder: Path) -> Iterator[Organisation]:
    """Make it on `sqlite`, or on a fresh database of the fixture `postgres` of a test's `request`."""
    if database == "sqlite":
        with organisation_in(folder) as made:
            yield made
        return
    from tests.support.postgres import fresh_database

    with (
        fresh_database(request.getfixturevalue("postgres")) as url,
        organisation_in(folder, url) as made,
    ):
        yield made
