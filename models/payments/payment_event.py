"""Events of payment providers: each acts once on an order, or is kept with the reason why not."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Literal
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Index,
    String,
    UniqueConstraint,
    Uuid,
    bindparam,
    select,
    text,
)
from sqlalchemy.orm import Mapped, Session, mapped_column

from models.catalogue.product import Price
from models.errors import (
    BounceExceedsPayment,
    DomainError,
    IllegalTransition,
    InvalidAmount,
    NotFound,
    PaymentNotRecorded,
    PaymentRecorded,
)
from models.lifecycle import Lifecycle
from models.money import MAX_AMOUNT, Money, currencies
from models.orders.order import Order
from models.orders.order_event import OrderEvent
from models.storage.base import Base, UTCDateTime
from models.storage.identifiers import instant_of, new_id
from models.storage.page import Listing, Page
from models.storage.reader import Reader

# This is plain SQL because SQLAlchemy has no ON CONFLICT construct common to both databases.
_STORE = text(
    "INSERT INTO payment_events (id, provider, key, kind, outcome, order_id, reference, money,"
    " currency, created_at) VALUES (:id, :provider, :key, :kind, :outcome, :order_id, :reference,"
    " :money, :currency, :created_at) ON CONFLICT (provider, key) DO NOTHING RETURNING id"
).bindparams(
    bindparam("id", type_=Uuid()),
    bindparam("order_id", type_=Uuid()),
    bindparam("created_at", type_=UTCDateTime),
)

Kind = Literal["payment", "bounce"]
Outcome = Literal["applied", "refused"]

_REFUSALS: dict[type[DomainError], str] = {
    NotFound: "The order does not exist.",
    InvalidAmount: "The amount is not one that the order can be paid with.",
    BounceExceedsPayment: "The amount exceeds what remains of the payment.",
    IllegalTransition: "The order holds no money that could bounce.",
    PaymentRecorded: "The order has another payment with this reference, or the payment bounced.",
}
"""The errors that another attempt would not change, with the reason that is kept."""


@dataclass(frozen=True, slots=True)
class Report:
    """A signed event of a provider that reports a payment or a bounce.

    `key` identifies the event at the provider. `reference` is the payment's id there. The order is
    `order_id`, or the one that has the payment `paid_as`. Without an `amount`, all that remains of
    the payment bounced.
    """

    provider: str
    key: str
    kind: Kind
    reference: str
    order_id: UUID | None = None
    paid_as: str | None = None
    amount: Price | None = None
    reason: str | None = None

    @property
    def has_valid_amount(self) -> bool:
        """Whether the amount is one that orders can have; only a bounce may have none."""
        if self.amount is None:
            return self.kind == "bounce"
        return self.amount["currency"] in currencies() and 0 <= self.amount["amount"] <= MAX_AMOUNT


class PaymentEvent(Base):
    """An event of a provider that was received.

    An event that cannot be applied is kept as `refused`, because the money is at the provider, and
    answering with an error would only make the provider send it again for days. It has no personal
    data.
    """

    __tablename__ = "payment_events"

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    provider: Mapped[str] = mapped_column(String(40))
    key: Mapped[str] = mapped_column(String(255))
    kind: Mapped[Kind] = mapped_column(String(16))
    outcome: Mapped[Outcome] = mapped_column(String(16))
    order_id: Mapped[UUID | None] = mapped_column(Uuid)
    reference: Mapped[str] = mapped_column(String(100))
    money: Mapped[int | None] = mapped_column(BigInteger)
    currency: Mapped[str | None] = mapped_column(String(3))
    refusal: Mapped[str | None] = mapped_column(String(200))
    created_at: Mapped[datetime] = mapped_column(UTCDateTime)

    __table_args__ = (
        CheckConstraint(kind.in_(("payment", "bounce")), name="kind"),
        CheckConstraint(outcome.in_(("applied", "refused")), name="outcome"),
        UniqueConstraint("provider", "key"),
        Index(None, "outcome", "id"),
    )

    @property
    def amount(self) -> Money | None:
        """The reported amount; `None` if there is none, or it is not one that orders can have."""
        if self.money is None or self.currency is None:
            return None
        return Money(self.money, self.currency)

    @classmethod
    def page(
        cls,
        reader: Reader,
        *,
        outcome: Outcome | None,
        after: Sequence[object] | None,
        limit: int,
    ) -> Page["PaymentEvent"]:
        """Return a page of the events, newest first."""
        query = select(cls)
        if outcome is not None:
            query = query.where(cls.outcome == outcome)
        return Listing(query, [cls.id], descending=True).page(reader, after=after, limit=limit)

    @classmethod
    def receive(
        cls, session: Session, report: Report, lifecycle: Lifecycle, *, reservation: timedelta
    ) -> "PaymentEvent | None":
        """Apply a report to its order and keep it; return `None` if it was received before.

        Raises:
            PaymentNotRecorded: The payment that the report is about is not recorded yet.
        """
        order_id = report.order_id
        if report.paid_as is not None:
            order_id = OrderEvent.paid_order(
                session, method=report.provider, reference=report.paid_as
            )
            if order_id is None:
                raise PaymentNotRecorded
        event = cls._claim(session, report, order_id)
        if event is None:
            return None
        try:
            _apply(session, report, order_id, lifecycle, reservation)
        except tuple(_REFUSALS) as error:
            event.outcome, event.refusal = "refused", _REFUSALS[type(error)]
        return event

    @classmethod
    def _claim(
        cls, session: Session, report: Report, order_id: UUID | None
    ) -> "PaymentEvent | None":
        """Store the event, unless it is stored already.

        A concurrent transaction with the same event waits here until the first one ends.
        """
        identifier, amount = new_id(), report.amount if report.has_valid_amount else None
        values = {
            "id": identifier,
            "provider": report.provider,
            "key": report.key,
            "kind": report.kind,
            "outcome": "applied",
            "order_id": order_id,
            "reference": report.reference,
            "money": amount and amount["amount"],
            "currency": amount and amount["currency"],
            "created_at": instant_of(identifier),
        }
        if session.execute(_STORE, values).first() is None:
            return None
        return session.get_one(cls, identifier)


def _apply(
    session: Session,
    report: Report,
    order_id: UUID | None,
    lifecycle: Lifecycle,
    reservation: timedelta,
) -> None:
    if order_id is None:
        raise NotFound
    if not report.has_valid_amount:
        raise InvalidAmount
    order = Order.lock(session, order_id)
    look_up = partial(
        OrderEvent.payment, session, order_id, method=report.provider, reference=report.reference
    )
    if report.kind == "payment" and report.amount is not None:
        try:
            order.pay(
                session,
                lifecycle,
                report.amount,
                method=report.provider,
                reference=report.reference,
                by=None,
            )
        except PaymentRecorded:
            # Somebody may have recorded the same payment by hand.
            if look_up() != report.amount["amount"]:
                raise
    else:
        if look_up() is None:
            raise PaymentNotRecorded
        order.bounce(
            session,
            lifecycle,
            report.amount,
            method=report.provider,
            reference=report.reference,
            reason=report.reason,
            reservation=reservation,
            by=None,
        )
