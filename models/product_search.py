"""Finding products by the beginnings of words, through an index that both databases have."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, ForeignKey, Index, Select, and_, delete, select
from sqlalchemy.orm import InstrumentedAttribute, Mapped, Session, mapped_column

from models.base import Base
from models.narrowing import Selection
from models.text import LAST, sortable, words

MAX_WORDS = 8
"""Words of a question that count; more would make it dear without making it any clearer."""

_TERM_LENGTH = 32


class ProductTerm(Base):
    """A word of a product's name or SKU, by which it is found."""

    __tablename__ = "product_terms"

    product_id: Mapped[int] = mapped_column(ForeignKey("products.id"), primary_key=True)
    term: Mapped[str] = mapped_column(sortable(_TERM_LENGTH), primary_key=True)

    __table_args__ = (Index(None, "term", "product_id"),)


def index_product(session: Session, product_id: int, text: str) -> None:
    """Write the words anew by which a product is found."""
    session.execute(delete(ProductTerm).where(ProductTerm.product_id == product_id))
    terms = {word[:_TERM_LENGTH] for word in words(text)}
    session.add_all(ProductTerm(product_id=product_id, term=term) for term in sorted(terms))


@dataclass(frozen=True, slots=True)
class _Beginning:
    """The selection of products with a word that begins as one does that is asked for."""

    word: str
    product_id: InstrumentedAttribute[int]

    @property
    def found(self) -> ColumnElement[bool]:
        return self.product_id.in_(select(ProductTerm.product_id).where(self._span()))

    @property
    def checked(self) -> ColumnElement[bool]:
        own = select(ProductTerm.term).where(ProductTerm.product_id == self.product_id)
        # PostgreSQL turns EXISTS into a join, which could begin with all that the word finds; a
        # query with OFFSET stays where it is.
        return own.where(self._span()).offset(0).exists()

    def matches(self, _branch: ColumnElement[bool]) -> Select[Any]:
        return select(ProductTerm.product_id).where(self._span()).order_by(ProductTerm.term)

    def _span(self) -> ColumnElement[bool]:
        least = self.word[:_TERM_LENGTH]
        return and_(ProductTerm.term >= least, ProductTerm.term < least + LAST)


def asked_for(question: str, product_id: InstrumentedAttribute[int]) -> list[Selection]:
    """Give a selection for each word of a question: of the products with one that begins so.

    What has no word in it finds nothing, so the caller has to ask for nothing then.
    """
    return [_Beginning(word, product_id) for word in words(question)[:MAX_WORDS]]
