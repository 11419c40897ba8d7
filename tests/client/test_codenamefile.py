"""A codename that is kept in a file counts its testimonies, so that no two share a control key."""

import json
import subprocess
import sys
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


def test_a_codename_that_was_typed_anew_goes_on_behind_what_was_sent_from_elsewhere(
    tmp_path: Path,
) -> None:
    kept = CodenameFile.open(tmp_path / "codename")
    kept.path.write_text(json.dumps({"codename": kept.codename.words(), "next": 0}))
    kept = CodenameFile.open(kept.path)
    assert kept.take_number(3) == 3
    assert kept.take_number(2) == 4, "never below what this file knows"
    assert CodenameFile.open(kept.path).next == 5


def test_a_codename_under_which_nothing_was_sent_does_not_stay(tmp_path: Path) -> None:
    kept = CodenameFile.open(tmp_path / "codename")
    kept.give_back(kept.take_number())
    assert list(tmp_path.iterdir()) == []
    # One that the witness brought stays.
    kept.path.write_text(json.dumps({"codename": kept.codename.words(), "next": 0}))
    kept = CodenameFile.open(kept.path)
    kept.give_back(kept.take_number())
    assert CodenameFile.open(kept.path).next == 0


def test_a_number_is_not_used_again_once_a_later_one_was_taken(tmp_path: Path) -> None:
    kept = CodenameFile.open(tmp_path / "codename")
    first = kept.take_number()
    other = CodenameFile.open(tmp_path / "codename")
    assert other.take_number() == first + 1
    kept.give_back(first)
    assert CodenameFile.open(kept.path).next == 2


_TAKE = """
import sys
from pathlib import Path
from amana.client.codenamefile import CodenameFile
kept = CodenameFile.open(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
print(*[kept.take_number() for _ in range(20)], kept.codename.digits().replace(" ", ""))
"""


def test_sendings_at_the_same_time_share_the_codename_and_no_number(tmp_path: Path) -> None:
    """All of them looked when no file was there."""
    commands = [
        subprocess.Popen(
            [sys.executable, "-c", _TAKE, str(tmp_path / "codename")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for one in commands:
        assert one.stdout is not None
        assert one.stdout.readline() == "ready\n"
    for one in commands:
        assert one.stdin is not None
        one.stdin.write("go\n")
        one.stdin.flush()
    said = [one.communicate()[0].split() for one in commands]
    assert sorted(int(n) for numbers in said for n in numbers[:-1]) == list(range(80))
    assert len({numbers[-1] for numbers in said}) == 1


def test_a_planted_draft_is_neither_followed_nor_written_to(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (tmp_path / "elsewhere").write_text("theirs")
    (folder / "codename.new").symlink_to(tmp_path / "elsewhere")
    kept = CodenameFile.open(folder / "codename")
    kept.take_number()
    assert (tmp_path / "elsewhere").read_text() == "theirs"
    assert not kept.path.is_symlink()
    assert kept.path.stat().st_mode & 0o777 == 0o600


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
