# SPDX-License-Identifier: AGPL-3.0-or-later
"""Options that several commands of the far ends share."""

from pathlib import Path

import click

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)

server_option = click.option(
    "--server", envvar="AMANA_SERVER", required=True, help="Address of the service (AMANA_SERVER)."
)
root_option = click.option(
    "--root",
    envvar="AMANA_ROOT",
    type=FILE,
    required=True,
    help="The root file that the officers gave out (AMANA_ROOT).",
)
proxy_option = click.option(
    "--proxy", metavar="URL", help="SOCKS proxy, for Tor: socks5h://127.0.0.1:9050."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
