"""Deliveries: each event that is sent to a webhook endpoint, and the outcome of its attempts."""

import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal, NamedTuple, get_args
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    ColumnElement,
    Delete,
    ForeignKey,
    Index,
    String,
    Uuid,
    delete,
    literal,
    select,
    text,
)
from sqlalchemy.orm import Mapped, Session, mapped_column

from models.errors import NotFound
from models.storage.base import Base, UTCDateTime, utcnow
from models.storage.identifiers import first_id_from, instant_of, new_id
from models.storage.page import Listing, Page
from models.storage.reader import Reader

DeliveryStatus = Literal["pending", "delivered", "failed"]

PING = "webhook.ping"
"""Type of the test event, which exists only as a delivery."""
TEXT_LENGTH = 200
_SUCCESS = range(200, 300)
_GONE = 410
_MOST_REPEATED = 1000
_LEASE = timedelta(seconds=60)
"""Time for which a sender leases a delivery. Every attempt takes less."""
_FIRST_PAUSE = timedelta(seconds=5)
_LONGEST_PAUSE = timedelta(hours=3)
PATIENCE = timedelta(days=3)
"""Time during which a delivery is attempted."""


class AttemptOutcome(NamedTuple):
    """The result of an attempt: the status of the response, if any, and its start or the reason.

    A receiver that has not accepted the event may ask for no attempt before `not_before`.
    """

    status: int | None
    text: str
    not_before: datetime | None = None

    @property
    def has_succeeded(self) -> bool:
        """Whether the receiver has accepted the event."""
        return self.status in _SUCCESS

    @property
    def is_final(self) -> bool:
        """Whether the receiver wants no more events: 410, as in Standard Webhooks."""
        return self.status == _GONE


class Delivery(Base):
    """An event to be sent to a webhook endpoint, or already sent.

    `due_at` is set while the delivery is pending. A sender leases the row by moving it on.
    `started_at` is when the three days of attempts began.
    """

    __tablename__ = "webhook_deliveries"

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    webhook_id: Mapped[UUID] = mapped_column(Uuid, ForeignKey("webhook_endpoints.id"))
    event_id: Mapped[UUID] = mapped_column(Uuid)
    type: Mapped[str] = mapped_column(String(40))
    status: Mapped[DeliveryStatus] = mapped_column(String(12), default="pending")
    attempts: Mapped[int] = mapped_column(default=0)
    response_status: Mapped[int | None] = mapped_column()
    response_text: Mapped[str | None] = mapped_column(String(TEXT_LENGTH))
    created_at: Mapped[datetime] = mapped_column(UTCDateTime)
    started_at: Mapped[datetime] = mapped_column(UTCDateTime)
    attempted_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    due_at: Mapped[datetime | None] = mapped_column(UTCDateTime)

    __table_args__ = (
        CheckConstraint(status.in_(get_args(DeliveryStatus)), name="status"),
        Index(None, "webhook_id", "id"),
        Index(None, "webhook_id", "status", "id"),
        Index(
            None,
            "webhook_id",
            "due_at",
            postgresql_where=text("due_at IS NOT NULL"),
            sqlite_where=text("due_at IS NOT NULL"),
        ),
    )

    @classmethod
    def create(
        cls, session: Session, webhook_id: UUID, event_type: str, event_id: UUID | None = None
    ) -> "Delivery":
        """Create a pending delivery; without `event_id`, one of a new event that has no record."""
        identifier = new_id()
        now = instant_of(identifier)
        delivery = cls(
            id=identifier,
            webhook_id=webhook_id,
            event_id=event_id or new_id(),
            type=event_type,
            status="pending",
            attempts=0,
            created_at=now,
            started_at=now,
            due_at=now,
        )
        session.add(delivery)
        return delivery

    @classmethod
    def page(
        cls,
        reader: Reader,
        webhook_id: UUID,
        *,
        status: DeliveryStatus | None = None,
        after: Sequence[object] | None,
        limit: int,
    ) -> Page["Delivery"]:
        """Return a page of the deliveries to a webhook endpoint, newest first."""
        query = select(cls).where(cls.webhook_id == webhook_id)
        if status is not None:
            query = query.where(cls.status == status)
        return Listing(query, [cls.id], descending=True).page(reader, after=after, limit=limit)

    @classmethod
    def of(cls, reader: Reader, webhook_id: UUID, delivery_id: UUID) -> "Delivery":
        """Return one delivery to a webhook endpoint.

        Raises:
            NotFound: The webhook endpoint has no delivery with this id.
        """
        query = select(cls).where(cls.webhook_id == webhook_id, cls.id == delivery_id)
        delivery = reader.scalar(query)
        if delivery is None:
            raise NotFound
        return delivery

    @classmethod
    def locked(cls, session: Session, webhook_id: UUID, delivery_id: UUID) -> "Delivery":
        """Return one delivery to a webhook endpoint, locked until the transaction ends.

        Raises:
            NotFound: As in `of`.
        """
        delivery = session.get(cls, delivery_id, with_for_update=True)
        if delivery is None or delivery.webhook_id != webhook_id:
            raise NotFound
        return delivery

    @classmethod
    def is_due(cls, now: ColumnElement[datetime]) -> ColumnElement[bool]:
        """Return the SQL condition for deliveries that a sender may lease."""
        return (cls.due_at <= now) & (cls.status == "pending")

    @classmethod
    def repeat_since(cls, session: Session, webhook_id: UUID, since: datetime) -> int:
        """Repeat finished deliveries created at `since` or later; return their number.

        Up to 1,000 are repeated, the oldest first.
        """
        finished = select(cls).where(cls.webhook_id == webhook_id, cls.id >= first_id_from(since))
        finished = finished.where(cls.status != "pending").order_by(cls.id).limit(_MOST_REPEATED)
        deliveries = session.scalars(finished.with_for_update()).all()
        for delivery in deliveries:
            delivery.repeat()
        return len(deliveries)

    @classmethod
    def lease(cls, session: Session, webhook_id: UUID, limit: int) -> Sequence["Delivery"]:
        """Return up to `limit` due deliveries, which no other sender takes for a minute."""
        now = utcnow()
        due = select(cls).where(cls.webhook_id == webhook_id, cls.is_due(literal(now)))
        due = due.order_by(cls.due_at).limit(limit).with_for_update(skip_locked=True)
        leased = session.scalars(due).all()
        for delivery in leased:
            delivery.attempts += 1
            delivery.attempted_at = now
            delivery.due_at = now + _LEASE
        return leased

    @classmethod
    def purge(cls, keep: timedelta) -> Delete:
        """Return the statement that deletes all deliveries older than `keep`."""
        return delete(cls).where(cls.id < first_id_from(utcnow() - keep))

    def repeat(self) -> None:
        """Make the delivery, which is locked, pending again, with three more days of attempts."""
        self.started_at = self.due_at = utcnow()
        self.status = "pending"

    def finish(self, outcome: AttemptOutcome, active_since: datetime) -> None:
        """Record the outcome of the latest attempt, and when the next one is due.

        The receiver can postpone the next attempt, but not by more than the longest pause.
        Nothing was attempted before `active_since`, when the endpoint became active.
        """
        self.response_status, self.response_text = outcome.status, outcome.text
        now = utcnow()
        if outcome.has_succeeded:
            self.status, self.due_at = "delivered", None
        elif outcome.is_final or max(self.started_at, active_since) + PATIENCE < now:
            self.status, self.due_at = "failed", None
        else:
            pause = min(_FIRST_PAUSE * 4 ** min(self.attempts - 1, 12), _LONGEST_PAUSE)
            # Random jitter spreads the retries of deliveries that failed together.
            pause *= random.uniform(0.5, 1)  # noqa: S311 - it need not be hard to guess.
            asked = min(outcome.not_before or now, now + _LONGEST_PAUSE)
            self.due_at = max(now + pause, asked)
