"""The list of orders: what it can be narrowed down to, and in which order it comes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal, TypeAlias

from sqlalchemy import ColumnElement, Connection, Select, bindparam, select

from models.actor import Actor
from models.identifiers import first_id_from
from models.narrowing import Bounds, Narrowing
from models.order import Order
from models.order_view import COLUMNS, OrderView, view_orders
from models.page import Keys, Page, next_key, page_query, plain_query, plain_values

OrderSort = Literal["created_at", "-created_at", "total", "-total"]

Orders: TypeAlias = Select[*tuple[Any, ...]]

_ORDERS: Orders = select(*COLUMNS)
_SOMEBODYS = _ORDERS.where(Order.user_id == bindparam("owner"))
_KEYS: dict[str, Keys] = {"created_at": (Order.id,), "total": (Order.total_amount, Order.id)}


@dataclass(frozen=True, slots=True)
class OrderFilter:
    """Which orders are wanted; `None` is no restriction. Totals are in minor units."""

    statuses: Sequence[str] | None = None
    user_id: int | None = None
    created_from: datetime | None = None
    created_to: datetime | None = None
    total_min: int | None = None
    total_max: int | None = None


_UNNARROWED = OrderFilter()


def list_orders(
    connection: Connection,
    wanted: OrderFilter,
    *,
    by: Actor,
    sort: OrderSort,
    after: list[int | str] | None,
    limit: int,
) -> Page[OrderView]:
    """Read one page of the orders that somebody may know of, with their lines.

    `created_from` is within the bounds, `created_to` is the first instant outside. The connection
    has to see one moment, or an order may not fit its lines.
    """
    owner = wanted.user_id if by.is_admin else by.user_id
    if wanted.user_id not in (None, owner):
        return Page([], None)
    keys, descending = _KEYS[sort.removeprefix("-")], sort.startswith("-")
    values: dict[str, object] = {}
    if replace(wanted, user_id=None) == _UNNARROWED:
        # Hardly any list is narrowed down further, so these queries are written once.
        query = _ORDERS if owner is None else _SOMEBODYS
        query = plain_query(query, keys, begun=after is not None, descending=descending)
        values = {"owner": owner, **plain_values(keys, after, limit)}
    else:
        query = _ORDERS if owner is None else _ORDERS.where(Order.user_id == owner)
        query = page_query(
            connection,
            query,
            keys,
            after=after,
            limit=limit,
            descending=descending,
            narrowed=_narrowing(wanted, query, by_total=sort.endswith("total")),
        )
    rows = connection.execute(query, values).all()
    return Page(view_orders(connection, rows[:limit]), next_key(rows, keys, limit))


def _narrowing(wanted: OrderFilter, query: Orders, *, by_total: bool) -> Narrowing:
    times, totals = _times(wanted), _totals(wanted)
    if by_total:
        within, across = totals, Bounds(query, Order.id, times)
    else:
        within, across = times, Bounds(query, Order.total_amount, totals)
    branches = [Order.status == status for status in dict.fromkeys(wanted.statuses or ())]
    return Narrowing(branches, within, [across] if across.conditions else ())


def _times(wanted: OrderFilter) -> list[ColumnElement[bool]]:
    """Give the bounds in time, which are bounds of the id, because that has the time in it."""
    bounds = []
    if wanted.created_from is not None:
        bounds.append(Order.id >= first_id_from(wanted.created_from))
    if wanted.created_to is not None:
        bounds.append(Order.id < first_id_from(wanted.created_to))
    return bounds


def _totals(wanted: OrderFilter) -> list[ColumnElement[bool]]:
    bounds = []
    if wanted.total_min is not None:
        bounds.append(Order.total_amount >= wanted.total_min)
    if wanted.total_max is not None:
        bounds.append(Order.total_amount <= wanted.total_max)
    return bounds
