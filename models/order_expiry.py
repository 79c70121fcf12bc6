"""Orders that were not paid in time: their stock goes back to where it came from, once."""

from datetime import datetime
from functools import partial
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session, selectinload

from models.base import utcnow
from models.database import Database
from models.lifecycle import Lifecycle
from models.order import Order

_BATCH = 100


def expire_orders(database: Database, lifecycle: Lifecycle) -> int:
    """Expire all orders that are overdue, and say how many that was.

    Each has a transaction of its own, which looks again under the row's lock: whether a payment,
    or another process that does the same, was there first is decided there and nowhere else.

    Raises:
        DatabaseUnavailable: what was expired so far stays so.
    """
    total = 0
    while True:
        overdue = database.transact(partial(_overdue, now=utcnow()), write=False)
        works = [
            partial(_expire, lifecycle=lifecycle, order_id=order_id, now=utcnow())
            for order_id in overdue
        ]
        expired = sum(database.transact(work, write=True) for work in works)
        total += expired
        # Those that others are at work on stay overdue, and are left for the next time.
        if len(overdue) < _BATCH or not expired:
            return total


def _overdue(session: Session, *, now: datetime) -> list[UUID]:
    query = select(Order.id).where(Order.expires_at <= now).order_by(Order.expires_at)
    return list(session.scalars(query.limit(_BATCH)))


def _expire(session: Session, *, lifecycle: Lifecycle, order_id: UUID, now: datetime) -> bool:
    query = select(Order).where(Order.id == order_id, Order.expires_at <= now)
    # Whoever holds the row is changing it, or expiring it as well: it can wait for the next time.
    locked = query.with_for_update(key_share=True, skip_locked=True)
    order = session.scalar(locked.options(selectinload(Order.lines)))
    if order is None:
        return False
    order.expire(session, lifecycle)
    return True
