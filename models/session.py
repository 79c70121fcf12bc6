"""Sessions: a sign-in begins one, refresh tokens carry it on, and a stolen one ends it.

A refresh token is good for one use (RFC 9700, section 4.14). Its successor follows from it and a
secret of the service, so that whoever lost an answer, or asked from two windows at once, gets the
same one again for a short while, although nothing but hashes is stored.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ForeignKey, Index, LargeBinary, func, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from models.audit_event import AuditEvent, Origin
from models.base import Base, UTCDateTime, utcnow
from models.errors import InvalidRefreshToken
from models.permission import SCOPES_OF_ROLE
from models.second_factor import SecondFactor
from models.token import Token
from models.user import User

_PREFIX = "refresh_"
_BYTES = 32
_GRACE = timedelta(seconds=10)
"""For how long after its use a refresh token gives the same successor again."""
_MOST = 5000
"""Refresh tokens of one session, which are kept as long as it lasts; one an hour makes 2,160."""


@dataclass(frozen=True, slots=True)
class SessionRules:
    """How long sessions last, and whether administrators need a second factor for their role.

    A session ends when it was not refreshed for `idle`, and in any case after `longest`.
    """

    idle: timedelta
    longest: timedelta
    strict_administrators: bool
    refresh_key: bytes = field(repr=False)

    def scopes(self, session: Session, user: User) -> Sequence[str]:
        """Give the scopes that a sign-in to an account gets."""
        held_back = (
            self.strict_administrators
            and user.role == "admin"
            and not SecondFactor.is_active(session, user.id)
        )
        return SCOPES_OF_ROLE["user" if held_back else user.role]

    def successor(self, refresh_token: str) -> str:
        """Give the refresh token that follows one; nobody can tell it without the secret."""
        digest = hmac.digest(self.refresh_key, refresh_token.encode(), "sha256")
        return _PREFIX + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


class RefreshToken(Base):
    """One of the refresh tokens of a session, by its hash; at most one of them is unused."""

    __tablename__ = "refresh_tokens"

    hash: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    session_id: Mapped[UUID] = mapped_column(ForeignKey("tokens.id", ondelete="CASCADE"))
    created_at: Mapped[datetime] = mapped_column(UTCDateTime)
    used_at: Mapped[datetime | None] = mapped_column(UTCDateTime)

    __table_args__ = (Index(None, "session_id"),)


@dataclass(frozen=True, slots=True)
class Grant:
    """A session with the one copy of the refresh token that carries it on."""

    session: Token
    refresh_token: str


def start_session(session: Session, user: User, rules: SessionRules, origin: Origin) -> Grant:
    """Begin a session of an account whose bearer has shown to be its owner."""
    token = Token.begin(
        session,
        user,
        "session",
        scopes=rules.scopes(session, user),
        lifetime=min(rules.idle, rules.longest),
        origin=origin,
    )
    # The refresh token refers to the session, so that has to be there first.
    session.flush()
    first = _PREFIX + secrets.token_urlsafe(_BYTES)
    session.add(RefreshToken(hash=_hash(first), session_id=token.id, created_at=token.created_at))
    return Grant(token, first)


def refresh_session(
    session: Session, refresh_token: str, rules: SessionRules, origin: Origin
) -> Grant:
    """Exchange a refresh token for its successor.

    Raises:
        InvalidRefreshToken: there is none such, or its session has ended. Where it was used
            before, longer ago than a lost answer explains, or its successor was used as well,
            somebody else has a copy of it: then the session is ended.
    """
    known = session.get(RefreshToken, _hash(refresh_token))
    if known is None:
        raise InvalidRefreshToken
    held = select(Token, User).join(User, User.id == Token.user_id)
    held = held.where(Token.id == known.session_id, Token.holds()).with_for_update(of=Token)
    found = session.execute(held).one_or_none()
    if found is None:
        raise InvalidRefreshToken
    token, user = found
    # Whoever waited for the lock has to see what those before did.
    session.refresh(known)
    now, successor = utcnow(), rules.successor(refresh_token)
    if known.used_at is None:
        if _count(session, token) >= _MOST:
            raise InvalidRefreshToken
        known.used_at = now
        token.scopes = list(rules.scopes(session, user))
        token.expires_at = min(now + rules.idle, token.created_at + rules.longest)
        token.address, token.user_agent = origin.address, origin.user_agent
        session.add(RefreshToken(hash=_hash(successor), session_id=token.id, created_at=now))
    elif now - known.used_at > _GRACE or _was_used(session, successor):
        token.ended_at = now
        AuditEvent.record(session, "refresh.replay", origin, user_id=user.id, succeeded=False)
        raise InvalidRefreshToken
    token.last_used_at = now
    return Grant(token, successor)


def _count(session: Session, token: Token) -> int:
    query = select(func.count()).where(RefreshToken.session_id == token.id)
    return session.scalar(query) or 0


def _was_used(session: Session, refresh_token: str) -> bool:
    known = session.get(RefreshToken, _hash(refresh_token))
    return known is None or known.used_at is not None


def _hash(refresh_token: str) -> bytes:
    return hashlib.sha256(refresh_token.encode()).digest()
