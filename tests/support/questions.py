"""A reader who asks a witness, speaking HTTP by hand."""

import os
from collections.abc import Sequence
from typing import Any

from amana.protocol.drop import shard_of
from amana.protocol.encoding import b64, sha256_hex
from amana.protocol.reply import SALT_BYTES, commitment, seal_reply
from amana.protocol.sealing import Kind, seal
from tests.support.organisation import Person
from tests.support.testimonies import Made


def slots_for(
    person: Person, made: Made, text: str = "Who else was there?", **changes: Any
) -> list[bytes]:
    """Sign and seal a question to a witness, as a reader's client does."""
    organisation = person.organisation
    fields: dict[str, Any] = {
        "deployment": organisation.directory.deployment,
        "case": made.case,
        "actor": person.keys.id,
        "directory": organisation.directory.version,
        "sent_on": organisation.clock().date().isoformat(),
        "text": text,
        **changes,
    }
    key = fields.pop("key", person.keys.signing)
    return seal_reply(key, fields.pop("to", made.reply.recipient), **fields)


def question(
    person: Person, made: Made, slots: Sequence[bytes] | None = None, **changes: Any
) -> dict[str, Any]:
    """Return what a reader brings beside the action; the first two members are what they sign."""
    slots = slots_for(person, made) if slots is None else slots
    salt, bits = os.urandom(SALT_BYTES), person.organisation.directory.drop_bits
    return {
        "commitment": commitment(salt, map(sha256_hex, slots)),
        "reason": b64(seal(b"because", made.case_key.recipient, Kind.NOTE)),
        "salt": b64(salt),
        "bits": bits,
        "shard": shard_of(made.reply.recipient, bits),
        "slots": [b64(one) for one in slots],
        **changes,
    }


def bring(person: Person, case: str | None, brought: dict[str, Any], **changes: Any) -> Any:
    """Sign the action `ask` over what is to stay, and bring all of it."""
    body = {name: brought[name] for name in ("commitment", "reason") if name in brought}
    now = person.organisation.directory.version
    fields = {"action": "ask", "body": body, "directory": now, **changes}
    return person.post("/v1/drop", {**brought, "action": person.action(case, **fields)})


def ask(person: Person, made: Made, **changes: Any) -> Any:
    """Ask the witness of a case; returns the answer."""
    return bring(person, made.case, question(person, made, **changes))
