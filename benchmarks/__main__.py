# SPDX-License-Identifier: AGPL-3.0-or-later
"""`make bench`: every figure beside what it is to be compared with, in one run; prints tables and writes JSON."""

import argparse
import json
import os
import platform
import tempfile
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from rich.console import Console
from rich.table import Table

from benchmarks import (
    bundle,
    drop,
    log,
    queue,
    routing,
    sealing,
    staff,
    testimonies,
    uploads,
    withdrawal,
)
from benchmarks.load import medians
from tests.support.nginx import running_nginx
from tests.support.postgres import fresh_database, postgres_server
from tests.support.server import Service, free_port, make_demo, running_service
from tests.support.uploads import Client

TARGET = Path("build") / "bench.json"
MIB = 2**20
PARTS = (
    "bundle",
    "drop",
    "log",
    "queue",
    "routing",
    "sealing",
    "testimonies",
    "uploads",
    "slow",
    "staff",
    "withdrawal",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument(
        "--runs", type=int, default=3, help="Runs of each measurement; medians are shown."
    )
    parser.add_argument("--mib", type=int, default=512, help="Size of the large object.")
    parser.add_argument(
        "--cases",
        type=int,
        nargs="+",
        default=[10_000, 1_000_000],
        help="Sizes of the queue; 10000000 needs thirty gigabytes and twenty minutes.",
    )
    parser.add_argument(
        "--leaves",
        type=int,
        nargs="+",
        default=[10_000, 1_000_000],
        help="Sizes of the log in which proofs are made; 10000000 needs five gigabytes and ten minutes.",
    )
    arguments = parser.parse_args()
    figures: dict[str, Any] = {
        "machine": {
            "cpus": os.cpu_count(),
            "python": platform.python_version(),
            "load": os.getloadavg()[0],
        }
    }
    wanted = {arguments.only} if arguments.only else set(PARTS)
    if "sealing" in wanted:
        figures["sealing"] = sealing.measure(64, arguments.runs)
    if "bundle" in wanted:
        figures["bundle"] = {"one large object": bundle.measure(arguments.mib, arguments.runs)}
    if "drop" in wanted:
        figures["drop"] = {"256 slots": drop.measure(arguments.runs)}
    if "routing" in wanted:
        figures["routing"] = routing.measure(arguments.runs)
    if "queue" in wanted:
        figures["queue"] = _queues(arguments.cases)
    if "log" in wanted:
        figures["log"] = _log(arguments.runs, arguments.leaves)
    if wanted - {"bundle", "log", "queue", "routing", "sealing"}:
        with tempfile.TemporaryDirectory(dir=Path.cwd() / "build") as folder:
            _server_figures(Path(folder), wanted, arguments.runs, arguments.mib * MIB, figures)
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(json.dumps(figures, indent=1, sort_keys=True) + "\n")
    _show(figures)


def _queues(sizes: list[int]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=Path.cwd() / "build") as folder:
        found = {}
        for cases in sizes:
            with postgres_server(Path(folder) / "p") as server, fresh_database(server) as url:
                found[f"{cases:,} cases"] = queue.measure(url, cases)
        return found


def _log(runs: int, sizes: list[int]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(dir=Path.cwd() / "build") as name:
        folder = Path(name)
        with postgres_server(folder / "p") as server:
            for label, flush in (("", ""), (", 2 ms a flush of the disk", "2000")):
                with fresh_database(server) as url:
                    _slow_flush(url, flush)
                    settings = {"AMANA_DATABASE_URL": url, "AMANA_ADMISSION_PRICE": "0"}
                    here = folder / f"service{flush}"
                    here.mkdir()
                    with running_service(here, settings) as service:
                        make_demo(service, here / "demo")
                        found[f"32 who write{label}"] = log.beside(url, 4.0, 3 * runs)
                        found |= {f"{k}{label}": v for k, v in log.how_soon(url, 8.0, runs).items()}
                    _slow_flush(url, "")
            with fresh_database(server) as url:
                found["alone"] = log.alone(url, folder / "alone")
            for leaves in sizes:
                with fresh_database(server) as url:
                    here = folder / f"{leaves}"
                    found[f"{leaves:,} leaves"] = log.large(url, here, leaves)
    return found


def _slow_flush(url: str, microseconds: str) -> None:
    """Let PostgreSQL wait before each flush of its log, as a slower disk would; nothing for its own way."""
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        for name, value in (
            ("commit_delay", microseconds or "0"),
            ("commit_siblings", "0" if microseconds else "5"),
        ):
            connection.execute(sa.text(f"ALTER SYSTEM SET {name} = {value}"))
        connection.execute(sa.text("SELECT pg_reload_conf()"))


def _server_figures(
    folder: Path, wanted: set[str], runs: int, size: int, figures: dict[str, Any]
) -> None:
    with postgres_server(folder / "postgres") as server, fresh_database(server) as url:
        settings = {
            "AMANA_DATABASE_URL": url,
            "AMANA_ADMISSION_PRICE": "0",
            "AMANA_ADMISSION_BUSY_PER_DAY": "100000000",
            "AMANA_THREADS": "300",
            "AMANA_SILENCE_SECONDS": "60",
        }
        with running_service(folder, settings) as service:
            demo = folder / "demo"
            make_demo(service, demo)
            client = Client(service.url, demo / "root.json", service.data / "objects")
            if "drop" in wanted:
                figures["drop"]["256 slots from a server"] = drop.measure_served(service, runs)
            if "testimonies" in wanted:
                figures["testimonies"] = {
                    f"concurrency {concurrency}": medians(
                        lambda concurrency=concurrency: testimonies.measure(
                            service, demo / "root.json", concurrency, 600
                        ),
                        runs,
                    )
                    for concurrency in (8, 64)
                }
            if "staff" in wanted:
                figures["people"] = _people(service, folder, server, runs)
            if "uploads" in wanted:
                figures["uploads"] = _uploads(service, client, folder, runs, size)
            if "slow" in wanted:
                figures["slow clients"] = uploads.slow_clients(
                    service, client, service.port, 500, 8 * 1024
                )
            if "withdrawal" in wanted:
                figures["withdrawal"] = {
                    "folder": medians(lambda: withdrawal.measure(client), runs)
                }
            client.http.close()


def _people(service: Service, folder: Path, server: str, runs: int) -> dict[str, Any]:
    key = sorted((folder / "demo" / "reviewers").glob("*.key"))[0]
    with fresh_database(server) as url:
        door = staff.authorisation(folder / "door", url)
    return {
        "authorisation of a request": door,
        "sign-in, concurrency 8": medians(lambda: staff.sign_ins(service, key), runs),
        "directory of 200 reviewers at 16 desks": staff.large_directory(folder / "large", runs),
    }


def _uploads(service: Any, client: Client, folder: Path, runs: int, size: int) -> dict[str, Any]:
    """Alternate nginx's PUT and the service behind nginx, so that both see the same machine."""
    rows: dict[str, list[float]] = {
        "nginx WebDAV PUT": [],
        "nginx and Amana": [],
        "Amana alone": [],
    }
    last: dict[str, float] = {}
    port = free_port()
    webdav = (
        f"server {{ listen 127.0.0.1:{port}; client_max_body_size 0; location /bench/ {{"
        f" root {folder}; dav_methods PUT; create_full_put_path on; client_body_temp_path {folder}/bodies; }} }}"
    )
    # Behind nginx a second service of the same installation listens on a socket.
    behind = Service(folder / "behind", service.env)
    behind.folder.mkdir()
    behind.data, behind.uds = service.data, folder / "amana.sock"
    behind.env["AMANA_TRUSTED_HOSTS"] = "127.0.0.1"
    behind.start()
    try:
        with running_nginx(behind.uds, behind.uds, folder / "nginx", extra=webdav) as front:
            for run in range(runs):
                _, body = uploads.announce(client, size)
                rows["nginx WebDAV PUT"].append(uploads.webdav_put(port, f"object-{run}", body))
                (folder / "bench" / f"object-{run}").unlink()
                del body
                last = uploads.one_large(behind, client, front.intake, size)
                rows["nginx and Amana"].append(last["mb_per_second"])
                alone = uploads.one_large(service, client, service.url, size)
                rows["Amana alone"].append(alone["mb_per_second"])
    finally:
        behind.kill()
    figures: dict[str, Any] = {
        name: {"mb_per_second": uploads.median(values)} for name, values in rows.items()
    }
    ratio = (
        figures["nginx and Amana"]["mb_per_second"] / figures["nginx WebDAV PUT"]["mb_per_second"]
    )
    figures["nginx and Amana"] |= {
        "of_webdav_percent": round(100 * ratio),
        "server_cpu_seconds": last["server_cpu_seconds"],
        "peak_memory_mib": last["peak_memory_mib"],
    }
    return figures


def _show(figures: dict[str, Any]) -> None:
    console = Console()
    for name, group in figures.items():
        table = Table("", "", title=name, title_justify="left", show_header=False)
        for row, value in group.items():
            shown = (
                ", ".join(f"{k} {v}" for k, v in value.items())
                if isinstance(value, dict)
                else value
            )
            table.add_row(str(row), str(shown))
        console.print(table)


if __name__ == "__main__":
    main()
