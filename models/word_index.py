"""Search by word prefixes, with an index that works on both databases."""

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, and_, delete, insert, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from models.storage.base import Base
from models.storage.filtering import Selection
from models.text import LAST, words

MAX_WORDS: Final = 8
"""Maximum number of words used from a query. More words would add cost without precision."""
TERM_LENGTH: Final = 32
"""Maximum length of a search term. Longer words are cut."""


def terms(text: str) -> list[str]:
    """Return the search terms of a text."""
    return sorted({word[:TERM_LENGTH] for word in words(text)})


@dataclass(frozen=True, slots=True)
class WordIndex:
    """The search terms of rows of another table: `term` is one of the row with the id `row_id`."""

    table: type[Base]
    row_id: InstrumentedAttribute[int]
    term: InstrumentedAttribute[str]

    def replace(self, session: Session, row_id: int, text: str) -> None:
        """Replace the search terms of a row by the words of a text."""
        session.execute(delete(self.table).where(self.row_id == row_id))
        found = [{self.row_id.key: row_id, self.term.key: term} for term in terms(text)]
        if found:
            session.execute(insert(self.table), found)

    def asked_for(self, question: str, row_id: InstrumentedAttribute[int]) -> list[Selection]:
        """Return a selection for each word of a query: the rows with a word of that prefix.

        The list is empty if the query contains no word. In that case, the caller must match no row.
        """
        return [_Beginning(word, row_id, self) for word in words(question)[:MAX_WORDS]]


@dataclass(frozen=True, slots=True)
class _Beginning:
    """The selection of rows that have a word with a given prefix."""

    word: str
    row_id: InstrumentedAttribute[int]
    index: WordIndex

    @property
    def found(self) -> ColumnElement[bool]:
        return self.row_id.in_(select(self.index.row_id).where(self._span()))

    @property
    def checked(self) -> ColumnElement[bool]:
        own = select(self.index.term).where(self.index.row_id == self.row_id)
        # PostgreSQL can turn EXISTS into a join that starts with every match of the word. OFFSET
        # prevents this.
        return own.where(self._span()).offset(0).exists()

    def matches(self, _branch: ColumnElement[bool]) -> Select[Any]:
        return select(self.index.row_id).where(self._span()).order_by(self.index.term)

    def _span(self) -> ColumnElement[bool]:
        least = self.word[:TERM_LENGTH]
        return and_(self.index.term >= least, self.index.term < least + LAST)
