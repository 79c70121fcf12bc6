"""The goods of an order: shipments, their delivery, and returns."""

from collections.abc import Mapping, Sequence

from sqlalchemy.orm import Session

from models.actor import Actor
from models.catalogue.product import Product
from models.lifecycle import Lifecycle
from models.orders.order_event import OrderEvent
from models.orders.order_line import LineQuantity, chosen_units
from models.orders.order_row import OrderRow


class OrderShipments(OrderRow):
    """The actions of `Order` that move goods."""

    __abstract__ = True

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
        lines = chosen_units(lines, self.left_to_ship)
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
        lines = chosen_units(lines, self.left_to_return)
        products = self.lock_products(session) if restock else {}
        self._take_back(session, lines, products, by)
        self.status = lifecycle.target(self.status, "return", self.status)
        back = OrderEvent(reason=reason, lines=list(lines), restocked=restock)
        self.record(session, "return", by, back)

    def _take_back(
        self,
        session: Session,
        units: Sequence[LineQuantity],
        products: Mapping[int, Product],
        by: Actor,
    ) -> None:
        """Count units as returned, and add those of the given products to the stock."""
        lines = {line.product_id: line for line in self.lines}
        for each in units:
            number, quantity = each["product_id"], each["quantity"]
            lines[number].returned += quantity
            if number in products:
                products[number].take_back(session, quantity, order_id=self.id, by=by.user_id)
