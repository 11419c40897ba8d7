# SPDX-License-Identifier: AGPL-3.0-or-later
"""The codename that a witness keeps, and the keys it gives (docs/protocol.md §7); it opens no testimony."""

import re
import secrets
import unicodedata
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from amana.protocol.encoding import tagged_sha256
from amana.protocol.errors import ProtocolError
from amana.protocol.sealing import Identity
from amana.protocol.signing import SigningKey

RANDOM_BITS: Final = 92
CHECK_BITS: Final = 4
WORD_BITS: Final = 12
WORDS: Final = 8
LIST_SIZE: Final = 2**WORD_BITS
DIGITS: Final = 29  # 96 bits need 29 decimal digits; the Damm digit is the 30th.
DIGIT_GROUP: Final = 5
MAX_TEXT: Final = 1024
LISTS: Final = {"en": "english", "ar": "arabic"}

# The quasigroup of order 10 in H. M. Damm's thesis (2004): finds every single wrong digit and every
# swap of neighbours.
_DAMM: Final = (
    (0, 3, 1, 7, 5, 9, 8, 6, 4, 2),
    (7, 0, 9, 2, 1, 5, 4, 8, 6, 3),
    (4, 2, 0, 6, 8, 7, 1, 3, 5, 9),
    (1, 7, 5, 0, 9, 8, 3, 4, 2, 6),
    (6, 1, 2, 3, 0, 4, 5, 9, 7, 8),
    (3, 6, 7, 4, 2, 0, 9, 5, 8, 1),
    (5, 8, 6, 9, 7, 2, 0, 1, 3, 4),
    (8, 9, 4, 5, 3, 6, 2, 0, 1, 7),
    (9, 4, 3, 8, 6, 1, 7, 2, 0, 5),
    (2, 5, 8, 1, 4, 3, 6, 7, 9, 0),
)
# Hamza on its seats and the letters of Persian and Kurdish keyboards; NFKD has taken the marks off
# before. A dotless i is what a Turkish keyboard makes of a capital I.
_LETTERS: Final = str.maketrans(
    {"ى": "ي", "ی": "ي", "ې": "ي", "ة": "ه", "ہ": "ه", "ھ": "ه", "ە": "ه", "ک": "ك"}
    | {"ٱ": "ا", "ء": None, "ـ": None, "ı": "i"}
)
_DIGITS: Final = str.maketrans("٠١٢٣٤٥٦٧٨٩۰۱۲۳۴۵۶۷۸۹", "01234567890123456789")


class CodenameRefused(ProtocolError):
    """What was given is not a codename; `position` counts the words from 1 where one is unknown."""

    slug = "codename-check"
    title = "This is not a codename: its check does not fit. Are all parts there, in their order?"

    def __init__(
        self, slug: str | None = None, title: str | None = None, position: int | None = None
    ) -> None:
        super().__init__(slug, title)
        self.position = position


def _plain(text: str) -> str:
    """Drop case, marks above letters, and characters that only steer the direction of writing."""
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    return "".join(c for c in decomposed if unicodedata.category(c) not in {"Mn", "Cf"})


def normal_form(word: str) -> str:
    """Return the form in which words are compared, the same for all spellings that people use."""
    return _plain(word).translate(_LETTERS)


@cache
def word_list(language: str) -> tuple[str, ...]:
    """Return the 4096 words of a language (`en`, `ar`), sorted."""
    try:
        path = files("amana.protocol") / "wordlists" / f"{LISTS[language]}.txt"
        lines = path.read_text("utf-8").splitlines()
    except (KeyError, FileNotFoundError):
        raise CodenameRefused(
            "codename-words", "There is no word list for this language."
        ) from None
    return tuple(line for line in lines if not line.startswith("#"))


@cache
def _indices(language: str) -> dict[str, int]:
    return {normal_form(word): index for index, word in enumerate(word_list(language))}


def _check(value: int) -> int:
    return tagged_sha256("amana-codename-check-v1", value.to_bytes(12, "big"))[0] >> 4


def _damm(digits: str) -> int:
    interim = 0
    for digit in digits:
        interim = _DAMM[interim][int(digit)]
    return interim


@dataclass(frozen=True)
class Codename:
    """92 random bits that a witness keeps as words or as digits; `repr` does not show them."""

    value: int = field(repr=False)

    def __post_init__(self) -> None:
        if not 0 <= self.value < 2**RANDOM_BITS:
            raise CodenameRefused

    @classmethod
    def generate(cls) -> "Codename":
        return cls(secrets.randbits(RANDOM_BITS))

    @classmethod
    def parse(cls, text: str) -> "Codename":
        """Read words or digits, whichever `text` holds."""
        if any(character.isalpha() for character in text[:MAX_TEXT]):
            return cls.from_words(text)
        return cls.from_digits(text)

    @classmethod
    def from_words(cls, text: str) -> "Codename":
        """Read 8 words of one list, in any usual spelling; an unknown word is named by its place only."""
        _check_length(text, "codename-words")
        words = [word for word in re.split(r"[\W\d_]+", normal_form(text)) if word]
        if len(words) != WORDS:
            raise CodenameRefused("codename-words", f"A codename has {WORDS} words.")
        indices = _indices("en" if words[0].isascii() else "ar")
        checked = 0
        for position, word in enumerate(words, start=1):
            if word not in indices:
                raise CodenameRefused(
                    "codename-words",
                    f"Word {position} is not in the list; is it spelled as you were shown it?",
                    position,
                )
            checked = checked << WORD_BITS | indices[word]
        return cls._from_checked(checked)

    @classmethod
    def from_digits(cls, text: str) -> "Codename":
        """Read 30 digits, European, Arabic or Persian, with any spaces or hyphens between them."""
        _check_length(text, "codename-digits")
        digits = re.sub(r"[\s\-‐‑‒–—−]", "", _plain(text).translate(_DIGITS))
        if not re.fullmatch(f"[0-9]{{{DIGITS + 1}}}", digits):
            raise CodenameRefused("codename-digits", f"A codename has {DIGITS + 1} digits.")
        if _damm(digits):
            raise CodenameRefused(
                "codename-digits", "A digit is wrong, or two digits are in each other's place."
            )
        return cls._from_checked(int(digits[:DIGITS]))

    @classmethod
    def _from_checked(cls, checked: int) -> "Codename":
        value = checked >> CHECK_BITS
        if value >= 2**RANDOM_BITS or _check(value) != checked & (2**CHECK_BITS - 1):
            raise CodenameRefused
        return cls(value)

    @property
    def _checked(self) -> int:
        return self.value << CHECK_BITS | _check(self.value)

    def words(self, language: str = "en") -> str:
        """Return the 8 words, separated by spaces."""
        words = word_list(language)
        shifts = range(WORD_BITS * (WORDS - 1), -1, -WORD_BITS)
        return " ".join(words[self._checked >> shift & (LIST_SIZE - 1)] for shift in shifts)

    def digits(self) -> str:
        """Return the 30 digits in groups of five, separated by spaces."""
        digits = f"{self._checked:0{DIGITS}d}"
        digits += str(_damm(digits))
        starts = range(0, len(digits), DIGIT_GROUP)
        return " ".join(digits[start : start + DIGIT_GROUP] for start in starts)

    def master(self, deployment: str) -> bytes:
        """Derive the 32 bytes from which all keys of this codename at `deployment` come (RFC 9106)."""
        salt = tagged_sha256("amana-codename-v1", deployment.encode("utf-8"))[:16]
        argon = Argon2id(salt=salt, length=32, iterations=2, lanes=1, memory_cost=19456)
        return argon.derive(self.value.to_bytes(12, "big"))


def _check_length(text: str, slug: str) -> None:
    if len(text) > MAX_TEXT:
        raise CodenameRefused(slug, "This is too long to be a codename.")


@dataclass(frozen=True)
class ThreadKeys:
    """The keys of a codename at one deployment."""

    reply: Identity = field(repr=False)
    """Opens the replies."""
    thread: SigningKey
    """Signs manifests, so that readers see what came under the same codename."""
    _master: bytes = field(repr=False)

    def control(self, n: int) -> SigningKey:
        """Return the key that signs policy and control statements of testimony `n` = 0, 1, …"""
        if n < 0:
            raise ValueError("testimonies are counted from 0")
        return SigningKey(_derive(self._master, f"control/{n}"))


def thread_keys(master: bytes) -> ThreadKeys:
    """Derive the keys of a codename from its master (HKDF-SHA256, RFC 5869)."""
    reply = Identity.from_seed(_derive(master, "reply"))
    return ThreadKeys(reply, SigningKey(_derive(master, "thread")), master)


def _derive(master: bytes, label: str) -> bytes:
    hkdf = HKDF(SHA256(), length=32, salt=b"amana-thread-v1", info=label.encode("ascii"))
    return hkdf.derive(master)
