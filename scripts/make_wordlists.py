# SPDX-License-Identifier: AGPL-3.0-or-later
"""Make the word lists of codenames (docs/protocol.md §7) from wordfreq's frequencies, the same on every run.

The lists are part of the protocol: once people keep codenames, a list may never change.
Run `python -m scripts.make_wordlists` to write them, `--check` to compare only.
"""

import re
import sys
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from statistics import median_high

from wordfreq import get_frequency_dict, top_n_list

from amana.protocol.codename import LIST_SIZE, normal_form

DENIED = Path(__file__).parent / "wordlists"
LISTS = Path(__file__).parents[1] / "backend" / "amana" / "protocol" / "wordlists"
SOURCE = """\
# {count} words for codenames, made by scripts/make_wordlists.py; never to be changed.
# Chosen from the word frequencies of wordfreq 3.1.1 by Robyn Speer and others
# (https://github.com/rspeer/wordfreq), whose data are under CC BY-SA 4.0 and draw on Google Books
# Ngrams (https://books.google.com/ngrams), Wikipedia, OPUS OpenSubtitles 2018
# (https://www.opensubtitles.org/), the Leeds Internet Corpus, ParaCrawl, SUBTLEX and other sources.
# SPDX-License-Identifier: CC-BY-SA-4.0
"""

# Names of people and places are as frequent in the neighbours' languages as in English, words are not.
NEIGHBOURS = [
    "cs",
    "da",
    "de",
    "es",
    "fi",
    "fr",
    "hu",
    "id",
    "it",
    "nl",
    "pl",
    "pt",
    "ro",
    "sv",
    "tr",
]
ENGLISH = re.compile("[a-z]{3,8}")
ENGLISH_RANKS = 30_000
OWN_RATIO = 10**0.8
FLOOR = 1e-8

# Without the letters whose spelling varies inside a word: hamza alone and on its seats, and the two ends ى and ه.
ARABIC = re.compile("[أإابتثجحخدذرزسشصضطظعغفقكلمنهوي]{2,6}[بتثجحخدذرزسشصضطظعغفقكلمنويةا]")
ARTICLE = "ال"
CLITICS = ("و", "ف", "ب", "ل", "ك", "س")
ARTICLE_FLOOR = 1e-7


def denied(language: str) -> tuple[frozenset[str], tuple[str, ...]]:
    """Return the denied words and the denied beginnings (written with a star)."""
    lines = (DENIED / f"{language}-denied.txt").read_text("utf-8").splitlines()
    entries = [entry for line in lines if not line.startswith("#") for entry in line.split()]
    words = frozenset(entry for entry in entries if not entry.endswith("*"))
    return words, tuple(entry[:-1] for entry in entries if entry.endswith("*"))


def english() -> Iterator[str]:
    """Yield common English words, the commonest first."""
    own = get_frequency_dict("en")
    others = [get_frequency_dict(language) for language in NEIGHBOURS]
    for word in top_n_list("en", ENGLISH_RANKS):
        if ENGLISH.fullmatch(word):
            foreign = median_high(other.get(word, FLOOR) for other in others)
            if own[word] > OWN_RATIO * max(foreign, FLOOR):
                yield word


def arabic() -> Iterator[str]:
    """Yield common Arabic nouns without the article, the commonest first.

    What also stands with the article is a noun or an adjective: that leaves out verbs, most names,
    and words that begin with a clitic.
    """
    own = get_frequency_dict("ar")
    found = []
    for word, bare in own.items():
        with_article = own.get(ARTICLE + word, 0.0)
        if not ARABIC.fullmatch(word) or word.startswith(ARTICLE) or with_article < ARTICLE_FLOOR:
            continue
        rest = word[1:]
        if word.startswith(CLITICS) and own.get(ARTICLE + rest, 0.0) > with_article:
            continue
        found.append((-(bare + with_article), word))
    yield from (word for _, word in sorted(found))


def near(form: str) -> tuple[set[str], set[str]]:
    """Return what a form becomes with one letter dropped, and with one letter made a blank."""
    places = range(len(form))
    dropped = {form[:i] + form[i + 1 :] for i in places}
    return dropped, {f"{form[:i]}?{form[i + 1 :]}" for i in places}


def choose(candidates: Iterable[str], language: str) -> list[str]:
    """Return the first candidates that are not denied and differ from each other by two edits or more."""
    words, beginnings = denied(language)
    chosen: list[str] = []
    forms: set[str] = set()
    all_dropped: set[str] = set()
    all_blanked: set[str] = set()
    for word in candidates:
        if word in words or word.startswith(beginnings):
            continue
        form = normal_form(word)
        dropped, blanked = near(form)
        if form in forms | all_dropped or dropped & forms or blanked & all_blanked:
            continue
        chosen.append(word)
        forms.add(form)
        all_dropped |= dropped
        all_blanked |= blanked
        if len(chosen) == LIST_SIZE:
            return sorted(chosen)
    raise SystemExit(f"only {len(chosen)} {language} words are left")


CANDIDATES = {"english": english, "arabic": arabic}
# A list without denied words would not be harmless, so it is not made.
MADE = [language for language in CANDIDATES if (DENIED / f"{language}-denied.txt").exists()]


def text(language: str) -> str:
    """Return the content of a list's file."""
    return SOURCE.format(count=LIST_SIZE) + "".join(
        f"{word}\n" for word in choose(CANDIDATES[language](), language)
    )


def main(arguments: list[str]) -> int:
    write = partial(Path.write_text, encoding="utf-8")
    stale = 0
    for language in MADE:
        path = LISTS / f"{language}.txt"
        made = text(language)
        if "--check" not in arguments:
            write(path, made)
        elif path.read_text("utf-8") != made:
            print(f"{path.name} is not what the script makes")
            stale = 1
    return stale


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
