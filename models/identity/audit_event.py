"""The audit log of accounts: an append-only record of each action, its actor and its origin.

Erasing an account removes the network addresses and request ids from its events.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Literal, NamedTuple
from uuid import UUID

from sqlalchemy import Delete, Index, String, Uuid, delete, select, true, update
from sqlalchemy.orm import Mapped, Session, make_transient, mapped_column

from models.actor import Actor
from models.storage.base import Base, BigId, UTCDateTime, utcnow
from models.storage.identifiers import first_id_from, instant_of, new_id
from models.storage.page import Listing, Page
from models.storage.reader import Reader

AuditAction = Literal[
    "account.create",
    "account.delete",
    "account.disable",
    "account.enable",
    "account.require-password-change",
    "account.role",
    "account.search",
    "email.change",
    "email.change-request",
    "email.verify",
    "key.create",
    "password.change",
    "password.reset",
    "password.reset-request",
    "refresh.replay",
    "second-factor.confirm",
    "second-factor.disable",
    "second-factor.enrol",
    "second-factor.recovery-codes",
    "session.end-all",
    "sign-in",
    "sign-in.challenge",
    "sign-in.second-factor",
    "token.end",
]


class RequestOrigin(NamedTuple):
    """The origin of a request, as recorded in the audit log and on tokens.

    `network` is the address itself or, for IPv6, its /64 network.
    """

    address: str | None = None
    request_id: str | None = None
    user_agent: str | None = None
    actor_id: int | None = None
    token_id: UUID | None = None
    network: str | None = None


class AuditEvent(Base):
    """An action on an account, successful or not.

    `user_id` is the account affected. `actor_id` is the account whose token made the request. Each
    is `None` if unknown. The request id is the only client-supplied text in an event.
    """

    __tablename__ = "audit_events"

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    action: Mapped[str] = mapped_column(String(40))
    succeeded: Mapped[bool] = mapped_column()
    # These columns have no foreign keys because account rows are never deleted. PostgreSQL would
    # also check the key only for an existing account, so the duration of a failed sign-in would
    # reveal whether the account exists.
    actor_id: Mapped[int | None] = mapped_column(BigId)
    user_id: Mapped[int | None] = mapped_column(BigId)
    token_id: Mapped[UUID | None] = mapped_column(Uuid)
    address: Mapped[str | None] = mapped_column(String(45))
    request_id: Mapped[str | None] = mapped_column(String(128))
    created_at: Mapped[datetime] = mapped_column(UTCDateTime)

    __table_args__ = (
        # Lists are ordered by id, which is by age, and filtered by account, action or both.
        Index(None, "user_id", "id"),
        Index(None, "action", "id"),
        Index(None, "user_id", "action", "id"),
        Index(None, "actor_id"),
    )

    @classmethod
    def record(
        cls,
        session: Session,
        action: AuditAction,
        origin: RequestOrigin,
        *,
        user_id: int | None,
        succeeded: bool = True,
    ) -> None:
        """Record an action on an account, in the transaction that performs it."""
        identifier = new_id()
        event = cls(
            id=identifier,
            action=action,
            succeeded=succeeded,
            actor_id=origin.actor_id,
            user_id=user_id,
            token_id=origin.token_id,
            address=origin.address,
            request_id=origin.request_id,
            created_at=instant_of(identifier),
        )
        session.add(event)

    @classmethod
    def page(
        cls,
        reader: Reader,
        actor: Actor,
        *,
        user_id: int | None = None,
        action: AuditAction | None = None,
        created_from: datetime | None = None,
        created_to: datetime | None = None,
        after: Sequence[object] | None = None,
        limit: int,
    ) -> Page["AuditEvent"]:
        """Return a page of the events visible to the actor, newest first.

        An administrator sees the events of all accounts, a user only those of their own account.
        `created_from` is inclusive and `created_to` is exclusive.
        """
        query = select(cls).where(true() if actor.is_admin else cls.user_id == actor.user_id)
        if user_id is not None:
            query = query.where(cls.user_id == user_id)
        if action is not None:
            query = query.where(cls.action == action)
        # A UUIDv7 contains its creation time, so the time bounds become id bounds.
        if created_from is not None:
            query = query.where(cls.id >= first_id_from(created_from))
        if created_to is not None:
            query = query.where(cls.id < first_id_from(created_to))
        page = Listing(query, [cls.id], descending=True).page(reader, after=after, limit=limit)
        if not actor.is_admin:
            cls._hide_others(page.items, actor.user_id)
        return page

    @classmethod
    def about(cls, reader: Reader, user_id: int, *, limit: int) -> Sequence["AuditEvent"]:
        """Return the newest events on an account and of its owner's actions, newest first."""
        theirs = (cls.user_id == user_id) | (cls.actor_id == user_id)
        events = reader.scalars(select(cls).where(theirs).order_by(cls.id.desc()).limit(limit))
        found = list(events)
        cls._hide_others(found, user_id)
        return found

    @classmethod
    def _hide_others(cls, events: Iterable["AuditEvent"], user_id: int) -> None:
        """Hide the network addresses of others, because users must not learn them."""
        for event in events:
            if event.actor_id not in (None, user_id):
                make_transient(event)
                event.address = event.request_id = event.token_id = None

    @classmethod
    def purge(cls, keep: timedelta) -> Delete:
        """Return the statement that deletes all events older than `keep`."""
        return delete(cls).where(cls.id < first_id_from(utcnow() - keep))

    @classmethod
    def forget(cls, session: Session, user_id: int) -> None:
        """Remove addresses and request ids from an account's events; keep the events themselves."""
        # The UPDATE must also reach the events recorded in this transaction.
        session.flush()
        own = (cls.user_id == user_id) | (cls.actor_id == user_id)
        traced = cls.address.is_not(None) | cls.request_id.is_not(None)
        session.execute(update(cls).where(own, traced).values(address=None, request_id=None))
