"""The server's own keys: made once, never weak, never readable by others; those of tokens change without a restart."""

import os
import threading
from pathlib import Path

import pytest

from amana.api.secrets import (
    NAMES,
    PREVIOUS_TOKENS,
    SecretsUnusable,
    TokenKeys,
    load_secrets,
    rotate_tokens,
)
from tests.support.server import amana


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    load_secrets(tmp_path / "secrets", create=True)
    return tmp_path / "secrets"


def test_keys_are_made_once_and_for_their_owner_alone(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(before) == set(NAMES)
    assert len(set(before.values())) == len(NAMES)
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    load_secrets(folder, create=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


WEAK = {
    "empty": b"",
    "short": bytes(range(31)),
    "long": bytes(range(33)),
    "zeros": bytes(32),
    "one word": b"secret\n" * 4 + b"secr",
    "a default": b"changeme" * 4,
    "counted": bytes(range(32)),
    "counted down in steps": bytes(range(255, 159, -3)),
    "a typed line": b"correct horse battery staple 4711"[:32],
    "an encoded key": b"0123456789abcdef0f1e2d3c4b5a6978",
}


@pytest.mark.parametrize("weak", WEAK)
@pytest.mark.parametrize("name", [*NAMES, PREVIOUS_TOKENS])
def test_nothing_starts_with_a_weak_key(folder: Path, name: str, weak: str) -> None:
    path = folder / name
    path.write_bytes(WEAK[weak])
    path.chmod(0o600)
    with pytest.raises(SecretsUnusable):
        load_secrets(folder, create=True)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_nothing_starts_with_a_key_that_others_can_read_or_write(folder: Path, mode: int) -> None:
    (folder / "tokens").chmod(mode)
    with pytest.raises(SecretsUnusable):
        load_secrets(folder, create=True)


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_key_is_not_made_unless_asked_for(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(SecretsUnusable):
        load_secrets(folder)


def test_no_key_is_in_what_is_printed_of_them(folder: Path) -> None:
    secrets = load_secrets(folder)
    assert str(secrets.capability) not in repr(secrets)
    assert "capability=" not in repr(secrets)


def test_running_servers_see_a_new_key_and_keep_the_one_before(folder: Path) -> None:
    running, verifying = TokenKeys(folder), TokenKeys(folder)
    names, keys = [], []
    for _ in range(3):
        name, key = running.current()
        names.append(name)
        keys.append(key)
        rotate_tokens(folder)
    assert verifying.find(names[0]) is None, "it only ever verified, and had this one"
    name, key = TokenKeys(folder).current()
    assert running.find(name) == key
    assert running.find(names[2]) == keys[2]
    assert running.find(names[1]) is None
    assert running.find(names[0]) is None
    assert len({*names, name}) == 4
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


@pytest.mark.parametrize("name", [None, "", "00000000", 7])
def test_what_names_no_key_finds_none(folder: Path, name: object) -> None:
    assert TokenKeys(folder).find(name) is None


def test_a_name_says_nothing_of_its_key(folder: Path) -> None:
    name, key = TokenKeys(folder).current()
    assert name not in key.hex()


def test_threads_that_sign_while_keys_change_always_have_a_key(folder: Path) -> None:
    running, faults = TokenKeys(folder), []
    done = threading.Event()

    def sign() -> None:
        while not done.is_set():
            try:
                name, key = running.current()
                assert len(name) == 8
                assert len(key) == 32
            except Exception as fault:
                faults.append(fault)

    threads = [threading.Thread(target=sign) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        rotate_tokens(folder)
    done.set()
    for thread in threads:
        thread.join()
    assert not faults


def test_the_commands_say_what_is_wrong_with_a_key(tmp_path: Path) -> None:
    data = tmp_path / "data"
    missing = amana("rotate-tokens", "--data", data, check=1)
    assert missing.stderr.startswith("Error: The key 'tokens' is missing")
    amana("migrate", "--data", data)
    (data / "secrets" / "tokens").write_bytes(bytes(32))
    for command in ("migrate", "maintain", "rotate-tokens", "serve"):
        weak = amana(command, "--data", data, check=1)
        assert "Error: The key 'tokens' is not 32 random bytes." in weak.stderr, command
        assert "Traceback" not in weak.stderr


def test_a_new_key_has_the_mode_of_the_one_that_it_replaces(folder: Path) -> None:
    # As the services' copies are laid down (docs/operating.md).
    (folder / "tokens").chmod(0o400)
    for _ in range(2):
        rotate_tokens(folder)
        for name in ("tokens", PREVIOUS_TOKENS):
            assert (folder / name).stat().st_mode & 0o777 == 0o400
    assert {path.name for path in folder.iterdir()} == {*NAMES, PREVIOUS_TOKENS}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_new_key_that_root_makes_is_for_the_services_own_user(folder: Path) -> None:
    other = 54321
    for path in (folder, *folder.iterdir()):
        os.chown(path, other, other)
    amana("rotate-tokens", "--data", folder.parent)
    for name in ("tokens", PREVIOUS_TOKENS):
        found = (folder / name).stat()
        assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (other, other, 0o600)
