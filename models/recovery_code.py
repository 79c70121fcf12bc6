"""Recovery codes: what an owner without their authenticator signs in with, each of them once."""

import hashlib
import secrets
from typing import Final

from sqlalchemy import ForeignKey, LargeBinary, delete, func, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from models.base import Base

CODES: Final = 10
"""How many there are in a set."""

_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"  # Base32 (RFC 4648, section 6), in lower case.
_GROUPS = 7
_GROUP_LENGTH = 4


class RecoveryCode(Base):
    """One of an account's codes that has not been used: the hash of 140 random bits."""

    __tablename__ = "recovery_codes"

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), primary_key=True)
    hash: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)

    @classmethod
    def replace(cls, session: Session, user_id: int) -> list[str]:
        """Make a set of codes, the only copies of which are returned; earlier ones are void."""
        cls.forget(session, user_id)
        codes = [_new_code() for _ in range(CODES)]
        session.add_all(cls(user_id=user_id, hash=_hash(compact(code))) for code in codes)
        return codes

    @classmethod
    def redeem(cls, session: Session, user_id: int, code: str) -> bool:
        """Use up a code, given in its compact form, and tell whether there was one."""
        gone = delete(cls).where(cls.user_id == user_id, cls.hash == _hash(code))
        rows = gone.returning(cls.hash).execution_options(synchronize_session=False)
        return session.execute(rows).first() is not None

    @classmethod
    def count(cls, session: Session, user_id: int) -> int:
        """Say how many are left."""
        query = select(func.count()).select_from(cls).where(cls.user_id == user_id)
        return session.scalar(query) or 0

    @classmethod
    def forget(cls, session: Session, user_id: int) -> None:
        """Remove all codes of an account."""
        rows = delete(cls).where(cls.user_id == user_id)
        session.execute(rows.execution_options(synchronize_session=False))


def compact(code: str) -> str:
    """Give a code as it is compared, however it was spaced and whatever its case."""
    return code.replace("-", "").replace(" ", "").lower()


def _new_code() -> str:
    groups = (
        "".join(secrets.choice(_ALPHABET) for _ in range(_GROUP_LENGTH)) for _ in range(_GROUPS)
    )
    return "-".join(groups)


def _hash(code: str) -> bytes:
    # Nobody guesses 140 bits, so a hash that is slow to try would protect them no better.
    return hashlib.sha256(code.encode()).digest()
