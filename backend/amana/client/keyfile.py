# SPDX-License-Identifier: AGPL-3.0-or-later
"""The keys of one person of staff: one file sealed with a passphrase, on their own device, never overwritten."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import click

from amana.client.errors import NotVerified, Usage
from amana.protocol.encoding import b64, canonical, check_id, random_id, unb64
from amana.protocol.errors import CannotOpen, ProtocolError
from amana.protocol.sealing import Identity, Recipient, open_with_passphrase, seal_with_passphrase
from amana.protocol.signing import SigningKey

ROLES = ("officer", "reviewer", "custodian", "administrator", "auditor")
WITH_INTAKE_KEY = frozenset({"reviewer", "custodian"})
LIMIT_BYTES = 64 * 1024


@dataclass(frozen=True, repr=False)
class PersonKeys:
    """What a key file holds."""

    id: str
    role: str
    signing: SigningKey
    intake: Identity | None

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


def write_key(keys: PersonKeys, folder: Path, passphrase: str, *, work_factor: int = 18) -> Path:
    """Write `<id>.key` into `folder`, mode 0600, whole or not at all; returns its path."""
    content = canonical(
        {
            "v": 1,
            "role": keys.role,
            "id": keys.id,
            "signing_seed": b64(keys.signing.seed),
            "intake_identity": str(keys.intake) if keys.intake else None,
        }
    )
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{keys.id}.key"
    sealed = seal_with_passphrase(content, passphrase, work_factor=work_factor)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(sealed)
        file.flush()
        os.fsync(descriptor)
    return path


def read_key(path: Path, passphrase: str) -> PersonKeys:
    """Open a key file."""
    try:
        if path.stat().st_size > LIMIT_BYTES:
            raise Usage("This is not a key file.", slug="bad-key-file")
        sealed = path.read_bytes()
    except OSError:
        raise Usage("The key file cannot be read.", slug="bad-key-file") from None
    try:
        fields = json.loads(open_with_passphrase(sealed, passphrase))
        identity = fields["intake_identity"]
        return PersonKeys(
            id=check_id(fields["id"]),
            role=str(fields["role"]),
            signing=SigningKey(unb64(fields["signing_seed"], 32)),
            intake=Identity.parse(identity) if identity else None,
        )
    except CannotOpen:
        raise NotVerified(
            "The passphrase does not open the key file.", slug="wrong-passphrase"
        ) from None
    except (ProtocolError, ValueError, KeyError, TypeError):
        raise Usage("This is not a key file.", slug="bad-key-file") from None


def read_passphrase(*, confirm: bool = False) -> str:
    """Take the passphrase from AMANA_PASSPHRASE or a prompt, never from an argument."""
    if given := os.environ.get("AMANA_PASSPHRASE"):
        return given
    typed: str = click.prompt("Passphrase", hide_input=True, confirmation_prompt=confirm, err=True)
    return typed
