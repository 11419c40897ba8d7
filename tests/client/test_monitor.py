"""What a monitor tells of a service: nothing is taken back, and nothing that officers did not announce goes unsaid."""

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from amana.client.errors import NetworkFailed, NotVerified, Usage
from amana.client.expectations import Expectations
from amana.client.keyfile import PersonKeys
from amana.client.monitor import Monitor, Report, locked
from amana.client.officer import rotate_root, tuf_signer
from amana.protocol.case import intake_key_id
from amana.protocol.encoding import b64
from amana.protocol.logleaf import root_leaf, targets_leaf
from amana.protocol.signing import SigningKey
from tests.support.ceremony import DEPLOYMENT, desk, reader
from tests.support.shown import KEYS, Shown


class Watcher:
    """A monitor with its state in a folder, and the officers' announcements."""

    def __init__(self, shown: Shown, folder: Path) -> None:
        self.shown = shown
        self.state = folder / "state.json"
        self.expected = Expectations(DEPLOYMENT)

    def announce(self, version: int) -> None:
        self.expected = self.expected.announcing([self.shown.ceremony.proposal(version)])

    def look(self, *accept: int, now: datetime | None = None) -> Report:
        return Monitor(
            self.shown.mirror.get,
            self.shown.get_log,
            self.shown.ceremony.root_bytes,
            self.state,
            expected=self.expected,
            accept=frozenset(accept),
            now=now or datetime.now(UTC),
            pauses=(),
        ).look()

    def slugs(self) -> list[str]:
        report = self.look()
        assert report.exit_status == (3 if report.problems else 1 if report.unexpected else 0)
        return [one.slug for one in report.problems]


@pytest.fixture
def shown() -> Shown:
    return Shown()


@pytest.fixture
def watcher(shown: Shown, tmp_path: Path) -> Watcher:
    watcher = Watcher(shown, tmp_path)
    assert watcher.look(1).exit_status == 0
    return watcher


def whats(report: Report) -> list[tuple[str, int]]:
    return [(one.what, one.version) for one in report.unexpected]


def test_what_nobody_announced_is_told_until_it_is_accepted(shown: Shown, tmp_path: Path) -> None:
    watcher = Watcher(shown, tmp_path)
    first = watcher.look()
    assert first.exit_status == 1
    assert first.directory == 1
    assert whats(first)[0] == ("directory", 1)
    told = {(one.what, one.person, one.place) for one in first.unexpected[1:]}
    lead, other, custodian = (
        shown.ceremony.lead.id,
        shown.ceremony.reviewer.id,
        shown.ceremony.custodian.id,
    )
    assert told == {
        *((use, lead, "chemical") for use in ("signing-key", "intake-key")),
        *(
            (use, other, place)
            for use in ("signing-key", "intake-key")
            for place in ("chemical", "general")
        ),
        ("intake-key", custodian, "custodians"),
    }
    assert whats(watcher.look()) == whats(first)
    assert watcher.look(1).exit_status == 0
    assert watcher.look().exit_status == 0


def test_an_announced_version_is_no_news(watcher: Watcher, shown: Shown) -> None:
    proposal = shown.ceremony.proposal(2)
    # Announced before all officers have signed.
    proposal.targets.signatures.clear()
    watcher.expected = watcher.expected.announcing([proposal])
    for officer in shown.ceremony.officers[1:]:
        proposal.targets.sign(tuf_signer(officer.signing), append=True)
    shown.mirror.show(proposal)
    shown.log.add(targets_leaf(2, shown.mirror.files["2.targets.json"], 1))
    shown.cosign()
    report = watcher.look()
    assert (report.exit_status, report.directory) == (0, 2)


def test_another_list_than_the_announced_is_told_with_the_new_keys_only(
    watcher: Watcher, shown: Shown
) -> None:
    watcher.announce(2)
    intruder = PersonKeys.generate("reviewer")
    listed = [reader(shown.ceremony.lead, lead=True), reader(intruder)]
    shown.mirror.show(shown.ceremony.proposal(2, desks=[desk("chemical", listed)]))
    shown.log.add(targets_leaf(2, shown.mirror.files["2.targets.json"], 1))
    shown.cosign()
    report = watcher.look()
    assert report.exit_status == 1
    assert whats(report) == [("directory", 2), ("intake-key", 2), ("signing-key", 2)]
    assert report.unexpected[1].person == intruder.id
    assert report.unexpected[1].key == intake_key_id(intruder.intake_recipient)
    assert report.unexpected[2].key == intruder.signing.public


def test_a_root_that_nobody_announced_is_told(watcher: Watcher, shown: Shown) -> None:
    root = rotate_root(shown.ceremony.first_root.signed, now=datetime.now(UTC))
    for officer in shown.ceremony.officers[:2]:
        root.sign(tuf_signer(officer.signing), append=True)
    shown.mirror.files["2.root.json"] = root.to_bytes()
    shown.log.add(root_leaf(2, root.to_bytes()))
    proposal = shown.ceremony.proposal(2)
    watcher.expected = watcher.expected.announcing([proposal])
    shown.mirror.show(proposal)
    shown.log.add(targets_leaf(2, shown.mirror.files["2.targets.json"], 2))
    shown.cosign()
    assert whats(watcher.look()) == [("root", 2)]
    assert watcher.look(2).exit_status == 0


def test_a_fork_is_caught_kept_and_never_followed(
    watcher: Watcher, shown: Shown, tmp_path: Path
) -> None:
    genuine = list(shown.log.entries)
    seen = str(shown.log.checkpoint())
    shown.log.entries[-1] = b"another"
    shown.publish(2)
    assert "log-forked" in watcher.slugs()
    (evidence,) = tmp_path.glob("state.json.fork-*.txt")
    assert evidence.read_text("utf-8") == f"{seen}\n{shown.log.checkpoint()}"
    # It holds to what it saw: the true history goes on from there.
    shown.log.entries = genuine
    content = shown.mirror.files["2.targets.json"]
    shown.log.add(targets_leaf(2, content, 1))
    shown.cosign()
    assert watcher.slugs() == []


def test_a_fork_of_the_custody_log_is_caught(watcher: Watcher, shown: Shown) -> None:
    shown.custody.entries[0] = b"altered"
    shown.cosign()
    report = watcher.look()
    assert [(one.slug, one.log) for one in report.problems] == [("log-forked", "custody")]
    assert report.problems[0].evidence is not None
    shown.custody.add(*(b"%d" % n for n in range(300)))
    shown.cosign()
    assert watcher.slugs() == ["log-forked"]


def test_a_custody_log_that_grows_is_followed(watcher: Watcher, shown: Shown) -> None:
    for count in (1, 255, 300):
        shown.custody.add(*(b"%d" % n for n in range(count)))
        shown.cosign()
        report = watcher.look()
        assert report.exit_status == 0
        assert report.logs["custody"]["size"] == len(shown.custody.entries)


def test_a_shorter_log_is_caught(watcher: Watcher, shown: Shown) -> None:
    shown.custody.entries.pop()
    shown.cosign()
    assert watcher.slugs() == ["log-rollback"]


def test_cosigners_who_saw_another_history_are_evidence(watcher: Watcher, shown: Shown) -> None:
    other = shown.custody.fork(1, b"for a victim")
    shown.cosign()
    other.cosign(KEYS, int(time.time()))
    shown.custody.cosigned = other.cosigned
    assert watcher.slugs() == ["log-forked"]


@pytest.mark.parametrize(
    ("change", "slug"),
    [
        (lambda shown: shown.cosign("one.example/1"), "log-quorum"),
        (lambda shown: shown.cosign(at=time.time() - 73 * 3600), "log-stale"),
        (lambda shown: setattr(shown.custody, "cosigned", None), "log-quorum"),
        (lambda shown: setattr(shown.custody, "key", SigningKey.generate()), "log-tampered"),
        (lambda shown: setattr(shown.log, "entries", shown.log.entries[:1]), "log-rollback"),
    ],
)
def test_what_does_not_verify_is_told(
    watcher: Watcher, shown: Shown, change: Callable[[Shown], object], slug: str
) -> None:
    change(shown)
    assert slug in watcher.slugs()


def test_what_is_given_out_must_be_the_last_leaf(watcher: Watcher, shown: Shown) -> None:
    shown.publish(2, logged=False)
    assert watcher.slugs() == ["directory-not-logged"]
    shown.mirror.point_to(1)
    shown.publish(2)
    shown.mirror.point_to(1)
    assert watcher.slugs() == ["directory-not-logged"]


def test_without_cosigners_the_logs_are_followed_too(tmp_path: Path) -> None:
    shown = Shown(quorum=0)
    watcher = Watcher(shown, tmp_path)
    shown.log.cosigned = shown.custody.cosigned = None
    assert watcher.look(1).exit_status == 0
    shown.mirror.show(shown.ceremony.proposal(2))
    assert watcher.slugs() == ["directory-not-logged"]
    shown.custody.entries[0] = b"altered"
    assert "log-forked" in watcher.slugs()


def test_a_file_that_is_not_what_was_logged_is_told_every_time(
    watcher: Watcher, shown: Shown
) -> None:
    shown.publish(2)
    shown.publish(3)
    genuine = shown.mirror.files.pop("2.targets.json")
    assert watcher.slugs() == ["directory-withheld"]
    shown.mirror.files["2.targets.json"] = genuine.replace(b"a", b"b", 1)
    assert watcher.slugs() == ["directory-withheld"]
    shown.mirror.files["2.targets.json"] = genuine
    assert watcher.look(2, 3).exit_status == 0


def test_a_logged_version_that_too_few_officers_signed_is_told(
    watcher: Watcher, shown: Shown
) -> None:
    shown.mirror.show(shown.ceremony.proposal(2, signers=shown.ceremony.officers[:1]))
    shown.log.add(targets_leaf(2, shown.mirror.files["2.targets.json"], 1))
    shown.cosign()
    assert "directory-threshold" in watcher.slugs()


@pytest.mark.parametrize(
    "entries",
    [
        lambda files: [targets_leaf(1, files["1.targets.json"], 1)],
        lambda files: [targets_leaf(3, files["1.targets.json"], 1)],
        lambda files: [targets_leaf(2, files["1.targets.json"], 2)],
        lambda files: [root_leaf(1, files["1.root.json"])],
    ],
    ids=["twice", "with a gap", "under another root", "an older root"],
)
def test_leaves_out_of_their_order_are_told(
    watcher: Watcher, shown: Shown, entries: Callable[[dict[str, bytes]], list[bytes]]
) -> None:
    shown.log.add(*entries(shown.mirror.files))
    shown.cosign()
    assert "leaf-order" in watcher.slugs()


def test_an_entry_that_nobody_understands_is_told(watcher: Watcher, shown: Shown) -> None:
    shown.log.add(b"secret message")
    shown.publish(2)
    watcher.announce(2)
    report = watcher.look(2)
    assert whats(report) == [("entry", 2)]
    assert whats(watcher.look()) == [("entry", 2)]


def test_a_directory_log_of_any_size_is_read_whole_each_time_from_where_it_ended(
    watcher: Watcher, shown: Shown
) -> None:
    there = len(shown.log.entries)
    for count in (1, 252, 300, 2):
        shown.log.add(*(b"%d of %d" % (n, count) for n in range(count)))
        shown.cosign()
        report = watcher.look()
        found = [one.version for one in report.unexpected if one.what == "entry"]
        assert found == list(range(there, len(shown.log.entries)))
        assert "log-tampered" not in {one.slug for one in report.problems}
    # Whoever begins today reads all of it too.
    watcher.state.unlink()
    found = [one.version for one in watcher.look(1).unexpected if one.what == "entry"]
    assert found == list(range(there, len(shown.log.entries)))


def test_entries_that_do_not_make_up_the_tree_are_told(watcher: Watcher, shown: Shown) -> None:
    shown.publish(2)
    genuine = shown.log.get

    def lying(path: str, _limit: int = 0) -> bytes | None:
        content = genuine(path)
        return content.replace(b"2", b"3") if content and "entries" in path else content

    shown.log.get = lying  # type: ignore[method-assign]
    assert "log-tampered" in watcher.slugs()
    shown.log.get = genuine  # type: ignore[method-assign]
    assert watcher.look(2).exit_status == 0


def test_an_expired_directory_is_told(watcher: Watcher, shown: Shown) -> None:
    shown.mirror.point_to(1, now=datetime.now(UTC) - timedelta(days=3))
    assert watcher.slugs() == ["directory-expired"]


def test_a_network_that_fails_is_no_finding(watcher: Watcher, shown: Shown) -> None:
    before = watcher.state.read_bytes()

    def failing(_path: str, _limit: int = 0) -> bytes | None:
        raise NetworkFailed("The server cannot be reached.")

    shown.custody.get = failing  # type: ignore[method-assign]
    with pytest.raises(NetworkFailed):
        watcher.look()
    assert watcher.state.read_bytes() == before


def test_a_state_is_never_forgotten_by_accident(watcher: Watcher) -> None:
    whole = watcher.state.read_text()
    for damaged in (
        "",
        whole[:-1],
        "[]",
        "{}",
        whole.replace('"v": 1', '"v": 2'),
        json.dumps({**json.loads(whole), "more": 1}),
    ):
        watcher.state.write_text(damaged)
        with pytest.raises(Usage) as refused:
            watcher.look()
        assert refused.value.slug == "bad-state"
    watcher.state.write_text(whole.replace(DEPLOYMENT, "another"))
    with pytest.raises(Usage):
        watcher.look()


def outcome(watcher: Watcher, document: object) -> str:
    """Look with a state: "taken", or the slug by which it is refused and kept as it is."""
    written = json.dumps(document)
    watcher.state.write_text(written)
    try:
        watcher.look()
    except Usage as refused:
        return refused.slug if watcher.state.read_text() == written else "changed"
    return "taken"


@pytest.mark.parametrize(
    "change",
    [
        {"deployment": 1},
        {"checkpoints": [1]},
        {"checkpoints": {"synthetic/custody": 1}},
        {"checkpoints": {"synthetic/custody": "no note"}},
        {"checkpoints": {"synthetic/custody": "\ud800"}},
        {"checkpoints": {}},
        {"frontiers": {"synthetic/directory": ["no hash"]}},
        {"frontiers": {"synthetic/directory": []}},
        {"frontiers": {}},
        {"leaves": 1},
        {"leaves": []},
        {"leaves": [["targets", "1", "a" * 64, 1]] * 2},
        {"leaves": [["targets", True, "a" * 64, 1]] * 2},
        {"unknown": [0]},
        {"unknown": {}},
        {"seen": {"root-1": {}}},
        {"seen": {"root-1": {"sha256": "a" * 64, "signed": "a" * 64, "keys": [1]}}},
        {"seen": {"root-1": {"sha256": "a" * 64, "signed": "a" * 64, "keys": [[1] * 4]}}},
        {"accepted": 1},
        {"accepted": [1]},
        {"v": True},
    ],
    ids=str,
)
def test_a_field_that_is_not_in_its_form_is_a_damaged_state(
    watcher: Watcher, change: dict[str, Any]
) -> None:
    whole = json.loads(watcher.state.read_text().replace(DEPLOYMENT, "synthetic"))
    assert set(whole["checkpoints"]) == {"synthetic/custody", "synthetic/directory"}
    changed = {**whole, **change}
    text = json.dumps(changed).replace("synthetic", DEPLOYMENT)
    assert outcome(watcher, json.loads(text)) == "bad-state"


def test_a_remembered_tree_that_was_damaged_is_no_fork(watcher: Watcher) -> None:
    whole = json.loads(watcher.state.read_text())
    for log in ("custody", "directory"):
        note = whole["checkpoints"][f"{DEPLOYMENT}/{log}"]
        root = note.split("\n")[2]
        other = note.replace(root, f"{'B' if root[0] == 'A' else 'A'}{root[1:]}")
        changed = {**whole["checkpoints"], f"{DEPLOYMENT}/{log}": other}
        assert outcome(watcher, {**whole, "checkpoints": changed}) == "bad-state"
    hashes = {f"{DEPLOYMENT}/directory": [b64(bytes(32))]}
    assert outcome(watcher, {**whole, "frontiers": hashes}) == "bad-state"


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Give the way to everything that stands in a document."""
    yield path
    if isinstance(value, dict | list):
        for key, below in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(below, (*path, key))


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda below: st.lists(below, max_size=4) | st.dictionaries(st.text(max_size=8), below, max_size=3),
    max_leaves=6,
)  # fmt: skip


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_becomes_of_a_state_it_is_taken_or_refused(
    watcher: Watcher, data: st.DataObject
) -> None:
    genuine = watcher.state.read_text()
    document = json.loads(genuine)
    *way, last = data.draw(st.sampled_from([one for one in places(document) if one]))
    holder = document
    for one in way:
        holder = holder[one]
    match data.draw(st.sampled_from(["another", "gone", "deeper", "twice"])):
        case "another":
            holder[last] = data.draw(ANYTHING)
        case "gone":
            del holder[last]
        case "deeper":
            holder[last] = data.draw(st.sampled_from([[holder[last]], {"more": holder[last]}]))
        case "twice":
            holder[last] = [holder[last], holder[last]]
    try:
        assert outcome(watcher, document) in {"taken", "bad-state"}
    finally:
        watcher.state.write_text(genuine)


def test_a_version_that_nobody_logged_cannot_be_accepted(watcher: Watcher, shown: Shown) -> None:
    shown.publish(2)
    before = watcher.state.read_bytes()
    with pytest.raises(Usage) as refused:
        watcher.look(2, 77)
    assert (refused.value.slug, refused.value.exit_status) == ("version-unknown", 2)
    assert watcher.state.read_bytes() == before
    assert watcher.look().exit_status == 1
    assert watcher.look(2).exit_status == 0


def test_what_does_not_verify_is_told_though_an_unknown_version_was_to_be_accepted(
    watcher: Watcher, shown: Shown
) -> None:
    shown.custody.entries[0] = b"altered"
    shown.cosign()
    report = watcher.look(77)
    assert [one.slug for one in report.problems] == ["log-forked"]
    assert report.exit_status == 3


def test_one_monitor_at_a_time_uses_a_state(tmp_path: Path) -> None:
    with locked(tmp_path / "state"), pytest.raises(Usage) as refused, locked(tmp_path / "state"):
        pass
    assert refused.value.slug == "state-locked"


def test_expectations_are_read_again(shown: Shown, tmp_path: Path) -> None:
    made = Expectations(DEPLOYMENT).announcing([shown.ceremony.proposal(2)])
    made.write(tmp_path / "expect.json")
    assert Expectations.read(tmp_path / "expect.json") == made
    for bad in ("[]", "{}", '{"v":1}', "nonsense"):
        (tmp_path / "bad").write_text(bad)
        with pytest.raises(Usage):
            Expectations.read(tmp_path / "bad")
    with pytest.raises(NotVerified):
        Expectations("another").announcing([shown.ceremony.proposal(2)])
