"""A codename survives being written down and read aloud; a slip is noticed; its keys come from the number alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amana.protocol.codename import LIST_SIZE, Codename, normal_form, thread_keys, word_list
from amana.protocol.errors import ProtocolError

codenames = st.integers(0, 2**92 - 1).map(Codename)


@given(codenames)
def test_words_and_digits_give_the_same_codename_back(codename: Codename) -> None:
    assert len(codename.words("en").split()) == 8
    assert Codename.parse(codename.words("en")) == codename
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


def test_an_unknown_word_is_named_by_its_place_and_not_repeated() -> None:
    words = Codename(5).words("en").split()
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


def test_the_word_list_keeps_its_words_apart() -> None:
    words = word_list("en")
    assert len(words) == len(set(map(normal_form, words))) == LIST_SIZE
    assert list(words) == sorted(words)
    assert all(word.isascii() and word.islower() and 3 <= len(word) <= 8 for word in words)
    seen: dict[str, str] = {}
    for word in words:
        for form in edits(word):
            assert seen.setdefault(form, word) == word, (word, seen[form])


def test_the_script_makes_the_word_list_again() -> None:
    from scripts.make_wordlists import LISTS, text

    assert (LISTS / "english.txt").read_text("utf-8") == text("english")
