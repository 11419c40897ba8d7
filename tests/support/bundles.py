"""A bundle of the demonstration organisation, made by the real client at the real server, and ways to damage one."""

import io
import shutil
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amana.client.administrator import Administrator
from amana.client.bundle import opened_bundle
from amana.client.bundlecheck import check_bundle, read_contents
from amana.client.exporting import Derivative, Exported, Exporter
from amana.client.keyfile import PersonKeys
from amana.client.transport import Patience, Transport
from amana.client.verify import Check
from amana.ops.sequencer import Sequencer, sequence
from amana.ops.stamper import Stamper
from amana.protocol.bundle import (
    INDEX,
    MANIFEST,
    TAG_MANIFEST,
    manifest_text,
    parse_index,
    sign_index,
)
from amana.protocol.encoding import sha256_hex
from tests.support.authority import Authority, serving, stamped_by
from tests.support.exports import SCOPES, Leaving, LeavingWithIdentity
from tests.support.organisation import Organisation, organisation_in
from tests.support.statements import Witness

ACCOUNT = b'{"language":"ar","text":"[SYNTHETIC]","v":1}'
FILES = (b"a photo " * 20_000, b"a voice", b"")


@contextmanager
def sequenced(organisation: Organisation) -> Iterator[None]:
    """Let the logs be kept while something runs."""
    sequencer = Sequencer(organisation.services)
    sequencer.start()
    try:
        yield
    finally:
        sequencer.stop()


@contextmanager
def exporting(organisation: Organisation, keys: PersonKeys) -> Iterator[Exporter]:
    # The client looks at a real clock.
    organisation.clock.follow()
    with (
        sequenced(organisation),
        organisation.served() as url,
        Transport(url, silence_seconds=10) as transport,
    ):
        patience = Patience(attempts=4, first_seconds=0.05)
        yield Exporter(transport, organisation.root, keys, patience=patience)


def approve(leaving: Leaving, export: str) -> None:
    """Let an administrator approve an export with the real client."""
    organisation = leaving.organisation
    organisation.clock.follow()
    with organisation.served() as url, Transport(url, silence_seconds=10) as transport:
        keys = leaving.administrator.keys
        administrator = Administrator(transport, organisation.root, keys)
        assert administrator.decide_export(export, "approve") == "approved"


@dataclass
class Bundle:
    """A sealed bundle, and it unpacked."""

    leaving: Leaving
    made: Exported
    folder: Path
    root: bytes
    authority: Authority | None = None
    """Who stamped its log."""

    @property
    def partner(self) -> PersonKeys:
        return self.leaving.partner

    def check(self, place: Path) -> list[Check]:
        with opened_bundle(place, self.partner.intake) as entries:
            trusted = [] if self.authority is None else [self.authority.root]
            return check_bundle(read_contents(entries), self.root, trusted)

    def copy(self, to: Path) -> Path:
        shutil.copytree(self.folder, to)
        return to

    @property
    def paths(self) -> list[str]:
        return sorted(
            one.relative_to(self.folder).as_posix()
            for one in self.folder.rglob("*")
            if one.is_file()
        )


def faults(checks: list[Check]) -> dict[str, str]:
    """Return what does not hold."""
    return {one.name: one.detail for one in checks if one.ok is False}


def unchecked(checks: list[Check]) -> dict[str, str]:
    """Return what was not checked."""
    return {one.name: one.detail for one in checks if one.ok is None}


def listed_anew(folder: Path, maker: PersonKeys, change: Callable[[dict[str, Any]], None]) -> None:
    """Make the lists of hashes fit what lies in a folder, and let the maker sign it: who lies with a true key."""
    found = {
        one.relative_to(folder).as_posix(): sha256_hex(one.read_bytes())
        for one in folder.rglob("*")
        if one.is_file()
    }
    manifest = manifest_text({p: h for p, h in found.items() if p.startswith("data/")})
    (folder / MANIFEST).write_bytes(manifest)
    index = parse_index((folder / INDEX).read_bytes())
    fields = {k: v for k, v in index.document.items() if k not in {"v", "sig"}}
    fields["manifest_sha256"] = sha256_hex(manifest)
    change(fields)
    (folder / INDEX).write_bytes(sign_index(maker.signing, fields))
    tags = {
        one.name: sha256_hex(one.read_bytes())
        for one in folder.iterdir()
        if one.is_file() and one.name != TAG_MANIFEST
    }
    (folder / TAG_MANIFEST).write_bytes(manifest_text(tags))


@contextmanager
def bundle_in(folder: Path) -> Iterator[Bundle]:
    """Let a case with a changed consent, a translation and a redaction leave, and unpack what came out."""
    authority = Authority(folder / "authority")
    with organisation_in(folder) as organisation, serving(authority.reply) as server:
        stamping = Stamper(
            stamped_by(organisation.services, {"clock": (server, authority)}),
            organisation.services.database,
        )
        leaving = Leaving.accepted(organisation, account=ACCOUNT, files=FILES)
        witness = Witness(organisation, leaving.made)
        assert witness.consent({**SCOPES, "opcw": "allow"}).status_code == 200
        sequence(organisation.services)
        assert stamping.round() == 2
        export = leaving.asked()
        sequence(organisation.services)
        approve(leaving, export)
        sequence(organisation.services)
        stamping.anew = True
        assert stamping.round() == 1
        translation, redaction = folder / "translation.txt", folder / "redaction.jpg"
        translation.write_bytes(b"[SYNTHETIC] translated")
        redaction.write_bytes(b"a photo without a face")
        keys = leaving.reader.keys
        with exporting(organisation, keys) as exporter:
            [listed] = exporter.exports(leaving.case)
            made = exporter.assemble(
                listed,
                folder / "bundle.age",
                (
                    Derivative("translation", 0, translation, keys.id),
                    Derivative("redaction", 2, redaction, keys.id),
                ),
            )
        yield unpacked(leaving, made, folder / "unpacked", authority)


@contextmanager
def bundle_with_identity_in(folder: Path) -> Iterator[Bundle]:
    """Let a case leave with who its witness is and an original, both released for that, and unpack what came out."""
    with organisation_in(folder) as organisation:
        leaving = LeavingWithIdentity.vaulted(organisation)
        assert leaving.decide(leaving.asked_with("identity", "originals")).status_code == 200
        with exporting(organisation, leaving.reader.keys) as exporter:
            [listed] = exporter.exports(leaving.case)
            made = exporter.assemble(listed, folder / "bundle.age")
        yield unpacked(leaving, made, folder / "unpacked")


def unpacked(
    leaving: Leaving, made: Exported, place: Path, authority: Authority | None = None
) -> Bundle:
    """Open a sealed bundle with other tools than its own, into a folder."""
    sealed = io.BytesIO(_opened(made.file.read_bytes(), leaving.partner))
    with tarfile.open(fileobj=sealed) as archive:
        archive.extractall(place, filter="data")
    return Bundle(leaving, made, place / "amana-bundle", leaving.organisation.root, authority)


def _opened(sealed: bytes, keys: PersonKeys) -> bytes:
    from amana.protocol.sealing import Kind, open_sealed

    assert keys.intake is not None
    return open_sealed(sealed, keys.intake, Kind.FILE)
