"""The row of an order: its columns, its balance, and how each action is recorded."""

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    String,
    Uuid,
    case,
    false,
    select,
    text,
    update,
)
from sqlalchemy.orm import (
    Mapped,
    Session,
    column_property,
    declared_attr,
    mapped_column,
    relationship,
)

from models.actor import Actor
from models.catalogue.product import Product
from models.events.event import Event
from models.identity.user import User
from models.lifecycle import Lifecycle
from models.orders.order_balance import Balanced, OrderBalance
from models.orders.order_event import OrderEvent
from models.orders.order_feed import feed_event
from models.orders.order_line import OrderLine
from models.storage.base import Base, UTCDateTime, Versioned, kept, utcnow
from models.storage.idempotency_record import IdempotencyRecord

RESERVING = frozenset({"pending", "paid", "partially_shipped"})
"""States in which unshipped units are reserved."""
ENDED = frozenset({"delivered", "cancelled", "expired", "refunded"})
"""States in which nothing remains to be shipped."""


class OrderRow(Balanced, Versioned, Base):
    """The columns of `Order`, and what its actions share.

    `OrderBalance` explains the amounts. `paid_amount` is the money applied to the total, including
    `refunded_amount`, which was refunded, and `bounced_amount`, which bounced. `unapplied_amount`
    is the other money received; `unapplied_refunded_amount` is the sum of its refunds.
    `retained_since` is the time of the last change of an order that has ended and may have personal
    data; it is `None` once they are removed.
    """

    __abstract__ = True
    __tablename__ = "orders"

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    user_id: Mapped[int] = mapped_column(
        ForeignKey("users.id"),
        info=kept("the books need every order; personal members are removed"),
    )
    status: Mapped[str] = mapped_column(String(24))
    currency: Mapped[str] = mapped_column(String(3))
    total_amount: Mapped[int] = mapped_column(BigInteger)
    paid_amount: Mapped[int] = mapped_column(BigInteger, default=0)
    refunded_amount: Mapped[int] = mapped_column(BigInteger, default=0)
    bounced_amount: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    unapplied_amount: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    unapplied_refunded_amount: Mapped[int] = mapped_column(
        BigInteger, default=0, server_default="0"
    )
    note: Mapped[str | None] = mapped_column(String(1000))
    shipping_address: Mapped[dict[str, str] | None] = mapped_column(JSON(none_as_null=True))
    labels: Mapped[dict[str, str]] = mapped_column("metadata", JSON, default=dict)
    expires_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    created_at: Mapped[datetime] = mapped_column(UTCDateTime)
    updated_at: Mapped[datetime] = mapped_column(UTCDateTime)
    retained_since: Mapped[datetime | None] = mapped_column(UTCDateTime)

    __table_args__ = (
        CheckConstraint("refunded_amount >= 0 AND refunded_amount <= paid_amount", name="refunded"),
        CheckConstraint("paid_amount <= total_amount", name="paid"),
        CheckConstraint("bounced_amount >= 0", name="bounced"),
        CheckConstraint("unapplied_amount >= 0", name="unapplied"),
        CheckConstraint(
            "status NOT IN ('partially_shipped', 'shipped', 'delivered')"
            " OR paid_amount = total_amount",
            name="shipped_paid",
        ),
        # Lists are sorted by id, which is by age, or by total. They contain all orders, or those of
        # a user, a status, or both (`models.orders.order_list`). Each of these eight lists needs
        # its own index; the first is the primary key. None replaces another, because ids are only
        # sorted within one total or status. Lists by the last change are read from a recent time
        # on, so a status is checked row by row.
        Index(None, "user_id", "id"),
        Index(None, "status", "id"),
        Index(None, "user_id", "status", "id"),
        Index(None, "total_amount", "id"),
        Index(None, "user_id", "total_amount", "id"),
        Index(None, "status", "total_amount", "id"),
        Index(None, "user_id", "status", "total_amount", "id"),
        Index(None, "updated_at", "id"),
        Index(None, "user_id", "updated_at", "id"),
        Index(
            None,
            "expires_at",
            postgresql_where=text("expires_at IS NOT NULL"),
            sqlite_where=text("expires_at IS NOT NULL"),
        ),
        Index(
            None,
            "retained_since",
            postgresql_where=text("retained_since IS NOT NULL"),
            sqlite_where=text("retained_since IS NOT NULL"),
        ),
    )

    @declared_attr
    @classmethod
    def lines(cls) -> Mapped[list[OrderLine]]:
        """The lines, in the order in which they were sent."""
        return relationship(lazy="raise", order_by=OrderLine.number)

    @declared_attr
    @classmethod
    def owner_erased(cls) -> Mapped[bool]:
        """Whether the owner's account had been erased when the order was read.

        Most orders have no units to ship, allow no update and need no look at their owner.
        """
        owner = select(User.erased_at.is_not(None)).where(User.id == cls.user_id)
        is_erased = owner.correlate_except(User).scalar_subquery()
        looked_up = case((cls.status.in_(sorted(RESERVING)), is_erased), else_=false())
        return column_property(looked_up, expire_on_flush=False)

    @property
    def balance(self) -> OrderBalance:
        """What has been paid, refunded and bounced, and what is due."""
        return OrderBalance(
            self.status,
            self.currency,
            self.total_amount,
            self.paid_amount,
            self.refunded_amount,
            self.bounced_amount,
            self.unapplied_amount,
            self.unapplied_refunded_amount,
        )

    @property
    def left_to_ship(self) -> Mapping[int, int]:
        """The numbers of units that have not been shipped, by product id."""
        return {line.product_id: line.left_to_ship for line in self.lines}

    @property
    def left_to_return(self) -> Mapping[int, int]:
        """The numbers of units that have been shipped and not returned, by product id."""
        return {line.product_id: line.left_to_return for line in self.lines}

    def check(self, lifecycle: Lifecycle, action: str) -> None:
        """Check that the order allows an action.

        Raises:
            IllegalTransition: The order's state or balance does not allow the action.
        """
        lifecycle.check(self.status, action, ruled_out=self.ruled_out)

    def is_owner_erased(self, session: Session) -> bool:
        """Return whether the owner's account has been erased.

        The order must be locked first. A concurrent erasure then either waits and removes the
        personal data afterwards, or is visible here.
        """
        query = select(User.id).where(User.id == self.user_id, User.exists())
        # An autoflush would split the action into two updates of the row and two versions.
        with session.no_autoflush:
            return session.scalar(query) is None

    def lock_products(self, session: Session) -> Mapping[int, Product]:
        """Lock and return the products of all lines, by id.

        Raises:
            RuntimeError: The order has already been modified. The query would flush that change,
                but each action must be one update of the row.
        """
        if session.is_modified(self):
            raise RuntimeError("products are locked before the order is changed")
        return Product.locked(session, [line.product_id for line in self.lines])

    def release(self, session: Session, products: Mapping[int, Product], by: Actor | None) -> None:
        """Release the stock reserved for the unshipped goods of the order."""
        self.expires_at = None
        for line in self.lines:
            if line.left_to_ship:
                product = products[line.product_id]
                user_id = None if by is None else by.user_id
                product.release(session, line.left_to_ship, order_id=self.id, by=user_id)

    def record(
        self, session: Session, action: str, by: Actor | None, event: OrderEvent | None = None
    ) -> None:
        """Record an event of the order. Setting `updated_at` ensures that the row changes too.

        An order that has ended loses the personal data of an owner who has been erased.
        """
        now = utcnow()
        self.updated_at = now
        event = event or OrderEvent()
        is_over = self.status in ENDED
        self.retained_since = now if is_over else None
        if (is_over or event.tracking_number or event.reason) and self.is_owner_erased(session):
            event.tracking_number = event.reason = None
            if is_over:
                self._forget_owner(session)
        event.order_id, event.action, event.status = self.id, action, self.status
        event.number = (self.version or 0) + 1
        event.actor_id = None if by is None else by.user_id
        event.created_at = now
        event.unapplied_amount = self.unapplied.amount or None
        no_money = event.money is None and event.unapplied_amount is None
        event.currency = None if no_money else self.currency
        session.add(self)
        # The event's foreign key requires the order's row, which may be new.
        session.flush()
        session.add(event)
        Event.record(session, feed_event(self, action, event.number, event.amount))

    def _forget_owner(self, session: Session) -> None:
        """Remove what an erased owner's order needed until it ended."""
        self.note = self.shipping_address = self.retained_since = None
        self.labels = {}
        told = update(OrderEvent).where(OrderEvent.order_id == self.id)
        # An autoflush would split the action into two updates of the row and two versions.
        with session.no_autoflush:
            session.execute(told.values(tracking_number=None, reason=None))
            IdempotencyRecord.forget(session, self.user_id)
