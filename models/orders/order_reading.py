"""Reading orders as views.

A list reads hundreds of rows, and the session's change tracking would take longer than the
statements themselves.
"""

from collections import defaultdict
from collections.abc import Sequence
from inspect import signature
from typing import Any, TypeAlias
from uuid import UUID

from sqlalchemy import Row, bindparam, select, type_coerce
from sqlalchemy.types import NullType

from models.actor import Actor
from models.errors import NotFound
from models.orders.order import Order
from models.orders.order_balance import OrderBalance
from models.orders.order_line import OrderLine
from models.orders.order_view import LineView, OrderView, view_line
from models.storage.constants import constant
from models.storage.reader import Reader

OrderRow: TypeAlias = Row[*tuple[Any, ...]]

# A row is unpacked in the order of its columns, which is much faster than reading them by name. The
# columns are therefore selected by the names of the fields that they become.
_MADE = ("balance", "lines")
COLUMNS = [
    *(getattr(Order, name) for name in OrderView._fields if name not in _MADE),
    *(getattr(Order, name) for name in OrderBalance._fields),
    # Lines are matched by the id as the driver returns it, which saves converting each id.
    type_coerce(Order.id, NullType).label("raw_id"),
]
"""The columns of the rows passed to `view_orders`, in this order."""
_ID, _RAW_ID = 0, -1
_BALANCE = _RAW_ID - len(OrderBalance._fields)
_LINE_COLUMNS = [getattr(OrderLine, name) for name in signature(view_line).parameters]

_ORDER = constant(select(*COLUMNS).where(Order.id == bindparam("order_id")))
_OWN_ORDER = constant(_ORDER.where(Order.user_id == bindparam("owner")))
_LINES = constant(
    select(type_coerce(OrderLine.order_id, NullType), *_LINE_COLUMNS)
    .where(OrderLine.order_id.in_(bindparam("order_ids", expanding=True)))
    .order_by(OrderLine.order_id, OrderLine.number)
)
_MOST_LINES, _FEW_ORDERS = 1000, 10
_SOME_LINES = constant(_LINES.limit(_MOST_LINES + 1))


def view_order(reader: Reader, actor: Actor, order_id: UUID) -> OrderView:
    """Return the view of one order.

    Raises:
        NotFound: The order does not exist or is not visible to the actor.
    """
    if actor.is_admin:
        rows = reader.execute(_ORDER, {"order_id": order_id}).all()
    else:
        # Filtering by owner makes another user's order take as long as a missing one.
        own = {"order_id": order_id, "owner": actor.user_id}
        rows = reader.execute(_OWN_ORDER, own).all()
    if not rows:
        raise NotFound
    return view_orders(reader, rows)[0]


def view_orders(reader: Reader, rows: Sequence[OrderRow]) -> list[OrderView]:
    """Return the views of orders from their rows, reading all their lines in one statement.

    If more than ten orders have over 1,000 lines in all, return only the first ten orders.
    """
    lines = defaultdict[object, list[LineView]](list)
    asked = {"order_ids": [row[_ID] for row in rows]}
    statement = _LINES if len(rows) <= _FEW_ORDERS else _SOME_LINES
    found: Sequence[OrderRow] = reader.execute(statement, asked).all()
    if len(found) > _MOST_LINES and len(rows) > _FEW_ORDERS:
        return view_orders(reader, rows[:_FEW_ORDERS])
    for raw_id, *line in found:
        lines[raw_id].append(view_line(*line))
    return [_view(row, lines[row[_RAW_ID]]) for row in rows]


def _view(row: OrderRow, lines: Sequence[LineView]) -> OrderView:
    balance = OrderBalance._make(row[_BALANCE:_RAW_ID])
    return OrderView._make((*row[:_BALANCE], balance, lines))
