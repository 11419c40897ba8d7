# SPDX-License-Identifier: AGPL-3.0-or-later
"""Make the word lists of codenames (docs/protocol.md §7) from wordfreq's frequencies, the same on every run.

The lists are part of the protocol: once people keep codenames, a list may never change.
Run `python -m scripts.make_wordlists` to write them, `--check` to compare only.
"""

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from itertools import accumulate
from operator import itemgetter
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

ARTICLE = "ال"
# Letters of Arabic without tatweel; what begins like the article could be read as a word with it.
ARABIC = re.compile(f"(?!{ARTICLE})[ء-غف-ي]{{3,7}}")
ARABIC_FLOOR = 1e-7
ARTICLE_FLOOR = 1.4e-8
ARTICLE_RATIO = 0.003
# Endings of plurals and duals, and the ending that such a word has in another case.
INFLECTED = {"ين": "ون", "ون": "ين", "تان": "تين"}
INFLECTED_FLOOR = 1e-8
PERSON_FLOOR = 3e-8
# Endings of feminines, plurals and relations, in normal form: a list holds one word with the rest before them.
ENDING = re.compile("(?<=...)(?:يات|ات|يه|ه|ي)$")


def denied(language: str) -> tuple[frozenset[str], frozenset[str]]:
    """Return the denied words and the denied beginnings (written with a star)."""
    lines = (DENIED / f"{language}-denied.txt").read_text("utf-8").splitlines()
    entries = [entry for line in lines if not line.startswith("#") for entry in line.split()]
    words = frozenset(entry for entry in entries if not entry.endswith("*"))
    return words, frozenset(entry[:-1] for entry in entries if entry.endswith("*"))


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
    """Yield common Arabic nouns without the article and verbs with `ي`, the commonest first.

    What also stands with the article is a noun or an adjective: that leaves out most names and forms
    with a clitic. Of several spellings of a word the commonest is taken.
    """
    own = get_frequency_dict("ar")
    spelled: dict[str, tuple[float, str]] = {}
    for word, bare in own.items():
        frequency = bare + own.get(ARTICLE + word, 0.0)
        if frequency >= ARABIC_FLOOR and ARABIC.fullmatch(word):
            form = normal_form(word)
            spelled[form] = min((-frequency, word), spelled.get(form, (0.0, "")))
    for form, (_, word) in sorted(spelled.items(), key=itemgetter(1)):
        if len(form) >= 3 and (is_noun(word, own) or is_verb(word, own)):
            yield word


def is_noun(word: str, own: Mapping[str, float]) -> bool:
    """Tell whether a word takes the article, and is neither a sound masculine plural nor a feminine dual."""
    inflected = len(word) >= 5 and any(
        word.endswith(ending)
        and own.get(ARTICLE + word.removesuffix(ending) + other, 0.0) >= INFLECTED_FLOOR
        for ending, other in INFLECTED.items()
    )
    least = max(ARTICLE_FLOOR, ARTICLE_RATIO * own[word])
    return not inflected and own.get(ARTICLE + word, 0.0) >= least


def is_verb(word: str, own: Mapping[str, float]) -> bool:
    """Tell whether a word is a verb of the present that is as common of her and of them."""
    stem = word[:-1] if word[-1] in "يىو" else word
    return (
        word.startswith("ي")
        and len(word) >= 4
        and own[word] >= ARABIC_FLOOR
        and own.get("ت" + word[1:], 0.0) >= PERSON_FLOOR
        and own.get(stem + "ون", 0.0) >= INFLECTED_FLOOR
    )


def near(form: str) -> tuple[set[str], set[str]]:
    """Return what a form becomes with one letter dropped, and with one letter made a blank."""
    places = range(len(form))
    dropped = {form[:i] + form[i + 1 :] for i in places}
    return dropped, {f"{form[:i]}?{form[i + 1 :]}" for i in places}


def choose(candidates: Iterable[str], language: str) -> list[str]:
    """Return the first candidates that are not denied, differ by two edits or more and by more than an ending."""
    words, beginnings = denied(language)
    chosen: list[str] = []
    forms: set[str] = set()
    stems: set[str] = set()
    all_dropped: set[str] = set()
    all_blanked: set[str] = set()
    for word in candidates:
        if word in words or not beginnings.isdisjoint(accumulate(word)):
            continue
        form = normal_form(word)
        stem = ENDING.sub("", form)
        dropped, blanked = near(form)
        if stem in stems or form in forms or form in all_dropped:
            continue
        if dropped & forms or blanked & all_blanked:
            continue
        chosen.append(word)
        forms.add(form)
        stems.add(stem)
        all_dropped |= dropped
        all_blanked |= blanked
        if len(chosen) == LIST_SIZE:
            return sorted(chosen)
    raise SystemExit(f"only {len(chosen)} {language} words are left")


CANDIDATES = {"english": english, "arabic": arabic}


def text(language: str) -> str:
    """Return the content of a list's file."""
    return SOURCE.format(count=LIST_SIZE) + "".join(
        f"{word}\n" for word in choose(CANDIDATES[language](), language)
    )


def main(arguments: list[str]) -> int:
    write = partial(Path.write_text, encoding="utf-8")
    stale = 0
    for language in CANDIDATES:
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
