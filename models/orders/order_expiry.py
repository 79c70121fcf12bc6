"""Expiry of orders that were not paid in time, which releases their stock."""

from collections.abc import Collection
from datetime import datetime
from functools import partial
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session, selectinload

from models.errors import DatabaseUnavailable
from models.lifecycle import Lifecycle
from models.orders.order import Order
from models.storage.base import utcnow
from models.storage.database import Database
from models.storage.reader import Reader

_BATCH = 100


def expire_orders(database: Database, lifecycle: Lifecycle) -> int:
    """Expire all overdue orders, and return how many were expired.

    Each order expires in its own transaction, which checks it again under the row's lock. The lock
    decides between this job, a concurrent payment and the same job in another process. An order
    that cannot expire does not delay the others.

    Raises:
        DatabaseUnavailable: The database failed. Orders already expired stay expired.
        Exception: An order could not expire. All others have expired.
    """
    total = 0
    failures: dict[UUID, Exception] = {}
    while True:
        overdue = database.read(partial(_overdue, now=utcnow(), but=set(failures)))
        expired = 0
        for order_id in overdue:
            work = partial(_expire, lifecycle=lifecycle, order_id=order_id, now=utcnow())
            try:
                expired += database.transact(work, write=True)
            except DatabaseUnavailable:
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, the next order may be better.
                failures[order_id] = error
        total += expired
        # Orders locked by other transactions stay overdue until the next run.
        if len(overdue) < _BATCH or not (expired or failures.keys() & overdue):
            break
    for failure in failures.values():
        raise failure
    return total


def _overdue(reader: Reader, *, now: datetime, but: Collection[UUID]) -> list[UUID]:
    query = select(Order.id).where(Order.expires_at <= now, Order.id.not_in(but))
    return list(reader.scalars(query.order_by(Order.expires_at).limit(_BATCH)))


def _expire(session: Session, *, lifecycle: Lifecycle, order_id: UUID, now: datetime) -> bool:
    query = select(Order).where(Order.id == order_id, Order.expires_at <= now)
    # A locked row is being changed or expired by another transaction, so leave it for the next run.
    locked = query.with_for_update(key_share=True, skip_locked=True)
    order = session.scalar(locked.options(selectinload(Order.lines)))
    if order is None:
        return False
    order.expire(session, lifecycle)
    return True
