"""What is said of a log or a receipt says apart whether cosigners vouch for it, and never more than they do."""

import time
from collections.abc import Callable

import pytest

from amana.client.directory import read_root
from amana.client.errors import NetworkFailed
from amana.client.log import Fetch
from amana.client.verify import Check, check_logs, check_receipt_file, holds
from amana.protocol.checkpoint import Note, NoteKey
from amana.protocol.encoding import canonical
from amana.protocol.merkle import inclusion_proof
from amana.protocol.receipt import leaf, sign_receipt
from amana.protocol.tlogproof import TlogProof
from tests.support.ceremony import DEPLOYMENT
from tests.support.shown import KEYS, Shown

EVENT = {
    "v": 1,
    "kind": "testimony-received",
    "deployment": DEPLOYMENT,
    "case": "a" * 32,
    "received_on": "2026-11-20",
}


@pytest.fixture
def shown() -> Shown:
    shown = Shown()
    shown.custody.entries = [bytes([n]) * 32 for n in range(3)]
    shown.cosign()
    return shown


def checks_of(shown: Shown, fetch: Fetch | None = None) -> dict[str, Check]:
    checks = check_logs(
        fetch or shown.get_log,
        lambda: read_root(shown.ceremony.root_bytes),
        ("custody", "directory"),
        {},
    )
    return {one.name: one for one in checks}


def verified(checks: dict[str, Check]) -> bool:
    return all(map(holds, checks.values()))


def test_a_log_with_its_quorum_is_verified_and_says_how_many_vouch(shown: Shown) -> None:
    shown.custody.add(b"later".ljust(32))
    checks = checks_of(shown)
    assert verified(checks)
    for name, size in (("custody", 3), ("directory", 2)):
        found = checks[f"{name} cosigned"]
        assert found.ok is True
        assert found.detail == f"2 operators vouch for {size} leaves, 2 are asked for"


@pytest.mark.parametrize(
    "change",
    [
        lambda shown: setattr(shown.custody, "cosigned", None),
        lambda shown: shown.cosign("one.example/1", "one.example/2"),
        lambda shown: setattr(shown.custody, "cosigned", shown.custody.fork(1, b"x").checkpoint()),
    ],
    ids=["none", "one operator", "another history"],
)
def test_a_log_without_the_quorum_of_its_root_is_not_verified(
    shown: Shown, change: Callable[[Shown], object]
) -> None:
    change(shown)
    checks = checks_of(shown)
    assert checks["custody cosigned"].ok is False
    assert checks["custody tiles"].ok
    assert not verified(checks)


def test_cosigners_who_saw_another_history_or_more_are_told(shown: Shown) -> None:
    other = shown.custody.fork(2, b"for a victim".ljust(32))
    other.cosign(dict(list(KEYS.items())[:3]), int(time.time()))
    shown.custody.cosigned = other.cosigned
    assert "another history" in checks_of(shown)["custody cosigned"].detail
    shown.cosign()
    shown.custody.entries.pop()
    found = checks_of(shown)["custody cosigned"]
    assert (found.ok, found.detail) == (
        False,
        "cosigners vouch for 3 leaves, now there are 2",
    )


def test_who_vouches_for_an_empty_log_vouches_for_no_leaf(shown: Shown) -> None:
    shown.custody.cosign({name: KEYS[name] for name in ("one.example/1", "two.example/1")}, 1, 0)
    found = checks_of(shown)["custody cosigned"]
    assert found.ok is None
    assert "2 operators vouch for 0 leaves" in found.detail


def test_a_copy_of_the_files_may_bring_cosigners_in_its_checkpoint(shown: Shown) -> None:
    files = {
        f"{log.verifier.name.rpartition('/')[2]}/checkpoint": bytes(log.cosigned or b"")
        for log in (shown.custody, shown.log)
    }

    def copied(path: str, limit: int) -> bytes | None:
        return None if path.endswith("/cosigned") else files.get(path) or shown.get_log(path, limit)

    checks = checks_of(shown, copied)
    assert verified(checks)
    assert checks["custody cosigned"].ok is True


def test_where_the_root_asks_for_nobody_nothing_is_shown() -> None:
    shown = Shown(quorum=0)
    shown.custody.entries = [bytes(32)]
    shown.cosign("one.example/1")
    checks = checks_of(shown)
    assert verified(checks)
    assert checks["custody cosigned"].ok is None
    assert checks["custody cosigned"].detail.startswith("1 operators vouch")


def proof_of(shown: Shown, entry: bytes, note: Note) -> bytes:
    index, size = shown.custody.entries.index(entry), len(shown.custody.entries)
    return bytes(TlogProof(index, tuple(inclusion_proof(shown.custody.read, index, size)), note))


def test_a_receipt_says_apart_what_the_service_the_log_and_cosigners_vouch_for(
    shown: Shown,
) -> None:
    receipt = sign_receipt(shown.ceremony.custody_log, EVENT, bytes(32))
    content, root = canonical(receipt), shown.ceremony.root_bytes

    def checks(proof: bytes | None) -> dict[str, Check]:
        found = {one.name: one for one in check_receipt_file(content, root, proof)}
        assert verified(found)
        assert found["signature"].ok
        return found

    sent = checks(None)
    assert sent["inclusion"].ok is None
    assert sent["inclusion"].detail.startswith("not shown")
    assert "cosigned" not in sent
    entry = leaf(canonical(EVENT), bytes(32))
    shown.custody.add(entry)
    logged = checks(proof_of(shown, entry, shown.custody.checkpoint()))
    assert logged["inclusion"].ok is True
    assert logged["cosigned"].ok is None
    assert logged["cosigned"].detail.startswith("0 operators vouch for 4 leaves, 2 are asked for")
    shown.cosign()
    assert shown.custody.cosigned is not None
    later = checks(proof_of(shown, entry, shown.custody.cosigned))
    assert (later["inclusion"].ok, later["cosigned"].ok) == (True, True)
    assert later["cosigned"].detail == "2 operators vouch for 4 leaves, 2 are asked for"


def test_a_proof_that_cannot_be_fetched_is_no_fault_of_the_receipt(shown: Shown) -> None:
    content = canonical(sign_receipt(shown.ceremony.custody_log, EVENT, bytes(32)))

    def unreachable(_key: NoteKey, _leaf: bytes) -> bytes:
        raise NetworkFailed("The server cannot be reached.")

    with pytest.raises(NetworkFailed):
        check_receipt_file(content, shown.ceremony.root_bytes, None, unreachable)
    # What is no receipt is told without asking anybody.
    [*_, last] = check_receipt_file(b"{}", shown.ceremony.root_bytes, None, unreachable)
    assert (last.name, last.ok) == ("form", False)
