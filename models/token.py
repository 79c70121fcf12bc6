"""What lets somebody in again: the sessions of an account, and its API keys."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Literal, NamedTuple
from uuid import UUID

from sqlalchemy import (
    JSON,
    CheckConstraint,
    ColumnElement,
    Connection,
    ForeignKey,
    Index,
    LargeBinary,
    Select,
    String,
    Uuid,
    bindparam,
    delete,
    func,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.orm import Mapped, Session, mapped_column

from models.actor import Actor
from models.api_key import hash_api_key, new_api_key
from models.audit_event import AuditEvent, Origin
from models.base import Base, UTCDateTime, utcnow
from models.errors import NotFound, TooManyKeys
from models.identifiers import instant_of, new_id
from models.page import Page
from models.user import Role, User

TokenKind = Literal["session", "api_key"]

_MAX_KEYS = 100


class Standing(NamedTuple):
    """What a token that holds lets its bearer be at this moment."""

    token_id: UUID
    user_id: int
    role: Role
    token_version: int
    scopes: list[str]


class Token(Base):
    """A session, which a sign-in began, or an API key, which somebody made for a program.

    It holds until it is ended or expires, and while the account is active and has the
    `token_version` that it had then: raising that number ends all of an account's tokens at once.
    Of an API key only the hash is kept; what a session's bearer holds is in `models.session`.
    """

    __tablename__ = "tokens"

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
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
        origin: Origin,
        name: str | None = None,
        key_hash: bytes | None = None,
    ) -> "Token":
        """Let somebody in as an account, as it is now, for as long as `lifetime`."""
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
        origin: Origin,
    ) -> tuple["Token", str]:
        """Make an API key; the text that is returned is the only copy of it.

        Raises:
            TooManyKeys: the account has as many as it can have.
        """
        # Of those who make the last key at the same moment, one after the other counts.
        session.execute(select(User.id).where(User.id == user.id).with_for_update())
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
        """Give the condition for a token joined with its account that lets somebody in."""
        return (
            cls.ended_at.is_(None)
            & (cls.expires_at > bindparam(None, callable_=utcnow, type_=UTCDateTime()))
            & (cls.token_version == User.token_version)
            & User.active
            & User.exists()
        )

    @classmethod
    def standing(
        cls, connection: Connection, credential: UUID | bytes, *, hold: bool = False
    ) -> Standing | None:
        """Read what a token's id or an API key's hash stands for; `None` if it does not hold.

        With `hold` the account stays as it is, and is not erased, until the transaction ends.
        """
        query = _STANDINGS[isinstance(credential, UUID), hold]
        row = connection.execute(query, {"credential": credential}).one_or_none()
        return None if row is None else Standing(*row)

    @classmethod
    def visible_to(cls, session: Session, actor: Actor, token_id: UUID) -> "Token":
        """Read one token that holds: one of the actor's own, or for administrators anybody's.

        Raises:
            NotFound: there is none of this id.
        """
        token = session.scalar(cls._living(actor).where(cls.id == token_id))
        if token is None:
            raise NotFound
        return token

    @classmethod
    def page(
        cls,
        session: Session,
        actor: Actor,
        *,
        user_id: int | None = None,
        kind: TokenKind | None = None,
        after: Sequence[object] | None,
        limit: int,
    ) -> Page["Token"]:
        """Read the tokens of an account that hold, by default the actor's own, newest first."""
        query = cls._living(actor).where(cls.user_id == (user_id or actor.user_id))
        if kind is not None:
            query = query.where(cls.kind == kind)
        return Page.read(session, query, [cls.id], after=after, limit=limit, descending=True)

    @classmethod
    def keep(cls, session: Session, token_id: UUID, user: User) -> None:
        """Let one token go on although the account's tokens were just ended."""
        query = update(cls).where(cls.id == token_id, cls.user_id == user.id)
        session.execute(query.values(token_version=user.token_version))

    @classmethod
    def note_uses(cls, session: Session, uses: Mapping[UUID, datetime]) -> None:
        """Write down when tokens were used."""
        for token_id, used_at in sorted(uses.items()):
            earlier = update(cls).where(cls.id == token_id, cls.last_used_at < used_at)
            session.execute(earlier.values(last_used_at=used_at))

    @classmethod
    def forget(cls, session: Session, user_id: int) -> None:
        """Remove all tokens of an account, and from where it was used."""
        session.execute(delete(cls).where(cls.user_id == user_id))

    @classmethod
    def purge(cls, session: Session, limit: int) -> int:
        """Remove some that hold no longer, and say how many: at most `limit`."""
        over = or_(
            cls.expires_at <= utcnow(),
            cls.ended_at.is_not(None),
            cls.token_version != User.token_version,
        )
        query = select(cls.id).join(User, User.id == cls.user_id).where(over).limit(limit)
        batch = query.with_for_update(skip_locked=True, of=cls)
        gone = delete(cls).where(cls.id.in_(batch)).returning(cls.id)
        rows = gone.execution_options(synchronize_session=False)
        return len(session.execute(rows).all())

    def narrow(self, scopes: Sequence[str]) -> None:
        """Let it do no more than this from now on."""
        self.scopes = [scope for scope in self.scopes if scope in scopes]

    def end(self, session: Session, origin: Origin) -> None:
        """Let nobody in with it any more."""
        self.ended_at = utcnow()
        AuditEvent.record(session, "token.end", origin, user_id=self.user_id)

    @classmethod
    def _living(cls, actor: Actor) -> Select["Token"]:
        query = select(cls).join(User, User.id == cls.user_id).where(cls.holds())
        return query if actor.is_admin else query.where(cls.user_id == actor.user_id)


def _standing(*, by_id: bool, hold: bool) -> Select[UUID, int, Role, int, list[str]]:
    query = select(Token.id, Token.user_id, User.role, User.token_version, Token.scopes)
    query = query.join(User, User.id == Token.user_id).where(Token.holds())
    query = query.where((Token.id if by_id else Token.key_hash) == bindparam("credential"))
    return query.with_for_update(read=True, of=User) if hold else query


# Nearly every request asks one of these, and to build one takes longer than to ask it.
_STANDINGS = {
    (by_id, hold): _standing(by_id=by_id, hold=hold)
    for by_id in (False, True)
    for hold in (False, True)
}


def sign_out(
    session: Session, actor: Actor, token_id: UUID, *, everywhere: bool, origin: Origin
) -> None:
    """End one token of the actor's, or all of them."""
    if everywhere:
        end_all_tokens(session, User.of(session, actor), origin)
    else:
        Token.visible_to(session, actor, token_id).end(session, origin)


def end_all_tokens(session: Session, user: User, origin: Origin) -> None:
    """End all sessions and API keys of an account."""
    user.end_tokens(session)
    AuditEvent.record(session, "session.end-all", origin, user_id=user.id)
