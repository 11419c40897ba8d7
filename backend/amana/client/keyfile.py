# SPDX-License-Identifier: AGPL-3.0-or-later
"""The keys of one person of staff: one file sealed with a passphrase, on their own device, never overwritten."""

import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from amana.client.errors import NotVerified, Usage
from amana.protocol.age import WrongPassphrase
from amana.protocol.case import intake_key_id
from amana.protocol.directory import sign_intake_key
from amana.protocol.encoding import b64, canonical, check_id, parse_canonical, random_id, unb64
from amana.protocol.sealing import Identity, Recipient, open_with_passphrase, seal_with_passphrase
from amana.protocol.signing import SigningKey

ROLES = ("officer", "reviewer", "custodian", "administrator", "auditor", "partner")
WITH_INTAKE_KEY = frozenset({"reviewer", "custodian", "partner"})
LIMIT_BYTES = 64 * 1024


@dataclass(frozen=True, repr=False)
class PersonKeys:
    """What a key file holds."""

    id: str
    role: str
    signing: SigningKey
    intake: Identity | None
    former: tuple[Identity, ...] = ()
    """Intake keys that were replaced; they stay until no open case needs them."""

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
        known = (*([self.intake] if self.intake else []), *self.former)
        return next((one for one in known if intake_key_id(one.recipient) == intake_key), None)

    def renewed(self) -> "PersonKeys":
        """Return the same person with a fresh intake key; the one before becomes a former one."""
        if self.intake is None:
            raise Usage(f"The keys of an {self.role} open nothing.", slug="no-intake-key")
        return replace(self, intake=Identity.generate(), former=(self.intake, *self.former))


def intake_key_fields(keys: PersonKeys) -> dict[str, str]:
    """Return `intake_key` and `intake_key_sig` as enrolments and the directory have them."""
    recipient = keys.intake_recipient
    signature = sign_intake_key(keys.signing, keys.id, recipient)
    return {"intake_key": str(recipient), "intake_key_sig": signature}


def write_key(keys: PersonKeys, folder: Path, passphrase: str, *, work_factor: int = 18) -> Path:
    """Write `<id>.key` into `folder`, mode 0600, whole or not at all, never over another; returns its path."""
    content = _content(keys)
    path = folder / f"{keys.id}.key"
    sealed = seal_with_passphrase(content, passphrase, work_factor=work_factor)
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
    return path


def replace_key(keys: PersonKeys, path: Path, passphrase: str, *, work_factor: int = 18) -> None:
    """Write a person's changed keys over their own key file, whole or not at all."""
    sealed = seal_with_passphrase(_content(keys), passphrase, work_factor=work_factor)
    draft = path.with_name(f".key-{keys.id}")
    try:
        draft.unlink(missing_ok=True)
        draft.touch(mode=0o600, exist_ok=False)
        with draft.open("wb") as file:
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
        fields["former_intake_identities"] = [str(one) for one in keys.former]
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
        former = fields.pop("former_intake_identities", [])
        if fields["v"] != 1 or fields["role"] not in ROLES or len(fields) != 5:
            raise ValueError
        return PersonKeys(
            id=check_id(fields["id"]),
            role=fields["role"],
            signing=SigningKey(unb64(fields["signing_seed"], 32)),
            intake=Identity.parse(identity) if identity else None,
            former=tuple(Identity.parse(one) for one in former),
        )
    except WrongPassphrase:
        raise NotVerified(
            "The passphrase does not open the key file.", slug="wrong-passphrase"
        ) from None
    except (ValueError, KeyError, TypeError):
        raise Usage("This is not a key file.", slug="bad-key-file") from None


def read_passphrase(*, confirm: bool = False) -> str:
    """Take the passphrase from AMANA_PASSPHRASE or a prompt, never from an argument."""
    if given := os.environ.get("AMANA_PASSPHRASE"):
        return given
    typed: str = click.prompt("Passphrase", hide_input=True, confirmation_prompt=confirm, err=True)
    return typed
