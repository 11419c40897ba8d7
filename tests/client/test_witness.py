"""What is sealed to whom: a witness's testimony as its readers find it, and what stays behind when sealing fails."""

import hashlib
import io
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from amana.client import witness
from amana.client.cleaning import CannotClean
from amana.client.errors import Usage
from amana.client.statefile import StateFile
from amana.client.witness import Apart, attached_name, choose_attachments, choose_consent
from amana.protocol.codename import Codename, thread_keys
from amana.protocol.encoding import random_id
from amana.protocol.errors import CannotOpen
from amana.protocol.identity import identity_document
from amana.protocol.manifest import Manifest
from amana.protocol.policy import parse_policy
from amana.protocol.sealing import Identity, Kind, open_sealed, open_stream
from amana.protocol.submission import Submission
from amana.protocol.vault import combine, open_share, parse_shares
from tests.support.attachments import jpeg
from tests.support.readers import ACCOUNT, DEPLOYMENT, DeskInMemory


@pytest.fixture(params=["memory", "disk"], autouse=True)
def private(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """The place where plaintext copies come to lie; nothing may stay there."""
    folder = tmp_path / "private"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    memory = folder if request.param == "memory" else tmp_path / "missing"
    monkeypatch.setattr(witness, "MEMORY_FOLDER", memory)
    yield folder
    assert list(folder.iterdir()) == []


def test_every_chosen_reader_opens_the_same_case_and_finds_the_account(tmp_path: Path) -> None:
    desk = DeskInMemory()
    submission, _ = desk.seal(tmp_path)
    keys, manifest = desk.open(submission)
    assert len({str(key) for key in keys.values()}) == 1
    [case_key, *_] = keys.values()
    assert open_sealed(submission.account, case_key, Kind.ACCOUNT) == ACCOUNT
    assert (manifest.case, manifest.deployment) == (submission.case.decode(), DEPLOYMENT)
    assert manifest.directory == 7
    assert manifest.policy_sha256 == parse_policy(submission.policy).sha256
    [account] = manifest.objects
    assert account.sha256 == hashlib.sha256(ACCOUNT).hexdigest()
    assert account.sealed_sha256 == hashlib.sha256(submission.account).hexdigest()


def test_the_client_draws_the_readers_anew_and_always_takes_the_lead(tmp_path: Path) -> None:
    desk = DeskInMemory(draw=1)
    drawn = set()
    for n in range(40):
        keys, _ = desk.open(desk.seal(tmp_path / str(n))[0])
        assert len(keys) == 2
        assert desk.lead in keys
        drawn |= keys.keys()
    assert drawn == desk.readers.keys()


def test_flags_keep_out_who_does_not_take_them(tmp_path: Path) -> None:
    desk = DeskInMemory(draw=0)
    keys, _ = desk.open(desk.seal(tmp_path, flags=("minor",))[0])
    assert set(keys) == {desk.lead}


def test_a_desk_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Usage) as refused:
        DeskInMemory().seal(tmp_path, desk="nowhere")
    assert refused.value.slug == "desk-unknown"


def test_testimonies_of_one_codename_share_nothing_that_the_server_sees(tmp_path: Path) -> None:
    desk, codename = DeskInMemory(draw=0), Codename.generate()
    first, _ = desk.seal(tmp_path / "1", codename=codename, number=0)
    second, _ = desk.seal(tmp_path / "2", codename=codename, number=1)
    assert first.case != second.case
    assert parse_policy(first.policy).control != parse_policy(second.policy).control
    threads = {desk.open(one)[1].thread for one in (first, second)}
    assert threads == {thread_keys(codename.master(DEPLOYMENT)).thread.public}


def test_the_policy_says_what_the_witness_decided(tmp_path: Path) -> None:
    submission, _ = DeskInMemory().seal(
        tmp_path,
        scopes={"review": "allow", "iiim": "ask"},
        identity_level="pseudonym",
        withdrawal_delay_days=30,
        flags=("urgent", "minor"),
        language="ar-SY",
    )
    policy = parse_policy(submission.policy)
    assert policy.scopes == {"review": "allow", "iiim": "ask"}
    assert policy.identity_level == "pseudonym"
    assert policy.withdrawal_delay_days == 30
    assert policy.flags == ("minor", "urgent")
    assert policy.language == "ar-SY"
    assert policy.consent_text == "c1.ar"


def test_an_account_too_long_for_one_request_is_uploaded_as_object_0(tmp_path: Path) -> None:
    desk = DeskInMemory()
    account = b'{"text":"' + b"x" * 200_000 + b'"}'
    submission, state = desk.seal(tmp_path, account=account)
    assert submission.account == b""
    keys, manifest = desk.open(submission)
    assert manifest.objects[0].kind == "account"
    opened = io.BytesIO()
    with state.sealed_path(0).open("rb") as sealed:
        digests = open_stream(sealed, opened, next(iter(keys.values())))
    assert opened.getvalue() == account
    assert digests.sealed_sha256 == manifest.objects[0].sealed_sha256


def test_a_photo_is_sent_without_its_metadata_under_its_own_name(tmp_path: Path) -> None:
    photo = tmp_path / "صورة.jpg"
    jpeg(photo)
    desk = DeskInMemory()
    submission, state = desk.seal(tmp_path, photo)
    keys, manifest = desk.open(submission)
    described = manifest.objects[1]
    assert (described.name, described.mime, described.cleaned) == ("صورة.jpg", "image/jpeg", True)
    assert described.derived_from == hashlib.sha256(photo.read_bytes()).hexdigest()
    assert described.sha256 != described.derived_from
    opened = io.BytesIO()
    with state.sealed_path(1).open("rb") as sealed:
        open_stream(sealed, opened, next(iter(keys.values())))
    assert b"Exif" not in opened.getvalue()
    assert hashlib.sha256(opened.getvalue()).hexdigest() == described.sha256


def test_a_file_whose_metadata_is_kept_is_sent_byte_for_byte(tmp_path: Path) -> None:
    scan = tmp_path / "scan.pdf"
    scan.write_bytes(b"%PDF-1.7 " + os.urandom(100_000))
    desk = DeskInMemory()
    submission, state = desk.seal(tmp_path, scan, keep=(scan,))
    keys, manifest = desk.open(submission)
    assert len(manifest.objects) == 2
    described = manifest.objects[1]
    assert (described.cleaned, described.derived_from) == (False, None)
    assert described.mime == "application/pdf"
    opened = io.BytesIO()
    with state.sealed_path(1).open("rb") as sealed:
        open_stream(sealed, opened, next(iter(keys.values())))
    assert opened.getvalue() == scan.read_bytes()


def test_what_cannot_be_cleaned_is_not_sent_and_leaves_no_copy(tmp_path: Path) -> None:
    photo, scan = tmp_path / "photo.jpg", tmp_path / "scan.pdf"
    jpeg(photo)
    scan.write_bytes(b"%PDF-1.7")
    with pytest.raises(CannotClean):
        DeskInMemory().seal(tmp_path, photo, scan)


def test_a_photo_that_was_cut_leaves_no_copy(tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    jpeg(photo)
    photo.write_bytes(photo.read_bytes()[:900])
    with pytest.raises(CannotClean):
        DeskInMemory().seal(tmp_path, photo)


def test_a_name_of_bytes_that_are_no_text_is_still_a_name(tmp_path: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe-voice.bin"))
    odd.write_bytes(b"x")
    desk = DeskInMemory()
    _, manifest = desk.open(desk.seal(tmp_path, keep=(odd,))[0])
    assert manifest.objects[1].name == "\ufffd\ufffd-voice.bin"


@pytest.mark.parametrize("name", ["a" * 300, "ش" * 255, "\u202egpj.exe", "con"])
def test_a_name_is_kept_as_it_is_up_to_255_characters(name: str) -> None:
    assert attached_name(Path("/some/where") / name) == name[:255]


def test_a_file_is_sent_once_however_often_it_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x")
    link = tmp_path / "link"
    link.symlink_to(path)
    chosen = choose_attachments([path, path, link], [path])
    assert [(one.path.resolve(), one.keep_metadata) for one in chosen] == [(path, True)]


def test_more_than_63_files_are_refused(tmp_path: Path) -> None:
    paths = [tmp_path / str(n) for n in range(64)]
    for path in paths:
        path.write_bytes(b"x")
    assert len(choose_attachments(paths[:63], [])) == 63
    with pytest.raises(Usage) as refused:
        choose_attachments(paths, [])
    assert refused.value.slug == "too-many-attachments"


def test_a_folder_is_no_attachment(tmp_path: Path) -> None:
    with pytest.raises(Usage):
        choose_attachments([tmp_path], [])


def test_nobody_consents_to_a_text_in_another_language() -> None:
    directory = DeskInMemory().directory().directory
    assert choose_consent(directory, "ar-SY").id == "c1.ar"
    with pytest.raises(Usage) as refused:
        choose_consent(directory, "kmr")
    assert refused.value.slug == "no-consent-text"
    assert "c1.en (en)" in refused.value.title
    assert choose_consent(directory, "kmr", "c1.en").text == "I agree"
    with pytest.raises(Usage):
        choose_consent(directory, "ar", "c2.ar")


def test_a_large_copy_does_not_fill_the_memory(tmp_path: Path, private: Path) -> None:
    del private
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    with witness.private_folder(free // 2) as folder:
        assert folder.parent == Path(tempfile.gettempdir())
        assert folder.stat().st_mode & 0o777 == 0o700


# The vault

WHO = identity_document({"name": "[SYNTHETIC] سناء"})


def custodians(n: int = 3, k: int = 2) -> DeskInMemory:
    return DeskInMemory(k=k, custodians={random_id(): Identity.generate() for _ in range(n)})


def vault_key(
    desk: DeskInMemory, submission: Submission, manifest: Manifest, name: str
) -> Identity:
    """Put a vault's key together as k custodians could, every whole set giving the same."""
    case = submission.case.decode()
    [made] = [one for one in parse_shares(submission.shares) if one.entry.vault == name]
    assert made.entry == manifest.vault(name)
    shares: dict[tuple[str, ...], list[bytes]] = {}
    for (subset, custodian), sealed in zip(made.entry.places, made.shares, strict=True):
        opened = open_share(
            sealed,
            desk.custodians[custodian],
            case=case,
            vault=name,
            custodian=custodian,
            subset=subset,
        )
        shares.setdefault(subset, []).append(opened)
    keys = {combine(one, made.entry.key).seed for one in shares.values()}
    [seed] = keys
    return Identity.from_seed(seed)


def opened(state: StateFile, i: int, key: Identity) -> bytes:
    out = io.BytesIO()
    with state.sealed_path(i).open("rb") as sealed:
        open_stream(sealed, out, key)
    return out.getvalue()


def test_who_the_witness_is_and_originals_lie_under_two_keys_of_custodians(tmp_path: Path) -> None:
    photo, scan = tmp_path / "photo.jpg", tmp_path / "scan.pdf"
    jpeg(photo)
    scan.write_bytes(b"%PDF-1.7 " + os.urandom(1000))
    desk = custodians()
    submission, state = desk.seal(tmp_path, photo, keep=(scan,), apart=Apart(WHO))
    keys, manifest = desk.open(submission)
    kinds = [one.kind for one in manifest.objects]
    assert kinds == ["account", "file", "file", "identity", "original"]
    assert [(one.vault, one.objects) for one in manifest.vaults] == [
        ("identity", (3,)),
        ("originals", (4,)),
    ]
    identity = vault_key(desk, submission, manifest, "identity")
    originals = vault_key(desk, submission, manifest, "originals")
    assert opened(state, 3, identity) == WHO
    assert opened(state, 4, originals) == photo.read_bytes()
    assert manifest.objects[4].sha256 == manifest.objects[1].derived_from
    [case_key, *_] = keys.values()
    for wrong, i in ((case_key, 3), (case_key, 4), (identity, 4), (originals, 3), (identity, 1)):
        with pytest.raises(CannotOpen):
            opened(state, i, wrong)
    # Nobody reads out of the manifest who it is, nor how long the name.
    described = manifest.objects[3]
    assert (described.name, described.len) == ("identity.json", 8192)


def test_originals_are_kept_where_there_are_custodians_and_the_witness_did_not_say_no(
    tmp_path: Path,
) -> None:
    photo = tmp_path / "photo.jpg"
    jpeg(photo)
    for place, desk, apart, vaults in (
        ("with", custodians(), Apart(), ["originals"]),
        ("no", custodians(), Apart(originals=False), []),
        ("only", custodians(), Apart(WHO, originals=False), ["identity"]),
        ("without", DeskInMemory(), Apart(), []),
        ("one", custodians(1, 1), Apart(), []),
    ):
        submission, _ = desk.seal(tmp_path / place, photo, apart=apart)
        _, manifest = desk.open(submission)
        assert [one.vault for one in manifest.vaults] == vaults, place
        assert manifest.objects[1].derived_from == hashlib.sha256(photo.read_bytes()).hexdigest()
    words = custodians().seal(tmp_path / "words")[0]
    assert words.shares == b"[]"


def test_an_identity_is_refused_where_nobody_or_one_alone_could_keep_it(tmp_path: Path) -> None:
    for place, desk in (
        ("nobody", DeskInMemory()),
        ("one", custodians(1, 1)),
        ("k1", custodians(3, 1)),
    ):
        with pytest.raises(Usage) as refused:
            desk.seal(tmp_path / place, apart=Apart(WHO))
        assert refused.value.slug == "no-custodians"


def test_one_file_under_two_names_is_kept_once(tmp_path: Path) -> None:
    photo, copy = tmp_path / "photo.jpg", tmp_path / "copy.jpg"
    jpeg(photo)
    copy.write_bytes(photo.read_bytes())
    desk = custodians()
    _, manifest = desk.open(desk.seal(tmp_path, photo, copy)[0])
    assert [one.kind for one in manifest.objects] == ["account", "file", "file", "original"]


def test_files_that_leave_no_room_for_their_originals_are_refused(tmp_path: Path) -> None:
    photos = []
    for n in range(32):
        photo = tmp_path / f"{n}.jpg"
        jpeg(photo)
        photo.write_bytes(photo.read_bytes() + bytes([n]))
        photos.append(photo)
    desk = custodians()
    with pytest.raises(Usage) as refused:
        desk.seal(tmp_path / "many", *photos)
    assert refused.value.slug == "too-many-attachments"
    _, manifest = desk.open(desk.seal(tmp_path / "fits", *photos[:31], apart=Apart(WHO))[0])
    assert len(manifest.objects) == 64


@pytest.mark.parametrize(("n", "k"), [(2, 2), (5, 3), (5, 5)])
def test_whoever_the_custodians_are_every_set_of_them_opens(tmp_path: Path, n: int, k: int) -> None:
    desk = custodians(n, k)
    submission, state = desk.seal(tmp_path, apart=Apart(WHO))
    _, manifest = desk.open(submission)
    assert opened(state, 1, vault_key(desk, submission, manifest, "identity")) == WHO
