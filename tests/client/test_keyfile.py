"""A key file holds one person's keys, opens with their passphrase alone, and is never written over."""

import stat
from pathlib import Path

import pytest

from amana.client.errors import NotVerified, Usage
from amana.client.keyfile import (
    ROLES,
    WITH_INTAKE_KEY,
    PersonKeys,
    read_key,
    read_passphrase,
    write_key,
)
from amana.protocol.encoding import b64, canonical, random_id
from amana.protocol.sealing import seal_with_passphrase
from amana.protocol.signing import SigningKey

QUICK = 2
PHRASE = "عبارة مرور"


@pytest.mark.parametrize("role", ROLES)
def test_keys_come_back_from_their_file(tmp_path: Path, role: str) -> None:
    keys = PersonKeys.generate(role)
    path = write_key(keys, tmp_path / "keys", PHRASE, work_factor=QUICK)
    assert path == tmp_path / "keys" / f"{keys.id}.key"
    found = read_key(path, PHRASE)
    assert (found.id, found.role, found.signing.seed) == (keys.id, role, keys.signing.seed)
    assert (found.intake is not None) == (role in WITH_INTAKE_KEY)
    if role in WITH_INTAKE_KEY:
        assert found.intake_recipient == keys.intake_recipient


def test_only_its_owner_may_read_the_file_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = write_key(PersonKeys.generate("officer"), tmp_path / "keys", PHRASE, work_factor=QUICK)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert list(path.parent.iterdir()) == [path]


def test_the_file_does_not_show_what_is_in_it(tmp_path: Path) -> None:
    keys = PersonKeys.generate("reviewer")
    content = write_key(keys, tmp_path, PHRASE, work_factor=QUICK).read_bytes()
    assert content.startswith(b"age-encryption.org/v1\n-> scrypt ")
    for secret in (keys.id.encode(), b64(keys.signing.seed).encode(), b"AGE-SECRET-KEY"):
        assert secret not in content


def test_a_key_file_is_never_written_over(tmp_path: Path) -> None:
    keys = PersonKeys.generate("officer")
    path = write_key(keys, tmp_path, PHRASE, work_factor=QUICK)
    before = path.read_bytes()
    with pytest.raises(Usage) as refused:
        write_key(keys, tmp_path, "another", work_factor=QUICK)
    assert refused.value.slug == "key-exists"
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Usage) as refused:
        write_key(PersonKeys.generate("officer"), tmp_path / "file", PHRASE, work_factor=QUICK)
    assert refused.value.slug == "key-not-written"


@pytest.mark.parametrize("passphrase", ["", "عبارة", PHRASE + " "])
def test_a_wrong_passphrase_is_called_that(tmp_path: Path, passphrase: str) -> None:
    path = write_key(PersonKeys.generate("officer"), tmp_path, PHRASE, work_factor=QUICK)
    with pytest.raises(NotVerified) as refused:
        read_key(path, passphrase)
    assert refused.value.slug == "wrong-passphrase"


def fields() -> dict[str, object]:
    return {
        "v": 1,
        "role": "officer",
        "id": random_id(),
        "signing_seed": b64(SigningKey.generate().seed),
        "intake_identity": None,
    }


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"x" * 70_000,
        canonical(fields()),
        seal_with_passphrase(b"", PHRASE, work_factor=QUICK),
        seal_with_passphrase(b"[]", PHRASE, work_factor=QUICK),
        *(
            seal_with_passphrase(canonical(fields() | changes), PHRASE, work_factor=QUICK)
            for changes in (
                {"v": 2},
                {"role": "visitor"},
                {"id": "salma"},
                {"signing_seed": "AAAA"},
                {"signing_seed": None},
                {"intake_identity": "AGE-SECRET-KEY-1"},
                {"more": 1},
            )
        ),
        seal_with_passphrase(canonical(fields()), PHRASE, work_factor=QUICK)[:-1] + b"\0",
    ],
)
def test_something_else_than_a_key_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file.key"
    path.write_bytes(content)
    with pytest.raises(Usage) as refused:
        read_key(path, PHRASE)
    assert refused.value.slug == "bad-key-file"


def test_a_missing_key_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Usage) as refused:
        read_key(tmp_path / "none.key", PHRASE)
    assert refused.value.slug == "bad-key-file"


def test_keys_do_not_show_themselves(tmp_path: Path) -> None:
    keys = PersonKeys.generate("reviewer")
    write_key(keys, tmp_path, PHRASE, work_factor=QUICK)
    shown = repr(keys) + repr(keys.signing) + str(vars(keys)["signing"])
    assert b64(keys.signing.seed) not in shown
    assert "SECRET" not in shown


def test_an_officer_has_no_key_that_opens(tmp_path: Path) -> None:
    keys = PersonKeys.generate("officer")
    write_key(keys, tmp_path, PHRASE, work_factor=QUICK)
    with pytest.raises(Usage) as refused:
        _ = keys.intake_recipient
    assert refused.value.slug == "no-intake-key"


def test_the_passphrase_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMANA_PASSPHRASE", PHRASE)
    assert read_passphrase() == PHRASE
