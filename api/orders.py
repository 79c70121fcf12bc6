"""Handlers for orders, for customers and administrators."""

from datetime import datetime, timedelta
from typing import NotRequired, TypedDict
from uuid import UUID

from sqlalchemy.orm import Session

from api.credentials.bearer import Caller
from models.catalogue.product import Price
from models.lifecycle import Lifecycle
from models.orders.order import Order
from models.orders.order_event import OrderEvent
from models.orders.order_line import LineQuantity
from models.orders.order_list import OrderFilter, OrderSort, find_orders
from models.orders.order_placing import OrderDetails
from models.orders.order_reading import view_order
from models.orders.order_view import OrderView
from models.storage.base import Versions
from models.storage.page import Page
from models.storage.reader import Reader


class NewOrder(OrderDetails):
    """A request body to place an order: its lines, and the customer's details."""

    lines: list[LineQuantity]
    expected_total: NotRequired[Price]
    user_id: NotRequired[int]


class Payment(TypedDict):
    """A request body to record a payment that was captured elsewhere."""

    amount: Price
    method: str
    reference: str


class Bounce(TypedDict):
    """A request body to record that a payment bounced; without `amount`, all of what remains."""

    amount: NotRequired[Price]
    method: str
    reference: str
    reason: NotRequired[str]


class Shipment(TypedDict):
    """A request body to ship lines of an order; without `lines`, all that remain."""

    carrier: str
    tracking_number: str
    lines: NotRequired[list[LineQuantity]]


class Refund(TypedDict, total=False):
    """A request body to refund an order: the amount, a reason and the lines to restock."""

    amount: Price
    reason: str
    restock: list[LineQuantity]


class Reduction(TypedDict, total=False):
    """A request body to cancel unshipped units; without `lines`, all of them."""

    lines: list[LineQuantity]
    reason: str


class Return(TypedDict):
    """A request body to record returned goods; without `lines`, all that can be returned."""

    lines: NotRequired[list[LineQuantity]]
    reason: NotRequired[str]
    restock: bool


def list_orders(
    reader: Reader,
    caller: Caller,
    status: list[str] | None,
    user_id: int | None,
    created_from: datetime | None,
    created_to: datetime | None,
    total_min: int | None,
    total_max: int | None,
    updated_from: datetime | None,
    q: str | None,
    sort: OrderSort,
    cursor: list[int | str] | None,
    limit: int,
) -> Page[OrderView]:
    """List the caller's orders; administrators list all orders."""
    wanted = OrderFilter(
        status, user_id, created_from, created_to, total_min, total_max, updated_from, q
    )
    return find_orders(reader, wanted, by=caller, sort=sort, after=cursor, limit=limit)


def create_order(
    session: Session, caller: Caller, body: NewOrder, reservation: timedelta
) -> OrderView:
    """Place an order and reserve its stock."""
    return Order.place(
        session,
        body["lines"],
        body,
        expected_total=body.get("expected_total"),
        user_id=body.get("user_id"),
        reservation=reservation,
        by=caller,
    )


def get_order(reader: Reader, caller: Caller, order_id: UUID) -> OrderView:
    """Return an order that the caller may see."""
    return view_order(reader, caller, order_id)


def update_order(
    session: Session,
    caller: Caller,
    order_id: UUID,
    body: OrderDetails,
    if_match: Versions,
    lifecycle: Lifecycle,
) -> Order:
    """Update the order's note, address or metadata."""
    order = Order.lock_visible(session, caller, order_id)
    order.require_version(if_match)
    order.update(session, lifecycle, body, by=caller)
    return order


def list_order_events(
    reader: Reader, caller: Caller, order_id: UUID, cursor: list[int] | None, limit: int
) -> Page[OrderEvent]:
    """List the events of an order."""
    Order.require_visible(reader, caller, order_id)
    return OrderEvent.page(reader, order_id, after=cursor, limit=limit)


def cancel_order(
    session: Session, caller: Caller, order_id: UUID, if_match: Versions, lifecycle: Lifecycle
) -> Order:
    """Cancel an order before any of it has been shipped."""
    order = Order.lock_visible(session, caller, order_id)
    order.require_version(if_match)
    order.cancel(session, lifecycle, by=caller)
    return order


def reduce_order(
    session: Session,
    caller: Caller,
    order_id: UUID,
    body: Reduction,
    if_match: Versions,
    lifecycle: Lifecycle,
) -> Order:
    """Cancel unshipped units of an order."""
    order = Order.lock_visible(session, caller, order_id)
    order.require_version(if_match)
    order.reduce(session, lifecycle, body.get("lines"), reason=body.get("reason"), by=caller)
    return order


def pay_order(
    session: Session,
    caller: Caller,
    order_id: UUID,
    body: Payment,
    if_match: Versions,
    lifecycle: Lifecycle,
) -> Order:
    """Record a payment for an order."""
    order = Order.lock_visible(session, caller, order_id)
    order.require_version(if_match)
    order.pay(
        session,
        lifecycle,
        body["amount"],
        method=body["method"],
        reference=body["reference"],
        by=caller,
    )
    return order


def ship_order(
    session: Session,
    caller: Caller,
    order_id: UUID,
    body: Shipment,
    if_match: Versions,
    lifecycle: Lifecycle,
) -> Order:
    """Ship an order, or some of its lines."""
    order = Order.lock_visible(session, caller, order_id)
    order.require_version(if_match)
    order.ship(
        session,
        lifecycle,
        body.get("lines"),
        carrier=body["carrier"],
        tracking_number=body["tracking_number"],
        by=caller,
    )
    return order


def deliver_order(
    session: Session, caller: Caller, order_id: UUID, if_match: Versions, lifecycle: Lifecycle
) -> Order:
    """Mark an order as delivered."""
    order = Order.lock_visible(session, caller, order_id)
    order.require_version(if_match)
    order.deliver(session, lifecycle, by=caller)
    return order


def refund_order(
    session: Session,
    caller: Caller,
    order_id: UUID,
    body: Refund,
    if_match: Versions,
    lifecycle: Lifecycle,
) -> Order:
    """Refund an order, and restock returned products."""
    order = Order.lock_visible(session, caller, order_id)
    order.require_version(if_match)
    order.refund(
        session,
        lifecycle,
        body.get("amount"),
        reason=body.get("reason"),
        restock=body.get("restock", []),
        by=caller,
    )
    return order


def return_order(
    session: Session,
    caller: Caller,
    order_id: UUID,
    body: Return,
    if_match: Versions,
    lifecycle: Lifecycle,
) -> Order:
    """Record that shipped goods of an order came back."""
    order = Order.lock_visible(session, caller, order_id)
    order.require_version(if_match)
    order.take_back(
        session,
        lifecycle,
        body.get("lines"),
        reason=body.get("reason"),
        restock=body["restock"],
        by=caller,
    )
    return order


def bounce_order(
    session: Session,
    caller: Caller,
    order_id: UUID,
    body: Bounce,
    if_match: Versions,
    lifecycle: Lifecycle,
    reservation: timedelta,
) -> Order:
    """Record that a payment of an order bounced."""
    order = Order.lock_visible(session, caller, order_id)
    order.require_version(if_match)
    order.bounce(
        session,
        lifecycle,
        body.get("amount"),
        method=body["method"],
        reference=body["reference"],
        reason=body.get("reason"),
        reservation=reservation,
        by=caller,
    )
    return order
