# SPDX-License-Identifier: AGPL-3.0-or-later
"""Ask the process behind a unix socket whether it can do its work; exit status 0 or 1, nothing printed."""

import os
import socket
import sys


def is_ready(path: str) -> bool:
    """Return whether GET /health/ready on the socket at `path` answers 200 within ten seconds."""
    # The application answers only to its own names, when it was told them.
    host = os.environ.get("AMANA_TRUSTED_HOSTS", "").split(",")[0].strip() or "localhost"
    request = f"GET /health/ready HTTP/1.0\r\nHost: {host}\r\n\r\n"
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(path)
            connection.sendall(request.encode("ascii"))
            status = connection.makefile("rb").readline(100)
    except OSError:
        return False
    return status.split(b" ")[1:2] == [b"200"]


if __name__ == "__main__":
    sys.exit(0 if is_ready(sys.argv[1]) else 1)
