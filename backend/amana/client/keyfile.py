# SPDX-License-Identifier: AGPL-3.0-or-later
"""The keys of one person of staff: one file sealed with a passphrase, on their own device, never overwritten."""

import fcntl
import os
import tempfile
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import click

from amana.client.errors import Usage
from amana.protocol.age import WrongPassphrase
from amana.protocol.case import intake_key_id
from amana.protocol.directory import TARGETS_DAYS, fingerprint, sign_intake_key
from amana.protocol.encoding import (
    b64,
    canonical,
    check_id,
    parse_canonical,
    parse_day,
    random_id,
    unb64,
)
from amana.protocol.sealing import Identity, Recipient, open_with_passphrase, seal_with_passphrase
from amana.protocol.signing import SigningKey

ROLES = ("officer", "reviewer", "custodian", "administrator", "auditor", "partner")
WITH_INTAKE_KEY = frozenset({"reviewer", "custodian", "partner"})
LIMIT_BYTES = 64 * 1024


@dataclass(frozen=True, repr=False)
class FormerKey:
    """An intake key that was replaced; it stays until nothing that is sealed to it can arrive any more."""

    identity: Identity
    left_on: date | None = None
    """The day on which its owner saw first that the directory does not list it any more."""

    @property
    def name(self) -> str:
        """The key's short name, as labels have it."""
        return intake_key_id(self.identity.recipient)

    @property
    def kept_until(self) -> date | None:
        """Until when a witness's phone may hold a directory that lists it."""
        return None if self.left_on is None else self.left_on + timedelta(days=TARGETS_DAYS)


@dataclass(frozen=True, repr=False)
class PersonKeys:
    """What a key file holds."""

    id: str
    role: str
    signing: SigningKey
    intake: Identity | None
    former: tuple["FormerKey", ...] = ()
    """Intake keys that were replaced, newest first."""

    @classmethod
    def generate(cls, role: str) -> "PersonKeys":
        intake = Identity.generate() if role in WITH_INTAKE_KEY else None
        return cls(random_id(), role, SigningKey.generate(), intake)

    @property
    def intake_recipient(self) -> Recipient:
        """The public intake key; refuses a role that has none."""
        if self.intake is None:
            raise Usage(f"The keys of an {self.role} open nothing.", slug="no-intake-key")
        return self.intake.recipient

    def identity_for(self, intake_key: str) -> Identity | None:
        """Return the intake key with a short name, the newest or a former one."""
        former = (one.identity for one in self.former)
        known = (*([self.intake] if self.intake else []), *former)
        return next((one for one in known if intake_key_id(one.recipient) == intake_key), None)

    def renewed(self) -> "PersonKeys":
        """Return the same person with a fresh intake key; the one before becomes a former one."""
        if self.intake is None:
            raise Usage(f"The keys of an {self.role} open nothing.", slug="no-intake-key")
        former = (FormerKey(self.intake), *self.former)
        return replace(self, intake=Identity.generate(), former=former)

    def asking_instead_of(self, listed: Recipient) -> "PersonKeys":
        """Return the keys whose newest the officers are to list in the place of `listed`.

        A newest key that was made after the listed one waits to be listed already; else there is a fresh one.
        """
        waits = any(one.identity.recipient == listed for one in self.former)
        return self if waits else self.renewed()

    @property
    def before(self) -> "PersonKeys | None":
        """The keys with the one before the newest, while their owner did not see the newest listed; else None."""
        if not self.former or self.former[0].left_on is not None:
            return None
        return replace(self, intake=self.former[0].identity, former=self.former[1:])

    def not_listed_from(self, day: date) -> "PersonKeys":
        """Return the same keys after their owner saw on `day` that only the newest one is listed."""
        former = tuple(replace(one, left_on=one.left_on or day) for one in self.former)
        return replace(self, former=former)

    def without(self, names: Collection[str]) -> "PersonKeys":
        """Return the same keys without former ones, by short name."""
        return replace(self, former=tuple(one for one in self.former if one.name not in names))


def intake_key_fields(keys: PersonKeys) -> dict[str, str]:
    """Return `intake_key` and `intake_key_sig` as enrolments and the directory have them."""
    recipient = keys.intake_recipient
    signature = sign_intake_key(keys.signing, keys.id, recipient)
    return {"intake_key": str(recipient), "intake_key_sig": signature}


def own_public(keys: PersonKeys) -> dict[str, str]:
    """Return what a person's fingerprint speaks for: id, signing key, and the intake key where there is one."""
    intake = {} if keys.intake is None else intake_key_fields(keys)
    return {"id": keys.id, "signing_key": keys.signing.public, **intake}


def public_document(keys: PersonKeys) -> dict[str, Any]:
    """Return the public part of somebody's keys as they give it to the officers."""
    public = own_public(keys)
    return {"role": keys.role, "fingerprint": fingerprint(public), "public": public}


def write_key(keys: PersonKeys, folder: Path, passphrase: str, *, work_factor: int = 18) -> Path:
    """Write `<id>.key` into `folder` as `write_key_to` does; returns its path."""
    path = folder / f"{keys.id}.key"
    write_key_to(path, keys, passphrase, work_factor=work_factor)
    return path


def write_key_to(path: Path, keys: PersonKeys, passphrase: str, *, work_factor: int = 18) -> None:
    """Write a key file, mode 0600, whole or not at all, never over another; raises Usage."""
    sealed = seal_with_passphrase(_content(keys), passphrase, work_factor=work_factor)
    folder = path.parent
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Made with mode 0600; a link, unlike a rename, refuses a name that is taken.
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".key-") as draft:
            draft.write(sealed)
            draft.flush()
            os.fsync(draft.fileno())
            os.link(draft.name, path)
        _sync(folder)
    except OSError:
        if path.exists():
            raise Usage("There is such a key file already.", slug="key-exists") from None
        raise Usage("The key file cannot be written.", slug="key-not-written") from None


def change_key(
    path: Path,
    passphrase: str,
    change: Callable[[PersonKeys], PersonKeys],
    *,
    work_factor: int = 18,
) -> PersonKeys:
    """Write a person's changed keys over their own key file, whole or not at all; returns them.

    One command changes it at a time and starts from what the last one left, so that no key is lost.
    """
    try:
        # A link to the file, on a stick perhaps, stays a link: both would hold keys otherwise.
        place = path.resolve(strict=True)
        folder = os.open(place.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        raise Usage("The key file cannot be read.", slug="bad-key-file") from None
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        there = read_key(place, passphrase)
        changed = change(there)
        if changed != there:
            _overwrite(changed, place, passphrase, work_factor)
    finally:
        os.close(folder)
    return changed


def _overwrite(keys: PersonKeys, path: Path, passphrase: str, work_factor: int) -> None:
    sealed = seal_with_passphrase(_content(keys), passphrase, work_factor=work_factor)
    draft = path.with_name(f".key-{keys.id}")
    try:
        draft.unlink(missing_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(sealed)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        _sync(path.parent)
    except OSError:
        raise Usage("The key file cannot be written.", slug="key-not-written") from None


def _content(keys: PersonKeys) -> bytes:
    fields: dict[str, Any] = {
        "v": 1,
        "role": keys.role,
        "id": keys.id,
        "signing_seed": b64(keys.signing.seed),
        "intake_identity": str(keys.intake) if keys.intake else None,
    }
    if keys.former:
        fields["former_intake_keys"] = [
            {
                "identity": str(one.identity),
                "left_on": None if one.left_on is None else one.left_on.isoformat(),
            }
            for one in keys.former
        ]
    return canonical(fields)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_key(path: Path, passphrase: str) -> PersonKeys:
    """Open a key file."""
    try:
        if path.stat().st_size > LIMIT_BYTES:
            raise Usage("This is not a key file.", slug="bad-key-file")
        sealed = path.read_bytes()
    except OSError:
        raise Usage("The key file cannot be read.", slug="bad-key-file") from None
    try:
        fields = parse_canonical(open_with_passphrase(sealed, passphrase), limit=LIMIT_BYTES)
        identity = fields["intake_identity"]
        former = fields.pop("former_intake_keys", [])
        if fields["v"] != 1 or fields["role"] not in ROLES or len(fields) != 5:
            raise ValueError
        return PersonKeys(
            id=check_id(fields["id"]),
            role=fields["role"],
            signing=SigningKey(unb64(fields["signing_seed"], 32)),
            intake=Identity.parse(identity) if identity else None,
            former=tuple(map(_former, former)),
        )
    except WrongPassphrase:
        raise Usage("The passphrase does not open the key file.", slug="wrong-passphrase") from None
    except (ValueError, KeyError, TypeError):
        raise Usage("This is not a key file.", slug="bad-key-file") from None


def _former(fields: dict[str, str | None]) -> FormerKey:
    identity, left_on = fields["identity"], fields["left_on"]
    if identity is None or len(fields) != 2:
        raise ValueError
    return FormerKey(Identity.parse(identity), None if left_on is None else parse_day(left_on))


def read_passphrase(*, confirm: bool = False) -> str:
    """Take the passphrase from AMANA_PASSPHRASE or a prompt, never from an argument."""
    if given := os.environ.get("AMANA_PASSPHRASE"):
        return given
    typed: str = click.prompt("Passphrase", hide_input=True, confirmation_prompt=confirm, err=True)
    return typed
