"""Money that comes in for an order, and money that goes back."""

from collections.abc import Mapping, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from models.actor import Actor
from models.errors import (
    Fault,
    InvalidAmount,
    PaymentExceedsDue,
    PaymentRecorded,
    RefundExceedsPaid,
)
from models.lifecycle import Lifecycle
from models.order import Order
from models.order_event import OrderEvent
from models.order_line import LineQuantity, require_quantities
from models.product import Price, Product

_RESERVING = frozenset({"pending", "paid", "partially_shipped"})
"""The states in which what has not been shipped is reserved."""
_SETTLED_BY_REFUND = frozenset({"paid", "partially_shipped", "shipped", "delivered"})
"""The states that end when everything that was paid is refunded."""


def record_payment(
    session: Session,
    order: Order,
    lifecycle: Lifecycle,
    amount: Price,
    *,
    method: str,
    reference: str,
    by: Actor,
) -> None:
    """Record a payment that was made elsewhere. Several add up.

    Raises:
        IllegalTransition: the order cannot be paid in its state.
        InvalidAmount: nothing is paid, or another currency.
        PaymentRecorded: this payment is recorded.
        PaymentExceedsDue: it is more than what is due.
    """
    lifecycle.check(order.status, "pay")
    _require_amount(order, amount)
    _require_new_payment(session, order, method, reference)
    due = order.total_amount - order.paid_amount
    if amount["amount"] > due:
        raise PaymentExceedsDue(due={"amount": due, "currency": order.currency})
    order.paid_amount += amount["amount"]
    if order.paid_amount == order.total_amount:
        order.status = lifecycle.target(order.status, "pay", "paid")
        order.expires_at = None
    paid = OrderEvent(money=amount["amount"], method=method, reference=reference)
    order.record(session, "pay", by, paid)


def refund_order(
    session: Session,
    order: Order,
    lifecycle: Lifecycle,
    amount: Price | None,
    *,
    reason: str | None,
    restock: Sequence[LineQuantity],
    by: Actor,
) -> None:
    """Give money back, all that is left if no amount is given.

    `restock` is what came back and can be sold again. When everything that was paid has been
    given back, what was not shipped is not going to be, and its stock is released.

    Raises:
        IllegalTransition: the order has no money to give back in its state.
        InvalidAmount: nothing is given back, or another currency.
        RefundExceedsPaid: it is more than what is left of the payments.
        InvalidLines, UnknownProduct, QuantityExceeded: `restock` is not what was shipped.
        StockOutOfRange: there would be more in stock than there can be.
    """
    lifecycle.check(order.status, "refund")
    left = order.paid_amount - order.refunded_amount
    if amount is not None:
        _require_amount(order, amount)
    money = left if amount is None else amount["amount"]
    if money > left or not left:
        raise RefundExceedsPaid(refundable={"amount": left, "currency": order.currency})
    products = order.lock_products(session)
    _take_back(session, order, products, restock, by)
    order.refunded_amount += money
    if order.refunded_amount == order.paid_amount and order.status in _SETTLED_BY_REFUND:
        if order.status in _RESERVING:
            order.release(session, products, by)
        order.status = lifecycle.target(order.status, "refund", "refunded")
    refunded = OrderEvent(money=money, reason=reason, lines=list(restock))
    order.record(session, "refund", by, refunded)


def _require_amount(order: Order, amount: Price) -> None:
    if amount["currency"] != order.currency:
        raise InvalidAmount(
            "The amount is in another currency than the order.",
            faults=[Fault("/amount/currency", "must be the currency of the order")],
        )
    if not amount["amount"]:
        raise InvalidAmount(faults=[Fault("/amount/amount", "must be at least 1")])


def _require_new_payment(session: Session, order: Order, method: str, reference: str) -> None:
    same = select(OrderEvent.number).where(
        OrderEvent.order_id == order.id,
        OrderEvent.action == "pay",
        OrderEvent.method == method,
        OrderEvent.reference == reference,
    )
    if session.scalar(same) is not None:
        raise PaymentRecorded


def _take_back(
    session: Session,
    order: Order,
    products: Mapping[int, Product],
    restock: Sequence[LineQuantity],
    by: Actor,
) -> None:
    lines = {line.product_id: line for line in order.lines}
    left = {number: line.left_to_return for number, line in lines.items()}
    require_quantities(restock, left, member="restock")
    for each in restock:
        number, quantity = each["product_id"], each["quantity"]
        lines[number].returned += quantity
        products[number].take_back(session, quantity, order_id=order.id, by=by.user_id)
