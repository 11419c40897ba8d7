"""Files that commands leave: for their owner alone, never over another, nothing half."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from amana.client.errors import Usage
from amana.client.newfile import refuse_taken, reserved, write_new


def test_a_new_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "new"
    refuse_taken(path)
    write_new(path, b"what")
    assert path.read_bytes() == b"what"
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_is_there_stays_as_it_is(tmp_path: Path) -> None:
    path, link = tmp_path / "there", tmp_path / "link"
    path.write_bytes(b"a key")
    link.symlink_to(tmp_path / "nowhere")
    for taken in (path, link):
        with pytest.raises(Usage) as error:
            refuse_taken(taken)
        assert error.value.slug == "file-exists"
        with pytest.raises(Usage) as error:
            write_new(taken, b"other")
        assert error.value.slug == "file-exists"
    assert path.read_bytes() == b"a key"
    assert not (tmp_path / "nowhere").exists()


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for path in (file / "below", tmp_path / "none" / "below"):
        with pytest.raises(Usage) as error:
            write_new(path, b"x")
        assert error.value.slug == "file-unusable"


def test_a_full_disk_leaves_nothing_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Usage) as error:
        write_new(tmp_path / "new", b"x")
    assert error.value.slug == "file-unusable"
    assert list(tmp_path.iterdir()) == []


def test_a_place_is_made_before_the_work_and_stays_only_with_what_was_written(
    tmp_path: Path,
) -> None:
    path = tmp_path / "new"
    with reserved(path) as write:
        assert path.stat().st_mode & 0o777 == 0o600
        with pytest.raises(Usage):
            refuse_taken(path)
        write(b"what")
    assert path.read_bytes() == b"what"
    path.unlink()
    with reserved(path):
        pass
    assert not path.exists()

    def write_and_fail(write: Callable[[bytes], None]) -> None:
        write(b"what")
        raise Usage("What follows cannot be done.")

    with pytest.raises(Usage), reserved(path) as write:
        write_and_fail(write)
    assert not path.exists()
    with pytest.raises(Usage) as error, reserved(tmp_path / "none" / "below"):
        raise AssertionError
    assert error.value.slug == "file-unusable"
