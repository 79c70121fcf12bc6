"""Orders, from the reservation of stock to the last refund."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, insert, select, true
from sqlalchemy.orm import Session, selectinload

from models.actor import Actor
from models.catalogue.product import Price
from models.errors import NotFound, OrderEmpty, OwnerErased
from models.lifecycle import Lifecycle
from models.orders.order_event import OrderEvent
from models.orders.order_line import LineQuantity, chosen_units
from models.orders.order_payments import OrderPayments
from models.orders.order_placing import OrderDetails, draft_order, order_values, store_lines
from models.orders.order_view import OrderView
from models.storage.constants import constant, write_rows
from models.storage.reader import Reader


class Order(OrderPayments):
    """An order by one account, in one currency.

    Invariants: `total` is the sum of the lines, and goods are shipped only after full payment.
    `version` counts the changes to the row. Each action writes an `OrderEvent` numbered with the
    new version. `expires_at` is set while the order is pending.
    """

    @classmethod
    def place(
        cls,
        session: Session,
        lines: Sequence[LineQuantity],
        details: OrderDetails,
        *,
        expected_total: Price | None = None,
        user_id: int | None = None,
        reservation: timedelta,
        by: Actor,
    ) -> OrderView:
        """Place an order, reserving its stock until it is paid, or for `reservation` at most.

        An order with a total of zero is paid from the start. An administrator can place an order
        for another account with `user_id`.

        Raises:
            UnknownUser: The account does not exist or is not visible to the actor.
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
            user_id=by.user_id if user_id is None else user_id,
            by=by,
            reservation=reservation,
        )
        write_rows(connection, _INSERT, [order_values(order)])
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
        return cls._lock(session, cls.id == order_id, cls.seen_by(actor))

    @classmethod
    def lock(cls, session: Session, order_id: UUID) -> "Order":
        """Return one order as in `lock_visible`, for an action of the service itself.

        Raises:
            NotFound: The order does not exist.
        """
        return cls._lock(session, cls.id == order_id)

    @classmethod
    def _lock(cls, session: Session, *conditions: ColumnElement[bool]) -> "Order":
        query = select(cls).where(*conditions)
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

    def update(
        self, session: Session, lifecycle: Lifecycle, details: OrderDetails, *, by: Actor
    ) -> None:
        """Update the order's note, shipping address or metadata.

        Raises:
            IllegalTransition: The order's state does not allow updates.
            OwnerErased: The owner's account has been erased.
        """
        if self.is_owner_erased(session):
            raise OwnerErased
        self.check(lifecycle, "update")
        self.set_details(details)
        self.record(session, "update", by)

    def set_details(self, details: OrderDetails) -> None:
        """Set the given details. Omitted details stay unchanged."""
        self.note = details.get("note", self.note)
        self.shipping_address = details.get("shipping_address", self.shipping_address)
        self.labels = details.get("metadata", self.labels or {})

    def cancel(self, session: Session, lifecycle: Lifecycle, *, by: Actor) -> None:
        """Cancel the order before anything is shipped. Payments can then be refunded.

        Raises:
            IllegalTransition: The order's state does not allow cancelling.
        """
        self.check(lifecycle, "cancel")
        self.release(session, self.lock_products(session), by)
        self.status = lifecycle.target(self.status, "cancel", "cancelled")
        self.record(session, "cancel", by)

    def reduce(
        self,
        session: Session,
        lifecycle: Lifecycle,
        lines: Sequence[LineQuantity] | None,
        *,
        reason: str | None,
        by: Actor,
    ) -> None:
        """Cancel unshipped units: those of the given lines, or all of them if it is `None`.

        Their stock is released, and the total is reduced. Money beyond it becomes unapplied.

        Raises:
            IllegalTransition: The order's state does not allow this, or it has only one unit.
            InvalidLines, UnknownProduct, QuantityExceeded: The lines do not match the unshipped
                goods.
            OrderEmpty: No units would be left.
        """
        self.check(lifecycle, "reduce")
        lines = chosen_units(lines, self.left_to_ship)
        cancelled = {line["product_id"]: line["quantity"] for line in lines}
        if sum(cancelled.values()) == sum(line.quantity for line in self.lines):
            raise OrderEmpty
        products = self.lock_products(session)
        for line in self.lines:
            if quantity := cancelled.get(line.product_id):
                line.quantity -= quantity
                product = products[line.product_id]
                product.release(session, quantity, order_id=self.id, by=by.user_id)
        self.lower_total(sum(line.total.amount for line in self.lines))
        to = self.status
        if to == "pending" and not self.due.amount:
            to, self.expires_at = "paid", None
        elif to == "partially_shipped" and not any(self.left_to_ship.values()):
            to = "shipped"
        self.status = lifecycle.target(self.status, "reduce", to)
        self.record(session, "reduce", by, OrderEvent(reason=reason, lines=list(lines)))

    def expire(self, session: Session, lifecycle: Lifecycle) -> None:
        """Expire the order because it was not paid in time, and release its stock.

        Raises:
            IllegalTransition: The order is no longer pending.
        """
        lifecycle.check(self.status, "expire", automatic=True, ruled_out=self.ruled_out)
        self.release(session, self.lock_products(session), None)
        self.status = lifecycle.target(self.status, "expire", "expired", automatic=True)
        self.record(session, "expire", None)


_INSERT = constant(insert(Order))
