"""The rules and statements behind `Order.place`.

Placing orders is the most frequent write, so its statements use SQLAlchemy Core and are built once.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeAlias, TypedDict

from sqlalchemy import Connection, Row, bindparam, insert, select

from models.actor import Actor
from models.catalogue.product import Price, Product
from models.catalogue.reserving import OrderedUnits, reserve_units
from models.errors import (
    JSON,
    InvalidAmount,
    MixedCurrencies,
    OutOfStock,
    PriceChanged,
    UnknownUser,
)
from models.events.event import Event
from models.identity.user import User
from models.money import MAX_AMOUNT, Money
from models.orders.order_balance import OrderBalance
from models.orders.order_event import OrderEvent
from models.orders.order_feed import feed_event
from models.orders.order_line import LineQuantity, OrderLine, require_products
from models.orders.order_view import LineView, OrderView, view_line
from models.storage.base import utcnow
from models.storage.constants import constant, read_rows, write_rows
from models.storage.identifiers import instant_of, new_id


class OrderDetails(TypedDict, total=False):
    """The customer's details of an order: note, shipping address and metadata."""

    note: str | None
    shipping_address: dict[str, str] | None
    metadata: dict[str, str]


Offers: TypeAlias = Mapping[int, Row[*tuple[Any, ...]]]
"""The product fields needed to place an order, by product id."""

_LOCK_OFFERS = constant(
    select(
        Product.id,
        Product.sku,
        Product.name,
        Product.price_amount,
        Product.currency,
        Product.version,
        (Product.on_hand - Product.reserved).label("available"),
        (Product.active & Product.exists()).label("can_be_ordered"),
    )
    .where(Product.id.in_(bindparam("product_ids", expanding=True)))
    # As in `Product.locked`, locking in order of id prevents deadlocks.
    .order_by(Product.id)
    .with_for_update(key_share=True)
)
_INSERT_LINES = constant(insert(OrderLine))
_INSERT_EVENT = constant(insert(OrderEvent))


def draft_order(
    connection: Connection,
    lines: Sequence[LineQuantity],
    details: OrderDetails,
    *,
    expected_total: Price | None,
    user_id: int,
    by: Actor,
    reservation: timedelta,
) -> tuple[OrderView, Offers]:
    """Lock the products of an order, check its lines and fix their prices.

    Raises:
        UnknownUser, InvalidLines, UnknownProduct, MixedCurrencies, InvalidAmount, PriceChanged,
            OutOfStock: As in `Order.place`.
    """
    if user_id != by.user_id:
        _require_account(connection, user_id, by)
    asked = {"product_ids": [line["product_id"] for line in lines]}
    products: Offers = {row.id: row for row in read_rows(connection, _LOCK_OFFERS, asked)}
    require_products(lines, {number for number, each in products.items() if each.can_be_ordered})
    _require_one_currency(lines, products)
    order_id = new_id()
    ordered = [_line(products[line["product_id"]], line["quantity"]) for line in lines]
    currency = ordered[0].total.currency
    total = sum(line.total.amount for line in ordered)
    if total > MAX_AMOUNT:
        raise InvalidAmount(
            "The total of the order exceeds the maximum.",
            violations={"/lines": "exceed the maximum total of an order"},
        )
    _require_expected(expected_total, Money(total, currency), ordered)
    _require_stock(lines, products)
    now, status = utcnow(), "pending" if total else "paid"
    order = OrderView(
        id=order_id,
        user_id=user_id,
        status=status,
        balance=OrderBalance(status, currency, total),
        note=details.get("note"),
        shipping_address=details.get("shipping_address"),
        labels=details.get("metadata", {}),
        expires_at=now + reservation if total else None,
        created_at=instant_of(order_id),
        updated_at=now,
        version=1,
        owner_erased=False,
        lines=ordered,
    )
    return order, products


def _line(product: Row[*tuple[Any, ...]], quantity: int) -> LineView:
    return view_line(
        product.id, product.sku, product.name, product.price_amount, product.currency, quantity
    )


def order_values(order: OrderView) -> dict[str, object]:
    """Return the columns of a new order, by name."""
    return {
        "id": order.id,
        "user_id": order.user_id,
        "status": order.status,
        "currency": order.total.currency,
        "total_amount": order.total.amount,
        "paid_amount": 0,
        "refunded_amount": 0,
        "bounced_amount": 0,
        "unapplied_amount": 0,
        "unapplied_refunded_amount": 0,
        "note": order.note,
        "shipping_address": order.shipping_address,
        "metadata": order.labels,
        "expires_at": order.expires_at,
        "created_at": order.created_at,
        "updated_at": order.updated_at,
        "version": order.version,
    }


def store_lines(connection: Connection, order: OrderView, offers: Offers, *, by: Actor) -> None:
    """Insert the lines of a new order and its first event, and reserve its stock."""
    lines = [
        {
            "order_id": order.id,
            "number": number,
            "product_id": line.product_id,
            "sku": line.sku,
            "name": line.name,
            "unit_amount": line.unit_price.amount,
            "currency": order.total.currency,
            "quantity": line.quantity,
            "shipped": 0,
            "returned": 0,
        }
        for number, line in enumerate(order.lines)
    ]
    write_rows(connection, _INSERT_LINES, lines)
    event = {
        "order_id": order.id,
        "number": order.version,
        "action": "create",
        "status": order.status,
        "actor_id": by.user_id,
        "created_at": order.updated_at,
        "lines": [],
    }
    write_rows(connection, _INSERT_EVENT, [event])
    units = [OrderedUnits(order.id, line.product_id, line.quantity) for line in order.lines]
    versions = {line.product_id: offers[line.product_id].version for line in order.lines}
    reserved = reserve_units(connection, units, versions, by=by.user_id)
    Event.record_all(connection, [feed_event(order, "create", order.version), *reserved])


def _require_account(connection: Connection, user_id: int, by: Actor) -> None:
    # The lock makes an erasure of the account wait, so that it finds the order.
    account = select(User.id).where(User.seen_by(by), User.id == user_id)
    if connection.scalar(account.with_for_update(read=True)) is None:
        raise UnknownUser(violations={"/user_id": "is not the id of an account"})


def _require_one_currency(lines: Sequence[LineQuantity], products: Offers) -> None:
    currency = products[lines[0]["product_id"]].currency
    others = {
        f"/lines/{index}/product_id": "has a price in a different currency from the first line"
        for index, line in enumerate(lines)
        if products[line["product_id"]].currency != currency
    }
    if others:
        raise MixedCurrencies(violations=others)


def _require_expected(expected: Price | None, total: Money, ordered: Sequence[LineView]) -> None:
    if expected is not None and Money(**expected) != total:
        prices: list[JSON] = [
            {"product_id": line.product_id, "unit_price": _json(line.unit_price)}
            for line in ordered
        ]
        raise PriceChanged(total=_json(total), prices=prices)


def _json(money: Money) -> JSON:
    return {"amount": money.amount, "currency": money.currency}


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
