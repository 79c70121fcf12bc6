"""Names of people, as people write them."""

import unicodedata

from models.errors import InvalidName

MAX_LENGTH = 100
"""Code points in the longest name, after trimming."""

_JOINERS = frozenset("\u200c\u200d")
_FORGING = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
_VISIBLE = frozenset("LNPS")
_BLANK = frozenset("\u115f\u1160\u2800\u3164\uffa0")


def person_name(text: str) -> str:
    """Give the name in NFC without surrounding white space.

    Every script and symbol is welcome. Refused are characters that break a line or change how the
    text around them is shown (control, format and bidirectional marks, private use, lone
    surrogates), and names without anything to see. The two joiners of category Cf stay: Persian
    and many Indic names cannot be spelled without them.

    Raises:
        InvalidName: the text is empty, too long or holds a forbidden character.
    """
    if any(unicodedata.category(c) in _FORGING and c not in _JOINERS for c in text):
        raise InvalidName("A name cannot hold control or formatting characters.")
    name = unicodedata.normalize("NFC", text).strip()
    if not any(unicodedata.category(c)[0] in _VISIBLE and c not in _BLANK for c in name):
        raise InvalidName("A name needs at least one visible character.")
    if len(name) > MAX_LENGTH:
        raise InvalidName(f"A name has at most {MAX_LENGTH} characters.")
    return name
