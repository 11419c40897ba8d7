# SPDX-License-Identifier: AGPL-3.0-or-later
"""Follow both logs from outside, for ever: nothing is taken back, and whatever the officers did not announce is told."""

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from tuf.api.metadata import Metadata, Root

from amana.client.directory import (
    Getter,
    Published,
    check_root,
    fetch_published,
    fetch_version,
    follow_roots,
    read_root,
    refusals,
    signed_sha256,
)
from amana.client.errors import NotVerified, Usage
from amana.client.expectations import Expectations
from amana.client.log import Fetch
from amana.client.logwatch import (
    LogNotVerified,
    PublicLog,
    check_quorum,
    fresh,
    keep_evidence,
    unsigned,
)
from amana.protocol import schema
from amana.protocol.case import intake_key_id
from amana.protocol.checkpoint import (
    SignedCheckpoint,
    open_checkpoint,
    parse_checkpoint,
    parse_note,
)
from amana.protocol.directory import Directory, RootPins
from amana.protocol.encoding import b64, check_sha256_hex, sha256_hex, unb64
from amana.protocol.errors import ProtocolError
from amana.protocol.logleaf import DirectoryLeaf, parse_directory_leaf
from amana.protocol.merkle import Frontier, leaf_hash

STATE_LIMIT_BYTES: Final = 64 * 1024 * 1024
PAUSES_SECONDS: Final = (1.0, 3.0)


@dataclass(frozen=True)
class Problem:
    """Something that does not verify; `evidence` is the file of two checkpoints that contradict each other."""

    slug: str
    title: str
    log: str | None = None
    evidence: str | None = None


@dataclass(frozen=True)
class Unexpected:
    """What the officers did not announce: a root, a directory, or the keys that came with one."""

    what: str
    version: int
    person: str | None = None
    place: str | None = None
    key: str | None = None


@dataclass
class Report:
    """What one look at a service found."""

    deployment: str
    directory: int | None = None
    logs: dict[str, dict[str, int]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    unexpected: list[Unexpected] = field(default_factory=list)

    @property
    def exit_status(self) -> int:
        """3 where something does not verify, 1 where something was not announced, else 0."""
        return 3 if self.problems else 1 if self.unexpected else 0

    def document(self) -> dict[str, Any]:
        return {
            "verified": not self.problems,
            "deployment": self.deployment,
            "directory": self.directory,
            "logs": self.logs,
            "problems": [asdict(one) for one in self.problems],
            "unexpected": [asdict(one) for one in self.unexpected],
        }


@dataclass
class Memory:
    """What a monitor saw: the newest checkpoint of each log, every leaf of the directory log, what each one said.

    `seen` maps `root-1` or `targets-1` to the hash of what was signed and the keys that it lists;
    `accepted` holds the hashes that whoever watches has accepted without an announcement.
    """

    deployment: str
    checkpoints: dict[str, str] = field(default_factory=dict)
    frontiers: dict[str, list[str]] = field(default_factory=dict)
    leaves: list[list[Any]] = field(default_factory=list)
    unknown: list[int] = field(default_factory=list)
    seen: dict[str, dict[str, Any]] = field(default_factory=dict)
    accepted: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path, deployment: str) -> "Memory":
        """Read the state, or begin one; a damaged one is refused, since to forget is what an attacker wants."""
        try:
            with path.open("rb") as file:
                data = file.read(STATE_LIMIT_BYTES + 1)
        except FileNotFoundError:
            return cls(deployment)
        except OSError:
            raise Usage("The state cannot be read.", slug="bad-state") from None
        try:
            if len(data) > STATE_LIMIT_BYTES:
                raise ValueError
            fields = schema.checked_by(_STATE, json.loads(data), "bad-state")
            found = cls(**{name: value for name, value in fields.items() if name != "v"})
            found.check_trees()
        except (ValueError, RecursionError):
            raise _damaged() from None
        if found.deployment != deployment:
            raise Usage("The state is of another installation.", slug="bad-state")
        return found

    def check_trees(self) -> None:
        """See that subtrees make up their checkpoints, and leaves are as many as one has; raises ValueError."""
        trees = {
            origin: parse_checkpoint(parse_note(note.encode("utf-8")).text)
            for origin, note in self.checkpoints.items()
        }
        sizes = set()
        for origin, hashes in self.frontiers.items():
            tree = trees.get(origin)
            if tree is None:
                raise ValueError
            if Frontier(tree.size, [unb64(one, 32) for one in hashes]).root() != tree.root:
                raise ValueError
            sizes.add(tree.size)
        if len(self.leaves) + len(self.unknown) not in (sizes or {0}):
            raise ValueError

    def write(self, path: Path) -> None:
        """Write the state whole or not at all, durably."""
        draft = path.with_name(f"{path.name}.new")
        try:
            with draft.open("w", encoding="utf-8") as file:
                json.dump({"v": 1, **asdict(self)}, file)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        except OSError:
            raise Usage("The state cannot be written.", slug="bad-state") from None


def _damaged() -> Usage:
    return Usage("The state is damaged.", slug="bad-state")


def _each(check: schema.Check) -> schema.Check:
    return lambda value: isinstance(value, list) and all(check(one) is not False for one in value)


def _each_named(check: schema.Check) -> schema.Check:
    each = _each(check)
    return lambda value: isinstance(value, dict) and each([*value.values()])


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_leaf(value: object) -> bool:
    match value:
        case [("root" | "targets"), version, sha256, root]:
            check_sha256_hex(sha256)
            return schema.is_counting(version) and schema.is_counting(root)
    return False


def _is_key(value: object) -> bool:
    match value:
        case [str(person), str(place), str(use), str(key)]:
            return f"{person}{place}{use}{key}".isprintable()
    return False


def _is_said(value: object) -> bool:
    schema.checked_by(_SAID, value, "bad-state")
    return True


_SAID: Final[schema.Checks] = {
    "sha256": check_sha256_hex,
    "signed": check_sha256_hex,
    "keys": _each(_is_key),
}
_STATE: Final[schema.Checks] = {
    "v": schema.among(1),
    "deployment": _is_text,
    "checkpoints": _each_named(_is_text),
    "frontiers": _each_named(_each(lambda one: unb64(one, 32))),
    "leaves": _each(_is_leaf),
    "unknown": _each(schema.is_counting),
    "seen": _each_named(_is_said),
    "accepted": _each(check_sha256_hex),
}


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let one monitor at a time use a state."""
    try:
        lock = path.with_name(f"{path.name}.lock").open("w")
    except OSError:
        raise Usage("The state cannot be written.", slug="bad-state") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Usage("Another monitor uses this state.", slug="state-locked") from None
        yield


class Monitor:
    """One look at one service. `get` reads below `/v1/directory/`, `fetch_log` below `/log/`."""

    def __init__(
        self,
        get: Getter,
        fetch_log: Fetch,
        root: bytes,
        state: Path,
        *,
        expected: Expectations | None = None,
        accept: frozenset[int] = frozenset(),
        now: datetime,
        pauses: Sequence[float] = PAUSES_SECONDS,
    ) -> None:
        self._get = get
        self._fetch_log = fetch_log
        self._root = root
        self._state = state
        self._now = now
        self._accept = accept
        self._pauses = pauses
        deployment = read_root(root).deployment
        self._expected = expected or Expectations(deployment)
        if self._expected.deployment != deployment:
            raise Usage("The expectations are of another installation.", slug="bad-expectations")
        self.memory = Memory.read(state, deployment)
        self.report = Report(deployment)

    def look(self) -> Report:
        """Look, remember what verifies, and report. Raises NetworkFailed, Usage, and what the getters raise.

        Nothing is remembered then.
        """
        try:
            with refusals():
                chain = follow_roots(self._get, self._root)
                pins = check_root(chain[-1].signed)
        except NotVerified as refused:
            self._tell(refused)
            return self.report
        custody = PublicLog(self._fetch_log, pins.custody_log)
        with self._telling(custody.name):
            self._follow(custody, pins, is_directory=False)
        self._follow_directory(pins)
        with self._telling(None):
            self._compare_published(pins)
        self._accept_versions()
        self._name_unexpected(chain[0])
        self.memory.write(self._state)
        return self.report

    @contextmanager
    def _telling(self, log: str | None) -> Iterator[None]:
        try:
            yield
        except NotVerified as refused:
            self._tell(refused, log)

    def _tell(self, refused: NotVerified, log: str | None = None) -> None:
        evidence = None
        if isinstance(refused, LogNotVerified):
            evidence = keep_evidence(self._state, refused.evidence)
        where = None if evidence is None else str(evidence)
        self._add(Problem(refused.slug, refused.title, log, where))

    def _follow_directory(self, pins: RootPins) -> None:
        log = PublicLog(self._fetch_log, pins.directory_log)
        with self._telling(log.name):
            self._follow(log, pins, is_directory=True)
        self._read_leaves()

    def _follow(self, log: PublicLog, pins: RootPins, *, is_directory: bool) -> None:
        """See that a log continues what was seen of it, and that its cosigners saw the same."""
        # First what cosigners saw: the newest checkpoint cannot be older than that.
        cosigned = log.checkpoint("cosigned", pins.cosigners)
        newest = log.checkpoint("checkpoint", pins.cosigners)
        if newest is None:
            raise LogNotVerified("log-missing", "The public log shows no checkpoint.")
        before = self._seen(log)
        if before is not None:
            log.verify_continues(before, newest)
        if cosigned is not None:
            log.verify_continues(cosigned, newest)
        said: dict[str, int] = {"size": newest.checkpoint.size}
        self.report.logs[log.name] = said
        if is_directory:
            self._grow(log, newest)
        self.memory.checkpoints[log.key.name] = str(newest.note)
        if pins.cosigners and cosigned is not None:
            said["cosigned"] = cosigned.checkpoint.size
            said["fresh_operators"] = fresh(cosigned.cosigned, pins, self._now)
        if pins.quorum:
            if cosigned is None:
                raise LogNotVerified("log-quorum", "No cosigner vouches for the public log yet.")
            check_quorum(cosigned, pins, self._now)

    def _seen(self, log: PublicLog) -> SignedCheckpoint | None:
        note = self.memory.checkpoints.get(log.key.name)
        if note is None:
            return None
        seen = unsigned(note.encode("utf-8"))
        # A root may pin a new key for the same log; where this one signed, it signed what was seen.
        if any(
            (one.name, one.key_id) == (log.key.name, log.key.id) for one in seen.note.signatures
        ):
            try:
                return open_checkpoint(bytes(seen.note), log.key)
            except ProtocolError:
                raise _damaged() from None
        return seen

    def _grow(self, log: PublicLog, newest: SignedCheckpoint) -> None:
        """Read the entries that are new and see that they make up the tree, leaf by leaf."""
        origin, checkpoint = log.key.name, newest.checkpoint
        hashes = [unb64(one, 32) for one in self.memory.frontiers.get(origin, [])]
        before = self._seen(log)
        if before is not None and origin not in self.memory.frontiers:
            raise _damaged()
        tree = Frontier(0 if before is None else before.checkpoint.size, hashes)
        leaves, unknown = [*self.memory.leaves], [*self.memory.unknown]
        if before is None:
            # A log under a new root begins with what it takes over from the one before.
            leaves, unknown = [], []
        for entry in log.entries(tree.size, checkpoint.size):
            tree.append(leaf_hash(entry))
            try:
                leaf = parse_directory_leaf(entry)
                leaves.append([leaf.kind, leaf.version, leaf.sha256, leaf.root])
            except ProtocolError:
                unknown.append(tree.size - 1)
        if tree.root() != checkpoint.root:
            raise LogNotVerified(
                "log-tampered", "The entries of the directory log are not those of its checkpoint."
            )
        self.memory.leaves, self.memory.unknown = leaves, unknown
        self.memory.frontiers[origin] = [b64(one) for one in tree.hashes]

    def _read_leaves(self) -> None:
        """Read what each leaf names, verify that officers signed it, and that the leaves are in their order."""
        root, version, known = 0, 0, set()
        for one in self.memory.leaves:
            leaf = DirectoryLeaf(*one)
            name = f"{leaf.kind}-{leaf.version}"
            follows = version in {0, leaf.version - 1}
            in_order = leaf.version > root if leaf.kind == "root" else follows
            if leaf.kind == "root":
                root = max(root, leaf.version)
            else:
                in_order = in_order and leaf.root == root
                version = max(version, leaf.version)
            if not in_order or name in known:
                title = "The directory log names versions out of their order."
                self._add(Problem("leaf-order", title))
            known.add(name)
            there = self.memory.seen.get(name)
            if there is not None and there["sha256"] == leaf.sha256:
                continue
            with self._telling(None):
                self.memory.seen[name] = self._verified(leaf)

    def _verified(self, leaf: DirectoryLeaf) -> dict[str, Any]:
        content = self._get(f"{leaf.version}.{leaf.kind}.json")
        if content is None or sha256_hex(content) != leaf.sha256:
            raise NotVerified(
                f"The {_WORDS[leaf.kind]} of version {leaf.version} is not what the log names.",
                slug="directory-withheld",
            )
        if leaf.kind == "root":
            with refusals():
                root = Metadata[Root].from_bytes(content)
                check_root(root.signed)
            return {"sha256": leaf.sha256, "signed": signed_sha256(root), "keys": []}
        found = fetch_version(self._get, self._root, leaf.version)
        return {
            "sha256": leaf.sha256,
            "signed": signed_sha256(found.targets),
            "keys": sorted(map(list, _keys(found.directory))),
        }

    def _compare_published(self, pins: RootPins) -> None:
        """See that what is given to clients now is the last leaf, also where the root asks for no cosigners."""
        log = self._fetch_log if pins.quorum else None
        published = fetch_published(self._get, self._root, None, log=log, pauses=self._pauses)
        self.report.directory = published.directory.version
        for pause in self._pauses:
            if self._is_last(published):
                break
            # It was perhaps published after the log was read.
            time.sleep(pause)
            self._follow_directory(pins)
        if not self._is_last(published):
            raise NotVerified(
                "The directory that is given out is not the newest one in the public log.",
                slug="directory-not-logged",
            )

    def _is_last(self, published: Published) -> bool:
        version = published.targets.signed.version
        root = published.root.signed.version
        leaf = ["targets", version, sha256_hex(published.listed), root]
        listed = [one for one in self.memory.leaves if one[0] == "targets"]
        return listed[-1:] == [leaf]

    def _accept_versions(self) -> None:
        """Note down what whoever watches accepts: directories, each with the root it was published under.

        A version that the log does not name is wrong usage, unless what does not verify hides it.
        """
        logged = {version for kind, version, *_ in self.memory.leaves if kind == "targets"}
        if self._accept - logged and not self.report.problems:
            raise Usage(
                "The directory log names no such version to accept.", slug="version-unknown"
            )
        for kind, version, _, root in self.memory.leaves:
            if kind != "targets":
                continue
            for name in (f"targets-{version}", f"root-{root}"):
                said = self.memory.seen.get(name)
                if version in self._accept and said is not None:
                    self.memory.accepted.append(said["signed"])
        self.memory.accepted = sorted(set(self.memory.accepted))

    def _name_unexpected(self, trusted: Metadata[Root]) -> None:
        expected = self._expected
        roots = {trusted.signed.version: signed_sha256(trusted), **expected.roots}
        known: set[tuple[str, ...]] = set()
        for one in self.memory.leaves:
            leaf = DirectoryLeaf(*one)
            said = self.memory.seen.get(f"{leaf.kind}-{leaf.version}")
            if said is None:
                continue
            announced = (roots if leaf.kind == "root" else expected.directories).get(leaf.version)
            keys = {tuple(key) for key in said["keys"]}
            if announced == said["signed"] or said["signed"] in self.memory.accepted:
                known |= keys
                continue
            what = _WORDS[leaf.kind].replace(" ", "-")
            self.report.unexpected.append(Unexpected(what, leaf.version))
            for person, place, use, key in sorted(keys - known):
                self.report.unexpected.append(Unexpected(use, leaf.version, person, place, key))
        for place in self.memory.unknown:
            self.report.unexpected.append(Unexpected("entry", place))

    def _add(self, problem: Problem) -> None:
        if problem not in self.report.problems:
            self.report.problems.append(problem)


_WORDS: Final[Mapping[str, str]] = {"root": "root", "targets": "directory"}


def _keys(directory: Directory) -> Iterator[tuple[str, str, str, str]]:
    """Give each reader's keys: person, desk, use, and the key or its short name (docs/protocol.md §3)."""
    for desk in directory.desks:
        for reader in directory.readers_of(desk.id):
            yield reader.id, desk.id, "signing-key", reader.signing_key
            yield reader.id, desk.id, "intake-key", intake_key_id(reader.intake_key)
    for group in ("custodians", "partners"):
        with suppress(KeyError):
            holders = directory.document[group]
            members = holders["members"] if group == "custodians" else holders
            for one in members:
                yield one["id"], group, "intake-key", sha256_hex(one["intake_key"].encode())
