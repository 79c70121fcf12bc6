"""Reserving and releasing the units of orders, with Core statements that are built once."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, bindparam, insert, select, update

from models.catalogue.product import Product
from models.catalogue.product_stock import stock_event
from models.catalogue.stock_entry import StockEntry, StockKind
from models.events.event import NewEvent
from models.storage.base import utcnow
from models.storage.constants import constant, read_rows, write_rows


class OrderedUnits(NamedTuple):
    """Units of a product in an order."""

    order_id: UUID
    product_id: int
    quantity: int


def reserve_units(
    connection: Connection, units: Sequence[OrderedUnits], versions: Mapping[int, int], *, by: int
) -> list[NewEvent]:
    """Reserve units of products for an order; return the events to record.

    The caller must have locked the products at these versions, and checked that enough units are
    available.
    """
    return _change_reserved(connection, "reservation", units, versions, sign=1, by=by)


def release_units(connection: Connection, units: Sequence[OrderedUnits]) -> list[NewEvent]:
    """Lock products and release units of them for the service; return the events to record."""
    products = {"product_ids": list({each.product_id for each in units})}
    versions = {row.id: row.version for row in read_rows(connection, _LOCK, products)}
    return _change_reserved(connection, "release", units, versions, sign=-1, by=None)


def _change_reserved(
    connection: Connection,
    kind: StockKind,
    units: Sequence[OrderedUnits],
    versions: Mapping[int, int],
    *,
    sign: int,
    by: int | None,
) -> list[NewEvent]:
    """Change the reserved units of locked products. Each change makes a version of its product."""
    now = utcnow()
    sums: dict[int, dict[str, Any]] = {
        each: {"moved": each, "reserved_units": 0, "changes": 0, "updated_at": now}
        for each in sorted(versions)
    }
    entries: list[dict[str, Any]] = []
    events = []
    for order_id, product_id, quantity in units:
        sums[product_id]["reserved_units"] += sign * quantity
        sums[product_id]["changes"] += 1
        entry = {
            "product_id": product_id,
            "kind": kind,
            "on_hand": 0,
            "reserved": sign * quantity,
            "order_id": order_id,
            "actor_id": by,
            "created_at": now,
        }
        entries.append(entry)
        events.append(stock_event(versions[product_id] + sums[product_id]["changes"], entry))
    write_rows(connection, _COUNT, list(sums.values()))
    write_rows(connection, _ENTER, entries)
    return events


_LOCK = constant(
    select(Product.id, Product.version)
    .where(Product.id.in_(bindparam("product_ids", expanding=True)))
    # As in `Product.locked`, locking in order of id prevents deadlocks.
    .order_by(Product.id)
    .with_for_update(key_share=True)
)
_COUNT = constant(
    update(Product)
    .where(Product.id == bindparam("moved"))
    .values(
        reserved=Product.reserved + bindparam("reserved_units"),
        version=Product.version + bindparam("changes"),
        updated_at=bindparam("updated_at"),
    )
)
# The ids of the new entries are not needed, so the INSERT does not return them.
_ENTER = constant(insert(StockEntry).inline())
