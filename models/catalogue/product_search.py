"""The searchable words of products."""

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from models.storage.base import Base
from models.text import sortable
from models.word_index import TERM_LENGTH, WordIndex


class ProductTerm(Base):
    """A searchable word of a product's name or SKU."""

    __tablename__ = "product_terms"

    product_id: Mapped[int] = mapped_column(ForeignKey("products.id"), primary_key=True)
    term: Mapped[str] = mapped_column(sortable(TERM_LENGTH), primary_key=True)

    __table_args__ = (Index(None, "term", "product_id"),)


PRODUCT_WORDS = WordIndex(ProductTerm, ProductTerm.product_id, ProductTerm.term)
