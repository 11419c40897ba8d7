# SPDX-License-Identifier: AGPL-3.0-or-later
"""Check what someone shows you, offline, from the root file alone; each check has a name and says what it found."""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from amana.client.directory import read_root
from amana.client.errors import ClientError, NotChecked, NotVerified, Usage
from amana.client.log import Fetch, LogIncomplete, fetch_checkpoint, walk
from amana.protocol.checkpoint import Checkpoint, NoteKey, SignedCheckpoint
from amana.protocol.directory import RootPins
from amana.protocol.encoding import b64, unb64
from amana.protocol.errors import BadSignature, ProtocolError
from amana.protocol.logleaf import parse_directory_leaf
from amana.protocol.merkle import MAX_SIZE
from amana.protocol.receipt import LIMIT_BYTES, Receipt, verify_receipt
from amana.protocol.tlogproof import LIMIT_BYTES as PROOF_LIMIT_BYTES
from amana.protocol.tlogproof import TlogProof

ROOT_LIMIT_BYTES: Final = 512 * 1024
STATE_LIMIT_BYTES: Final = 64 * 1024
INCLUSION: Final = "inclusion"
COSIGNED: Final = "cosigned"
STAMPS: Final = "stamps"
MAY_BE_MISSING: Final = frozenset(
    {INCLUSION, COSIGNED, *(f"{log} {COSIGNED}" for log in ("custody", "directory")), STAMPS}
)
"""Checks of what need not be there; everything else has to hold."""


@dataclass(frozen=True)
class Check:
    """One thing that was checked; `ok` is None where it was not, and nothing is said against it."""

    name: str
    ok: bool | None
    detail: str


def holds(check: Check) -> bool:
    """Tell whether nothing is wrong about a check: it was proven, or it was not made and need not be."""
    return check.ok or (check.ok is None and check.name in MAY_BE_MISSING)


def answer(checks: Sequence[Check]) -> dict[str, Any]:
    """Return what `--json` prints: whether all holds that must, what was checked, and what was not and why."""
    return {
        "verified": all(map(holds, checks)),
        "checks": [asdict(one) for one in checks if one.ok is not None],
        "not_checked": [
            {"name": one.name, "detail": one.detail} for one in checks if one.ok is None
        ],
    }


def unchecked(because: str) -> NotChecked:
    """Return what ends a check that cannot be made."""
    return NotChecked(f"Not checked, because {because}.")


def checked(steps: Iterable[tuple[str, Callable[[], str]]]) -> Iterator[Check]:
    """Check one thing after the other; what fails is told by its title, and keeps none that follows."""
    for name, step in steps:
        try:
            yield Check(name, True, step())
        except NotChecked as error:
            yield Check(name, None, error.title)
        except (ProtocolError, ClientError) as error:
            yield Check(name, False, error.title)
        except (KeyError, TypeError, AttributeError, ValueError):
            yield Check(name, False, "It is not in its form.")


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


def check_receipt_file(
    content: bytes,
    root: bytes,
    proof: bytes | None = None,
    fetch: Callable[[NoteKey, bytes], bytes] | None = None,
) -> list[Check]:
    """Check a receipt, or the answer of `witness send --json` that holds one; ends with the first fault.

    With a proof, also that the custody log holds what it is about, and how many cosigners saw that: the one given, else
    the one that `fetch` gives for a log and a leaf, else the one in that answer. The service's signature holds without
    either, which come later: not shown is no fault.

    Raises NetworkFailed.
    """
    try:
        pins = read_root(root)
    except NotVerified as error:
        return [Check("root", False, error.title)]
    checks = [Check("root", True, f"signed by its officers, for {pins.deployment}")]
    try:
        document = _document(content)
        receipt = verify_receipt(document.get("receipt", document), pins.custody_log_key)
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
    if fetch is not None:
        try:
            proof = fetch(pins.custody_log, receipt.leaf)
        except NotVerified as error:
            return [*checks, Check(INCLUSION, False, error.title)]
    if proof is None and isinstance(document.get("proof"), str):
        proof = document["proof"].encode("utf-8", "replace")
    if proof is None:
        detail = (
            "not shown: no proof was given, and --server fetches one a moment after the receipt"
        )
        return [*checks, Check(INCLUSION, None, detail)]
    return [*checks, *_check_proof(proof, receipt, pins)]


def _check_proof(proof: bytes, receipt: Receipt, pins: RootPins) -> list[Check]:
    try:
        parsed = TlogProof.parse(proof)
        signed = parsed.verify(receipt.leaf, pins.custody_log, pins.cosigners)
    except ProtocolError as error:
        return [Check(INCLUSION, False, error.title)]
    place = f"number {parsed.index} of {signed.checkpoint.size} leaves of {pins.custody_log.name}"
    # A proof is given at once, and one that cosigners vouch for some minutes later.
    enough = 0 < pins.quorum <= len(signed.cosigned)
    detail = _vouch(signed, pins) + ("" if enough or not pins.quorum else f"; {_LATER}")
    return [Check(INCLUSION, True, place), Check(COSIGNED, enough or None, detail)]


def _vouch(signed: SignedCheckpoint, pins: RootPins) -> str:
    if not pins.cosigners:
        return "the root names no cosigners"
    size = signed.checkpoint.size
    return f"{len(signed.cosigned)} operators vouch for {size} leaves, {pins.quorum} are asked for"


_LATER: Final = "not shown yet, --server fetches a newer proof"


def _document(content: bytes) -> dict[str, Any]:
    try:
        if len(content) > 2 * LIMIT_BYTES + PROOF_LIMIT_BYTES:
            raise ValueError
        document = json.loads(content)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise ProtocolError("receipt-invalid", "This is not a receipt.")
    return document


def check_logs(
    fetch: Fetch, find_pins: Callable[[], RootPins], names: Sequence[str], state: dict[str, Any]
) -> list[Check]:
    """Read logs whole and check them against what the root pins, and `state` says was seen before; updates that.

    `names` are of "custody" and "directory". What does not verify leaves the state as it was. Raises
    NetworkFailed.
    """
    try:
        pins = find_pins()
    except NotVerified as error:
        return [Check("root", False, error.title)]
    checks = [Check("root", True, f"signed by its officers, for {pins.deployment}")]
    keys = {"custody": pins.custody_log, "directory": pins.directory_log}
    for name in names:
        checks += _check_log(fetch, name, keys[name], pins, state)
    return checks


def _check_log(
    fetch: Fetch, name: str, key: NoteKey, pins: RootPins, state: dict[str, Any]
) -> list[Check]:
    try:
        # First what cosigners saw: the newest checkpoint cannot be older than that.
        vouched = _cosigned(fetch, key, pins)
        newest = fetch_checkpoint(fetch, key, pins.cosigners)
    except NotVerified as error:
        return [Check(f"{name} checkpoint", False, error.title)]
    checkpoint = newest.checkpoint
    # A copy of the files may lack what is served under that name.
    vouched = vouched or newest
    checks = [Check(f"{name} checkpoint", True, f"{checkpoint.size} leaves, signed by {key.name}")]
    seen = _seen(state, key)
    if seen is not None and seen.size > checkpoint.size:
        detail = f"{seen.size} leaves were seen before, now there are {checkpoint.size}"
        return [*checks, Check(f"{name} consistency", False, detail)]
    entries = _Entries(name)
    sizes = {vouched.checkpoint.size, *([seen.size] if seen else [])}
    try:
        walked = walk(fetch, key, checkpoint, entries.see, sizes)
    except (NotVerified, ProtocolError) as error:
        return [*checks, Check(f"{name} tiles", False, error.title)]
    checks.append(
        Check(f"{name} tiles", True, f"{walked.tiles} tiles and all entries make the signed tree")
    )
    if seen is not None:
        continues = walked.roots.get(seen.size) == seen.root
        detail = f"continues the {seen.size} leaves seen before" if continues else "another history"
        checks.append(Check(f"{name} consistency", continues, detail))
        if not continues:
            return checks
    cosigned = _check_cosigned(vouched, checkpoint.size, walked.roots, pins)
    checks.append(Check(f"{name} {COSIGNED}", *cosigned))
    if cosigned[0] is False:
        return checks
    state[key.name] = {"size": checkpoint.size, "root": b64(checkpoint.root)}
    return [*checks, Check(f"{name} entries", True, entries.summary())]


def _cosigned(fetch: Fetch, key: NoteKey, pins: RootPins) -> SignedCheckpoint | None:
    if not pins.cosigners:
        return None
    try:
        return fetch_checkpoint(fetch, key, pins.cosigners, "cosigned")
    except LogIncomplete:
        return None


def _check_cosigned(
    vouched: SignedCheckpoint, size: int, roots: Mapping[int, bytes], pins: RootPins
) -> tuple[bool | None, str]:
    """Tell whether cosigners vouch for the tree of `size` leaves that was read, or its beginning, and whether enough do."""
    before = vouched.checkpoint.size
    if before > size:
        return False, f"cosigners vouch for {before} leaves, now there are {size}"
    if roots[before] != vouched.checkpoint.root:
        return False, "cosigners vouch for another history"
    ok = len(vouched.cosigned) >= pins.quorum if pins.quorum else None
    if ok and before == 0 < size:
        return None, f"{_vouch(vouched, pins)}; not shown of any leaf yet"
    return ok, _vouch(vouched, pins)


def _seen(state: dict[str, Any], key: NoteKey) -> Checkpoint | None:
    """Return the tree of this log that was seen last."""
    if key.name not in state:
        return None
    noted = state[key.name]
    try:
        size = noted["size"]
        if type(size) is not int or not 0 <= size <= MAX_SIZE:
            raise ValueError
        return Checkpoint(key.name, size, unb64(noted["root"], 32))
    except (KeyError, TypeError, ValueError):
        raise Usage("The state file is damaged.", slug="bad-state") from None


class _Entries:
    """What the entries of a log say: 32 bytes each in the custody log, versions that count on in the directory log."""

    def __init__(self, name: str) -> None:
        self._is_clear = name == "directory"
        self._newest: dict[str, int] = {}
        self._count = 0

    def see(self, _place: int, entry: bytes) -> None:
        self._count += 1
        if not self._is_clear:
            if len(entry) != 32:
                raise ProtocolError("leaf-invalid", "An entry of the custody log is no commitment.")
            return
        leaf = parse_directory_leaf(entry)
        before = self._newest.get(leaf.kind)
        if before is not None and leaf.version != before + 1:
            raise ProtocolError("leaf-invalid", "Versions in the directory log do not count on.")
        self._newest[leaf.kind] = leaf.version

    def summary(self) -> str:
        if not self._is_clear:
            return f"{self._count} commitments"
        newest = ", ".join(f"{kind} {version}" for kind, version in sorted(self._newest.items()))
        return f"newest: {newest or 'none'}"


def read_state(path: Path) -> dict[str, Any]:
    """Read what was seen of logs before; nothing where there is no file yet."""
    if not path.exists():
        return {}
    try:
        document = json.loads(read_limited(path, STATE_LIMIT_BYTES))
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise Usage("The state file is damaged.", slug="bad-state")
    return document


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Write what was seen, whole or not at all."""
    new = path.with_name(f"{path.name}.new")
    try:
        with new.open("w", encoding="utf-8") as file:
            file.write(json.dumps(state, indent=1, sort_keys=True) + "\n")
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError:
        raise Usage("The state file cannot be written.", slug="state-file") from None
