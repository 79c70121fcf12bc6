"""What follows from an order's columns and lines, for every ORM: amounts, actions and events."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypeAlias

from uuid_utils.compat import uuid7

ACTIONS: Final = {
    "pending": ["update", "pay", "cancel", "reduce", "bounce"],
    "paid": ["update", "pay", "ship", "cancel", "reduce", "refund", "bounce"],
    "partially_shipped": ["pay", "ship", "reduce", "refund", "return", "bounce"],
    "shipped": ["pay", "deliver", "refund", "return", "bounce"],
    "delivered": ["pay", "refund", "return", "bounce"],
    "cancelled": ["pay", "refund", "bounce"],
    "expired": ["pay", "refund", "bounce"],
    "refunded": ["pay", "refund", "return", "bounce"],
}
ENDED: Final = frozenset({"cancelled", "expired", "refunded"})
NO_MONEY: Final = dict.fromkeys(
    (
        *("paid_amount", "refunded_amount", "bounced_amount"),
        *("unapplied_amount", "unapplied_refunded_amount"),
    ),
    0,
)
"""The columns of a new order that it has not set otherwise."""

Money: TypeAlias = dict[str, Any]
"""An amount in minor units, and its currency."""


def money(amount: int, currency: str) -> Money:
    return {"amount": amount, "currency": currency}


class Amounts:
    """The amounts of an order: a model inherits them."""

    def held(self: Any) -> int:
        received = self.paid_amount + self.unapplied_amount
        return received - self.refunded_amount - self.bounced_amount

    @property
    def total(self: Any) -> Money:
        return money(self.total_amount, self.currency)

    @property
    def paid(self: Any) -> Money:
        unapplied = self.unapplied_amount + self.unapplied_refunded_amount
        return money(self.paid_amount - self.bounced_amount + unapplied, self.currency)

    @property
    def refunded(self: Any) -> Money:
        return money(self.refunded_amount + self.unapplied_refunded_amount, self.currency)

    @property
    def unapplied(self: Any) -> Money:
        amount = self.held() if self.status in ENDED else self.unapplied_amount
        return money(amount, self.currency)

    @property
    def due(self: Any) -> Money:
        owed = self.total_amount - self.paid_amount + self.bounced_amount
        return money(0 if self.status in ENDED else owed, self.currency)

    def allowed(self: Any, lines: Sequence[Any]) -> list[str]:
        """The actions that the state allows, and the amounts and lines do not rule out."""
        ruled_out = set() if self.held() else {"bounce", "refund"}
        if self.due["amount"]:
            ruled_out.add("ship")
        if all(line.shipped == line.returned for line in lines):
            ruled_out.add("return")
        if sum(line.quantity for line in lines) == 1:
            ruled_out.add("reduce")
        return [action for action in ACTIONS[self.status] if action not in ruled_out]


def events_of(
    order: Any,  # noqa: ANN401 - Of any ORM.
    lines: Sequence[Any],
    versions: Mapping[int, int],
    now: datetime,
) -> list[dict[str, Any]]:
    """Rows of the feed for a new order: its own, and one for the stock of each product.

    `versions` are those that the products had before.
    """
    amounts = {name: getattr(order, name) for name in ("total", "paid", "refunded", "unapplied")}
    counted = ("product_id", "quantity", "shipped", "returned")
    facts = {
        "id": str(order.id),
        "user_id": order.user_id,
        "status": order.status,
        **amounts,
        "due": order.due,
        "amount": None,
        "lines": [{name: getattr(line, name) for name in counted} for line in lines],
    }
    events = [_event("order.create", f"orders/{order.id}", 1, facts, now)]
    for line in lines:
        stock = {
            "product_id": line.product_id,
            "kind": "reservation",
            "on_hand": 0,
            "reserved": line.quantity,
            "order_id": str(order.id),
        }
        subject, version = f"products/{line.product_id}", versions[line.product_id] + 1
        events.append(_event("stock.reservation", subject, version, stock, now))
    return events


def _event(
    kind: str, subject: str, version: int, facts: dict[str, Any], now: datetime
) -> dict[str, Any]:
    row = {"id": uuid7(), "type": kind, "subject": subject, "version": version}
    return {**row, "facts": facts, "created_at": now}
