"""A bundle holds from the root alone; a flipped bit in any file, a file more or less, or a lie of its maker shows."""

import io
import json
import os
import re
import tarfile
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import Metadata, Root

from amana.cli.verify import PROVEN
from amana.client.bundle import Entry, opened_bundle, tar_entries
from amana.client.bundlecheck import Contents, check_bundle, read_contents
from amana.client.errors import Usage
from amana.client.grounds import is_decided
from amana.client.keyfile import PersonKeys
from amana.client.officer import tuf_signer
from amana.client.verify import Check, holds
from amana.protocol.bundle import MANIFEST, TAG_MANIFEST, manifest_text, tar_header
from amana.protocol.checkpoint import (
    KeyType,
    NoteKey,
    cosign,
    parse_checkpoint,
    with_signatures,
)
from amana.protocol.encoding import b64, canonical, sha256_hex
from amana.protocol.errors import ProtocolError
from amana.protocol.sealing import Identity
from amana.protocol.signing import SigningKey
from amana.protocol.tlogproof import TlogProof
from tests.support.bundles import (
    ACCOUNT,
    FILES,
    Bundle,
    bundle_in,
    faults,
    listed_anew,
    unchecked,
)

NAMES = [
    "root", "files", "directory", "maker", "receipt", "ciphertext", "content", "derivatives",
    "custody", "log", "order", "stamps", "policy", "export", "consent", "identity",
]  # fmt: skip


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bundle]:
    with bundle_in(tmp_path_factory.mktemp("bundle")) as made:
        yield made


def test_everything_holds_in_the_sealed_file_the_archive_and_the_folder(
    bundle: Bundle, tmp_path: Path
) -> None:
    archive = tmp_path / "bundle.tar"
    with opened_bundle(bundle.made.file, bundle.partner.intake) as entries:
        write_archive(archive, {one.path: one.stream.read() for one in entries})
    for place in (bundle.made.file, archive, bundle.folder, bundle.folder.parent):
        checks = bundle.check(place)
        assert [one.name for one in checks] == NAMES
        assert PROVEN.keys() == set(NAMES), "each is told in words"
        assert faults(checks) == {}
    assert bundle.made.bag_sha256 == sha256_hex((bundle.folder / TAG_MANIFEST).read_bytes())
    assert bundle.made.sealed_sha256 == sha256_hex(bundle.made.file.read_bytes())
    assert bundle.made.size == bundle.made.file.stat().st_size


def write_archive(place: Path, files: dict[str, bytes]) -> None:
    from amana.client.bundle import Source, archive

    sources = {
        path: Source(len(data), sha256_hex(data), lambda data=data: iter((data,)))  # type: ignore[misc]
        for path, data in files.items()
    }
    place.write_bytes(b"".join(map(bytes, archive(sources))))


def test_what_was_sealed_is_there_and_what_was_redacted_stays_closed(bundle: Bundle) -> None:
    files = bundle.folder / "data" / "files"
    assert sorted(one.name for one in files.iterdir()) == ["0.json", "1.bin", "3.bin"]
    assert (files / "0.json").read_bytes() == ACCOUNT
    assert (files / "1.bin").read_bytes() == FILES[0]
    everything = b"".join((bundle.folder / one).read_bytes() for one in bundle.paths)
    assert FILES[1] not in everything, "the redacted original is not open anywhere"
    assert b"file-1" not in everything, "no name that a witness gave to a file leaves"
    assert str(bundle.leaving.made.case_key).encode() not in everything
    assert bundle.leaving.made.submission.manifest not in everything


@pytest.mark.parametrize("bit", range(8))
def test_a_flipped_bit_in_any_file_is_named(bundle: Bundle, bit: int) -> None:
    contents = loaded(bundle)
    for number, path in enumerate(sorted(contents)):
        data = bytearray(contents[path])
        if not data:
            continue
        # Over the eight runs other places of each file are hit, the first and the last byte among them.
        place = (
            (len(data) - 1) * bit // 7 if number % 2 else (number * 7919 + bit * 104729) % len(data)
        )
        data[place] ^= 1 << bit
        checks = check_bundle(read({**contents, path: bytes(data)}), bundle.root)
        assert path in faults(checks)["files"], (place, checks)
        assert accused(checks, contents) == {path}, (place, checks)


def accused(checks: list[Check], paths: Collection[str]) -> set[str]:
    """Return the files against which the checks say something."""
    told = " ".join(one.detail for one in checks if not one.ok)
    told = re.sub(r", or its hash in \S+", "", told)
    return {one for one in paths if re.search(rf"(?<![\w/]){re.escape(one)}(?!\w)", told)}


@pytest.mark.parametrize("left", [0, 1, 100, 2000])
def test_a_file_that_was_cut_is_named_and_no_other(bundle: Bundle, left: int) -> None:
    contents = loaded(bundle)
    for path, data in contents.items():
        if len(data) > left:
            checks = check_bundle(read({**contents, path: data[:left]}), bundle.root)
            assert path in faults(checks)["files"], checks
            assert accused(checks, contents) == {path}, checks


def test_a_link_in_place_of_a_file_is_named_and_what_needs_the_file_is_not_checked(
    bundle: Bundle, tmp_path: Path
) -> None:
    folder, moved = bundle.copy(tmp_path / "copy"), tmp_path / "moved"
    needed = set()
    for path in bundle.paths:
        (folder / path).rename(moved)
        (folder / path).symlink_to(moved)
        checks = bundle.check(folder)
        assert faults(checks) == {"files": f"{path}: it is a link, or something that is no file"}
        assert accused(checks, bundle.paths) == {path}
        needed |= {one for one in unchecked(checks) if path in unchecked(checks)[one]}
        (folder / path).unlink()
        moved.rename(folder / path)
    assert needed == set(NAMES) - {
        "root", "files", "log", "order", "consent", "identity",
    }  # fmt: skip


def test_a_folder_that_cannot_be_read_is_named_and_its_files_are_not_missing(
    bundle: Bundle, tmp_path: Path
) -> None:
    folder, moved = bundle.copy(tmp_path / "copy"), tmp_path / "moved"
    for name in sorted({path.rpartition("/")[0] for path in bundle.paths} - {""}):
        (folder / name).rename(moved)
        (folder / name).symlink_to(moved)
        told = faults(bundle.check(folder))
        assert told == {"files": f"{name}: it is a link, or something that is no file"}
        (folder / name).unlink()
        moved.rename(folder / name)


def test_a_disk_that_fails_within_a_file_makes_no_other_file_missing(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = os.open
    for path in ("data/receipt.json", "data/sealed/1.age", "data/files/1.bin"):

        def failing(place: Any, *arguments: Any, path: str = path) -> int:
            # Reading at the beginning of the memory of a process is an I/O error.
            return genuine("/proc/self/mem" if str(place).endswith(path) else place, *arguments)

        monkeypatch.setattr("amana.client.bundle.os.open", failing)
        checks = bundle.check(bundle.folder)
        monkeypatch.undo()
        assert faults(checks) == {"files": f"{path}: it cannot be read"}
        assert accused(checks, bundle.paths) == {path}


def test_behind_a_cut_nothing_is_missing_and_before_it_everything_holds(
    bundle: Bundle, tmp_path: Path
) -> None:
    place = tmp_path / "bundle.tar"
    write_archive(place, loaded(bundle))
    whole = place.read_bytes()
    place.write_bytes(whole[: whole.index(b"amana-bundle/data/sealed/1.age\0") + 1000])
    checks = bundle.check(place)
    assert faults(checks).keys() == {"files"}
    assert "at or behind data/sealed/1.age" in faults(checks)["files"]
    assert unchecked(checks).keys() == {"ciphertext", "content"}
    place.write_bytes(whole[: whole.index(b"amana-bundle/data/custody/")])
    checks = bundle.check(place)
    assert faults(checks).keys() == {"files"}
    assert "missing" not in str(checks)
    assert not all(map(holds, checks))


@pytest.mark.parametrize("name", ["len", "file_key", "sha256", "sealed_sha256", "v"])
def test_an_opening_that_is_wrong_does_not_accuse_the_sealed_file(
    bundle: Bundle, name: str
) -> None:
    contents, path = loaded(bundle), "data/openings/1.json"
    opening = json.loads(contents[path])
    others = {"len": opening["len"] + 1, "file_key": b64(bytes(16)), "v": 2}
    wrong = canonical({**opening, name: others.get(name, "0" * 64)})
    checks = check_bundle(read({**contents, path: wrong}), bundle.root)
    assert faults(checks)["files"] == f"{path} was altered"
    assert faults(checks).keys() == {"files", "content"}
    assert accused(checks, contents) == {path}


def test_content_is_not_proven_where_the_sealed_files_are_not_those_that_arrived(
    bundle: Bundle,
) -> None:
    from amana.protocol.opening import make_opening
    from amana.protocol.sealing import seal_stream

    identity, forged, sealed = Identity.generate(), b"forged" * 20_000, io.BytesIO()
    digests = seal_stream(io.BytesIO(forged), sealed, identity.recipient, len(forged))
    opening = make_opening(
        io.BytesIO(sealed.getvalue()),
        identity,
        sealed_sha256=digests.sealed_sha256,
        sha256=digests.sha256,
        length=len(forged),
    )
    contents = loaded(bundle) | {
        "data/sealed/1.age": sealed.getvalue(),
        "data/openings/1.json": bytes(opening),
        "data/files/1.bin": forged,
    }
    # Whoever carries a bundle can list the hashes anew, but not sign the list.
    hashes = {path: sha256_hex(data) for path, data in contents.items()}
    data = {path: one for path, one in hashes.items() if path.startswith("data/")}
    contents[MANIFEST] = manifest_text(data)
    tags = {path: sha256_hex(contents[path]) for path in hashes.keys() - data.keys()}
    del tags[TAG_MANIFEST]
    contents[TAG_MANIFEST] = manifest_text(tags)
    checks = check_bundle(read(contents), bundle.root)
    assert faults(checks).keys() == {"files", "maker", "ciphertext"}
    assert unchecked(checks)["content"].startswith("Not checked")


def test_a_key_that_does_not_fit_makes_nothing_missing(bundle: Bundle) -> None:
    stranger = PersonKeys.generate("partner")
    with opened_bundle(bundle.made.file, stranger.intake) as entries:
        checks = check_bundle(read_contents(entries), bundle.root)
    assert faults(checks).keys() == {"files"}
    assert unchecked(checks).keys() == set(NAMES) - {"root", "files"}
    assert "missing" not in str(checks)


def loaded(bundle: Bundle) -> dict[str, bytes]:
    return {path: (bundle.folder / path).read_bytes() for path in bundle.paths}


def read(files: dict[str, bytes]) -> Contents:
    from amana.protocol.bundle import in_order

    return read_contents(
        Entry(path, len(files[path]), io.BytesIO(files[path])) for path in in_order(files)
    )


def test_a_bundle_without_a_file_or_with_one_more_is_named(bundle: Bundle) -> None:
    contents = loaded(bundle)
    for path in contents:
        without = {name: data for name, data in contents.items() if name != path}
        assert path in faults(check_bundle(read(without), bundle.root))["files"], path
    for path in ("data/files/9.bin", "data/more.txt", "more.txt", "data/custody/00099.key"):
        more = faults(check_bundle(read({**contents, path: b"x"}), bundle.root))
        assert f"{path} is too many" in more["files"]


# Odd archives and folders


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE]
)
def test_an_archive_holds_plain_files_only(kind: bytes) -> None:
    info = tarfile.TarInfo("amana-bundle/data/link")
    info.type, info.linkname = kind, "/etc/passwd"
    assert refused(info.tobuf(tarfile.USTAR_FORMAT)) in {"bundle-tar", "bundle-path"}


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd", "amana-bundle/../x", "amana-bundle/data/../../x", "../amana-bundle/x", "x",
        "amana-bundle//x", "amana-bundle/.x", "amana-bundle/data/a b", "amana-bundle/data/ä",
        "amana-bundle/a/b/c/d/e/f", "amana-bundle/", "other/data/x", "amana-bundle/data\\x",
    ],
)  # fmt: skip
def test_an_archive_leads_nowhere(name: str) -> None:
    info = tarfile.TarInfo(name)
    info.mode = 0o644
    assert refused(info.tobuf(tarfile.PAX_FORMAT)) in {"bundle-tar", "bundle-path"}


@pytest.mark.parametrize("field", ["mode", "mtime", "uid", "uname"])
def test_an_archive_has_one_form(field: str) -> None:
    info = tarfile.TarInfo("amana-bundle/x")
    info.mode = 0o644
    setattr(info, field, "root" if field == "uname" else 1)
    assert refused(info.tobuf(tarfile.USTAR_FORMAT)) == "bundle-tar"


def refused(archive: bytes) -> str:
    with pytest.raises(ProtocolError) as error:
        list(tar_entries(io.BytesIO(archive + bytes(1024))))
    return error.value.slug


def test_an_archive_that_was_cut_extended_or_put_in_another_order_is_refused(
    bundle: Bundle, tmp_path: Path
) -> None:
    place = tmp_path / "bundle.tar"
    write_archive(place, loaded(bundle))
    whole = place.read_bytes()
    for data in (whole[:-1], whole[:700], whole + b"\0", whole[:-1024]):
        place.write_bytes(data)
        assert "files" in faults(bundle.check(place))
    first, second = (tar_header(path, 1) + b"x" + bytes(511) for path in ("a", "b"))
    for data in (second + first, first + first, tar_header("data/sealed/1.age", 0) + first):
        place.write_bytes(data + bytes(1024))
        assert "order" in faults(bundle.check(place))["files"]


class Dribbling(io.RawIOBase):
    """Gives a few bytes at once, as a stream may."""

    def __init__(self, data: bytes) -> None:
        self.source, self.turn = io.BytesIO(data), 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self.turn += 1
        view = memoryview(buffer)[: self.turn % 1000 + 1]
        return self.source.readinto(view)


def test_a_stream_may_give_less_than_it_is_asked_for(bundle: Bundle, tmp_path: Path) -> None:
    place = tmp_path / "bundle.tar"
    write_archive(place, loaded(bundle))
    entries = tar_entries(Dribbling(place.read_bytes()))  # type: ignore[arg-type]
    assert faults(check_bundle(read_contents(entries), bundle.root)) == {}


def test_a_folder_holds_plain_files_only(bundle: Bundle, tmp_path: Path) -> None:
    for number, make in enumerate(
        (
            lambda place: place.symlink_to("/etc/passwd"),
            lambda place: place.symlink_to("/etc", target_is_directory=True),
            os.mkfifo,
            lambda place: place.mkdir(),
        )
    ):
        folder = bundle.copy(tmp_path / str(number))
        make(folder / "data" / "odd")
        assert "files" in faults(bundle.check(folder))
    folder = bundle.copy(tmp_path / "replaced")
    target = folder / "data" / "files" / "0.json"
    moved = tmp_path / "moved"
    target.rename(moved)
    target.symlink_to(moved)
    assert "link" in faults(bundle.check(folder))["files"]
    folder = bundle.copy(tmp_path / "odd name")
    (folder / "data" / "a b").write_bytes(b"")
    assert "name" in faults(bundle.check(folder))["files"]


def test_a_sealed_bundle_needs_its_key(bundle: Bundle) -> None:
    with pytest.raises(Usage) as error, opened_bundle(bundle.made.file, None):
        pass
    assert error.value.slug == "bundle-sealed"
    stranger = PersonKeys.generate("partner")
    with opened_bundle(bundle.made.file, stranger.intake) as entries:
        assert "another key" in faults(check_bundle(read_contents(entries), bundle.root))["files"]


# Lies of whoever made the bundle: every hash fits, and they signed it


def lie(
    bundle: Bundle, tmp_path: Path, path: str, data: bytes | None, **index: Any
) -> dict[str, str]:
    folder = bundle.copy(tmp_path / "lie")
    if data is None:
        (folder / path).unlink()
        if not any((folder / path).parent.iterdir()):
            (folder / path).parent.rmdir()
    elif path:
        (folder / path).write_bytes(data)
    listed_anew(folder, bundle.leaving.reader.keys, lambda fields: fields.update(index))
    found = faults(bundle.check(folder))
    assert "files" not in found, found
    assert "maker" not in found, found
    return found


def test_a_maker_cannot_change_what_the_witness_sent(bundle: Bundle, tmp_path: Path) -> None:
    found = lie(bundle, tmp_path, "data/files/0.json", b'{"text":"forged"}')
    assert set(found) == {"content"}


def test_a_maker_cannot_change_what_was_sealed(bundle: Bundle, tmp_path: Path) -> None:
    from amana.protocol.sealing import Kind, seal

    forged = seal(b"forged", bundle.leaving.made.case_key.recipient, Kind.FILE)
    assert "ciphertext" in lie(bundle, tmp_path, "data/sealed/1.age", forged)


def test_a_maker_cannot_use_another_opening(bundle: Bundle, tmp_path: Path) -> None:
    opening = json.loads((bundle.folder / "data/openings/0.json").read_bytes())
    opening["file_key"] = b64(bytes(16))
    found = lie(bundle, tmp_path, "data/openings/0.json", canonical(opening))
    assert set(found) == {"content"}
    assert "data/openings/0.json has another key" in found["content"]


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ({"to": "b" * 32}, "export"),
        ({"purpose": "opcw"}, "export"),
        ({"identity_level": "public"}, "export"),
        ({"export": "b" * 32}, "export"),
        ({"case": "b" * 32}, "receipt"),
        ({"made_on": "2020-01-01"}, "consent"),
        ({"derived": []}, "derivatives"),
    ],
)
def test_a_maker_cannot_say_that_it_is_for_something_else(
    bundle: Bundle, tmp_path: Path, change: dict[str, Any], check: str
) -> None:
    assert check in lie(bundle, tmp_path, "", b"", **change)


def test_somebody_else_cannot_sign_for_the_maker(bundle: Bundle, tmp_path: Path) -> None:
    folder = bundle.copy(tmp_path / "forged")
    listed_anew(folder, PersonKeys.generate("reviewer"), lambda _fields: None)
    assert set(faults(bundle.check(folder))) == {"maker"}
    folder = bundle.copy(tmp_path / "administrator")
    administrator = bundle.leaving.administrator.keys
    listed_anew(folder, administrator, lambda fields: fields.update(maker=administrator.id))
    assert set(faults(bundle.check(folder))) >= {"maker", "export"}


@pytest.mark.parametrize("name", ["request", "approval"])
def test_request_and_approval_cannot_be_rewritten(
    bundle: Bundle, tmp_path: Path, name: str
) -> None:
    path = f"data/export/{name}.json"
    document = json.loads((bundle.folder / path).read_bytes())
    document["body"]["purpose"] = "opcw"
    assert "export" in lie(bundle, tmp_path, path, canonical(document))


def test_a_proof_for_another_event_place_or_tree_proves_nothing(
    bundle: Bundle, tmp_path: Path
) -> None:
    one, other = ("data/custody/00001", "data/custody/00002")
    proof = (bundle.folder / f"{other}.proof").read_bytes()
    assert "log" in lie(bundle, tmp_path / "a", f"{one}.proof", proof)
    own = (bundle.folder / f"{one}.proof").read_bytes()
    for number, (old, new) in enumerate(((b"index 0", b"index 1"), (b"amana-demo/", b"other/"))):
        assert old in own
        changed = own.replace(old, new)
        assert "log" in lie(bundle, tmp_path / f"b{number}", f"{one}.proof", changed)
    found = lie(bundle, tmp_path / "c", f"{one}.proof", None)
    assert "no proof" in found["log"]
    # What keeps its place, with one byte of path, tree or signature changed.
    proof = TlogProof.parse(own)
    checkpoint = parse_checkpoint(proof.checkpoint.text)
    [signature] = proof.checkpoint.signatures
    texts = (
        replace(checkpoint, size=checkpoint.size + 1).text,
        replace(checkpoint, root=bytes(32)).text,
    )
    changes = [replace(proof, checkpoint=replace(proof.checkpoint, text=text)) for text in texts]
    changes.append(replace(proof, hashes=(bytes(32), *proof.hashes[1:])))
    changes.append(replace(proof, hashes=proof.hashes[:-1]))
    forged = replace(signature, signature=bytes(64))
    changes.append(replace(proof, checkpoint=replace(proof.checkpoint, signatures=(forged,))))
    for number, changed in enumerate(changes):
        found = lie(bundle, tmp_path / f"d{number}", f"{one}.proof", bytes(changed))
        assert set(found) == {"log"}, number


def test_a_quorum_that_the_root_asks_for_is_asked_of_every_proof(
    bundle: Bundle, tmp_path: Path
) -> None:
    cosigner = SigningKey.generate()
    key = NoteKey("cosigner.example/one", KeyType.COSIGNER, cosigner.public)
    root = Metadata[Root].from_bytes(bundle.root)
    root.signed.unrecognized_fields["x-amana"] |= {
        "cosigners": [{"operator": "one", "key": key.vkey}],
        "quorum": 1,
        "freshness_hours": 24,
    }
    root.signatures.clear()
    for officer in bundle.leaving.organisation.of_role("officer"):
        root.sign(tuf_signer(officer.signing), append=True)

    def checked(folder: Path) -> dict[str, str]:
        with opened_bundle(folder, None) as entries:
            return faults(check_bundle(read_contents(entries), root.to_bytes()))

    assert "Too few" in checked(bundle.folder)["log"]
    folder = bundle.copy(tmp_path / "cosigned")
    for path in (folder / "data" / "custody").glob("*.proof"):
        proof = TlogProof.parse(path.read_bytes())
        more = cosign(key.name, cosigner, proof.checkpoint.text, 1_800_000_000)
        note = with_signatures(proof.checkpoint, [more])
        path.write_bytes(bytes(replace(proof, checkpoint=note)))
    listed_anew(folder, bundle.leaving.reader.keys, lambda _fields: None)
    assert checked(folder) == {}


def test_an_event_cannot_be_left_out_of_the_count_or_changed(
    bundle: Bundle, tmp_path: Path
) -> None:
    path = "data/custody/00002.event.json"
    event = json.loads((bundle.folder / path).read_bytes())
    event["action"]["made_at"] = "2020-01-01T00:00:00Z"
    found = lie(bundle, tmp_path, path, canonical(event))
    assert set(found) == {"custody"}
    assert found["custody"].startswith(path)


@pytest.mark.parametrize(
    ("dropped", "check", "told"),
    [
        ("claim", "order", "open without claim"),
        ("decide", "order", "export-request without decide"),
        ("open", "export", "not those that the approver signed for: one is missing"),
        ("later open", "export", "The maker did not open the case for it"),
        ("export-request", "order", "export-approve without export-request"),
        ("export-request", "export", "does not tell of data/export/request.json"),
    ],
)
def test_an_event_on_which_others_rest_cannot_be_left_out(
    bundle: Bundle, tmp_path: Path, dropped: str, check: str, told: str
) -> None:
    folder = bundle.copy(tmp_path / "copy")
    without(folder, dropped)
    listed_anew(folder, bundle.leaving.reader.keys, lambda _fields: None)
    checks = bundle.check(folder)
    assert told in faults(checks)[check]
    assert {"custody", "log", "stamps"}.isdisjoint(faults(checks)), checks


def without(folder: Path, act: str) -> None:
    """Leave all events of an act out, or all but the first, and count the others anew."""
    custody, number, seen = folder / "data/custody", 0, 0
    name = act.removeprefix("later ")
    for path in sorted(custody.glob("*.event.json")):
        event, old = json.loads(path.read_bytes()), path.name[:5]
        is_it = event["kind"] == "action" and event["action"]["action"] == name
        seen += is_it
        is_left_out = is_it and (seen > 1 or act == name)
        number += not is_left_out
        for each in [*custody.glob(f"{old}.*"), *folder.glob(f"data/stamps/*/{old}.proof")]:
            if is_left_out:
                each.unlink()
            else:
                each.rename(each.with_name(each.name.replace(old, f"{number:05d}")))


def test_a_decision_that_was_taken_back_does_not_stand() -> None:
    assert is_decided(["claim", "decide", "note"])
    assert not is_decided(["claim", "note"])
    assert not is_decided(["decide", "reopen"])
    assert not is_decided(["decide", "witness-withdraw", "witness-take-back"])
    assert is_decided(["decide", "reopen", "decide"])


def test_a_statement_of_the_witness_cannot_be_kept_back(bundle: Bundle, tmp_path: Path) -> None:
    found = lie(bundle, tmp_path, "data/statements/1.json", None)
    assert set(found) == {"policy"}
    # Nor with the policy that it brought.
    folder = bundle.copy(tmp_path / "both")
    (folder / "data/policies/1.json").unlink()
    (folder / "data/statements/1.json").unlink()
    (folder / "data/statements").rmdir()
    listed_anew(folder, bundle.leaving.reader.keys, lambda _fields: None)
    assert "The log tells of statements" in faults(bundle.check(folder))["policy"]


def test_another_root_proves_nothing(bundle: Bundle) -> None:
    from tests.support.ceremony import Ceremony

    with opened_bundle(bundle.folder, None) as entries:
        checks = check_bundle(read_contents(entries), Ceremony().first_root.to_bytes())
    assert faults(checks).keys() == {"directory", "receipt"}
    assert unchecked(checks).keys() == set(NAMES) - {"root", "files", "directory", "receipt"}
    with opened_bundle(bundle.folder, None) as entries:
        assert "root" in faults(check_bundle(read_contents(entries), b"{}"))
