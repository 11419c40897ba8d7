# SPDX-License-Identifier: AGPL-3.0-or-later
"""Examine an installation from the inside and say in words what is wrong; changes nothing, prints no secret."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy.exc import SQLAlchemyError
from tuf.api.exceptions import RepositoryError

from amana.api.secrets import SecretsUnusable, load_secrets
from amana.client.directory import expiry_warnings
from amana.config import Config
from amana.directory.service import NoDirectory, current, newest_signed
from amana.errors import Refusal
from amana.protocol.errors import ProtocolError
from amana.storage.blobs import StoreUnavailable
from amana.storage.database import Database, DatabaseUnavailable
from amana.storage.migrations import head, revision
from amana.storage.stores import make_blobs
from amana.vault.resharing import outdated


class Fault(Exception):
    """What a check found wrong, in a sentence for the operator."""


class Warned(Exception):
    """What works today and will not for long."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    ok: bool
    detail: str
    warning: bool = False
    """Nothing is wrong yet, but it will be unless somebody acts."""


def examine(config: Config) -> list[Check]:
    """Look at everything the service needs."""
    checks: dict[str, Callable[[Config], str]] = {
        "python": _python,
        "data folder": _data,
        "secrets": _secrets,
        "addresses": _hosts,
        "database": _database,
        "objects": _objects,
        "trust root": _root,
        "directory": _directory,
        "vaults": _vaults,
    }
    found = []
    for name, check in checks.items():
        try:
            found.append(Check(name, True, check(config)))
        except Warned as warned:
            found.append(Check(name, True, str(warned), warning=True))
        except Fault as fault:
            found.append(Check(name, False, str(fault)))
    return found


def _python(_config: Config) -> str:
    return ".".join(map(str, sys.version_info[:3]))


def _data(config: Config) -> str:
    if not config.data.is_dir():
        raise Fault("The folder does not exist; run 'amana migrate' first.")
    if config.data.stat().st_mode & 0o077:
        raise Fault("Others can look into the folder; its mode must be 0700.")
    return "private"


def _secrets(config: Config) -> str:
    try:
        load_secrets(config.secrets)
    except SecretsUnusable as error:
        raise Fault(str(error)) from None
    return "all there, readable by the service only"


def _hosts(config: Config) -> str:
    if not config.trusted_hosts:
        raise Warned(
            "AMANA_TRUSTED_HOSTS is not set, so requests are taken under any address. Staff's proofs"
            " name the address that they were made for, and none is refused for it."
        )
    return ", ".join(config.trusted_hosts)


def _database(config: Config) -> str:
    if config.database_url.startswith("sqlite") and not config.data.is_dir():
        raise Fault("There is no database yet; run 'amana migrate' first.")
    database = Database(config.database_url)
    try:
        found = revision(database)
        database.check()
    except (DatabaseUnavailable, SQLAlchemyError, OSError):
        raise Fault("The database does not answer.") from None
    finally:
        database.dispose()
    if found != head():
        raise Fault(f"The schema is {found or 'missing'}, not {head()}; run 'amana migrate'.")
    return f"schema {found}"


def _objects(config: Config) -> str:
    try:
        make_blobs(config).check()
    except StoreUnavailable:
        raise Fault("The object store does not answer, or cannot be written.") from None
    return config.objects.kind


def _root(config: Config) -> str:
    if not config.root.is_file():
        raise Fault(
            "There is no trust root yet; the officers' ceremony makes it (docs/operating.md)."
        )
    return "present"


def _directory(config: Config) -> str:
    if not config.root.is_file() or not config.data.is_dir():
        raise Fault("There is no directory yet.")
    database = Database(config.database_url)
    try:
        with database.reading() as session:
            newest = newest_signed(session, config.root.read_bytes())
    except (DatabaseUnavailable, SQLAlchemyError, OSError):
        raise Fault("The database does not answer.") from None
    except (RepositoryError, ProtocolError, Refusal, ValueError, KeyError):
        raise Fault("The published directory does not follow from the trust root.") from None
    finally:
        database.dispose()
    if newest is None:
        raise Fault("The officers have not published a directory yet.")
    root, targets = newest
    now = datetime.now(UTC)
    warnings = " ".join(expiry_warnings(root, targets, now))
    if min(root.expires, targets.expires) <= now:
        raise Fault(warnings)
    if warnings:
        raise Warned(warnings)
    return f"version {targets.version}, valid until {targets.expires:%Y-%m-%d}"


def _vaults(config: Config) -> str:
    if not config.data.is_dir():
        raise Fault("There is no database yet.")
    database = Database(config.database_url)
    try:
        with database.reading() as session:
            waiting = outdated(session, current(session, {}))
    except NoDirectory:
        return "no directory yet"
    except (DatabaseUnavailable, SQLAlchemyError, OSError):
        raise Fault("The database does not answer.") from None
    finally:
        database.dispose()
    if waiting:
        raise Warned(
            f"{waiting} are shared among others than today's custodians: they run 'amana custodian re-share'"
            " (docs/playbooks.md)."
        )
    return "shared among today's custodians"
