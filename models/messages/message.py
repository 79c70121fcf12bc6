"""The transactional outbox of messages.

A message is stored in the transaction that causes it, so it exists if and only if that transaction
commits. A sender leases the row for a minute and deletes it after sending. If the sender fails
before that, another one sends the message.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, NamedTuple
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Delete,
    ForeignKey,
    Index,
    String,
    Uuid,
    delete,
    exists,
    select,
    update,
)
from sqlalchemy.orm import Mapped, Session, mapped_column

from models.identity.audit_event import AuditEvent, RequestOrigin
from models.identity.one_time_token import OneTimeToken, Purpose
from models.identity.user import User
from models.messages.mailbox import (
    NOTICE,
    PASSWORD_LINK,
    SOLICITED_BY_ANYONE,
    MailboxUse,
    MessageAllowance,
    address_of,
    mailbox_of,
)
from models.storage.base import ERASED, Base, UTCDateTime, utcnow
from models.storage.identifiers import first_id_from, instant_of, new_id
from models.storage.reader import Reader

MessageKind = Literal[
    "welcome",
    "verify_email",
    "change_email",
    "set_password",
    "password_changed",
    "email_changed",
]

_LEASE = timedelta(seconds=60)
"""Time for which a sender leases a message. Every attempt to send takes less."""
_FIRST_PAUSE = timedelta(seconds=10)
_LONGEST_PAUSE = timedelta(hours=1)
_PATIENCE = timedelta(days=3)
"""Time during which sending a message is retried."""
_GRACE = timedelta(hours=1)
"""Extra time for the sender to make the last attempt and report the failure."""
_BATCH = 20
_BATCHES = 50
"""Maximum number of batches that one transaction searches for a message to send."""
_UNKNOWN = RequestOrigin()


class LinkTerms(NamedTuple):
    """The purpose and lifetime of the link in a message."""

    purpose: Purpose
    lifetime: timedelta


_VERIFY = LinkTerms("verify_email", timedelta(hours=24))
_LINKS: Mapping[MessageKind, LinkTerms] = {
    "verify_email": _VERIFY,
    "change_email": LinkTerms("change_email", timedelta(hours=24)),
    "set_password": LinkTerms("set_password", timedelta(hours=1)),
}
_FIRST_PASSWORD = LinkTerms("set_password", timedelta(days=7))
_ALLOWANCES: Mapping[MessageKind, MessageAllowance] = {
    "welcome": SOLICITED_BY_ANYONE,
    "verify_email": SOLICITED_BY_ANYONE,
    "change_email": SOLICITED_BY_ANYONE,
    "set_password": SOLICITED_BY_ANYONE,
    "password_changed": NOTICE,
    "email_changed": NOTICE,
}
"""The mailbox allowance of each kind of message. A link to set a password first uses
`PASSWORD_LINK`."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A message ready to send. `secret` is the secret of its link, stored only as a hash."""

    id: UUID
    kind: MessageKind
    attempt: int
    to: str
    name: str
    link: LinkTerms | None
    secret: str | None = field(repr=False)


class Withheld(NamedTuple):
    """A message that was not sent because its mailbox has reached its limit."""

    id: UUID
    kind: MessageKind


class Message(Base):
    """A message waiting to be sent, to `email` or, if that is `None`, to the account's address.

    If `user_id` is `None`, `email` is the key of an address (`EmailAddress`) whose account, if any,
    receives the message. The account is looked up only when the message is taken, so the response
    to a request for a link does not reveal, even by its timing, whether the account exists.
    `address` and `request_id` are the origin of such a request.

    For a change of email address, `token_version` is the account's value at the time of the
    request. When the account's tokens end, the message is no longer sent.
    """

    __tablename__ = "messages"

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"), info=ERASED)
    kind: Mapped[MessageKind] = mapped_column(String(24))
    email: Mapped[str | None] = mapped_column(String(254))
    address: Mapped[str | None] = mapped_column(String(45))
    request_id: Mapped[str | None] = mapped_column(String(128))
    token_version: Mapped[int | None] = mapped_column()
    created_at: Mapped[datetime] = mapped_column(UTCDateTime)
    due_at: Mapped[datetime] = mapped_column(UTCDateTime)
    attempts: Mapped[int] = mapped_column()

    __table_args__ = (Index(None, "due_at"), Index(None, "user_id"))

    @classmethod
    def enqueue(
        cls,
        session: Session,
        kind: MessageKind,
        user_id: int | None,
        *,
        email: str | None = None,
        token_version: int | None = None,
        origin: RequestOrigin = _UNKNOWN,
    ) -> None:
        """Store a message, to be sent after the transaction commits."""
        identifier = new_id()
        now = instant_of(identifier)
        message = cls(
            id=identifier,
            user_id=user_id,
            kind=kind,
            email=email,
            address=origin.address,
            request_id=origin.request_id,
            token_version=token_version,
            created_at=now,
            due_at=now,
            attempts=0,
        )
        session.add(message)

    @classmethod
    def is_any_due(cls, reader: Reader) -> bool:
        """Return whether any message is due."""
        return bool(reader.scalar(select(exists().where(cls.due_at <= utcnow()))))

    @classmethod
    def take(cls, session: Session, mailbox_key: bytes) -> Letter | Withheld | None:
        """Lease the message that has been due the longest, and issue the secret of its link.

        The lease lasts a minute. Messages without a recipient, or no longer useful to it, are
        deleted on the way. If a mailbox has reached its limit, its message is deleted and returned
        as `Withheld`. `mailbox_key` is the key of the hashes by which mailboxes are counted.
        """
        due = select(cls).where(cls.due_at <= utcnow()).order_by(cls.due_at).limit(_BATCH)
        for _ in range(_BATCHES):
            batch = session.scalars(due.with_for_update(skip_locked=True)).all()
            for message in batch:
                user = message.find_reader(session)
                wanted = user is not None and message.is_wanted_by(user)
                if user is not None and wanted and message.is_allowed(session, user, mailbox_key):
                    message.note_request(session, user)
                    message.attempts += 1
                    message.due_at = utcnow() + _LEASE
                    return message.letter_to(session, user)
                message.note_request(session, user, succeeded=False)
                session.delete(message)
                if wanted:
                    return Withheld(message.id, message.kind)
            session.flush()
            if len(batch) < _BATCH:
                break
        return None

    @classmethod
    def remove(cls, session: Session, letter: Letter) -> None:
        """Delete a message that was sent or is permanently undeliverable."""
        session.execute(delete(cls).where(*cls._same(letter)))

    @classmethod
    def postpone(cls, session: Session, letter: Letter) -> bool:
        """Schedule another attempt for a message that could not be sent, with a growing delay.

        After three days, delete the message and return `False`.
        """
        created_at = session.scalar(select(cls.created_at).where(*cls._same(letter)))
        if created_at is not None and created_at + _PATIENCE < utcnow():
            cls.remove(session, letter)
            return False
        pause = min(_FIRST_PAUSE * 2 ** min(letter.attempt - 1, 16), _LONGEST_PAUSE)
        # Random jitter spreads the retries of messages that failed together.
        pause *= random.uniform(0.5, 1)  # noqa: S311 - it need not be hard to guess.
        query = update(cls).where(*cls._same(letter)).values(due_at=utcnow() + pause)
        session.execute(query)
        return True

    @classmethod
    def purge(cls) -> Delete:
        """Return the statement that deletes all messages that are too old to send."""
        return delete(cls).where(cls.id < first_id_from(utcnow() - _PATIENCE - _GRACE))

    @classmethod
    def forget_address(cls, session: Session, email_key: str) -> None:
        """Delete the messages to an address key that have no account yet."""
        session.execute(delete(cls).where(cls.user_id.is_(None), cls.email == email_key))

    def find_reader(self, session: Session) -> User | None:
        """Return the account that receives the message, or `None` if there is none."""
        if self.user_id is not None:
            return session.get(User, self.user_id)
        return User.by_email(session, self.email or "")

    def is_allowed(self, session: Session, user: User, mailbox_key: bytes) -> bool:
        """Return whether the mailbox's limit allows the message. A retry does not count again."""
        if self.attempts:
            return True
        to = user.email if self.user_id is None else self.email or user.email
        if self.kind == "set_password":
            address = address_of(to, mailbox_key, is_verified=user.email_verified)
            if MailboxUse.spend(session, address, PASSWORD_LINK):
                return True
        # A stranger may own the account of an unverified address, and can cause any message to it.
        allowance = _ALLOWANCES[self.kind] if user.email_verified else SOLICITED_BY_ANYONE
        return MailboxUse.spend(session, mailbox_of(to, mailbox_key), allowance)

    def note_request(self, session: Session, user: User | None, *, succeeded: bool = True) -> None:
        """Record a message requested by address in the audit log, and bind it to its account."""
        if self.user_id is not None:
            return
        origin = RequestOrigin(self.address, self.request_id)
        user_id = user.id if user else None
        AuditEvent.record(
            session, "password.reset-request", origin, user_id=user_id, succeeded=succeeded
        )
        if user is not None:
            # Send to the address as stored, not to the normalized key.
            self.user_id, self.email = user.id, None

    def is_wanted_by(self, user: User) -> bool:
        """Return whether the message is still useful to its recipient."""
        if user.erased_at is not None or self.token_version not in (None, user.token_version):
            return False
        if self.kind in ("password_changed", "email_changed"):
            return True
        return user.active and not (self.kind == "verify_email" and user.email_verified)

    def letter_to(self, session: Session, user: User) -> Letter:
        """Return the letter to an account, with a new secret if it has a link."""
        link, to = self._link(user), self.email or user.email
        secret = None
        if link is not None:
            # A seemingly failed attempt may have arrived, so its link stays valid too.
            lifetime = link.lifetime
            secret = OneTimeToken.issue(session, user, link.purpose, lifetime=lifetime, email=to)
        return Letter(self.id, self.kind, self.attempts, to, user.name, link, secret)

    @classmethod
    def _same(cls, letter: Letter) -> tuple[ColumnElement[bool], ...]:
        # If the lease expired and another sender took the message, the attempt count differs.
        return cls.id == letter.id, cls.attempts == letter.attempt

    def _link(self, user: User) -> LinkTerms | None:
        if self.kind != "welcome":
            return _LINKS.get(self.kind)
        return _FIRST_PASSWORD if user.password_hash is None else _VERIFY
