"""The list of orders: its filters and sort orders."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal, TypeAlias, get_args

from sqlalchemy import ColumnElement, Select, bindparam, select

from models.actor import Actor
from models.orders.order import Order
from models.orders.order_reading import COLUMNS, view_orders
from models.orders.order_search import Named
from models.orders.order_view import OrderView
from models.storage.filtering import Bounds, ListFilter, Selection, unindexed
from models.storage.identifiers import first_id_from
from models.storage.page import Keys, Listing, Page
from models.storage.reader import Reader

OrderSort = Literal["created_at", "-created_at", "total", "-total", "updated_at", "-updated_at"]

Orders: TypeAlias = Select[*tuple[Any, ...]]

_ORDERS: Orders = select(*COLUMNS)
_SOMEBODYS = _ORDERS.where(Order.user_id == bindparam("owner"))
_KEYS: dict[str, Keys] = {
    "created_at": (Order.id,),
    "total": (Order.total_amount, Order.id),
    "updated_at": (Order.updated_at, Order.id),
}


@dataclass(frozen=True, slots=True)
class OrderFilter:
    """Filters for the list of orders. `None` means no restriction. Totals are in minor units."""

    statuses: Sequence[str] | None = None
    user_id: int | None = None
    created_from: datetime | None = None
    created_to: datetime | None = None
    total_min: int | None = None
    total_max: int | None = None
    updated_from: datetime | None = None
    question: str | None = None


_ALL = OrderFilter()


def find_orders(
    reader: Reader,
    wanted: OrderFilter,
    *,
    by: Actor,
    sort: OrderSort,
    after: list[int | str] | None,
    limit: int,
) -> Page[OrderView]:
    """Return one page of the orders visible to the actor, with their lines.

    A page with more than 1,000 lines is cut to its first ten orders. `created_from` and
    `updated_from` are inclusive, and `created_to` is exclusive. `question` is an id prefix, a
    payment reference or a tracking number.
    """
    owner = wanted.user_id if by.is_admin else by.user_id
    if wanted.user_id not in (None, owner):
        return Page([], None)
    if replace(wanted, user_id=None) == _ALL:
        # Few lists use other filters, so the statements of unfiltered lists are built once.
        listing = _UNFILTERED[_ORDERS if owner is None else _SOMEBODYS, sort]
    else:
        query = _ORDERS if owner is None else _ORDERS.where(Order.user_id == owner)
        listing = _listing(*_narrowed(wanted, query, sort), sort)
    return listing.view(reader, view_orders, after=after, limit=limit, values={"owner": owner})


def _listing(query: Orders, narrowed: ListFilter, sort: OrderSort) -> Listing[*tuple[Any, ...]]:
    keys, descending = _KEYS[sort.removeprefix("-")], sort.startswith("-")
    return Listing(query, keys, descending=descending, narrowed=narrowed)


_UNFILTERED = {
    (query, sort): _listing(query, ListFilter(), sort)
    for query in (_ORDERS, _SOMEBODYS)
    for sort in get_args(OrderSort)
}


def _narrowed(wanted: OrderFilter, query: Orders, sort: OrderSort) -> tuple[Orders, ListFilter]:
    key = sort.removeprefix("-")
    bounds = {
        "created_at": Bounds(query, Order.id, _times(wanted)),
        "total": Bounds(query, Order.total_amount, _totals(wanted)),
        "updated_at": Bounds(query, Order.updated_at, _changes(wanted)),
    }
    within = bounds.pop(key).conditions
    across: list[Selection] = [each for each in bounds.values() if each.conditions]
    if wanted.question is not None:
        across.append(Named(wanted.question))
    statuses = dict.fromkeys(wanted.statuses or ())
    if statuses and (key == "updated_at" or wanted.updated_from is not None):
        # No index has both the status and the time of the last change.
        return query.where(unindexed(Order.status).in_(statuses)), ListFilter((), within, across)
    return query, ListFilter([Order.status == status for status in statuses], within, across)


def _times(wanted: OrderFilter) -> list[ColumnElement[bool]]:
    """Return the time bounds as id bounds, because a UUIDv7 contains its creation time."""
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


def _changes(wanted: OrderFilter) -> list[ColumnElement[bool]]:
    return [] if wanted.updated_from is None else [Order.updated_at >= wanted.updated_from]
