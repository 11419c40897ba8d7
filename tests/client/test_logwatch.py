"""What a client believes of a directory whose root asks for cosigners, and what no server can make it believe."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import time_machine

from amana.client.directory import LOG_SEEN, fetch_directory, fetch_published
from amana.client.errors import NotVerified, Usage
from amana.client.officer import cosigning_pins, rotate_root, tuf_signer
from amana.protocol.checkpoint import KeyType, NoteKey, cosign, with_signatures
from amana.protocol.logleaf import root_leaf, targets_leaf
from amana.protocol.signing import SigningKey
from amana.protocol.tiles import WIDTH
from tests.support.ceremony import DEPLOYMENT, Ceremony, Mirror
from tests.support.logbook import Logbook
from tests.support.shown import KEYS, Shown


@pytest.fixture
def shown() -> Shown:
    return Shown()


def test_the_newest_leaf_under_a_quorum_is_accepted(shown: Shown, tmp_path: Path) -> None:
    assert shown.fetch() == 1
    assert shown.fetch(tmp_path) == 1
    shown.publish(2)
    assert shown.fetch(tmp_path) == 2


def test_without_cosigners_in_the_root_the_log_is_not_asked(tmp_path: Path) -> None:
    ceremony = Ceremony()
    mirror = Mirror(ceremony)
    mirror.show(ceremony.proposal())
    log = Logbook(f"{DEPLOYMENT}/directory")
    assert fetch_directory(mirror.get, ceremony.root_bytes, tmp_path, log=log.get)
    assert fetch_directory(mirror.get, ceremony.root_bytes, None)
    assert log.asked == []


def test_a_root_that_asks_for_cosigners_is_never_used_without_the_log(shown: Shown) -> None:
    with pytest.raises(NotVerified) as refused:
        fetch_directory(shown.mirror.get, shown.ceremony.root_bytes, None, pauses=())
    assert refused.value.slug == "directory-not-logged"
    # Officers alone may: what they sign is judged again.
    unlogged = fetch_published(shown.mirror.get, shown.ceremony.root_bytes, None, demand_log=False)
    assert unlogged.directory.version == 1


def test_an_older_version_is_refused_by_a_client_that_saw_nothing(shown: Shown) -> None:
    shown.publish(2)
    shown.mirror.point_to(1)
    assert shown.refusal() == "directory-not-logged"


def test_a_version_that_stands_in_no_log_is_refused(shown: Shown) -> None:
    shown.publish(2, logged=False)
    assert shown.refusal() == "directory-not-logged"


def test_another_list_of_the_same_version_is_refused(shown: Shown) -> None:
    shown.mirror.show(shown.ceremony.proposal(1, days=44))
    assert shown.refusal() == "directory-not-logged"


def test_an_empty_log_is_refused(shown: Shown) -> None:
    shown.log.entries.clear()
    shown.cosign()
    assert shown.refusal() == "directory-not-logged"


@pytest.mark.parametrize(
    "names",
    [("one.example/1",), ("one.example/1", "one.example/2")],
    ids=["one of two", "two keys of one operator"],
)
def test_too_few_operators_are_refused(shown: Shown, names: tuple[str, ...]) -> None:
    shown.cosign(*names)
    assert shown.refusal() == "log-quorum"


def test_no_cosigned_checkpoint_is_refused(shown: Shown) -> None:
    shown.log.cosigned = None
    assert shown.refusal() == "log-quorum"


def test_a_retired_cosigner_counts_no_more(shown: Shown) -> None:
    retired = SigningKey.generate()
    note = shown.log.checkpoint()
    now = int(time.time())
    shown.log.cosigned = with_signatures(
        note,
        [
            cosign("one.example/1", KEYS["one.example/1"], note.text, now),
            cosign("two.example/1", retired, note.text, now),
        ],
    )
    assert shown.refusal() == "log-quorum"


@pytest.mark.parametrize("hours", [-73, 25])
def test_old_cosignatures_and_those_of_another_century_are_stale(shown: Shown, hours: int) -> None:
    shown.cosign(at=time.time() + 3600 * hours)
    assert shown.refusal() == "log-stale"


def test_one_fresh_cosignature_does_not_make_up_for_an_old_one(shown: Shown) -> None:
    note = shown.log.checkpoint()
    shown.log.cosigned = with_signatures(
        note,
        [
            cosign(name, KEYS[name], note.text, int(time.time()) - age * 3600)
            for name, age in (("one.example/1", 0), ("two.example/1", 100))
        ],
    )
    assert shown.refusal() == "log-stale"
    # Of two keys of an operator the newer one counts.
    renewed = cosign("two.example/1", KEYS["two.example/1"], note.text, int(time.time()))
    shown.log.cosigned = with_signatures(shown.log.cosigned, [renewed])
    assert shown.fetch() == 1


def test_a_phone_whose_clock_is_behind_is_served(shown: Shown) -> None:
    shown.mirror.show(shown.ceremony.proposal(2, days=40))
    shown.log.add(targets_leaf(2, shown.mirror.files["2.targets.json"], 1))
    shown.cosign()
    with time_machine.travel(datetime.now(UTC) - timedelta(hours=20)):
        assert shown.fetch() == 2


def test_a_checkpoint_of_a_retired_key_is_refused(shown: Shown) -> None:
    retired = SigningKey.generate()
    shown.log.key = retired
    shown.cosign()
    assert shown.refusal() == "log-tampered"


def test_a_checkpoint_of_the_other_log_is_refused(shown: Shown) -> None:
    other = Logbook(f"{DEPLOYMENT}/custody", shown.ceremony.custody_log, shown.log.entries)
    other.cosign({name: KEYS[name] for name in KEYS}, int(time.time()))
    shown.log.cosigned = other.cosigned
    assert shown.refusal() == "log-tampered"


Damage = Callable[[bytes], bytes | None]


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: None,
        lambda content: content[:-1],
        lambda content: content + bytes(32),
        lambda content: bytes([content[0] ^ 1]) + content[1:],
        lambda content: content[:-1] + bytes([content[-1] ^ 1]),
        lambda _: b"",
    ],
)
@pytest.mark.parametrize("part", ["directory/cosigned", "directory/tile/0/"])
def test_damaged_parts_of_the_log_are_refused(shown: Shown, part: str, damage: Damage) -> None:
    def get(path: str, _limit: int) -> bytes | None:
        content = shown.log.get(path)
        return damage(content) if content is not None and path.startswith(part) else content

    with pytest.raises(NotVerified) as refused:
        fetch_directory(shown.mirror.get, shown.ceremony.root_bytes, None, log=get, pauses=())
    assert refused.value.slug in {"log-tampered", "log-quorum"}


def test_a_log_that_forks_for_one_who_saw_it_is_caught_and_kept(
    shown: Shown, tmp_path: Path
) -> None:
    shown.publish(2)
    assert shown.fetch(tmp_path) == 2
    seen = bytes(shown.log.cosigned or b"")
    # All cosigners and the log's key conspire, and still somebody remembers.
    content = shown.mirror.files["2.targets.json"]
    shown.log.entries[1:] = [b"another", targets_leaf(2, content, 1)]
    shown.cosign()
    assert shown.fetch() == 2
    assert shown.refusal(tmp_path) == "log-forked"
    (evidence,) = tmp_path.glob(f"{LOG_SEEN}.fork-*.txt")
    assert evidence.read_bytes() == seen + b"\n" + bytes(shown.log.cosigned or b"")
    # A larger fork too.
    shown.publish(3)
    assert shown.refusal(tmp_path) == "log-forked"


def test_a_shorter_log_is_refused_by_one_who_saw_more(shown: Shown, tmp_path: Path) -> None:
    shown.log.add(shown.log.entries[-1])
    shown.cosign()
    assert shown.fetch(tmp_path) == 1
    shown.log.entries.pop()
    shown.cosign()
    assert shown.fetch() == 1
    assert shown.refusal(tmp_path) == "log-rollback"


def test_a_damaged_memory_is_not_forgotten(shown: Shown, tmp_path: Path) -> None:
    assert shown.fetch(tmp_path) == 1
    (tmp_path / LOG_SEEN).write_bytes(b"damaged")
    with pytest.raises(Usage) as refused:
        shown.fetch(tmp_path)
    assert refused.value.slug == "cache-unusable"


def test_a_withheld_root_shows_in_the_newest_leaf(shown: Shown) -> None:
    # The officers have rotated the root; the server shows this client the directory without it.
    shown.publish(2, root=2)
    assert shown.refusal() == "directory-not-logged"


def test_a_new_root_can_change_the_cosigners(shown: Shown) -> None:
    new = SigningKey.generate()
    vkey = NoteKey("four.example/1", KeyType.COSIGNER, new.public).vkey
    root = rotate_root(
        shown.ceremony.first_root.signed,
        cosigning=cosigning_pins([vkey], 1, 24),
        now=datetime.now(UTC),
    )
    for officer in shown.ceremony.officers[:2]:
        root.sign(tuf_signer(officer.signing), append=True)
    shown.mirror.files["2.root.json"] = root.to_bytes()
    shown.log.add(root_leaf(2, root.to_bytes()))
    shown.publish(2, root=2)
    assert shown.refusal() == "log-quorum"
    shown.log.cosign({"four.example/1": new}, int(time.time()))
    assert shown.fetch() == 2


def test_a_client_waits_a_little_for_what_was_just_published(shown: Shown) -> None:
    before = shown.log.cosigned
    shown.publish(2)
    now, shown.log.cosigned = shown.log.cosigned, before
    asked = []

    def get(path: str, _limit: int) -> bytes | None:
        asked.append(path)
        if asked.count("directory/cosigned") == 3:
            shown.log.cosigned = now
        return shown.log.get(path)

    found = fetch_directory(
        shown.mirror.get, shown.ceremony.root_bytes, None, log=get, pauses=(0, 0, 0)
    )
    assert found.directory.version == 2
    assert asked.count("directory/cosigned") == 3


@pytest.mark.parametrize("size", [2, 255, 256, 257, 512, 700])
def test_logs_of_every_size_cost_little(shown: Shown, tmp_path: Path, size: int) -> None:
    last = shown.log.entries.pop()
    shown.log.add(*(b"%d" % n for n in range(size - len(shown.log.entries) - 1)), last)
    shown.cosign()
    shown.log.given = 0
    assert shown.fetch(tmp_path) == 1
    # A checkpoint, at most a tile of the lowest level and one above it.
    assert shown.log.given < 1500 + 32 * WIDTH + 32 * 2
    shown.publish(2)
    shown.log.given = 0
    assert shown.fetch(tmp_path) == 2
    assert shown.log.given < 20_000
