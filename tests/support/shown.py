"""A directory with cosigners in its root, and its two logs, as those outside see them; whoever owns it may lie."""

import time
from pathlib import Path

import pytest

from amana.client.directory import fetch_directory
from amana.client.errors import NotVerified
from amana.client.officer import cosigning_pins, tuf_signer
from amana.protocol.checkpoint import KeyType, NoteKey
from amana.protocol.logleaf import root_leaf, targets_leaf
from amana.protocol.signing import SigningKey
from tests.support.ceremony import DEPLOYMENT, Ceremony, Mirror
from tests.support.logbook import Logbook

KEYS = {
    name: SigningKey.generate()
    for name in ("one.example/1", "one.example/2", "two.example/1", "three.example/1")
}
PINNED = [NoteKey(name, KeyType.COSIGNER, key.public).vkey for name, key in KEYS.items()]


class Shown:
    """A directory and its logs as those outside see them; the root asks for two of three operators within 72 hours."""

    def __init__(self, quorum: int = 2) -> None:
        self.ceremony = Ceremony()
        # The ceremony's root is made anew, with cosigners.
        pinned = cosigning_pins(PINNED, quorum)
        self.ceremony.first_root.signed.unrecognized_fields["x-amana"] |= pinned
        self.sign_root()
        self.custody = Logbook(f"{DEPLOYMENT}/custody", self.ceremony.custody_log)
        self.custody.add(b"first", b"second")
        self.mirror = Mirror(self.ceremony)
        self.log = Logbook(f"{DEPLOYMENT}/directory", self.ceremony.directory_log)
        self.log.add(root_leaf(1, self.ceremony.root_bytes))
        self.publish(1)

    def sign_root(self) -> None:
        root = self.ceremony.first_root
        root.signatures.clear()
        for officer in self.ceremony.officers[:2]:
            root.sign(tuf_signer(officer.signing), append=True)

    def publish(self, version: int, *names: str, logged: bool = True, root: int = 1) -> None:
        self.mirror.show(self.ceremony.proposal(version))
        if logged:
            content = self.mirror.files[f"{version}.targets.json"]
            self.log.add(targets_leaf(version, content, root))
        self.cosign(*names)

    def cosign(self, *names: str, at: float | None = None) -> None:
        """Let keys cosign all of the log, two operators unless others are named."""
        wanted = names or ("one.example/1", "two.example/1")
        for log in (self.log, self.custody):
            log.cosign({name: KEYS[name] for name in wanted}, int(at or time.time()))

    def get_log(self, path: str, _limit: int = 0) -> bytes | None:
        """Give what is served below `/log/`."""
        return (self.log if path.startswith("directory/") else self.custody).get(path)

    def fetch(self, cache: Path | None = None) -> int:
        found = fetch_directory(
            self.mirror.get, self.ceremony.root_bytes, cache, log=self.log.get, pauses=()
        )
        return found.directory.version

    def refusal(self, cache: Path | None = None) -> str:
        with pytest.raises(NotVerified) as refused:
            self.fetch(cache)
        assert refused.value.exit_status == 3
        return refused.value.slug
