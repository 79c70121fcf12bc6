"""Read-only views of orders and their lines: plain values, without ORM objects."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from models.money import Money
from models.orders.order_balance import Balanced, OrderBalance


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


class _OrderFields(NamedTuple):
    """The fields of `OrderView`, as a tuple because a page of orders creates many."""

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
    owner_erased: bool
    balance: OrderBalance
    lines: Sequence[LineView]


class OrderView(_OrderFields, Balanced):
    """An order and its lines, with the fields of `Order`."""

    __slots__ = ()


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
