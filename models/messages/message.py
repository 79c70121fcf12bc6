"""The transactional outbox of messages.

A message is stored in the transaction that causes it, so it exists if and only if that transaction
commits. A sender leases up to 20 rows for a minute and deletes them after sending. If the sender
fails before that, another one sends these messages, with the same ids.
"""

import random
from collections.abc import Mapping, Sequence
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
    tuple_,
    update,
)
from sqlalchemy.orm import Mapped, Session, mapped_column

from models.identity.audit_event import AuditEvent, RequestOrigin
from models.identity.one_time_token import Purpose
from models.identity.user import User
from models.messages.mailbox import (
    NOTICE,
    PASSWORD_LINK,
    SOLICITED_BY_ANYONE,
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
    "webhook_disabled",
]

_FIRST_PAUSE = timedelta(seconds=10)
_LONGEST_PAUSE = timedelta(hours=1)
_PATIENCE = timedelta(days=3)
"""Time during which sending a message is retried."""
_GRACE = timedelta(hours=1)
"""Extra time for the sender to make the last attempt and report the failure."""
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
    "webhook_disabled": NOTICE,
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
    def remove(cls, session: Session, letters: Sequence[Letter]) -> None:
        """Delete messages that were sent or are permanently undeliverable."""
        session.execute(delete(cls).where(cls._same(letters)))

    @classmethod
    def release(cls, session: Session, letters: Sequence[Letter]) -> None:
        """Let messages that were not tried be taken again at once."""
        session.execute(update(cls).where(cls._same(letters)).values(due_at=utcnow()))

    @classmethod
    def postpone(cls, session: Session, letter: Letter) -> bool:
        """Schedule another attempt for a message that could not be sent, with a growing delay.

        After three days, delete the message and return `False`.
        """
        created_at = session.scalar(select(cls.created_at).where(cls._same([letter])))
        age = timedelta() if created_at is None else utcnow() - created_at
        if age > _PATIENCE:
            cls.remove(session, [letter])
            return False
        # The pause grows with the age, not with the number of attempts: taking a message counts as
        # an attempt even if it is released untried, so a short outage would delay a queue for an
        # hour.
        pause = min(max(age, _FIRST_PAUSE), _LONGEST_PAUSE)
        # Random jitter spreads the retries of messages that failed together.
        pause *= random.uniform(0.5, 1)  # noqa: S311 - it need not be hard to guess.
        query = update(cls).where(cls._same([letter])).values(due_at=utcnow() + pause)
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

    def allowances(self, user: User, mailbox_key: bytes) -> list[tuple[bytes, MessageAllowance]]:
        """Return the mailboxes and allowances of which one must have a message left."""
        to = user.email if self.user_id is None else self.email or user.email
        # A stranger may own the account of an unverified address, and can cause any message to it.
        allowance = _ALLOWANCES[self.kind] if user.email_verified else SOLICITED_BY_ANYONE
        own = (mailbox_of(to, mailbox_key), allowance)
        if self.kind != "set_password":
            return [own]
        address = address_of(to, mailbox_key, is_verified=user.email_verified)
        return [(address, PASSWORD_LINK), own]

    def note_request(self, session: Session, user: User | None, *, succeeded: bool) -> None:
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
        if self.token_version not in (None, user.token_version):
            return False
        if self.kind in ("password_changed", "email_changed"):
            return True
        if self.kind == "webhook_disabled" and user.role != "admin":
            return False
        return user.active and not (self.kind == "verify_email" and user.email_verified)

    @classmethod
    def _same(cls, letters: Sequence[Letter]) -> ColumnElement[bool]:
        # If the lease expired and another sender took the message, the attempt count differs.
        attempts = [(letter.id, letter.attempt) for letter in letters]
        return tuple_(cls.id, cls.attempts).in_(attempts)

    def link_for(self, user: User) -> LinkTerms | None:
        """Return the terms of the message's link, or `None` if it has none."""
        if self.kind != "welcome":
            return _LINKS.get(self.kind)
        return _FIRST_PASSWORD if user.password_hash is None else _VERIFY
