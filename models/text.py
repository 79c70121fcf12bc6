"""Text as people type, search and sort it, regardless of case and Unicode representation."""

import re
import unicodedata
from functools import cache

from pyuca.collator import Collator_10_0_0
from sqlalchemy import String

LAST = "\U0010ffff"
"""Upper bound for prefix searches: a noncharacter that sorts after every other character."""
COLLATION_KEY_LENGTH = 2560
"""Maximum length of a collation key: PostgreSQL indexes up to 2,704 bytes a row. Names of 200
characters have shorter keys, unless they consist of ligatures or of letters with many accents."""

# Letters whose accent is not a character of its own in any normalization form, and ligatures.
_BASES = str.maketrans(
    {"\u0131": "i", "ø": "o", "ł": "l", "đ": "d", "ħ": "h", "æ": "ae", "œ": "oe"}
)
# Characters that change only how their neighbours look: joiners, variation selectors, soft hyphen.
_INVISIBLE = re.compile("[\u00ad\u034f\u200c\u200d\u2060\ufe00-\ufe0f]")
_TRIMMED = frozenset({"Zs", "Cf"})
_TAGS = "\U000e0000"
_LEAST_ACCENT = 0x20
"""The smallest secondary weight, which is that of letters without an accent."""


def trim(text: str) -> str:
    """Return a text without blanks, tabs and invisible marks around it.

    Tags are kept, because flags of regions end with them.
    """
    edges = {c for c in text if c == "\t" or unicodedata.category(c) in _TRIMMED}
    return text.strip("".join(c for c in edges if c < _TAGS)) if edges else text


def words(text: str) -> list[str]:
    """Return the distinct words of a text, without case and accents.

    A word is a run of letters, their combining marks and digits (as in UAX #29).
    """
    plain = _without_accents(_INVISIBLE.sub("", text))
    spaced = "".join(each if _is_of_word(each) else " " for each in plain)
    found = (word for word in spaced.split() if any(map(str.isalnum, word)))
    return list(dict.fromkeys(found))


def collation_key(text: str) -> str:
    """Return a key whose code points sort as the text: first by its letters, then by its accents.

    The order is the one of the Unicode Collation Algorithm (UTS #10) with its default table,
    without case. The key is ASCII.
    """
    weights = _collator().sort_key(text)
    letters = weights.index(0)
    accents = weights.index(0, letters + 1)
    while weights[accents - 1] == _LEAST_ACCENT:
        # Keys are the shorter, and sort alike: nothing is less than a letter without an accent.
        accents -= 1
    return "".join(f"{weight:04x}" for weight in weights[:accents])[:COLLATION_KEY_LENGTH]


def sortable(length: int) -> String:
    """Return a column type that sorts text by code point on both databases.

    SQLite does so by default. PostgreSQL needs the collation "C", because its default depends on
    the locale of the database.
    """
    return String(length).with_variant(String(length, collation="C"), "postgresql")


@cache
def _collator() -> Collator_10_0_0:
    """Read the table of weights, which takes half a second."""
    return Collator_10_0_0()


def _without_accents(text: str) -> str:
    """Return a case-folded NFKC form without accents and vowel points.

    Marks that form a different letter or syllable are kept: vowel signs and viramas of Indic and
    Thai scripts, and the voicing of kana.
    """
    folded = unicodedata.normalize("NFKC", text).casefold().translate(_BASES)
    letters = unicodedata.normalize("NFKD", folded)
    return unicodedata.normalize("NFKC", "".join(each for each in letters if not _is_accent(each)))


def _is_accent(character: str) -> bool:
    """Return whether a mark's combining class is that of an overlay, a point or an accent.

    The classes 10 to 36 are Hebrew and Arabic points; those from 200 place accents around letters
    (Unicode Standard, section 4.3).
    """
    place = unicodedata.combining(character)
    return place == 1 or 10 <= place <= 36 or place >= 200  # noqa: PLR2004 - as documented.


def _is_of_word(character: str) -> bool:
    return character.isalnum() or unicodedata.category(character).startswith("M")
