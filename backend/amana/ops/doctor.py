# SPDX-License-Identifier: AGPL-3.0-or-later
"""Examine an installation from the inside and say in words what is wrong; changes nothing, prints no secret."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.exc import ProgrammingError, SQLAlchemyError
from sqlalchemy.orm import Session
from tuf.api.exceptions import RepositoryError

from amana.access.service import administrators
from amana.api.secrets import SecretsUnusable, load_secrets
from amana.api.services import Services
from amana.client.directory import expiry_warnings
from amana.config import Config
from amana.custody.cosigning import given as cosigned_of
from amana.custody.cosigning import newest, times
from amana.custody.stamping import StampFailed, late, read_authority
from amana.directory.service import NoDirectory, current, latest_version, newest_signed, pinned
from amana.errors import Refusal
from amana.ops.logkeeping import GOOD, standings
from amana.people.service import REVIEW_NOTICE_DAYS
from amana.protocol.errors import ProtocolError
from amana.protocol.timestamp import is_root
from amana.replies.models import Shard
from amana.scrub.schedule import Schedule
from amana.scrub.service import damages, longest_ago
from amana.scrub.service import late as late_checks
from amana.storage.blobs import StoreUnavailable
from amana.storage.database import Database, DatabaseUnavailable
from amana.storage.migrations import head, revision
from amana.storage.stores import make_blobs
from amana.vault.resharing import outdated

EXPIRY_NOTICE_DAYS = 30
MANY_WAITING = 10_000
"""So many leaves wait only where nobody gives them places."""


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
        "stored parts": _stored,
        "trust root": _root,
        "directory": _directory,
        "administrators": _administrators,
        "dead drop": _drop,
        "vaults": _vaults,
        "logs": _logs,
        "cosigners": _cosigners,
        "time stamps": _stamps,
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


def _stored(config: Config) -> str:
    schedule = Schedule(config.scrub_days, config.scrub_bytes)
    since = schedule.late_since(datetime.now(UTC).date())
    with _reading(config) as session:
        damaged, late = damages(session).parts, late_checks(session, since)
        read_since = longest_ago(session)
    if damaged:
        raise Fault(
            f"{damaged} stored parts are missing or not what their receipts say;"
            " 'amana maintain' names their cases."
        )
    if late:
        raise Warned(f"{late} stored parts were not checked within {schedule.days} days.")
    if read_since is None:
        return "nothing is stored"
    return (
        f"each was whole when it was last read, on {read_since} or since; of what came to them later nothing is"
        f" known. Each is read within {schedule.days} days, all of them now by 'amana maintain --scrub'"
    )


@contextmanager
def _reading(config: Config) -> Iterator[Session]:
    if config.database_url.startswith("sqlite") and not config.data.is_dir():
        raise Fault("There is no database yet.")
    database = Database(config.database_url)
    try:
        with database.reading() as session:
            yield session
    except (DatabaseUnavailable, SQLAlchemyError, OSError):
        raise Fault("The database does not answer.") from None
    finally:
        database.dispose()


def _root(config: Config) -> str:
    if not config.root.is_file():
        raise Fault(
            "There is no trust root yet; the officers' ceremony makes it (docs/operating.md)."
        )
    return "present"


def _administrators(config: Config) -> str:
    if not config.root.is_file() or not config.data.is_dir():
        return "none before the first directory"
    database, today = Database(config.database_url), datetime.now(UTC).date()
    try:
        with database.reading() as session:
            if latest_version(session) is None:
                return "none before the first directory"
            directory = current(session, {})
        with database.reading() as session:
            return _standing(administrators(session, directory, today), today)
    except ProgrammingError:
        # The public process may not know how staff stand, and examines the same installation.
        listed = [one for one in directory.people.values() if "administrator" in one.roles]
        return _standing({one.id: None for one in listed}, today)
    except (DatabaseUnavailable, SQLAlchemyError, OSError, Refusal, ProtocolError):
        raise Fault("The database does not answer.") from None
    finally:
        database.dispose()


def _standing(working: dict[str, date | None], today: date) -> str:
    """Say whether the administrators, and the last days of their access, are enough: nobody confirms themselves."""
    if not working:
        raise Fault(
            "None may work: suspended, not confirmed, or too long away. The officers list another, who then"
            " confirms the others."
        )
    last = max(day or date.max for day in working.values())
    if len(working) == 1:
        ends = "when 90 days are over" if last == date.max else f"after {last}"
        raise Warned(
            "One alone may work, whom nobody can confirm: all administration ends"
            f" {ends}. The officers list another, better two."
        )
    if last <= today + timedelta(days=REVIEW_NOTICE_DAYS):
        raise Warned(
            f"The access of all of them ends, the last after {last}, unless they confirm one another"
            " ('amana admin access-review')."
        )
    return f"{len(working)} may work"


def _directory(config: Config) -> str:
    if not config.root.is_file() or not config.data.is_dir():
        raise Fault("There is no directory yet.")
    try:
        with _reading(config) as session:
            newest = newest_signed(session, config.root.read_bytes())
    except (RepositoryError, ProtocolError, Refusal, ValueError, KeyError):
        raise Fault("The published directory does not follow from the trust root.") from None
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


def _drop(config: Config) -> str:
    if config.database_url.startswith("sqlite") and not config.data.is_dir():
        raise Fault("There is no database yet.")
    database = Database(config.database_url)
    try:
        with database.reading() as session:
            published = session.scalar(sa.select(sa.func.max(Shard.published_on)))
    except (DatabaseUnavailable, SQLAlchemyError, OSError):
        raise Fault("The database does not answer.") from None
    finally:
        database.dispose()
    if published is None or published < datetime.now(UTC).date() - timedelta(days=1):
        raise Warned(
            "No batch was published since yesterday, so questions do not reach witnesses. 'amana maintain' does it"
            " once a day; where the desk has a database role of its own, under that."
        )
    return f"published on {published}"


def _logs(config: Config) -> str:
    if not config.root.is_file() or not config.data.is_dir():
        raise Fault("There are no logs before the officers' first root.")
    database = Database(config.database_url)
    try:
        services = Services(
            config=config,
            database=database,
            blobs=make_blobs(config),
            secrets=load_secrets(config.secrets),
            clock=lambda: datetime.now(UTC),
        )
        found = standings(services)
    except SecretsUnusable as error:
        raise Fault(str(error)) from None
    except (DatabaseUnavailable, SQLAlchemyError, OSError, StoreUnavailable):
        raise Fault("The database or the object store does not answer.") from None
    except Refusal as refused:
        raise Fault(refused.title) from None
    finally:
        database.dispose()
    for log in found:
        if log.state not in GOOD:
            raise Fault(f"{log.name}: {log.state}. {log.detail}")
    late = [log for log in found if log.waiting > MANY_WAITING]
    if late:
        raise Warned(
            f"{late[0].waiting} leaves wait for the log {late[0].name}; is intake served, or 'amana maintain' run?"
        )
    sizes = ", ".join(f"{log.name} {log.size}" for log in found)
    return f"{sizes}; some files of each were read, 'amana log status --whole' compares all"


def _cosigners(config: Config) -> str:
    """Look whether clients still have the quorum that the root asks for, and for how long."""
    if not config.root.is_file() or not config.data.is_dir():
        raise Fault("There is no root yet that could name cosigners.")
    database = Database(config.database_url)
    try:
        with database.reading() as session:
            pins = pinned(session, config.root.read_bytes())
            found = newest(session, pins.directory_log.name)
            given = cosigned_of(session, pins.directory_log.name)
    except (DatabaseUnavailable, SQLAlchemyError, OSError):
        raise Fault("The database does not answer.") from None
    except Refusal as refused:
        raise Fault(refused.title) from None
    finally:
        database.dispose()
    if not pins.cosigners:
        return "the root names none"
    newest_text = None if found is None else found[1].text
    if given is None or given.text != newest_text:
        signed = 0
    else:
        oldest = (datetime.now(UTC) - pins.freshness / 2).timestamp()
        fresh = {key for key, time in times(given, pins).items() if time >= oldest}
        signed = len(
            {one.operator for one in pins.cosigners if (one.key.name, one.key.id) in fresh}
        )
    said = f"{signed} operators signed lately, {pins.quorum} are asked for"
    if signed < pins.quorum:
        raise Fault(f"{said}: clients refuse to seal, or will soon.")
    missing = sum(one.key.name not in config.cosigners for one in pins.cosigners)
    if missing:
        raise Warned(
            f"{said}; {missing} of the root's cosigners have no address in AMANA_COSIGNERS"
        )
    return said


def _stamps(config: Config) -> str:
    """Look whether authorities can be asked, and whether those that are asked answer."""
    names = list(config.timestamp_authorities)
    if not names:
        return "no authority is asked"
    try:
        authorities = [read_authority(config, name) for name in names]
    except StampFailed:
        raise Fault(
            "The certificates of an authority cannot be read or hold no root"
            " (AMANA_TIMESTAMP_CERTIFICATES)."
        ) from None
    now = datetime.now(UTC)
    with _reading(config) as session:
        behind = late(session, names, now.date())
    if behind:
        raise Warned(f"{', '.join(behind)} owes a stamp since yesterday or longer.")
    soon = now + timedelta(days=EXPIRY_NOTICE_DAYS)
    for one in authorities:
        if all(root.not_valid_after_utc < soon for root in one.certificates if is_root(root)):
            raise Warned(f"The root of {one.name} expires within {EXPIRY_NOTICE_DAYS} days.")
    return f"{', '.join(names)} gave what was asked for"


def _vaults(config: Config) -> str:
    if config.database_url.startswith("sqlite") and not config.data.is_dir():
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
