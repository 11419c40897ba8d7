"""Names of strangers' files: safe on any system, shown as they are, never twice, never another place."""

import unicodedata
from pathlib import PurePosixPath, PureWindowsPath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from amana.client.filenames import LIMIT_BYTES, safe_name

OVERRIDE, ISOLATE, POP = "\u202e", "\u2067", "\u2069"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("photo.jpg", "photo.jpg"),
        ("صورة من السقيفة.jpg", "صورة من السقيفة.jpg"),
        ("../../etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("/etc/shadow", "shadow"),
        ("C:\\Windows\\evil.dll", "evil.dll"),
        ("folder/", "file"),
        ("..", "file"),
        (".", "file"),
        ("", "file"),
        ("\0", "file"),
        ("a\0b.txt", "ab.txt"),
        ("a\r\nb\x1b[31m.txt", "ab[31m.txt"),
        (f"invoice{OVERRIDE}gpj.exe", "invoicegpj.exe"),
        (f"{ISOLATE}x{POP}.txt", "x.txt"),
        (".bashrc", "bashrc"),
        ("-rf", "rf"),
        ("~root", "root"),
        ("  a  .txt", "a.txt"),
        ("a.txt. .", "a.txt"),
        ("CON", "_CON"),
        ("con.txt", "_con.txt"),
        ("Lpt1 .log", "_Lpt1.log"),
        ("COM¹.txt", "_COM¹.txt"),
        ("console.txt", "console.txt"),
        ('a<b>c:d"e|f?g*.txt', "a_b_c_d_e_f_g_.txt"),
        ("stream.txt:hidden", "stream.txt_hidden"),
        ("a\u00a0b\u2003c.txt", "a b c.txt"),
        ("cafe\u0301.txt", "café.txt"),
        ("\ud800.txt", "txt"),
    ],
)
def test_a_name_is_made_safe(name: str, expected: str) -> None:
    assert safe_name(name) == expected


def test_a_long_name_is_cut_and_keeps_its_extension() -> None:
    assert safe_name("x" * 4096 + ".jpeg") == "x" * 115 + ".jpeg"
    arabic = safe_name("ش" * 4096 + ".mp4")
    assert arabic == "ش" * 58 + ".mp4"
    assert len(safe_name("x." + "y" * 4096).encode()) <= LIMIT_BYTES


def test_a_name_that_is_taken_gets_a_number() -> None:
    taken = {"photo.jpg"}
    assert safe_name("photo.jpg", taken) == "photo (2).jpg"
    assert safe_name("PHOTO.JPG", taken) == "PHOTO (2).JPG"
    assert safe_name("photo.jpg", {*taken, "photo (2).jpg"}) == "photo (3).jpg"
    assert safe_name("account.json", {"account.json"}) == "account (2).json"


letters = st.characters(codec=None)
odd = st.sampled_from(
    [*"/\\.-~ :*?<>|\"'\0\n\r\t", OVERRIDE, ISOLATE, POP, "\u200b", "\ufeff", "\ud83d"]
)
names = st.text(st.one_of(letters, odd), max_size=300) | st.text(odd)


@given(name=names)
@example("con" + " " * 200 + ".txt")
def test_whatever_a_name_was_it_leads_nowhere_and_shows_as_it_is(name: str) -> None:
    safe = safe_name(name)
    encoded = safe.encode("utf-8")
    assert 0 < len(encoded) <= LIMIT_BYTES
    assert PurePosixPath(safe).name == safe
    assert PureWindowsPath(safe).name == safe
    assert not PureWindowsPath(safe).drive
    assert not {unicodedata.category(letter) for letter in safe} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert not set(safe) & set('<>:"/\\|?*')
    assert safe[0] not in ".-~ "
    assert safe[-1] not in ". "
    assert safe.split(".")[0].rstrip().casefold() not in {
        "con",
        "prn",
        "aux",
        "nul",
        "com1",
        "lpt9",
    }


@given(
    given_names=st.lists(
        names | st.sampled_from(["a.txt", "A.TXT", "ａ.txt", "x" * 200]), max_size=12
    )
)
def test_no_two_names_are_the_same_on_any_file_system(given_names: list[str]) -> None:
    taken = {"account.json", "manifest.json"}
    for name in given_names:
        taken.add(safe_name(name, taken))
    assert len(taken) == len(given_names) + 2
    folded = {unicodedata.normalize("NFKC", one).casefold() for one in taken}
    assert len(folded) == len(taken)
    assert all(len(one.encode("utf-8")) <= LIMIT_BYTES for one in taken)
