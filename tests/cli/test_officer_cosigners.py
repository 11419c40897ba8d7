"""Officers pin cosigners in the root, change them in the next one, and announce what they will publish; all offline."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from amana.client.directory import check_root, read_root
from amana.client.errors import NotVerified, Usage
from amana.client.officer import (
    Proposal,
    cosigning_pins,
    new_root,
    online_keys,
    pins,
    propose,
    rotate_root,
    sign,
)
from amana.protocol.checkpoint import KeyType, NoteKey, log_key
from amana.protocol.errors import ProtocolError
from amana.protocol.signing import SigningKey
from tests.support.ceremony import Ceremony
from tests.support.server import amana

KEYS = {
    name: NoteKey(name, KeyType.COSIGNER, SigningKey.generate().public).vkey
    for name in ("one.example/1", "one.example/2", "two.example/1")
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Officers' key files, the description and the server's keys, as they are carried."""
    ceremony = Ceremony()
    (tmp_path / "description.json").write_text(json.dumps(ceremony.description()))
    keys = online_keys(ceremony.online, ceremony.directory_log, ceremony.custody_log)
    (tmp_path / "online.json").write_text(json.dumps(keys))
    return tmp_path


def printed(*arguments: str | Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(amana(*arguments, "--json").stdout)
    return document


def refused(*arguments: str | Path, check: int = 2) -> str:
    return amana(*arguments, "--json", check=check).stderr.partition(":")[0].split("\n")[-1]


def test_cosigners_from_the_first_root_to_the_next(folder: Path) -> None:
    officers = [printed("officer", "init", "--out", folder / f"o{n}") for n in range(2)]
    first = [
        "officer", "propose", "--from", folder / "description.json", "--version", "1",
        "--online", folder / "online.json",
        *(part for one in officers for part in ("--officer", one["public"])),
    ]  # fmt: skip
    pinned = ["--cosigner", KEYS["one.example/1"], "--cosigner", f"Two={KEYS['two.example/1']}"]
    assert refused(*first, *pinned, "--out", folder / "a") == "bad-quorum"
    assert refused(*first, *pinned, "--quorum", "3", "--out", folder / "a") == "bad-quorum"
    assert refused(*first, "--quorum", "1", "--out", folder / "a") == "bad-quorum"
    made = printed(
        *first, *pinned, "--quorum", "2", "--freshness-hours", "48", "--out", folder / "a"
    )
    said = "\n".join(made["summary"])
    assert "cosigners: 2 of 2 operators within the last 48 hours" in said
    assert f"    one.example: {KEYS['one.example/1']}" in said
    assert f"    Two: {KEYS['two.example/1']}" in said
    for one in officers:
        shown = amana("officer", "sign", folder / "a", "--key", one["key"]).stdout
        assert "cosigners: 2 of 2 operators within the last 48 hours" in shown
    root = folder / "a" / "root.json"
    assert read_root(root.read_bytes()).quorum == 2

    announced = printed("officer", "expect", folder / "a", "--out", folder / "expect.json")
    assert (announced["directories"], announced["roots"]) == ([1], [1])

    rotate = ["officer", "rotate-root", "--current", folder / "a", "--root", root]
    changed = printed(
        *rotate, "--cosigner", KEYS["one.example/1"], "--cosigner", KEYS["one.example/2"],
        "--quorum", "1", "--out", folder / "b",
    )  # fmt: skip
    assert "  cosigners: 1 of 1 operators within the last 72 hours" in "\n".join(changed["summary"])
    changes = "\n".join(changed["changes"])
    assert f"added: cosigner {KEYS['one.example/2']} (operator: one.example)" in changes
    assert f"removed: cosigner {KEYS['two.example/1']} (operator: Two)" in changes
    assert "pinned quorum: 2 → 1" in changes
    assert "pinned freshness_hours: 48 → 72" in changes
    # Without an option everything stays, and with a quorum of 0 alone nobody is named.
    assert "changed: the root: pinned" not in "\n".join(
        printed(*rotate, "--out", folder / "c")["changes"]
    )
    none = printed(*rotate, "--quorum", "0", "--out", folder / "d")
    assert "no cosigners" in "\n".join(none["summary"])
    announced = printed("officer", "expect", folder / "b", "--out", folder / "expect.json")
    assert (announced["directories"], announced["roots"]) == ([1, 2], [1, 2])
    later = ["officer", "propose", "--current", folder / "a", "--root", root, "--out", folder / "e"]
    assert refused(*later, *pinned, "--quorum", "1") == "usage"


def test_what_a_root_cannot_pin() -> None:
    log = log_key("amana-test/x", SigningKey.generate().public).vkey
    for given, quorum in (
        ([log], 1),
        ([KEYS["one.example/1"], KEYS["one.example/2"]], 2),
        ([KEYS["one.example/1"]], -1),
    ):
        with pytest.raises((Usage, ProtocolError), match=r"cosigner|operators"):
            cosigning_pins(given, quorum)
    ceremony = Ceremony()
    root = ceremony.first_root.signed

    def rotated(vkey: str) -> None:
        rotate_root(root, cosigning=cosigning_pins([vkey], 1), now=datetime.now(UTC))

    for key in (ceremony.officers[0].signing, ceremony.online, ceremony.custody_log):
        with pytest.raises(Usage, match=r"part of an officer or server|twice"):
            rotated(NoteKey("one.example/1", KeyType.COSIGNER, key.public).vkey)
    with pytest.raises(Usage, match="twice"):
        rotate_root(
            root,
            cosigning=cosigning_pins([KEYS["one.example/1"], f"B={KEYS['one.example/1']}"], 1),
            now=datetime.now(UTC),
        )


def test_a_person_never_has_the_key_of_a_cosigner(folder: Path) -> None:
    ceremony = Ceremony()
    vkey = NoteKey("one.example/1", KeyType.COSIGNER, ceremony.lead.signing.public).vkey
    keys = online_keys(ceremony.online, ceremony.directory_log, ceremony.custody_log)
    root = new_root(
        [one.signing.public for one in ceremony.officers],
        online=keys["online"],
        root_threshold=2,
        targets_threshold=2,
        pins={**pins("amana-test", keys), **cosigning_pins([vkey], 1)},
        now=datetime.now(UTC),
    )
    proposal = propose(ceremony.description(), version=1, now=datetime.now(UTC), root=root)
    for officer in ceremony.officers[:2]:
        sign(proposal, officer)
    assert check_root(root.signed).quorum == 1
    proposal.save(folder / "proposal")
    with pytest.raises(NotVerified, match="root"):
        Proposal.load(folder / "proposal")
