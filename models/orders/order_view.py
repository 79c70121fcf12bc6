"""Read-only views of orders and their lines: plain values, without ORM objects."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol
from uuid import UUID

from models.money import Money
from models.orders.order_balance import OrderBalance


class LineView(NamedTuple):
    """A line of an order, with the fields of `OrderLine`."""

    product_id: int
    sku: str
    name: str
    unit_price: Money
    quantity: int
    total: Money
    shipped: int
    returned: int


@dataclass(frozen=True, slots=True)
class OrderView:
    """An order and its lines, with the fields of `Order`."""

    id: UUID
    user_id: int
    status: str
    note: str | None
    shipping_address: Mapping[str, str] | None
    labels: Mapping[str, str]
    expires_at: datetime | None
    created_at: datetime
    updated_at: datetime
    version: int
    total: Money
    balance: OrderBalance
    lines: Sequence[LineView]

    @property
    def paid(self) -> Money:
        """As in `OrderBalance`."""
        return self.balance.paid

    @property
    def refunded(self) -> Money:
        """As in `OrderBalance`."""
        return self.balance.refunded

    @property
    def unapplied(self) -> Money:
        """As in `OrderBalance`."""
        return self.balance.unapplied

    @property
    def due(self) -> Money:
        """As in `OrderBalance`."""
        return self.balance.due

    @property
    def ruled_out(self) -> tuple[str, ...]:
        """The actions that the state allows, and the amounts and lines do not."""
        return ruled_out(self.balance, self.lines)


class _Returnable(Protocol):
    """The fields of a line that decide whether anything of it can be returned."""

    @property
    def shipped(self) -> int: ...
    @property
    def returned(self) -> int: ...


def ruled_out(balance: OrderBalance, lines: Sequence[_Returnable]) -> tuple[str, ...]:
    """Return the actions that the state of an order allows, and its amounts and lines do not."""
    if any(line.shipped > line.returned for line in lines):
        return balance.ruled_out
    return (*balance.ruled_out, "return")


def view_line(
    product_id: int,
    sku: str,
    name: str,
    unit_amount: int,
    currency: str,
    quantity: int,
    shipped: int = 0,
    returned: int = 0,
) -> LineView:
    """Return the view of a line from its columns."""
    price, total = Money(unit_amount, currency), Money(unit_amount * quantity, currency)
    return LineView(product_id, sku, name, price, quantity, total, shipped, returned)
