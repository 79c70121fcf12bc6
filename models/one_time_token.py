"""Secrets that work once: in the links of messages, and between the two steps of a sign-in."""

import hashlib
import secrets
from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy import ForeignKey, Index, LargeBinary, String, delete
from sqlalchemy.orm import Mapped, Session, mapped_column

from models.base import Base, UTCDateTime, utcnow
from models.database import Database
from models.user import User

Purpose = Literal["verify_email", "change_email", "set_password", "second_factor"]

_BYTES = 32


class OneTimeToken(Base):
    """A secret of 256 bits, of which the hash is kept, that lets its bearer do one thing once.

    `email` is the address that it was sent to. `token_version` is that of the account when it was
    made: what ends the account's tokens ends these as well.
    """

    __tablename__ = "one_time_tokens"

    hash: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    purpose: Mapped[Purpose] = mapped_column(String(24))
    email: Mapped[str | None] = mapped_column(String(254))
    token_version: Mapped[int] = mapped_column()
    created_at: Mapped[datetime] = mapped_column(UTCDateTime)
    expires_at: Mapped[datetime] = mapped_column(UTCDateTime)

    __table_args__ = (Index(None, "user_id", "purpose"), Index(None, "expires_at"))

    @classmethod
    def issue(
        cls,
        session: Session,
        user: User,
        purpose: Purpose,
        *,
        lifetime: timedelta,
        email: str | None = None,
        alone: bool = True,
    ) -> str:
        """Make a secret, and return the only copy of it.

        Of those in links the newest counts; with `alone` false those before it do as well.
        """
        if purpose != "second_factor" and alone:
            cls.withdraw(session, user.id, purpose)
        secret, now = secrets.token_urlsafe(_BYTES), utcnow()
        token = cls(
            hash=_hash(purpose, secret),
            user_id=user.id,
            purpose=purpose,
            email=email,
            token_version=user.token_version,
            created_at=now,
            expires_at=now + lifetime,
        )
        session.add(token)
        return secret

    @classmethod
    def find(cls, session: Session, purpose: Purpose, secret: str) -> "OneTimeToken | None":
        """Read the token of a secret, if it was made for this purpose and still holds."""
        token = session.get(cls, _hash(purpose, secret))
        return token if token and token.expires_at > utcnow() else None

    def is_for(self, user: User) -> bool:
        """Tell whether it still is the account's: nothing has ended the account's tokens since."""
        standing = user.active and user.erased_at is None
        return standing and self.token_version == user.token_version

    def redeem(self, session: Session) -> bool:
        """Use it up, and tell whether it was still there: of those who come together, one wins."""
        gone = delete(OneTimeToken).where(OneTimeToken.hash == self.hash)
        rows = gone.returning(OneTimeToken.hash).execution_options(synchronize_session=False)
        return session.execute(rows).first() is not None

    @classmethod
    def withdraw(cls, session: Session, user_id: int, purpose: Purpose | None = None) -> None:
        """End an account's secrets for a purpose, or all of them."""
        query = delete(cls).where(cls.user_id == user_id)
        if purpose is not None:
            query = query.where(cls.purpose == purpose)
        session.execute(query.execution_options(synchronize_session=False))


def purge_one_time_tokens(database: Database) -> None:
    """Remove those that have expired.

    Raises:
        DatabaseUnavailable: nothing is lost by that.
    """
    query = delete(OneTimeToken).where(OneTimeToken.expires_at < utcnow())
    database.transact(lambda session: session.execute(query), write=True)


def _hash(purpose: Purpose, secret: str) -> bytes:
    # The purpose is hashed with it, so that a secret for one thing is none for another.
    return hashlib.sha256(f"{purpose}:{secret}".encode()).digest()
