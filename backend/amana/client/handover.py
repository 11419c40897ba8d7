# SPDX-License-Identifier: AGPL-3.0-or-later
"""The partner's end: open a sealed bundle, check all of it, keep it in a folder, and sign for it. Without a network."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final

from cryptography.x509 import Certificate

from amana.client.bundle import opened_bundle, size_of, unpack
from amana.client.bundlecheck import check_bundle, read_contents
from amana.client.errors import NotVerified, Usage
from amana.client.keyfile import PersonKeys
from amana.client.progress import Progress
from amana.client.verify import Check, holds
from amana.protocol.bundle import INDEX, TOP, parse_index
from amana.protocol.handover import sign_handover
from amana.protocol.sealing import Digests

UNFINISHED: Final = ".receiving"


@dataclass(frozen=True)
class Received:
    """What became of a bundle: the checks, and the partner's receipt when all of them held."""

    checks: list[Check]
    receipt: dict[str, Any] | None


def receive(
    file: Path,
    keys: PersonKeys,
    root: bytes,
    out: Path,
    today: date,
    progress: Progress,
    authorities: Sequence[Certificate] = (),
    keep: Callable[[dict[str, Any]], object] = lambda _receipt: None,
) -> Received:
    """Open a sealed bundle into the folder `out`; what does not verify leaves nothing there and no receipt.

    `authorities` are those whose time stamps count; `keep` is given the receipt before the folder is there, so that
    nobody holds what they cannot sign for.
    Raises NotVerified when it is not sealed to this partner, and Usage.
    """
    keys.intake_recipient  # noqa: B018  Refuses a role that opens nothing.
    if out.exists():
        raise Usage("There is a folder of this name already.", slug="folder-taken")
    place = out.with_name(f"{out.name}{UNFINISHED}")
    try:
        place.mkdir(mode=0o700, parents=True)
    except OSError:
        raise Usage("The folder cannot be written.", slug="folder-unusable") from None
    try:
        sealed: dict[str, Digests] = {}
        with (
            opened_bundle(file, keys.intake, sealed) as entries,
            progress.step("Opening and checking", size_of(file)) as advance,
        ):
            contents = read_contents(unpack(entries, place / TOP), advance)
        checks = check_bundle(contents, root, authorities)
        if "sealed" not in sealed or not all(map(holds, checks)):
            return Received(checks, None)
        index = parse_index(contents.small[INDEX])
        if index.to != keys.id:
            raise NotVerified("The bundle is for another partner.", slug="bundle-recipient")
        receipt = sign_handover(
            keys.signing,
            deployment=index.deployment,
            case=index.case,
            export=index.export,
            partner=keys.id,
            sealed_sha256=sealed["sealed"].sealed_sha256,
            bag_sha256=contents.bag_sha256,
            received_on=today,
        )
        keep(receipt)
        (place / TOP).rename(out)
        return Received(checks, receipt)
    except OSError:
        raise Usage("The folder cannot be written, or is full.", slug="folder-unusable") from None
    finally:
        shutil.rmtree(place, ignore_errors=True)
