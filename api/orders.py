"""Orders, as their owners and administrators see them."""

from datetime import timedelta
from typing import NotRequired, TypedDict
from uuid import UUID

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from api.instants import instant
from api.security import Caller
from models.lifecycle import Lifecycle
from models.order import Order, OrderDetails
from models.order_event import OrderEvent
from models.order_line import LineQuantity
from models.order_list import OrderFilter, OrderSort
from models.order_list import list_orders as read_orders
from models.order_payment import record_payment
from models.order_payment import refund_order as refund
from models.order_placing import place_order
from models.order_view import OrderView, view_order
from models.page import Page
from models.product import Price


class NewOrder(OrderDetails):
    """What is ordered, and what the customer says about it."""

    lines: list[LineQuantity]


class Payment(TypedDict):
    """Money that was captured elsewhere."""

    amount: Price
    method: str
    reference: str


class Shipment(TypedDict):
    """What is handed over to a carrier; without lines it is all that is left."""

    carrier: str
    tracking_number: str
    lines: NotRequired[list[LineQuantity]]


class Refund(TypedDict, total=False):
    """Money that is given back, and what came back for it."""

    amount: Price
    reason: str
    restock: list[LineQuantity]


def list_orders(
    snapshot: Connection,
    caller: Caller,
    status: list[str] | None,
    user_id: int | None,
    created_from: str | None,
    created_to: str | None,
    total_min: int | None,
    total_max: int | None,
    sort: OrderSort,
    cursor: list[int | str] | None,
    limit: int,
) -> Page[OrderView]:
    """List the caller's orders, or everybody's for an administrator."""
    since, until = instant(created_from), instant(created_to)
    wanted = OrderFilter(status, user_id, since, until, total_min, total_max)
    return read_orders(snapshot, wanted, by=caller, sort=sort, after=cursor, limit=limit)


def create_order(
    session: Session, caller: Caller, body: NewOrder, reservation: timedelta
) -> OrderView:
    """Order products and reserve their stock."""
    return place_order(
        session, by=caller, lines=body["lines"], details=body, reservation=reservation
    )


def get_order(snapshot: Connection, caller: Caller, order_id: str) -> OrderView:
    """Read an order that the caller may see."""
    return view_order(snapshot, caller, UUID(order_id))


def update_order(
    session: Session,
    caller: Caller,
    order_id: str,
    body: OrderDetails,
    if_match: frozenset[int] | None,
    lifecycle: Lifecycle,
) -> Order:
    """Change what the customer says about an order."""
    order = Order.changeable_by(session, caller, UUID(order_id))
    order.require_version(if_match)
    order.update(session, lifecycle, body, by=caller)
    return order


def list_order_events(
    session: Session, caller: Caller, order_id: str, cursor: list[int] | None, limit: int
) -> Page[OrderEvent]:
    """List who did what to an order, and when."""
    Order.require_visible(session, caller, UUID(order_id))
    return OrderEvent.page(session, UUID(order_id), after=cursor, limit=limit)


def cancel_order(session: Session, caller: Caller, order_id: str, lifecycle: Lifecycle) -> Order:
    """Give an order up before anything is shipped."""
    order = Order.changeable_by(session, caller, UUID(order_id))
    order.cancel(session, lifecycle, by=caller)
    return order


def pay_order(
    session: Session, caller: Caller, order_id: str, body: Payment, lifecycle: Lifecycle
) -> Order:
    """Record a payment for an order."""
    order = Order.changeable_by(session, caller, UUID(order_id))
    record_payment(
        session,
        order,
        lifecycle,
        body["amount"],
        method=body["method"],
        reference=body["reference"],
        by=caller,
    )
    return order


def ship_order(
    session: Session, caller: Caller, order_id: str, body: Shipment, lifecycle: Lifecycle
) -> Order:
    """Hand an order, or lines of it, over to a carrier."""
    order = Order.changeable_by(session, caller, UUID(order_id))
    order.ship(
        session,
        lifecycle,
        body.get("lines"),
        carrier=body["carrier"],
        tracking_number=body["tracking_number"],
        by=caller,
    )
    return order


def deliver_order(session: Session, caller: Caller, order_id: str, lifecycle: Lifecycle) -> Order:
    """Note that an order has arrived."""
    order = Order.changeable_by(session, caller, UUID(order_id))
    order.deliver(session, lifecycle, by=caller)
    return order


def refund_order(
    session: Session, caller: Caller, order_id: str, body: Refund, lifecycle: Lifecycle
) -> Order:
    """Give money back, and put on sale again what came back."""
    order = Order.changeable_by(session, caller, UUID(order_id))
    refund(
        session,
        order,
        lifecycle,
        body.get("amount"),
        reason=body.get("reason"),
        restock=body.get("restock", []),
        by=caller,
    )
    return order
