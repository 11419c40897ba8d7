"""A codename survives being written down and read aloud; a slip is noticed; its keys come from the number alone."""

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amana.protocol.codename import LIST_SIZE, LISTS, Codename, normal_form, thread_keys, word_list
from amana.protocol.errors import ProtocolError

codenames = st.integers(0, 2**92 - 1).map(Codename)


languages = pytest.mark.parametrize("language", LISTS)


@languages
@given(codename=codenames)
def test_words_and_digits_give_the_same_codename_back(language: str, codename: Codename) -> None:
    assert len(codename.words(language).split()) == 8
    assert Codename.parse(codename.words(language)) == codename
    assert Codename.parse(codename.digits()) == codename


@given(codenames)
def test_usual_spellings_are_understood(codename: Codename) -> None:
    words = codename.words("en")
    assert Codename.parse(f"  {words.upper().replace(' ', ' - ')}\n") == codename
    digits = codename.digits()
    arabic = digits.translate(str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩"))
    persian = digits.translate(str.maketrans("0123456789", "۰۱۲۳۴۵۶۷۸۹"))
    for text in (arabic, persian, digits.replace(" ", ""), digits.replace(" ", "-")):
        assert Codename.parse(text) == codename


# What people and keyboards make of Arabic letters, and the marks that come between them.
SPELLINGS = {"أ": "اٱإ", "إ": "اأ", "آ": "اأ", "ا": "أ", "ؤ": "و", "ئ": "ي", "ء": ["", "ٔ"]} | {
    "ة": "هەہ",
    "ه": "ھ",
    "ى": "يیې",
    "ي": "یى",
    "ك": "کﻙ",
    "و": "ﻭ",
    "م": "ﻡ",
}
BETWEEN = ["", "ـ", "َ", "ُّ", "ِ", "ْ", "ٰ", "\u200d", "\u200e", "\u2067"]
SEPARATORS = [" ", "\n", "، ", " - ", "\u200f ", "\u00a0", "\n٢. "]


@given(codenames, st.data())
def test_usual_spellings_of_arabic_are_understood(codename: Codename, data: st.DataObject) -> None:
    def spelled(character: str) -> str:
        if character == " ":
            return data.draw(st.sampled_from(SEPARATORS))
        letter = data.draw(st.sampled_from([character, *SPELLINGS.get(character, "")]))
        return letter + data.draw(st.sampled_from(BETWEEN))

    text = "".join(map(spelled, codename.words("ar")))
    form = data.draw(st.sampled_from(["NFC", "NFD", "NFKC", "NFKD"]))
    assert Codename.parse(unicodedata.normalize(form, text)) == codename


@given(codenames, st.integers(0, 29), st.integers(1, 9))
def test_every_single_wrong_digit_is_noticed(codename: Codename, place: int, by: int) -> None:
    digits = list(codename.digits().replace(" ", ""))
    digits[place] = str((int(digits[place]) + by) % 10)
    with pytest.raises(ProtocolError):
        Codename.parse("".join(digits))


@given(codenames, st.integers(0, 28))
def test_every_swap_of_neighbours_is_noticed(codename: Codename, place: int) -> None:
    digits = list(codename.digits().replace(" ", ""))
    if digits[place] == digits[place + 1]:
        return
    digits[place], digits[place + 1] = digits[place + 1], digits[place]
    with pytest.raises(ProtocolError):
        Codename.parse("".join(digits))


@languages
def test_an_unknown_word_is_named_by_its_place_and_not_repeated(language: str) -> None:
    words = Codename(5).words(language).split()
    words[2] = "canaryword"
    with pytest.raises(ProtocolError) as refused:
        Codename.parse(" ".join(words))
    assert "3" in str(refused.value)
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize("text", ["", "one two three", "1234", "x" * 5000, "1" * 30])
def test_what_is_no_codename_is_refused(text: str) -> None:
    with pytest.raises(ProtocolError):
        Codename.parse(text)


def test_the_secret_is_in_no_representation() -> None:
    codename = Codename.generate()
    shown = repr(codename) + repr(thread_keys(codename.master("amana-test")))
    assert str(codename.value) not in shown
    assert "AGE-SECRET" not in shown


def test_keys_depend_on_number_and_deployment_and_differ_for_each_testimony() -> None:
    codename = Codename(123456789)
    here, there = (thread_keys(codename.master(name)) for name in ("here", "there"))
    again = thread_keys(codename.master("here"))
    assert here.thread.public == again.thread.public != there.thread.public
    assert str(here.reply.recipient) == str(again.reply.recipient) != str(there.reply.recipient)
    controls = {here.control(n).public for n in range(4)} | {here.thread.public}
    assert len(controls) == 5


def edits(word: str) -> set[str]:
    """All words within one deletion, replacement or insertion, by a wildcard at the place."""
    holes = {word[:i] + "*" + word[i + 1 :] for i in range(len(word))}
    return holes | {word[:i] + "*" + word[i:] for i in range(len(word) + 1)} | {word}


@languages
def test_the_word_list_keeps_its_words_apart(language: str) -> None:
    words = word_list(language)
    assert len(words) == len(set(map(normal_form, words))) == LIST_SIZE
    assert list(words) == sorted(words)
    seen: dict[str, str] = {}
    for word in words:
        for form in edits(normal_form(word)):
            assert seen.setdefault(form, word) == word, (word, seen[form])


def test_english_words_are_plain_and_neither_short_nor_long() -> None:
    assert all(re.fullmatch("[a-z]{3,8}", word) for word in word_list("en"))


def test_arabic_words_are_plain_and_differ_by_more_than_a_swap_or_what_is_put_to_words() -> None:
    words = word_list("ar")
    assert all(re.fullmatch("(?!ال)[ء-غف-ي]{3,7}", word) for word in words)
    forms = set(map(normal_form, words))
    assert all(3 <= len(form) <= 7 for form in forms)
    assert len({re.sub("(?<=...)(يات|ات|يه|ه|ي)$", "", form) for form in forms}) == LIST_SIZE
    for form in forms:
        for i in range(len(form) - 1):
            swapped = form[:i] + form[i + 1] + form[i] + form[i + 2 :]
            assert swapped == form or swapped not in forms
        for clitic in ("ال", "وال", "بال", "فال", "كال", "لل", "وب", "ول"):
            assert clitic + form not in forms


def test_words_of_two_lists_are_no_codename() -> None:
    english, arabic = (Codename(7).words(language).split() for language in ("en", "ar"))
    for text in ([*english[:4], *arabic[4:]], [*arabic[:4], *english[4:]]):
        with pytest.raises(ProtocolError):
            Codename.parse(" ".join(text))


@languages
def test_the_script_makes_the_word_list_again(language: str) -> None:
    from scripts.make_wordlists import LISTS as FOLDER
    from scripts.make_wordlists import text

    name = LISTS[language]
    assert (FOLDER / f"{name}.txt").read_text("utf-8") == text(name)
