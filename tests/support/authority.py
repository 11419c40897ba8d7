"""A real authority of time stamps: OpenSSL stamps, a small HTTP server asks it. It may be slow, expired or a liar."""

import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from amana.api.services import Services

SETTINGS = """[tsa]
dir = .
serial = serial
default_policy = 1.2.3.4.1
digests = sha256, sha384
accuracy = secs:1
signer_digest = sha256
ess_cert_id_alg = sha256
"""
DAY = timedelta(days=1)
Key = ec.EllipticCurvePrivateKey


def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


@dataclass
class Authority:
    """A root, what it certified, and who stamps under that; `days` says how far from now each is valid.

    `embedded` are the certificates besides its own that it puts into its answers.
    """

    folder: Path
    name: str = "Clock of the Tests"
    root_days: tuple[int, int] = (-10, 100)
    own_days: tuple[int, int] = (-10, 100)
    until: datetime | None = None
    root_until: datetime | None = None
    purposes: tuple[x509.ObjectIdentifier, ...] = (ExtendedKeyUsageOID.TIME_STAMPING,)
    is_critical: bool = True
    middle_is_ca: bool = True
    self_signed: bool = False
    embedded: tuple[str, ...] = ("middle",)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        (self.folder / "settings").write_text(SETTINGS, encoding="ascii")
        (self.folder / "serial").write_text("01\n", encoding="ascii")
        names = ("root", "middle", "own")
        self.keys = keys = {name: ec.generate_private_key(ec.SECP256R1()) for name in names}
        made: dict[str, x509.Certificate] = {}
        for name, issuer, is_ca, days in (
            ("root", "root", True, self.root_days),
            ("middle", "root", self.middle_is_ca, self.root_days),
            ("own", "own" if self.self_signed else "middle", False, self.own_days),
        ):
            made[name] = self._certify(name, keys[name], issuer, keys[issuer], is_ca, days)
            (self.folder / f"{name}.pem").write_bytes(made[name].public_bytes(Encoding.PEM))
        (self.folder / "own.key").write_bytes(
            keys["own"].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )
        self.root, self.middle, self.own = made["root"], made["middle"], made["own"]

    def _certify(
        self, name: str, key: Key, issuer: str, signing: Key, is_ca: bool, days: tuple[int, int]
    ) -> x509.Certificate:
        until = (self.until if name == "own" else self.root_until) or now() + days[1] * DAY
        builder = (
            x509.CertificateBuilder()
            .subject_name(self._called(name))
            .issuer_name(self._called(issuer))
            .public_key(key.public_key())
            .serial_number(len(name) * 1000003)
            .not_valid_before(now() + days[0] * DAY)
            .not_valid_after(until)
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        )
        if name == "own":
            usage = x509.ExtendedKeyUsage(self.purposes)
            builder = builder.add_extension(usage, critical=self.is_critical)
        return builder.sign(signing, SHA256())

    def differently(self, **changes: Any) -> x509.Certificate:
        """Certify the same key under the same name and number once more, with other `purposes` or not critically."""
        purposes, is_critical = self.purposes, self.is_critical
        self.purposes = changes.get("purposes", purposes)
        self.is_critical = changes.get("is_critical", is_critical)
        key, signing = self.keys["own"], self.keys["middle"]
        made = self._certify("own", key, "middle", signing, False, self.own_days)
        self.purposes, self.is_critical = purposes, is_critical
        return made

    def _called(self, name: str) -> x509.Name:
        called = self.name if name == "own" else f"{self.name}, {name}"
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, called)])

    def reply(self, query: bytes) -> bytes:
        """Answer a request as `openssl ts -reply` does."""
        with self._lock:
            (self.folder / "query").write_bytes(query)
            command = ["openssl", "ts", "-reply", "-config", "settings", "-section", "tsa"]
            command += ["-queryfile", "query", "-signer", "own.pem", "-inkey", "own.key"]
            if self.embedded:
                chain = b"".join((self.folder / f"{x}.pem").read_bytes() for x in self.embedded)
                (self.folder / "chain").write_bytes(chain)
                command += ["-chain", "chain"]
            done = subprocess.run(
                [*command, "-out", "answer"], cwd=self.folder, capture_output=True, check=False
            )
            assert (self.folder / "answer").exists(), done.stderr
            return (self.folder / "answer").read_bytes()

    def query(self, data: bytes, *options: str, cert: bool = True) -> bytes:
        """Ask as `openssl ts -query` does; without `cert` for an answer that holds no certificate."""
        more = ["-cert"] if cert else []
        done = subprocess.run(
            ["openssl", "ts", "-query", "-sha256", *more, *options],
            input=data, capture_output=True, check=True,
        )  # fmt: skip
        return done.stdout

    def stamp(self, data: bytes) -> bytes:
        return self.reply(self.query(data))


@dataclass
class AuthorityServer:
    """An authority on a loopback port. `answer` makes its answers; `asked` are the requests that came."""

    port: int
    answer: Callable[[bytes], bytes]
    status: int = 200
    asked: list[bytes] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/tsr"


@contextmanager
def serving(answer: Callable[[bytes], bytes]) -> Iterator[AuthorityServer]:
    """Serve an authority's answers; a request gets what `answer` of the server makes of it at that time."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.headers["Content-Type"] == "application/timestamp-query"
            assert self.path == "/tsr"
            here.asked.append(query)
            content = here.answer(query)
            self.send_response(here.status)
            self.send_header("Content-Type", "application/timestamp-reply")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    here = AuthorityServer(server.server_address[1], answer)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield here
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def stamped_by(
    services: Services, servers: Mapping[str, tuple[AuthorityServer, Authority]]
) -> Services:
    """Return services whose settings name these authorities."""
    folder = services.config.data / "authorities"
    folder.mkdir(exist_ok=True)
    for name, (_, authority) in servers.items():
        (folder / f"{name}.pem").write_bytes((authority.folder / "root.pem").read_bytes())
    urls = {name: server.url for name, (server, _) in servers.items()}
    config = replace(services.config, timestamp_authorities=urls, timestamp_certificates=folder)
    return replace(services, config=config)
