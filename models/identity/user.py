"""Accounts: the fields of a user, their visibility, and the rules for every change."""

from datetime import datetime
from typing import Any, Literal

from sqlalchemy import (
    CheckConstraint,
    ColumnElement,
    Identity,
    Index,
    String,
    false,
    inspect,
    select,
    text,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, Session, mapped_column

from models.actor import Actor
from models.errors import (
    AccessEnded,
    EmailTaken,
    InvalidEmail,
    LastAdministrator,
    NotFound,
)
from models.events.event import Event, NewEvent
from models.files.picture import Picture, PictureType
from models.files.stored_picture import PictureUse
from models.identity.email_address import EmailAddress
from models.identity.person_name import person_name
from models.identity.user_search import USER_WORDS
from models.storage.base import Base, BigId, UTCDateTime, Versioned, utcnow
from models.storage.reader import Reader

Role = Literal["user", "admin"]

_SEARCHED = ("name", "email_key")

_ROWS_THAT_EXIST: dict[str, Any] = dict.fromkeys(
    ("postgresql_where", "sqlite_where"), text("erased_at IS NULL")
)


class User(Versioned, Base):
    """A person's account.

    `email` is stored as given and compared by `email_key` (see `EmailAddress`). `version` counts
    the changes to the row. Every update through the model compares it, which prevents lost updates.
    `token_version` counts the events that end all tokens, and `recovery_version` those that
    invalidate links to set a password. `tokens_ended_at` is the last time that all tokens ended,
    or null if no such token is left. An erased account keeps its id but no personal data.
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
    avatar: Mapped[Picture | None] = mapped_column(PictureType)
    token_version: Mapped[int] = mapped_column(default=1)
    recovery_version: Mapped[int] = mapped_column(default=1, server_default="1")
    created_at: Mapped[datetime] = mapped_column(UTCDateTime)
    updated_at: Mapped[datetime] = mapped_column(UTCDateTime, onupdate=utcnow)
    erased_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    tokens_ended_at: Mapped[datetime | None] = mapped_column(UTCDateTime)

    __table_args__ = (
        CheckConstraint(role.in_(("user", "admin")), name="role"),
        # Pages are ordered by id, so each filter's index ends with the id. The indexes leave out
        # erased rows because no list shows them.
        Index(None, "active", "id", **_ROWS_THAT_EXIST),
        Index(None, "role", "id", **_ROWS_THAT_EXIST),
        # Unclaimed accounts are found in it.
        Index(
            None,
            "created_at",
            "id",
            postgresql_where=text("erased_at IS NULL AND NOT email_verified"),
            sqlite_where=text("erased_at IS NULL AND email_verified = 0"),
        ),
        # Accounts whose ended tokens are still to be deleted (`models.accounts.ended_tokens`).
        Index(
            None,
            "tokens_ended_at",
            postgresql_where=text("tokens_ended_at IS NOT NULL"),
            sqlite_where=text("tokens_ended_at IS NOT NULL"),
        ),
        # Without AUTOINCREMENT, SQLite would reuse the id of a deleted last row.
        {"sqlite_autoincrement": True},
    )

    @classmethod
    def draft(
        cls, *, name: str, email: str, password_hash: str | None, local_email: bool = False
    ) -> "User":
        """Return a valid account without storing it.

        With `local_email`, the domain of the address may be below `local`.

        Raises:
            InvalidName: The name is invalid by the rules of `person_name`.
            InvalidEmail: The address is invalid by the rules of `EmailAddress`.
        """
        address, now = EmailAddress.parse(email, local=local_email), utcnow()
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
        cls,
        session: Session,
        *,
        name: str,
        email: str,
        password_hash: str | None,
        local_email: bool = False,
    ) -> "User":
        """Create an active account with the role `user` and an unverified address.

        Raises:
            InvalidName, InvalidEmail: As in `draft`.
            EmailTaken: Another account has the address, even if it was created concurrently.
        """
        user = cls.draft(
            name=name, email=email, password_hash=password_hash, local_email=local_email
        )
        return _store(session, user)

    @classmethod
    def create_administrator(
        cls, session: Session, *, name: str, email: str, password_hash: str
    ) -> "User":
        """Create an administrator account with a verified address, also below `local`.

        Raises:
            InvalidName, InvalidEmail, EmailTaken: As in `register`.
        """
        user = cls.draft(name=name, email=email, password_hash=password_hash, local_email=True)
        user.role, user.email_verified = "admin", True
        return _store(session, user)

    @classmethod
    def exists(cls) -> ColumnElement[bool]:
        """Return the SQL condition that every query starts with: the account is not erased."""
        return cls.erased_at.is_(None)

    @classmethod
    def seen_by(cls, actor: Actor) -> ColumnElement[bool]:
        """Return the SQL condition for the accounts visible to the actor."""
        return cls.exists() if actor.is_admin else cls.exists() & (cls.id == actor.user_id)

    @classmethod
    def visible_to(cls, reader: Reader, actor: Actor, user_id: int) -> "User":
        """Return one account.

        Raises:
            NotFound: The account does not exist or is not visible to the actor.
        """
        user = reader.scalar(select(cls).where(cls.seen_by(actor), cls.id == user_id))
        if user is None:
            raise NotFound
        return user

    @classmethod
    def of(cls, reader: Reader, actor: Actor) -> "User":
        """Return the actor's own account.

        Raises:
            AccessEnded: The account was erased after the request was authenticated.
        """
        try:
            return cls.visible_to(reader, actor, actor.user_id)
        except NotFound:
            raise AccessEnded from None

    @classmethod
    def locked(cls, session: Session, actor: Actor) -> "User":
        """Return the actor's own account, locked until the transaction ends.

        Raises:
            AccessEnded: As in `of`.
        """
        query = select(cls).where(cls.exists(), cls.id == actor.user_id)
        # Objects already in the session may be older than the lock, so they are refreshed.
        current = query.with_for_update(key_share=True).execution_options(populate_existing=True)
        user = session.scalar(current)
        if user is None:
            raise AccessEnded
        return user

    @classmethod
    def by_email(cls, reader: Reader, email: str, *, hold: bool = False) -> "User | None":
        """Return the account with an equal address (see `EmailAddress`).

        Return `None` if there is no such account or the address is invalid. With `hold`, the
        account is locked against changes until the transaction ends.
        """
        try:
            key = EmailAddress.parse(email, local=True).key
        except InvalidEmail:
            return None
        query = select(cls).where(cls.exists(), cls.email_key == key)
        return reader.scalar(query.with_for_update(key_share=True) if hold else query)

    def require_current_token(self, actor: Actor) -> None:
        """Check that the actor's tokens have not ended, if this is the actor's own account.

        Without this check, an administrator who is being demoted could use their former role in a
        concurrent request to restore it.

        Raises:
            AccessEnded: The actor's tokens ended after the request was authenticated.
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
        """Change the given fields and leave the others unchanged.

        The caller must have verified a new email address, because it is stored as verified.
        Changing the address, role, password, `active` or `password_change_required` ends all
        tokens. Setting a password clears `password_change_required`. Changing the address, the
        password or `active` invalidates links to set a password.

        Raises:
            InvalidName, InvalidEmail, EmailTaken: As in `register`.
            LastAdministrator: The change would leave no active administrator.
        """
        before, recovery = self._what_tokens_rest_on(), self._what_recovery_rests_on()
        if role not in (None, "admin") or active is False:
            self.require_another_administrator(session)
        if name is not None:
            self.name = person_name(name)
        if email is not None:
            address = EmailAddress.parse(email, local=True)
            self.email, self.email_key, self.email_verified = address.given, address.key, True
        self.role = self.role if role is None else role
        self.active = self.active if active is None else active
        self.password_hash = self.password_hash if password_hash is None else password_hash
        if password_hash is not None:
            self.password_change_required = False
        if password_change_required is not None:
            self.password_change_required = password_change_required
        if before != self._what_tokens_rest_on():
            self._end_tokens()
        if recovery != self._what_recovery_rests_on():
            self.recovery_version += 1
        _store(session, self)

    def has_address(self, email: str) -> bool:
        """Return whether an address equals the account's address (see `EmailAddress`)."""
        return EmailAddress.normal_form(email) == self.email_key

    def verify_email(self, session: Session) -> None:
        """Mark the account's email address as verified."""
        self.email_verified = True
        _store(session, self)

    def end_tokens(self, session: Session) -> None:
        """End all sessions, API keys, pending sign-ins and pending email changes."""
        self._end_tokens()
        _store(session, self)

    def _end_tokens(self) -> None:
        self.token_version += 1
        self.tokens_ended_at = utcnow()

    def _what_tokens_rest_on(self) -> tuple[object, ...]:
        required = self.password_change_required
        return self.email, self.role, self.active, self.password_hash, required

    def _what_recovery_rests_on(self) -> tuple[object, ...]:
        return self.email_key, self.active, self.password_hash

    def upgrade_password_hash(self, session: Session, password_hash: str) -> None:
        """Store a new hash of the same password, unless the password has changed meanwhile."""
        same = update(User).where(User.id == self.id, User.password_hash == self.password_hash)
        session.execute(same.values(password_hash=password_hash, updated_at=User.updated_at))

    def set_avatar(self, session: Session, picture: Picture | None) -> None:
        """Set the picture of the account, which is locked, or remove it."""
        self.avatar = picture
        _store(session, self)
        PictureUse.by_user(session, self.id, picture)

    def erase(self, session: Session) -> None:
        """Remove the account's personal data and end its tokens.

        Another account can then use the address.

        Raises:
            LastAdministrator: Erasing the account would leave no active administrator.
        """
        self.require_another_administrator(session)
        self.name = "Erased"
        # No real address ends in `.invalid` (RFC 2606), so this placeholder cannot collide.
        self.email = self.email_key = f"{self.id}@erased.invalid"
        self.email_verified = self.active = False
        self.password_hash = None
        self.avatar = None
        self._end_tokens()
        self.erased_at = utcnow()
        _store(session, self)

    def require_another_administrator(self, session: Session) -> None:
        """Check that another active administrator is left when this account stops being one.

        Raises:
            LastAdministrator: There is no other.
        """
        if self.role != "admin" or not self.active:
            return
        administrators = select(User.id).where(User.exists(), User.role == "admin", User.active)
        # Two administrators who remove each other concurrently must not both succeed. Locking all
        # of these rows in the same order makes the second transaction wait for the first.
        if session.scalars(administrators.order_by(User.id).with_for_update()).all() == [self.id]:
            raise LastAdministrator


def _store(session: Session, user: User) -> User:
    """Store a new or changed account, and record the event."""
    before = user.version
    is_renamed = any(getattr(inspect(user).attrs, each).history.added for each in _SEARCHED)
    session.add(user)
    try:
        # The flush assigns the id and version that the response needs. It also lets the unique
        # index detect an address that two requests register concurrently.
        session.flush()
    except IntegrityError as error:
        if "email_key" in str(error.orig):
            raise EmailTaken from None
        raise
    if is_renamed and user.erased_at is None:
        USER_WORDS.replace(session, user.id, f"{user.name} {user.email_key}")
    if user.version != before:
        Event.record(session, _event(user, "update" if before else "create"))
    return user


def _event(user: User, action: str) -> NewEvent:
    facts = {
        "id": user.id,
        "role": user.role,
        "active": user.active,
        "email_verified": user.email_verified,
    }
    action = "delete" if user.erased_at else action
    return NewEvent(f"account.{action}", f"users/{user.id}", user.version, facts)
