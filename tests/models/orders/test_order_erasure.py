from pathlib import Path

import pytest
from sqlalchemy import make_url, select

from models.errors import IllegalTransition, OrdersOpen, OwnerErased
from models.events.event import Event
from models.orders.order import Order
from models.orders.order_reading import view_order
from models.storage.database import Database
from tests.databases import make_database_url
from tests.factories import ROOT, STATUSES, Person, make_buyer, make_order, make_product
from tests.models.actions import bounce, cancel, deliver, erase_customer, pay, refund, ship, update
from tests.models.books import check_books, everything
from tests.models.reading import read_events, read_order

pytestmark = [pytest.mark.mission("M16"), pytest.mark.mission("M28")]

SECRET = "Zebedee"
"""Is in everything that tells who the customer is."""

OPEN = ("paid", "partially_shipped", "shipped")

ADDRESS = {
    "name": f"{SECRET} Quill",
    "line1": f"{SECRET} Street 1",
    "line2": f"c/o {SECRET}",
    "city": f"{SECRET}ville",
    "region": SECRET,
    "postal_code": SECRET,
    "country": "GB",
}


def make_secret_orders(database: Database, buyer: Person) -> list[Order]:
    """Place orders in all states, with the secret wherever a text can be."""
    product = make_product(database, stock=100)
    orders = [
        make_order(
            database,
            status=status,
            buyer=buyer,
            lines=[(product, 3)],
            paid=1,
            note=f"For {SECRET}.",
            shipping_address=ADDRESS,
            metadata={SECRET: "a", "b": SECRET},
        )
        for status in (*STATUSES, "paid")
    ]
    update(database, orders[0], note=f"For {SECRET} again.")
    ship(database, orders[1], [(product, 1)], tracking_number=f"{SECRET}1")
    refund(database, orders[1], 5, restock=[(product, 1)], reason=f"{SECRET} changed his mind.")
    return orders


def close_open_orders(database: Database, orders: list[Order]) -> None:
    """End the orders that are still open, in each way."""
    ends = {"paid": cancel, "partially_shipped": refund, "shipped": deliver}
    for order in orders:
        if end := ends.get(read_order(database, order).status):
            end(database, order)


def with_secret(database: Database) -> set[str]:
    return {table for table, rows in everything(database).items() if SECRET in str(rows)}


def test_orders_lose_personal_data_as_soon_as_they_have_ended(database: Database) -> None:
    buyer = make_buyer(database)
    orders = make_secret_orders(database, buyer)

    erase_customer(database, buyer)

    for order in orders:
        left, events = read_order(database, order), read_events(database, order)
        is_open = left.status in OPEN
        assert (SECRET in str((left.note, left.shipping_address, left.labels))) == is_open
        told = any(event.tracking_number or event.reason for event in events)
        assert told == (left.status in {"partially_shipped", "shipped"})
    close_open_orders(database, orders)
    assert with_secret(database) == set()
    check_books(database)


def test_sales_and_amounts_are_kept(database: Database) -> None:
    buyer = make_buyer(database)
    orders = make_secret_orders(database, buyer)
    before = [read_order(database, order) for order in orders]
    told = [read_events(database, order) for order in orders]

    erase_customer(database, buyer)

    for was, events in zip(before, told, strict=True):
        now = read_order(database, was)
        assert (now.total, now.paid, now.refunded) == (was.total, was.paid, was.refunded)
        assert now.status == ("cancelled" if was.status == "pending" else was.status)
        assert [line.quantity for line in now.lines] == [3]
        kept = [
            (event.number, event.action, event.amount, event.method, event.reference, event.carrier)
            for event in read_events(database, was)
        ]
        assert kept[: len(events)] == [
            (event.number, event.action, event.amount, event.method, event.reference, event.carrier)
            for event in events
        ]
    check_books(database)


@pytest.mark.parametrize("status", STATUSES)
def test_each_version_that_an_erasure_makes_has_its_event(database: Database, status: str) -> None:
    buyer = make_buyer(database)
    order = make_order(database, status=status, buyer=buyer)
    version = read_order(database, order).version

    erase_customer(database, buyer)

    added = [each.action for each in read_events(database, order)][version:]
    expected = {"pending": ["cancel", "forget"]} | {each: [] for each in OPEN}
    assert added == expected.get(status, ["forget"])
    assert read_order(database, order).version == version + len(added)
    subject = select(Event.type).where(Event.subject == f"orders/{order.id}")
    feed = database.transact(
        lambda s: s.scalars(subject.order_by(Event.sequence)).all(), write=False
    )
    assert feed[version:] == [f"order.{action}" for action in added]
    check_books(database)


def test_pending_orders_of_an_erased_customer_release_their_stock(database: Database) -> None:
    buyer, product = make_buyer(database), make_product(database, stock=3)
    order = make_order(database, buyer=buyer, lines=[(product, 3)])
    pay(database, order, 1)

    erase_customer(database, buyer, by=buyer)

    left = read_order(database, order)
    assert (left.status, left.expires_at, left.unapplied.amount) == ("cancelled", None, 1)
    assert make_order(database, lines=[(product, 3)]).status == "pending"


def test_orders_of_an_erased_customer_cannot_be_updated(database: Database) -> None:
    buyer = make_buyer(database)
    order = make_order(database, status="paid", buyer=buyer)
    assert "update" not in order.ruled_out

    erase_customer(database, buyer)

    assert "update" in bounce(database, order).ruled_out
    assert "update" in database.read(lambda r: view_order(r, ROOT, order.id)).ruled_out
    with pytest.raises(OwnerErased):
        update(database, order, note="Ring twice.")
    with pytest.raises(IllegalTransition) as refused:
        ship(database, order)
    assert refused.value.extensions["allowed_actions"] == ("pay", "cancel", "reduce")


def test_customers_with_open_orders_cannot_erase_themselves(database: Database) -> None:
    buyer = make_buyer(database)
    orders = [make_order(database, status=status, buyer=buyer) for status in STATUSES]
    make_order(database, status="paid")
    before = everything(database)

    with pytest.raises(OrdersOpen) as refused:
        erase_customer(database, buyer, by=buyer)

    assert refused.value.extensions["orders"] == [
        str(order.id) for order in orders if order.status in OPEN
    ]
    assert everything(database) == before


def test_a_late_payment_does_not_revive_an_order_without_address(database: Database) -> None:
    buyer = make_buyer(database)
    order = make_order(database, status="expired", buyer=buyer)

    erase_customer(database, buyer)

    paid = pay(database, order)
    assert (paid.status, paid.unapplied) == ("expired", paid.total)
    check_books(database)


def test_orders_of_others_stay_unchanged(database: Database) -> None:
    buyer, other = make_buyer(database), make_buyer(database)
    others = make_secret_orders(database, other)
    rows = [read_order(database, order) for order in others]

    erase_customer(database, buyer)

    for was in rows:
        now = read_order(database, was)
        assert (now.version, now.status, now.note) == (was.version, was.status, was.note)


def test_nothing_is_left_in_the_sqlite_file(tmp_path: Path) -> None:
    with make_database_url("sqlite", tmp_path) as url:
        database = Database(url)
        buyer, other = make_buyer(database), make_buyer(database)
        make_order(database, buyer=other, note="Not his.")
        orders = make_secret_orders(database, buyer)
        make_order(database, buyer=other, note="Not his either.")
        erase_customer(database, buyer)
        close_open_orders(database, orders)
        database.dispose()

        (file,) = Path(str(make_url(url).database)).parent.iterdir()
        assert b"Not his either." in file.read_bytes()
        assert SECRET.encode() not in file.read_bytes()
