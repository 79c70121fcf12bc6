"""The list of orders: what it can be narrowed down to, and in which order it comes."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session, selectinload

from models.actor import Actor
from models.identifiers import first_id_from
from models.narrowing import Bounds, Narrowing
from models.order import Order
from models.page import Keys, Page

OrderSort = Literal["created_at", "-created_at", "total", "-total"]

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


def list_orders(
    session: Session,
    wanted: OrderFilter,
    *,
    by: Actor,
    sort: OrderSort,
    after: list[int | str] | None,
    limit: int,
) -> Page[Order]:
    """Read one page of the orders that somebody may know of, with their lines.

    `created_from` is within the bounds, `created_to` is the first instant outside.
    """
    query = select(Order).where(Order.seen_by(by))
    if wanted.user_id is not None:
        query = query.where(Order.user_id == wanted.user_id)
    times, totals = _times(wanted), _totals(wanted)
    if sort.endswith("total"):
        within, across = totals, Bounds(query, Order.id, times)
    else:
        within, across = times, Bounds(query, Order.total_amount, totals)
    branches = [Order.status == status for status in dict.fromkeys(wanted.statuses or ())]
    return Page.read(
        session,
        query,
        _KEYS[sort.removeprefix("-")],
        after=after,
        limit=limit,
        descending=sort.startswith("-"),
        narrowed=Narrowing(branches, within, [across] if across.conditions else ()),
        options=[selectinload(Order.lines)],
    )


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
