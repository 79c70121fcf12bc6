"""Orders, from the reservation of stock to the last refund."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
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
    insert,
    select,
    text,
    true,
    update,
)
from sqlalchemy.orm import Mapped, Session, mapped_column, relationship, selectinload

from models.actor import Actor
from models.catalogue.product import Price, Product
from models.errors import (
    BounceExceedsPayment,
    InvalidAmount,
    NotFound,
    OwnerErased,
    PaymentRecorded,
    RefundExceedsPaid,
    UnknownPayment,
)
from models.events.event import Event
from models.identity.user import User
from models.lifecycle import Lifecycle
from models.money import MAX_AMOUNT, Money
from models.orders.order_balance import OrderBalance
from models.orders.order_event import OrderEvent
from models.orders.order_feed import feed_event
from models.orders.order_line import LineQuantity, OrderLine, require_quantities
from models.orders.order_placing import OrderDetails, draft_order, order_values, store_lines
from models.orders.order_view import OrderView, ruled_out
from models.storage.base import Base, UTCDateTime, Versioned, kept, utcnow
from models.storage.database import together
from models.storage.idempotency_record import IdempotencyRecord
from models.storage.reader import Reader

_RESERVING = frozenset({"pending", "paid", "partially_shipped"})
"""States in which unshipped units are reserved."""
ENDED = frozenset({"delivered", "cancelled", "expired", "refunded"})
"""States in which nothing remains to be shipped."""
_SETTLED_BY_REFUND = frozenset({"paid", "partially_shipped", "shipped", "delivered"})
"""States that a full refund turns into `refunded`."""


class Order(Versioned, Base):
    """An order by one account, in one currency.

    Invariants: `total` is the sum of the lines, and goods are shipped only after full payment.
    `version` counts the changes to the row. Each action writes an `OrderEvent` numbered with the
    new version. `expires_at` is set while the order is pending.

    `OrderBalance` explains the amounts. `paid_amount` is the money applied to the total, including
    `refunded_amount`, which was refunded, and `bounced_amount`, which bounced. `unapplied_amount`
    is the other money received; `unapplied_refunded_amount` is the sum of its refunds.
    """

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
    lines: Mapped[list[OrderLine]] = relationship(lazy="raise", order_by=OrderLine.number)

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
    )

    @classmethod
    def place(
        cls,
        session: Session,
        lines: Sequence[LineQuantity],
        details: OrderDetails,
        *,
        expected_total: Price | None = None,
        reservation: timedelta,
        by: Actor,
    ) -> OrderView:
        """Place an order, reserving its stock until it is paid, or for `reservation` at most.

        An order with a total of zero is paid from the start.

        Raises:
            InvalidLines: A product appears on more than one line.
            UnknownProduct: A product does not exist or cannot be ordered.
            MixedCurrencies: The products have prices in different currencies.
            InvalidAmount: The total exceeds the maximum amount.
            PriceChanged: The total differs from `expected_total`. Nothing is reserved.
            OutOfStock: A product has too few units available. Nothing is reserved.
        """
        connection = session.connection()
        order, offers = draft_order(
            connection,
            lines,
            details,
            expected_total=expected_total,
            by=by,
            reservation=reservation,
        )
        with together(connection):
            connection.execute(_INSERT, order_values(order))
            store_lines(connection, order, offers, by=by)
        return order

    @classmethod
    def seen_by(cls, actor: Actor) -> ColumnElement[bool]:
        """Return the SQL condition for the orders visible to the actor."""
        return true() if actor.is_admin else cls.user_id == actor.user_id

    @classmethod
    def lock_visible(cls, session: Session, actor: Actor, order_id: UUID) -> "Order":
        """Return one order with its lines, locked until the transaction ends.

        Raises:
            NotFound: The order does not exist or is not visible to the actor.
        """
        query = select(cls).where(cls.id == order_id, cls.seen_by(actor))
        query = query.options(selectinload(cls.lines)).with_for_update(key_share=True)
        order = session.scalar(query)
        if order is None:
            raise NotFound
        return order

    @classmethod
    def require_visible(cls, reader: Reader, actor: Actor, order_id: UUID) -> None:
        """Check that an order exists and is visible to the actor.

        Raises:
            NotFound: As in `lock_visible`.
        """
        query = select(cls.id).where(cls.id == order_id, cls.seen_by(actor))
        if reader.scalar(query) is None:
            raise NotFound

    @property
    def total(self) -> Money:
        """The total price of all lines."""
        return Money(self.total_amount, self.currency)

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
    def paid(self) -> Money:
        """As in `OrderBalance`."""
        return self.balance.paid

    @property
    def refunded(self) -> Money:
        """As in `OrderBalance`."""
        return self.balance.refunded

    @property
    def unapplied(self) -> Money:
        """As in `OrderBalance`."""
        return self.balance.unapplied

    @property
    def due(self) -> Money:
        """As in `OrderBalance`."""
        return self.balance.due

    @property
    def ruled_out(self) -> tuple[str, ...]:
        """The actions that the state allows, and the amounts and lines do not."""
        return ruled_out(self.balance, self.lines)

    def check(self, lifecycle: Lifecycle, action: str) -> None:
        """Check that the order allows an action.

        Raises:
            IllegalTransition: The order's state or balance does not allow the action.
        """
        lifecycle.check(self.status, action, ruled_out=self.ruled_out)

    def update(
        self, session: Session, lifecycle: Lifecycle, details: OrderDetails, *, by: Actor
    ) -> None:
        """Update the order's note, shipping address or metadata.

        Raises:
            IllegalTransition: The order's state does not allow updates.
            OwnerErased: The owner's account has been erased.
        """
        self.check(lifecycle, "update")
        if self.is_owner_erased(session):
            raise OwnerErased
        self.set_details(details)
        self.record(session, "update", by)

    def cancel(self, session: Session, lifecycle: Lifecycle, *, by: Actor) -> None:
        """Cancel the order before anything is shipped. Payments can then be refunded.

        Raises:
            IllegalTransition: The order's state does not allow cancelling.
        """
        self.check(lifecycle, "cancel")
        self.release(session, self.lock_products(session), by)
        self.status = lifecycle.target(self.status, "cancel", "cancelled")
        self.record(session, "cancel", by)

    def pay(
        self,
        session: Session,
        lifecycle: Lifecycle,
        amount: Price,
        *,
        method: str,
        reference: str,
        by: Actor,
    ) -> None:
        """Record a payment made outside Concord. The order is paid once the full total is paid.

        Whatever exceeds the amount due is unapplied, and so is every payment of an order that has
        ended. An expired order is paid once it holds the full total and its stock is still
        available.

        Raises:
            InvalidAmount: The amount is zero, too large or in another currency.
            PaymentRecorded: A payment with this method and reference is already recorded.
        """
        self.check(lifecycle, "pay")
        self._require_amount(amount)
        money = amount["amount"]
        if OrderEvent.payment(session, self.id, method=method, reference=reference) is not None:
            raise PaymentRecorded
        if self.paid.amount + money > MAX_AMOUNT:
            raise InvalidAmount(
                violations={"/amount/amount": "exceeds the maximum of all payments"}
            )
        revived = self._lock_revivable(session, money)
        applied = min(money, self.due.amount)
        covered = min(applied, self.bounced_amount)
        self.bounced_amount -= covered
        self.paid_amount += applied - covered
        self.unapplied_amount += money - applied
        if revived:
            self._revive(session, revived, by)
        if revived or (applied and self.status == "pending" and not self.due.amount):
            self.status = lifecycle.target(self.status, "pay", "paid")
            self.expires_at = None
        paid = OrderEvent(money=money, method=method, reference=reference)
        self.record(session, "pay", by, paid)

    def bounce(
        self,
        session: Session,
        lifecycle: Lifecycle,
        amount: Price | None,
        *,
        method: str,
        reference: str,
        reason: str | None,
        reservation: timedelta,
        by: Actor,
    ) -> None:
        """Record that a payment, or `amount` of it, was returned to the payer without a refund.

        If this leaves a paid order short of its total, the order is pending again, for at most
        `reservation`. A partially or fully shipped order keeps its state, and the money is due.

        Raises:
            IllegalTransition: No money is held that could bounce.
            InvalidAmount: The amount is zero or in another currency.
            UnknownPayment: No payment with this method and reference is recorded.
            BounceExceedsPayment: The amount exceeds the remaining payment or the held amount.
        """
        self.check(lifecycle, "bounce")
        if amount is not None:
            self._require_amount(amount)
        payment = OrderEvent.payment(session, self.id, method=method, reference=reference)
        if payment is None:
            raise UnknownPayment(violations={"/reference": "is not a payment of the order"})
        left = min(payment, self.balance.held)
        money = left if amount is None else amount["amount"]
        if money > left or not left:
            raise BounceExceedsPayment(remaining={"amount": left, "currency": self.currency})
        surplus = min(money, self.unapplied_amount)
        self.unapplied_amount -= surplus
        self.bounced_amount += money - surplus
        if self.status == "paid" and self.due.amount:
            self.status = lifecycle.target(self.status, "bounce", "pending")
            self.expires_at = utcnow() + reservation
        bounced = OrderEvent(money=money, method=method, reference=reference, reason=reason)
        self.record(session, "bounce", by, bounced)

    def expire(self, session: Session, lifecycle: Lifecycle) -> None:
        """Expire the order because it was not paid in time, and release its stock.

        Raises:
            IllegalTransition: The order is no longer pending.
        """
        lifecycle.check(self.status, "expire", automatic=True, ruled_out=self.ruled_out)
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
        """Record a shipment of the given lines, or of everything unshipped if `lines` is `None`.

        Raises:
            IllegalTransition: The order is not fully paid, or everything has been shipped.
            InvalidLines, UnknownProduct, QuantityExceeded: The lines do not match the unshipped
                goods.
        """
        self.check(lifecycle, "ship")
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
        """Mark the order as delivered.

        Raises:
            IllegalTransition: The order has not been shipped completely.
        """
        self.check(lifecycle, "deliver")
        self.status = lifecycle.target(self.status, "deliver", "delivered")
        self.record(session, "deliver", by)

    def is_owner_erased(self, session: Session) -> bool:
        """Return whether the owner's account has been erased.

        The order must be locked first. A concurrent erasure then either waits and removes the
        personal data afterwards, or is visible here.
        """
        query = select(User.id).where(User.id == self.user_id, User.exists())
        # An autoflush would split the action into two updates of the row and two versions.
        with session.no_autoflush:
            return session.scalar(query) is None

    def refund(
        self,
        session: Session,
        lifecycle: Lifecycle,
        amount: Price | None,
        *,
        reason: str | None,
        restock: Sequence[LineQuantity],
        by: Actor,
    ) -> None:
        """Refund `amount`, or the whole refundable amount if it is `None`.

        Unapplied money is refunded first. `restock` lists returned goods that can be sold again.
        Once no money is applied to the total any more, the stock of unshipped goods is released.

        Raises:
            IllegalTransition: The order's state does not allow refunds.
            InvalidAmount: The amount is zero or in another currency.
            RefundExceedsPaid: The amount exceeds the refundable amount, or nothing can be refunded.
            InvalidLines, UnknownProduct, QuantityExceeded: `restock` does not match the shipped
                goods that have not been returned.
            StockOutOfRange: The stock would exceed its maximum.
        """
        self.check(lifecycle, "refund")
        left, applied = self.balance.held, self.balance.applied
        if amount is not None:
            self._require_amount(amount)
        money = left if amount is None else amount["amount"]
        if money > left or not left:
            raise RefundExceedsPaid(refundable={"amount": left, "currency": self.currency})
        products = self.lock_products(session)
        self._take_back(session, restock, products, by, member="restock")
        surplus = min(money, self.unapplied_amount)
        self.unapplied_amount -= surplus
        self.unapplied_refunded_amount += surplus
        self.refunded_amount += money - surplus
        if applied and not self.balance.applied and self.status in _SETTLED_BY_REFUND:
            if self.status in _RESERVING:
                self.release(session, products, by)
            self.status = lifecycle.target(self.status, "refund", "refunded")
        refunded = OrderEvent(money=money, reason=reason, lines=list(restock))
        self.record(session, "refund", by, refunded)

    def take_back(
        self,
        session: Session,
        lifecycle: Lifecycle,
        lines: Sequence[LineQuantity] | None,
        *,
        reason: str | None,
        restock: bool,
        by: Actor,
    ) -> None:
        """Record that shipped goods came back: the given lines, or all of them if it is `None`.

        With `restock`, the goods can be sold again. Money is refunded separately.

        Raises:
            IllegalTransition: The order has no shipped goods that have not been returned.
            InvalidLines, UnknownProduct, QuantityExceeded: The lines do not match these goods.
            StockOutOfRange: The stock would exceed its maximum.
        """
        self.check(lifecycle, "return")
        if lines is None:
            lines = [
                LineQuantity(product_id=line.product_id, quantity=line.left_to_return)
                for line in self.lines
                if line.left_to_return
            ]
        products = self.lock_products(session) if restock else {}
        self._take_back(session, lines, products, by)
        self.status = lifecycle.target(self.status, "return", self.status)
        back = OrderEvent(reason=reason, lines=list(lines), restocked=restock)
        self.record(session, "return", by, back)

    def set_details(self, details: OrderDetails) -> None:
        """Set the given details. Omitted details stay unchanged."""
        self.note = details.get("note", self.note)
        self.shipping_address = details.get("shipping_address", self.shipping_address)
        self.labels = details.get("metadata", self.labels or {})

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
        self.note = self.shipping_address = None
        self.labels = {}
        told = update(OrderEvent).where(OrderEvent.order_id == self.id)
        # An autoflush would split the action into two updates of the row and two versions.
        with session.no_autoflush:
            session.execute(told.values(tracking_number=None, reason=None))
            IdempotencyRecord.forget(session, self.user_id)

    def _lock_revivable(self, session: Session, money: int) -> Mapping[int, Product] | None:
        """Lock and return the products, if `money` pays an expired order whose stock is available.

        The order of an erased owner has no address any more, and stays expired.
        """
        if self.status != "expired" or self.balance.held + money < self.total_amount:
            return None
        if self.is_owner_erased(session):
            return None
        products = self.lock_products(session)
        if any(products[line.product_id].available < line.quantity for line in self.lines):
            return None
        return products

    def _revive(self, session: Session, products: Mapping[int, Product], by: Actor) -> None:
        """Reserve the stock again, and apply all money that is held to the total."""
        surplus = self.balance.held - self.total_amount
        for line in self.lines:
            product = products[line.product_id]
            product.reserve_again(session, line.quantity, order_id=self.id, by=by.user_id)
        self.unapplied_refunded_amount += self.refunded_amount
        self.paid_amount, self.unapplied_amount = self.total_amount, surplus
        self.refunded_amount = self.bounced_amount = 0

    def _require_amount(self, amount: Price) -> None:
        if amount["currency"] != self.currency:
            raise InvalidAmount(
                "The amount must be in the currency of the order.",
                violations={"/amount/currency": "must be the currency of the order"},
            )
        if not amount["amount"]:
            raise InvalidAmount(violations={"/amount/amount": "must be at least 1"})

    def _take_back(
        self,
        session: Session,
        units: Sequence[LineQuantity],
        products: Mapping[int, Product],
        by: Actor,
        *,
        member: str = "lines",
    ) -> None:
        """Count units as returned, and add those of the given products to the stock."""
        lines = {line.product_id: line for line in self.lines}
        left = {number: line.left_to_return for number, line in lines.items()}
        require_quantities(units, left, member=member)
        for each in units:
            number, quantity = each["product_id"], each["quantity"]
            lines[number].returned += quantity
            if number in products:
                products[number].take_back(session, quantity, order_id=self.id, by=by.user_id)


_INSERT = insert(Order)
