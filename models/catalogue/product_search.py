"""Product search by word prefixes, with an index that works on both databases."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, ForeignKey, Index, Select, and_, delete, select
from sqlalchemy.orm import InstrumentedAttribute, Mapped, Session, mapped_column

from models.catalogue.text import LAST, sortable, words
from models.storage.base import Base
from models.storage.filtering import Selection

MAX_WORDS = 8
"""Maximum number of words used from a query. More words would add cost without precision."""

_TERM_LENGTH = 32


class ProductTerm(Base):
    """A searchable word of a product's name or SKU."""

    __tablename__ = "product_terms"

    product_id: Mapped[int] = mapped_column(ForeignKey("products.id"), primary_key=True)
    term: Mapped[str] = mapped_column(sortable(_TERM_LENGTH), primary_key=True)

    __table_args__ = (Index(None, "term", "product_id"),)


def terms(text: str) -> list[str]:
    """Return the search terms of a text."""
    return sorted({word[:_TERM_LENGTH] for word in words(text)})


def index_product(session: Session, product_id: int, text: str) -> None:
    """Replace the search terms of a product with the words of a text."""
    session.execute(delete(ProductTerm).where(ProductTerm.product_id == product_id))
    session.add_all(ProductTerm(product_id=product_id, term=term) for term in terms(text))


@dataclass(frozen=True, slots=True)
class _Beginning:
    """The selection of products that have a word with a given prefix."""

    word: str
    product_id: InstrumentedAttribute[int]

    @property
    def found(self) -> ColumnElement[bool]:
        return self.product_id.in_(select(ProductTerm.product_id).where(self._span()))

    @property
    def checked(self) -> ColumnElement[bool]:
        own = select(ProductTerm.term).where(ProductTerm.product_id == self.product_id)
        # PostgreSQL can turn EXISTS into a join that starts with every match of the word. OFFSET
        # prevents this.
        return own.where(self._span()).offset(0).exists()

    def matches(self, _branch: ColumnElement[bool]) -> Select[Any]:
        return select(ProductTerm.product_id).where(self._span()).order_by(ProductTerm.term)

    def _span(self) -> ColumnElement[bool]:
        least = self.word[:_TERM_LENGTH]
        return and_(ProductTerm.term >= least, ProductTerm.term < least + LAST)


def asked_for(question: str, product_id: InstrumentedAttribute[int]) -> list[Selection]:
    """Return a selection for each word of a query: the products that have a word with that prefix.

    The list is empty if the query contains no word. In that case, the caller must match no product.
    """
    return [_Beginning(word, product_id) for word in words(question)[:MAX_WORDS]]
