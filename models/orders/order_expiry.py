"""Expiry of orders that were not paid in time, which releases their stock.

After an outage, many orders are overdue at once. They expire together, with Core statements that
change what `Order.expire` changes; a test compares both. Orders with a particularity expire alone.
"""

from datetime import datetime
from functools import partial
from uuid import UUID

from sqlalchemy import ColumnElement, bindparam, insert, select, update
from sqlalchemy.orm import Session, selectinload

from models.catalogue.reserving import OrderedUnits, release_units
from models.errors import DatabaseUnavailable
from models.events.event import Event
from models.identity.user import User
from models.lifecycle import Lifecycle
from models.orders.order import Order
from models.orders.order_event import OrderEvent
from models.orders.order_feed import feed_event
from models.orders.order_reading import COLUMNS, view_orders
from models.orders.order_view import OrderView
from models.set_aside import SetAside
from models.storage.base import utcnow
from models.storage.constants import constant, write_rows
from models.storage.database import Database

_BATCH = 50
"""Orders that expire in one transaction, which meanwhile locks their products."""


def expire_orders(database: Database, lifecycle: Lifecycle, aside: SetAside[UUID]) -> bool:
    """Expire up to 50 overdue orders, and return whether more may be left.

    An order's lock decides between this job, a concurrent payment and the same job in another
    process; locked orders are skipped. If the orders cannot expire together, each expires in its
    own transaction, and those that cannot are set aside.

    Raises:
        DatabaseUnavailable: The database failed. Orders already expired stay expired.
        Exception: As in `SetAside.attempt`.
    """
    overdue = (Order.expires_at <= utcnow()) & Order.id.not_in(aside.keys)
    found = select(Order.id).where(overdue).limit(1)
    if database.read(lambda reader: reader.scalar(found), single=True) is None:
        return False
    locked: list[UUID] = []

    def together(session: Session) -> list[UUID]:
        query = select(*COLUMNS).where(overdue).order_by(Order.expires_at).limit(_BATCH)
        rows = session.execute(query.with_for_update(key_share=True, skip_locked=True)).all()
        locked[:] = [row.id for row in rows]
        return _expire_together(session, lifecycle, view_orders(session, rows)) if rows else []

    try:
        others = database.transact(together, write=True)
    except DatabaseUnavailable:
        raise
    except Exception:  # noqa: BLE001 - whatever it is, most of the orders have nothing to do with it.
        others = locked
    for order_id in others:
        alone = partial(_expire_alone, lifecycle=lifecycle, where=overdue & (Order.id == order_id))
        aside.attempt(order_id, partial(database.transact, alone, write=True))
    return bool(locked)


def _expire_alone(session: Session, *, lifecycle: Lifecycle, where: ColumnElement[bool]) -> None:
    query = select(Order).where(where).options(selectinload(Order.lines))
    order = session.scalar(query.with_for_update(key_share=True, skip_locked=True))
    if order is not None:
        order.expire(session, lifecycle)


def _expire_together(session: Session, lifecycle: Lifecycle, orders: list[OrderView]) -> list[UUID]:
    """Expire locked orders, and return the ids of those that have to expire alone.

    Raises:
        IllegalTransition: An order is no longer pending.
    """
    # Only after the orders have been locked is an erasure either visible or waiting for them.
    owners = {order.user_id for order in orders}
    gone = select(User.id).where(User.id.in_(owners), ~User.exists())
    erased = set(session.scalars(gone))
    others = [order.id for order in orders if order.user_id in erased]
    orders = [order for order in orders if order.user_id not in erased]
    if not orders:
        return others
    for order in orders:
        lifecycle.check(order.status, "expire", automatic=True, ruled_out=order.ruled_out)
    connection, now = session.connection(), utcnow()
    units = [
        OrderedUnits(order.id, line.product_id, line.quantity - line.shipped)
        for order in orders
        for line in order.lines
    ]
    expired = [_after_expiry(order, lifecycle) for order in orders]
    connection.execute(_EXPIRE, {"ids": [order.id for order in orders], "now": now})
    write_rows(connection, _INSERT_EVENT, [_event_values(order, now) for order in expired])
    told = [feed_event(order, "expire", order.version) for order in expired]
    # Buyers of the products wait from here on.
    released = release_units(connection, units)
    Event.record_all(connection, [*released, *told])
    return others


def _after_expiry(order: OrderView, lifecycle: Lifecycle) -> OrderView:
    to = lifecycle.target(order.status, "expire", "expired", automatic=True)
    balance = order.balance._replace(status=to)
    return order._replace(status=to, balance=balance, version=order.version + 1)


def _event_values(order: OrderView, now: datetime) -> dict[str, object]:
    unapplied = order.unapplied.amount or None
    return {
        "order_id": order.id,
        "number": order.version,
        "action": "expire",
        "status": order.status,
        "created_at": now,
        "unapplied_amount": unapplied,
        "currency": unapplied and order.unapplied.currency,
        "lines": [],
    }


_EXPIRE = (
    update(Order)
    .where(Order.id.in_(bindparam("ids", expanding=True)))
    .values(
        status="expired",
        expires_at=None,
        updated_at=bindparam("now"),
        retained_since=bindparam("now"),
        version=Order.version + 1,
    )
)
_INSERT_EVENT = constant(insert(OrderEvent))
