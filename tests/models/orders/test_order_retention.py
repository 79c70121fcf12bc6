"""Orders that ended long ago lose their personal data, if the settings ask for it (MISSION M28)."""

from datetime import timedelta

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.orm import Session

from models.events.event import Event
from models.orders.order import Order
from models.orders.order_erasure import forget_old_orders
from models.orders.order_row import ENDED
from models.storage.base import utcnow
from models.storage.database import Database
from tests.factories import STATUSES, make_buyer, make_order
from tests.models.actions import erase_customer, pay, refund
from tests.models.books import check_books
from tests.models.orders.test_order_erasure import make_secret_orders, with_secret
from tests.models.plans import explain
from tests.models.reading import read_events, read_order

pytestmark = [pytest.mark.mission("M16"), pytest.mark.mission("M28")]

KEEP = timedelta(days=30)


def age(database: Database, days: int = 31) -> None:
    """Let all orders have had their last change some days ago."""
    then = utcnow() - timedelta(days=days)
    ended = update(Order).where(Order.retained_since.is_not(None)).values(retained_since=then)
    for statement in (ended, update(Order).values(updated_at=then)):
        change = statement.execution_options(synchronize_session=False)
        database.transact(lambda session, change=change: session.execute(change), write=True)  # type: ignore[misc]  # mypy infers no default.


def forget(database: Database) -> None:
    while forget_old_orders(database, KEEP):
        pass


def is_personal(order: Order) -> bool:
    return bool(order.note or order.shipping_address or order.labels)


def test_old_orders_that_have_ended_lose_their_personal_data(database: Database) -> None:
    orders = make_secret_orders(database, make_buyer(database))
    before = [read_order(database, order) for order in orders]
    age(database)

    forget(database)

    for was in before:
        left, events = read_order(database, was), read_events(database, was)
        assert is_personal(left) is (was.status not in ENDED)
        if was.status in ENDED:
            assert (left.total, left.paid, left.refunded) == (was.total, was.paid, was.refunded)
            last = events[-1]
            assert (last.action, last.actor_id, last.number) == ("forget", None, left.version)
            assert not any(each.tracking_number or each.reason for each in events)
            assert left.updated_at > was.updated_at
            subject = select(Event.type).where(Event.subject == f"orders/{was.id}")
            feed = database.transact(
                lambda s, query=subject: s.scalars(query.order_by(Event.sequence)).all(),  # type: ignore[misc]  # as above.
                write=False,
            )
            assert feed[-1] == "order.forget"
    check_books(database)


def test_newer_orders_keep_their_personal_data(database: Database) -> None:
    orders = make_secret_orders(database, make_buyer(database))
    age(database, 29)
    before = with_secret(database)

    forget(database)

    assert all(is_personal(read_order(database, order)) for order in orders)
    assert with_secret(database) == before


def test_an_order_is_forgotten_again_only_after_a_change(database: Database) -> None:
    order = make_order(database, status="delivered", note="Ring.")
    for _ in range(2):
        age(database)
        forget(database)
    version = read_order(database, order).version
    assert [each.action for each in read_events(database, order)].count("forget") == 1
    refund(database, order, 1, reason="Zebedee complained.")
    forget(database)
    assert read_events(database, order)[-1].reason == "Zebedee complained."
    age(database)
    forget(database)
    left, events = read_order(database, order), read_events(database, order)
    assert [each.action for each in events[version:]] == ["refund", "forget"]
    assert events[version].reason is None
    assert left.version == len(events)
    check_books(database)


def test_an_expired_order_without_an_address_stays_expired(database: Database) -> None:
    order = make_order(database, status="expired")
    age(database)
    forget(database)
    # The first payment is a change, after which the order may have personal data again.
    for count in (1, 2):
        pay(database, order, order.total_amount)
        left = read_order(database, order)
        assert (left.status, left.unapplied.amount) == ("expired", count * left.total_amount)
    check_books(database)


def test_orders_of_an_erased_customer_are_not_forgotten_again(database: Database) -> None:
    buyer = make_buyer(database)
    orders = [make_order(database, status=status, buyer=buyer) for status in STATUSES]
    erase_customer(database, buyer)
    age(database)
    versions = [read_order(database, order).version for order in orders]
    forget(database)
    assert [read_order(database, order).version for order in orders] == versions


def test_many_orders_are_forgotten_in_batches(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.orders.order_erasure._BATCH", 2)
    orders = [make_order(database, status="cancelled", note="Ring.") for _ in range(5)]
    age(database)
    assert [forget_old_orders(database, KEEP) for _ in range(4)] == [True, True, False, False]
    assert not any(is_personal(read_order(database, order)) for order in orders)


def test_old_orders_are_found_by_an_index(database: Database, kind: str) -> None:
    for status in ("cancelled", "delivered", "pending") * 10:
        make_order(database, status=status)
    database.transact(lambda session: session.execute(text("ANALYZE")), write=True)

    def find(session: Session) -> None:
        old = Order.retained_since < utcnow() - KEEP
        session.execute(select(Order.id).where(old).order_by(Order.retained_since).limit(100))

    for plan in explain(database, kind, find):
        assert "ix_orders_retained_since" in plan.indexes, plan.text
        assert not plan.whole_tables, plan.text
        assert not plan.unbounded_sorts, plan.text
