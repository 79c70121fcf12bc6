"""Validation of people's names, in any script."""

import re
import unicodedata

from models.errors import InvalidName
from models.text import trim

MAX_LENGTH = 100
"""Maximum length of a name in code points, after trimming."""

# A flag of a region, such as Scotland's, is a black flag followed by tags (UTS 51, ED-14a).
_FLAG = re.compile("\U0001f3f4[\U000e0020-\U000e007e]+\U000e007f")
_JOINERS = frozenset("\u200c\u200d")
_FORGING = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
_VISIBLE = frozenset("LNPS")
_BLANK = frozenset("\u115f\u1160\u2800\u3164\uffa0")


def person_name(text: str) -> str:
    """Return the name in NFC without surrounding spaces and invisible marks.

    All scripts and symbols are valid. Characters that break a line or change the display of the
    surrounding text are invalid: control, format and bidirectional marks, private use, and lone
    surrogates. A name needs at least one visible character. The two joiners of category Cf are
    valid, because Persian and many Indic names need them. So are flags of regions.

    Raises:
        InvalidName: The text has no visible character, an invalid character, or is too long.
    """
    name = trim(unicodedata.normalize("NFC", text))
    plain = _FLAG.sub("", name)
    if any(unicodedata.category(c) in _FORGING and c not in _JOINERS for c in plain):
        raise InvalidName("A name cannot contain control or formatting characters.")
    if not any(unicodedata.category(c)[0] in _VISIBLE and c not in _BLANK for c in name):
        raise InvalidName("A name needs at least one visible character.")
    if len(name) > MAX_LENGTH:
        raise InvalidName(f"A name must have at most {MAX_LENGTH} characters.")
    return name
