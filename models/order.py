"""Orders: what somebody bought, from the reservation of its stock to the last refund."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TypedDict
from uuid import UUID

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    ColumnElement,
    ForeignKey,
    Index,
    String,
    Uuid,
    select,
    text,
    true,
    update,
)
from sqlalchemy.orm import Mapped, Session, mapped_column, relationship, selectinload

from models.actor import Actor
from models.base import Base, UTCDateTime, Versioned, utcnow
from models.errors import NotFound
from models.lifecycle import Lifecycle
from models.money import Money
from models.order_event import OrderEvent
from models.order_line import LineQuantity, OrderLine, require_quantities
from models.product import Product


class OrderDetails(TypedDict, total=False):
    """What a customer says about an order besides its lines."""

    note: str | None
    shipping_address: dict[str, str] | None
    metadata: dict[str, str]


class Order(Versioned, Base):
    """An order of one account, in one currency.

    Always: `total` is the sum of the lines, `0 <= refunded <= paid <= total`, and nothing is
    shipped of an order that has not been paid. `version` counts the changes of the row; every
    change writes an `OrderEvent` with its number. `expires_at` is set while the order is pending.
    """

    __tablename__ = "orders"

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    status: Mapped[str] = mapped_column(String(24))
    currency: Mapped[str] = mapped_column(String(3))
    total_amount: Mapped[int] = mapped_column(BigInteger)
    paid_amount: Mapped[int] = mapped_column(BigInteger, default=0)
    refunded_amount: Mapped[int] = mapped_column(BigInteger, default=0)
    note: Mapped[str | None] = mapped_column(String(1000))
    shipping_address: Mapped[dict[str, str] | None] = mapped_column(JSON(none_as_null=True))
    labels: Mapped[dict[str, str]] = mapped_column("metadata", JSON, default=dict)
    expires_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    created_at: Mapped[datetime] = mapped_column(UTCDateTime)
    updated_at: Mapped[datetime] = mapped_column(UTCDateTime)
    lines: Mapped[list[OrderLine]] = relationship(lazy="raise", order_by=OrderLine.number)

    __table_args__ = (
        CheckConstraint("refunded_amount >= 0 AND refunded_amount <= paid_amount", name="refunded"),
        CheckConstraint("paid_amount <= total_amount", name="paid"),
        CheckConstraint(
            "status NOT IN ('partially_shipped', 'shipped', 'delivered')"
            " OR paid_amount = total_amount",
            name="shipped_paid",
        ),
        # Lists come by id, which is by age, or by total: of all orders, of a user's, of those in a
        # status, or of a user's in a status (`models.order_list`). Each of these eight is the order
        # of one index, the first that of the primary key, and none stands in for another: behind
        # a total or a status the ids start anew.
        Index(None, "user_id", "id"),
        Index(None, "status", "id"),
        Index(None, "user_id", "status", "id"),
        Index(None, "total_amount", "id"),
        Index(None, "user_id", "total_amount", "id"),
        Index(None, "status", "total_amount", "id"),
        Index(None, "user_id", "status", "total_amount", "id"),
        Index(
            None,
            "expires_at",
            postgresql_where=text("expires_at IS NOT NULL"),
            sqlite_where=text("expires_at IS NOT NULL"),
        ),
    )

    @classmethod
    def seen_by(cls, actor: Actor) -> ColumnElement[bool]:
        """Give the condition for the orders that the actor may know of."""
        return true() if actor.is_admin else cls.user_id == actor.user_id

    @classmethod
    def changeable_by(cls, session: Session, actor: Actor, order_id: UUID) -> "Order":
        """Read one order with its lines, and keep everybody else from changing it meanwhile.

        Raises:
            NotFound: there is no such order, or the actor may not know of it.
        """
        query = select(cls).where(cls.id == order_id, cls.seen_by(actor))
        query = query.options(selectinload(cls.lines)).with_for_update(key_share=True)
        order = session.scalar(query)
        if order is None:
            raise NotFound
        return order

    @classmethod
    def require_visible(cls, session: Session, actor: Actor, order_id: UUID) -> None:
        """Insist that there is an order and that the actor may know of it.

        Raises:
            NotFound: as in `changeable_by`.
        """
        query = select(cls.id).where(cls.id == order_id, cls.seen_by(actor))
        if session.scalar(query) is None:
            raise NotFound

    @classmethod
    def forget(cls, session: Session, user_id: int) -> None:
        """Remove what tells who a customer is. What was sold, and for how much, stays."""
        theirs = cls.user_id == user_id
        session.execute(
            update(cls)
            .where(theirs)
            .values(
                note=None,
                shipping_address=None,
                labels={},
                version=cls.version + 1,
                updated_at=utcnow(),
            )
        )
        session.execute(
            update(OrderEvent)
            .where(OrderEvent.order_id.in_(select(cls.id).where(theirs)))
            .values(tracking_number=None, reason=None)
        )

    @property
    def total(self) -> Money:
        """What all lines cost."""
        return Money(self.total_amount, self.currency)

    @property
    def paid(self) -> Money:
        """What was paid, refunds not taken off."""
        return Money(self.paid_amount, self.currency)

    @property
    def refunded(self) -> Money:
        """What was given back."""
        return Money(self.refunded_amount, self.currency)

    def update(
        self, session: Session, lifecycle: Lifecycle, details: OrderDetails, *, by: Actor
    ) -> None:
        """Change what the customer says about it."""
        lifecycle.check(self.status, "update")
        self.describe(details)
        self.record(session, "update", by)

    def cancel(self, session: Session, lifecycle: Lifecycle, *, by: Actor) -> None:
        """Give it up before anything is shipped. What was paid can then be refunded.

        Raises:
            IllegalTransition: it is too late.
        """
        lifecycle.check(self.status, "cancel")
        self.release(session, self.lock_products(session), by)
        self.status = lifecycle.target(self.status, "cancel", "cancelled")
        self.record(session, "cancel", by)

    def expire(self, session: Session, lifecycle: Lifecycle) -> None:
        """Give it up because it was not paid in time.

        Raises:
            IllegalTransition: it is not waiting for a payment any more.
        """
        lifecycle.check(self.status, "expire", automatic=True)
        self.release(session, self.lock_products(session), None)
        self.status = lifecycle.target(self.status, "expire", "expired", automatic=True)
        self.record(session, "expire", None)

    def ship(
        self,
        session: Session,
        lifecycle: Lifecycle,
        lines: Sequence[LineQuantity] | None,
        *,
        carrier: str,
        tracking_number: str,
        by: Actor,
    ) -> None:
        """Hand over some lines, or all that is left of it.

        Raises:
            IllegalTransition: it is not paid, or everything is under way.
            InvalidLines, UnknownProduct, QuantityExceeded: the lines are not what is left.
        """
        lifecycle.check(self.status, "ship")
        left = {line.product_id: line.left_to_ship for line in self.lines if line.left_to_ship}
        if lines is None:
            lines = [LineQuantity(product_id=each, quantity=left[each]) for each in left]
        require_quantities(lines, {line.product_id: line.left_to_ship for line in self.lines})
        products = self.lock_products(session)
        by_product = {line.product_id: line for line in self.lines}
        for line in lines:
            by_product[line["product_id"]].shipped += line["quantity"]
            product = products[line["product_id"]]
            product.ship(session, line["quantity"], order_id=self.id, by=by.user_id)
        whole = all(not line.left_to_ship for line in self.lines)
        to = "shipped" if whole else "partially_shipped"
        self.status = lifecycle.target(self.status, "ship", to)
        shipped = OrderEvent(carrier=carrier, tracking_number=tracking_number, lines=list(lines))
        self.record(session, "ship", by, shipped)

    def deliver(self, session: Session, lifecycle: Lifecycle, *, by: Actor) -> None:
        """Note that it has arrived.

        Raises:
            IllegalTransition: it is not on its way.
        """
        self.status = lifecycle.target(self.status, "deliver", "delivered")
        self.record(session, "deliver", by)

    def describe(self, details: OrderDetails) -> None:
        """Take what is given of the details; what is left out stays."""
        self.note = details.get("note", self.note)
        self.shipping_address = details.get("shipping_address", self.shipping_address)
        self.labels = details.get("metadata", self.labels or {})

    def lock_products(self, session: Session) -> Mapping[int, Product]:
        """Read the products of all lines, and keep everybody else from changing them meanwhile.

        This comes before the first change of the order: a query writes what was changed so far,
        and one action is to be one change of the row.
        """
        return Product.locked(session, [line.product_id for line in self.lines])

    def release(self, session: Session, products: Mapping[int, Product], by: Actor | None) -> None:
        """Give back the stock that is promised to it."""
        self.expires_at = None
        for line in self.lines:
            if line.left_to_ship:
                product = products[line.product_id]
                user_id = None if by is None else by.user_id
                product.release(session, line.left_to_ship, order_id=self.id, by=user_id)

    def record(
        self, session: Session, action: str, by: Actor | None, event: OrderEvent | None = None
    ) -> None:
        """Write what happened; with the time of its change the row itself always changes too."""
        now = utcnow()
        self.updated_at = now
        event = event or OrderEvent()
        event.order_id, event.action, event.status = self.id, action, self.status
        event.number = (self.version or 0) + 1
        event.actor_id = None if by is None else by.user_id
        event.created_at = now
        event.currency = None if event.money is None else self.currency
        session.add(self)
        # The event's row refers to the order's, which may be new.
        session.flush()
        session.add(event)
