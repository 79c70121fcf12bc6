"""Tokens: the sessions and API keys of an account."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from sqlalchemy import (
    JSON,
    CheckConstraint,
    ColumnElement,
    ForeignKey,
    Index,
    LargeBinary,
    Select,
    String,
    Uuid,
    bindparam,
    func,
    select,
    text,
    update,
)
from sqlalchemy.orm import Mapped, Session, mapped_column

from models.actor import Actor
from models.errors import NotFound, TooManyKeys
from models.identity.api_key import hash_api_key, new_api_key
from models.identity.audit_event import AuditEvent, RequestOrigin
from models.identity.user import User
from models.storage.base import ERASED, Base, UTCDateTime, utcnow
from models.storage.batches import BATCH
from models.storage.database import Database
from models.storage.identifiers import instant_of, new_id
from models.storage.page import Listing, Page
from models.storage.reader import Reader

TokenKind = Literal["session", "api_key"]

_MAX_KEYS = 100


class Token(Base):
    """A session, started by a sign-in, or an API key, created for a program.

    A token is active until it expires or ends, while its account is active and has the same
    `token_version` as when the token was issued. Incrementing that number ends all tokens of the
    account at once. Only the hash of an API key is stored. Refresh tokens are in
    `models.access.session`.
    """

    __tablename__ = "tokens"

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), info=ERASED)
    kind: Mapped[TokenKind] = mapped_column(String(16))
    name: Mapped[str | None] = mapped_column(String(100))
    scopes: Mapped[list[str]] = mapped_column(JSON)
    key_hash: Mapped[bytes | None] = mapped_column(LargeBinary(32), unique=True)
    token_version: Mapped[int] = mapped_column()
    address: Mapped[str | None] = mapped_column(String(45))
    user_agent: Mapped[str | None] = mapped_column(String(200))
    created_at: Mapped[datetime] = mapped_column(UTCDateTime)
    last_used_at: Mapped[datetime] = mapped_column(UTCDateTime)
    expires_at: Mapped[datetime] = mapped_column(UTCDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UTCDateTime)

    __table_args__ = (
        CheckConstraint(kind.in_(("session", "api_key")), name="kind"),
        Index(None, "user_id", "id"),
        Index(None, "expires_at"),
        Index(
            None,
            "ended_at",
            postgresql_where=text("ended_at IS NOT NULL"),
            sqlite_where=text("ended_at IS NOT NULL"),
        ),
    )

    @classmethod
    def begin(
        cls,
        session: Session,
        user: User,
        kind: TokenKind,
        *,
        scopes: Sequence[str],
        lifetime: timedelta,
        origin: RequestOrigin,
        name: str | None = None,
        key_hash: bytes | None = None,
    ) -> "Token":
        """Issue a token for an account in its current state, valid for `lifetime`."""
        identifier = new_id()
        now = instant_of(identifier)
        token = cls(
            id=identifier,
            user_id=user.id,
            kind=kind,
            name=name,
            scopes=list(scopes),
            key_hash=key_hash,
            token_version=user.token_version,
            address=origin.address,
            user_agent=origin.user_agent,
            created_at=now,
            last_used_at=now,
            expires_at=now + lifetime,
        )
        session.add(token)
        return token

    @classmethod
    def create_key(
        cls,
        session: Session,
        user: User,
        *,
        name: str,
        scopes: Sequence[str],
        lifetime: timedelta,
        origin: RequestOrigin,
    ) -> tuple["Token", str]:
        """Create an API key; return its token and its text, which cannot be read again.

        The account must be locked, so that concurrent requests do not exceed the limit.

        Raises:
            TooManyKeys: The account already has 100 active keys.
        """
        keys = select(func.count()).join_from(cls, User, User.id == cls.user_id)
        keys = keys.where(cls.user_id == user.id, cls.kind == "api_key", cls.holds())
        if (session.scalar(keys) or 0) >= _MAX_KEYS:
            raise TooManyKeys
        text = new_api_key()
        token = cls.begin(
            session,
            user,
            "api_key",
            scopes=scopes,
            lifetime=lifetime,
            origin=origin,
            name=name,
            key_hash=hash_api_key(text),
        )
        AuditEvent.record(session, "key.create", origin, user_id=user.id)
        return token, text

    @classmethod
    def holds(cls) -> ColumnElement[bool]:
        """Return the SQL condition for an active token. The query must join `User`."""
        return (
            cls.ended_at.is_(None)
            & (cls.expires_at > bindparam(None, callable_=utcnow, type_=UTCDateTime()))
            & (cls.token_version == User.token_version)
            & User.active
            & User.exists()
        )

    @classmethod
    def visible_to(cls, reader: Reader, actor: Actor, token_id: UUID) -> "Token":
        """Return an active token: one of the actor's own, or any token for an administrator.

        Raises:
            NotFound: No active token visible to the actor has this id.
        """
        token = reader.scalar(cls._living(actor).where(cls.id == token_id))
        if token is None:
            raise NotFound
        return token

    @classmethod
    def page(
        cls,
        reader: Reader,
        actor: Actor,
        *,
        user_id: int | None = None,
        kind: TokenKind | None = None,
        after: Sequence[object] | None,
        limit: int,
    ) -> Page["Token"]:
        """Return a page of an account's active tokens, by default the actor's, newest first."""
        query = cls._living(actor).where(cls.user_id == (user_id or actor.user_id))
        if kind is not None:
            query = query.where(cls.kind == kind)
        return Listing(query, [cls.id], descending=True).page(reader, after=after, limit=limit)

    @classmethod
    def keep(cls, session: Session, token_id: UUID, user: User) -> None:
        """Keep one token active after the account's tokens have ended."""
        query = update(cls).where(cls.id == token_id, cls.user_id == user.id)
        session.execute(query.values(token_version=user.token_version))

    def end(self, session: Session, origin: RequestOrigin) -> None:
        """End the token at once."""
        self.ended_at = utcnow()
        AuditEvent.record(session, "token.end", origin, user_id=self.user_id)

    @classmethod
    def _living(cls, actor: Actor) -> Select["Token"]:
        query = select(cls).join(User, User.id == cls.user_id).where(cls.holds())
        return query if actor.is_admin else query.where(cls.user_id == actor.user_id)


def end_tokens(
    session: Session, actor: Actor, token_id: UUID, *, everywhere: bool, origin: RequestOrigin
) -> None:
    """End one token visible to the actor, or all tokens of the actor's own account.

    Raises:
        NotFound: No active token visible to the actor has this id.
        AccessEnded: With `everywhere`, the actor's account has been erased.
    """
    if everywhere:
        end_all_tokens(session, User.of(session, actor), origin)
    else:
        Token.visible_to(session, actor, token_id).end(session, origin)


def end_all_tokens(session: Session, user: User, origin: RequestOrigin) -> None:
    """Revoke all sessions and API keys of an account."""
    user.end_tokens(session)
    AuditEvent.record(session, "session.end-all", origin, user_id=user.id)


def note_uses(database: Database, take: Callable[[int], Mapping[UUID, datetime]]) -> bool:
    """Store up to 500 times of last use from `take`, and return whether more may be left.

    A later time that is already stored is kept.

    Raises:
        DatabaseUnavailable: The database failed. The times taken from `take` are lost.
    """
    uses = take(BATCH)
    if uses:
        rows = [{"token": token_id, "used_at": uses[token_id]} for token_id in sorted(uses)]
        database.transact(lambda session: session.connection().execute(_NOTE_USE, rows), write=True)
    return len(uses) == BATCH


_NOTE_USE = (
    update(Token)
    .where(Token.id == bindparam("token"), Token.last_used_at < bindparam("used_at"))
    .values(last_used_at=bindparam("used_at"))
)
