"""A key file holds one person's keys, opens with their passphrase alone, and is never written over."""

import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from pathlib import Path

import pytest

from amana.client.errors import Usage
from amana.client.keyfile import (
    ROLES,
    WITH_INTAKE_KEY,
    PersonKeys,
    change_key,
    read_key,
    read_passphrase,
    write_key,
)
from amana.protocol.case import intake_key_id
from amana.protocol.encoding import b64, canonical, random_id
from amana.protocol.sealing import Identity, seal_with_passphrase
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
    with pytest.raises(Usage) as refused:
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
                {"former_intake_keys": ["AGE-SECRET-KEY-PQ-1"]},
                {"former_intake_keys": [{"identity": None, "left_on": None}]},
                {"former_intake_keys": [{"identity": str(Identity.generate())}]},
            )
        ),
        seal_with_passphrase(canonical(fields()), PHRASE, work_factor=QUICK)[:-1] + b"\0",
    ],
    ids=lambda _content: "content",
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


def test_a_replaced_key_stays_in_the_file_until_it_is_taken_out(tmp_path: Path) -> None:
    keys = PersonKeys.generate("reviewer")
    path = write_key(keys, tmp_path, PHRASE, work_factor=QUICK)
    changed = change_key(path, PHRASE, PersonKeys.renewed, work_factor=QUICK)
    [former] = changed.former
    assert str(former.identity) == str(keys.intake)
    assert former.kept_until is None
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    day = date(2026, 11, 24)
    for seen in (day, day + timedelta(days=9)):
        change_key(
            path, PHRASE, lambda there, seen=seen: there.not_listed_from(seen), work_factor=QUICK
        )
    [former] = read_key(path, PHRASE).former
    assert (former.left_on, former.kept_until) == (day, day + timedelta(days=45))
    assert read_key(path, PHRASE).identity_for(former.name) is not None
    change_key(path, PHRASE, lambda there: there.without({former.name}), work_factor=QUICK)
    assert read_key(path, PHRASE).former == ()
    assert list(tmp_path.iterdir()) == [path]


def test_a_key_that_waits_to_be_listed_is_not_replaced_by_another() -> None:
    listed = PersonKeys.generate("reviewer")
    assert listed.before is None
    waiting = listed.asking_instead_of(listed.intake_recipient)
    assert waiting.intake_recipient != listed.intake_recipient
    assert waiting.asking_instead_of(listed.intake_recipient) == waiting
    assert waiting.before is not None
    assert waiting.before.intake_recipient == listed.intake_recipient
    # Once it is listed, another is made in its place.
    seen = waiting.not_listed_from(date(2026, 1, 1))
    assert seen.before is None
    assert len(seen.asking_instead_of(seen.intake_recipient).former) == 2


def test_a_key_file_that_lacks_the_listed_key_gets_a_fresh_one() -> None:
    old = PersonKeys.generate("reviewer")
    listed = old.renewed()
    assert old.asking_instead_of(listed.intake_recipient).intake_recipient not in {
        old.intake_recipient,
        listed.intake_recipient,
    }


def test_commands_at_the_same_time_lose_no_key(tmp_path: Path) -> None:
    path = write_key(PersonKeys.generate("reviewer"), tmp_path, PHRASE, work_factor=QUICK)
    with ThreadPoolExecutor(4) as pool:
        made = list(
            pool.map(
                lambda _: change_key(path, PHRASE, PersonKeys.renewed, work_factor=QUICK), range(8)
            )
        )
    kept = read_key(path, PHRASE)
    names = {one.name for one in kept.former} | {intake_key_id(kept.intake_recipient)}
    assert {intake_key_id(one.intake_recipient) for one in made} <= names
    assert len(names) == 9


def test_a_link_to_a_key_file_stays_one(tmp_path: Path) -> None:
    """A second file with the keys would outlive the first one's destruction."""
    path = write_key(PersonKeys.generate("reviewer"), tmp_path / "stick", PHRASE, work_factor=QUICK)
    link = tmp_path / "mine.key"
    link.symlink_to(path)
    change_key(link, PHRASE, PersonKeys.renewed, work_factor=QUICK)
    assert link.is_symlink()
    assert len(read_key(path, PHRASE).former) == 1


def test_an_officer_has_no_key_that_opens(tmp_path: Path) -> None:
    keys = PersonKeys.generate("officer")
    write_key(keys, tmp_path, PHRASE, work_factor=QUICK)
    with pytest.raises(Usage) as refused:
        _ = keys.intake_recipient
    assert refused.value.slug == "no-intake-key"


def test_the_passphrase_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMANA_PASSPHRASE", PHRASE)
    assert read_passphrase() == PHRASE
