"""A codename that is kept in a file counts its testimonies, so that no two share a control key."""

import json
from pathlib import Path

import pytest

from amana.client.codenamefile import CodenameFile
from amana.client.errors import Usage
from amana.protocol.codename import Codename


def test_a_fresh_codename_is_written_when_its_first_number_is_taken(tmp_path: Path) -> None:
    kept = CodenameFile.open(tmp_path / "codename")
    assert not kept.path.exists()
    assert kept.take_number() == 0
    assert kept.path.stat().st_mode & 0o777 == 0o600
    again = CodenameFile.open(kept.path)
    assert again.codename == kept.codename
    assert again.take_number() == 1
    assert [path.name for path in tmp_path.iterdir()] == ["codename"]


def test_a_number_under_which_nothing_was_sent_is_used_again(tmp_path: Path) -> None:
    kept = CodenameFile.open(tmp_path / "codename")
    kept.take_number()
    kept.give_back(kept.take_number())
    assert CodenameFile.open(kept.path).take_number() == 1


def test_words_are_taken_as_well_as_digits(tmp_path: Path) -> None:
    codename = Codename.generate()
    path = tmp_path / "codename"
    path.write_text(json.dumps({"codename": codename.words(), "next": 3}))
    assert CodenameFile.open(path) == CodenameFile(path, codename, 3)


@pytest.mark.parametrize(
    ("content", "slug"),
    [
        (b"", "codename-file"),
        (b"\xff", "codename-file"),
        (b"[]", "codename-file"),
        (b'{"codename": 5, "next": 0}', "codename-file"),
        (b'{"codename": "12345 67890", "next": 0}', "codename-digits"),
        (b'{"codename": "one two", "next": 0}', "codename-words"),
        (b"[" * 4096, "codename-file"),
    ],
)
def test_what_is_no_codename_file_is_refused_and_kept(
    tmp_path: Path, content: bytes, slug: str
) -> None:
    path = tmp_path / "codename"
    path.write_bytes(content)
    with pytest.raises(Usage) as refused:
        CodenameFile.open(path)
    assert refused.value.slug == slug
    assert path.read_bytes() == content


@pytest.mark.parametrize("number", [-1, True, 1.0, "1", None, 10**9])
def test_a_count_that_is_none_is_refused(tmp_path: Path, number: object) -> None:
    path = tmp_path / "codename"
    path.write_text(json.dumps({"codename": Codename.generate().digits(), "next": number}))
    with pytest.raises(Usage):
        CodenameFile.open(path)


def test_a_folder_that_is_not_there_is_named_before_anything_is_sealed(tmp_path: Path) -> None:
    with pytest.raises(Usage):
        CodenameFile.open(tmp_path / "none" / "codename")
