"""Sessions: started by a sign-in, extended by refresh tokens, ended if one is replayed.

Each refresh token works once (RFC 9700, section 4.14). Its successor is derived from it and a
server secret. A client that lost a response, or sent two requests at once, can therefore get the
same successor again for a few seconds, although only hashes are stored.
"""

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ForeignKey, Index, LargeBinary, func, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from models.access.token_status import TokenStatuses
from models.errors import InvalidRefreshToken
from models.identity.audit_event import AuditEvent, RequestOrigin
from models.identity.token import Token
from models.identity.user import User
from models.storage.base import Base, UTCDateTime, utcnow

_PREFIX = "refresh_"
_BYTES = 32
_MOST = 5000
"""Maximum number of refresh tokens per session, which are stored as long as the session. One
refresh an hour makes 2,160 in 90 days."""


@dataclass(frozen=True, slots=True)
class SessionRules:
    """The lifetime and scopes of sessions.

    A session ends after `idle` without a refresh, and `longest` after the sign-in in any case. For
    `grace` after its use, a refresh token returns the same successor again.
    """

    idle: timedelta
    longest: timedelta
    statuses: TokenStatuses
    refresh_key: bytes = field(repr=False)
    grace: timedelta = timedelta(seconds=10)

    def successor(self, refresh_token: str) -> str:
        """Return the successor of a refresh token. Deriving it requires the server's secret."""
        digest = hmac.digest(self.refresh_key, refresh_token.encode(), "sha256")
        return _PREFIX + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


class RefreshToken(Base):
    """A refresh token of a session, stored as a hash. At most one per session is unused."""

    __tablename__ = "refresh_tokens"

    hash: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    session_id: Mapped[UUID] = mapped_column(ForeignKey("tokens.id", ondelete="CASCADE"))
    created_at: Mapped[datetime] = mapped_column(UTCDateTime)
    used_at: Mapped[datetime | None] = mapped_column(UTCDateTime)

    __table_args__ = (Index(None, "session_id"),)


@dataclass(frozen=True, slots=True)
class NewSession:
    """A session and its current refresh token, of which the database stores only the hash."""

    session: Token
    refresh_token: str


def start_session(
    session: Session, user: User, rules: SessionRules, origin: RequestOrigin
) -> NewSession:
    """Start a session for an account whose owner has been authenticated."""
    token = Token.begin(
        session,
        user,
        "session",
        scopes=rules.statuses.scopes_of(session, user),
        lifetime=min(rules.idle, rules.longest),
        origin=origin,
    )
    # The refresh token's foreign key requires the session to be stored first.
    session.flush()
    first = _PREFIX + secrets.token_urlsafe(_BYTES)
    session.add(RefreshToken(hash=_hash(first), session_id=token.id, created_at=token.created_at))
    return NewSession(token, first)


def refresh_session(
    session: Session, refresh_token: str, rules: SessionRules, origin: RequestOrigin
) -> NewSession:
    """Exchange a refresh token for its successor.

    Raises:
        InvalidRefreshToken: The token is unknown, its session has ended, or the session has
            reached its maximum number of refresh tokens. A token that was used longer than
            `rules.grace` ago, or whose successor was also used, has probably been stolen. In that
            case, the session ends.
    """
    known = session.get(RefreshToken, _hash(refresh_token))
    if known is None:
        raise InvalidRefreshToken
    held = select(Token, User).join(User, User.id == Token.user_id)
    held = held.where(Token.id == known.session_id, Token.holds()).with_for_update(of=Token)
    # If this waits for the lock, PostgreSQL compares the new row of the token with the old one of
    # the account. A second attempt sees both as they are now.
    found = session.execute(held).one_or_none() or session.execute(held).one_or_none()
    if found is None:
        raise InvalidRefreshToken
    token, user = found
    # Another transaction may have used the token while this one waited for the lock.
    session.refresh(known)
    now, successor = utcnow(), rules.successor(refresh_token)
    if known.used_at is None:
        if _count(session, token) >= _MOST:
            raise InvalidRefreshToken
        known.used_at = now
        token.scopes = list(rules.statuses.scopes_of(session, user))
        token.expires_at = min(now + rules.idle, token.created_at + rules.longest)
        token.address, token.user_agent = origin.address, origin.user_agent
        session.add(RefreshToken(hash=_hash(successor), session_id=token.id, created_at=now))
    # A clock that was set back must not extend the grace period.
    elif abs(now - known.used_at) > rules.grace or _was_used(session, successor):
        token.ended_at = now
        AuditEvent.record(session, "refresh.replay", origin, user_id=user.id, succeeded=False)
        raise InvalidRefreshToken
    token.last_used_at = now
    return NewSession(token, successor)


def _count(session: Session, token: Token) -> int:
    query = select(func.count()).where(RefreshToken.session_id == token.id)
    return session.scalar(query) or 0


def _was_used(session: Session, refresh_token: str) -> bool:
    known = session.get(RefreshToken, _hash(refresh_token))
    return known is None or known.used_at is not None


def _hash(refresh_token: str) -> bytes:
    return hashlib.sha256(refresh_token.encode()).digest()
