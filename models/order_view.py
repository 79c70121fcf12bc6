"""Orders as they are shown: plain values, read and made without the session's bookkeeping.

A list reads hundreds of rows, and an order is placed more often than anything else is written. What
the session does for each object, so that it can be changed, takes longer than the statements.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

from sqlalchemy import Connection, Row, bindparam, select

from models.actor import Actor
from models.errors import NotFound
from models.money import Money
from models.order import Order
from models.order_line import OrderLine


class LineView(NamedTuple):
    """A line of an order, as `OrderLine` says."""

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
    """An order with its lines, as `Order` says."""

    id: UUID
    user_id: int
    status: str
    total: Money
    paid: Money
    refunded: Money
    note: str | None
    shipping_address: Mapping[str, str] | None
    labels: Mapping[str, str]
    expires_at: datetime | None
    created_at: datetime
    updated_at: datetime
    version: int
    lines: Sequence[LineView]


OrderRow: TypeAlias = Row[*tuple[Any, ...]]

COLUMNS = (
    Order.id,
    Order.user_id,
    Order.status,
    Order.currency,
    Order.total_amount,
    Order.paid_amount,
    Order.refunded_amount,
    Order.note,
    Order.shipping_address,
    Order.labels,
    Order.expires_at,
    Order.created_at,
    Order.updated_at,
    Order.version,
)
"""What a row of `view_orders` has, in this order."""

_ORDER = select(*COLUMNS).where(Order.id == bindparam("order_id"))
_OWN_ORDER = _ORDER.where(Order.user_id == bindparam("owner"))
_LINES = (
    select(
        OrderLine.order_id,
        OrderLine.product_id,
        OrderLine.sku,
        OrderLine.name,
        OrderLine.unit_amount,
        OrderLine.currency,
        OrderLine.quantity,
        OrderLine.shipped,
        OrderLine.returned,
    )
    .where(OrderLine.order_id.in_(bindparam("order_ids", expanding=True)))
    .order_by(OrderLine.order_id, OrderLine.number)
)


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
    """Show a line, given its columns."""
    price, total = Money(unit_amount, currency), Money(unit_amount * quantity, currency)
    return LineView(product_id, sku, name, price, quantity, total, shipped, returned)


def view_order(connection: Connection, actor: Actor, order_id: UUID) -> OrderView:
    """Show one order.

    Raises:
        NotFound: there is no such order, or the actor may not know of it.
    """
    if actor.is_admin:
        rows = connection.execute(_ORDER, {"order_id": order_id}).all()
    else:
        # Another's order is not read, so that it takes as long as one that is not there.
        own = {"order_id": order_id, "owner": actor.user_id}
        rows = connection.execute(_OWN_ORDER, own).all()
    if not rows:
        raise NotFound
    return view_orders(connection, rows)[0]


def view_orders(connection: Connection, rows: Sequence[OrderRow]) -> list[OrderView]:
    """Show some orders, given their rows; their lines are read with one statement."""
    lines = defaultdict[UUID, list[LineView]](list)
    asked = {"order_ids": [row[0] for row in rows]}
    found: Sequence[OrderRow] = connection.execute(_LINES, asked).all()
    for row in found:
        lines[row[0]].append(view_line(*row[1:]))
    return [_view(row, lines[row[0]]) for row in rows]


def _view(row: OrderRow, lines: Sequence[LineView]) -> OrderView:
    order_id, user_id, status, currency, total, paid, refunded, *rest, version = row
    note, address, labels, expires_at, created_at, updated_at = rest
    return OrderView(
        order_id,
        user_id,
        status,
        Money(total, currency),
        Money(paid, currency),
        Money(refunded, currency),
        note,
        address,
        labels,
        expires_at,
        created_at,
        updated_at,
        version,
        lines,
    )
