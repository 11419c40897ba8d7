# SPDX-License-Identifier: AGPL-3.0-or-later
"""What every command of staff begins with: who asks, at which server, under which root."""

import json
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any

import click

from amana.cli.options import FILE, json_option, proxy_option, root_option, server_option
from amana.client.keyfile import (
    PersonKeys,
    public_document,
    read_key,
    read_passphrase,
    write_key,
)
from amana.client.newfile import refuse_taken, write_new
from amana.client.progress import progress_for
from amana.client.staff import Staff
from amana.client.transport import Transport
from amana.client.verify import ROOT_LIMIT_BYTES, read_limited

FOLDER = click.Path(file_okay=False, path_type=Path)

key_option = click.option(
    "--key", envvar="AMANA_KEY", required=True, type=FILE, help="Your key file (AMANA_KEY)."
)
cache_option = click.option(
    "--directory-cache",
    envvar="AMANA_DIRECTORY_CACHE",
    type=FOLDER,
    help="Folder that remembers which directory was seen, so that an older one is refused"
    " (AMANA_DIRECTORY_CACHE; default: beside the key).",
)


public_option = click.option(
    "--public",
    "public_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A new file for your public part, for the officers of a first directory.",
)


def make_keys(role: str, out: Path, public_file: Path | None) -> tuple[Path, dict[str, Any]]:
    """Make a person's keys in the folder `out`; returns the key file, and what is said of it. Raises Usage."""
    if public_file is not None:
        refuse_taken(public_file)
    keys = PersonKeys.generate(role)
    path = write_key(keys, out, read_passphrase(confirm=True))
    document = public_document(keys)
    if public_file is not None:
        write_public(public_file, document)
    return path, {"key": str(path), **document}


def write_public(path: Path, document: Mapping[str, Any]) -> None:
    """Write the public part of somebody's keys into a new file; raises Usage."""
    write_new(path, (json.dumps(document, indent=1) + "\n").encode("ascii"))


def as_staff(kind: type[Staff], name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options that say who asks and whom; it is handed a `kind` under `name`."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @server_option
        @root_option
        @key_option
        @proxy_option
        @cache_option
        @json_option
        @wraps(command)
        def with_staff(
            server: str,
            root: Path,
            key: Path,
            proxy: str | None,
            directory_cache: Path | None,
            as_json: bool,
            **rest: Any,
        ) -> None:
            trusted = read_limited(root, ROOT_LIMIT_BYTES)
            passphrase = read_passphrase()
            keys = read_key(key, passphrase)
            with Transport(server, proxy=proxy) as transport:
                person = kind(
                    transport,
                    trusted,
                    keys,
                    cache=directory_cache or key.with_name(f".{keys.id}.directory"),
                    progress=progress_for(as_json=as_json),
                )
                # Commands that write the key file again need what opened it.
                context = click.get_current_context()
                context.obj = (key, passphrase)
                command(**{name: person}, as_json=as_json, **rest)

        return with_staff

    return decorate
