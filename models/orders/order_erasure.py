"""Removal of personal data from orders: of an erased customer, and after a set time."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, insert, select, update
from sqlalchemy.orm import Session, selectinload

from models.actor import Actor
from models.catalogue.product import Product
from models.errors import OrdersOpen
from models.events.event import Event
from models.lifecycle import Lifecycle
from models.orders.order import Order
from models.orders.order_event import OrderEvent
from models.orders.order_feed import feed_event
from models.orders.order_row import ENDED
from models.storage.base import utcnow
from models.storage.database import Database
from models.storage.reader import Reader

_BATCH = 100
_MOST_NAMED = 100
"""The number of orders that an error names, as the contract declares."""


def close_orders(session: Session, lifecycle: Lifecycle, user_id: int, *, by: Actor) -> None:
    """Cancel the customer's pending orders before their account is erased.

    The locks make a concurrent action on an open order wait for the erasure, or the erasure for it.

    Raises:
        OrdersOpen: The actor is the customer, and an order is paid but not delivered.
    """
    orders = _locked(session, Order.user_id == user_id, Order.status.not_in(ENDED))
    pending = [order for order in orders if order.status == "pending"]
    if len(pending) < len(orders) and by.user_id == user_id:
        ids = [str(order.id) for order in orders if order.status != "pending"]
        raise OrdersOpen(orders=ids[:_MOST_NAMED])
    # Locking the products of all orders in one order prevents deadlocks.
    Product.locked(session, {line.product_id for order in pending for line in order.lines})
    for order in pending:
        order.cancel(session, lifecycle, by=by)


def forget_customer(session: Session, user_id: int, *, by: Actor) -> None:
    """Remove the personal data of an erased customer from all of their orders that have ended.

    Items and amounts are kept. So are the `method` and `reference` of payments, which accounting
    needs for reconciliation, and `carrier`, which names a company. The other orders need their
    address and note, and lose them when they end (`Order.record`).

    The account's row has been changed before, so no order can be added meanwhile.
    """
    theirs = (Order.user_id == user_id, Order.status.in_(ENDED))
    _forget(session, theirs, _locked(session, *theirs), by=by)


def forget_old_orders(database: Database, keep: timedelta) -> bool:
    """Remove the personal data of up to 100 orders, and return whether more may be left.

    They are orders that ended, or were changed after that, more than `keep` ago. What is removed
    and kept is as in `forget_customer`.

    Raises:
        DatabaseUnavailable: The database failed. The orders are unchanged.
    """
    old = Order.retained_since < utcnow() - keep
    query = select(Order.id).where(old).order_by(Order.retained_since).limit(_BATCH)

    def find(reader: Reader) -> list[UUID]:
        return list(reader.scalars(query))

    def forget(session: Session) -> int:
        orders = _locked(session, Order.id.in_(found), old, skip_locked=True)
        _forget(session, [Order.id.in_([order.id for order in orders])], orders, by=None)
        return len(orders)

    found = database.read(find)
    return bool(found) and database.transact(forget, write=True) > 0 and len(found) == _BATCH


def _forget(
    session: Session,
    where: Sequence[ColumnElement[bool]],
    orders: Sequence[Order],
    *,
    by: Actor | None,
) -> None:
    """Remove the personal data of locked orders, which are those of a condition."""
    if not orders:
        return
    now = utcnow()
    # One statement for all of them, because a customer may have thousands.
    session.execute(
        update(OrderEvent)
        .where(OrderEvent.order_id.in_(select(Order.id).where(*where)))
        .values(tracking_number=None, reason=None)
        .execution_options(synchronize_session=False)
    )
    session.execute(
        update(Order)
        .where(*where)
        .values(
            note=None,
            shipping_address=None,
            labels={},
            retained_since=None,
            version=Order.version + 1,
            updated_at=now,
        )
        .execution_options(synchronize_session=False)
    )
    session.execute(
        insert(OrderEvent),
        [
            {
                "order_id": order.id,
                "number": order.version + 1,
                "action": "forget",
                "status": order.status,
                "actor_id": None if by is None else by.user_id,
                "created_at": now,
                "unapplied_amount": order.unapplied.amount or None,
                "currency": order.currency if order.unapplied.amount else None,
                "lines": [],
            }
            for order in orders
        ],
    )
    told = (feed_event(order, "forget", order.version + 1) for order in orders)
    Event.record_all(session.connection(), told)


def _locked(
    session: Session, *conditions: ColumnElement[bool], skip_locked: bool = False
) -> Sequence[Order]:
    query = select(Order).where(*conditions).order_by(Order.id)
    locked = query.with_for_update(key_share=True, skip_locked=skip_locked)
    return session.scalars(locked.options(selectinload(Order.lines))).all()
