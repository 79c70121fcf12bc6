"""Placing an order: from what is asked for to lines with prices, and stock that is reserved."""

from collections.abc import Mapping, Sequence
from datetime import timedelta

from sqlalchemy.orm import Session

from models.actor import Actor
from models.base import utcnow
from models.errors import JSON, Fault, InvalidAmount, MixedCurrencies, OutOfStock
from models.identifiers import instant_of, new_id
from models.money import MAX_AMOUNT
from models.order import Order, OrderDetails
from models.order_line import LineQuantity, OrderLine, require_products
from models.product import Product


def place_order(
    session: Session,
    *,
    by: Actor,
    lines: Sequence[LineQuantity],
    details: OrderDetails,
    reservation: timedelta,
) -> Order:
    """Order some products, which reserves their stock for as long as `reservation`.

    What costs nothing is paid from the start.

    Raises:
        InvalidLines, UnknownProduct, MixedCurrencies, InvalidAmount: the lines make no order.
        OutOfStock: there is not enough of something; nothing is reserved.
    """
    products = Product.locked(session, [line["product_id"] for line in lines])
    orderable = {number for number, each in products.items() if each.can_be_ordered}
    require_products(lines, orderable)
    _require_one_currency(lines, products)
    _require_stock(lines, products)
    order_id = new_id()
    order = Order(
        id=order_id,
        user_id=by.user_id,
        currency=products[lines[0]["product_id"]].currency,
        created_at=instant_of(order_id),
        lines=[
            _line(number, products[line["product_id"]], line["quantity"])
            for number, line in enumerate(lines)
        ],
    )
    order.total_amount = sum(line.total.amount for line in order.lines)
    if order.total_amount > MAX_AMOUNT:
        raise InvalidAmount(
            "The order costs more than an order can.",
            faults=[Fault("/lines", "cost more than an order can")],
        )
    order.status = "pending" if order.total_amount else "paid"
    order.expires_at = utcnow() + reservation if order.total_amount else None
    order.describe(details)
    # The ledger's rows refer to the order's, which this writes.
    order.record(session, "create", by)
    for line in order.lines:
        product = products[line.product_id]
        product.reserve(session, line.quantity, order_id=order.id, by=by.user_id)
    return order


def _line(number: int, product: Product, quantity: int) -> OrderLine:
    return OrderLine(
        number=number,
        product_id=product.id,
        sku=product.sku,
        name=product.name,
        unit_amount=product.price_amount,
        currency=product.currency,
        quantity=quantity,
        shipped=0,
        returned=0,
    )


def _require_one_currency(lines: Sequence[LineQuantity], products: Mapping[int, Product]) -> None:
    currency = products[lines[0]["product_id"]].currency
    others = [
        Fault(f"/lines/{index}/product_id", "has a price in another currency than the first line")
        for index, line in enumerate(lines)
        if products[line["product_id"]].currency != currency
    ]
    if others:
        raise MixedCurrencies(faults=others)


def _require_stock(lines: Sequence[LineQuantity], products: Mapping[int, Product]) -> None:
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
