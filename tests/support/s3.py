"""A real S3-compatible server for the tests: OpenStack Swift, one process a service, in a folder, on loopback."""

import getpass
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import boto3
from botocore.config import Config

from amana.storage.s3 import S3Settings

START_SECONDS = 60

# Rings say which device holds what; here one device holds everything once.
RINGS = """
import sys
from swift.common.ring import RingBuilder
folder = sys.argv[1]
for name, port in zip(("account", "container", "object"), map(int, sys.argv[2:])):
    ring = RingBuilder(6, 1, 1)
    ring.add_dev({
        "region": 1, "zone": 1, "ip": "127.0.0.1", "port": port, "device": "disk", "weight": 1,
        "replication_ip": "127.0.0.1", "replication_port": port, "meta": "",
    })
    ring.rebalance()
    ring.get_ring().save(f"{folder}/{name}.ring.gz")
"""

SWIFT = """
[swift-hash]
swift_hash_path_suffix = test
swift_hash_path_prefix = test
[storage-policy:0]
name = only
default = yes
"""

SERVER = """
[DEFAULT]
swift_dir = {folder}
devices = {folder}
user = {user}
workers = 0
bind_ip = 127.0.0.1
bind_port = {port}
mount_check = false
fallocate_reserve = 0
log_level = WARNING
log_address = /nonexistent
log_udp_host =
[pipeline:main]
pipeline = {name}-server
[app:{name}-server]
use = egg:swift#{name}
"""

# No cache answers at port 1, which is how Swift is told to do without.
PROXY = """
[DEFAULT]
swift_dir = {folder}
user = {user}
workers = 0
bind_ip = 127.0.0.1
bind_port = {port}
log_level = WARNING
log_address = /nonexistent
log_udp_host =
[pipeline:main]
pipeline = catch_errors gatekeeper cache listing_formats bulk s3api tempauth slo versioned_writes symlink proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
allow_account_management = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:1
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:bulk]
use = egg:swift#bulk
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
dns_compliant_bucket_names = true
min_segment_size = {least_part_bytes}
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin
[filter:slo]
use = egg:swift#slo
[filter:versioned_writes]
use = egg:swift#versioned_writes
allow_object_versioning = true
[filter:symlink]
use = egg:swift#symlink
"""


@dataclass(frozen=True)
class S3Server:
    """A running server and the keys it accepts."""

    endpoint_url: str
    access_key: str
    secret_key: str
    region: str = "us-east-1"

    def fresh_bucket(self) -> S3Settings:
        """Make an empty bucket and return the settings with which a store uses it."""
        bucket = f"amana-{uuid.uuid4().hex}"
        client = boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name=self.region,
            config=Config(s3={"addressing_style": "path"}),
        )
        client.create_bucket(Bucket=bucket)
        client.close()
        return S3Settings(
            endpoint_url=self.endpoint_url,
            bucket=bucket,
            region=self.region,
            access_key=self.access_key,
            secret_key=self.secret_key,
        )


@contextmanager
def swift_server(folder: Path, *, least_part_bytes: int = 1) -> Iterator[S3Server]:
    """Run Swift with its data below `folder`, which must be on a file system with extended attributes.

    Real stores refuse parts under 5 MiB; tests may send smaller ones to be quick.
    """
    with ExitStack() as stack:
        proxy, *ports = free_ports(4)
        names = ("account", "container", "object")
        (folder / "disk").mkdir()
        (folder / "swift.conf").write_text(SWIFT)
        facts = {"folder": folder, "user": getpass.getuser(), "least_part_bytes": least_part_bytes}
        for name, port in zip(names, ports, strict=True):
            text = SERVER.format(name=name, port=port, **facts)
            (folder / f"{name}-server.conf").write_text(text)
        (folder / "proxy-server.conf").write_text(PROXY.format(port=proxy, **facts))
        subprocess.run(
            [sys.executable, "-c", RINGS, str(folder), *map(str, ports)], check=True, timeout=60
        )
        log = stack.enter_context((folder / "log").open("ab"))
        servers = []
        for name in (*names, "proxy"):
            program = Path(sys.executable).with_name(f"swift-{name}-server")
            server = subprocess.Popen(
                [program, folder / f"{name}-server.conf"], stdout=log, stderr=log, cwd=folder
            )
            stack.callback(_end, server)
            servers.append(server)
        _wait_until_open((proxy, *ports), servers, folder / "log")
        yield S3Server(f"http://127.0.0.1:{proxy}", "test:tester", "testing")


def free_ports(count: int) -> list[int]:
    """Return ports of loopback on which nobody listens now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _wait_until_open(
    ports: tuple[int, ...], servers: list[subprocess.Popen[bytes]], log: Path
) -> None:
    deadline = time.monotonic() + START_SECONDS
    for port in ports:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                if time.monotonic() > deadline or any(one.poll() is not None for one in servers):
                    raise AssertionError(f"Swift did not start: {log.read_text()}") from None
                time.sleep(0.02)


def _end(server: subprocess.Popen[bytes]) -> None:
    server.kill()
    server.wait()


@contextmanager
def moto_server() -> Iterator[S3Server]:
    """Run moto, which keeps whatever arrives without comparing checksums: a store that cannot be trusted."""
    (port,) = free_ports(1)
    program = Path(sys.executable).with_name("moto_server")
    server = subprocess.Popen(
        [program, "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_until_open((port,), [server], Path(os.devnull))
        yield S3Server(f"http://127.0.0.1:{port}", "test", "testing")
    finally:
        _end(server)
