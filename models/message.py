"""Messages that are to be sent: an outbox, written with what they tell of, and emptied later.

A message is a row of the transaction that gives rise to it, so that there is none for what was
rolled back, and one for everything that was not. Whoever sends takes the row for a while, and
removes it when the message is out: if they die in between, somebody else sends it.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, NamedTuple
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
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

from models.audit_event import AuditEvent, Origin
from models.base import Base, UTCDateTime, utcnow
from models.identifiers import instant_of, new_id
from models.one_time_token import OneTimeToken, Purpose
from models.user import User

MessageKind = Literal[
    "welcome",
    "verify_email",
    "change_email",
    "set_password",
    "password_changed",
    "email_changed",
]

_LEASE = timedelta(seconds=60)
"""How long whoever took a message has it to themselves; no attempt to send takes as long."""
_FIRST_PAUSE = timedelta(seconds=10)
_LONGEST_PAUSE = timedelta(hours=1)
PATIENCE = timedelta(days=3)
"""How long a message is tried."""
_BATCH = 20
_BATCHES = 50
"""How many of them one transaction goes through for a message that is still wanted."""
_UNKNOWN = Origin()


class Link(NamedTuple):
    """What the link of a message is for, and how long it is good."""

    purpose: Purpose
    lifetime: timedelta


_VERIFY = Link("verify_email", timedelta(hours=24))
_LINKS: Mapping[MessageKind, Link] = {
    "verify_email": _VERIFY,
    "change_email": Link("change_email", timedelta(hours=24)),
    "set_password": Link("set_password", timedelta(hours=1)),
}
_FIRST_PASSWORD = Link("set_password", timedelta(days=7))


@dataclass(frozen=True, slots=True)
class Letter:
    """A message as it is to be sent; `secret` is the only copy of that of its link."""

    id: UUID
    kind: MessageKind
    attempt: int
    to: str
    name: str
    link: Link | None
    secret: str | None = field(repr=False)


class Message(Base):
    """A message that waits to be sent, and to whom: the account's address unless `email` says.

    One without an account is for that of the address whose key `email` is, if there is one: it is
    looked for when the message is taken, so that whoever asks for a link cannot tell by anything,
    not even by the time that it takes. `address` and `request_id` say from where it was asked for.

    `token_version` is that of the account when its owner asked: what ends the account's tokens
    ends the message as well.
    """

    __tablename__ = "messages"

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
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
        origin: Origin = _UNKNOWN,
    ) -> None:
        """Have a message sent once the transaction is committed."""
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
    def is_any_due(cls, session: Session) -> bool:
        """Tell whether there is something to send."""
        return bool(session.scalar(select(exists().where(cls.due_at <= utcnow()))))

    @classmethod
    def take(cls, session: Session) -> Letter | None:
        """Take the message that has been due for longest, and make the secret of its link.

        It is the taker's for a minute. Those that are for nobody any more are removed on the way.
        """
        due = select(cls).where(cls.due_at <= utcnow()).order_by(cls.due_at).limit(_BATCH)
        for _ in range(_BATCHES):
            batch = session.scalars(due.with_for_update(skip_locked=True)).all()
            for message in batch:
                user = message.find_reader(session)
                if user is not None and message.is_wanted_by(user):
                    message.attempts += 1
                    message.due_at = utcnow() + _LEASE
                    return message.letter_to(session, user)
                session.delete(message)
            session.flush()
            if len(batch) < _BATCH:
                break
        return None

    @classmethod
    def remove(cls, session: Session, letter: Letter) -> None:
        """Forget a message that was sent, or that nobody will ever take."""
        session.execute(delete(cls).where(*cls._same(letter)))

    @classmethod
    def postpone(cls, session: Session, letter: Letter) -> bool:
        """Have a message that could not be sent tried again later, and later each time.

        After three days it is removed instead, and the answer is no.
        """
        created_at = session.scalar(select(cls.created_at).where(*cls._same(letter)))
        if created_at is not None and created_at + PATIENCE < utcnow():
            cls.remove(session, letter)
            return False
        pause = min(_FIRST_PAUSE * 2 ** min(letter.attempt - 1, 16), _LONGEST_PAUSE)
        # Chance keeps those apart that failed together.
        pause *= random.uniform(0.5, 1)  # noqa: S311 - it need not be hard to guess.
        query = update(cls).where(*cls._same(letter)).values(due_at=utcnow() + pause)
        session.execute(query)
        return True

    @classmethod
    def forget(cls, session: Session, user: User) -> None:
        """Remove the messages to an account, before its address is forgotten."""
        to_address = cls.user_id.is_(None) & (cls.email == user.email_key)
        session.execute(delete(cls).where((cls.user_id == user.id) | to_address))

    def find_reader(self, session: Session) -> User | None:
        """Find the account that the message is to; who asked for it is written down by that."""
        if self.user_id is not None:
            return session.get(User, self.user_id)
        user = User.by_email(session, self.email or "")
        AuditEvent.record(
            session,
            "password.reset-request",
            Origin(self.address, self.request_id),
            user_id=user.id if user else None,
            succeeded=user is not None and self.is_wanted_by(user),
        )
        if user is not None:
            # It goes to the address as its owner wrote it, and to no twin of it.
            self.user_id, self.email = user.id, None
        return user

    def is_wanted_by(self, user: User) -> bool:
        """Tell whether the message still says something that its reader can use."""
        if user.erased_at is not None or self.token_version not in (None, user.token_version):
            return False
        if self.kind in ("password_changed", "email_changed"):
            return True
        return user.active and not (self.kind == "verify_email" and user.email_verified)

    def letter_to(self, session: Session, user: User) -> Letter:
        """Write down what is to be sent to an account, with a new secret."""
        link, to = self._link(user), self.email or user.email
        secret = None
        if link is not None:
            # An attempt that seemed to fail may have arrived: its link stays as good as the next.
            secret = OneTimeToken.issue(
                session,
                user,
                link.purpose,
                lifetime=link.lifetime,
                email=to,
                alone=self.attempts == 1,
            )
        return Letter(self.id, self.kind, self.attempts, to, user.name, link, secret)

    @classmethod
    def _same(cls, letter: Letter) -> tuple[ColumnElement[bool], ...]:
        # Whoever was too slow finds another count, and leaves the message to whoever took it over.
        return cls.id == letter.id, cls.attempts == letter.attempt

    def _link(self, user: User) -> Link | None:
        if self.kind != "welcome":
            return _LINKS.get(self.kind)
        return _FIRST_PASSWORD if user.password_hash is None else _VERIFY
