"""Text as it is compared: without regard to case and to how Unicode writes a character."""

import re
import unicodedata

from sqlalchemy import String

_WORD = re.compile(r"[^\W_]+")
LAST = "\U0010ffff"
"""Sorts behind every text that goes on from a prefix; no character has this code."""


def fold(text: str) -> str:
    """Give the form in which texts are equal that people take for equal."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def words(text: str) -> list[str]:
    """Split a text at what is neither letter nor digit; every word once, folded."""
    return list(dict.fromkeys(_WORD.findall(fold(text))))


def sortable(length: int) -> String:
    """A column whose texts have the same order everywhere: that of their code points.

    SQLite compares so by itself, PostgreSQL as the language of the database says.
    """
    return String(length).with_variant(String(length, collation="C"), "postgresql")
