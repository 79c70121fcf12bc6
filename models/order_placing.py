"""Placing an order: from what is asked for to lines with prices, and stock that is reserved.

The statements are written out and built once: nothing else is written as often.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeAlias

from sqlalchemy import Connection, Row, bindparam, insert, select
from sqlalchemy.orm import Session

from models.actor import Actor
from models.base import utcnow
from models.database import together
from models.errors import JSON, Fault, InvalidAmount, MixedCurrencies, OutOfStock
from models.identifiers import instant_of, new_id
from models.money import MAX_AMOUNT, Money
from models.order import Order, OrderDetails
from models.order_event import OrderEvent
from models.order_line import LineQuantity, OrderLine, require_products
from models.order_view import LineView, OrderView, view_line
from models.product import Product

Offers: TypeAlias = Mapping[int, Row[*tuple[Any, ...]]]
"""What has to be known of products to order them, by their ids."""

_LOCK_OFFERS = (
    select(
        Product.id,
        Product.sku,
        Product.name,
        Product.price_amount,
        Product.currency,
        (Product.on_hand - Product.reserved).label("available"),
        (Product.active & Product.exists()).label("can_be_ordered"),
    )
    .where(Product.id.in_(bindparam("product_ids", expanding=True)))
    # As in `Product.locked`: two who lock the same never wait for each other.
    .order_by(Product.id)
    .with_for_update(key_share=True)
)
_INSERT_ORDER = insert(Order)
_INSERT_LINES = insert(OrderLine)
_INSERT_EVENT = insert(OrderEvent)


def place_order(
    session: Session,
    *,
    by: Actor,
    lines: Sequence[LineQuantity],
    details: OrderDetails,
    reservation: timedelta,
) -> OrderView:
    """Order some products, which reserves their stock for as long as `reservation`.

    What costs nothing is paid from the start.

    Raises:
        InvalidLines, UnknownProduct, MixedCurrencies, InvalidAmount: the lines make no order.
        OutOfStock: there is not enough of something; nothing is reserved.
    """
    connection = session.connection()
    asked = {"product_ids": [line["product_id"] for line in lines]}
    products: Offers = {row.id: row for row in connection.execute(_LOCK_OFFERS, asked)}
    require_products(lines, {number for number, each in products.items() if each.can_be_ordered})
    _require_one_currency(lines, products)
    _require_stock(lines, products)
    order_id = new_id()
    ordered = [_line(products[line["product_id"]], line["quantity"]) for line in lines]
    currency = ordered[0].total.currency
    total = sum(line.total.amount for line in ordered)
    if total > MAX_AMOUNT:
        raise InvalidAmount(
            "The order costs more than an order can.",
            faults=[Fault("/lines", "cost more than an order can")],
        )
    now = utcnow()
    order = OrderView(
        id=order_id,
        user_id=by.user_id,
        status="pending" if total else "paid",
        total=Money(total, currency),
        paid=Money(0, currency),
        refunded=Money(0, currency),
        note=details.get("note"),
        shipping_address=details.get("shipping_address"),
        labels=details.get("metadata", {}),
        expires_at=now + reservation if total else None,
        created_at=instant_of(order_id),
        updated_at=now,
        version=1,
        lines=ordered,
    )
    with together(connection):
        _store(connection, order, by)
    return order


def _line(product: Row[*tuple[Any, ...]], quantity: int) -> LineView:
    return view_line(
        product.id, product.sku, product.name, product.price_amount, product.currency, quantity
    )


def _store(connection: Connection, order: OrderView, by: Actor) -> None:
    """Write the order with its lines and its first event, and reserve its stock."""
    currency = order.total.currency
    connection.execute(
        _INSERT_ORDER,
        {
            "id": order.id,
            "user_id": order.user_id,
            "status": order.status,
            "currency": currency,
            "total_amount": order.total.amount,
            "paid_amount": 0,
            "refunded_amount": 0,
            "note": order.note,
            "shipping_address": order.shipping_address,
            "metadata": order.labels,
            "expires_at": order.expires_at,
            "created_at": order.created_at,
            "updated_at": order.updated_at,
            "version": order.version,
        },
    )
    lines = [
        {
            "order_id": order.id,
            "number": number,
            "product_id": line.product_id,
            "sku": line.sku,
            "name": line.name,
            "unit_amount": line.unit_price.amount,
            "currency": currency,
            "quantity": line.quantity,
            "shipped": 0,
            "returned": 0,
        }
        for number, line in enumerate(order.lines)
    ]
    connection.execute(_INSERT_LINES, lines)
    event = {
        "order_id": order.id,
        "number": order.version,
        "action": "create",
        "status": order.status,
        "actor_id": by.user_id,
        "created_at": order.updated_at,
        "lines": [],
    }
    connection.execute(_INSERT_EVENT, event)
    quantities = {line.product_id: line.quantity for line in order.lines}
    Product.reserve(connection, quantities, order_id=order.id, by=by.user_id)


def _require_one_currency(lines: Sequence[LineQuantity], products: Offers) -> None:
    currency = products[lines[0]["product_id"]].currency
    others = [
        Fault(f"/lines/{index}/product_id", "has a price in another currency than the first line")
        for index, line in enumerate(lines)
        if products[line["product_id"]].currency != currency
    ]
    if others:
        raise MixedCurrencies(faults=others)


def _require_stock(lines: Sequence[LineQuantity], products: Offers) -> None:
    shortages: list[JSON] = [
        {
            "pointer": f"/lines/{index}",
            "product_id": line["product_id"],
            "wanted": line["quantity"],
            "available": products[line["product_id"]].available,
        }
        for index, line in enumerate(lines)
        if line["quantity"] > products[line["product_id"]].available
    ]
    if shortages:
        raise OutOfStock(shortages=shortages)
