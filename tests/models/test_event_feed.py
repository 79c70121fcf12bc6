"""Events: one for each change, in the transaction of the change, and in one order for all."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from models.errors import EventsExpired, OutOfStock
from models.events.event import Event, NewEvent
from models.events.feed import place_events, purge_events, read_events
from models.identity.user import User
from models.orders.order_event import OrderEvent
from models.storage.database import Database
from models.storage.identifiers import new_id
from tests.databases import make_database_url
from tests.factories import STATUSES, make_buyer, make_order, make_product
from tests.models.actions import (
    adjust_stock,
    archive_product,
    change_product,
    place,
    refund,
    update,
)
from tests.models.feeds import check_replay, read_feed, types_of
from tests.models.together import together

pytestmark = pytest.mark.mission("M31")


def record_some(database: Database, number: int, *, subject: str = "users/1") -> None:
    def work(session: Session) -> None:
        for index in range(number):
            Event.record(session, NewEvent("account.update", subject, index + 1, {"id": index}))

    database.transact(work)


def test_each_action_on_an_order_writes_its_event(database: Database) -> None:
    orders = {status: make_order(database, status=status) for status in STATUSES}
    update(database, orders["pending"], note="Ring twice.")
    feed = read_feed(database)
    assert types_of(feed, f"orders/{orders['refunded'].id}") == [
        *("order.create", "order.pay", "order.refund"),
    ]
    assert types_of(feed, f"orders/{orders['delivered'].id}") == [
        *("order.create", "order.pay", "order.ship", "order.deliver"),
    ]
    timeline = database.read(
        lambda reader: reader.execute(
            select(OrderEvent.order_id, OrderEvent.number, OrderEvent.action, OrderEvent.status)
        ).all(),
        single=True,
    )
    shown = [
        (f"orders/{row.order_id}", row.number, f"order.{row.action}", row.status)
        for row in timeline
    ]
    told = [(e.subject, e.version, e.type, e.data.order["status"]) for e in feed if e.data.order]
    assert Counter(shown) == Counter(told)
    check_replay(database, feed)


def test_replaying_the_feed_gives_the_state_of_orders_and_stock(database: Database) -> None:
    product, other = make_product(database), make_product(database)
    order = make_order(database, status="shipped", lines=[(product, 3), (other, 1)])
    refund(database, order, 10, restock=[(product, 2)])
    refund(database, order)
    adjust_stock(database, product, -3)
    change_product(database, other, name="Bicycle")
    archive_product(database, other)
    for status in ("cancelled", "expired", "partially_shipped"):
        make_order(database, status=status)
    feed = read_feed(database)
    assert types_of(feed, f"products/{product.id}") == [
        *("product.create", "stock.adjustment", "stock.reservation", "stock.shipment"),
        *("stock.return", "stock.adjustment"),
    ]
    assert types_of(feed, f"products/{other.id}")[-2:] == ["product.update", "product.archive"]
    check_replay(database, feed)


def test_accounts_write_events_without_personal_data(database: Database) -> None:
    def work(session: Session) -> int:
        user = User.register(session, name="Ada", email="ada@example.com", password_hash=None)
        user.verify_email(session)
        user.verify_email(session)
        user.change(session, name="Ada Lovelace")
        user.erase(session)
        return user.id

    number = database.transact(work)
    feed = read_feed(database)
    kinds = ["account.create", "account.update", "account.update", "account.delete"]
    assert types_of(feed, f"users/{number}") == kinds
    assert [event.version for event in feed] == [1, 2, 3, 4]
    assert feed[1].data.account == {
        "id": number,
        "role": "user",
        "active": True,
        "email_verified": True,
    }


def test_a_refused_change_writes_no_event(database: Database) -> None:
    product = make_product(database, stock=1)
    before = len(read_feed(database))
    with pytest.raises(OutOfStock):
        place(database, make_buyer(database), [(product, 2)])
    assert types_of(read_feed(database)[before:], f"products/{product.id}") == []


def test_the_feed_is_read_by_type_and_continued_after_other_types(database: Database) -> None:
    product = make_product(database)
    feed = read_feed(database)
    assert [event.type for event in read_feed(database, "stock.adjustment")] == ["stock.adjustment"]
    page = database.read(
        lambda reader: read_events(reader, types=["order.pay"], after=None, limit=5)
    )
    assert (page.items, page.next_after) == ([], feed[-1].id)
    assert types_of(feed, f"products/{product.id}") == ["product.create", "stock.adjustment"]


def test_events_are_kept_for_a_time_and_never_lost_in_between(database: Database) -> None:
    record_some(database, 3)
    feed = read_feed(database)
    assert not purge_events(database, timedelta(hours=1))
    assert len(read_feed(database)) == 3
    assert not purge_events(database, timedelta(hours=-1))
    # Whoever has seen everything can continue.
    assert [event.id for event in read_feed(database)] == [feed[-1].id]
    read = partial(read_events, types=None, after=feed[-1].id, limit=5)
    assert database.read(read).items == []
    with pytest.raises(EventsExpired) as caught:
        database.read(partial(read_events, types=None, after=feed[0].id, limit=5))
    assert caught.value.extensions == {"oldest": str(feed[-1].id)}
    with pytest.raises(EventsExpired):
        database.read(partial(read_events, types=None, after=new_id(), limit=5))


WRITERS, ROUNDS = 24, 15


def write_events(database: Database, writer: int) -> None:
    """Write two events in each of many transactions, of which every fifth is rolled back.

    Transactions stay open for different times, so they end in another order than they write.
    """

    def work(session: Session, number: int) -> None:
        for version in (2 * number + 1, 2 * number + 2):
            event = NewEvent("account.update", f"users/{writer}", version, {})
            Event.record(session, event)
            session.flush()
            session.execute(select(func.pg_sleep((writer * 7 + number) % 5 / 1000)))
        if number % 5 == 4:
            raise ZeroDivisionError

    for number in range(ROUNDS):
        with suppress(ZeroDivisionError):
            database.transact(partial(work, number=number))


def place_until(database: Database, done: threading.Event) -> None:
    while not done.is_set():
        place_events(database)


def read_until(database: Database, done: threading.Event) -> list[Event]:
    """Read as a client does, until everything is written and nothing new comes."""
    seen: list[Event] = []
    while True:
        finished = done.is_set()
        after = seen[-1].id if seen else None
        page = database.read(partial(read_events, types=None, after=after, limit=50))
        seen += page.items
        if finished and not page.items:
            return seen


@pytest.mark.postgresql
@pytest.mark.timeout(60)
def test_a_live_reader_sees_each_event_once_beside_many_writers(tmp_path: Path) -> None:
    with make_database_url("postgresql", tmp_path) as url:
        database = Database(url, pool_size=WRITERS + 4)
        done = threading.Event()

        with ThreadPoolExecutor() as pool:
            placing = [pool.submit(place_until, database, done) for _ in range(2)]
            reading = pool.submit(read_until, database, done)
            written = together(*(partial(write_events, database, each) for each in range(WRITERS)))
            read_feed(database)
            done.set()
            seen = reading.result()
            placed = [each.result() for each in placing]
        database.dispose()
    assert (written, placed) == ([None] * WRITERS, [None, None])
    assert len({event.id for event in seen}) == len(seen) == WRITERS * (ROUNDS - ROUNDS // 5) * 2
    for writer in range(WRITERS):
        versions = [event.version for event in seen if event.subject == f"users/{writer}"]
        assert versions == sorted(versions)
