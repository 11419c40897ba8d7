# SPDX-License-Identifier: AGPL-3.0-or-later
"""Check what someone shows you, offline, from the root file alone; each check has a name and says what it found."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from amana.client.directory import read_root
from amana.client.errors import NotVerified, Usage
from amana.protocol.errors import BadSignature, ProtocolError
from amana.protocol.receipt import LIMIT_BYTES, verify_receipt

ROOT_LIMIT_BYTES: Final = 512 * 1024


@dataclass(frozen=True)
class Check:
    """One thing that was checked."""

    name: str
    ok: bool
    detail: str


def read_limited(path: Path, limit: int) -> bytes:
    """Read a file of at most `limit` bytes."""
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError:
        raise Usage(f"{path} cannot be read.", slug="unreadable-file") from None
    if len(content) > limit:
        raise Usage(f"{path} is larger than {limit} bytes.", slug="file-too-large")
    return content


def check_receipt_file(content: bytes, root: bytes) -> list[Check]:
    """Check a receipt, or the answer of `witness send --json` that holds one; ends with the first fault."""
    try:
        pins = read_root(root)
    except NotVerified as error:
        return [Check("root", False, error.title)]
    checks = [Check("root", True, f"signed by its officers, for {pins.deployment}")]
    try:
        receipt = verify_receipt(_receipt_in(content), pins.custody_log_key)
    except BadSignature as error:
        return [*checks, Check("signature", False, error.title)]
    except ProtocolError as error:
        return [*checks, Check("form", False, error.title)]
    event = receipt.event
    checks += [
        Check("form", True, "a receipt of version 1"),
        Check("signature", True, "by the custody log's key that the root pins"),
        Check(
            "deployment",
            receipt.deployment == pins.deployment,
            f"the receipt is of {receipt.deployment}",
        ),
        Check(
            "event",
            event.get("v") == 1 and event.get("kind") == "testimony-received",
            f"case {receipt.case} was received on {receipt.received_on}",
        ),
    ]
    return checks


def _receipt_in(content: bytes) -> Any:
    try:
        if len(content) > 2 * LIMIT_BYTES:
            raise ValueError
        document = json.loads(content)
    except (ValueError, RecursionError):
        raise ProtocolError("receipt-invalid", "This is not a receipt.") from None
    if isinstance(document, dict) and isinstance(document.get("receipt"), dict):
        return document["receipt"]
    return document
