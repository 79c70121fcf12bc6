"""The searchable words of accounts."""

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from models.storage.base import ERASED, Base
from models.text import sortable
from models.word_index import TERM_LENGTH, WordIndex


class UserTerm(Base):
    """A searchable word of an account's name or email address."""

    __tablename__ = "user_terms"

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), primary_key=True, info=ERASED)
    term: Mapped[str] = mapped_column(sortable(TERM_LENGTH), primary_key=True)

    __table_args__ = (Index(None, "term", "user_id"),)


USER_WORDS = WordIndex(UserTerm, UserTerm.user_id, UserTerm.term)
