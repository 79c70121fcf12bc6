"""One-time tokens: for links in messages, and between the two steps of a sign-in."""

import hashlib
import secrets
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from sqlalchemy import Delete, ForeignKey, Index, LargeBinary, String, delete, func, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from models.identity.user import User
from models.storage.base import ERASED, Base, UTCDateTime, utcnow

Purpose = Literal["verify_email", "change_email", "set_password", "second_factor"]

_BYTES = 32
_APART = {"synchronize_session": False}
_MOST = 20
"""Maximum number of links per account and purpose. The limits on messages to a mailbox
(`models.messages.mailbox`) are lower within a link's lifetime, so requesting more links cannot
invalidate a valid one."""


class NewToken(NamedTuple):
    """A token to be issued: its account, its purpose, and the address that it is sent to."""

    user: User
    purpose: Purpose
    lifetime: timedelta
    email: str | None = None


class OneTimeToken(Base):
    """A 256-bit secret, stored as a hash, that authorizes its bearer for one action once.

    `email` is the address the token was sent to. `token_version` and `recovery_version` are the
    account's values when the token was issued. `is_for` describes when a token becomes invalid.
    """

    __tablename__ = "one_time_tokens"

    hash: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), info=ERASED)
    purpose: Mapped[Purpose] = mapped_column(String(24))
    email: Mapped[str | None] = mapped_column(String(254))
    token_version: Mapped[int] = mapped_column()
    recovery_version: Mapped[int | None] = mapped_column()
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
    ) -> str:
        """Issue a token and return its secret, which cannot be read again.

        An account has up to 20 links per purpose. Beyond that, the links that expire first are
        deleted, so an invitation outlasts any number of password resets.
        """
        [secret] = cls.issue_all(session, [NewToken(user, purpose, lifetime, email)])
        return secret

    @classmethod
    def issue_all(cls, session: Session, tokens: Sequence[NewToken]) -> list[str]:
        """Issue several tokens as in `issue`, and return their secrets."""
        texts = [secrets.token_urlsafe(_BYTES) for _ in tokens]
        now = utcnow()
        session.add_all(
            cls(
                hash=_hash(purpose, secret),
                user_id=user.id,
                purpose=purpose,
                email=email,
                token_version=user.token_version,
                recovery_version=user.recovery_version,
                created_at=now,
                expires_at=now + lifetime,
            )
            for secret, (user, purpose, lifetime, email) in zip(texts, tokens, strict=True)
        )
        owners = {token.user.id for token in tokens if token.purpose != "second_factor"}
        if owners:
            cls._drop_surplus(session, owners)
        return texts

    @classmethod
    def find(cls, session: Session, purpose: Purpose, secret: str) -> "OneTimeToken | None":
        """Return the unexpired token with this secret and purpose, or `None`."""
        token = session.get(cls, _hash(purpose, secret))
        return token if token and token.expires_at > utcnow() else None

    def is_for(self, user: User) -> bool:
        """Return whether the token is still valid for an account.

        A link to verify an address is valid while the account has that address. A link to set a
        password becomes invalid when a password is set, the address changes or the account is
        disabled. A pending sign-in or email change becomes invalid when the account's tokens end.
        Every token requires an active account.
        """
        if not user.active or user.erased_at is not None:
            return False
        if self.purpose == "verify_email":
            return user.has_address(self.email or "")
        # Links issued by an earlier release have no `recovery_version`.
        if self.purpose == "set_password" and self.recovery_version is not None:
            return self.recovery_version == user.recovery_version
        return self.token_version == user.token_version

    def redeem(self, session: Session) -> bool:
        """Use the token; return whether it was unused. Of concurrent uses, only one succeeds."""
        gone = delete(OneTimeToken).where(OneTimeToken.hash == self.hash)
        rows = gone.returning(OneTimeToken.hash).execution_options(synchronize_session=False)
        return session.execute(rows).first() is not None

    @classmethod
    def purge(cls) -> Delete:
        """Return the statement that deletes all expired tokens."""
        return delete(cls).where(cls.expires_at < utcnow())

    @classmethod
    def _drop_surplus(cls, session: Session, owners: Collection[int]) -> None:
        # The query counts the new tokens too.
        session.flush()
        links = cls.user_id.in_(owners) & (cls.purpose != "second_factor")
        crowded = select(cls.user_id, cls.purpose).where(links).group_by(cls.user_id, cls.purpose)
        for user_id, purpose in session.execute(crowded.having(func.count() > _MOST)).all():
            theirs = (cls.user_id == user_id) & (cls.purpose == purpose)
            kept = select(cls.hash).where(theirs).order_by(cls.expires_at.desc()).limit(_MOST)
            surplus = delete(cls).where(theirs, cls.hash.not_in(kept))
            session.execute(surplus, execution_options=_APART)


def _hash(purpose: Purpose, secret: str) -> bytes:
    # The hash includes the purpose, so a secret issued for one purpose is invalid for another.
    return hashlib.sha256(f"{purpose}:{secret}".encode()).digest()
