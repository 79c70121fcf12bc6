"""The backlog counts what background work has left to do (M20)."""

from datetime import timedelta
from functools import partial

import pytest
from sqlalchemy import update

from models.jobs.backlog import read_backlog
from models.messages.message import Message
from models.storage.base import utcnow
from models.storage.database import Database
from tests.factories import make_order, make_user

pytestmark = pytest.mark.mission("M20")


def test_a_new_shop_has_no_backlog(database: Database) -> None:
    make_order(database)
    assert database.read(read_backlog) == (0, 0.0, 0, 0.0)


def test_messages_and_overdue_orders_are_counted(database: Database) -> None:
    first, second = make_user(database), make_user(database)
    for user in (first, second):
        database.transact(partial(Message.enqueue, kind="welcome", user_id=user.id))
    older = update(Message).where(Message.user_id == first.id)
    when = utcnow() - timedelta(minutes=5)
    # A postponed message is also waiting.
    later = older.values(created_at=when, due_at=utcnow() + timedelta(hours=1))
    database.transact(lambda session: session.execute(later))
    for seconds in (-1, -1, 60):
        make_order(database, reservation=timedelta(seconds=seconds))
    found = database.read(read_backlog)
    assert (found.messages, found.overdue_orders) == (2, 2)
    assert 300 <= found.message_seconds < 330
    assert 1 <= found.overdue_seconds < 30
