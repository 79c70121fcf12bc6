"""The background work that is waiting, for monitoring."""

from typing import NamedTuple

from sqlalchemy import func, select

from models.messages.message import Message
from models.orders.order import Order
from models.storage.base import utcnow
from models.storage.reader import Reader


class Backlog(NamedTuple):
    """The number of messages and of overdue orders, each with the age of the oldest in seconds.

    An unpaid order is overdue from its expiry time until the next run of the job that expires it.
    """

    messages: int
    message_seconds: float
    overdue_orders: int
    overdue_seconds: float


def read_backlog(reader: Reader) -> Backlog:
    """Count the background work that is waiting."""
    now = utcnow()
    waiting = select(func.count(), func.coalesce(func.min(Message.created_at), now))
    messages, oldest = reader.execute(waiting).one()
    overdue = select(func.count(), func.coalesce(func.min(Order.expires_at), now))
    orders, earliest = reader.execute(overdue.where(Order.expires_at <= now)).one()
    return Backlog(
        messages,
        max(0.0, (now - oldest).total_seconds()),
        orders,
        max(0.0, (now - (earliest or now)).total_seconds()),
    )
