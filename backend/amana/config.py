# SPDX-License-Identifier: AGPL-3.0-or-later
"""Every setting of the server, typed, read once from the environment; all faults are reported together."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from environs import Env, EnvError, validate
from marshmallow import ValidationError

from amana.protocol.submission import Limits

MIB = 2**20
GIB = 2**30
PARTS_OF_A_DAY = (1, 2, 3, 4, 6, 8, 12, 24)
MAX_AUTHORITIES = 4
_AUTHORITY = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")


class ConfigInvalid(Exception):
    """One or more settings cannot be used; the text names them and never repeats a value."""


@dataclass(frozen=True)
class ObjectStoreConfig:
    """Where sealed objects rest: `folder` below the data folder, or `s3`."""

    kind: str
    endpoint_url: str | None
    bucket: str
    region: str
    access_key: str | None
    secret_key: str | None


@dataclass(frozen=True)
class Config:
    """The settings of one installation; docs/operating.md explains each."""

    data: Path
    database_url: str
    objects: ObjectStoreConfig
    secrets: Path
    root: Path
    journal: Path
    admission_price: int
    admission_busy_per_day: int
    limits: Limits
    upload_days: int
    scrub_days: int
    scrub_bytes: int
    silence_seconds: float
    workers: int
    threads: int
    trusted_hosts: tuple[str, ...]
    cosigners: Mapping[str, str]
    """Where each cosigner is reached, by the name of its key."""
    cosigner_proxy: str | None
    timestamp_authorities: Mapping[str, str]
    """Where each authority of time stamps is asked, by the name that this installation gives it."""
    timestamp_certificates: Path
    """A folder with a file NAME.pem for each: the certificates under which its stamps must stand."""
    timestamp_proxy: str | None
    timestamp_hours: int
    base_path: str


def read_config(data: Path | None = None) -> Config:
    """Read the settings from AMANA_… variables; `data` overrides AMANA_DATA."""
    env = Env(eager=False, prefix="AMANA_")
    folder = data or Path(env.str("DATA", "var"))
    folder = folder.absolute()
    positive = validate.Range(min=1)
    database_url = env.str("DATABASE_URL", "")
    database_url_file = env.str("DATABASE_URL_FILE", "")
    kind = env.str("OBJECTS", "folder", validate=validate.OneOf(["folder", "s3"]))
    objects = ObjectStoreConfig(
        kind=kind,
        endpoint_url=env.str("S3_ENDPOINT_URL", "") or None,
        bucket=env.str("S3_BUCKET", "amana"),
        region=env.str("S3_REGION", "us-east-1"),
        access_key=_secret(env.str("S3_ACCESS_KEY_FILE", ""))
        or env.str("S3_ACCESS_KEY", "")
        or None,
        secret_key=_secret(env.str("S3_SECRET_KEY_FILE", ""))
        or env.str("S3_SECRET_KEY", "")
        or None,
    )
    config = Config(
        data=folder,
        database_url=_secret(database_url_file) or database_url or f"sqlite:///{folder}/amana.db",
        objects=objects,
        secrets=Path(env.str("SECRETS", str(folder / "secrets"))),
        root=Path(env.str("TRUST_ROOT", str(folder / "root.json"))),
        journal=Path(env.str("JOURNAL", str(folder / "control-statements.jsonl"))),
        admission_price=env.int("ADMISSION_PRICE", 8, validate=validate.Range(0, 24)),
        admission_busy_per_day=env.int("ADMISSION_BUSY_PER_DAY", 20_000, validate=positive),
        limits=Limits(
            objects=env.int("MAX_OBJECTS", 64, validate=validate.Range(1, 64)),
            object_bytes=env.int("MAX_OBJECT_BYTES", 4 * GIB, validate=positive),
            case_bytes=env.int("MAX_CASE_BYTES", 16 * GIB, validate=positive),
        ),
        upload_days=env.int("UPLOAD_DAYS", 30, validate=validate.Range(1, 365)),
        scrub_days=env.int("SCRUB_DAYS", 90, validate=validate.Range(2, 365)),
        scrub_bytes=env.int("SCRUB_BYTES", 16 * GIB, validate=positive),
        silence_seconds=env.float("SILENCE_SECONDS", 60.0, validate=validate.Range(min=0.1)),
        workers=env.int("WORKERS", 2, validate=validate.Range(1, 64)),
        threads=env.int("THREADS", 300, validate=validate.Range(2, 2000)),
        trusted_hosts=tuple(env.list("TRUSTED_HOSTS", [])),
        cosigners=_addresses(env.list("COSIGNERS", [], validate=_is_addresses)),
        cosigner_proxy=env.str("COSIGNER_PROXY", "") or None,
        timestamp_authorities=_addresses(
            env.list("TIMESTAMP_AUTHORITIES", [], validate=_is_authorities)
        ),
        timestamp_certificates=Path(env.str("TIMESTAMP_CERTIFICATES", str(folder / "authorities"))),
        timestamp_proxy=env.str("TIMESTAMP_PROXY", "") or None,
        timestamp_hours=env.int("TIMESTAMP_HOURS", 24, validate=validate.OneOf(PARTS_OF_A_DAY)),
        base_path=env.str("BASE_PATH", "", validate=validate.Regexp(r"(/[A-Za-z0-9._~-]+)*\Z")),
    )
    try:
        env.seal()
    except EnvError as error:
        names = ", ".join(sorted(getattr(error, "error_messages", None) or {})) or "a setting"
        raise ConfigInvalid(f"These settings cannot be used: {names}.") from None
    return config


def _is_addresses(given: list[str]) -> None:
    names = [one.partition("=")[0] for one in given]
    if not all(name and "=" in one for name, one in zip(names, given, strict=True)):
        raise ValidationError("Not NAME=ADDRESS.")
    if len(set(names)) < len(names):
        raise ValidationError("A name stands here twice.")


def _is_authorities(given: list[str]) -> None:
    _is_addresses(given)
    if len(given) > MAX_AUTHORITIES:
        raise ValidationError("Too many.")
    # The name is part of the name of a file.
    if not all(_AUTHORITY.fullmatch(one.partition("=")[0]) for one in given):
        raise ValidationError("Not a name of small letters, digits and dashes.")


def _addresses(given: list[str] | None) -> Mapping[str, str]:
    parts = [one.partition("=") for one in given or []]
    return {name: address for name, _, address in parts}


def _secret(file: str) -> str:
    """Read a secret from a file, without its last line break; an unreadable file is a fault of its own."""
    if not file:
        return ""
    try:
        return Path(file).read_text(encoding="utf-8").rstrip("\n")
    except OSError:
        raise ConfigInvalid("A file that a …_FILE setting names cannot be read.") from None
