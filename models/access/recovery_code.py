"""Recovery codes: single-use codes that replace a code from the authenticator app."""

import hashlib
import secrets
import unicodedata
from typing import Final

from sqlalchemy import ForeignKey, LargeBinary, delete, func, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from models.storage.base import ERASED, Base
from models.storage.reader import Reader

CODES: Final = 10
"""Number of codes in a set."""

_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"  # Base32 (RFC 4648, section 6), in lower case.
_IGNORED = frozenset({"Pd", "Zs", "Cf"})
"""Unicode categories that are not part of a code: dashes, spaces, and invisible marks."""
_GROUPS = 7
_GROUP_LENGTH = 4


class RecoveryCode(Base):
    """An unused recovery code, stored as the hash of 140 random bits."""

    __tablename__ = "recovery_codes"

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), primary_key=True, info=ERASED)
    hash: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)

    @classmethod
    def replace(cls, session: Session, user_id: int) -> list[str]:
        """Replace an account's codes; return the new set, which cannot be read again."""
        cls.forget(session, user_id)
        codes = [_new_code() for _ in range(CODES)]
        session.add_all(cls(user_id=user_id, hash=_hash(compact(code))) for code in codes)
        return codes

    @classmethod
    def redeem(cls, session: Session, user_id: int, code: str) -> bool:
        """Use a code, given in compact form, and return whether it was valid."""
        gone = delete(cls).where(cls.user_id == user_id, cls.hash == _hash(code))
        rows = gone.returning(cls.hash).execution_options(synchronize_session=False)
        return session.execute(rows).first() is not None

    @classmethod
    def count(cls, reader: Reader, user_id: int) -> int:
        """Return the number of unused codes of an account."""
        query = select(func.count()).select_from(cls).where(cls.user_id == user_id)
        return reader.scalar(query) or 0

    @classmethod
    def forget(cls, session: Session, user_id: int) -> None:
        """Delete all codes of an account."""
        rows = delete(cls).where(cls.user_id == user_id)
        session.execute(rows.execution_options(synchronize_session=False))


def compact(code: str) -> str:
    """Return a code in its comparable form: ASCII in lower case, without dashes and white space.

    Keyboards of some languages type full-width digits, and word processors replace hyphens.
    """
    text = unicodedata.normalize("NFKC", code).replace("\t", " ").replace("\u2212", "-").lower()
    return "".join(each for each in text if unicodedata.category(each) not in _IGNORED)


def _new_code() -> str:
    groups = (
        "".join(secrets.choice(_ALPHABET) for _ in range(_GROUP_LENGTH)) for _ in range(_GROUPS)
    )
    return "-".join(groups)


def _hash(code: str) -> bytes:
    # A slow hash would add no protection, because 140 random bits are impossible to guess.
    return hashlib.sha256(code.encode()).digest()
