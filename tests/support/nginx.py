"""nginx itself with deploy/nginx.conf, moved to free ports and a temporary folder; nothing else is changed."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.server import free_port, wait_until

CONF = Path(__file__).parents[2] / "deploy" / "nginx.conf"


def nginx_binary() -> str:
    """Return where nginx is; a test without it is skipped."""
    found = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is None:
        pytest.skip("nginx is not installed here (Debian: apt-get install nginx-light)")
    return found


@dataclass(frozen=True)
class Nginx:
    """A running nginx: its addresses, and the one folder into which it can write.

    `pid` is the master's, which leads a process group of its own.
    """

    intake: str
    desk: str
    folder: Path
    log: Path
    pid: int

    @property
    def intake_onion(self) -> Path:
        """The unix socket that tor speaks to."""
        return self.folder / "run" / "onion-intake.sock"


def moved(
    intake_socket: Path,
    desk_socket: Path,
    folder: Path,
    *,
    extra: str = "",
    changes: Mapping[str, str] | None = None,
) -> tuple[str, int, int]:
    """Return the configuration with its paths and ports replaced, and the two ports.

    Each text that is replaced must be there, so that this breaks when the file changes. `extra` is
    added to the http block; `changes` replaces further texts, for what a test cannot wait for.
    """
    intake_port, desk_port = free_port(), free_port()
    replaced = {
        "unix:/run/amana/intake/http.sock": f"unix:{intake_socket}",
        "unix:/run/amana/desk/http.sock": f"unix:{desk_socket}",
        "unix:/run/amana-nginx/": f"unix:{folder}/run/",
        "listen 127.0.0.1:8080;": f"listen 127.0.0.1:{intake_port};",
        "listen 127.0.0.1:8081;": f"listen 127.0.0.1:{desk_port};",
        **(changes or {}),
    }
    text = CONF.read_text()
    for old, new in replaced.items():
        assert old in text, f"deploy/nginx.conf does not say {old!r}"
        text = text.replace(old, new)
    body, brace, _ = text.rpartition("}")
    # A master that is root lends its workers another user, who could not reach the test's sockets.
    user = "user root;\n" if os.geteuid() == 0 else ""
    return f"{user}{body}{extra}\n{brace}\n", intake_port, desk_port


@contextmanager
def running_nginx(
    intake_socket: Path,
    desk_socket: Path,
    folder: Path,
    *,
    extra: str = "",
    changes: Mapping[str, str] | None = None,
) -> Iterator[Nginx]:
    """Run nginx in front of two unix sockets, which need not be there yet."""
    binary = nginx_binary()
    run = folder / "run"
    run.mkdir(parents=True, exist_ok=True)
    conf, log = folder / "nginx.conf", folder / "nginx.log"
    text, intake_port, desk_port = moved(
        intake_socket, desk_socket, folder, extra=extra, changes=changes
    )
    conf.write_text(text)
    with log.open("ab") as output:
        process = subprocess.Popen(
            [binary, "-p", f"{run}/", "-c", str(conf)],
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        wait_until(lambda: _listens(desk_port), "nginx to listen", process=process, log=log)
        yield Nginx(
            intake=f"http://127.0.0.1:{intake_port}",
            desk=f"http://127.0.0.1:{desk_port}",
            folder=folder,
            log=log,
            pid=process.pid,
        )
    finally:
        process.terminate()
        process.wait(timeout=30)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def webdav_put(folder: Path, port: int) -> str:
    """Return a further server that takes files by PUT /dav/…: the bare operation to measure uploads against."""
    (folder / "dav").mkdir(parents=True, exist_ok=True)
    return f"""
    server {{
        listen 127.0.0.1:{port};
        client_max_body_size 0;
        location /dav/ {{
            root {folder};
            client_body_temp_path {folder}/dav/.arriving;
            dav_methods PUT;
        }}
    }}
"""
