"""The events of orders in the event feed (`models.events`)."""

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from models.events.event import NewEvent
from models.money import Money


class _Line(Protocol):
    """The fields of an order line that events show."""

    @property
    def product_id(self) -> int:
        """As in `OrderLine`, like the other fields."""

    @property
    def quantity(self) -> int: ...
    @property
    def shipped(self) -> int: ...
    @property
    def returned(self) -> int: ...


class _Order(Protocol):
    """The fields of an `Order` or an `OrderView` that events show."""

    @property
    def id(self) -> UUID: ...
    @property
    def user_id(self) -> int: ...
    @property
    def status(self) -> str: ...
    @property
    def total(self) -> Money: ...
    @property
    def paid(self) -> Money: ...
    @property
    def refunded(self) -> Money: ...
    @property
    def unapplied(self) -> Money: ...
    @property
    def due(self) -> Money: ...
    @property
    def lines(self) -> Sequence[_Line]: ...


def feed_event(order: _Order, action: str, version: int, amount: Money | None = None) -> NewEvent:
    """Return the event of an action for the feed. It has no personal data."""
    facts = {
        "id": str(order.id),
        "user_id": order.user_id,
        "status": order.status,
        "total": _money(order.total),
        "paid": _money(order.paid),
        "refunded": _money(order.refunded),
        "unapplied": _money(order.unapplied),
        "due": _money(order.due),
        "amount": None if amount is None else _money(amount),
        "lines": [
            {
                name: getattr(line, name)
                for name in ("product_id", "quantity", "shipped", "returned")
            }
            for line in order.lines
        ],
    }
    return NewEvent(f"order.{action}", f"orders/{order.id}", version, facts)


def _money(money: Money) -> dict[str, object]:
    return {"amount": money.amount, "currency": money.currency}
