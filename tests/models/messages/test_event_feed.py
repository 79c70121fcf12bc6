"""Events: one for each change, in the transaction of the change, and in one order for all."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from models.errors import EventsExpired, OutOfStock
from models.events.event import Event, NewEvent
from models.events.feed import place_events, purge_events, read_events
from models.identity.user import User
from models.orders.order_event import OrderEvent
from models.storage.database import Database
from models.storage.identifiers import new_id
from models.storage.migrating import migrate
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
from tests.servers.postgresql_pair import running_server

pytestmark = pytest.mark.mission("M31")

OPEN_WRITERS = (
    "SELECT count(DISTINCT pid) FROM pg_locks WHERE locktype = 'transactionid' AND granted"
)
"""A transaction that has written holds a lock on its own id."""


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


def write_events(database: Database, rounds: int, meet: Callable[[], object], writer: int) -> None:
    """Write two events in each of several transactions, of which every fifth is rolled back.

    Each transaction calls `meet` when it has written. Transactions then stay open for different
    times, so they end in a different order than they write.
    """

    def work(session: Session, number: int) -> None:
        for version in (2 * number + 1, 2 * number + 2):
            Event.record(session, NewEvent("account.update", f"users/{writer}", version, {}))
            session.flush()
        meet()
        time.sleep((writer * 7 + number) % 5 / 1000)
        if (writer + number) % 5 == 4:
            raise ZeroDivisionError

    for number in range(rounds):
        with suppress(ZeroDivisionError):
            database.transact(partial(work, number=number))


def place_until(database: Database, done: threading.Event) -> None:
    while not done.is_set():
        if not place_events(database):
            done.wait(0.01)


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
        if not page.items:
            done.wait(0.01)


def check_live_reader(
    url: str, writers: int, rounds: int, meet: Callable[[], object] = lambda: None
) -> None:
    """Read the feed while several writers write, and check that each event is seen once."""
    database = Database(url, pool_size=writers + 4)
    done = threading.Event()
    with ThreadPoolExecutor() as pool:
        placing = [pool.submit(place_until, database, done) for _ in range(2)]
        reading = pool.submit(read_until, database, done)
        write = partial(write_events, database, rounds, meet)
        written = together(*(partial(write, each) for each in range(writers)))
        read_feed(database)
        done.set()
        seen = reading.result()
        placed = [each.result() for each in placing]
    database.dispose()
    assert (written, placed) == ([None] * writers, [None, None])
    assert len({event.id for event in seen}) == len(seen)
    for writer in range(writers):
        versions = [event.version for event in seen if event.subject == f"users/{writer}"]
        kept = [number for number in range(rounds) if (writer + number) % 5 != 4]
        assert versions == [each for number in kept for each in (2 * number + 1, 2 * number + 2)]


@pytest.mark.postgresql
@pytest.mark.timeout(120)
def test_a_live_reader_sees_each_event_once_beside_200_open_transactions(tmp_path: Path) -> None:
    """All writers have written and none has committed, in each round, before the first one ends."""
    writers, rounds = 200, 3
    counts = []
    with running_server(tmp_path, max_connections=str(writers + 20)) as server:
        url = server.url_of(0)
        database = Database(url)
        migrate(database)
        database.dispose()

        def count() -> None:
            with psycopg.connect(url) as connection:
                counts.append(connection.execute(OPEN_WRITERS).fetchall()[0][0])

        check_live_reader(url, writers, rounds, threading.Barrier(writers, count, 30).wait)
    assert len(counts) == rounds
    assert min(counts) >= writers


def test_a_live_reader_sees_each_event_once_beside_writers_in_turn(tmp_path: Path) -> None:
    """SQLite allows one writer at a time."""
    with make_database_url("sqlite", tmp_path) as url:
        check_live_reader(url, 24, 5)
