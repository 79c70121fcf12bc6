"""Accounts: who a person is, what they may be shown, and the rules that every change keeps."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import (
    CheckConstraint,
    ColumnElement,
    Identity,
    Index,
    String,
    false,
    select,
    text,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, Session, mapped_column

from models.actor import Actor
from models.base import Base, BigId, UTCDateTime, Versioned, utcnow
from models.email_address import EmailAddress
from models.errors import (
    AccessEnded,
    EmailTaken,
    InvalidEmail,
    LastAdministrator,
    NotFound,
)
from models.page import Page
from models.person_name import person_name

Role = Literal["user", "admin"]

_ROWS_THAT_EXIST: dict[str, Any] = dict.fromkeys(
    ("postgresql_where", "sqlite_where"), text("erased_at IS NULL")
)


class User(Versioned, Base):
    """A person's account.

    `email` is kept as given and compared by `email_key` (see `EmailAddress`). `version` counts the
    changes of the row; every UPDATE compares it, so none is lost. `token_version` counts the events
    that end all tokens. An erased account keeps its id, but nothing that tells whose it was.
    """

    __tablename__ = "users"

    id: Mapped[int] = mapped_column(BigId, Identity(always=True), primary_key=True)
    name: Mapped[str] = mapped_column(String(100))
    email: Mapped[str] = mapped_column(String(254))
    email_key: Mapped[str] = mapped_column(String(254), unique=True)
    role: Mapped[Role] = mapped_column(String(16), default="user")
    active: Mapped[bool] = mapped_column(default=True)
    email_verified: Mapped[bool] = mapped_column(default=False)
    password_hash: Mapped[str | None] = mapped_column(String(255))
    password_change_required: Mapped[bool] = mapped_column(default=False, server_default=false())
    token_version: Mapped[int] = mapped_column(default=1)
    created_at: Mapped[datetime] = mapped_column(UTCDateTime)
    updated_at: Mapped[datetime] = mapped_column(UTCDateTime, onupdate=utcnow)
    erased_at: Mapped[datetime | None] = mapped_column(UTCDateTime)

    __table_args__ = (
        CheckConstraint(role.in_(("user", "admin")), name="role"),
        # Pages are walked by id, so an index serves a filter when it goes on with the id. Erased
        # rows are in none of them.
        Index(None, "active", "id", **_ROWS_THAT_EXIST),
        Index(None, "role", "id", **_ROWS_THAT_EXIST),
        # SQLite would otherwise give the id of the last row, once deleted, to the next one.
        {"sqlite_autoincrement": True},
    )

    @classmethod
    def draft(cls, *, name: str, email: str, password_hash: str | None) -> "User":
        """Make an account that keeps the rules, without storing it.

        Raises:
            InvalidName, InvalidEmail: as `person_name` and `EmailAddress` say.
        """
        address, now = EmailAddress.parse(email), utcnow()
        return cls(
            name=person_name(name),
            email=address.given,
            email_key=address.key,
            password_hash=password_hash,
            created_at=now,
            updated_at=now,
        )

    @classmethod
    def register(
        cls, session: Session, *, name: str, email: str, password_hash: str | None
    ) -> "User":
        """Open an active account with the role `user` and an unverified address.

        Raises:
            InvalidName, InvalidEmail: as in `draft`.
            EmailTaken: the address has an account, even one that was opened at the same moment.
        """
        user = cls.draft(name=name, email=email, password_hash=password_hash)
        return _store(session, user)

    @classmethod
    def create_administrator(
        cls, session: Session, *, name: str, email: str, password_hash: str
    ) -> "User":
        """Open an account that runs the service. Its address is taken as verified.

        Raises the errors of `register`.
        """
        user = cls.draft(name=name, email=email, password_hash=password_hash)
        user.role, user.email_verified = "admin", True
        return _store(session, user)

    @classmethod
    def exists(cls) -> ColumnElement[bool]:
        """Give the condition that every query begins with: the account has not been erased."""
        return cls.erased_at.is_(None)

    @classmethod
    def seen_by(cls, actor: Actor) -> ColumnElement[bool]:
        """Give the condition for the accounts that the actor may know of."""
        return cls.exists() if actor.is_admin else cls.exists() & (cls.id == actor.user_id)

    @classmethod
    def visible_to(cls, session: Session, actor: Actor, user_id: int) -> "User":
        """Read one account.

        Raises:
            NotFound: there is no such account, or the actor may not know of it.
        """
        user = session.scalar(select(cls).where(cls.seen_by(actor), cls.id == user_id))
        if user is None:
            raise NotFound
        return user

    @classmethod
    def of(cls, session: Session, actor: Actor) -> "User":
        """Read the actor's own account.

        Raises:
            AccessEnded: it was erased after they were let in.
        """
        try:
            return cls.visible_to(session, actor, actor.user_id)
        except NotFound:
            raise AccessEnded from None

    @classmethod
    def page(
        cls,
        session: Session,
        *,
        active: bool | None = None,
        role: Role | None = None,
        after: Sequence[object] | None = None,
        limit: int,
    ) -> Page["User"]:
        """Read at most `limit` accounts in the order of their ids, those after `after`."""
        query = select(cls).where(cls.exists())
        if active is not None:
            query = query.where(cls.active == active)
        if role is not None:
            query = query.where(cls.role == role)
        return Page.read(session, query, [cls.id], after=after, limit=limit)

    @classmethod
    def by_email(cls, session: Session, email: str) -> "User | None":
        """Find the account of an address or of any of its twins; `None` also if it is invalid."""
        try:
            key = EmailAddress.parse(email).key
        except InvalidEmail:
            return None
        return session.scalar(select(cls).where(cls.exists(), cls.email_key == key))

    def require_standing(self, actor: Actor) -> None:
        """Insist, where it is the actor's own account, that their tokens were not ended meanwhile.

        Were it not noticed in a change, somebody who was demoted at the same moment could use the
        role that they had to take it back.

        Raises:
            AccessEnded: they were.
        """
        if self.id == actor.user_id and self.token_version != actor.token_version:
            raise AccessEnded

    def change(
        self,
        session: Session,
        *,
        name: str | None = None,
        email: str | None = None,
        role: Role | None = None,
        active: bool | None = None,
        password_hash: str | None = None,
        password_change_required: bool | None = None,
    ) -> None:
        """Change what is given and leave the rest.

        A new email address has been verified: nobody moves to one without. A new address, role or
        password, being enabled or disabled, and having to set a new password, end all tokens. A new
        password is what had to be set.

        Raises:
            InvalidName, InvalidEmail, EmailTaken: as in `register`.
            LastAdministrator: nobody would be left to run the service.
        """
        before = self._what_tokens_rest_on()
        if role not in (None, "admin") or active is False:
            self._require_another_administrator(session)
        if name is not None:
            self.name = person_name(name)
        if email is not None:
            address = EmailAddress.parse(email)
            self.email, self.email_key, self.email_verified = address.given, address.key, True
        self.role = self.role if role is None else role
        self.active = self.active if active is None else active
        self.password_hash = self.password_hash if password_hash is None else password_hash
        if password_hash is not None:
            self.password_change_required = False
        if password_change_required is not None:
            self.password_change_required = password_change_required
        if before != self._what_tokens_rest_on():
            self.token_version += 1
        _store(session, self)

    def verify_email(self, session: Session) -> None:
        """Note that whoever owns the account reads what is sent to its address."""
        self.email_verified = True
        _store(session, self)

    def end_tokens(self, session: Session) -> None:
        """End all sessions, API keys and links of the account."""
        self.token_version += 1
        _store(session, self)

    def _what_tokens_rest_on(self) -> tuple[object, ...]:
        required = self.password_change_required
        return self.email, self.role, self.active, self.password_hash, required

    def upgrade_password_hash(self, session: Session, password_hash: str) -> None:
        """Store the same password hashed anew, unless it is being changed at this very moment."""
        same = update(User).where(User.id == self.id, User.password_hash == self.password_hash)
        session.execute(same.values(password_hash=password_hash, updated_at=User.updated_at))

    def erase(self, session: Session) -> None:
        """Remove what tells who the person was, and end their tokens. The address is free again.

        Raises:
            LastAdministrator: nobody would be left to run the service.
        """
        self._require_another_administrator(session)
        self.name = "Erased"
        # No address ends in `.invalid` (RFC 2606), so this takes nobody's.
        self.email = self.email_key = f"{self.id}@erased.invalid"
        self.email_verified = self.active = False
        self.password_hash = None
        self.token_version += 1
        self.erased_at = utcnow()
        _store(session, self)

    def _require_another_administrator(self, session: Session) -> None:
        if self.role != "admin" or not self.active:
            return
        administrators = select(User.id).where(User.exists(), User.role == "admin", User.active)
        # Two administrators who remove each other must not both see the other in place. They wait
        # for each other here, because both lock all of these rows, in the same order.
        if session.scalars(administrators.order_by(User.id).with_for_update()).all() == [self.id]:
            raise LastAdministrator


def _store(session: Session, user: User) -> User:
    session.add(user)
    try:
        # The answer needs the id and the version that this gives, and only the database can tell
        # that an address is taken when two register it at the same moment.
        session.flush()
    except IntegrityError as error:
        if "email_key" in str(error.orig):
            raise EmailTaken from None
        raise
    return user
