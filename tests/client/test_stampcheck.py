"""What a bundle's time stamps show to whoever trusts their authority; one that does not hold is named, whoever signed it."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509

from amana.client.bundle import opened_bundle
from amana.client.bundlecheck import check_bundle, read_contents
from amana.client.directory import read_root
from amana.client.errors import NotVerified
from amana.client.keyfile import write_key
from amana.client.log import from_server
from amana.client.stamps import Placed, fetch_stamps
from amana.client.transport import Transport
from amana.client.verify import Check
from amana.protocol.checkpoint import Checkpoint, Note, sign_checkpoint
from amana.protocol.merkle import leaf_hash
from amana.protocol.receipt import leaf
from amana.protocol.tlogproof import TlogProof
from tests.support.authority import Authority
from tests.support.bundles import Bundle, bundle_in, faults, listed_anew
from tests.support.server import PASSPHRASE, amana

FIRST = "data/stamps/1/"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bundle]:
    with bundle_in(tmp_path_factory.mktemp("bundle")) as made:
        yield made


def check(bundle: Bundle, folder: Path, *trusted: x509.Certificate) -> Check:
    """Check a folder for which its maker signed anew, whatever lies in it; nothing but the stamps may be wrong."""
    listed_anew(folder, bundle.leaving.reader.keys, lambda _fields: None)
    with opened_bundle(folder, None) as entries:
        checks = check_bundle(read_contents(entries), bundle.root, trusted)
    assert set(faults(checks)) <= {"stamps"}
    return next(one for one in checks if one.name == "stamps")


def refused(bundle: Bundle, folder: Path) -> str:
    found = check(bundle, folder, bundle.authority.root)
    assert found.ok is False, found.detail
    return found.detail


def test_it_says_in_words_until_when_the_case_existed(bundle: Bundle, tmp_path: Path) -> None:
    folder = bundle.copy(tmp_path / "copy")
    found = check(bundle, folder, bundle.authority.root)
    events = len(list((folder / "data/custody").glob("*.event.json")))
    stamped = len(list((folder / "data/stamps").glob("*/*.proof")))
    assert 0 < stamped < events
    assert f"; {stamped} of {events} events are stamped; " in found.detail
    assert found.detail.startswith("the testimony existed at the latest on 20")
    assert " UTC, says Clock of the Tests; " in found.detail
    assert found.ok


def test_a_partner_sees_it_where_they_name_the_authority(bundle: Bundle, tmp_path: Path) -> None:
    root = tmp_path / "root.json"
    root.write_bytes(bundle.root)
    key = write_key(bundle.partner, tmp_path, PASSPHRASE, work_factor=4)
    arguments = [
        *("partner", "receive", bundle.made.file, "--root", root, "--key", key, "--json"),
        *("--receipt", tmp_path / "receipt.json", "--out", tmp_path / "out"),
    ]
    pem = bundle.authority.folder / "root.pem"
    wrong = amana(*arguments, "--authority", key, check=2)
    assert wrong.stderr.startswith("timestamp-")
    assert not (tmp_path / "out").exists()
    checks = json.loads(amana(*arguments, "--authority", pem).stdout)["checks"]
    [stamps] = [one for one in checks if one["name"] == "stamps"]
    assert stamps["ok"]
    assert " UTC, says Clock of the Tests; " in stamps["detail"]


def test_whom_nobody_vouched_for_does_not_count_and_is_no_fault(
    bundle: Bundle, tmp_path: Path
) -> None:
    folder = bundle.copy(tmp_path / "copy")
    for trusted in ((), (Authority(tmp_path / "other").root,)):
        found = check(bundle, folder, *trusted)
        assert found.ok is None
        assert "it holds stamps of Clock of the Tests" in found.detail


def test_a_program_reads_that_no_stamp_counted_and_that_it_is_no_fault(
    bundle: Bundle, tmp_path: Path
) -> None:
    root = tmp_path / "root.json"
    root.write_bytes(bundle.root)
    arguments = ("verify", "bundle", bundle.folder, "--root", root)
    document = json.loads(amana(*arguments, "--json").stdout)
    assert document["verified"] is True
    assert all(one["ok"] for one in document["checks"])
    [not_checked] = document["not_checked"]
    assert (not_checked["name"], not_checked.keys()) == ("stamps", {"name", "detail"})
    assert [one[:2] for one in amana(*arguments).stdout.splitlines() if "When it" in one] == ["- "]
    folder = bundle.copy(tmp_path / "copy")
    (folder / "data/files/1.bin").unlink()
    (folder / "data/files/1.bin").symlink_to("/dev/null")
    document = json.loads(
        amana("verify", "bundle", folder, "--root", root, "--json", check=3).stdout
    )
    assert document["verified"] is False
    told = {one["name"]: one["ok"] for one in document["checks"]}
    assert (told["files"], told["ciphertext"]) == (False, True)
    assert "content" in {one["name"] for one in document["not_checked"]}
    assert all(one.keys() == {"name", "ok", "detail"} for one in document["checks"])


def test_a_bundle_without_stamps_shows_no_time_and_is_no_fault(
    bundle: Bundle, tmp_path: Path
) -> None:
    folder = bundle.copy(tmp_path / "copy")
    for path in sorted((folder / "data/stamps").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (folder / "data/stamps").rmdir()
    found = check(bundle, folder, bundle.authority.root)
    assert (found.ok, found.detail) == (None, "no independent time stamp: the bundle holds none")


def test_a_stamp_of_another_hash_or_checkpoint_is_named(bundle: Bundle, tmp_path: Path) -> None:
    folder = bundle.copy(tmp_path / "a")
    (folder / FIRST / "clock.tsr").write_bytes(bundle.authority.stamp(b"something else"))
    assert f"{FIRST}clock.tsr: The time stamp is of something else." in refused(bundle, folder)
    folder = bundle.copy(tmp_path / "b")
    (folder / FIRST / "clock.tsr").write_bytes((folder / "data/stamps/2/clock.tsr").read_bytes())
    assert f"{FIRST}clock.tsr: The time stamp is of something else." in refused(bundle, folder)


def stamp_by(folder: Path, authority: Authority) -> None:
    """Put another authority's stamp over the same checkpoint into its place."""
    place = folder / FIRST
    (place / "clock.tsr").write_bytes(authority.stamp((place / "checkpoint").read_bytes()))
    chain = ("own", "middle", "root")
    (place / "clock.pem").write_bytes(
        b"".join((authority.folder / f"{one}.pem").read_bytes() for one in chain)
    )


def test_an_expired_chain_is_named_also_where_nobody_trusts_it(
    bundle: Bundle, tmp_path: Path
) -> None:
    late = Authority(tmp_path / "late", name="Late Clock", own_days=(-10, -1))
    folder = bundle.copy(tmp_path / "copy")
    stamp_by(folder, late)
    assert "was not valid at the time that the stamp names" in refused(bundle, folder)
    assert check(bundle, folder).ok is False
    assert check(bundle, folder, late.root).ok is False


def test_of_two_authorities_the_one_that_is_trusted_counts(bundle: Bundle, tmp_path: Path) -> None:
    other = Authority(tmp_path / "other", name="Another Clock")
    folder = bundle.copy(tmp_path / "copy")
    stamp_by(folder, other)
    found = check(bundle, folder, bundle.authority.root)
    assert found.ok is None
    assert found.detail.startswith("no independent time stamp of the arrival; ")
    assert found.detail.endswith("; not counted: stamps of Another Clock")
    both = check(bundle, folder, bundle.authority.root, other.root)
    assert "says Another Clock" in both.detail
    assert "not counted" not in both.detail


def test_a_chain_that_is_another_is_named(bundle: Bundle, tmp_path: Path) -> None:
    place = f"{FIRST}clock.pem"
    parts = {
        name: (bundle.authority.folder / f"{name}.pem").read_bytes()
        for name in ("own", "middle", "root")
    }
    twin = Authority(tmp_path / "twin")
    for number, chain in enumerate(
        (
            parts["root"],
            parts["middle"] + parts["root"],
            parts["own"] + parts["middle"],
            parts["own"] + parts["root"] + parts["middle"],
            parts["own"] + parts["middle"] + parts["root"] + parts["root"],
            parts["own"] + parts["middle"] + (twin.folder / "root.pem").read_bytes(),
            b"# a word\n" + parts["own"] + parts["middle"] + parts["root"],
            b"",
        )
    ):
        folder = bundle.copy(tmp_path / str(number))
        (folder / place).write_bytes(chain)
        assert FIRST in refused(bundle, folder), number


def test_every_part_of_a_stamp_has_to_be_there(bundle: Bundle, tmp_path: Path) -> None:
    names = sorted(one.name for one in (bundle.folder / FIRST).iterdir())
    assert {"checkpoint", "clock.pem", "clock.tsr", "00001.proof"} <= set(names)
    for name in ("checkpoint", "clock.pem", "clock.tsr"):
        folder = bundle.copy(tmp_path / name)
        (folder / FIRST / name).unlink()
        assert "lacks a part" in refused(bundle, folder)
    folder = bundle.copy(tmp_path / "proofs")
    for path in (folder / FIRST).glob("*.proof"):
        path.unlink()
    assert "lacks a part" in refused(bundle, folder)
    folder = bundle.copy(tmp_path / "counted")
    (folder / FIRST).rename(folder / "data/stamps/7")
    assert "not counted from 1" in refused(bundle, folder)


def test_a_proof_of_another_event_place_or_tree_is_named(bundle: Bundle, tmp_path: Path) -> None:
    own = (bundle.folder / FIRST / "00001.proof").read_bytes()
    other = (bundle.folder / "data/custody/00001.proof").read_bytes()
    second = sorted((bundle.folder / FIRST).glob("*.proof"))[-1].read_bytes()
    assert own != second
    parsed = TlogProof.parse(own)
    forged = TlogProof(parsed.index, (bytes(32), *parsed.hashes[1:]), parsed.checkpoint)
    words = TlogProof(parsed.index, parsed.hashes, parsed.checkpoint, b"a word")
    for number, changed in enumerate((other, second, bytes(forged), bytes(words), b"")):
        folder = bundle.copy(tmp_path / str(number))
        (folder / FIRST / "00001.proof").write_bytes(changed)
        refused(bundle, folder)
    folder = bundle.copy(tmp_path / "nobody")
    (folder / FIRST / "00099.proof").write_bytes(own)
    assert "about something else" in refused(bundle, folder)


def test_a_checkpoint_that_the_log_did_not_sign_is_named(bundle: Bundle, tmp_path: Path) -> None:
    checkpoint = (bundle.folder / FIRST / "checkpoint").read_bytes()
    for number, (old, new) in enumerate(((b"/custody\n", b"/other\n"), (b"\n\n", b"x\n\n"))):
        folder = bundle.copy(tmp_path / str(number))
        (folder / FIRST / "checkpoint").write_bytes(checkpoint.replace(old, new, 1))
        refused(bundle, folder)


def restamped(bundle: Bundle, folder: Path, note: Note, proofs: Mapping[str, bytes]) -> None:
    """Put another checkpoint into the first folder, with a good stamp over it, and these proofs alone."""
    place = folder / FIRST
    for path in place.glob("*.proof"):
        path.unlink()
    (place / "checkpoint").write_bytes(bytes(note))
    (place / "clock.tsr").write_bytes(bundle.authority.stamp(bytes(note)))
    for name, proof in proofs.items():
        (place / name).write_bytes(proof)


def test_a_stamped_checkpoint_without_its_logs_signature_shows_nothing(
    bundle: Bundle, tmp_path: Path
) -> None:
    folder = bundle.copy(tmp_path / "copy")
    proof = TlogProof.parse((folder / FIRST / "00001.proof").read_bytes())
    [signature] = proof.checkpoint.signatures
    forged = Note(proof.checkpoint.text, (replace(signature, signature=bytes(64)),))
    restamped(bundle, folder, forged, {"00001.proof": bytes(replace(proof, checkpoint=forged))})
    refused(bundle, folder)


def test_a_log_that_forks_cannot_give_an_event_another_place(
    bundle: Bundle, tmp_path: Path
) -> None:
    folder = bundle.copy(tmp_path / "copy")
    stem = folder / "data/custody/00002"
    secret = bytes.fromhex(Path(f"{stem}.key").read_text("ascii"))
    entry = leaf(Path(f"{stem}.event.json").read_bytes(), secret)
    origin = TlogProof.parse(Path(f"{stem}.proof").read_bytes()).origin
    key = bundle.leaving.organisation.services.secrets.custody_log
    note = sign_checkpoint(key, Checkpoint(origin, 1, leaf_hash(entry)))
    restamped(bundle, folder, note, {"00002.proof": bytes(TlogProof(0, (), note))})
    assert "another place" in refused(bundle, folder)


@pytest.mark.parametrize("name", ["clock.tsr", "clock.pem", "checkpoint", "00001.proof"])
def test_a_flipped_bit_of_a_stamp_is_named_or_changes_nothing(
    bundle: Bundle, tmp_path: Path, name: str
) -> None:
    folder = bundle.copy(tmp_path / "copy")
    said = check(bundle, folder, bundle.authority.root).detail
    data = (folder / FIRST / name).read_bytes()
    for place in range(0, len(data), max(1, len(data) // 12)):
        changed = bytearray(data)
        changed[place] ^= 1 << (place % 8)
        (folder / FIRST / name).write_bytes(bytes(changed))
        with opened_bundle(folder, None) as entries:
            # The hashes name it, whatever it is.
            told = faults(check_bundle(read_contents(entries), bundle.root))
        assert f"{FIRST}{name} was altered" in told["files"]
        found = check(bundle, folder, bundle.authority.root)
        assert found.ok is False or found.detail == said, place


# Fetching them


def fetched(bundle: Bundle, change: Mapping[str, bytes | None]) -> dict[str, bytes]:
    """Fetch the stamps over the events of the bundle from the service, with some of its answers changed."""
    key = read_root(bundle.root).custody_log
    events = []
    for path in sorted((bundle.folder / "data/custody").glob("*.event.json")):
        stem = str(path).removesuffix(".event.json")
        proof = TlogProof.parse(Path(f"{stem}.proof").read_bytes())
        secret = bytes.fromhex(Path(f"{stem}.key").read_text("ascii"))
        events.append(
            Placed(int(path.name[:5]), leaf(path.read_bytes(), secret), key.name, proof.index)
        )
    with bundle.leaving.organisation.served() as url, Transport(url) as transport:
        ask = from_server(transport)

        def fetch(path: str, limit: int) -> bytes | None:
            for end, content in change.items():
                if path.endswith(end):
                    return content
            return ask(path, limit)

        return fetch_stamps(fetch, [key], events)


def test_what_a_service_says_of_stamps_is_not_believed(bundle: Bundle) -> None:
    there = {
        one.relative_to(bundle.folder).as_posix(): one.read_bytes()
        for one in (bundle.folder / "data/stamps").rglob("*")
        if one.is_file()
    }
    assert fetched(bundle, {}) == there
    for change in (
        {".tsr": b"<html>"},
        {".tsr": bundle.authority.stamp(b"another")},
        {".pem": b""},
        {".pem": None},
        {"/checkpoint": None},
        {"/checkpoint": b"x"},
        {"stamps/0": b"\xff\n../../x clock\n0 clock\n99999999999999999999 clock\n"},
        {"stamps/0": None},
    ):
        assert fetched(bundle, change) == {}, change


def test_a_log_that_does_not_hold_what_it_had_stamped_is_refused(bundle: Bundle) -> None:
    with pytest.raises(NotVerified) as error:
        fetched(bundle, {"tile/0/000.p/1": bytes(32), "tile/0/000": bytes(32 * 256)} | tiles())
    assert error.value.slug == "log-tampered"


def tiles() -> dict[str, bytes | None]:
    return {f"tile/0/000.p/{width}": bytes(32 * width) for width in range(1, 256)}
